//! Which bucket a request belongs to.
//!
//! A keyed hash of the plugin's name, the limit's name and the key's values says in which set the bucket stands, and
//! by which fingerprint it is known there. The hash's own key is random and the same in the whole process, so that
//! nobody outside can choose keys that meet in one set.

use std::hash::Hasher;
use std::rc::Rc;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::host::{Host, Result, Status};
use crate::policy::shared;

/// Where the hash's key stands in shared data.
const SECRET: &str = "meshfilter.secret";

/// How the name of a set begins in shared data; its number follows, as six hexadecimal digits.
const SET_PREFIX: &str = "meshfilter.limit.";

/// Where a bucket stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The set's key in shared data.
    pub set: Rc<str>,
    /// The bucket's name in the set.
    pub fingerprint: u64,
}

/// Hashes the keys of one plugin.
#[derive(Clone, Copy, Debug)]
pub struct KeyHasher(SipHasher13);

impl KeyHasher {
    /// The hasher of this plugin, with the secret that all workers agree on.
    ///
    /// # Errors
    /// When the proxy does not give the shared secret.
    pub fn new(host: &dyn Host) -> Result<Self> {
        let mut bytes = [0; 16];
        let (first, second) = bytes.split_at_mut(8);
        first.copy_from_slice(&host.random().to_le_bytes());
        second.copy_from_slice(&host.random().to_le_bytes());
        let secret = match host.shared_data_create(SECRET, &bytes) {
            Ok(()) => bytes,
            Err(Status::CasMismatch) => {
                let (known, _) = host.shared_data(SECRET)?;
                known.try_into().map_err(|_| Status::ParseFailure)?
            }
            Err(status) => return Err(status),
        };
        let mut hasher = KeyHasher(SipHasher13::new_with_key(&secret));
        hasher.part(&shared::plugin_name(host));
        Ok(hasher)
    }

    /// Adds a part, so that no two lists of parts look alike.
    pub fn part(&mut self, bytes: &[u8]) {
        self.0.write(&(bytes.len() as u64).to_le_bytes());
        self.0.write(bytes);
    }

    /// A name for the parts so far that no other parts have.
    pub fn name(&self) -> String {
        let hash = self.0.finish128();
        format!("meshfilter.bucket.{:016x}{:016x}", hash.h1, hash.h2)
    }

    /// The place of the parts so far, among so many sets.
    pub fn place(&self, sets: u32) -> Place {
        let hash = self.0.finish128();
        // As even as a remainder, without a division: the upper half of the product.
        let index = ((hash.h1 >> 32).saturating_mul(sets.into()) >> 32) as u32;
        let mut set = String::with_capacity(SET_PREFIX.len().saturating_add(6));
        set.push_str(SET_PREFIX);
        for shift in [20, 16, 12, 8, 4, 0] {
            set.extend(char::from_digit((index >> shift) & 0xf, 16));
        }
        Place { set: set.into(), fingerprint: hash.h2 }
    }
}
