/// A signature algorithm of RFC 7518 or RFC 8037: all that Envoy verifies. `none` is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Algorithm; 13] = [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::Es512,
        Algorithm::EdDsa,
        Algorithm::Hs256,
        Algorithm::Hs384,
        Algorithm::Hs512,
    ];

    /// Its name in `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::Es512 => "ES512",
            Algorithm::EdDsa => "EdDSA",
            Algorithm::Hs256 => "HS256",
            Algorithm::Hs384 => "HS384",
            Algorithm::Hs512 => "HS512",
        }
    }

    /// The algorithm of this name; names are compared exactly.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of algorithms: what a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithms {
    /// With every key of their kind.
    any: u16,
    /// With a key whose own `alg` says so.
    marked: u16,
}

impl Algorithms {
    /// Whether an algorithm is allowed with a key that is for `only`.
    pub fn allow(self, algorithm: Algorithm, only: Option<Algorithm>) -> bool {
        let set = if only == Some(algorithm) { self.any | self.marked } else { self.any };
        set & algorithm.bit() != 0
    }
}

/// Every asymmetric algorithm: what a rule allows that says nothing. PS* only with keys that are for it: a proxy does
/// not lend its cryptography for them, and in the module they are the dearest.
impl Default for Algorithms {
    fn default() -> Self {
        let named = |start| bits(Algorithm::ALL.into_iter().filter(|it| it.name().starts_with(start)));
        Algorithms { any: named("RS") | named("ES") | named("Ed"), marked: named("PS") }
    }
}

impl FromIterator<Algorithm> for Algorithms {
    fn from_iter<I: IntoIterator<Item = Algorithm>>(algorithms: I) -> Self {
        Algorithms { any: bits(algorithms), marked: 0 }
    }
}

fn bits(algorithms: impl IntoIterator<Item = Algorithm>) -> u16 {
    algorithms.into_iter().fold(0, |bits, algorithm| bits | algorithm.bit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_and_only_what_is_cheap_is_on_by_default() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
            let (symmetric, dear) = (algorithm.name().starts_with("HS"), algorithm.name().starts_with("PS"));
            let default = Algorithms::default();
            assert_eq!(default.allow(algorithm, None), !symmetric && !dear, "{algorithm:?}");
            assert_eq!(default.allow(algorithm, Some(algorithm)), !symmetric, "{algorithm:?}");
            let listed: Algorithms = [algorithm].into_iter().collect();
            assert!(listed.allow(algorithm, None) && listed.allow(algorithm, Some(algorithm)));
            assert!(!listed.allow(Algorithm::Rs256, None) || algorithm == Algorithm::Rs256);
        }
        for name in ["none", "None", "rs256", "RS256 ", "HS1", "ES256K", "RSA-OAEP", "dir", ""] {
            assert_eq!(Algorithm::from_name(name), None, "{name}");
        }
    }
}
