//! HTTPRoute and GRPCRoute of `policy.linkerd.io`: of a Server they say what its policies are for, of a Service where its
//! requests go.

use serde_json::{Map, Value, json};

use super::matching;
use super::server::{For, closed, is_for};
use crate::import::dialect::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::{Destination, Entry, put, span};
use crate::import::read::Resource;

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let retries = annotations(top, resource.kind == "GRPCRoute");
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else {
        resource.log.error("spec", "a route without a spec says nothing", "give it spec.parentRefs");
        return;
    };
    let mut hosts = Vec::new();
    let (mut of_servers, mut elsewhere) = (false, false);
    let Some(parents) = spec.field("parentRefs") else {
        resource.log.error(
            "spec.parentRefs",
            "it does not say whose requests it has",
            "name a Server or a Service",
        );
        return;
    };
    for item in parents.items() {
        let Some(parent) = item.object() else { continue };
        let text = |name: &'static str| parent.field(name).and_then(|field| field.text());
        text("group");
        let (kind, name) = (text("kind").unwrap_or("Server"), text("name").unwrap_or_default());
        let namespace = text("namespace").map(str::to_owned);
        for name in ["port", "sectionName"] {
            parent.field(name);
        }
        match kind {
            "Server" => {
                of_servers = true;
                match is_for(name, &item, resource, cx) {
                    For::Others => item.no_meaning("the proxy is not that Server"),
                    For::Us => {
                        item.taken("whose policies may name it");
                        closed(name, resource, cx);
                    }
                    For::Unknown => item.taken("whose policies may name it"),
                }
            }
            "Service" => {
                let namespace = namespace.unwrap_or_else(|| cx.namespace(resource).to_owned());
                let replaced = || Some((cx.replaced_for(resource, name, &namespace)?, "leave it out"));
                if let Some((reason, remedy)) = cx.not_its_service(resource, &namespace).or_else(replaced) {
                    elsewhere = true;
                    item.no_meaning(&reason);
                    item.warn(format!("left out: {reason}"), remedy);
                    continue;
                }
                item.taken("the hosts of the http entries");
                hosts.push(crate::import::mesh::hosts::of_service(name, &namespace));
            }
            other => item.forbid(format!("{other} takes no requests here"), "name a Server or a Service"),
        }
    }
    if let Some(field) = spec.field("hostnames") {
        match hosts.is_empty() {
            true => field.taken("authorization[].rules[].to[].operation.hosts"),
            false => field.forbid("requests of a Service are known by the Service's names", "leave it out"),
        }
    }
    let to_service = !hosts.is_empty();
    for (index, item) in spec.field("rules").into_iter().flat_map(|rules| rules.items()).enumerate() {
        let Some(rule) = item.object() else { continue };
        let matches = matching::read(&rule, resource.kind == "GRPCRoute");
        let mut value = retries.clone();
        let changes = rule.field("filters").map(|field| filters(&field, to_service)).unwrap_or_default();
        if let Some(timeouts) = rule.field("timeouts").and_then(|field| field.object()) {
            for (name, to) in [("request", "timeout"), ("backendRequest", "retries.perTryTimeout")] {
                let Some(field) = timeouts.field(name) else { continue };
                let Some(time) = field.span() else { continue };
                if !to_service {
                    field.refuse(
                        "a Server's route says who gets in, not how long it may take",
                        "say it for the Service",
                    );
                } else if name == "request" {
                    field.taken(to);
                    value.insert("timeout".to_owned(), span(time).into());
                } else if let Some(retries) = value.get_mut("retries") {
                    field.taken(to);
                    put(retries, "perTryTimeout", span(time));
                } else if value.contains_key("timeout") {
                    field.refuse("without retries the whole request has one timeout", "leave it out");
                } else {
                    field.taken("timeout");
                    value.insert("timeout".to_owned(), span(time).into());
                }
            }
        }
        let own = || hosts.first().map(|host| crate::import::smi::split::destination(host, cx));
        let route = match rule.field("backendRefs") {
            Some(field) if to_service => backends(&field, resource, cx),
            Some(field) => {
                field.refuse("a Server's route leads to the Server itself", "leave it out");
                Vec::new()
            }
            None => own().map(|own| json!({"destination": own.value()})).into_iter().collect(),
        };
        if !to_service {
            continue;
        }
        if route.is_empty() {
            item.problem_here("it leads nowhere", "give it backendRefs");
            continue;
        }
        value.insert("route".to_owned(), Value::Array(route));
        if !changes.is_empty() {
            value.insert("headers".to_owned(), Value::Object(changes));
        }
        for (number, one) in matches.iter().enumerate() {
            let mut value = value.clone();
            if one.value() != json!({}) {
                value.insert("match".to_owned(), json!([one.value()]));
            }
            let name = match matches.len() {
                1 => format!("{}/{index}", resource.name),
                _ => format!("{}/{index}/{number}", resource.name),
            };
            cx.mesh.entries.push(Entry {
                name,
                hosts: hosts.clone(),
                precedence: one.precedence(),
                value,
                origin: cx.origin(resource, format!("spec.rules[{index}]")),
            });
        }
    }
    if !of_servers && !to_service && !elsewhere && !resource.log.has_errors() {
        parents.problem_here("it names nobody whose requests it has", "name a Server or a Service");
    }
}

