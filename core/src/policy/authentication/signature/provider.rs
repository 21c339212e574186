//! The cryptography behind `jsonwebtoken` in this module: RustCrypto, verification alone. It needs no random numbers,
//! and so nothing from the platform.

use ed25519_dalek::VerifyingKey;
use hmac::{Hmac, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use rsa::pkcs8::AssociatedOid;
use rsa::traits::SignatureScheme;
use rsa::{BigUint, Pkcs1v15Sign, Pss, RsaPublicKey};
use sha2::digest::{Digest, KeyInit};
use sha2::{Sha256, Sha384, Sha512};

use super::{Curve, MAX_RSA_BITS};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(unsupported()),
    verifier_factory: |algorithm, key| {
        Ok(Box::new(ModuleVerifier { algorithm: *algorithm, key: key.clone() }))
    },
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(unsupported()),
        rsa_pub_components_from_public_key: |_| Err(unsupported()),
        ec_pub_components_from_private_key: |_, _| Err(unsupported()),
        ed_pub_components_from_private_key: |_, _| Err(unsupported()),
        compute_digest: |_, _| Err(unsupported()),
    },
};

/// Verifies a signature, which is base64url, in this module.
pub fn verify(signature: &str, input: &[u8], key: &DecodingKey, algorithm: Algorithm) -> bool {
    // The first call installs it; the others have nothing to do.
    let _ = PROVIDER.install_default();
    jsonwebtoken::crypto::verify(signature, input, key, algorithm).unwrap_or(false)
}

fn unsupported() -> Error {
    ErrorKind::UnsupportedAlgorithm.into()
}

struct ModuleVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for ModuleVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

type Verified = std::result::Result<(), signature::Error>;

impl Verifier<Vec<u8>> for ModuleVerifier {
    fn verify(&self, input: &[u8], signature: &Vec<u8>) -> Verified {
        match self.algorithm {
            Algorithm::RS256 => self.rsa::<Sha256, _>(Pkcs1v15Sign::new::<Sha256>(), input, signature),
            Algorithm::RS384 => self.rsa::<Sha384, _>(Pkcs1v15Sign::new::<Sha384>(), input, signature),
            Algorithm::RS512 => self.rsa::<Sha512, _>(Pkcs1v15Sign::new::<Sha512>(), input, signature),
            Algorithm::PS256 => self.rsa::<Sha256, _>(Pss::new::<Sha256>(), input, signature),
            Algorithm::PS384 => self.rsa::<Sha384, _>(Pss::new::<Sha384>(), input, signature),
            Algorithm::PS512 => self.rsa::<Sha512, _>(Pss::new::<Sha512>(), input, signature),
            Algorithm::EdDSA => {
                let key = self.bytes()?.try_into().map_err(|_| signature::Error::new())?;
                // Strict: keys and nonces of small order, which verify more than one message, are refused.
                VerifyingKey::from_bytes(key)?
                    .verify_strict(input, &ed25519_dalek::Signature::from_slice(signature)?)
            }
            Algorithm::HS256 => self.hmac::<Hmac<Sha256>>(input, signature),
            Algorithm::HS384 => self.hmac::<Hmac<Sha384>>(input, signature),
            Algorithm::HS512 => self.hmac::<Hmac<Sha512>>(input, signature),
            // ECDSA is verified below, and an algorithm that `jsonwebtoken` learns later is not known.
            _ => Err(signature::Error::new()),
        }
    }
}

impl ModuleVerifier {
    fn bytes(&self) -> std::result::Result<&[u8], signature::Error> {
        self.key.try_get_as_bytes().map_err(|_| signature::Error::new())
    }

    fn rsa<D: Digest + AssociatedOid, S: SignatureScheme>(
        &self,
        scheme: S,
        input: &[u8],
        signature: &[u8],
    ) -> Verified {
        let DecodingKeyKind::RsaModulusExponent { n, e } = self.key.kind() else {
            return Err(signature::Error::new());
        };
        // A signature is a number below the modulus (RFC 8017, 5.2.2); of the same length, bytes compare as numbers.
        if signature.len() != n.len() || signature >= n.as_slice() {
            return Err(signature::Error::new());
        }
        let (n, e) = (BigUint::from_bytes_be(n), BigUint::from_bytes_be(e));
        RsaPublicKey::new_with_max_size(n, e, MAX_RSA_BITS)
            .and_then(|key| key.verify(scheme, &D::digest(input), signature))
            .map_err(|_| signature::Error::new())
    }

    fn hmac<M: Mac + KeyInit>(&self, input: &[u8], signature: &[u8]) -> Verified {
        let mut mac = <M as Mac>::new_from_slice(self.bytes()?).map_err(|_| signature::Error::new())?;
        mac.update(input);
        // In constant time.
        mac.verify_slice(signature).map_err(|_| signature::Error::new())
    }
}

/// Verifies an ECDSA signature, `r` and `s` in a row, in this module. In the WebAssembly module of the proxy that is ES256
/// alone: the larger curves would be a seventh more, and every Envoy verifies them by itself.
pub fn verify_ecdsa(curve: Curve, point: &[u8], input: &[u8], signature: &[u8]) -> bool {
    macro_rules! verify {
        ($curve:ident) => {{
            let verify = || {
                let key = $curve::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()?;
                key.verify(input, &$curve::ecdsa::Signature::from_slice(signature).ok()?).ok()
            };
            verify().is_some()
        }};
    }
    match curve {
        Curve::P256 => verify!(p256),
        #[cfg(not(target_os = "wasi"))]
        Curve::P384 => verify!(p384),
        #[cfg(not(target_os = "wasi"))]
        Curve::P521 => verify!(p521),
        #[cfg(target_os = "wasi")]
        Curve::P384 | Curve::P521 => false,
    }
}
