//! One issuer's tokens: what is checked besides the signature.

use std::rc::Rc;

use serde_json::Value;

use super::{Algorithms, Failure, KeySource, Locations, Output, Parsed, RequiredClaims, Status};
use crate::matchers::claim::Claims;
use crate::matchers::{ClaimPath, StringMatch};
use crate::policy::Token;
use crate::request::Request;

/// One issuer, its keys, and what becomes of its tokens.
#[derive(Debug)]
pub struct Rule {
    /// What requirements call it.
    pub name: Rc<str>,
    /// How `iss` has to look: any of these.
    pub issuers: Vec<StringMatch>,
    /// The audiences; none are looked at where this is empty.
    pub audiences: Audiences,
    /// Where its keys come from.
    pub keys: KeySource,
    /// Where its tokens stand.
    pub locations: Locations,
    /// Whether the upstream gets the token, too.
    pub forward_original_token: bool,
    /// What the upstream gets to hear of it.
    pub output: Output,
    /// Claims with several values in one string.
    pub space_delimited_claims: Vec<SpaceDelimited>,
    /// What may sign.
    pub algorithms: Algorithms,
    /// When a token is good.
    pub validity: Validity,
    /// What its claims must hold.
    pub required_claims: Option<RequiredClaims>,
}

/// The audiences of a rule, as Envoy's jwt_authn filter compares them: without `http://` or `https://` and without
/// one `/` at the end.
#[derive(Clone, Debug, Default)]
pub struct Audiences(Vec<Box<str>>);

impl Audiences {
    /// Keeps what counts of each.
    pub fn new<'a>(audiences: impl IntoIterator<Item = &'a str>) -> Self {
        Audiences(audiences.into_iter().map(|audience| comparable(audience).into()).collect())
    }

    /// Whether one of a token's audiences is among them, or none is asked for.
    pub fn allow<'a>(&self, audiences: impl IntoIterator<Item = &'a str>) -> bool {
        let is_known = |audience| self.0.iter().any(|known| **known == *comparable(audience));
        self.0.is_empty() || audiences.into_iter().any(is_known)
    }
}

fn comparable(audience: &str) -> &str {
    let rest = audience.strip_prefix("http://").or_else(|| audience.strip_prefix("https://"));
    let rest = rest.unwrap_or(audience);
    rest.strip_suffix('/').unwrap_or(rest)
}

/// A claim with several values in one string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceDelimited {
    /// A claim of this very name: Istio has no other.
    pub name: String,
    /// Where there is none, what stands at this path.
    pub path: ClaimPath,
}

impl SpaceDelimited {
    /// Makes the string a list. One value stays a string.
    fn split(&self, claims: &mut Claims) {
        let found = if claims.contains_key(&self.name) {
            claims.get_mut(&self.name)
        } else {
            self.path.find_mut(claims)
        };
        let Some(value) = found else { return };
        let Some(text) = value.as_str() else { return };
        if text.contains(' ') {
            *value = Value::Array(text.split(' ').filter(|part| !part.is_empty()).map(Value::from).collect());
        }
    }
}

/// When a token is good. All in whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validity {
    /// How far clocks may differ.
    pub clock_skew: u64,
    /// Whether there must be an `exp`.
    pub require_expiration: bool,
    /// How long ago `iat` may be.
    pub max_token_age: Option<u64>,
    /// How far ahead `exp` may be.
    pub max_lifetime: Option<u64>,
}

/// The times of a token, in seconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// `nbf`.
    pub not_before: Option<u64>,
    /// `exp`.
    pub expires: Option<u64>,
    /// `iat`.
    pub issued: Option<u64>,
}

impl Validity {
    /// Whether a token's time has come and not gone. A token expires at `exp`, not after it.
    pub fn check_now(&self, times: &Times, now: u64) -> Result<(), Status> {
        if times.not_before.is_some_and(|from| now.saturating_add(self.clock_skew) < from) {
            return Err(Status::JwtNotYetValid);
        }
        if times.expires.is_some_and(|until| now >= until.saturating_add(self.clock_skew)) {
            return Err(Status::JwtExpired);
        }
        Ok(())
    }

