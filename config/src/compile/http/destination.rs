//! Destinations, their clusters' names and their weights.

use std::collections::HashMap;
use std::fmt::Write;
use std::rc::Rc;

use super::super::common::{claim, request_header};
use super::headers;
use crate::compile::{Context, Path};
use crate::document::{self, Destinations, Document, HttpEntry};
use meshfilter_core::policy::routing::split::{Destination, Split, Sticky, StickyBy};
use meshfilter_core::policy::telemetry::Service;
use meshfilter_json::Errors;

/// How a destination becomes the name of a cluster.
pub struct ClusterNames {
    /// `None` is the default: `{host}|{subset}`, and just `{host}` without a subset.
    pattern: Option<Vec<Part>>,
    /// For destinations without one.
    port: Option<u16>,
}

enum Part {
    Text(String),
    Host,
    Subset,
    Port,
}

impl ClusterNames {
    /// Compiles the document's `destinations`.
    pub fn compile(source: Option<&Destinations>, cx: &Context<'_>) -> Self {
        let path = Path::ROOT.field("destinations");
        let port = source.and_then(|source| source.port);
        if port == Some(0) {
            cx.errors.add(&path.field("port"), "0 is not a port; use 1 to 65535");
        }
        let pattern = source.and_then(|source| source.cluster_name.as_ref());
        let path = path.field("clusterName");
        ClusterNames { pattern: pattern.map(|pattern| parts(pattern, &path, cx)), port }
    }

    /// The name of a destination's cluster; `None` where it takes a port and there is none.
    fn name(&self, host: &str, subset: &str, port: Option<u16>) -> Option<String> {
        let Some(pattern) = &self.pattern else {
            return Some(if subset.is_empty() { host.to_owned() } else { format!("{host}|{subset}") });
        };
        let mut name = String::new();
        for part in pattern {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Host => name.push_str(host),
                Part::Subset => name.push_str(subset),
                Part::Port => {
                    let _ = write!(name, "{}", port.or(self.port)?);
                }
            }
        }
        Some(name)
    }

    /// What stands behind each cluster that the document names by a host.
    pub fn services(document: &Document) -> HashMap<Box<str>, Service> {
        // What is wrong with the section was said where it was compiled.
        let errors = Errors::default();
        let clusters = Self::compile(document.destinations.as_ref(), &Context::new(&|_| None, &errors));
        let routes = document.http.iter().flat_map(|entry| entry.route.iter().flatten());
        let service = |destination: &document::Destination| {
            let host = destination.host.as_deref()?;
            let subset = destination.subset.as_deref().unwrap_or_default();
            let name = clusters.name(host, subset, destination.port.and_then(|port| port.number))?;
            Some((name.into(), Service { host: host.to_owned(), subset: subset.to_owned() }))
        };
        routes.filter_map(|route| service(route.destination.as_ref()?)).collect()
    }
}

fn parts(pattern: &str, path: &Path<'_>, cx: &Context<'_>) -> Vec<Part> {
    if pattern.is_empty() {
        cx.errors.add(path, "an empty pattern; use one such as outbound|{port}|{subset}|{host}");
    }
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some((text, tail)) = rest.split_once('{') {
        parts.push(Part::Text(text.to_owned()));
        let Some((name, tail)) = tail.split_once('}') else {
            cx.errors.add(path, "a \"{\" without its \"}\"; use {host}, {subset} and {port}");
            return parts;
        };
        match name {
            "host" => parts.push(Part::Host),
            "subset" => parts.push(Part::Subset),
            "port" => parts.push(Part::Port),
            other => cx.errors.add(
                path,
                format_args!(
                    "{{{other}}} is not a part of a destination; use {{host}}, {{subset}} and {{port}}"
                ),
            ),
        }
        rest = tail;
    }
    parts.push(Part::Text(rest.to_owned()));
    parts
}

