//! Telemetry → tags, logs, spans.

use serde_json::{Map, Value, json};

use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::read::Resource;

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(field) = top.field("spec") else { return };
    if let Some(reason) = super::superseded(resource, super::SELECTOR, cx) {
        field.no_meaning(&reason);
        field.warn(reason, "keep one");
        return;
    }
    let Some(spec) = field.object() else { return };
    cx.scope.take(&spec, "selector");
    for (index, field) in spec.field("metrics").into_iter().flat_map(|metrics| metrics.items()).enumerate() {
        metrics(&field, index, resource, cx);
    }
    for field in spec.field("accessLogging").into_iter().flat_map(|logs| logs.items()) {
        access_log(&field, cx);
    }
    for field in spec.field("tracing").into_iter().flat_map(|tracing| tracing.items()) {
        tracing(&field, cx);
    }
}

// ---- metrics

fn metrics(field: &Field<'_>, index: usize, resource: &Resource, cx: &mut Context<'_>) {
    let Some(object) = field.object() else { return };
    for (name, field) in providers(&object) {
        match name {
            "prometheus" => field.taken("Envoy's /stats/prometheus"),
            _ => field.refuse(
                format!(
                    "metrics are told to Prometheus, by Envoy's /stats/prometheus, and {name} is not that"
                ),
                "let the collector ask there",
            ),
        }
    }
    if let Some(field) = object.field("reportingInterval") {
        field.no_meaning("it is about TCP");
    }
    for (place, field) in
        object.field("overrides").into_iter().flat_map(|overrides| overrides.items()).enumerate()
    {
        let path = format!("spec.metrics[{index}].overrides[{place}]");
        override_of(&field, &path, resource, cx);
    }
}

/// `providers`, with their names.
fn providers<'a>(object: &Object<'a>) -> Vec<(&'a str, Field<'a>)> {
    let items = object.field("providers").into_iter().flat_map(|providers| providers.items());
    let name = |field: Field<'a>| {
        let name = field.object()?.field("name")?;
        Some((name.text()?, name))
    };
    items.filter_map(name).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Metric {
    All,
    Count,
    Duration,
    Other,
}

fn override_of(field: &Field<'_>, path: &str, resource: &Resource, cx: &mut Context<'_>) {
    let Some(object) = field.object() else { return };
    let mut metric = Metric::All;
    if let Some(of) = object.field("match").and_then(|field| field.object()) {
        if let Some(field) = of.field("metric")
            && let Some(name) = field.text()
        {
            metric = match name {
                "ALL_METRICS" => Metric::All,
                "REQUEST_COUNT" => Metric::Count,
                "REQUEST_DURATION" => Metric::Duration,
                _ => Metric::Other,
            };
            match metric {
                Metric::Other => field.no_meaning("requests are counted and timed; there is no such metric"),
                _ => field.taken("istio_requests_total and istio_request_duration_milliseconds"),
            }
        }
        if let Some(field) = of.field("customMetric") {
            metric = Metric::Other;
            field.refuse("there are no metrics but those of requests and their duration", "leave it out");
        }
        if let Some(field) = of.field("mode") {
            field.taken("the proxy's own side");
        }
    }
    if let Some(field) = object.field("disabled")
        && let Some(disabled) = field.flag()
    {
        match (metric, disabled) {
            (_, false) => field.taken("they are counted as it is"),
            (Metric::All, true) | (Metric::Duration, true) => {
                cx.mesh.metrics.insert("duration".to_owned(), false.into());
                match metric {
                    Metric::All => field.refuse(
                        "requests are counted all the same; only their duration is left out",
                        "leave telemetry out of the policy",
                    ),
                    _ => field.taken("telemetry.metrics.duration: false"),
                }
            }
            (Metric::Count, true) => {
                field.refuse("requests are counted all the same", "leave telemetry out of the policy");
            }
            (Metric::Other, true) => field.no_meaning("there is no such metric"),
        }
    }
    let Some(overrides) = object.field("tagOverrides") else { return };
    for (name, field) in overrides.entries() {
        if metric == Metric::Other {
            field.no_meaning("there is no such metric");
            continue;
        }
        tag(name, &field, path, resource, cx);
    }
}

