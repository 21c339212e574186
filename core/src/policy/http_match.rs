//! Istio's HTTPMatchRequest: conditions on one request that hold together.

use serde_json::Value;

use super::Facts;
use crate::matchers::{AddressSet, ClaimPath, Pattern, StringMatch, Truth};
use crate::request::{AttributeId, Request};
use crate::trace::{self, Event, Place};

/// Conditions that all have to hold. One without any holds always.
#[derive(Clone, Debug, Default)]
pub struct HttpMatch {
    /// Where it stands in the document.
    pub place: Place,
    /// What it is called in the log.
    pub name: Option<String>,
    /// The path without its query.
    pub uri: Option<UriMatch>,
    /// `:scheme`.
    pub scheme: Option<Pattern>,
    /// `:method`.
    pub method: Option<Pattern>,
    /// `:authority`.
    pub authority: Option<Pattern>,
    /// The port that the client connected to, and the attribute that has it.
    pub port: Option<(AttributeId, u16)>,
    /// The client's address behind trusted proxies.
    pub remote_ip: Option<RemoteIp>,
    /// Headers by their names in lower case.
    pub headers: Vec<(String, StringMatch)>,
    /// Headers of which no value may look so.
    pub without_headers: Vec<(String, Pattern)>,
    /// Query parameters.
    pub query_params: Vec<(String, StringMatch)>,
    /// Cookies.
    pub cookies: Vec<(String, StringMatch)>,
    /// Claims of the verified token.
    pub claims: Vec<(ClaimPath, StringMatch)>,
    /// Claims that may not look so.
    pub without_claims: Vec<(ClaimPath, Pattern)>,
}

/// Where a client may be, or may not.
#[derive(Clone, Debug)]
pub struct RemoteIp {
    /// Its address.
    pub address: AttributeId,
    /// Blocks of which one has to have it.
    pub within: Option<AddressSet>,
    /// Blocks of which none may.
    pub not_within: Option<AddressSet>,
}

/// How a path has to look.
#[derive(Clone, Debug)]
pub struct UriMatch {
    /// The pattern.
    pub pattern: Pattern,
    /// Whether case does not count.
    pub ignore_case: bool,
}

/// What is not known of the request that a match is asked about.
#[derive(Clone, Copy, Debug)]
pub enum Unknown<'a> {
    /// Its claims: there is no good token.
    Claims,
    /// Everything but where it goes: this is the preflight that asks about it.
    AllBut {
        /// Its method.
        method: &'a [u8],
    },
}

impl HttpMatch {
    /// Whether all conditions hold.
    pub fn is_match(&self, request: &Request, facts: &Facts) -> bool {
        let holds = self.address_matches(request, None)
            && self.rest_matches(request)
            && self.claims.iter().all(|(path, value)| {
                let holds = match value {
                    StringMatch::Present(pattern) => has_claim(facts.claim(path), pattern),
                    StringMatch::Absent => !has_claim(facts.claim(path), &Pattern::Any),
                };
                self.told_claim(holds, "claims", path, facts)
            })
            && self.without_claims.iter().all(|(path, pattern)| {
                let holds = !has_claim(facts.claim(path), pattern);
                self.told_claim(holds, "withoutClaims", path, facts)
            });
        trace::tell(|| Event::Match { place: self.place.clone(), holds: holds.into() });
        holds
    }

    /// Whether all conditions may hold, as far as the request is known.
    pub fn may_match(&self, request: &Request, unknown: Unknown<'_>) -> bool {
        match unknown {
            Unknown::Claims => self.address_matches(request, None) && self.rest_matches(request),
            Unknown::AllBut { method } => {
                self.address_matches(request, Some(method))
                    && self.headers.iter().all(|(name, value)| {
                        pseudo_header(request, method, name).is_none_or(|seen| value.any_match([seen]))
                    })
                    && self.without_headers.iter().all(|(name, pattern)| {
                        pseudo_header(request, method, name).is_none_or(|seen| !pattern.is_match(seen))
                    })
            }
        }
    }

    /// Whether a preflight and the request that follows it have all conditions in common.
    pub fn is_of_address(&self) -> bool {
        let pseudo = |name: &str| matches!(name, ":authority" | ":method" | ":path" | ":scheme");
        self.headers.iter().all(|(name, _)| pseudo(name))
            && self.without_headers.iter().all(|(name, _)| pseudo(name))
            && self.cookies.is_empty()
            && self.claims.is_empty()
            && self.without_claims.is_empty()
    }

