use std::collections::BTreeMap;

use serde_json::{Number, Value};

use super::evaluation::View;
use crate::matchers::{ClaimPath, Truth, host, path};
use crate::request::AttributeId;

/// Something of a request that has a text, or several, or none.
#[derive(Clone, Debug)]
pub enum Attribute {
    /// Every value of the header with this number; see [`Headers`](super::Headers).
    Header(usize),
    /// `:authority`, without case; a port and a dot at its end may count.
    Host,
    /// `:path` with its query, in each reading.
    PathAndQuery,
    /// Every value of a query parameter.
    Query(String),
    /// Every value of a cookie.
    Cookie(String),
    /// The path's segment of that number, from 0.
    PathSegment(usize),
    /// A claim that is a string, or each string of one that is a list.
    Claim(ClaimPath),
    /// `issuer/subject` of the token.
    RequestPrincipal,
    /// The peer's SPIFFE id without `spiffe://`.
    Principal,
    /// The namespace in it.
    Namespace,
    /// `namespace/account` in it.
    ServiceAccount,
    /// The trust domain in it.
    TrustDomain,
    /// The name that the client asked for in the TLS handshake.
    ServerName(AttributeId),
    /// A string in the metadata that another filter left.
    Metadata(AttributeId),
}

impl Attribute {
    /// Whether it is another one in each reading of the path.
    pub fn depends_on_path(&self) -> bool {
        matches!(self, Attribute::PathSegment(_) | Attribute::PathAndQuery)
    }

    /// Whether it is the token's.
    pub fn depends_on_token(&self) -> bool {
        matches!(self, Attribute::Claim(_) | Attribute::RequestPrincipal)
    }

    /// Whether a client can send it more than once.
    fn can_be_repeated(&self) -> bool {
        matches!(self, Attribute::Header(_) | Attribute::Query(_) | Attribute::Cookie(_))
    }

    /// Whether its value passes the test; of several that a client sent, all of them. Where only some do it cannot be
    /// told, and without any value none does. Several that somebody vouched for, such as a claim's, are a set: one of
    /// them has to.
    pub fn every(&self, view: &View<'_, '_>, test: &mut dyn FnMut(&[u8]) -> Truth) -> Truth {
        if !self.can_be_repeated() {
            return self.any(view, test);
        }
        let mut answers = Vec::new();
        self.any(view, &mut |value| {
            answers.push(test(value));
            Truth::No
        });
        Truth::each(answers)
    }

    /// How surely it is each of the texts that it has, and how surely any other. They are read once: a client can send
    /// thousands of values, and thousands to compare them with.
    pub fn texts(&self, view: &View<'_, '_>) -> (BTreeMap<Vec<u8>, Truth>, Truth) {
        let mut texts = BTreeMap::new();
        let otherwise = self.any(view, &mut |text| {
            texts.insert(text.to_vec(), Truth::Yes);
            Truth::No
        });
        let is_sure = |text: &[u8]| match self {
            // What it is without its port alone may be meant.
            Attribute::Host => {
                let evaluation = view.evaluation;
                evaluation.request.header(":authority") == Some(text) || evaluation.host() == Some(text)
            }
            _ => true,
        };
        let is_one = !self.can_be_repeated() || texts.len() == 1;
        for (text, truth) in &mut texts {
            if !(is_one && is_sure(text)) {
                *truth = Truth::Unknown.max(otherwise);
            }
        }
        (texts, otherwise)
    }

    /// Whether one of its values passes the test.
    pub fn any(&self, view: &View<'_, '_>, test: &mut dyn FnMut(&[u8]) -> Truth) -> Truth {
        let evaluation = view.evaluation;
        match self {
            Attribute::Header(slot) => Truth::any(evaluation.header(*slot).iter().map(|value| test(value))),
            Attribute::Host => {
                let raw = evaluation.request.header(":authority");
                let lower = evaluation.host().filter(|lower| raw != Some(*lower));
                Truth::any(raw.into_iter().chain(lower).map(|host| host::passes(host, &mut *test)))
            }
            Attribute::PathAndQuery => Truth::any(view.path.map(|path| {
                let request = evaluation.request;
                let rest = request.path_and_query().get(request.path().len()..).unwrap_or_default();
                test(&[path, rest].concat())
            })),
            Attribute::Query(name) => {
                Truth::any(evaluation.request.query_values(name).map(|value| test(&value)))
            }
            Attribute::Cookie(name) => Truth::any(evaluation.request.cookie_values(name).map(test)),
            Attribute::PathSegment(index) => {
                Truth::any(view.path.and_then(|path| path::segment(path, *index)).map(test))
            }
            Attribute::Claim(path) => match view.claim(path) {
                Some(Value::String(text)) => test(text.as_bytes()),
                Some(Value::Array(items)) => {
                    Truth::any(items.iter().filter_map(Value::as_str).map(|text| test(text.as_bytes())))
                }
                _ => Truth::No,
            },
            Attribute::RequestPrincipal => match view.issuer_and_subject() {
                Some((issuer, subject)) => test(&[issuer, "/", subject].concat().into_bytes()),
                None => Truth::No,
            },
            Attribute::Principal => {
                Truth::any(evaluation.identity().map(|identity| test(identity.principal)))
            }
            Attribute::Namespace => {
                let identity = evaluation.identity();
                Truth::any(identity.iter().flat_map(|identity| &identity.namespaces).map(|name| test(name)))
            }
            Attribute::ServiceAccount => {
                let identity = evaluation.identity();
                Truth::any(
                    identity.iter().flat_map(|identity| &identity.service_accounts).map(|name| test(name)),
                )
            }
            Attribute::TrustDomain => {
                Truth::any(evaluation.identity().and_then(|identity| identity.trust_domain).map(test))
            }
            Attribute::ServerName(id) => Truth::any(evaluation.request.attribute(*id).map(test)),
            Attribute::Metadata(id) => {
                Truth::any(evaluation.request.attribute(*id).filter(|value| is_text(value)).map(test))
            }
        }
    }

    /// Whether it is a claim that is one of these numbers and booleans, or a list that has one.
    pub fn is_scalar(&self, view: &View<'_, '_>, scalars: &[Value]) -> Truth {
        let Attribute::Claim(path) = self else { return Truth::No };
        if scalars.is_empty() {
            return Truth::No;
        }
        let one_of = |value: &Value| scalars.iter().any(|scalar| same_scalar(scalar, value));
        match view.claim(path) {
            Some(Value::Array(items)) => items.iter().any(one_of).into(),
            Some(value) => one_of(value).into(),
            None => Truth::No,
        }
    }
}

/// Whether they are the same boolean, or the same number however it is written: 1 and 1.0 are.
fn same_scalar(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Bool(one), Value::Bool(other)) => one == other,
        (Value::Number(one), Value::Number(other)) => match (exact(one), exact(other)) {
            (Some(one), Some(other)) => one == other,
            (None, None) => one.as_f64() == other.as_f64(),
            _ => false,
        },
        _ => false,
    }
}

/// A whole number.
fn exact(number: &Number) -> Option<i128> {
    let whole = |number: &f64| number.fract() == 0.0 && number.abs() < 1e18;
    let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    integer.or_else(|| number.as_f64().filter(whole).map(|number| number as i128))
}

/// The proxy hands metadata over without its type. A number or a boolean is told from a string by bytes that a
/// string does not have.
fn is_text(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok() && !value.iter().any(u8::is_ascii_control)
}