fn tag(name: &str, field: &Field<'_>, path: &str, resource: &Resource, cx: &mut Context<'_>) {
    let Some(object) = field.object() else { return };
    let (operation, value) = (object.field("operation"), object.field("value"));
    if let Some(operation) = &operation
        && operation.text() == Some("REMOVE")
    {
        match name {
            "response_code" => {
                operation.taken("telemetry.metrics.responseCode: false");
                cx.mesh.metrics.insert("responseCode".to_owned(), false.into());
            }
            _ => operation
                .refuse(format!("the label {name} stays"), "drop it where Prometheus asks, with labeldrop"),
        }
        if let Some(value) = value {
            value.no_meaning("the tag is removed");
        }
        return;
    }
    let to = format!("telemetry.tags[{name}]");
    if let Some(operation) = operation {
        operation.taken(&to);
    }
    let Some(value) = value else { return };
    let Some(text) = value.text() else { return };
    let Some((source, default)) = source(text) else {
        return value.refuse(
            format!("\"{text}\" is more than the forms that a tag has: a header, the method, the path, the host, a claim, an attribute, a literal"),
            "write the tag in the policy, under telemetry.tags",
        );
    };
    value.taken(&to);
    let known =
        cx.mesh.tags.iter_mut().find(|(tag, _)| tag.get("name").and_then(Value::as_str) == Some(name));
    let tag = json!({"name": name, "value": source, "default": default, "in": ["metrics"]});
    match known {
        // The later override counts.
        Some(known) => known.0 = tag,
        None => {
            let origin = cx.origin(resource, format!("{path}.tagOverrides.{name}"));
            cx.mesh.tags.push((tag, origin));
        }
    }
}

/// What Istio's metrics say where there is no value.
const UNKNOWN: &str = "unknown";

/// The simple forms of CEL, and of the formats that people write in its place: where a value comes from, and what stands in for
/// it.
fn source(text: &str) -> Option<(Value, String)> {
    let text = text.trim();
    // `has(x) ? x : 'y'`, with or without parentheses.
    if let Some((condition, rest)) = text.split_once('?') {
        let (then, otherwise) = rest.rsplit_once(':')?;
        let asked = condition.trim().trim_matches(['(', ')']).trim();
        let asked = asked.strip_prefix("has(").unwrap_or(asked).trim_end_matches(')');
        let (value, _) = source(then.trim().trim_matches(['(', ')']))?;
        let plain = |text: &str| text.replace(['\'', '"', ' '], "");
        let same = plain(then) == plain(asked) || asked.contains(" in ");
        let default = literal(otherwise.trim().trim_matches(['(', ')']))?;
        return same.then_some((value, default));
    }
    if let Some(text) = literal(text) {
        return Some((json!({ "literal": text }), UNKNOWN.to_owned()));
    }
    let value = format_of(text).or_else(|| attribute(text))?;
    Some((value, UNKNOWN.to_owned()))
}

/// A text in quotes.
fn literal(text: &str) -> Option<String> {
    let inner = text
        .strip_prefix('\'')
        .and_then(|text| text.strip_suffix('\''))
        .or_else(|| text.strip_prefix('"').and_then(|text| text.strip_suffix('"')))?;
    (!inner.contains(['\'', '"', '\\'])).then(|| inner.to_owned())
}

/// `%{REQUEST_ID}` and its like, and Envoy's `%REQ(name)%`.
fn format_of(text: &str) -> Option<Value> {
    let inner = text.strip_prefix('%')?;
    if let Some(name) = inner.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
        return Some(match name {
            "REQUEST_ID" | "X_REQUEST_ID" => json!({"header": "x-request-id"}),
            "USER_AGENT" => json!({"header": "user-agent"}),
            "METHOD" | "REQUEST_METHOD" => json!({"property": "request.method"}),
            "PATH" | "REQUEST_PATH" => json!({"property": "request.url_path"}),
            "HOST" | "AUTHORITY" | "REQUEST_HOST" => json!({"property": "request.host"}),
            "PROTOCOL" | "REQUEST_PROTOCOL" => json!({"property": "request.protocol"}),
            "RESPONSE_CODE" => json!({"property": "response.code"}),
            "RESPONSE_FLAGS" => json!({"property": "response.flags"}),
            _ => return None,
        });
    }
    let inner = inner.strip_suffix('%')?;
    let header = inner.strip_prefix("REQ(").or_else(|| inner.strip_prefix("REQUEST_HEADER("));
    if let Some(name) = header.and_then(|name| name.strip_suffix(')')) {
        return header_source(name);
    }
    match inner {
        "REQUEST_ID" => Some(json!({"header": "x-request-id"})),
        "PROTOCOL" => Some(json!({"property": "request.protocol"})),
        "RESPONSE_CODE" => Some(json!({"property": "response.code"})),
        "RESPONSE_FLAGS" => Some(json!({"property": "response.flags"})),
        _ => None,
    }
}

