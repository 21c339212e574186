//! What the token says of who asks.

use super::super::Path;
use super::Section;
use super::values::{NOT_EMPTY, refuse_scalar};
use crate::document::{AuthorizationValue, JwtRule, StringMatch};
use meshfilter_core::matchers::{TextSet, Truth, Wildcard};
use meshfilter_core::policy::authorization::{Condition, RequestPrincipal, Values};

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
                    principals.push(self.principal(text, &place));
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

impl Section<'_> {
    /// Issuer and subject of a value, and a warning if no rule accepts tokens of that issuer.
    fn principal(&self, text: &str, path: &Path<'_>) -> (Wildcard, Wildcard) {
        let (issuer, subject) = split(text, self.exact_issuers());
        if !text.is_empty() && !self.is_accepted(&issuer) {
            self.cx.warn(
                path,
                format_args!(
                    "\"{text}\" never matches: no jwtRule accepts tokens of the issuer that it names; it is the issuer \
                     of a rule, a slash and the subject"
                ),
            );
        }
        (issuer, subject)
    }

    fn jwt_rules(&self) -> &[JwtRule] {
        self.document.authentication.as_ref().map_or(&[], |section| &section.jwt_rules)
    }

    fn exact_issuers(&self) -> impl Iterator<Item = &str> {
        self.jwt_rules().iter().flat_map(|rule| {
            let listed = rule.issuers.iter().flatten().filter_map(|issuer| issuer.exact.as_deref());
            rule.issuer.as_deref().into_iter().chain(listed)
        })
    }

    /// Whether a rule may accept a token of such an issuer.
    fn is_accepted(&self, wanted: &Wildcard) -> bool {
        let set = TextSet::from_iter([wanted.clone()]);
        let fits = |issuer: &StringMatch| match (issuer, wanted) {
            (StringMatch { exact: Some(exact), .. }, _) => set.matches(exact.as_bytes()) != Truth::No,
            (StringMatch { prefix: Some(prefix), .. }, Wildcard::Exact(text)) => {
                text.starts_with(prefix.as_bytes())
            }
            (StringMatch { suffix: Some(suffix), .. }, Wildcard::Exact(text)) => {
                text.ends_with(suffix.as_bytes())
            }
            // Which issuers these are is not said.
            (issuer, _) => issuer.present != Some(false),
        };
        self.jwt_rules().iter().any(|rule| {
            let is_it =
                rule.issuer.as_ref().is_some_and(|issuer| set.matches(issuer.as_bytes()) != Truth::No);
            is_it || rule.issuers.iter().flatten().any(fits)
        })
    }
}

/// Issuer and subject of a value. It is split behind the longest configured issuer that it begins with, since subjects
/// have slashes, too; else as Istio splits it, at the last slash, since an issuer is a URL. A wildcard at the beginning
/// is the issuer's, one at the end the subject's; without a slash it is about that one alone.
fn split<'i>(text: &str, issuers: impl Iterator<Item = &'i str>) -> (Wildcard, Wildcard) {
    let exact = |text: &str| Wildcard::Exact(text.as_bytes().into());
    let parse = |text: &str| Wildcard::parse(text, Wildcard::NotEmpty);
    if text == "*" {
        return (Wildcard::NotEmpty, Wildcard::NotEmpty);
    }
    let behind = |issuer: &str| text.strip_prefix(issuer)?.strip_prefix('/').map(str::len);
    if let Some(subject) = issuers.filter_map(behind).min()
        && let Some((issuer, subject)) = text.split_at_checked(text.len().saturating_sub(subject))
    {
        return (exact(issuer.strip_suffix('/').unwrap_or(issuer)), parse_end(subject));
    }
    let parts = text.rsplit_once('/');
    if text.starts_with('*') {
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

/// A subject: only at its end a `*` is a wildcard.
fn parse_end(text: &str) -> Wildcard {
    match text.strip_suffix('*') {
        Some("") => Wildcard::NotEmpty,
        Some(start) => Wildcard::Prefix(start.as_bytes().into()),
        None => Wildcard::Exact(text.as_bytes().into()),
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
