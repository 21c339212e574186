//! Where to, and how: Istio's VirtualService `http` entries.

use super::{Facts, Step};
use crate::host::Host;
use crate::request::Request;

/// The compiled section.
#[derive(Debug, Default)]
pub struct Routing {}

impl Routing {
    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        0
    }

    /// Chooses the first entry that matches.
    pub fn choose(&self, _request: &Request, _facts: &mut Facts) -> Step {
        Step::Continue
    }

    /// Delays the request if the chosen entry's fault says so.
    pub fn delay(&self, _request: &Request, _facts: &mut Facts, _host: &dyn Host) -> Step {
        Step::Continue
    }

    /// Ends the request if the chosen entry's fault says so.
    pub fn abort(&self, _request: &Request, _facts: &mut Facts, _host: &dyn Host) -> Step {
        Step::Continue
    }

    /// Answers, or sends the request on to the chosen destination.
    pub fn forward(&self, _request: &mut Request, _facts: &mut Facts, _host: &dyn Host) -> Step {
        Step::Continue
    }
}
