use super::common::{address_set, claim, refuse, request_header, string_match, string_match_about};
use super::meaning::Meaning;
use super::{Context, Path};
use crate::document;
use meshfilter_core::matchers::path::unescape;
use meshfilter_core::matchers::{ClaimPath, Pattern, StringMatch, Subject};
use meshfilter_core::policy::{Guard, HttpMatch, RemoteIp, UriMatch};
use meshfilter_core::trace::Place;

/// How Istio spells a claim among the headers.
const CLAIMS: &str = "@request.auth.claims";

/// What hangs on a match.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Where a request goes. It is read once, as Envoy reads it.
    Routing,
    /// Whether it goes at all: a [`Guard`].
    Guarding,
}

impl Purpose {
    /// How a value is read.
    fn subject(self, meaning: Meaning) -> Subject {
        if self == Purpose::Guarding { meaning.subject() } else { Subject::Text }
    }
}

/// Compiles the HTTPMatchRequests that a security decision rests on. Without any, it is about every request.
pub fn guard(sources: Option<&Vec<document::HttpMatch>>, path: &Path<'_>, cx: &Context<'_>) -> Guard {
    if sources.is_some_and(Vec::is_empty) {
        cx.errors.add(path, "an empty list matches nothing; leave it out to match every request");
    }
    let sources = sources.into_iter().flatten().enumerate();
    let matches = sources.map(|(index, source)| compile(source, Purpose::Guarding, &path.index(index), cx));
    Guard { matches: matches.collect(), refuses_ambiguous_paths: cx.refuses_ambiguous_paths }
}

