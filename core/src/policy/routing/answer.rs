//! Answers that an entry gives by itself.

use super::rewrite::{absolute, replace_prefix};
use crate::host::LocalReply;
use crate::policy::HttpMatch;
use crate::request::{AttributeId, Request, clean, split_path};

/// What Envoy has in `%RESPONSE_CODE_DETAILS%` for both of them.
const DETAILS: &str = "direct_response";

/// A fixed answer.
#[derive(Debug)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// Empty for none.
    pub body: Vec<u8>,
}

/// Another address.
#[derive(Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The request's own if none is given.
    pub scheme: Option<Box<[u8]>>,
    /// The request's own if none is given.
    pub authority: Option<Box<[u8]>>,
    /// Which port.
    pub port: RedirectPort,
    /// Which path.
    pub path: RedirectPath,
}

/// A redirect's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectPort {
    /// What the host has; as in Envoy, the old scheme's own is left out where the scheme changes.
    Keep,
    /// The scheme's own, which is left out.
    Default,
    /// This one, unless it is the scheme's own.
    Fixed(u16),
    /// The one that the client connected to, which this attribute has, unless it is the scheme's own.
    OfRequest(AttributeId),
}

/// A redirect's path.
#[derive(Debug)]
pub enum RedirectPath {
    /// The request's own, and its query.
    Keep,
    /// This one; the request's query follows if it has none itself.
    Uri(Box<[u8]>),
    /// The request's own, but this for the prefix that matched.
    Prefix(Box<[u8]>),
}

impl DirectResponse {
    /// The answer.
    pub fn reply(&self) -> LocalReply {
        LocalReply {
            status: self.status,
            details: DETAILS.to_owned(),
            body: self.body.clone(),
            ..LocalReply::default()
        }
    }
}

impl Redirect {
    /// The answer.
    pub fn reply(&self, request: &Request, matched: Option<&HttpMatch>) -> LocalReply {
        let location = self.location(request, matched);
        LocalReply {
            status: self.status,
            details: DETAILS.to_owned(),
            headers: vec![("location".to_owned(), clean(&location).into_owned())],
            ..LocalReply::default()
        }
    }

    fn location(&self, request: &Request, matched: Option<&HttpMatch>) -> Vec<u8> {
        let scheme = self.scheme.as_deref().unwrap_or(request.scheme());
        let (name, own_port) = split_port(request.authority());
        let default_port: &[u8] = if scheme.eq_ignore_ascii_case(b"https") { b"443" } else { b"80" };
        let port = match self.port {
            RedirectPort::Default => None,
            RedirectPort::Fixed(port) => Some(port.to_string().into_bytes()),
            RedirectPort::OfRequest(id) => request.number(id).map(|port| port.to_string().into_bytes()),
            RedirectPort::Keep if self.authority.is_some() => None,
            RedirectPort::Keep => {
                let old_default: &[u8] =
                    if request.scheme().eq_ignore_ascii_case(b"https") { b"443" } else { b"80" };
                let changed = !request.scheme().eq_ignore_ascii_case(scheme);
                own_port.filter(|port| !(changed && *port == old_default)).map(<[u8]>::to_vec)
            }
        };
        // A port that the client wrote itself stays, as in Envoy.
        let port = port.filter(|port| self.port == RedirectPort::Keep || port != default_port);
        let mut location = [scheme, b"://", self.authority.as_deref().unwrap_or(name)].concat();
        if let Some(port) = port {
            location.push(b':');
            location.extend_from_slice(&port);
        }
        let whole = request.path_and_query();
        let path = split_path(whole).0;
        let rest = whole.get(path.len()..).unwrap_or_default();
        match &self.path {
            RedirectPath::Keep => location.extend_from_slice(whole),
            RedirectPath::Prefix(prefix) => {
                let mut new = replace_prefix(path, matched, prefix);
                absolute(&mut new);
                location.extend_from_slice(&new);
                location.extend_from_slice(rest);
            }
            RedirectPath::Uri(uri) => {
                location.extend_from_slice(uri);
                if !uri.contains(&b'?') {
                    location.extend_from_slice(rest);
                }
            }
        }
        location
    }
}

/// A host and its port; the colons of an IPv6 address in brackets are none of it.
pub fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let at = authority.iter().rposition(|byte| *byte == b':');
    let split = at.and_then(|at| Some((authority.get(..at)?, authority.get(at.checked_add(1)?..)?)));
    match split {
        Some((name, port)) if !port.is_empty() && port.iter().all(u8::is_ascii_digit) => (name, Some(port)),
        _ => (authority, None),
    }
}
