use serde_json::Value;

use super::super::meaning::{Meaning, Wanted};
use super::super::{Context, Path};
use crate::document::AuthorizationValue;
use meshfilter_core::matchers::path::unescape_text;
use meshfilter_core::matchers::{ByteMatch, Subject, TextSet, Wildcard};

/// How the strings of a list are meant.
#[derive(Clone, Copy)]
pub struct Strings {
    /// What a lone `*` stands for.
    pub star: fn() -> Wildcard,
    /// What they are compared with. Hosts are compared in lower case.
    pub meaning: Meaning,
}

/// A present value, even an empty one.
pub const PRESENT: Strings = Strings { star: || Wildcard::Present, meaning: Meaning::Text };

/// A value that is not empty.
pub const NOT_EMPTY: Strings = Strings { star: || Wildcard::NotEmpty, meaning: Meaning::Text };

/// Hosts ignore case.
pub const HOSTS: Strings = Strings { meaning: Meaning::Host, ..PRESENT };

/// The values of headers.
pub const HEADERS: Strings = Strings { meaning: Meaning::Header, ..PRESENT };

/// Paths come with their unreserved characters resolved, so a rule's are, too.
pub const PATHS: Strings = Strings { meaning: Meaning::Path, ..NOT_EMPTY };

/// A list that stands must have something in it: Istio takes an empty one for an absent one, which matches more.
pub fn list<'a, T>(given: &'a Option<Vec<T>>, path: &Path<'_>, cx: &Context<'_>) -> Option<&'a [T]> {
    let list = given.as_deref()?;
    if list.is_empty() {
        if !cx.errors.any_within(path) {
            cx.errors.add(path, "an empty list matches nothing; leave it out or say what it matches");
        }
        return None;
    }
    Some(list)
}

impl Strings {
    /// Compiles a string with Istio's wildcards.
    pub fn text(&self, text: &str, path: &Path<'_>, cx: &Context<'_>) -> Wildcard {
        if text.is_empty() {
            cx.errors.add(path, "an empty string matches nothing; leave it out");
        }
        if let Some(wanted) = Wanted::of(text).filter(|_| !text.is_empty()) {
            self.meaning.check(wanted, path, cx);
        }
        let inner = text.strip_prefix('*').or_else(|| text.strip_suffix('*')).unwrap_or(text);
        if inner.contains('*') {
            cx.warn(
                path,
                format_args!(
                    "\"{text}\" has a * that stands for itself; only one at the beginning or the end is a wildcard, \
                     {{regex: …}} takes any pattern"
                ),
            );
        }
        let star = (self.star)();
        match self.meaning.subject() {
            Subject::Text => Wildcard::parse(text, star),
            Subject::Host => Wildcard::parse(&text.to_ascii_lowercase(), star),
            Subject::Path => Wildcard::parse(&unescape_text(text), star),
        }
    }

    /// Compiles a regular expression.
    pub fn regex(&self, expression: &str, path: &Path<'_>, cx: &Context<'_>) -> Option<Wildcard> {
        let compiled = ByteMatch::new(expression, self.meaning.subject());
        compiled.map(Wildcard::Regex).map_err(|error| cx.errors.add(path, error)).ok()
    }

    /// Compiles a list in which no attribute may stand.
    pub fn set(&self, values: &[AuthorizationValue], path: &Path<'_>, cx: &Context<'_>) -> TextSet {
        let wildcard = |(index, value): (usize, &AuthorizationValue)| {
            let place = path.index(index);
            match value {
                AuthorizationValue::Text(text) => Some(self.text(text, &place, cx)),
                other => self.other(other, &place, cx),
            }
        };
        values.iter().enumerate().filter_map(wildcard).collect()
    }

    /// Compiles what is not a plain string, where no attribute may stand.
    pub fn other(&self, value: &AuthorizationValue, path: &Path<'_>, cx: &Context<'_>) -> Option<Wildcard> {
        match value {
            AuthorizationValue::Regex(expression) => self.regex(expression, &path.field("regex"), cx),
            AuthorizationValue::Attribute(_) | AuthorizationValue::Text(_) => {
                cx.errors.add(
                    path,
                    "an attribute does not belong here; compare attributes under when, or use a string",
                );
                None
            }
            AuthorizationValue::Scalar(value) => {
                refuse_scalar(value, path, cx);
                None
            }
        }
    }
}

/// Only a claim is a number or a boolean.
pub fn refuse_scalar(value: &Value, path: &Path<'_>, cx: &Context<'_>) {
    cx.errors
        .add(path, format_args!("only claims have numbers and booleans; write it as a text, \"{value}\""));
}
