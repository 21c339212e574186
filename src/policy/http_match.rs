//! Istio's HTTPMatchRequest: conditions on one request that hold together.

use serde_json::Value;

use super::Facts;
use crate::matchers::{ClaimPath, Pattern, StringMatch};
use crate::request::{AttributeId, Request};

/// Conditions that all have to hold. One without any holds always.
#[derive(Clone, Debug, Default)]
pub struct HttpMatch {
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

/// How a path has to look.
#[derive(Clone, Debug)]
pub struct UriMatch {
    /// The pattern.
    pub pattern: Pattern,
    /// Whether case does not count.
    pub ignore_case: bool,
}

impl HttpMatch {
    /// Whether all conditions hold.
    pub fn is_match(&self, request: &Request, facts: &Facts) -> bool {
        let holds = |pattern: &Option<Pattern>, value: &[u8]| {
            pattern.as_ref().is_none_or(|pattern| pattern.is_match(value))
        };
        self.uri.as_ref().is_none_or(|uri| uri.is_match(request.path()))
            && holds(&self.method, request.method())
            && holds(&self.authority, request.authority())
            && holds(&self.scheme, request.scheme())
            && self.port.is_none_or(|(id, port)| request.number(id) == Some(port.into()))
            && self.headers.iter().all(|(name, value)| value.any_match(request.header_values(name)))
            && self
                .without_headers
                .iter()
                .all(|(name, pattern)| !request.header_values(name).any(|value| pattern.is_match(value)))
            && self.query_params.iter().all(|(name, value)| value.any_match(request.query_values(name)))
            && self.cookies.iter().all(|(name, value)| value.any_match(request.cookie_values(name)))
            && self.claims.iter().all(|(path, value)| match value {
                StringMatch::Present(pattern) => claim_matches(facts.claim(path), pattern),
                StringMatch::Absent => !claim_matches(facts.claim(path), &Pattern::Any),
            })
            && self.without_claims.iter().all(|(path, pattern)| !claim_matches(facts.claim(path), pattern))
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

/// Whether a claim is a string that matches or a list that has one, as in Istio's claim based routing. Numbers and
/// booleans match no text; any value but `null` is present.
fn claim_matches(claim: Option<&Value>, pattern: &Pattern) -> bool {
    match (claim, pattern) {
        (None | Some(Value::Null), _) => false,
        (Some(_), Pattern::Any) => true,
        (Some(Value::String(text)), _) => pattern.is_match(text.as_bytes()),
        (Some(Value::Array(list)), _) => {
            list.iter().filter_map(Value::as_str).any(|text| pattern.is_match(text.as_bytes()))
        }
        (Some(_), _) => false,
    }
}
