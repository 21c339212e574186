//! Signs with the private keys in `tests/keys`, by any algorithm that the filter verifies.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use rsa::rand_core::{CryptoRng, RngCore, impls};
use rsa::signature::{RandomizedSigner, SignatureEncoding, Signer};
use rsa::{BigUint, RsaPrivateKey, pkcs1v15, pss};
use serde_json::{Value, json};
use sha2::{Sha256, Sha384, Sha512};

/// The names of the test keys; each has its private JWK in `tests/keys/<name>.json`.
pub const KEYS: [&str; 7] = ["rsa1", "rsa2", "ec256", "ec384", "ec521", "ed25519", "hmac1"];

/// A test key, private members included.
///
/// # Errors
/// That there is none of this name.
pub fn private_jwk(name: &str) -> Result<Value, String> {
    let text = match name {
        "rsa1" => include_str!("../../../tests/keys/rsa1.json"),
        "rsa2" => include_str!("../../../tests/keys/rsa2.json"),
        "ec256" => include_str!("../../../tests/keys/ec256.json"),
        "ec384" => include_str!("../../../tests/keys/ec384.json"),
        "ec521" => include_str!("../../../tests/keys/ec521.json"),
        "ed25519" => include_str!("../../../tests/keys/ed25519.json"),
        "hmac1" => include_str!("../../../tests/keys/hmac1.json"),
        _ => return Err(format!("there is no test key {name:?}; use one of {}", KEYS.join(", "))),
    };
    serde_json::from_str(text).map_err(|error| format!("tests/keys/{name}.json: {error}"))
}

/// A test key as an issuer would publish it. The secret of an `oct` key is all that there is, so it is in here, too.
pub fn public_jwk(name: &str) -> Value {
    let mut key = private_jwk(name).unwrap_or_default();
    if let Some(members) = key.as_object_mut() {
        members.retain(|name, _| !["d", "p", "q", "dp", "dq", "qi"].contains(&name.as_str()));
    }
    key
}

/// The key set of these test keys.
pub fn jwks(names: &[&str]) -> Value {
    json!({"keys": names.iter().map(|name| public_jwk(name)).collect::<Vec<_>>()})
}

/// A token of any header and any payload, good or not.
///
/// # Errors
/// What cannot be signed.
pub fn token(
    key: &str,
    algorithm: &str,
    header: impl AsRef<[u8]>,
    payload: impl AsRef<[u8]>,
) -> Result<String, String> {
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = signature(&private_jwk(key)?, algorithm, text.as_bytes())?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// A member of a JWK that is encoded bytes.
///
/// # Errors
/// That it is none.
pub fn member(key: &Value, name: &str) -> Result<Vec<u8>, String> {
    let text = key.get(name).and_then(Value::as_str).ok_or_else(|| format!("the key has no {name:?}"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|error| error.to_string())
}

fn rsa_key(key: &Value) -> Result<RsaPrivateKey, String> {
    let number = |name: &str| Ok::<_, String>(BigUint::from_bytes_be(&member(key, name)?));
    let primes = vec![number("p")?, number("q")?];
    RsaPrivateKey::from_components(number("n")?, number("e")?, number("d")?, primes)
        .map_err(|error| error.to_string())
}

/// A signature by a private JWK.
///
/// # Errors
/// What cannot be signed.
pub fn signature(key: &Value, algorithm: &str, text: &[u8]) -> Result<Vec<u8>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{algorithm}: {error}");
    let member = |name: &str| member(key, name).map_err(|error| wrong(&error));
    let rsa = || rsa_key(key).map_err(|error| wrong(&error));
    macro_rules! hmac {
        ($hash:ty) => {{
            let mut mac = Hmac::<$hash>::new_from_slice(&member("k")?).map_err(|error| wrong(&error))?;
            mac.update(text);
            mac.finalize().into_bytes().to_vec()
        }};
    }
    macro_rules! ecdsa {
        ($curve:ident, $sign:ident $(, $rng:expr)?) => {{
            let key = $curve::ecdsa::SigningKey::from_slice(&member("d")?).map_err(|error| wrong(&error))?;
            let signature: $curve::ecdsa::Signature = key.$sign($($rng,)? text);
            signature.to_vec()
        }};
    }
    Ok(match algorithm {
        "RS256" => pkcs1v15::SigningKey::<Sha256>::new(rsa()?).sign(text).to_vec(),
        "RS384" => pkcs1v15::SigningKey::<Sha384>::new(rsa()?).sign(text).to_vec(),
        "RS512" => pkcs1v15::SigningKey::<Sha512>::new(rsa()?).sign(text).to_vec(),
        "PS256" => pss::SigningKey::<Sha256>::new(rsa()?).sign_with_rng(&mut Predictable(1), text).to_vec(),
        "PS384" => pss::SigningKey::<Sha384>::new(rsa()?).sign_with_rng(&mut Predictable(1), text).to_vec(),
        "PS512" => pss::SigningKey::<Sha512>::new(rsa()?).sign_with_rng(&mut Predictable(1), text).to_vec(),
        "HS256" => hmac!(Sha256),
        "HS384" => hmac!(Sha384),
        "HS512" => hmac!(Sha512),
        "ES256" => ecdsa!(p256, sign),
        "ES384" => ecdsa!(p384, sign),
        "ES512" => ecdsa!(p521, sign_with_rng, &mut Predictable(1)),
        "EdDSA" => {
            let seed = member("d")?.try_into().map_err(|_| "an Ed25519 key has 32 bytes".to_owned())?;
            ed25519_dalek::SigningKey::from_bytes(&seed).sign(text).to_bytes().to_vec()
        }
        "none" => Vec::new(),
        _ => return Err(format!("{algorithm:?} cannot be signed here")),
    })
}

/// These keys are no secret, so salts and nonces need be none, and the same case gives the same token everywhere, in Node, too.
struct Predictable(u64);

impl RngCore for Predictable {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ (self.0 >> 32)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        impls::fill_bytes_via_next(self, bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Predictable {}
