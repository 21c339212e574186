//! Signatures: RS* and ES* by the proxy's own cryptography where it lends it, everything else in the module.

mod checks;
mod curve;
mod der;
mod provider;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use prost::Message;

pub use checks::Checks;
pub use curve::Curve;
pub use der::trim_zeros;

use super::Algorithm;
use crate::host::Host;

/// Longer moduli cost more than a request may.
pub const MAX_RSA_BITS: usize = 8192;

/// Below it RFC 7518, 3.3 forbids RSA.
pub const MIN_RSA_BITS: usize = 2048;

/// RustCrypto's bound, and far above every exponent in use.
const MAX_RSA_EXPONENT_BYTES: usize = 4;

/// A key in the forms that verifying wants, made once.
pub enum Material {
    /// For RS* and PS*.
    Rsa {
        /// SubjectPublicKeyInfo, for the proxy.
        public_key: Vec<u8>,
        /// For the module.
        key: DecodingKey,
    },
    /// For ES*.
    Ec {
        /// What it lies on.
        curve: Curve,
        /// SubjectPublicKeyInfo, for the proxy.
        public_key: Vec<u8>,
        /// The point, uncompressed, for the module.
        point: Vec<u8>,
    },
    /// For EdDSA.
    Ed25519 {
        /// For the module.
        key: DecodingKey,
    },
    /// For HS*.
    Secret {
        /// How long it is, in bytes.
        length: usize,
        /// For the module.
        key: DecodingKey,
    },
}

impl Material {
    /// An RSA key from its modulus and exponent, big endian.
    ///
    /// # Errors
    /// Why nothing may be verified with it.
    pub fn rsa(n: &[u8], e: &[u8]) -> Result<Self, String> {
        let (n, e) = (trim_zeros(n), trim_zeros(e));
        let leading = n.first().map_or(0, |byte| byte.leading_zeros() as usize);
        let bits = n.len().saturating_mul(8).saturating_sub(leading);
        if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
            return Err(format!("an RSA modulus of {bits} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are taken"));
        }
        let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
        if !odd(n) {
            return Err("an RSA modulus that is even".to_owned());
        }
        if !odd(e) || e == [1] || e.len() > MAX_RSA_EXPONENT_BYTES {
            return Err("an RSA exponent that is even, 1 or longer than 32 bits".to_owned());
        }
        Ok(Material::Rsa {
            public_key: der::rsa_public_key(n, e),
            key: DecodingKey::from_rsa_raw_components(n, e),
        })
    }

    /// A point from its coordinates, big endian. Leading zeros may be missing.
    ///
    /// # Errors
    /// Why nothing may be verified with it.
    pub fn ec(curve: Curve, x: &[u8], y: &[u8]) -> Result<Self, String> {
        let length = curve.field_length();
        let mut point = vec![4];
        for coordinate in [x, y].map(trim_zeros) {
            let missing = length.checked_sub(coordinate.len()).ok_or("a coordinate that is too long")?;
            point.resize(point.len().saturating_add(missing), 0);
            point.extend_from_slice(coordinate);
        }
        if !curve.has(x, y) {
            return Err("a point that is not on its curve".to_owned());
        }
        Ok(Material::Ec { curve, public_key: der::ec_public_key(curve, &point), point })
    }

    /// An Ed25519 key from its 32 bytes.
    ///
    /// # Errors
    /// Why nothing may be verified with it.
    pub fn ed25519(x: &[u8; 32]) -> Result<Self, String> {
        match ed25519_dalek::VerifyingKey::from_bytes(x) {
            Ok(key) if !key.is_weak() => Ok(Material::Ed25519 { key: DecodingKey::from_ed_der(x) }),
            _ => Err("a point that is not on its curve, or of small order".to_owned()),
        }
    }

    /// A secret.
    pub fn secret(k: &[u8]) -> Self {
        Material::Secret { length: k.len(), key: DecodingKey::from_secret(k) }
    }

    /// Whether this is a key for such signatures. The token says which algorithm, but the key decides.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        match self {
            Material::Rsa { .. } => algorithm.name().starts_with("RS") || algorithm.name().starts_with("PS"),
            Material::Ec { curve, .. } => algorithm == curve.algorithm(),
            Material::Ed25519 { .. } => algorithm == Algorithm::EdDsa,
            // RFC 7518, 3.2: a secret is as long as its hash or longer.
            Material::Secret { length, .. } => {
                algorithm.name().starts_with("HS") && *length >= hash_length(algorithm)
            }
        }
    }

    /// Verifies a signature over `input`, if `checks` has a check left for it.
    pub fn verify(
        &self,
        algorithm: Algorithm,
        input: &[u8],
        signature: &[u8],
        (checks, host): (&Checks, &dyn Host),
    ) -> bool {
        if !self.fits(algorithm) {
            return false;
        }
        let in_module = |key: &DecodingKey| {
            name_in_jsonwebtoken(algorithm).filter(|_| checks.in_module()).is_some_and(|algorithm| {
                provider::verify(&URL_SAFE_NO_PAD.encode(signature), input, key, algorithm)
            })
        };
        let on_host = |public_key: &[u8], signature: &[u8]| match checks.on_host() {
            true => verify_on_host(algorithm, public_key, input, signature, host),
            false => Some(false),
        };
        match self {
            Material::Rsa { public_key, key } if algorithm.name().starts_with("RS") => {
                on_host(public_key, signature).unwrap_or_else(|| in_module(key))
            }
            Material::Ec { curve, public_key, point } => {
                // Both numbers in full (RFC 7518, 3.4) and neither zero, whatever a verifier makes of others.
                let (r, s) = signature.split_at_checked(curve.field_length()).unwrap_or_default();
                if r.len() != s.len() || trim_zeros(r).is_empty() || trim_zeros(s).is_empty() {
                    return false;
                }
                on_host(public_key, &der::ecdsa_signature(signature)).unwrap_or_else(|| {
                    checks.in_module() && provider::verify_ecdsa(*curve, point, input, signature)
                })
            }
            Material::Rsa { key, .. } | Material::Ed25519 { key } | Material::Secret { key, .. } => {
                in_module(key)
            }
        }
    }
}

