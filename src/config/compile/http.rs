use super::Context;
use crate::config::document::Document;
use crate::policy::routing::Routing;

/// Compiles the `http` section.
pub fn compile(_document: &Document, _cx: &Context<'_>) -> Routing {
    Routing::default()
}
