//! Which other sites' scripts may ask: CORS, as Envoy's cors filter does it.

use crate::host::LocalReply;
use crate::matchers::Pattern;
use crate::policy::{Decision, Facts, Step};
use crate::request::{HeaderEdit, Request};

/// No origin is longer, in bytes: the host of a URL has 253. It is kept until the response comes.
const MAX_ORIGIN_LENGTH: usize = 1024;

/// An entry's policy.
#[derive(Debug, Default)]
pub struct Cors {
    /// Sites that may.
    pub origins: Vec<Pattern>,
    /// Methods that they may use.
    pub methods: Allowed,
    /// Headers that they may send.
    pub headers: Allowed,
    /// Headers that they may see; empty for none beyond the standard's.
    pub expose: Box<[u8]>,
    /// Seconds for which a preflight's answer may be kept; empty for the browser's own.
    pub max_age: Box<[u8]>,
    /// Whether they may send cookies.
    pub credentials: bool,
    /// Whether a preflight from another site goes on to the upstream.
    pub forward_unmatched: bool,
}

/// What a preflight is told.
#[derive(Debug, Default)]
pub enum Allowed {
    /// Nothing.
    #[default]
    Unsaid,
    /// What it asks for.
    Asked,
    /// These.
    List(Box<[u8]>),
}

impl Allowed {
    fn value<'a>(&'a self, asked: Option<&'a [u8]>) -> Option<&'a [u8]> {
        match self {
            Allowed::Unsaid => None,
            Allowed::Asked => asked,
            Allowed::List(list) => Some(list),
        }
    }
}

impl Cors {
    /// Answers a preflight; marks every answer to an actual request.
    pub fn apply(&self, request: &Request, facts: &mut Facts) -> Step {
        let possible = |origin: &&[u8]| !origin.is_empty() && origin.len() <= MAX_ORIGIN_LENGTH;
        let Some(origin) = request.header("origin").filter(possible) else {
            return Step::Continue;
        };
        let allowed = self.origins.iter().any(|pattern| pattern.is_match(origin));
        let asked = request.header("access-control-request-method").filter(|method| !method.is_empty());
        let Some(method) = asked.filter(|_| request.method() == b"OPTIONS") else {
            if allowed {
                let mut set = |name: &'static str, value: &[u8]| {
                    facts.response_edits.push(HeaderEdit::Set(name.into(), value.to_vec()));
                };
                set("access-control-allow-origin", origin);
                if self.credentials {
                    set("access-control-allow-credentials", b"true");
                }
                if !self.expose.is_empty() {
                    set("access-control-expose-headers", &self.expose);
                }
            }
            return Step::Continue;
        };
        if !allowed && self.forward_unmatched {
            return Step::Continue;
        }
        let mut headers = Vec::new();
        let mut add = |name: &str, value: Option<&[u8]>| {
            headers.extend(value.map(|value| (name.to_owned(), value.to_vec())));
        };
        add("access-control-allow-origin", allowed.then_some(origin));
        add("access-control-allow-credentials", self.credentials.then_some(b"true".as_slice()));
        add("access-control-allow-methods", self.methods.value(Some(method)));
        let asked = request.header("access-control-request-headers");
        add("access-control-allow-headers", self.headers.value(asked));
        let expose = Some(&*self.expose).filter(|expose| allowed && !expose.is_empty());
        add("access-control-expose-headers", expose);
        add("access-control-max-age", Some(&*self.max_age).filter(|age| !age.is_empty()));
        facts.decision = Decision::DirectResponse;
        Step::Reply(Box::new(LocalReply {
            status: 200,
            details: "cors_response".to_owned(),
            headers,
            ..LocalReply::default()
        }))
    }
}
