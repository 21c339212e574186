//! Answers that an entry gives by itself: redirect, direct response, CORS.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::common::{check_body, string_match};
use super::super::http_match::always_there;
use crate::compile::{Context, Path};
use crate::document::{self, DerivePort, UnmatchedPreflights};
use meshfilter_core::matchers::{Pattern, StringMatch};
use meshfilter_core::policy::routing::answer::{DirectResponse, Redirect, RedirectPath, RedirectPort};
use meshfilter_core::policy::routing::cors::{Allowed, Cors};

/// Compiles a redirect.
pub fn redirect(source: &document::Redirect, path: &Path<'_>, cx: &Context<'_>) -> Redirect {
    let document::Redirect { uri, prefix_rewrite, authority, port, derive_port, scheme, redirect_code } =
        source;
    if uri.is_none()
        && prefix_rewrite.is_none()
        && authority.is_none()
        && port.is_none()
        && derive_port.is_none()
        && scheme.is_none()
    {
        cx.warn(
            path,
            "a redirect to the same address, where the client will ask again; add uri, prefixRewrite, authority, port or scheme",
        );
    }
    for (text, name) in [(uri, "uri"), (authority, "authority")] {
        let breaks = |byte: u8| byte.is_ascii_control() || byte == b' ';
        if text.as_ref().is_some_and(|text| text.is_empty() || text.bytes().any(breaks)) {
            cx.errors.add(
                &path.field(name),
                "empty, or with spaces or control characters in it; use a part of a URL",
            );
        }
    }
    if let Some(scheme) = scheme
        && !["http", "https"].contains(&scheme.as_str())
    {
        cx.errors.add(&path.field("scheme"), format_args!("\"{scheme}\" is not a scheme; use http or https"));
    }
    let status = redirect_code.unwrap_or(301);
    if ![301, 302, 303, 307, 308].contains(&status) {
        cx.errors.add(
            &path.field("redirectCode"),
            format_args!("{status} is not a redirect's status; use 301, 302, 303, 307 or 308"),
        );
    }
    if *port == Some(0) {
        cx.errors.add(&path.field("port"), "0 is not a port; use 1 to 65535");
    }
    let port = match (port, derive_port) {
        (Some(_), Some(_)) => {
            cx.errors.add(&path.field("derivePort"), "beside port; keep one of them");
            RedirectPort::Keep
        }
        (Some(port), None) => RedirectPort::Fixed(*port),
        (None, Some(DerivePort::FromProtocolDefault)) => RedirectPort::Default,
        (None, Some(DerivePort::FromRequestPort)) => {
            RedirectPort::OfRequest(cx.attribute(&["destination", "port"]))
        }
        (None, None) => RedirectPort::Keep,
    };
    let bytes = |text: &String| text.as_bytes().into();
    Redirect {
        status,
        scheme: scheme.as_ref().map(bytes),
        authority: authority.as_ref().map(bytes),
        port,
        path: match (uri, prefix_rewrite) {
            (Some(_), Some(_)) => {
                cx.errors.add(&path.field("prefixRewrite"), "beside uri; keep one of them");
                RedirectPath::Keep
            }
            (Some(uri), None) => RedirectPath::Uri(bytes(uri)),
            (None, Some(prefix)) => RedirectPath::Prefix(bytes(prefix)),
            (None, None) => RedirectPath::Keep,
        },
    }
}

/// Compiles a direct response.
pub fn direct_response(
    source: &document::DirectResponse,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> DirectResponse {
    let status = source.status.unwrap_or_else(|| {
        cx.errors.add(path, "no status; add one from 200 to 599");
        200
    });
    if !(200..600).contains(&status) {
        cx.errors.add(&path.field("status"), format_args!("{status} is not a status; use 200 to 599"));
    }
    let place = path.field("body");
    let body = match &source.body {
        None => Vec::new(),
        Some(document::DirectBody { string: Some(text), bytes: None }) => text.clone().into_bytes(),
        Some(document::DirectBody { string: None, bytes: Some(text) }) => {
            STANDARD.decode(text).unwrap_or_else(|_| {
                cx.errors.add(&place.field("bytes"), "not base64; encode the bytes, with its padding");
                Vec::new()
            })
        }
        Some(_) => {
            cx.errors.add(&place, "a body is one text; use string or bytes");
            Vec::new()
        }
    };
    check_body(status, source.body.is_some(), path, cx);
    DirectResponse { status, body }
}

/// Compiles a CORS policy.
pub fn cors(source: &document::CorsPolicy, path: &Path<'_>, cx: &Context<'_>) -> Cors {
    let any = || Pattern::Any;
    let mut origins = Vec::new();
    match (&source.allow_origins, &source.allow_origin) {
        (Some(given), None) => {
            let place = path.field("allowOrigins");
            for (index, origin) in given.iter().enumerate() {
                // As in Envoy, what matches a star is any site.
                let star = [&origin.exact, &origin.prefix].iter().any(|text| text.as_deref() == Some("*"));
                match always_there(origin, &place.index(index), cx) {
                    Some(_) if star => origins.push(any()),
                    pattern => origins.extend(pattern),
                }
            }
        }
        (None, Some(given)) => {
            let place = path.field("allowOrigin");
            for (index, origin) in given.iter().enumerate() {
                let exact =
                    document::StringMatch { exact: Some(origin.clone()), ..document::StringMatch::default() };
                match string_match(&exact, &place.index(index), cx) {
                    StringMatch::Present(pattern) if origin != "*" => origins.push(pattern),
                    _ => origins.push(any()),
                }
            }
        }
        (Some(_), Some(_)) => {
            cx.errors.add(&path.field("allowOrigin"), "beside allowOrigins; keep one of them")
        }
        (None, None) => {}
    }
    let given = |count: Option<usize>| count.is_some_and(|count| count > 0);
    if !given(source.allow_origins.as_ref().map(Vec::len))
        && !given(source.allow_origin.as_ref().map(Vec::len))
    {
        cx.errors.add(path, "no site is allowed; add allowOrigins");
    }
    let list = |given: &[String], name: &str| {
        for (index, text) in given.iter().enumerate() {
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                let place = path.field(name);
                cx.errors.add(&place.index(index), format_args!("\"{text}\" is not a name; leave it out"));
            }
        }
        given.join(",").into_bytes()
    };
    let allowed = |given: &[String], name: &str| match (given, list(given, name)) {
        ([], _) => Allowed::Unsaid,
        (_, list) if list == b"*" => Allowed::Asked,
        (_, list) => Allowed::List(list.into()),
    };
    Cors {
        origins,
        methods: allowed(&source.allow_methods, "allowMethods"),
        headers: allowed(&source.allow_headers, "allowHeaders"),
        expose: list(&source.expose_headers, "exposeHeaders").into(),
        max_age: source.max_age.map_or_else(Vec::new, |age| age.0.as_secs().to_string().into_bytes()).into(),
        credentials: source.allow_credentials.unwrap_or(false),
        forward_unmatched: source.unmatched_preflights != Some(UnmatchedPreflights::Ignore),
    }
}
