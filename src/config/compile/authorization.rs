use super::Context;
use crate::config::document::Document;
use crate::policy::authorization::Authorization;

/// Compiles the `authorization` section.
pub fn compile(_document: &Document, _cx: &Context<'_>) -> Authorization {
    Authorization::default()
}
