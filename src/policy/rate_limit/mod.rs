//! How often: token buckets that all workers of the process share.

use super::{Facts, Step};
use crate::host::Host;
use crate::request::Request;

/// The compiled section.
#[derive(Debug, Default)]
pub struct RateLimits {}

impl RateLimits {
    /// Whether there is no limit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many limits there are.
    pub fn len(&self) -> usize {
        0
    }

    /// Learns what all workers must agree on. Called once, when the configuration is accepted.
    pub fn start(&mut self, _host: &dyn Host) {}

    /// Takes the tokens of every entry that applies, or of none.
    pub fn take(&self, _request: &Request, _facts: &mut Facts, _host: &dyn Host) -> Step {
        Step::Continue
    }
}