fn backends(field: &Field<'_>, resource: &Resource, cx: &Context<'_>) -> Vec<Value> {
    let mut ways = Vec::new();
    let items = field.items();
    for item in &items {
        let Some(object) = item.object() else { continue };
        let text = |name: &'static str| {
            let field = object.field(name)?;
            field.taken("where requests go");
            field.text()
        };
        text("group");
        if text("kind").is_some_and(|kind| kind != "Service") {
            item.problem_here("requests go to a Service here", "name one");
        }
        let namespace = text("namespace").unwrap_or_else(|| cx.namespace(resource)).to_owned();
        let Some(name) = text("name") else {
            item.problem_here("it has no name", "name a Service");
            continue;
        };
        let host = crate::import::mesh::hosts::of_service(name, &namespace);
        let port = object.field("port").and_then(|field| {
            let port = field.whole(1, 65_535)?;
            field.taken("where requests go");
            u16::try_from(port).ok()
        });
        let weight = object.field("weight").and_then(|field| {
            let weight = field.whole(0, 1_000_000)?;
            field.taken("how many requests go there");
            Some(weight)
        });
        if let Some(field) = object.field("filters") {
            field.forbid(
                "filters of one backend are not taken here",
                "use an HTTPRoute of gateway.networking.k8s.io",
            );
        }
        let port = port.or_else(|| cx.mesh.services.only_port(&host));
        let mut way = json!({"destination": Destination { host, subset: None, port }.value()});
        if items.len() > 1 {
            put(&mut way, "weight", weight.unwrap_or(1));
        }
        ways.push(way);
    }
    ways
}

/// Changes of headers.
fn filters(field: &Field<'_>, to_service: bool) -> Map<String, Value> {
    let mut changes = Map::new();
    for item in field.items() {
        let Some(object) = item.object() else { continue };
        let kind = object.peek("type").and_then(|field| field.value().as_str()).unwrap_or_default();
        let (name, side) = match kind {
            "RequestHeaderModifier" => ("requestHeaderModifier", "request"),
            "ResponseHeaderModifier" => ("responseHeaderModifier", "response"),
            other => {
                object.rest(|_| {});
                item.forbid(
                    format!("{other} is not taken here"),
                    "use an HTTPRoute of gateway.networking.k8s.io",
                );
                continue;
            }
        };
        if !to_service {
            object.rest(|_| {});
            item.refuse("a Server's route says who gets in", "change headers in a route of the Service");
            continue;
        }
        if let Some(field) = object.field("type") {
            field.taken("what is changed");
        }
        let Some(modifier) = object.field(name).and_then(|field| field.object()) else { continue };
        let mut side_changes = Map::new();
        for name in ["set", "add"] {
            let Some(field) = modifier.field(name) else { continue };
            let mut headers = Map::new();
            for item in field.items() {
                let Some(header) = item.object() else { continue };
                let text = |name: &'static str| header.field(name).and_then(|field| field.text());
                if let Some((name, value)) = text("name").zip(text("value")) {
                    headers.insert(name.to_owned(), value.into());
                }
            }
            field.taken(format!("headers.{side}.{name}"));
            side_changes.insert(name.to_owned(), Value::Object(headers));
        }
        if let Some(field) = modifier.field("remove") {
            field.taken(format!("headers.{side}.remove"));
            side_changes.insert("remove".to_owned(), json!(field.texts()));
        }
        changes.insert(side.to_owned(), Value::Object(side_changes));
    }
    changes
}

