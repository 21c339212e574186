use std::collections::HashSet;

use super::common::{SourceUse, header_name, source};
use super::http::ClusterNames;
use super::{Context, Path};
use crate::document::{self, Document, TagPlace};
use meshfilter_core::matchers::PathTemplate;
use meshfilter_core::policy::Source;
use meshfilter_core::policy::metric::ISTIO_LABELS;
use meshfilter_core::policy::telemetry::{
    AttributeKind, Attributes, Counting, Istio, LabelValues, Phase, Tag, TagSource, Telemetry, phase_of,
};

/// How many distinct values a tag tells by default, and at most.
const DEFAULT_MAX_VALUES: usize = 100;
const MOST_VALUES: u32 = 10_000;

/// The labels that every counted request has.
const LABELS: [&str; 4] = ["route", "destination", "decision", "response_code"];

/// Compiles the `telemetry` section.
pub fn compile(document: &Document, cx: &Context<'_>) -> Telemetry {
    let Some(section) = &document.telemetry else { return Telemetry::default() };
    let place = Path::ROOT.field("telemetry");
    let place = place.field("tags");
    let labels = match section.metrics.istio {
        Some(true) => [ISTIO_LABELS.as_slice(), &["response_code"]].concat(),
        _ => LABELS.to_vec(),
    };
    let mut names = HashSet::new();
    let mut headers = HashSet::new();
    let tags = section.tags.iter().enumerate().filter_map(|(index, tag)| {
        let path = place.index(index);
        if let Some(name) = tag.name.as_deref().filter(|name| !names.insert(*name)) {
            cx.errors.add(&path.field("name"), format_args!("\"{name}\" is used twice; give each its own"));
        }
        let compiled = self::tag(tag, &labels, &path, cx)?;
        let header = compiled.upstream.as_ref().or(compiled.downstream.as_ref());
        if let Some(header) = header.filter(|header| !headers.insert((*header).clone())) {
            cx.errors
                .add(&path.field("header"), format_args!("\"{header}\" carries another tag; use another"));
        }
        Some(compiled)
    });
    let tags = tags.collect();
    let document::Metrics { response_code, duration, istio } = section.metrics;
    let counting = Counting {
        response_code: response_code.unwrap_or(true),
        duration: duration.unwrap_or(true),
        istio: (istio == Some(true)).then(|| self::istio(document, cx)),
    };
    Telemetry::new(tags, counting)
}

/// What Istio's labels need.
fn istio(document: &Document, cx: &Context<'_>) -> Istio {
    let attributes = Attributes {
        direction: cx.attribute(&["xds", "listener_direction"]),
        mtls: cx.attribute(&["connection", "mtls"]),
        peer: cx.attribute(&["connection", "uri_san_peer_certificate"]),
    };
    Istio::new(ClusterNames::services(document), attributes)
}

fn tag(tag: &document::Tag, labels: &[&str], path: &Path<'_>, cx: &Context<'_>) -> Option<Tag> {
    let places = places(tag, path, cx);
    let in_metrics = places.contains(&TagPlace::Metrics);
    let to_upstream = places.contains(&TagPlace::Upstream);
    let to_downstream = places.contains(&TagPlace::Downstream);
    let name = name(tag, if in_metrics { labels } else { &[] }, path, cx);
    let header = header(tag, to_upstream || to_downstream, path, cx);
    let value = tag.value.as_ref();
    if value.is_none() {
        cx.errors
            .add(path, "\"value\" is missing; say where the value comes from, such as {header: x-tenant}");
    }
    let source = value_source(value?, to_upstream, to_downstream, &path.field("value"), cx);
    if let (Some(TagSource::Request(Source::Header(from))), Some(header), true) =
        (&source, &header, to_upstream)
        && from == header
    {
        let message =
            "only the filter may set this header, so the tag cannot be read from it; use another name";
        cx.errors.add(&path.field("header"), message);
    }
    let default = tag.default.as_ref().map(|text| Box::from(text.as_bytes()));
    let allowed = allowed(tag, path, cx);
    let max = max_values(tag, in_metrics, source.as_ref(), path, cx);
    let labels = (in_metrics || max.is_some()).then(|| LabelValues::new(&name, max, default.clone()));
    if let Some(header) = header.as_ref().filter(|_| to_upstream) {
        cx.reserve_header(header);
    }
    Some(Tag {
        overflows: Tag::overflow_counter(&name),
        source: source?,
        default,
        allowed,
        labels,
        in_metrics,
        in_logs: places.contains(&TagPlace::Logs),
        upstream: header.clone().filter(|_| to_upstream),
        downstream: header.filter(|_| to_downstream),
        name,
    })
}

