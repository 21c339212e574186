use super::Context;
use crate::config::document::Document;
use crate::policy::rate_limit::RateLimits;

/// Compiles the `rateLimits` section.
pub fn compile(_document: &Document, _cx: &Context<'_>) -> RateLimits {
    RateLimits::default()
}
