//! What this module puts into the data that all plugins of a proxy share is sealed: another plugin can overwrite it, but it
//! cannot make it up.

use std::sync::OnceLock;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// The length of a hash and of a seal, in bytes.
pub const LENGTH: usize = 32;

/// What the VMs of this plugin know and no other plugin can read.
static SECRET: OnceLock<[u8; LENGTH]> = OnceLock::new();

/// Takes the secret from the document, and from what the plugin's environment has for it. The first counts for as long as
/// the VM lives: so a pushed document believes what was there before it.
pub fn take_secret(document: &[u8], environment: &[u8]) {
    let _ = SECRET.get_or_init(|| {
        let mut hash = Sha256::new();
        for part in [document, environment] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    });
}

/// What stands for a text.
pub fn hash(text: &[u8]) -> [u8; LENGTH] {
    Sha256::digest(text).into()
}

/// The seal of a value at its place.
pub fn seal(place: &str, value: &[u8]) -> [u8; LENGTH] {
    keyed(place, value).map_or([0; LENGTH], |mac| mac.finalize().into_bytes().into())
}

/// Whether a value has been sealed for this place.
pub fn is_sealed(place: &str, value: &[u8], seal: &[u8]) -> bool {
    // In constant time.
    keyed(place, value).is_some_and(|mac| mac.verify_slice(seal).is_ok())
}

fn keyed(place: &str, value: &[u8]) -> Option<Hmac<Sha256>> {
    let secret = SECRET.get().copied().unwrap_or_default();
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&secret).ok()?;
    mac.update(&place.len().to_le_bytes());
    mac.update(place.as_bytes());
    mac.update(value);
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_for_one_value_at_one_place() {
        let seal = seal("a", b"bc");
        assert!(is_sealed("a", b"bc", &seal));
        for (place, value) in [("ab", &b"c"[..]), ("a", b"bd"), ("b", b"bc"), ("a", b"")] {
            assert!(!is_sealed(place, value, &seal), "{place} {value:?}");
        }
        for other in [&seal[1..], &[0; LENGTH], &[]] {
            assert!(!is_sealed("a", b"bc", other));
        }
    }
}
