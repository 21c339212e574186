use std::rc::Rc;

use super::KeySet;
use crate::host::{Host, Instant};

/// Where a rule's keys come from.
#[derive(Debug)]
pub enum KeySource {
    /// They stand in the document or in the plugin's environment.
    Inline(Rc<KeySet>),
}

/// What a source has for a token.
#[derive(Clone, Debug)]
pub enum Keys {
    /// Verify with these.
    Ready(Rc<KeySet>),
    /// Ask again when a key set has changed, or at this point in time.
    Wait(Instant),
    /// There are none to be had in time.
    Unavailable,
}

impl KeySource {
    /// The keys for a token that names `kid`. `since` is when its request began to ask: the time that it waits
    /// counts from there.
    pub fn keys(&self, _kid: Option<&str>, _host: &dyn Host, _since: Instant) -> Keys {
        match self {
            KeySource::Inline(keys) => Keys::Ready(keys.clone()),
        }
    }

    /// When [`KeySource::poll`] wants to be called next.
    pub fn next_poll(&self) -> Option<Instant> {
        None
    }

    /// Fetches and reads keys as their time comes. Says whether they changed.
    pub fn poll(&self, _host: &dyn Host) -> bool {
        false
    }

    /// Reads the answer of a callout that [`KeySource::poll`] made. Says whether the keys changed.
    pub fn on_http_call_response(&self, _token: u32, _host: &dyn Host) -> bool {
        false
    }
}
