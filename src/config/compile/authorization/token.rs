//! What the token says of who asks.

use super::super::Path;
use super::Section;
use super::values::{NOT_EMPTY, refuse_scalar};
use crate::config::document::AuthorizationValue;
use crate::matchers::{TextSet, Wildcard};
use crate::policy::authorization::{Condition, RequestPrincipal, Values};

impl Section<'_> {
    pub(super) fn request_principals(
        &self,
        values: &[AuthorizationValue],
        path: &Path<'_>,
    ) -> Option<Condition> {
        let (mut principals, mut expressions, mut attributes) = (Vec::new(), Vec::new(), Vec::new());
        for (index, value) in values.iter().enumerate() {
            let place = path.index(index);
            match value {
                AuthorizationValue::Text(text) => {
                    if text.is_empty() {
                        self.cx.errors.add(&place, "an empty string matches nothing; leave it out");
                    }
                    principals.push(split(text));
                }
                AuthorizationValue::Regex(regex) => {
                    expressions.extend(NOT_EMPTY.regex(regex, &place.field("regex"), self.cx));
                }
                AuthorizationValue::Attribute(name) => {
                    attributes.extend(self.attribute(name, &place.field("attribute")));
                }
                AuthorizationValue::Scalar(value) => refuse_scalar(value, &place, self.cx),
            }
        }
        let values = Values {
            texts: expressions.into_iter().collect(),
            attributes: attributes.into(),
            ..Values::default()
        };
        Some(Condition::RequestPrincipal(group(principals), values))
    }
}

/// Issuer and subject of a value, as Istio splits it: at the last slash, since an issuer is a URL. A wildcard at the
/// beginning is the issuer's, one at the end the subject's; without a slash it is about that one alone.
fn split(text: &str) -> (Wildcard, Wildcard) {
    let exact = |text: &str| Wildcard::Exact(text.as_bytes().into());
    let parse = |text: &str| Wildcard::parse(text, Wildcard::NotEmpty);
    let parts = text.rsplit_once('/');
    if text == "*" {
        (Wildcard::NotEmpty, Wildcard::NotEmpty)
    } else if text.starts_with('*') {
        match parts {
            Some((issuer, subject)) => (parse(issuer), exact(subject)),
            None => (Wildcard::NotEmpty, parse(text)),
        }
    } else if text.ends_with('*') {
        match parts {
            Some((issuer, subject)) => (exact(issuer), parse(subject)),
            None => (parse(text), Wildcard::NotEmpty),
        }
    } else {
        let (issuer, subject) = parts.unwrap_or((text, ""));
        (exact(issuer), exact(subject))
    }
}

/// Subjects of one issuer are one set, so that a long list of them is looked up.
fn group(principals: Vec<(Wildcard, Wildcard)>) -> Vec<RequestPrincipal> {
    let mut exact: Vec<(Box<[u8]>, Vec<Wildcard>)> = Vec::new();
    let mut grouped = Vec::new();
    for (issuer, subject) in principals {
        match issuer {
            Wildcard::Exact(issuer) => match exact.iter_mut().find(|(known, _)| *known == issuer) {
                Some((_, subjects)) => subjects.push(subject),
                None => exact.push((issuer, vec![subject])),
            },
            issuer => grouped.push(RequestPrincipal {
                issuer: TextSet::from_iter([issuer]),
                subject: TextSet::from_iter([subject]),
            }),
        }
    }
    grouped.extend(exact.into_iter().map(|(issuer, subjects)| RequestPrincipal {
        issuer: TextSet::from_iter([Wildcard::Exact(issuer)]),
        subject: subjects.into_iter().collect(),
    }));
    grouped
}
