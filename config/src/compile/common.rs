//! What several sections have in common.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use super::meaning::{Meaning, Wanted};
use super::{Context, Path};
use crate::document;
use meshfilter_core::host::LocalReply;
use meshfilter_core::matchers::cidr::Block;
use meshfilter_core::matchers::path::unescape;
use meshfilter_core::matchers::{AddressSet, ClaimPath, FullMatch, Pattern, StringMatch, Subject};
use meshfilter_core::policy::Source;

/// Compiles a string match. In Istio `{}` asks for presence where that makes sense, which is what `Any` is.
pub fn string_match(source: &document::StringMatch, path: &Path<'_>, cx: &Context<'_>) -> StringMatch {
    string_match_about(Meaning::Text, Subject::Text, source, path, cx)
}

/// The same, for something of which it is known what it is, and how it is read.
pub fn string_match_about(
    meaning: Meaning,
    subject: Subject,
    source: &document::StringMatch,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> StringMatch {
    let document::StringMatch { exact, prefix, suffix, contains, regex, present } = source;
    let text = |text: &String| match subject {
        Subject::Path => unescape(text.as_bytes()).into(),
        Subject::Text | Subject::Host => text.as_bytes().into(),
    };
    for (kind, given, starts, ends) in [
        ("exact", exact, true, true),
        ("prefix", prefix, true, false),
        ("suffix", suffix, false, true),
        ("contains", contains, false, false),
    ] {
        if let Some(text) = given {
            let wanted = Wanted { text, starts, ends };
            meaning.check(wanted, &path.field(kind), cx);
            if meaning == Meaning::Host && text.contains('*') {
                let message =
                    format_args!("\"{text}\" never matches: a * is no wildcard here; use suffix or regex");
                cx.warn(&path.field(kind), message);
            }
            if subject == Subject::Path {
                meaning.check_refused(wanted, &path.field(kind), cx);
            }
        }
    }
    let given = [
        exact.as_ref().map(|value| Pattern::Exact(text(value))),
        prefix.as_ref().map(|value| Pattern::Prefix(text(value))),
        suffix.as_ref().map(|value| Pattern::Suffix(text(value))),
        contains.as_ref().map(|value| Pattern::Contains(text(value))),
        regex.as_ref().map(|value| self::regex(subject, value, &path.field("regex"), cx)),
        present.map(|_| Pattern::Any),
    ];
    let mut given = given.into_iter().flatten();
    let pattern = given.next().unwrap_or(Pattern::Any);
    if given.next().is_some() {
        cx.errors.add(
            path,
            "more than one kind of match; keep one of exact, prefix, suffix, contains, regex, present",
        );
    }
    match present {
        Some(false) => StringMatch::Absent,
        _ => StringMatch::Present(pattern),
    }
}

/// Compiles a regular expression that must match the whole value. Istio's `*` is any value.
fn regex(subject: Subject, expression: &str, path: &Path<'_>, cx: &Context<'_>) -> Pattern {
    if expression == "*" {
        return Pattern::Any;
    }
    match FullMatch::about(subject, expression) {
        Ok(expression) => Pattern::Regex(expression),
        Err(error) => {
            cx.errors.add(path, error);
            Pattern::Any
        }
    }
}

/// Refuses the members that stand although a plugin cannot honour them, each with the reason.
pub fn refuse<const N: usize>(
    members: [(&str, Option<document::Unsupported>, &str); N],
    path: &Path<'_>,
    cx: &Context<'_>,
) {
    for (name, given, reason) in members {
        if given.is_some() {
            cx.errors.add(&path.field(name), reason);
        }
    }
}

/// Compiles a list of address blocks, each with its place in the list.
pub fn address_set<'v>(
    blocks: impl Iterator<Item = (usize, &'v String)>,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> AddressSet {
    let parse = |(index, text): (usize, &String)| {
        let place = path.index(index);
        let wrong = |error| {
            if !cx.errors.any_within(&place) {
                cx.errors.add(&place, error);
            }
        };
        Block::parse(text).map_err(wrong).ok()
    };
    blocks.filter_map(parse).collect()
}

/// Compiles a claim's path.
pub fn claim(text: &str, path: &Path<'_>, cx: &Context<'_>) -> Option<ClaimPath> {
    ClaimPath::parse(text).map_err(|error| cx.errors.add(path, error)).ok()
}

/// A header's name in lower case, if it is a token of RFC 9110 or, where allowed, a pseudo-header.
pub fn header_name(text: &str, path: &Path<'_>, cx: &Context<'_>) -> String {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let name = text.strip_prefix(':').unwrap_or(text);
    if name.is_empty() || !name.bytes().all(token) {
        cx.errors
            .add(path, format_args!("\"{text}\" is not a header's name; use letters, digits and dashes"));
    }
    text.to_ascii_lowercase()
}

/// The name under which the proxy keeps a request header that is to be read: for `host` that is `:authority`, the name
/// that HTTP/2 gave it.
pub fn request_header(text: &str, path: &Path<'_>, cx: &Context<'_>) -> String {
    let name = header_name(text, path, cx);
    if name == "host" { ":authority".to_owned() } else { name }
}

/// Reports that a member is missing, unless it is there and could not be read.
pub fn missing(path: &Path<'_>, name: &str, cx: &Context<'_>) {
    if !cx.errors.any_within(&path.field(name)) {
        cx.errors.add(path, format_args!("\"{name}\" is missing; add it"));
    }
}

/// Headers of an answer that the filter gives by itself, their names in lower case.
pub fn reply_headers(
    source: &document::Headers<String>,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Vec<(String, Vec<u8>)> {
    let compile = |(name, value): (&String, &String)| {
        let place = path.key(name);
        if name.starts_with(':') {
            cx.errors.add(&place, "a header that begins with a colon belongs to the proxy; leave it out");
        }
        if ["content-length", "transfer-encoding"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
            cx.errors.add(&place, "the proxy says how long an answer is; leave it out");
        }
        if value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            cx.errors.add(&place, "a header's value has no line ends and no NUL; take them out");
        }
        (header_name(name, &place, cx), value.as_bytes().to_vec())
    };
    source.iter().map(compile).collect()
}

/// Refuses a body beside a status whose answer has none.
pub fn check_body(status: u16, body_is_given: bool, path: &Path<'_>, cx: &Context<'_>) {
    if body_is_given && !LocalReply::may_have_body(status) {
        cx.errors.add(
            &path.field("body"),
            format_args!("an answer of {status} has no body; leave it out or use 200"),
        );
    }
}

/// A share in parts per million, rounded down as Istio does. An absent percentage is none.
pub fn parts_per_million(percent: Option<&document::Percent>, path: &Path<'_>, cx: &Context<'_>) -> u32 {
    let value = percent.and_then(|percent| percent.value).unwrap_or(0.0);
    if !(0.0..=100.0).contains(&value) {
        cx.errors.add(
            &path.field("value"),
            format_args!("{} is not a percentage; use a number from 0 to 100", number_text(value)),
        );
        return 0;
    }
    // In range: at most 1 000 000.
    (value * 10_000.0) as u32
}

/// A number as people write it. JSON's writer is there anyway, and the standard library's for such numbers is large.
fn number_text(number: f64) -> String {
    const SHORT: f64 = 1e15;
    match number.fract() == 0.0 && number.abs() < SHORT {
        true => (number as i64).to_string(),
        false => serde_json::Value::from(number).to_string(),
    }
}

/// The names of a section's entries: the given one or the entry's place, each once.
pub fn names<'a>(
    given: impl Iterator<Item = Option<&'a str>>,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Vec<Rc<str>> {
    let mut seen = HashSet::new();
    given
        .enumerate()
        .map(|(index, name)| {
            let entry = path.index(index);
            let place = entry.to_string();
            let name: Rc<str> = name.unwrap_or(&place).into();
            if name.is_empty() {
                cx.errors.add(&entry.field("name"), "an empty name; leave it out or give one");
            } else if !seen.insert(name.clone()) {
                cx.errors
                    .add(&entry.field("name"), format_args!("\"{name}\" is used twice; give each its own"));
            }
            name
        })
        .collect()
}

