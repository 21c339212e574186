//! Header operations.

use std::borrow::Cow;

use super::super::common::header_name;
use crate::compile::{Context, Path};
use crate::document;
use meshfilter_core::policy::routing::upstream::ORIGINAL_HOST;
use meshfilter_core::request::HeaderEdit;

/// Compiled operations, in the order in which they are made.
#[derive(Default)]
pub struct Operations {
    pub request: Vec<HeaderEdit>,
    pub response: Vec<HeaderEdit>,
    /// The host, which is set like a header and is none.
    pub authority: Option<Box<[u8]>>,
}

/// Compiles header operations. As in Istio, `host` and `:authority` among the request's headers are the host.
pub fn compile(source: Option<&document::HeaderOperations>, path: &Path<'_>, cx: &Context<'_>) -> Operations {
    let mut operations = Operations::default();
    let Some(source) = source else { return operations };
    let request = source.request.as_ref();
    operations.authority = request.and_then(|request| authority(request, &path.field("request"), cx));
    if let Some(request) = request {
        operations.request = changes(request, true, &path.field("request"), cx);
    }
    if let Some(response) = &source.response {
        operations.response = changes(response, false, &path.field("response"), cx);
    }
    operations
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

fn authority(source: &document::HeaderChanges, path: &Path<'_>, cx: &Context<'_>) -> Option<Box<[u8]>> {
    let given: Vec<&String> = [&source.set, &source.add]
        .into_iter()
        .flatten()
        .filter(|(name, _)| is_authority(name))
        .map(|(_, value)| value)
        .collect();
    if given.len() > 1 {
        cx.errors.add(path, "more than one host; keep one");
    }
    if !given.is_empty() {
        cx.reserve_header(ORIGINAL_HOST);
    }
    given.first().map(|value| self::value(value, path, cx).into())
}

fn changes(
    source: &document::HeaderChanges,
    is_request: bool,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Vec<HeaderEdit> {
    let mut edits = Vec::new();
    let place = path.field("remove");
    for (index, name) in source.remove.iter().enumerate() {
        edits.extend(self::name(name, false, &place.index(index), cx).map(HeaderEdit::Remove));
    }
    let place = path.field("set");
    for (header, value) in &source.set {
        let place = place.key(header);
        let value = self::value(value, &place, cx);
        edits.extend(name(header, is_request, &place, cx).map(|name| HeaderEdit::Set(name, value)));
    }
    let place = path.field("add");
    for (header, value) in &source.add {
        let place = place.key(header);
        let value = self::value(value, &place, cx);
        edits.extend(name(header, is_request, &place, cx).map(|name| HeaderEdit::Add(name, value)));
    }
    edits
}

/// The name of a header that may be changed so; the host is none, and is dealt with elsewhere where it is allowed.
fn name(text: &str, may_be_host: bool, path: &Path<'_>, cx: &Context<'_>) -> Option<Cow<'static, str>> {
    let name = header_name(text, path, cx);
    if is_authority(&name) {
        if !may_be_host {
            cx.errors.add(
                path,
                "the host cannot be changed here; set it in headers.request or by rewrite.authority",
            );
        }
        return None;
    }
    if name.starts_with(':') {
        cx.errors.add(
            path,
            format_args!("\"{text}\" is not a header that may be changed; use rewrite or redirect"),
        );
        return None;
    }
    if name.starts_with("x-meshfilter-") {
        cx.errors.add(path, format_args!("\"{text}\" is the filter's own; use route and mirrors"));
        return None;
    }
    Some(Cow::Owned(name))
}

/// A value. In Envoy `%…%` is filled in; a plugin cannot do that, so it is refused, and `%%` is a percent sign.
fn value(text: &str, path: &Path<'_>, cx: &Context<'_>) -> Vec<u8> {
    if text.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        cx.errors.add(path, "a line break or NUL cannot stand in a header; leave it out");
    }
    if text.split("%%").any(has_operator) {
        cx.errors.add(
            path,
            "a plugin cannot fill in Envoy's %…% operators; write a fixed value, and %% for a percent sign",
        );
    }
    text.replace("%%", "%").into_bytes()
}

/// Whether there is a `%WORD%` or a `%WORD(…)%`.
fn has_operator(text: &str) -> bool {
    let mut parts = text.split('%').skip(1).peekable();
    while let Some(part) = parts.next() {
        let word = part.bytes().take_while(|byte| byte.is_ascii_uppercase() || *byte == b'_').count();
        let rest = part.as_bytes().get(word..).unwrap_or_default();
        if word > 1 && parts.peek().is_some() && matches!(rest.first(), None | Some(b'(' | b':')) {
            return true;
        }
    }
    false
}
