//! The `http` section.

mod answer;
mod destination;
mod headers;
mod upstream;

use std::rc::Rc;

use super::{Context, Path, common, fault, http_match};
use crate::document::{Document, HttpEntry};
pub use destination::ClusterNames;
use meshfilter_core::policy::routing::upstream::{AUTHORITY, CLUSTER, Forward, MIRROR_CLUSTERS};
use meshfilter_core::policy::routing::{Action, Entry, EntryHost, Routing};

/// Compiles the `http` section.
pub fn compile(document: &Document, cx: &Context<'_>) -> Routing {
    let clusters = ClusterNames::compile(document.destinations.as_ref(), cx);
    // Even without entries: the route that reads them must never be the client's to choose.
    for name in [CLUSTER, AUTHORITY].iter().chain(&MIRROR_CLUSTERS) {
        cx.reserve_header(name);
    }
    if document.http.is_empty() {
        return Routing::default();
    }
    let section = Path::ROOT.field("http");
    let names = common::names(document.http.iter().map(|entry| entry.name.as_deref()), &section, cx);
    // Those of a host are looked at before.
    let for_all = |entry: &HttpEntry| entry.hosts.is_none();
    let everything = document.http.iter().position(|entry| entry.r#match.is_none() && for_all(entry));
    let hides = |last: &usize| document.http.iter().skip(last.saturating_add(1)).any(for_all);
    if let Some(last) = everything.filter(hides) {
        cx.warn(&section.index(last), "matches every request; the entries after it are never reached");
    }
    let entries = document.http.iter().zip(names).enumerate();
    let compile = |(index, (source, name))| entry(source, name, &clusters, &section.index(index), cx);
    Routing::new(entries.map(compile).collect())
}

fn entry(
    source: &HttpEntry,
    name: Rc<str>,
    clusters: &ClusterNames,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Entry {
    common::refuse(
        [(
            "delegate",
            source.delegate,
            "a plugin does not know other VirtualServices; write their entries here",
        )],
        path,
        cx,
    );
    let place = path.field("match");
    if source.r#match.as_ref().is_some_and(Vec::is_empty) {
        cx.errors.add(&place, "an empty list matches nothing; leave it out to match every request");
    }
    let matches = source.r#match.iter().flatten().enumerate();
    let matches = matches
        .map(|(index, source)| {
            http_match::compile(source, http_match::Purpose::Routing, &place.index(index), cx)
        })
        .collect();
    let headers = headers::compile(source.headers.as_ref(), &path.field("headers"), cx);
    let fault = source.fault.as_ref().map(|source| fault::compile(source, &path.field("fault"), &name, cx));
    let cors = source.cors_policy.as_ref().map(|source| answer::cors(source, &path.field("corsPolicy"), cx));

    let forward = Forward {
        split: destination::split(source, &name, clusters, path, cx),
        request_headers: headers.request,
        rewrite: source
            .rewrite
            .as_ref()
            .and_then(|source| upstream::rewrite(source, &path.field("rewrite"), cx)),
        authority: source
            .rewrite
            .as_ref()
            .and_then(|rewrite| rewrite.authority.as_ref())
            .map(|authority| authority.as_bytes().into())
            .or(headers.authority),
        router_headers: upstream::router_headers(source, path, cx),
        mirrors: upstream::mirrors(source, clusters, path, cx),
    };
    let action = match (&source.redirect, &source.direct_response) {
        (Some(redirect), _) => Action::Redirect(answer::redirect(redirect, &path.field("redirect"), cx)),
        (None, Some(direct)) => {
            Action::DirectResponse(answer::direct_response(direct, &path.field("directResponse"), cx))
        }
        (None, None) => Action::Forward(Box::new(forward)),
    };
    check_that_one_answers(source, path, cx);
    let hosts = hosts(source.hosts.as_deref(), &path.field("hosts"), cx);
    Entry { name, hosts, matches, response_headers: headers.response, cors, fault, action }
}

/// The hosts of an entry.
fn hosts(source: Option<&[String]>, path: &Path<'_>, cx: &Context<'_>) -> Vec<EntryHost> {
    if source.is_some_and(<[String]>::is_empty) {
        cx.errors.add(path, "an empty list is for no host; leave it out for all of them");
    }
    let mut hosts = Vec::new();
    for (index, text) in source.into_iter().flatten().enumerate() {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_prefix("*.").unwrap_or(&lower);
        let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_host = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok() && name == lower,
            None => name.split('.').all(|label| {
                !label.is_empty()
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            }),
        };
        let host = match lower.as_str() {
            "*" => EntryHost::Any,
            _ if !is_host => {
                cx.errors.add(
                    &path.index(index),
                    format_args!(
                        "\"{text}\" is not a host; use one such as a.example.com, *.example.com or *, without a port"
                    ),
                );
                continue;
            }
            _ if name != lower => EntryHost::EndsWith(format!(".{name}").into_bytes().into()),
            _ => EntryHost::Exact(lower.into_bytes().into()),
        };
        if hosts.contains(&host) {
            cx.errors.add(&path.index(index), format_args!("\"{text}\" stands twice; keep one"));
        }
        hosts.push(host);
    }
    hosts
}

/// An entry that answers by itself sends nothing on.
fn check_that_one_answers(source: &HttpEntry, path: &Path<'_>, cx: &Context<'_>) {
    let answer = match (&source.redirect, &source.direct_response) {
        (Some(_), Some(_)) => {
            cx.errors.add(&path.field("directResponse"), "beside a redirect; keep one of them");
            "a redirect"
        }
        (Some(_), None) => "a redirect",
        (None, Some(_)) => "a direct response",
        (None, None) => return,
    };
    for (given, name) in [
        (source.route.is_some(), "route"),
        (source.rewrite.is_some(), "rewrite"),
        (source.timeout.is_some(), "timeout"),
        (source.retries.is_some(), "retries"),
        (source.mirror.is_some(), "mirror"),
        (source.mirrors.is_some(), "mirrors"),
    ] {
        if given {
            cx.errors.add(
                &path.field(name),
                format_args!("beside {answer}, which sends nothing to an upstream; keep one of them"),
            );
        }
    }
}

#[cfg(test)]
mod tests;