/// The name of a destination's cluster.
pub fn cluster(
    source: Option<&document::Destination>,
    clusters: &ClusterNames,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Rc<str> {
    let Some(source) = source else {
        cx.errors.add(path, "no destination; add destination: {host: …}");
        return Rc::default();
    };
    let document::Destination { host, subset, port, cluster } = source;
    let port = port.and_then(|port| {
        if matches!(port.number, None | Some(0)) {
            cx.errors.add(&path.field("port").field("number"), "a port's number is from 1 to 65535; add it");
        }
        port.number
    });
    for (text, name) in [(host, "host"), (subset, "subset"), (cluster, "cluster")] {
        if text.as_ref().is_some_and(String::is_empty) {
            cx.errors.add(&path.field(name), "an empty name; leave it out or give one");
        }
    }
    match (host, cluster) {
        (None, Some(cluster)) if subset.is_none() && port.is_none() => cluster.as_str().into(),
        (_, Some(_)) => {
            cx.errors.add(
                &path.field("cluster"),
                "a cluster's own name stands in place of host, subset and port; keep either",
            );
            Rc::default()
        }
        (Some(host), None) => {
            let name = clusters.name(host, subset.as_deref().unwrap_or_default(), port);
            let name = name.unwrap_or_else(|| {
                cx.errors.add(
                    path,
                    "no port for the {port} of destinations.clusterName; add port: {number: …}, or destinations.port",
                );
                String::new()
            });
            name.into()
        }
        (None, None) => {
            cx.errors.add(path, "neither host nor cluster; add one");
            Rc::default()
        }
    }
}

/// An entry's destinations.
pub fn split(
    source: &HttpEntry,
    name: &str,
    clusters: &ClusterNames,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Option<Split> {
    let sticky = source.sticky.as_ref().map(|source| sticky(source, &path.field("sticky"), cx));
    let Some(route) = &source.route else {
        if source.sticky.is_some() {
            cx.errors.add(&path.field("sticky"), "there is no route that could be kept to; add one");
        }
        return None;
    };
    let place = path.field("route");
    if route.is_empty() {
        cx.errors.add(&place, "an empty list leads nowhere; leave it out to keep Envoy's own route");
    }
    let mut destinations = Vec::new();
    for (index, source) in route.iter().enumerate() {
        let path = place.index(index);
        let headers = headers::compile(source.headers.as_ref(), &path.field("headers"), cx);
        let destination = Destination {
            cluster: cluster(source.destination.as_ref(), clusters, &path.field("destination"), cx),
            request_headers: headers.request,
            response_headers: headers.response,
            authority: headers.authority,
        };
        let weight = source.weight.unwrap_or(0);
        let weight = u32::try_from(weight).unwrap_or_else(|_| {
            cx.errors.add(
                &path.field("weight"),
                format_args!("{weight} is not a weight; use a whole number from 0{}", most(weight)),
            );
            1
        });
        destinations.push((destination, weight.into()));
    }
    // A weight that could not be read is no 0.
    let is_read = !cx.errors.any_within(&place);
    if is_read && destinations.len() > 1 && destinations.iter().all(|(_, weight)| *weight == 0) {
        cx.errors.add(&place, "all weights are 0; give at least one destination more");
    }
    Some(Split::new(destinations, sticky.flatten().map(|by| Sticky::new(name, by))))
}

/// How far a weight goes, where it went too far.
fn most(weight: i64) -> &'static str {
    if weight > 0 { " to 4294967295" } else { "" }
}

fn sticky(source: &document::Sticky, path: &Path<'_>, cx: &Context<'_>) -> Option<StickyBy> {
    let mut found = Vec::new();
    if let Some(name) = &source.header {
        found.push(StickyBy::Header(request_header(name, &path.field("header"), cx)));
    }
    if let Some(text) = &source.claim {
        found.extend(claim(text, &path.field("claim"), cx).map(StickyBy::Claim));
    }
    if let Some(cookie) = &source.cookie {
        found.push(self::cookie(cookie, &path.field("cookie"), cx));
    }
    match source.source_address {
        Some(true) => found.push(StickyBy::SourceAddress(cx.attribute(&["source", "address"]))),
        Some(false) => {
            cx.errors.add(&path.field("sourceAddress"), "false asks for nothing; use true or leave it out");
        }
        None => {}
    }
    let given = [
        source.header.is_some(),
        source.claim.is_some(),
        source.cookie.is_some(),
        source.source_address.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        cx.errors
            .add(path, "what is kept to must be one thing; use one of header, claim, cookie, sourceAddress");
    }
    found.into_iter().next()
}

fn cookie(source: &document::StickyCookie, path: &Path<'_>, cx: &Context<'_>) -> StickyBy {
    let name = source.name.clone().unwrap_or_default();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        cx.errors.add(
            &path.field("name"),
            format_args!("\"{name}\" is not a cookie's name; use letters, digits, dashes and underscores"),
        );
    }
    let mut attributes = "; Path=/; HttpOnly; SameSite=Lax".to_owned();
    if let Some(ttl) = source.ttl {
        if ttl.0.as_secs() == 0 {
            cx.errors.add(
                &path.field("ttl"),
                "a cookie lives at least 1s; leave it out to keep it for the session",
            );
        }
        let _ = write!(attributes, "; Max-Age={}", ttl.0.as_secs());
    }
    StickyBy::Cookie { name, attributes }
}
