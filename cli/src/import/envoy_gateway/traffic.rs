//! BackendTrafficPolicy: what is laid into entries, what is said of clusters, and limits.

use serde_json::{Map, Value, json};

use super::{TRAFFIC, balance, limits, reach};
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::{Entry, span};
use crate::import::read::Resource;

/// What is not done here, and would let more or others pass if it were left alone.
const FORBIDDEN: [(&str, &str, &str); 5] = [
    (
        "admissionControl",
        "requests are not shed by how many succeed",
        "use circuitBreaker or rateLimit, or put Envoy's admission_control filter before the module in envoy.yaml",
    ),
    (
        "bandwidthLimit",
        "bytes are not counted",
        "put Envoy's bandwidth_limit filter behind the module in envoy.yaml",
    ),
    (
        "proxyProtocol",
        "servers would not hear who asks",
        "give the cluster the transport socket upstream_proxy_protocol in envoy.yaml",
    ),
    (
        "requestBuffer",
        "bodies are not kept, and not bounded",
        "put Envoy's buffer filter before the module in envoy.yaml",
    ),
    (
        "responseOverride",
        "answers of servers are not replaced",
        "use custom responses of Envoy in envoy.yaml",
    ),
];

/// What is not done here, and changes neither who gets in nor where to.
const LEFT: [(&str, &str); 9] = [
    ("compression", "answers are not compressed"),
    ("compressor", "answers are not compressed"),
    ("connection", "buffers have Envoy's own sizes"),
    ("dns", "names are asked for as Envoy does by itself"),
    ("http2", "HTTP/2 has Envoy's own windows"),
    ("httpUpgrade", "upgrades are as Envoy has them by itself"),
    ("routingType", "requests go to endpoints where these are known, else to the Service's name"),
    ("telemetry", "metrics and spans are as they are for all routes"),
    ("tcpKeepalive", "connections are kept as the system does"),
];

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    let reached = reach::read(TRAFFIC, &spec, resource, cx);
    if reached.is_empty() {
        return;
    }
    for (name, reason, remedy) in FORBIDDEN {
        if let Some(field) = spec.field(name) {
            field.forbid(reason, remedy);
        }
    }
    for (name, reason) in LEFT {
        if let Some(field) = spec.field(name) {
            field.refuse(reason, "leave it out, or write it into envoy.yaml");
        }
    }
    balance::read(&spec, &reached, resource, cx);
    let mut found = Map::new();
    if let Some(field) = spec.field("retry") {
        found.extend(retries(&field).map(|value| ("retries".to_owned(), value)));
    }
    if let Some(field) = spec.field("faultInjection") {
        found.extend(fault(&field).map(|value| ("fault".to_owned(), value)));
    }
    if let Some(timeout) = spec.field("timeout").and_then(|field| field.object()) {
        found
            .extend(balance::request_timeout(&timeout).map(|time| ("timeout".to_owned(), span(time).into())));
    }
    for index in &reached {
        if let Some(entry) = cx.mesh.entries.get_mut(*index) {
            lay(entry, &found);
        }
    }
    if let Some(field) = spec.field("rateLimit") {
        limits::read(&field, &reached, resource, cx);
    }
}

/// What the route itself says is nearer.
fn lay(entry: &mut Entry, found: &Map<String, Value>) {
    let answers = ["redirect", "directResponse"].iter().any(|name| entry.value.contains_key(*name));
    for (name, value) in found {
        if name == "fault" || !answers {
            entry.value.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

fn retries(field: &Field<'_>) -> Option<Value> {
    const TO: &str = "http[].retries";
    let object = field.object()?;
    object.may_have(&["numRetries", "numAttemptsPerPriority", "retryOn", "perRetry"]);
    let mut retries = Map::new();
    let mut attempts = 2;
    if let Some(field) = object.field("numRetries") {
        attempts = field.whole(0, 100)?;
        field.taken(TO);
    }
    retries.insert("attempts".to_owned(), attempts.into());
    if let Some(field) = object.field("numAttemptsPerPriority") {
        field.refuse("all servers have one priority", "leave it out");
    }
    let mut on: Vec<String> = Vec::new();
    if let Some(object) = object.field("retryOn").and_then(|field| field.object()) {
        object.may_have(&["triggers", "httpStatusCodes"]);
        if let Some(field) = object.field("triggers") {
            on.extend(field.texts().into_iter().map(str::to_owned));
            field.taken(TO);
        }
        for item in object.field("httpStatusCodes").into_iter().flat_map(|field| field.items()) {
            on.push(item.whole(100, 599)?.to_string());
            item.taken(TO);
        }
    }
    // A number in the policy says by itself that these are tried again.
    on.retain(|word| word != "retriable-status-codes");
    if on.is_empty() {
        on = ["connect-failure", "refused-stream", "unavailable", "cancelled"].map(str::to_owned).to_vec();
    }
    retries.insert("retryOn".to_owned(), on.join(",").into());
    if let Some(each) = object.field("perRetry").and_then(|field| field.object()) {
        each.may_have(&["timeout", "backOff"]);
        if let Some(field) = each.field("timeout") {
            retries.insert("perTryTimeout".to_owned(), span(field.span()?).into());
            field.taken(TO);
        }
        if let Some(field) = each.field("backOff") {
            field.refuse("Envoy's own pauses between retries hold, 25 ms and more", "leave it out");
        }
    }
    Some(Value::Object(retries))
}

fn fault(field: &Field<'_>) -> Option<Value> {
    const TO: &str = "http[].fault";
    let object = field.object()?;
    object.may_have(&["delay", "abort"]);
    let mut fault = Map::new();
    let percentage = |object: &Object<'_>| -> Option<Value> {
        let Some(field) = object.field("percentage") else { return Some(json!({"value": 100})) };
        let number = field.number(0.0, 100.0)?;
        field.taken(TO);
        Some(json!({ "value": number }))
    };
    if let Some(delay) = object.field("delay").and_then(|field| field.object()) {
        delay.may_have(&["percentage", "fixedDelay"]);
        let share = percentage(&delay)?;
        let field = delay.field("fixedDelay")?;
        fault.insert("delay".to_owned(), json!({"percentage": share, "fixedDelay": span(field.span()?)}));
        field.taken(TO);
    }
    if let Some(abort) = object.field("abort").and_then(|field| field.object()) {
        abort.may_have(&["percentage", "httpStatus", "grpcStatus"]);
        let mut value = json!({"percentage": percentage(&abort)?});
        for (name, least, most) in [("httpStatus", 200, 600), ("grpcStatus", 0, 16)] {
            if let Some(field) = abort.field(name) {
                crate::import::mesh::put(&mut value, name, field.whole(least, most)?);
                field.taken(TO);
            }
        }
        fault.insert("abort".to_owned(), value);
    }
    Some(Value::Object(fault))
}