    /// Whether a token is neither too old nor good for too long.
    pub fn check_lifetime(&self, times: &Times, now: u64) -> Result<(), Status> {
        let needs_expiration = self.require_expiration || self.max_lifetime.is_some();
        if needs_expiration && times.expires.is_none() {
            return Err(Status::JwtVerificationFail);
        }
        let left = times.expires.map_or(0, |until| until.saturating_sub(now));
        if self.max_lifetime.is_some_and(|most| left >= most) {
            return Err(Status::JwtVerificationFail);
        }
        if let Some(most) = self.max_token_age {
            let Some(issued) = times.issued else { return Err(Status::JwtVerificationFail) };
            if issued > now.saturating_add(self.clock_skew) {
                return Err(Status::JwtNotYetValid);
            }
            if now.saturating_sub(issued) > most.saturating_add(self.clock_skew) {
                return Err(Status::JwtExpired);
            }
        }
        Ok(())
    }

    /// From when on a token cannot be good any more.
    pub fn end(&self, times: &Times) -> u64 {
        times.expires.map_or(u64::MAX, |until| until.saturating_add(self.clock_skew))
    }
}

/// A token whose signature a rule found to be good, with all that a request needs of it prepared.
#[derive(Debug, Default)]
pub struct Verified {
    /// What later policies see.
    pub token: Rc<Token>,
    /// Its `kid`.
    pub kid: Option<Box<str>>,
    /// Its times.
    pub times: Times,
    /// The headers that the upstream gets.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Verified {
    /// Whether both are of one subject of one issuer. A token that names none is of the same subject only as one with all
    /// the same claims.
    pub fn is_of_same_subject(&self, other: &Verified) -> bool {
        let (one, other) = (&self.token.claims, &other.token.claims);
        let both = |name| one.get(name).is_some_and(|value| Some(value) == other.get(name));
        (both("iss") && both("sub")) || one == other
    }
}

impl Rule {
    /// What can be said of a token before its signature is verified, in the order of Envoy's jwt_authn filter.
    pub fn check(&self, parsed: &Parsed, now: u64) -> Result<(), Status> {
        let issuer = parsed.issuer().map(str::as_bytes);
        if !self.issuers.iter().any(|allowed| allowed.is_match(issuer)) {
            return Err(Status::JwtUnknownIssuer);
        }
        let times = times(parsed);
        self.validity.check_now(&times, now)?;
        if !self.audiences.allow(parsed.audiences()) {
            return Err(Status::JwtAudienceNotAllowed);
        }
        self.validity.check_lifetime(&times, now)
    }

    /// Whether a token that was good before still is.
    pub fn check_again(&self, verified: &Verified, now: u64) -> Result<(), Status> {
        self.validity.check_now(&verified.times, now)?;
        self.validity.check_lifetime(&verified.times, now)
    }

    /// Prepares what a request needs of a verified token.
    pub fn accept(&self, parsed: Parsed) -> Verified {
        let headers = self.output.headers(&parsed.claims, parsed.payload().as_bytes());
        let (times, kid, mut claims) = (times(&parsed), parsed.kid, parsed.claims);
        for name in &self.space_delimited_claims {
            name.split(&mut claims);
        }
        Verified { token: Rc::new(Token { rule: self.name.clone(), claims }), kid, times, headers }
    }

    /// Whether the claims hold what they must.
    pub fn check_claims(&self, request: &Request, token: &Token) -> Result<(), Failure> {
        let holds = self.required_claims.as_ref().is_none_or(|required| required.hold(request, token));
        if holds { Ok(()) } else { Err(Failure::Claims) }
    }
}

