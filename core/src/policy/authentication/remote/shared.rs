//! What all workers know of a key set, in the data that they share: its state, which is small and read often, and
//! its text beside it. Other plugins may write there, too: the state is sealed and has the text's hash.

use std::cell::Cell;

use super::seal;
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
    /// Which text belongs to it.
    pub hash: [u8; seal::LENGTH],
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
        .chain(self.hash)
        .collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, hash) = bytes.split_last_chunk()?;
        let mut numbers = numbers.chunks(8).map(|chunk| Some(u64::from_le_bytes(chunk.try_into().ok()?)));
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
            hash: *hash,
        })
    }
}

/// The two places of one key set, or one place that nobody else has.
#[derive(Debug)]
pub enum Shared {
    /// In the data that all VMs share.
    Everywhere {
        /// Of the state.
        state_key: String,
        /// Of the text.
        text_key: String,
    },
    /// In this VM.
    Here(Cell<State>),
}

/// Under contention somebody else has made progress; so often in a row is not chance.
const TRIES: usize = 8;

impl Shared {
    pub fn new(key: String) -> Self {
        Shared::Everywhere { text_key: format!("{key}.text"), state_key: key }
    }

    /// The state, and what [`Shared::replace`] wants. `None` for a set that nobody knows yet, and for a state that this
    /// module has not sealed: another plugin's, or that of another version or document.
    pub fn state(&self, host: &dyn Host) -> (Option<State>, Option<u32>) {
        match self {
            Shared::Here(state) => (Some(state.get()), None),
            Shared::Everywhere { state_key, .. } => match host.shared_data(state_key) {
                Ok((bytes, cas)) => (opened(state_key, &bytes), Some(cas)),
                Err(_) => (None, None),
            },
        }
    }

    /// Replaces a state that was read, unless somebody has since.
    pub fn replace(&self, state: State, cas: Option<u32>, host: &dyn Host) -> Result<()> {
        match self {
            Shared::Here(here) => {
                here.set(state);
                Ok(())
            }
            Shared::Everywhere { state_key, .. } => {
                let mut bytes = state.to_bytes();
                bytes.extend(seal::seal(state_key, &bytes));
                write(state_key, &bytes, cas, host)
            }
        }
    }

    /// Changes the state; says what it became. `None` where `change` does not want to, or it cannot be written.
    pub fn update(&self, host: &dyn Host, change: impl Fn(Option<State>) -> Option<State>) -> Option<State> {
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

    /// The key set's text, if it is the one of this hash.
    pub fn text(&self, hash: [u8; seal::LENGTH], host: &dyn Host) -> Option<Vec<u8>> {
        let Shared::Everywhere { text_key, .. } = self else { return None };
        host.shared_data(text_key).ok().map(|(text, _)| text).filter(|text| seal::hash(text) == hash)
    }

    /// Replaces the key set's text, whatever it is.
    pub fn set_text(&self, text: &[u8], host: &dyn Host) -> Result<()> {
        let Shared::Everywhere { text_key, .. } = self else { return Ok(()) };
        let mut result = Err(Status::CasMismatch);
        for _ in 0..TRIES {
            let cas = host.shared_data(text_key).ok().map(|(_, cas)| cas);
            result = write(text_key, text, cas, host);
            if result != Err(Status::CasMismatch) {
                break;
            }
        }
        result
    }
}

/// The state in bytes that are sealed for this place.
fn opened(place: &str, bytes: &[u8]) -> Option<State> {
    let (value, seal) = bytes.split_last_chunk::<{ seal::LENGTH }>()?;
    seal::is_sealed(place, value, seal).then(|| State::from_bytes(value)).flatten()
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
        assert_eq!(shared.state(&host), (None, None));
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
            hash: [10; seal::LENGTH],
        };
        assert_eq!(shared.replace(state, None, &host), Ok(()));
        assert_eq!(shared.replace(state, None, &host), Err(Status::CasMismatch));
        assert_eq!(shared.state(&host).0, Some(state));
        assert_eq!(shared.update(&host, |state| Some(State { version: 3, ..state? })).unwrap().version, 3);
        assert_eq!(shared.update(&host, |_| None), None);
    }

    #[test]
    fn what_this_module_has_not_sealed_is_no_state() {
        let (host, shared) = (Fake::new(), Shared::new("k".to_owned()));
        let good = State { version: 1, ..State::default() };
        assert_eq!(shared.replace(good, None, &host), Ok(()));
        let (sealed, _) = host.shared_data("k").unwrap();
        let mut forged = State { version: 2, ..good }.to_bytes();
        forged.extend(sealed.last_chunk::<{ seal::LENGTH }>().unwrap());
        let all_but_one = sealed.get(..sealed.len() - 1).unwrap();
        for bytes in [b"of another version", forged.as_slice(), &good.to_bytes(), all_but_one, b""] {
            host.overwrite_shared_data(bytes);
            let (state, cas) = shared.state(&host);
            assert_eq!(state, None);
            assert_eq!(shared.replace(good, cas, &host), Ok(()));
            assert_eq!(shared.state(&host).0, Some(good));
        }
        let elsewhere = Shared::new("l".to_owned());
        host.shared_data_create("l", &sealed).unwrap();
        assert_eq!(elsewhere.state(&host).0, None, "sealed for another place");
    }

    #[test]
    fn a_text_is_believed_by_its_hash() {
        let (host, shared) = (Fake::new(), Shared::new("k".to_owned()));
        let hash = seal::hash(b"text");
        assert_eq!(shared.text(hash, &host), None);
        shared.set_text(b"text", &host).unwrap();
        assert_eq!(shared.text(hash, &host).as_deref(), Some(&b"text"[..]));
        shared.set_text(b"other", &host).unwrap();
        assert_eq!(shared.text(hash, &host), None);
    }

    #[test]
    fn what_is_here_is_nowhere_else() {
        let (host, shared) = (Fake::new(), Shared::Here(Cell::default()));
        let state = State { version: 1, ..State::default() };
        assert_eq!(shared.update(&host, |_| Some(state)), Some(state));
        assert_eq!(shared.state(&host).0, Some(state));
        shared.set_text(b"text", &host).unwrap();
        assert_eq!(host.shared_data_size(), (0, 0));
    }
}