fn places<'a>(tag: &'a document::Tag, path: &Path<'_>, cx: &Context<'_>) -> &'a [TagPlace] {
    let places = tag.places.as_deref().unwrap_or(&[TagPlace::Metrics, TagPlace::Logs]);
    let path = path.field("in");
    if places.is_empty() && !cx.errors.any_within(&path) {
        cx.errors
            .add(&path, "an empty list sends the tag nowhere; use metrics, logs, upstream or downstream");
    }
    places
}

/// A tag's name is a label of Prometheus, a key of filter state and a part of a regular expression in Envoy's
/// bootstrap: all of them take letters, digits and underscores.
fn name(tag: &document::Tag, taken: &[&str], path: &Path<'_>, cx: &Context<'_>) -> String {
    let Some(name) = tag.name.as_deref() else {
        cx.errors.add(path, "\"name\" is missing; a tag needs one, such as tenant");
        return String::new();
    };
    let path = path.field("name");
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !name.bytes().all(word)
        || name.starts_with("__")
        || name.bytes().next().is_none_or(|first| first.is_ascii_digit())
    {
        cx.errors.add(
            &path,
            format_args!(
                "\"{name}\" is not a tag's name; use letters, digits and underscores, a letter or one underscore first"
            ),
        );
    }
    if taken.contains(&name) {
        cx.errors.add(
            &path,
            format_args!("every metric has a label \"{name}\" already; use another name, or in: [logs]"),
        );
    }
    name.to_owned()
}

/// The header that carries the tag.
fn header(tag: &document::Tag, wanted: bool, path: &Path<'_>, cx: &Context<'_>) -> Option<String> {
    let Some(given) = tag.header.as_deref() else {
        if wanted {
            cx.errors.add(path, "\"header\" is missing; upstream and downstream need one, such as x-tenant");
        }
        return None;
    };
    let path = path.field("header");
    if !wanted {
        cx.errors.add(&path, "a header goes nowhere; add upstream or downstream to \"in\", or leave it out");
    }
    let name = header_name(given, &path, cx);
    let taken = ["x-envoy-", "x-forwarded-", "x-meshfilter-"];
    if !name.starts_with("x-")
        || taken.iter().any(|prefix| name.starts_with(prefix))
        || name == "x-request-id"
    {
        cx.errors.add(
            &path,
            format_args!(
                "\"{given}\" is not a tag's header; use x-… that neither Envoy nor this filter uses"
            ),
        );
    }
    Some(name)
}

fn allowed(tag: &document::Tag, path: &Path<'_>, cx: &Context<'_>) -> Option<HashSet<Box<[u8]>>> {
    let values = tag.values.as_ref()?;
    if values.is_empty() {
        cx.errors
            .add(&path.field("values"), "an empty list tells no value; list those to tell, or leave it out");
    }
    Some(values.iter().map(|value| Box::from(value.as_bytes())).collect())
}

