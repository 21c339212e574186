use super::Context;
use crate::config::document::Document;
use crate::policy::telemetry::Telemetry;

/// Compiles the `telemetry` section.
pub fn compile(_document: &Document, _cx: &Context<'_>) -> Telemetry {
    Telemetry::default()
}
