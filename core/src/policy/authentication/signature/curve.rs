//! The curves of ECDSA (FIPS 186-5, SP 800-186): y² = x³ − 3x + b, modulo a prime.

use rsa::BigUint;

use crate::policy::authentication::Algorithm;

/// A curve that JWA signs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// `P-256`, for ES256.
    P256,
    /// `P-384`, for ES384.
    P384,
    /// `P-521`, for ES512.
    P521,
}

impl Curve {
    /// The curve of this name in `crv`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "P-256" => Some(Curve::P256),
            "P-384" => Some(Curve::P384),
            "P-521" => Some(Curve::P521),
            _ => None,
        }
    }

    /// The algorithm that JWA signs with on it.
    pub fn algorithm(self) -> Algorithm {
        match self {
            Curve::P256 => Algorithm::Es256,
            Curve::P384 => Algorithm::Es384,
            Curve::P521 => Algorithm::Es512,
        }
    }

    /// How many bytes a coordinate has, and each half of a signature.
    pub fn field_length(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }

    /// Whether the point with these coordinates, big endian, lies on it. Nothing here is secret.
    #[expect(clippy::arithmetic_side_effects, reason = "a BigUint grows as it must, and no prime is zero")]
    pub fn has(self, x: &[u8], y: &[u8]) -> bool {
        let (p, b) = self.parameters();
        let [p, b, x, y] = [p, b, x, y].map(BigUint::from_bytes_be);
        if x >= p || y >= p {
            return false;
        }
        // y² + 3x = x³ + b: nothing falls below zero.
        let left = &y * &y + &x + &x + &x;
        let right = &x * &x * &x + b;
        left % &p == right % &p
    }

    /// The prime and `b`, big endian.
    fn parameters(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Curve::P256 => (
                b"\xff\xff\xff\xff\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\
                  \xff\xff\xff\xff\xff\xff\xff\xff",
                b"\x5a\xc6\x35\xd8\xaa\x3a\x93\xe7\xb3\xeb\xbd\x55\x76\x98\x86\xbc\x65\x1d\x06\xb0\xcc\x53\xb0\xf6\
                  \x3b\xce\x3c\x3e\x27\xd2\x60\x4b",
            ),
            Curve::P384 => (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
                  \xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff",
                b"\xb3\x31\x2f\xa7\xe2\x3e\xe7\xe4\x98\x8e\x05\x6b\xe3\xf8\x2d\x19\x18\x1d\x9c\x6e\xfe\x81\x41\x12\
                  \x03\x14\x08\x8f\x50\x13\x87\x5a\xc6\x56\x39\x8d\x8a\x2e\xd1\x9d\x2a\x85\xc8\xed\xd3\xec\x2a\xef",
            ),
            Curve::P521 => (
                b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
                  \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
                  \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                b"\x51\x95\x3e\xb9\x61\x8e\x1c\x9a\x1f\x92\x9a\x21\xa0\xb6\x85\x40\xee\xa2\xda\x72\x5b\x99\xb3\x15\
                  \xf3\xb8\xb4\x89\x91\x8e\xf1\x09\xe1\x56\x19\x39\x51\xec\x7e\x93\x7b\x16\x52\xc0\xbd\x3b\xb1\xbf\
                  \x07\x35\x73\xdf\x88\x3d\x2c\x34\xf1\xef\x45\x1f\xd4\x6b\x50\x3f\x00",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p521::elliptic_curve::sec1::ToEncodedPoint;

    /// Points of keys that RustCrypto makes of small numbers.
    fn points() -> Vec<(Curve, Vec<u8>)> {
        let mut points = Vec::new();
        for n in 1..20_u8 {
            let secret = |length: usize| [vec![0; length - 1], vec![n]].concat();
            let key = p256::SecretKey::from_slice(&secret(32)).unwrap();
            points.push((Curve::P256, key.public_key().to_encoded_point(false).as_bytes().to_vec()));
            let key = p384::SecretKey::from_slice(&secret(48)).unwrap();
            points.push((Curve::P384, key.public_key().to_encoded_point(false).as_bytes().to_vec()));
            let key = p521::SecretKey::from_slice(&secret(66)).unwrap();
            points.push((Curve::P521, key.public_key().to_encoded_point(false).as_bytes().to_vec()));
        }
        points
    }

    #[test]
    fn a_curve_has_its_own_points_and_no_others() {
        for (curve, point) in points() {
            let (x, y) = point[1..].split_at(curve.field_length());
            assert!(curve.has(x, y), "{curve:?} {point:?}");
            assert!(!curve.has(y, x), "{curve:?} {point:?}");
            let other = BigUint::from_bytes_be(y) + 1_u32;
            assert!(!curve.has(x, &other.to_bytes_be()));
            for other in [Curve::P256, Curve::P384, Curve::P521] {
                assert_eq!(other.has(x, y), other == curve, "{other:?}");
            }
            // The same point written as a larger number is none.
            let larger = BigUint::from_bytes_be(x) + BigUint::from_bytes_be(curve.parameters().0);
            assert!(!curve.has(&larger.to_bytes_be(), y));
        }
    }

    #[test]
    fn the_origin_lies_on_none() {
        for curve in [Curve::P256, Curve::P384, Curve::P521] {
            assert!(!curve.has(&[], &[]), "{curve:?}");
        }
    }
}
