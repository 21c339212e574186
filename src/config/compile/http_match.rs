use super::{Context, Path};
use crate::config::document;
use crate::matchers::HttpMatch;

/// Compiles one HTTPMatchRequest.
pub fn compile(_source: &document::HttpMatch, _path: &Path<'_>, _cx: &Context<'_>) -> HttpMatch {
    HttpMatch::default()
}
