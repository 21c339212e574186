//! Whether they may: Istio's AuthorizationPolicy.

use super::{Facts, Step};
use crate::request::Request;

/// The compiled section.
#[derive(Debug, Default)]
pub struct Authorization {}

impl Authorization {
    /// Whether there is no policy.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        0
    }

    /// Evaluates the policies.
    pub fn authorize(&self, _request: &Request, _facts: &mut Facts) -> Step {
        Step::Continue
    }
}