fn name_in_jsonwebtoken(algorithm: Algorithm) -> Option<jsonwebtoken::Algorithm> {
    use jsonwebtoken::Algorithm as Theirs;
    Some(match algorithm {
        Algorithm::Rs256 => Theirs::RS256,
        Algorithm::Rs384 => Theirs::RS384,
        Algorithm::Rs512 => Theirs::RS512,
        Algorithm::Ps256 => Theirs::PS256,
        Algorithm::Ps384 => Theirs::PS384,
        Algorithm::Ps512 => Theirs::PS512,
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => return None,
        Algorithm::EdDsa => Theirs::EdDSA,
        Algorithm::Hs256 => Theirs::HS256,
        Algorithm::Hs384 => Theirs::HS384,
        Algorithm::Hs512 => Theirs::HS512,
    })
}

/// The hash of an algorithm, in bytes. EdDSA's is its own affair.
pub fn hash_length(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Rs256 | Algorithm::Ps256 | Algorithm::Es256 | Algorithm::Hs256 => 32,
        Algorithm::Rs384 | Algorithm::Ps384 | Algorithm::Es384 | Algorithm::Hs384 => 48,
        _ => 64,
    }
}

/// Arguments of Envoy's foreign function `verify_signature`.
#[derive(Clone, PartialEq, Message)]
pub struct VerifySignatureArguments {
    /// `sha256`, `sha384` or `sha512`.
    #[prost(string, tag = "1")]
    pub hash_function: String,
    /// SubjectPublicKeyInfo, as DER.
    #[prost(bytes = "vec", tag = "2")]
    pub public_key: Vec<u8>,
    /// PKCS#1 v1.5, or ECDSA's as DER.
    #[prost(bytes = "vec", tag = "3")]
    pub signature: Vec<u8>,
    /// What was signed.
    #[prost(bytes = "vec", tag = "4")]
    pub text: Vec<u8>,
}

/// What Envoy's foreign function `verify_signature` answers.
#[derive(Clone, PartialEq, Message)]
pub struct VerifySignatureResult {
    /// Whether the signature is good.
    #[prost(bool, tag = "1")]
    pub result: bool,
    /// Why not.
    #[prost(string, tag = "2")]
    pub error: String,
}

/// Asks the proxy; `None` where it does not lend its cryptography.
fn verify_on_host(
    algorithm: Algorithm,
    public_key: &[u8],
    input: &[u8],
    signature: &[u8],
    host: &dyn Host,
) -> Option<bool> {
    let arguments = VerifySignatureArguments {
        hash_function: match hash_length(algorithm) {
            32 => "sha256",
            48 => "sha384",
            _ => "sha512",
        }
        .to_owned(),
        public_key: public_key.to_vec(),
        signature: signature.to_vec(),
        text: input.to_vec(),
    };
    let answer = host.call_foreign_function("verify_signature", &arguments.encode_to_vec()).ok()?;
    Some(VerifySignatureResult::decode(answer.as_slice()).ok()?.result)
}
