//! What is told about it: tags, counters, histograms.

mod metric_name;

pub use metric_name::{MAX_VALUE_LENGTH, NO_VALUE, metric_name, split_metric_name};

use super::Facts;
use crate::host::Host;
use crate::request::Request;

/// The compiled section.
#[derive(Debug, Default)]
pub struct Telemetry {}

impl Telemetry {
    /// Whether nothing is told.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tags there are.
    pub fn len(&self) -> usize {
        0
    }

    /// The request was decided: tags go into filter state, and into headers of the request and the response.
    pub fn on_decided(&self, _request: &mut Request, _facts: &mut Facts, _host: &dyn Host) {}

    /// The response's headers are there.
    pub fn on_response(&self, _request: &Request, _facts: &mut Facts, _host: &dyn Host) {}

    /// The stream is over: counters and histograms.
    pub fn on_log(&self, _request: &Request, _facts: &Facts, _host: &dyn Host) {}
}