/// Which sources are allowed where.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SourceUse {
    /// In the key of a rate limit, or a descriptor.
    RateLimit,
    /// In a tag.
    Telemetry,
}

/// Compiles a source that is known in the request phase; `None` if none of those is given. Telemetry looks after
/// its own kinds.
pub fn source(
    source: &document::Source,
    allowed: SourceUse,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Option<Source> {
    let limits_only = |given: bool, name: &str| {
        if given && allowed == SourceUse::Telemetry {
            cx.errors.add(
                &path.field(name),
                "this belongs in a rate limit's key; a tag has pathTemplate, header or claim",
            );
        }
        given
    };
    let mut found = Vec::new();
    if let Some(text) = &source.literal {
        found.push(Source::Literal(text.as_bytes().into()));
    }
    if let Some(name) = &source.header {
        found.push(Source::Header(request_header(name, &path.field("header"), cx)));
    }
    if let Some(text) = &source.claim {
        found.extend(claim(text, &path.field("claim"), cx).map(Source::Claim));
    }
    if let Some(name) = &source.cookie {
        found.push(Source::Cookie(name.clone()));
    }
    if let Some(name) = &source.query_param {
        found.push(Source::QueryParam(name.clone()));
    }
    if limits_only(source.remote_address.is_some(), "remoteAddress") {
        let address = source.remote_address.unwrap_or_default();
        let place = path.field("remoteAddress");
        let length = |given: Option<u8>, most: u8, name: &str| {
            let given = given.unwrap_or(most);
            if given > most {
                cx.errors.add(&place.field(name), format_args!("{given} is too long; use 0 to {most}"));
            }
            given.min(most)
        };
        found.push(Source::RemoteAddress {
            address: cx.attribute(&["source", "address"]),
            v4_prefix_length: length(address.v4_prefix_length, 32, "v4PrefixLength"),
            v6_prefix_length: length(address.v6_prefix_length, 128, "v6PrefixLength"),
        });
    }
    for (given, name, kind) in
        [(source.path, "path", Source::Path), (source.method, "method", Source::Method)]
    {
        if limits_only(given.is_some(), name) {
            if given == Some(false) {
                cx.errors.add(&path.field(name), "false asks for nothing; use true or leave it out");
            }
            found.push(kind);
        }
    }
    if let Some(name) = &source.property {
        let parts: Vec<&str> = name.split('.').collect();
        if parts.contains(&"") {
            cx.errors.add(
                &path.field("property"),
                format_args!("\"{name}\" is not an attribute; use one such as xds.route_name"),
            );
        }
        found.push(Source::Property(cx.attribute(&parts)));
    }
    if found.len() > 1 {
        cx.errors.add(path, "more than one source; keep one");
    }
    found.into_iter().next()
}

/// A span of time that is none if it is zero.
pub fn positive(
    given: Option<document::Duration>,
    name: &str,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Option<Duration> {
    let duration = given?.0;
    if duration.is_zero() {
        cx.errors.add(&path.field(name), "0s is too short; use a time such as 5s, or leave it out");
    }
    Some(duration)
}
