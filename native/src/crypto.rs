//! The signatures that a proxy-wasm host verifies for the module, by `ring`: RSA PKCS#1 v1.5 and ECDSA over P-256 and
//! P-384. What it does not know (P-521) the library's own provider verifies.

use meshfilter::host::{Result, Status};
use meshfilter::policy::authentication::{VerifySignatureArguments, VerifySignatureResult};
use prost::Message;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

/// Envoy's foreign function `verify_signature`: the same arguments, the same answer.
///
/// # Errors
/// [`Status::NotFound`] for what `ring` does not know.
pub fn verify_signature(arguments: &[u8]) -> Result<Vec<u8>> {
    let arguments = VerifySignatureArguments::decode(arguments).map_err(|_| Status::ParseFailure)?;
    let hash = arguments.hash_function.as_str();
    let (kind, key) = public_key(&arguments.public_key).ok_or(Status::NotFound)?;
    let algorithm: &'static dyn VerificationAlgorithm = match (kind, hash) {
        (Kind::Rsa, "sha256") => &signature::RSA_PKCS1_2048_8192_SHA256,
        (Kind::Rsa, "sha384") => &signature::RSA_PKCS1_2048_8192_SHA384,
        (Kind::Rsa, "sha512") => &signature::RSA_PKCS1_2048_8192_SHA512,
        (Kind::P256, "sha256") => &signature::ECDSA_P256_SHA256_ASN1,
        (Kind::P384, "sha384") => &signature::ECDSA_P384_SHA384_ASN1,
        _ => return Err(Status::NotFound),
    };
    let key = UnparsedPublicKey::new(algorithm, key);
    let result = key.verify(&arguments.text, &arguments.signature).is_ok();
    Ok(VerifySignatureResult { result, error: String::new() }.encode_to_vec())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
}

/// The algorithm identifiers of RFC 3279 and RFC 5480, whole.
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
const P256: &[u8] = &[
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07,
];
const P384: &[u8] =
    &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// What a SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) holds: an RSAPublicKey, or an uncompressed point.
fn public_key(der: &[u8]) -> Option<(Kind, &[u8])> {
    let (whole, rest) = element(der, SEQUENCE)?;
    if !rest.is_empty() {
        return None;
    }
    let (algorithm, rest) = element(whole, SEQUENCE)?;
    let (key, rest) = element(rest, BIT_STRING)?;
    let (0, key) = key.split_first().map(|(unused, key)| (*unused, key))? else { return None };
    let kind = match algorithm {
        RSA => Kind::Rsa,
        P256 => Kind::P256,
        P384 => Kind::P384,
        _ => return None,
    };
    rest.is_empty().then_some((kind, key))
}

/// The content of the first element, if it is of this kind, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => rest.split_first_chunk().map(|(length, rest)| (u16::from_be_bytes(*length).into(), rest))?,
        _ => return None,
    };
    (*found == tag).then(|| rest.split_at_checked(length)).flatten()
}
