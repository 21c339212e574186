use super::Context;
use crate::config::document::Document;
use crate::policy::authentication::Authentication;

/// Compiles the `authentication` section.
pub fn compile(_document: &Document, _cx: &Context<'_>) -> Authentication {
    Authentication::default()
}
