use std::rc::Rc;

use super::{KeySet, Remote};
use crate::host::{Host, Instant};

/// Where a rule's keys come from.
#[derive(Debug)]
pub enum KeySource {
    /// They stand in the document or in the plugin's environment.
    Inline(Rc<KeySet>),
    /// They are fetched over HTTP.
    Remote(Box<Remote>),
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
    /// counts from there. A token whose key is unknown waits for one fetch, and has the keys as they are after it.
    pub fn keys(&self, kid: Option<&str>, host: &dyn Host, since: Instant) -> Keys {
        match self {
            KeySource::Inline(keys) => Keys::Ready(keys.clone()),
            KeySource::Remote(remote) => remote.keys(kid, host, since),
        }
    }

    /// Prepares what needs the proxy.
    pub fn start(&self, host: &dyn Host) {
        if let KeySource::Remote(remote) = self {
            remote.start(host);
        }
    }

    /// When [`KeySource::poll`] wants to be called next.
    pub fn next_poll(&self) -> Option<Instant> {
        match self {
            KeySource::Inline(_) => None,
            KeySource::Remote(remote) => Some(remote.next_poll()),
        }
    }

    /// Fetches and reads keys as their time comes. Says whether requests that wait should ask again.
    pub fn poll(&self, host: &dyn Host) -> bool {
        match self {
            KeySource::Inline(_) => false,
            KeySource::Remote(remote) => remote.poll(host),
        }
    }

    /// Reads the answer of a callout that [`KeySource::poll`] made. Says whether requests that wait should ask again.
    pub fn on_http_call_response(&self, token: u32, host: &dyn Host) -> bool {
        match self {
            KeySource::Inline(_) => false,
            KeySource::Remote(remote) => remote.on_http_call_response(token, host),
        }
    }
}
