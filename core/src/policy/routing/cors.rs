//! Which other sites' scripts may ask: CORS, as Envoy's cors filter does it.

use crate::host::LocalReply;
use crate::matchers::Pattern;
use crate::policy::Facts;
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

/// What a browser asks before the actual request: whether that may be sent.
#[derive(Clone, Copy, Debug)]
pub struct Preflight<'a> {
    /// The site that asks.
    pub origin: &'a [u8],
    /// The method of the actual request.
    pub method: &'a [u8],
    /// The headers of the actual request.
    pub headers: Option<&'a [u8]>,
}

impl<'a> Preflight<'a> {
    /// The preflight that this request is, by Envoy's rule.
    pub fn of(request: &'a Request) -> Option<Self> {
        let given = |name| request.header(name).filter(|value| !value.is_empty());
        if request.method() != b"OPTIONS" {
            return None;
        }
        Some(Preflight {
            origin: given("origin")?,
            method: given("access-control-request-method")?,
            headers: request.header("access-control-request-headers"),
        })
    }
}

impl Cors {
    fn allows(&self, origin: &[u8]) -> bool {
        origin.len() <= MAX_ORIGIN_LENGTH && self.origins.iter().any(|pattern| pattern.is_match(origin))
    }

    /// Marks every answer to an actual request from a site that may ask. One that was told so once is not to be given
    /// to another site by a cache.
    pub fn mark(&self, request: &Request, facts: &mut Facts) {
        let origin = request.header("origin").filter(|origin| !origin.is_empty() && self.allows(origin));
        let Some(origin) = origin.filter(|_| Preflight::of(request).is_none()) else { return };
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
        // The upstream's own stays.
        facts.response_edits.push(HeaderEdit::Add("vary".into(), b"origin".to_vec()));
    }

    /// The answer to a preflight; `None` where it is left to the upstream.
    pub fn answer(&self, preflight: &Preflight<'_>) -> Option<LocalReply> {
        let allowed = self.allows(preflight.origin);
        if !allowed && self.forward_unmatched {
            return None;
        }
        let mut headers = Vec::new();
        let mut add = |name: &str, value: Option<&[u8]>| {
            headers.extend(value.map(|value| (name.to_owned(), value.to_vec())));
        };
        add("access-control-allow-origin", allowed.then_some(preflight.origin));
        add("access-control-allow-credentials", self.credentials.then_some(b"true".as_slice()));
        add("access-control-allow-methods", self.methods.value(Some(preflight.method)));
        add("access-control-allow-headers", self.headers.value(preflight.headers));
        let expose = Some(&*self.expose).filter(|expose| allowed && !expose.is_empty());
        add("access-control-expose-headers", expose);
        add("access-control-max-age", Some(&*self.max_age).filter(|age| !age.is_empty()));
        add("vary", allowed.then_some(b"origin".as_slice()));
        Some(LocalReply {
            status: 200,
            details: "cors_response".to_owned(),
            headers,
            ..LocalReply::default()
        })
    }
}