/// How many distinct values are told. What the document bounds by itself needs no limit.
fn max_values(
    tag: &document::Tag,
    in_metrics: bool,
    source: Option<&TagSource>,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Option<usize> {
    if let Some(max) = tag.max_values {
        if !(1..=MOST_VALUES).contains(&max) {
            cx.errors.add(
                &path.field("maxValues"),
                format_args!("{max} is not a number of values; use 1 to {MOST_VALUES}"),
            );
        }
        return usize::try_from(max).ok();
    }
    let bounded = matches!(
        source,
        Some(
            TagSource::PathTemplate(_)
                | TagSource::Route
                | TagSource::Destination
                | TagSource::Decision
                | TagSource::Request(Source::Literal(_))
        )
    );
    (in_metrics && tag.values.is_none() && !bounded).then_some(DEFAULT_MAX_VALUES)
}

fn value_source(
    value: &document::Source,
    to_upstream: bool,
    to_downstream: bool,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Option<TagSource> {
    let errors = cx.errors.count();
    let mut given: Vec<TagSource> = Vec::new();
    for (flag, name, kind) in [
        (value.route, "route", TagSource::Route),
        (value.destination, "destination", TagSource::Destination),
        (value.decision, "decision", TagSource::Decision),
    ] {
        if flag == Some(false) {
            cx.errors.add(&path.field(name), "false asks for nothing; use true or leave it out");
        }
        given.extend(flag.map(|_| kind));
    }
    if let Some(templates) = &value.path_template {
        given.push(TagSource::PathTemplate(path_templates(templates, &path.field("pathTemplate"), cx)));
    }
    if let Some(name) = &value.response_header {
        let path = path.field("responseHeader");
        let name = header_name(name, &path, cx);
        refuse_late(to_upstream, &path, cx);
        given.push(TagSource::ResponseHeader(name));
    }
    if let Some(name) = &value.environment {
        given.push(TagSource::Request(Source::Literal(environment(name, &path.field("environment"), cx))));
    }
    if let Some(name) = &value.property {
        given.extend(attribute(name, to_upstream, to_downstream, &path.field("property"), cx));
    }
    if value.default.is_some() {
        cx.errors.add(&path.field("default"), "a tag's default stands beside its value; move it there");
    }
    // The property was looked after above.
    let common = document::Source { property: None, ..value.clone() };
    given.extend(source(&common, SourceUse::Telemetry, path, cx).map(TagSource::Request));
    match given.len() {
        0 if cx.errors.count() == errors => {
            cx.errors.add(path, "no source; use one, such as {header: x-tenant} or {claim: tenant}");
        }
        0 | 1 => {}
        _ => cx.errors.add(path, "more than one source; keep one"),
    }
    given.into_iter().next()
}

fn path_templates(templates: &[String], path: &Path<'_>, cx: &Context<'_>) -> Vec<(PathTemplate, Box<[u8]>)> {
    if templates.is_empty() {
        cx.errors.add(path, "an empty list fits no path; use templates such as /users/{*}");
    }
    let parse = |(index, text): (usize, &String)| match PathTemplate::parse(text) {
        Ok(template) => Some((template, text.as_bytes().into())),
        Err(error) => {
            cx.errors.add(&path.index(index), error);
            None
        }
    };
    templates.iter().enumerate().filter_map(parse).collect()
}

/// A variable of the plugin's environment never changes: it is a literal.
fn environment(name: &str, path: &Path<'_>, cx: &Context<'_>) -> Box<[u8]> {
    let value = cx.environment(name);
    if value.is_none() {
        cx.warn(path, format_args!("the plugin's environment has no {name}; the tag has no value"));
    }
    value.unwrap_or_default().into_bytes().into()
}

/// An attribute of the proxy: those that only the response or the end of the stream settles are read then.
fn attribute(
    name: &str,
    to_upstream: bool,
    to_downstream: bool,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Option<TagSource> {
    let parts: Vec<&str> = name.split('.').collect();
    if parts.contains(&"") {
        cx.errors.add(path, format_args!("\"{name}\" is not an attribute; use one such as xds.route_name"));
        return None;
    }
    let kind = AttributeKind::of(name);
    let owned = || parts.iter().map(|&part| part.to_owned()).collect();
    let phase = phase_of(name, to_upstream, to_downstream);
    if phase != Phase::Decided {
        refuse_late(to_upstream, path, cx);
    }
    Some(match phase {
        Phase::Decided => TagSource::Attribute(cx.attribute(&parts), kind),
        Phase::Response => TagSource::LateAttribute(owned(), kind),
        Phase::End => {
            if to_downstream {
                cx.errors.add(
                    path,
                    "the response is gone when this is known; take downstream out of \"in\", or use another source",
                );
            }
            TagSource::LastAttribute(owned(), kind)
        }
    })
}

fn refuse_late(to_upstream: bool, path: &Path<'_>, cx: &Context<'_>) {
    if to_upstream {
        cx.errors.add(
            path,
            "the request is gone when this is known; take upstream out of \"in\", or use another source",
        );
    }
}

#[cfg(test)]
mod tests;