fn header_source(name: &str) -> Option<Value> {
    let name = name.to_ascii_lowercase();
    Some(match name.as_str() {
        ":method" => json!({"property": "request.method"}),
        ":path" => json!({"property": "request.path"}),
        ":authority" | "host" => json!({"property": "request.host"}),
        _ => {
            let fits = !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            fits.then(|| json!({ "header": name }))?
        }
    })
}

/// Attributes, of which headers and claims have names in brackets.
fn attribute(text: &str) -> Option<Value> {
    for (begin, kind) in [
        ("request.headers", "header"),
        ("request.auth.claims", "claim"),
        ("response.headers", "responseHeader"),
    ] {
        let Some(rest) = text.strip_prefix(begin) else { continue };
        let bracketed = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).and_then(literal);
        let name = bracketed.or_else(|| rest.strip_prefix('.').map(str::to_owned))?;
        return match kind {
            "header" => header_source(&name),
            _ => Some(json!({ kind: name })),
        };
    }
    const KNOWN: [&str; 6] = ["request.", "response.", "source.", "destination.", "connection.", "upstream."];
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte));
    (plain && KNOWN.iter().any(|known| text.starts_with(known)) && !text.ends_with('.'))
        .then(|| json!({ "property": text }))
}

// ---- logs

fn access_log(field: &Field<'_>, cx: &mut Context<'_>) {
    let Some(object) = field.object() else { return };
    for (name, field) in providers(&object) {
        match name {
            "envoy" => field.left_to_envoy("the access log"),
            _ => field.refuse(
                format!("the log is written by Envoy itself, and {name} is not that"),
                "collect what Envoy writes",
            ),
        }
    }
    if let Some(field) = object.field("match") {
        field.left_to_envoy("the access log");
    }
    if let Some(field) = object.field("disabled")
        && let Some(disabled) = field.flag()
    {
        cx.mesh.access_log.disabled = disabled;
        field.left_to_envoy("the access log");
    }
    let Some(filter) = object.field("filter").and_then(|field| field.object()) else { return };
    let Some(field) = filter.field("expression") else { return };
    let Some(text) = field.text() else { return };
    match log_filter(text) {
        Some(filter) => {
            cx.mesh.access_log.filter = Some(filter);
            field.left_to_envoy("filter of the access logs");
        }
        None => field.refuse(
            "it is more than comparisons of response.code: everything is logged",
            "lay a filter over the access logs in envoy.yaml",
        ),
    }
}

/// `response.code >= 400`, with `&&` and `||`, as Envoy's filters have it.
pub(super) fn log_filter(text: &str) -> Option<Value> {
    let several = |separator: &str, name: &str| -> Option<Value> {
        let filters: Option<Vec<Value>> = text.split(separator).map(log_filter).collect();
        Some(json!({ name: {"filters": filters?} }))
    };
    if text.contains("||") {
        return several("||", "or_filter");
    }
    if text.contains("&&") {
        return several("&&", "and_filter");
    }
    let text = text.trim().trim_start_matches('(').trim_end_matches(')').trim();
    let rest = text.strip_prefix("response.code")?.trim_start();
    let (operator, number) = ["==", ">=", "<=", ">", "<"]
        .iter()
        .find_map(|operator| Some((*operator, rest.strip_prefix(operator)?.trim().parse::<u32>().ok()?)))?;
    let (operator, number) = match operator {
        "==" => ("EQ", number),
        ">=" => ("GE", number),
        "<=" => ("LE", number),
        ">" => ("GE", number.checked_add(1)?),
        _ => ("LE", number.checked_sub(1)?),
    };
    Some(json!({"status_code_filter": {"comparison": {
        "op": operator,
        "value": {"default_value": number, "runtime_key": format!("access_log.status.{operator}.{number}")},
    }}}))
}

// ---- spans

