use std::cell::{Cell, OnceCell};
use std::slice;

use serde_json::Value;

use super::identity::Identity;
use crate::matchers::ClaimPath;
use crate::matchers::path::Readings;
use crate::policy::Token;
use crate::request::{AttributeId, Request};

/// What rules ask of a request besides its path and its tokens.
#[derive(Debug, Default)]
pub struct Sources {
    /// The names of the headers, in lower case; a rule has their numbers.
    pub headers: Box<[String]>,
    /// The URI in the peer's certificate, if a rule asks for it.
    pub peer_uri: Option<AttributeId>,
}

/// One request while the rules are tried on it. What several of them ask for is read once.
pub struct Evaluation<'a> {
    sources: &'a Sources,
    pub request: &'a Request<'a>,
    pub token: Option<&'a Token>,
    headers: Box<[OnceCell<Repeated<'a>>]>,
    readings: OnceCell<Option<Readings<'a>>>,
    host: OnceCell<Option<Vec<u8>>>,
    identity: OnceCell<Option<Identity<'a>>>,
    /// A rule asked for the direct peer, and the proxy did not hand it over.
    pub peer_is_missing: Cell<bool>,
}

/// The values of a header; mostly there is one.
enum Repeated<'a> {
    One(&'a [u8]),
    Others(Vec<&'a [u8]>),
}

impl<'a> Repeated<'a> {
    fn of(mut values: impl Iterator<Item = &'a [u8]>) -> Self {
        match (values.next(), values.next()) {
            (Some(one), None) => Repeated::One(one),
            (one, two) => Repeated::Others(one.into_iter().chain(two).chain(values).collect()),
        }
    }

    fn values(&self) -> &[&'a [u8]] {
        match self {
            Repeated::One(value) => slice::from_ref(value),
            Repeated::Others(values) => values,
        }
    }
}

/// The request as one reading of its path has it.
#[derive(Clone, Copy)]
pub struct View<'v, 'a> {
    pub evaluation: &'v Evaluation<'a>,
    pub path: Option<&'v [u8]>,
}

impl<'a> Evaluation<'a> {
    pub fn new(sources: &'a Sources, request: &'a Request, token: Option<&'a Token>) -> Self {
        Evaluation {
            sources,
            request,
            token,
            headers: sources.headers.iter().map(|_| OnceCell::new()).collect(),
            readings: OnceCell::new(),
            host: OnceCell::new(),
            identity: OnceCell::new(),
            peer_is_missing: Cell::new(false),
        }
    }

    /// Every value of a header, by its number.
    pub fn header(&self, slot: usize) -> &[&'a [u8]] {
        match (self.headers.get(slot), self.sources.headers.get(slot)) {
            (Some(cell), Some(name)) => {
                cell.get_or_init(|| Repeated::of(self.request.header_values(name))).values()
            }
            _ => &[],
        }
    }

    /// The path's readings; none for a request without a path.
    pub fn readings(&self) -> Option<&Readings<'a>> {
        let read = || self.request.header(":path").map(|_| Readings::of(self.request.path()));
        self.readings.get_or_init(read).as_ref()
    }

    /// `:authority` in lower case.
    pub fn host(&self) -> Option<&[u8]> {
        self.host.get_or_init(|| self.request.header(":authority").map(<[u8]>::to_ascii_lowercase)).as_deref()
    }

    /// Who the peer's certificate says it is.
    pub fn identity(&self) -> Option<&Identity<'a>> {
        let read = || Identity::parse(self.request.attribute(self.sources.peer_uri?)?);
        self.identity.get_or_init(read).as_ref()
    }
}

impl<'v> View<'v, '_> {
    /// A claim of the token.
    pub fn claim(&self, path: &ClaimPath) -> Option<&'v Value> {
        path.find(&self.evaluation.token?.claims)
    }

    /// Issuer and subject of the token, if both are strings.
    pub fn issuer_and_subject(&self) -> Option<(&'v str, &'v str)> {
        let claims = &self.evaluation.token?.claims;
        Some((claims.get("iss")?.as_str()?, claims.get("sub")?.as_str()?))
    }
}