/// Compiles one HTTPMatchRequest.
pub fn compile(
    source: &document::HttpMatch,
    purpose: Purpose,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> HttpMatch {
    refuse(
        [
            (
                "gateways",
                source.gateways,
                "a plugin does not know Istio's gateways; load it into that gateway",
            ),
            (
                "sourceLabels",
                source.source_labels,
                "a plugin does not know the labels of who asks; match a claim, a header or the principal",
            ),
            (
                "sourceNamespace",
                source.source_namespace,
                "a plugin does not know the namespace of who asks; match a claim, a header or the principal",
            ),
            (
                "statPrefix",
                source.stat_prefix,
                "a plugin cannot name Envoy's route statistics; give the entry a name, it is a tag of the metrics",
            ),
        ],
        path,
        cx,
    );
    let value = |source: &Option<document::StringMatch>, name: &str, meaning: Meaning| {
        let subject = purpose.subject(meaning);
        source.as_ref().and_then(|source| always_there_about(meaning, subject, source, &path.field(name), cx))
    };
    let mut compiled = HttpMatch {
        place: Place::of(path),
        name: source.name.clone(),
        uri: source
            .uri
            .as_ref()
            .and_then(|source| uri(source, purpose.subject(Meaning::Path), &path.field("uri"), cx))
            .map(|pattern| UriMatch { pattern, ignore_case: source.ignore_uri_case == Some(true) }),
        scheme: value(&source.scheme, "scheme", Meaning::Scheme),
        method: value(&source.method, "method", Meaning::Method),
        authority: value(&source.authority, "authority", Meaning::Host),
        port: source.port.map(|port| (cx.attribute(&["destination", "port"]), port)),
        remote_ip: remote_ip(source, path, cx),
        ..HttpMatch::default()
    };
    if source.port == Some(0) {
        cx.errors.add(&path.field("port"), "0 is not a port; use 1 to 65535");
    }
    if source.ignore_uri_case.is_some() && source.uri.is_none() {
        cx.errors.add(&path.field("ignoreUriCase"), "there is no uri whose case could count; add one");
    }

    let headers = path.field("headers");
    for (key, value) in &source.headers {
        let place = headers.key(key);
        let value = header_match(key, value, purpose, &place, cx);
        match header_or_claim(key, &place, cx) {
            Some(Named::Header(name)) => compiled.headers.push((name, value)),
            Some(Named::Claim(claim)) => compiled.claims.push((claim, value)),
            None => {}
        }
    }
    let headers = path.field("withoutHeaders");
    for (key, value) in &source.without_headers {
        let place = headers.key(key);
        let StringMatch::Present(pattern) = header_match(key, value, purpose, &place, cx) else {
            cx.errors.add(
                &place.field("present"),
                "false asks here for a header that must be there; use headers with present: true",
            );
            continue;
        };
        match header_or_claim(key, &place, cx) {
            Some(Named::Header(name)) => compiled.without_headers.push((name, pattern)),
            Some(Named::Claim(claim)) => compiled.without_claims.push((claim, pattern)),
            None => {}
        }
    }
    let named = |source: &std::collections::BTreeMap<String, document::StringMatch>, field: &str, meaning| {
        let map = path.field(field);
        let compile = |(name, value): (&String, &document::StringMatch)| {
            let place = map.key(name);
            if name.is_empty() {
                cx.errors.add(&place, "an empty name; give one");
            }
            (name.clone(), string_match_about(meaning, Subject::Text, value, &place, cx))
        };
        source.iter().map(compile).collect()
    };
    compiled.query_params = named(&source.query_params, "queryParams", Meaning::Text);
    compiled.cookies = named(&source.cookies, "cookies", Meaning::Cookie);
    let claims = path.field("claims");
    for (key, value) in &source.claims {
        let place = claims.key(key);
        let value = string_match(value, &place, cx);
        compiled.claims.extend(claim(key, &place, cx).map(|claim| (claim, value)));
    }
    compiled
}

/// How a path has to look.
fn uri(source: &document::UriMatch, subject: Subject, path: &Path<'_>, cx: &Context<'_>) -> Option<Pattern> {
    let document::UriMatch { exact, prefix, path_prefix, suffix, contains, regex, present } = source.clone();
    refuse(
        [("present", present, "a path is always there; use exact, prefix, pathPrefix or regex")],
        path,
        cx,
    );
    let Some(segments) = path_prefix else {
        if present.is_some() {
            return None;
        }
        let text = document::StringMatch { exact, prefix, suffix, contains, regex, present: None };
        return always_there_about(Meaning::Path, subject, &text, path, cx);
    };
    if [exact, prefix, suffix, contains, regex].iter().any(Option::is_some) {
        cx.errors.add(
            path,
            "more than one kind of match; keep one of exact, prefix, pathPrefix, suffix, contains, regex",
        );
    }
    if !segments.starts_with('/') || segments.contains(['?', '#']) {
        cx.errors.add(
            &path.field("pathPrefix"),
            format_args!("\"{segments}\" is not the beginning of a path; use one such as /api"),
        );
    }
    let segments = segments.trim_end_matches('/').as_bytes();
    Some(Pattern::PathPrefix(match subject {
        Subject::Path => unescape(segments).into(),
        Subject::Text | Subject::Host => segments.into(),
    }))
}

/// Where the client may be.
fn remote_ip(source: &document::HttpMatch, path: &Path<'_>, cx: &Context<'_>) -> Option<RemoteIp> {
    let blocks = |given: &Option<Vec<String>>, name: &str| {
        let place = path.field(name);
        if given.as_ref().is_some_and(Vec::is_empty) {
            cx.errors.add(&place, "an empty list; name an address block, or leave it out");
        }
        given.as_ref().map(|given| address_set(given.iter().enumerate(), &place, cx))
    };
    let within = blocks(&source.remote_ip_blocks, "remoteIpBlocks");
    let not_within = blocks(&source.not_remote_ip_blocks, "notRemoteIpBlocks");
    (within.is_some() || not_within.is_some()).then(|| RemoteIp {
        address: cx.attribute(&["source", "address"]),
        within,
        not_within,
    })
}

/// A match of something that is always there, so that presence says nothing.
pub fn always_there(source: &document::StringMatch, path: &Path<'_>, cx: &Context<'_>) -> Option<Pattern> {
    always_there_about(Meaning::Text, Subject::Text, source, path, cx)
}

fn always_there_about(
    meaning: Meaning,
    subject: Subject,
    source: &document::StringMatch,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Option<Pattern> {
    let document::StringMatch { exact, prefix, suffix, contains, regex, present } = source;
    if present.is_some() {
        cx.errors.add(&path.field("present"), "it is always there; use exact, prefix or regex");
    } else if [exact, prefix, suffix, contains, regex].iter().all(|kind| kind.is_none()) {
        cx.errors.add(path, "nothing to match; use exact, prefix, suffix, contains or regex");
    }
    match string_match_about(meaning, subject, source, path, cx) {
        StringMatch::Present(pattern) => Some(pattern),
        StringMatch::Absent => None,
    }
}

/// A match of a header, or of the claim that its name stands for.
fn header_match(
    key: &str,
    source: &document::StringMatch,
    purpose: Purpose,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> StringMatch {
    let meaning =
        if key.starts_with('@') { Meaning::Text } else { Meaning::of_header(&key.to_ascii_lowercase()) };
    string_match_about(meaning, purpose.subject(meaning), source, path, cx)
}

/// What a key of `headers` names.
enum Named {
    Header(String),
    Claim(ClaimPath),
}

fn header_or_claim(key: &str, path: &Path<'_>, cx: &Context<'_>) -> Option<Named> {
    let start = key.get(..CLAIMS.len()).is_some_and(|start| start.eq_ignore_ascii_case(CLAIMS));
    if let Some(rest) = key.get(CLAIMS.len()..).filter(|_| start) {
        let claim_path = match rest.strip_prefix('.') {
            Some(rest) => rest,
            None if rest.starts_with('[') => rest,
            None => {
                cx.errors
                    .add(path, format_args!("\"{key}\" names no claim; use {CLAIMS}.a.b or {CLAIMS}[a][b]"));
                return None;
            }
        };
        return claim(claim_path, path, cx).map(Named::Claim);
    }
    if ["uri", "scheme", "method", "authority"].contains(&key) {
        cx.errors.add(
            path,
            format_args!(
                "Istio ignores \"{key}\" among the headers; use the match's own {key} beside headers"
            ),
        );
    }
    Some(Named::Header(request_header(key, path, cx)))
}

#[cfg(test)]
mod tests;
