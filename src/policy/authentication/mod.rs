//! Who is asking: the request's tokens, verified against the rules' key sets.

mod algorithm;
mod jwk;
mod key_set;
mod key_source;
mod signature;
#[cfg(test)]
#[path = "../../../tests/support/sign.rs"]
pub mod signing;
mod status;
mod token;

pub use algorithm::{Algorithm, Algorithms};
pub use key_set::KeySet;
pub use key_source::{KeySource, Keys};
pub use status::Status;
pub use token::{MAX_TOKEN_LENGTH, Parsed};

use super::{Facts, Step};
use crate::host::{Host, Instant};
use crate::request::Request;

/// The compiled section.
#[derive(Debug, Default)]
pub struct Authentication {}

impl Authentication {
    /// Whether there is nothing to verify.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        0
    }

    /// Verifies the request's tokens; the good ones are in [`Facts::tokens`] afterwards.
    pub fn authenticate(&self, _request: &mut Request, _facts: &mut Facts, _host: &dyn Host) -> Step {
        Step::Continue
    }

    /// When [`Authentication::poll`] wants to be called next.
    pub fn next_poll(&self) -> Option<Instant> {
        None
    }

    /// Fetches and reads key sets as their time comes. Says whether one changed.
    pub fn poll(&self, _host: &dyn Host) -> bool {
        false
    }

    /// Reads the answer of a callout that [`Authentication::poll`] made. Says whether a key set changed.
    pub fn on_http_call_response(&self, _token: u32, _host: &dyn Host) -> bool {
        false
    }
}