fn tracing(field: &Field<'_>, cx: &mut Context<'_>) {
    let Some(object) = field.object() else { return };
    for (name, field) in providers(&object) {
        match cx.mesh.collectors.get(name).cloned() {
            Some(collector) => {
                cx.mesh.tracing.collector = Some(collector);
                field.left_to_envoy("the collector of spans");
            }
            None => field.refuse(
                format!("nothing in the input says where {name} is: no spans are sent"),
                "put MeshConfig with its extensionProviders into the input",
            ),
        }
    }
    let to = "tracing of the listener";
    if let Some(field) = object.field("randomSamplingPercentage")
        && let Some(percent) = field.number(0.0, 100.0)
    {
        cx.mesh.tracing.sampling = Some(percent);
        field.left_to_envoy(to);
    }
    if let Some(field) = object.field("disableSpanReporting")
        && let Some(disabled) = field.flag()
    {
        cx.mesh.tracing.disabled = disabled;
        field.left_to_envoy(to);
    }
    for name in ["match", "useRequestIdForTraceSampling", "enableIstioTags", "disableContextPropagation"] {
        if let Some(field) = object.field(name) {
            field.no_meaning("Envoy's own ways hold");
        }
    }
    for (name, field) in object.field("customTags").into_iter().flat_map(|tags| tags.entries()) {
        cx.mesh.tracing.tags.extend(span_tag(name, &field));
    }
}

/// A custom tag as Envoy has it.
pub(super) fn span_tag(name: &str, field: &Field<'_>) -> Option<Value> {
    let object = field.object()?;
    let to = "custom_tags of the listener's tracing";
    let mut tag = Map::new();
    tag.insert("tag".to_owned(), name.into());
    for (kind, envoy, members) in [
        ("literal", "literal", [("value", "value"), ("", "")]),
        ("environment", "environment", [("name", "name"), ("defaultValue", "default_value")]),
        ("header", "request_header", [("name", "name"), ("defaultValue", "default_value")]),
    ] {
        let Some(source) = object.field(kind).and_then(|field| field.object()) else { continue };
        let mut written = Map::new();
        for (name, envoy) in members.into_iter().filter(|(name, _)| !name.is_empty()) {
            if let Some(field) = source.field(name)
                && let Some(text) = field.text()
            {
                written.insert(envoy.to_owned(), text.into());
                field.left_to_envoy(to);
            }
        }
        tag.insert(envoy.to_owned(), Value::Object(written));
    }
    if let Some(formatter) = object.field("formatter").and_then(|field| field.object())
        && let Some(field) = formatter.field("value")
        && let Some(text) = field.text()
    {
        tag.insert("value".to_owned(), text.into());
        field.left_to_envoy(to);
    }
    (tag.len() > 1).then_some(Value::Object(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simple_forms_of_a_tag_are_known() {
        for (text, expected) in [
            ("request.headers['x-team']", Some((json!({"header": "x-team"}), "unknown"))),
            ("request.headers[\"X-Team\"]", Some((json!({"header": "x-team"}), "unknown"))),
            ("request.method", Some((json!({"property": "request.method"}), "unknown"))),
            ("request.url_path", Some((json!({"property": "request.url_path"}), "unknown"))),
            ("request.host", Some((json!({"property": "request.host"}), "unknown"))),
            ("request.auth.claims['sub']", Some((json!({"claim": "sub"}), "unknown"))),
            ("'prod'", Some((json!({"literal": "prod"}), "unknown"))),
            ("%{REQUEST_ID}", Some((json!({"header": "x-request-id"}), "unknown"))),
            ("%REQ(x-a)%", Some((json!({"header": "x-a"}), "unknown"))),
            (
                "has(request.headers['x-a']) ? request.headers['x-a'] : 'none'",
                Some((json!({"header": "x-a"}), "none")),
            ),
            ("request.headers['a'] + 'b'", None),
            ("node.metadata['x']", None),
            ("%{SOMETHING}", None),
        ] {
            let expected = expected.map(|(value, default)| (value, default.to_owned()));
            assert_eq!(source(text), expected, "{text}");
        }
    }

    #[test]
    fn comparisons_of_the_response_code_become_envoy_s() {
        assert_eq!(
            log_filter("response.code >= 400").unwrap()["status_code_filter"]["comparison"]["op"],
            "GE"
        );
        let both = log_filter("response.code > 399 && response.code < 500").unwrap();
        let values: Vec<&Value> = both["and_filter"]["filters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|filter| &filter["status_code_filter"]["comparison"]["value"]["default_value"])
            .collect();
        assert_eq!(values, [400, 499]);
        assert!(log_filter("connection.mtls").is_none());
    }
}