fn times(parsed: &Parsed) -> Times {
    Times { not_before: parsed.not_before, expires: parsed.expires_at, issued: parsed.issued_at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: u64 = 1_700_000_000;

    fn times(not_before: Option<u64>, expires: Option<u64>, issued: Option<u64>) -> Times {
        Times { not_before, expires, issued }
    }

    #[test]
    fn a_tokens_time_has_come_and_not_gone() {
        for (skew, times, expected) in [
            (0, times(None, None, None), Ok(())),
            (0, times(Some(NOW), Some(NOW + 1), None), Ok(())),
            (0, times(None, Some(NOW), None), Err(Status::JwtExpired)),
            (0, times(Some(NOW + 1), None, None), Err(Status::JwtNotYetValid)),
            (60, times(Some(NOW + 60), Some(NOW - 59), None), Ok(())),
            (60, times(None, Some(NOW - 60), None), Err(Status::JwtExpired)),
            (60, times(Some(NOW + 61), None, None), Err(Status::JwtNotYetValid)),
            (u64::MAX, times(Some(u64::MAX), Some(1), None), Ok(())),
            (60, times(None, Some(u64::MAX), None), Ok(())),
        ] {
            let validity = Validity { clock_skew: skew, ..Validity::default() };
            assert_eq!(validity.check_now(&times, NOW), expected, "{skew} {times:?}");
        }
    }

    #[test]
    fn a_token_is_neither_too_old_nor_good_for_too_long() {
        let fails = Err(Status::JwtVerificationFail);
        let needs_end = Validity { require_expiration: true, ..Validity::default() };
        let short = Validity { max_lifetime: Some(100), ..Validity::default() };
        let young = Validity { max_token_age: Some(100), clock_skew: 10, ..Validity::default() };
        for (validity, times, expected) in [
            (needs_end, times(None, None, None), fails),
            (needs_end, times(None, Some(NOW), None), Ok(())),
            (short, times(None, None, None), fails),
            (short, times(None, Some(NOW + 99), None), Ok(())),
            (short, times(None, Some(NOW + 100), None), fails),
            (young, times(None, None, None), fails),
            (young, times(None, None, Some(NOW - 110)), Ok(())),
            (young, times(None, None, Some(NOW - 111)), Err(Status::JwtExpired)),
            (young, times(None, None, Some(NOW + 10)), Ok(())),
            (young, times(None, None, Some(NOW + 11)), Err(Status::JwtNotYetValid)),
        ] {
            assert_eq!(validity.check_lifetime(&times, NOW), expected, "{validity:?} {times:?}");
        }
    }

    #[test]
    fn audiences_are_compared_without_scheme_and_one_slash() {
        let audiences = Audiences::new(["https://a.example/", "b"]);
        for (audience, expected) in [
            ("a.example", true),
            ("http://a.example", true),
            ("a.example//", false),
            ("http://http://a.example", false),
            ("A.example", false),
            ("https://b", true),
            ("", false),
        ] {
            assert_eq!(audiences.allow([audience]), expected, "{audience}");
        }
        assert!(audiences.allow(["x", "b"]));
        assert!(!audiences.allow([]), "a token without one is for nobody");
        assert!(Audiences::default().allow([]));
    }

    #[test]
    fn several_values_in_one_string_become_a_list() {
        let claims = json!({
            "scope": "read  write ", "one": "read", "number": 1,
            "a.b": "x y", "a": {"b": "x y", "c": "x y", "d.e": "x y"}, "https://a.example/s": "x y",
        });
        let mut claims = claims.as_object().unwrap().clone();
        for name in ["scope", "one", "number", "none", "a.b", "a.c", "[a][d.e]", "https://a.example/s"] {
            SpaceDelimited { name: name.to_owned(), path: ClaimPath::parse(name).unwrap() }
                .split(&mut claims);
        }
        let list = json!(["x", "y"]);
        assert_eq!(
            Value::Object(claims),
            json!({
                "scope": ["read", "write"], "one": "read", "number": 1,
                "a.b": list, "a": {"b": "x y", "c": list, "d.e": list}, "https://a.example/s": list,
            })
        );
    }
}