/// How the annotations of this kind begin.
pub const ANNOTATIONS: &[&str] = &["retry.linkerd.io/", "timeout.linkerd.io/"];

/// Retries and timeouts as Linkerd's annotations have them, in the words of an entry of `http`.
pub fn annotations(top: &Object<'_>, grpc: bool) -> Map<String, Value> {
    let mut entry = Map::new();
    let Some(metadata) = top.peek("metadata").and_then(|metadata| metadata.object()) else { return entry };
    metadata.rest(|_| {});
    let Some(annotations) = metadata.peek("annotations") else { return entry };
    let mut conditions: Vec<String> = Vec::new();
    let (mut limit, mut per_try) = (1_u64, None);
    for (name, field) in annotations.entries() {
        if !ANNOTATIONS.iter().any(|known| name.starts_with(known)) {
            continue;
        }
        let Some(text) = field.text() else { continue };
        let time = || {
            let time = field.span()?;
            field.taken("timeout");
            Some(Value::from(span(time)))
        };
        match name {
            "retry.linkerd.io/http" if !grpc => {
                conditions.extend(statuses(&field, text));
            }
            "retry.linkerd.io/grpc" => {
                field.taken("retries.retryOn");
                conditions.extend(text.split(',').map(|status| status.trim().to_ascii_lowercase()));
            }
            "retry.linkerd.io/limit" => match text.parse() {
                Ok(number) => {
                    field.taken("retries.attempts");
                    limit = number;
                }
                Err(_) => drop(field.wrong::<()>(format!("{text} is not a number"))),
            },
            "retry.linkerd.io/timeout" => {
                per_try = time();
            }
            "timeout.linkerd.io/request" => {
                if let Some(time) = time() {
                    entry.insert("timeout".to_owned(), time);
                }
            }
            "timeout.linkerd.io/response" => {
                if let Some(time) = time()
                    && !entry.contains_key("timeout")
                {
                    entry.insert("timeout".to_owned(), time);
                }
            }
            _ => field.refuse("Envoy has no such timeout for one route", "leave it out"),
        }
    }
    if !conditions.is_empty() {
        let mut retries = json!({"attempts": limit, "retryOn": conditions.join(",")});
        if let Some(per_try) = per_try {
            put(&mut retries, "perTryTimeout", per_try);
        }
        entry.insert("retries".to_owned(), retries);
    }
    entry
}

/// `5xx`, `gateway-error`, statuses and ranges of them.
fn statuses(field: &Field<'_>, text: &str) -> Vec<String> {
    let mut conditions = Vec::new();
    for part in text.split(',').map(str::trim) {
        let bounds = part.split_once('-').and_then(|(from, to)| from.parse().ok().zip(to.parse().ok()));
        match (part, bounds) {
            ("5xx" | "gateway-error", _) => conditions.push(part.to_owned()),
            (_, Some((from, to))) if (100..600_u16).contains(&from) && from <= to && to < 600 => {
                conditions.extend((from..=to).map(|status| status.to_string()));
            }
            _ if part.parse().is_ok_and(|status: u16| (100..600).contains(&status)) => {
                conditions.push(part.to_owned());
            }
            _ => drop(field.wrong::<()>(format!(
                "{part} is no condition; use 5xx, gateway-error or statuses such as 500-504"
            ))),
        }
    }
    field.taken("retries.retryOn");
    conditions
}
