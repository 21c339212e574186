//! A JSON Web Key Set (RFC 7517), made ready for verifying when it is loaded.

use super::{Algorithms, Parsed, Status};
use crate::host::Host;

/// Public keys and secrets that tokens are verified with.
#[derive(Debug, Default)]
pub struct KeySet {
    version: u64,
}

impl KeySet {
    /// Reads a key set. Keys that cannot be used are left out; a warning for each names its place and the reason.
    ///
    /// # Errors
    /// Why it is no key set, or that no key of it can be used.
    pub fn parse(_text: &[u8]) -> Result<(Self, Vec<String>), String> {
        Ok((KeySet { version: 0 }, Vec::new()))
    }

    /// Verifies a token's signature.
    ///
    /// # Errors
    /// Envoy's: [`Status::JwksKidAlgMismatch`] where no key has the token's `kid` and `alg`, and
    /// [`Status::JwtVerificationFail`] where one has, but none verifies it.
    pub fn verify(&self, _token: &Parsed, _allowed: Algorithms, _host: &dyn Host) -> Result<(), Status> {
        Err(Status::JwtVerificationFail)
    }

    /// Whether a key has this id.
    pub fn has_kid(&self, _kid: &str) -> bool {
        false
    }

    /// Differs between key sets that differ; it is part of what a verified token is remembered by.
    pub fn version(&self) -> u64 {
        self.version
    }
}
