//! The little of DER (X.690) that the proxy's cryptography wants: public keys as SubjectPublicKeyInfo, and ECDSA
//! signatures.

use super::Curve;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// `rsaEncryption` and its NULL parameters (RFC 8017, A.1), encoded.
const RSA_ALGORITHM: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// `id-ecPublicKey` (RFC 5480, 2.1.1), encoded.
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const SECP256R1: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const SECP384R1: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const SECP521R1: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];

/// An RSA public key from its modulus and exponent, big endian.
pub fn rsa_public_key(n: &[u8], e: &[u8]) -> Vec<u8> {
    let key = element(SEQUENCE, &[&unsigned(n), &unsigned(e)]);
    element(SEQUENCE, &[RSA_ALGORITHM, &element(BIT_STRING, &[&[0], &key])])
}

/// An EC public key from its point, uncompressed.
pub fn ec_public_key(curve: Curve, point: &[u8]) -> Vec<u8> {
    let curve = match curve {
        Curve::P256 => SECP256R1,
        Curve::P384 => SECP384R1,
        Curve::P521 => SECP521R1,
    };
    let algorithm = element(SEQUENCE, &[EC_PUBLIC_KEY, curve]);
    element(SEQUENCE, &[&algorithm, &element(BIT_STRING, &[&[0], point])])
}

/// An ECDSA signature from JWA's form, `r` and `s` of the same length in a row (RFC 7518, 3.4).
pub fn ecdsa_signature(raw: &[u8]) -> Vec<u8> {
    let (r, s) = raw.split_at_checked(raw.len() / 2).unwrap_or_default();
    element(SEQUENCE, &[&unsigned(r), &unsigned(s)])
}

fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let bytes = trim_zeros(bytes);
    // A leading one bit would make it negative, and zero has one byte.
    let zero: &[u8] = if bytes.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
    element(INTEGER, &[zero, bytes])
}

/// A big endian number without its leading zeros.
pub fn trim_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
    let mut der = Vec::with_capacity(length.saturating_add(6));
    der.push(tag);
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => der.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let bytes = trim_zeros(&bytes);
            // At most eight bytes.
            der.push(0x80 | bytes.len() as u8);
            der.extend_from_slice(bytes);
        }
    }
    parts.iter().for_each(|part| der.extend_from_slice(part));
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_signs_are_canonical() {
        assert_eq!(unsigned(&[]), [2, 1, 0]);
        assert_eq!(unsigned(&[0, 0]), [2, 1, 0]);
        assert_eq!(unsigned(&[0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(element(4, &[&[7; 127]])[..3], [4, 127, 7]);
        assert_eq!(element(4, &[&[7; 128]])[..4], [4, 0x81, 128, 7]);
        assert_eq!(element(4, &[&[7; 200], &[7; 100]])[..5], [4, 0x82, 1, 44, 7]);
        assert_eq!(ecdsa_signature(&[0, 1, 0x80, 2]), [0x30, 8, 2, 1, 1, 2, 3, 0, 0x80, 2]);
    }
}
