//! What all workers know of a key set, in the data that they share: its state, which is small and read often, and
//! its text beside it.

use crate::host::{Host, Instant, Result, Status};

/// Where a key set stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// How often it was fetched well; 0 for never.
    pub version: u64,
    /// When it was fetched last.
    pub fetched_at: Instant,
    /// How long the issuer says that it is fresh, in nanoseconds; `u64::MAX` where it does not say.
    pub lifetime: u64,
    /// How many attempts to fetch it have ended, well or badly.
    pub attempts: u64,
    /// How many of them failed, since the last that did not.
    pub failures: u64,
    /// No attempt begins before.
    pub next_attempt: Instant,
    /// Until when the one that fetches it may take; then another may.
    pub lease_until: Instant,
    /// Who fetches it, or did last: a random number.
    pub holder: u64,
    /// When it was last fetched because a token named a key that was not in it.
    pub unknown_at: Instant,
}

impl State {
    fn to_bytes(self) -> Vec<u8> {
        [
            self.version,
            self.fetched_at,
            self.lifetime,
            self.attempts,
            self.failures,
            self.next_attempt,
            self.lease_until,
            self.holder,
            self.unknown_at,
        ]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.chunks(8).map(|chunk| Some(u64::from_le_bytes(chunk.try_into().ok()?)));
        let mut next = || numbers.next().flatten();
        Some(State {
            version: next()?,
            fetched_at: next()?,
            lifetime: next()?,
            attempts: next()?,
            failures: next()?,
            next_attempt: next()?,
            lease_until: next()?,
            holder: next()?,
            unknown_at: next()?,
        })
    }
}

/// The two places of one key set.
#[derive(Debug)]
pub struct Shared {
    state_key: String,
    text_key: String,
}

/// Under contention somebody else has made progress; so often in a row is not chance.
const TRIES: usize = 8;

impl Shared {
    pub fn new(key: String) -> Self {
        Shared { text_key: format!("{key}.text"), state_key: key }
    }

    /// The state, and what [`Shared::replace`] wants; of a set that nobody knows yet, an empty one.
    pub fn state(&self, host: &dyn Host) -> (State, Option<u32>) {
        match host.shared_data(&self.state_key) {
            // What another version of this module wrote there is written anew.
            Ok((bytes, cas)) => (State::from_bytes(&bytes).unwrap_or_default(), Some(cas)),
            Err(_) => (State::default(), None),
        }
    }

    /// Replaces a state that was read, unless somebody has since.
    pub fn replace(&self, state: State, cas: Option<u32>, host: &dyn Host) -> Result<()> {
        write(&self.state_key, &state.to_bytes(), cas, host)
    }

    /// Changes the state; says what it became. `None` where `change` does not want to, or it cannot be written.
    pub fn update(&self, host: &dyn Host, change: impl Fn(State) -> Option<State>) -> Option<State> {
        for _ in 0..TRIES {
            let (state, cas) = self.state(host);
            let changed = change(state)?;
            match self.replace(changed, cas, host) {
                Ok(()) => return Some(changed),
                Err(Status::CasMismatch) => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// The key set's text.
    pub fn text(&self, host: &dyn Host) -> Option<Vec<u8>> {
        host.shared_data(&self.text_key).ok().map(|(text, _)| text)
    }

    /// Replaces the key set's text, whatever it is.
    pub fn set_text(&self, text: &[u8], host: &dyn Host) -> Result<()> {
        let mut result = Err(Status::CasMismatch);
        for _ in 0..TRIES {
            let cas = host.shared_data(&self.text_key).ok().map(|(_, cas)| cas);
            result = write(&self.text_key, text, cas, host);
            if result != Err(Status::CasMismatch) {
                break;
            }
        }
        result
    }
}

fn write(key: &str, value: &[u8], cas: Option<u32>, host: &dyn Host) -> Result<()> {
    match cas {
        Some(cas) => host.shared_data_swap(key, value, cas),
        None => host.shared_data_create(key, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let (host, shared) = (Fake::new(), Shared::new("k".to_owned()));
        assert_eq!(shared.state(&host), (State::default(), None));
        let state = State {
            version: 1,
            fetched_at: 2,
            lifetime: u64::MAX,
            attempts: 4,
            failures: 5,
            next_attempt: 6,
            lease_until: 7,
            holder: 8,
            unknown_at: 9,
        };
        assert_eq!(shared.replace(state, None, &host), Ok(()));
        assert_eq!(shared.replace(state, None, &host), Err(Status::CasMismatch));
        assert_eq!(shared.state(&host).0, state);
        assert_eq!(shared.update(&host, |state| Some(State { version: 3, ..state })).unwrap().version, 3);
        assert_eq!(shared.update(&host, |_| None), None);
    }

    #[test]
    fn what_is_no_state_is_an_empty_one() {
        let (host, shared) = (Fake::new(), Shared::new("k".to_owned()));
        host.shared_data_create("k", b"of another version").unwrap();
        let (state, cas) = shared.state(&host);
        assert_eq!(state, State::default());
        assert_eq!(shared.replace(State { version: 1, ..state }, cas, &host), Ok(()));
    }
}
