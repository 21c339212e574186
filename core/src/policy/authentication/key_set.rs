//! A JSON Web Key Set (RFC 7517), made ready for verifying when it is loaded.

use std::fmt;
use std::hash::Hasher;

use serde_json::Value;
use siphasher::sip::SipHasher13;

use super::jwk::Key;
use super::{Algorithm, Algorithms, Checks, Parsed, Status};
use crate::host::Host;
use meshfilter_json::{self as json, Errors};

/// How many bytes an Ed25519 signature has.
const ED25519_SIGNATURE_LENGTH: usize = 64;

/// Public keys and secrets that tokens are verified with.
pub struct KeySet {
    keys: Vec<Key>,
    version: u64,
}

impl KeySet {
    /// Reads a key set. Keys that cannot be used are left out; a warning for each names its place and the reason.
    ///
    /// # Errors
    /// Why it is no key set, or that no key of it can be used.
    pub fn parse(text: &[u8]) -> Result<(Self, Vec<String>), String> {
        let errors = Errors::default();
        let value = json::parse(text, &errors).map_err(|error| match mistaken(text) {
            Some(what) => what,
            None => format!("{}: {error}", Status::JwksParseError),
        })?;
        match errors.into_vec().first() {
            None => Self::from_value(&value),
            Some(error) => Err(format!("{}: {error}", Status::JwksParseError)),
        }
    }

    /// Reads a key set that stands in a document as it is. See [`KeySet::parse`].
    ///
    /// # Errors
    /// As [`KeySet::parse`].
    pub fn from_value(value: &Value) -> Result<(Self, Vec<String>), String> {
        let Some(members) = value.as_object() else {
            return Err(Status::JwksParseError.to_string());
        };
        let Some(list) = members.get("keys") else {
            return Err(if members.values().any(is_certificate) {
                "certificates by name are not read; give the keys as a JSON Web Key Set".to_owned()
            } else if members.contains_key("kty") {
                "this is one key; put it into a set: {\"keys\": [...]}".to_owned()
            } else {
                Status::JwksNoKeys.to_string()
            });
        };
        let list = list.as_array().ok_or_else(|| Status::JwksBadKeys.to_string())?;
        let mut keys = Vec::with_capacity(list.len());
        let mut warnings = Vec::new();
        for (index, jwk) in list.iter().enumerate() {
            match Key::parse(jwk) {
                Ok(key) => keys.push(key),
                Err(reason) => warnings.push(format!("keys[{index}] is left out: {reason}")),
            }
        }
        if keys.is_empty() {
            warnings.insert(0, Status::JwksNoValidKeys.to_string());
            return Err(warnings.join("; "));
        }
        let mut version = SipHasher13::new();
        version.write(value.to_string().as_bytes());
        Ok((KeySet { keys, version: version.finish() }, warnings))
    }

    /// Verifies a token's signature.
    ///
    /// # Errors
    /// Envoy's: [`Status::JwksKidAlgMismatch`] where no key has the token's `kid` and `alg`, and
    /// [`Status::JwtVerificationFail`] where one has, but none verifies it.
    pub fn verify(
        &self,
        token: &Parsed,
        allowed: Algorithms,
        checks: &Checks,
        host: &dyn Host,
    ) -> Result<(), Status> {
        let (kid, signature) = (token.kid.as_deref(), &token.signature);
        let checking = (checks, host);
        self.verify_signature(token.algorithm, kid, token.signing_input(), signature, allowed, checking)
    }

    /// Verifies a signature over any bytes; see [`KeySet::verify`].
    ///
    /// A key with another `kid` is passed over if both sides name one; so is a key that is for another `alg`. `checking`
    /// is what this request may still cost, and who lends cryptography.
    ///
    /// # Errors
    /// As [`KeySet::verify`].
    pub fn verify_signature(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        input: &[u8],
        signature: &[u8],
        allowed: Algorithms,
        checking: (&Checks, &dyn Host),
    ) -> Result<(), Status> {
        let meant = |key: &&Key| {
            key.kid.as_deref().zip(kid).is_none_or(|(key, token)| key == token)
                && key.algorithm.is_none_or(|only| only == algorithm)
        };
        let mut candidates = self.keys.iter().filter(meant).peekable();
        if candidates.peek().is_none() {
            return Err(Status::JwksKidAlgMismatch);
        }
        let usable = |key: &&Key| allowed.allow(algorithm, key.algorithm) && key.material.fits(algorithm);
        for key in candidates.filter(usable) {
            if algorithm == Algorithm::EdDsa && signature.len() != ED25519_SIGNATURE_LENGTH {
                return Err(Status::JwtEd25519SignatureWrongLength);
            }
            if key.material.verify(algorithm, input, signature, checking) {
                return Ok(());
            }
        }
        Err(Status::JwtVerificationFail)
    }

    /// Whether one of the keys may verify anything by these algorithms.
    pub fn serves(&self, allowed: Algorithms) -> bool {
        let serves = |key: &Key| {
            let fits = |algorithm: Algorithm| {
                key.algorithm.is_none_or(|only| only == algorithm)
                    && allowed.allow(algorithm, key.algorithm)
                    && key.material.fits(algorithm)
            };
            Algorithm::ALL.into_iter().any(fits)
        };
        self.keys.iter().any(serves)
    }

    /// Whether a token that names this key may be verified here: by the key of that id, or by one without an id.
    pub fn may_have(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid.as_deref().is_none_or(|id| id == kid))
    }

    /// Differs between key sets that differ; it is part of what a verified token is remembered by.
    pub fn version(&self) -> u64 {
        self.version
    }
}

/// What else people take for a key set, and what to do about it.
fn mistaken(text: &[u8]) -> Option<String> {
    let text = text.trim_ascii_start();
    if [&b"http://"[..], b"https://"].iter().any(|scheme| text.starts_with(scheme)) {
        return Some(
            "this is an address, not a key set; write it in jwksUri, with its jwksCluster".to_owned(),
        );
    }
    let label = text.strip_prefix(b"-----BEGIN ")?;
    let end = label.windows(5).position(|window| window == b"-----")?;
    let label = label.get(..end)?;
    Some(if label.ends_with(b"PRIVATE KEY") {
        // Whoever has it can sign.
        "this is a private key as PEM; take it out of here, and give the public one as a JSON Web Key Set"
            .to_owned()
    } else {
        format!(
            "this is PEM ({}), not a JSON Web Key Set; convert it and write {{\"keys\": [{{\"kty\": \"RSA\", \"n\": ..., \"e\": ...}}]}}, for an EC key kty, crv, x and y",
            label.escape_ascii()
        )
    })
}

/// The other form that Envoy reads: a map of names and certificates.
fn is_certificate(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.trim_start().starts_with("-----BEGIN"))
}

/// Says nothing of the keys: some are secrets.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} keys, version {:016x})", self.keys.len(), self.version)
    }
}

#[cfg(test)]
mod tests;