    /// Whether the conditions hold that a preflight and the request that follows it have in common. The method is the
    /// request's unless it is given.
    fn address_matches(&self, request: &Request, method: Option<&[u8]>) -> bool {
        let told = |name: &'static str, pattern: &Pattern, value: &[u8]| {
            self.told(pattern.is_match(value), name, "", [value])
        };
        self.uri.as_ref().is_none_or(|uri| {
            let path = request.path();
            self.told(uri.is_match(path), "uri", "", [path])
        }) && self
            .method
            .as_ref()
            .is_none_or(|pattern| told("method", pattern, method.unwrap_or_else(|| request.method())))
            && self.authority.as_ref().is_none_or(|pattern| told("authority", pattern, request.authority()))
            && self.scheme.as_ref().is_none_or(|pattern| told("scheme", pattern, request.scheme()))
            && self.port.is_none_or(|(id, port)| {
                let number = request.number(id);
                self.told(number == Some(port.into()), "port", "", number.map(|number| number.to_string()))
            })
            && self.remote_ip.as_ref().is_none_or(|remote| remote.is_match(self, request))
            && self.query_params.iter().all(|(name, value)| {
                let first = || request.query_values(name).take(1);
                self.told(value.any_match(first()), "queryParams", name, first())
            })
    }

    /// Whether the conditions on what else the client sends hold.
    fn rest_matches(&self, request: &Request) -> bool {
        self.headers.iter().all(|(name, value)| {
            let holds = value.any_match(request.header_values(name));
            self.told(holds, "headers", name, request.header_values(name))
        }) && self.without_headers.iter().all(|(name, pattern)| {
            let holds = !request.header_values(name).any(|value| pattern.is_match(value));
            self.told(holds, "withoutHeaders", name, request.header_values(name))
        }) && self.cookies.iter().all(|(name, value)| {
            let holds = value.any_match(request.cookie_values(name));
            self.told(holds, "cookies", name, request.cookie_values(name))
        })
    }

    /// Tells about the condition of this name, and hands on whether it holds.
    #[inline(always)]
    fn told<T: AsRef<[u8]>>(
        &self,
        holds: bool,
        member: &'static str,
        key: &str,
        seen: impl IntoIterator<Item = T>,
    ) -> bool {
        trace::tell(|| {
            let seen = seen.into_iter().map(|value| value.as_ref().to_vec()).collect();
            Event::Condition(trace::Condition::of(&self.place, member, key, holds, seen))
        });
        holds
    }

    #[inline(always)]
    fn told_claim(&self, holds: bool, member: &'static str, path: &ClaimPath, facts: &Facts) -> bool {
        let seen = || facts.claim(path).map(|value| value.to_string().into_bytes()).into_iter().collect();
        trace::tell(|| {
            Event::Condition(trace::Condition::of(&self.place, member, &path.to_string(), holds, seen()))
        });
        holds
    }
}

impl RemoteIp {
    /// Whether the client's address is where it has to be. One that is not known is in no block.
    fn is_match(&self, matched: &HttpMatch, request: &Request) -> bool {
        let address = request.ip(self.address);
        let seen = || address.into_iter().map(|address| address.to_string());
        let has = |blocks: &AddressSet| address.is_some_and(|address| blocks.contains(address));
        self.within.as_ref().is_none_or(|blocks| matched.told(has(blocks), "remoteIpBlocks", "", seen()))
            && self
                .not_within
                .as_ref()
                .is_none_or(|blocks| matched.told(!has(blocks), "notRemoteIpBlocks", "", seen()))
    }
}

impl UriMatch {
    /// Whether a path without its query matches.
    pub fn is_match(&self, path: &[u8]) -> bool {
        match self.ignore_case {
            true => self.pattern.is_match_ignoring_case(path),
            false => self.pattern.is_match(path),
        }
    }
}

/// A pseudo header of the request that a preflight asks about; of its other headers nothing is known.
fn pseudo_header<'a>(request: &'a Request, method: &'a [u8], name: &str) -> Option<&'a [u8]> {
    match name {
        ":authority" => Some(request.authority()),
        ":method" => Some(method),
        ":path" => Some(request.path_and_query()),
        ":scheme" => Some(request.scheme()),
        _ => None,
    }
}

fn has_claim(claim: Option<&Value>, pattern: &Pattern) -> bool {
    any_text(claim, pattern, |pattern, text| pattern.is_match(text).into()) == Truth::Yes
}

/// Whether a claim matches, where a security decision rests on it.
pub fn claim_matches(claim: Option<&Value>, pattern: &Pattern) -> Truth {
    any_text(claim, pattern, |pattern, text| pattern.truth(text, false))
}

/// Whether a claim is a string that passes or a list that has one, as in Istio's claim based routing. Numbers and
/// booleans match no text; any value but `null` is present.
fn any_text(claim: Option<&Value>, pattern: &Pattern, test: impl Fn(&Pattern, &[u8]) -> Truth) -> Truth {
    match (claim, pattern) {
        (None | Some(Value::Null), _) => Truth::No,
        (Some(_), Pattern::Any) => Truth::Yes,
        (Some(Value::String(text)), _) => test(pattern, text.as_bytes()),
        (Some(Value::Array(list)), _) => {
            Truth::any(list.iter().filter_map(Value::as_str).map(|text| test(pattern, text.as_bytes())))
        }
        (Some(_), _) => Truth::No,
    }
}
