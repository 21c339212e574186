//! The `rules` of HTTPRoute and GRPCRoute → entries. Whoever has routes of this shape, as Linkerd has, reads them with [`read`],
//! and gives the entries their hosts.

use serde_json::{Map, Value, json};

use super::backend::{Backend, backend_of};
use super::filters;
use super::matches::{self, Match};
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::{Destination, Entry, put};
use crate::import::read::Resource;

/// What becomes of requests of a rule that has no backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Without {
    /// They are answered with 500.
    Fails,
    /// They go there.
    To(Destination),
}

/// What holds for every rule of a route that says nothing else.
#[derive(Clone, Debug)]
pub struct Usual {
    /// Of rules without backends.
    pub without: Without,
    /// `retries` and `timeout` in the policy's words.
    pub times: Map<String, Value>,
}

/// The entries of a route's rules: one for each match, without hosts.
pub fn read(spec: &Object<'_>, resource: &Resource, cx: &Context<'_>, usual: &Usual) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (index, item) in spec.field("rules").into_iter().flat_map(|rules| rules.items()).enumerate() {
        let Some(rule) = item.object() else { continue };
        let own = rule.field("name").and_then(|field| {
            let name = field.text()?;
            field.taken("the entry's name");
            Some(name.to_owned())
        });
        let prefix = if resource.name.is_empty() { "route" } else { &resource.name };
        let name = format!("{prefix}/{}", own.unwrap_or_else(|| index.to_string()));
        let to = format!("http[{name}]");
        let matches = matches::read(&rule, &to, resource, index);
        let filters = rule.field("filters").map(|field| filters::of_rule(&field, &to, resource, cx));
        let filters = filters.unwrap_or_default();
        if let Some(path) = &filters.prefix
            && let Some(other) = matches.iter().find(|found| !found.has_prefix)
        {
            resource.log.error(
                path,
                format!("{} matches no prefix that could be replaced", other.path),
                "use PathPrefix there, or replaceFullPath here",
            );
        }
        let mut value = filters.value;
        times(&rule, &to, &usual.times, &mut value);
        backends(&rule, &to, resource, cx, &usual.without, &mut value);
        let origin = cx.origin(resource, format!("spec.rules[{index}]"));
        for Match { value: matched, precedence, has_prefix, .. } in matches {
            let mut value = value.clone();
            let matched = match (matched.is_empty(), filters.prefix.is_some() && has_prefix) {
                (true, true) => json!({"uri": {"pathPrefix": "/"}}),
                (false, true) if !matched.contains_key("uri") => {
                    let mut matched = matched;
                    matched.insert("uri".to_owned(), json!({"pathPrefix": "/"}));
                    Value::Object(matched)
                }
                _ => Value::Object(matched),
            };
            if matched.as_object().is_some_and(|matched| !matched.is_empty()) {
                value.insert("match".to_owned(), json!([matched]));
            }
            entries.push(Entry {
                name: name.clone(),
                hosts: Vec::new(),
                precedence,
                value,
                origin: origin.clone(),
            });
        }
    }
    entries
}

/// How long requests may take, and how often they are tried.
fn times(rule: &Object<'_>, to: &str, usual: &Map<String, Value>, value: &mut Map<String, Value>) {
    let mut each = None;
    // Whoever is answered here waits for nobody.
    let usual = |name: &str| usual.get(name).filter(|_| !value.contains_key("redirect")).cloned();
    let (retries, whole) = (usual("retries"), usual("timeout"));
    if let Some(whole) = whole {
        value.insert("timeout".to_owned(), whole);
    }
    if let Some(timeouts) = rule.field("timeouts").and_then(|field| field.object()) {
        let span = |name: &'static str, to: &str| {
            let field = timeouts.field(name)?;
            let span = field.span()?;
            field.taken(to);
            Some(span)
        };
        let whole = span("request", &format!("{to}.timeout"));
        each = span("backendRequest", &format!("{to}.retries.perTryTimeout"));
        // Without retries there is one try.
        let single = each.filter(|each| !rule.has("retry") && retries.is_none() && !each.is_zero());
        let whole = match (whole.filter(|whole| !whole.is_zero()), single) {
            (Some(whole), Some(single)) => Some(whole.min(single)),
            (Some(whole), None) => Some(whole),
            (None, Some(single)) => Some(single),
            (None, None) => whole,
        };
        if let Some(whole) = whole {
            value.insert("timeout".to_owned(), crate::import::mesh::span(whole).into());
        }
    }
    let per_try = each.filter(|each| !each.is_zero()).map(crate::import::mesh::span);
    if let Some(mut retries) = retries.filter(|_| !rule.has("retry")) {
        if let Some(per_try) = &per_try {
            put(&mut retries, "perTryTimeout", per_try.clone());
        }
        value.insert("retries".to_owned(), retries);
    }
    if let Some(retry) = rule.field("retry").and_then(|field| field.object()) {
        let to = format!("{to}.retries");
        let mut attempts = 1;
        if let Some(field) = retry.field("attempts")
            && let Some(count) = field.whole(0, 100)
        {
            field.taken(format!("{to}.attempts"));
            attempts = count;
        }
        let mut on = "connect-failure,refused-stream,reset-before-request,unavailable,cancelled".to_owned();
        for code in retry.field("codes").into_iter().flat_map(|codes| codes.items()) {
            if let Some(number) = code.whole(400, 599) {
                code.taken(format!("{to}.retryOn"));
                on.push_str(&format!(",{number}"));
            }
        }
        if let Some(field) = retry.field("backoff") {
            field.refuse("Envoy's own pauses between retries hold, 25 ms and more", "leave it out");
        }
        let mut retries = Map::new();
        retries.insert("attempts".to_owned(), attempts.into());
        retries.insert("retryOn".to_owned(), on.into());
        if let Some(per_try) = per_try {
            retries.insert("perTryTimeout".to_owned(), per_try.into());
        }
        value.insert("retries".to_owned(), Value::Object(retries));
    }
    if let Some(field) = rule.field("sessionPersistence") {
        field.forbid(
            "a client would not stay with its server",
            "use consistentHash with httpCookie in a DestinationRule, or sticky in the policy for weights",
        );
    }
}

fn backends(
    rule: &Object<'_>,
    to: &str,
    resource: &Resource,
    cx: &Context<'_>,
    without: &Without,
    value: &mut Map<String, Value>,
) {
    let is_grpc = matches::is_grpc(resource);
    let field = rule.field("backendRefs");
    if value.contains_key("redirect") {
        if let Some(field) = field {
            field.forbid("requests are redirected and never come to a backend", "keep one of the two");
        }
        return;
    }
    let items = field.as_ref().map(Field::items).unwrap_or_default();
    if items.is_empty() {
        match without {
            Without::To(destination) => {
                value.insert("route".to_owned(), json!([{ "destination": destination.value() }]));
            }
            Without::Fails => {
                resource.log.warn(
                    rule.path(),
                    "it has no backendRefs: its requests are answered with 500, as the Gateway API has it",
                    "give it backendRefs, or a redirect",
                );
                fail(value, is_grpc);
            }
        }
        return;
    }
    let (mut ways, mut lost, mut all, mut broken) = (Vec::new(), 0_u64, 0_u64, false);
    for (index, item) in items.iter().enumerate() {
        let Some(object) = item.object() else {
            broken = true;
            continue;
        };
        let to = format!("{to}.route[{index}]");
        let mut way = Map::new();
        let mut weight = 1;
        if let Some(field) = object.field("weight") {
            match field.whole(0, 1_000_000) {
                Some(whole) => {
                    field.taken(format!("{to}.weight"));
                    weight = whole;
                }
                None => broken = true,
            }
        }
        if let Some(field) = object.field("filters") {
            let changed = filters::of_backend(&field, &to, resource);
            way.extend(changed);
        }
        let found = backend_of(&object, item, &format!("{to}.destination"), resource, cx);
        all = all.saturating_add(weight);
        match found {
            Some(Backend::At(destination)) => {
                way.insert("destination".to_owned(), destination.value());
                way.insert("weight".to_owned(), weight.into());
                ways.push((weight, way));
            }
            Some(Backend::Nowhere) => lost = lost.saturating_add(weight),
            None => broken = true,
        }
    }
    if broken {
        return;
    }
    ways.retain(|(weight, _)| *weight > 0 || items.len() > 1);
    if ways.iter().all(|(weight, _)| *weight == 0) {
        if lost == 0
            && let Some(field) = field
        {
            field.warn("no backend has a weight: requests are answered with 500", "give one a weight");
        }
        fail(value, is_grpc);
        return;
    }
    if let [(_, way)] = ways.as_mut_slice() {
        way.remove("weight");
    }
    let ways: Vec<Value> = ways.into_iter().map(|(_, way)| Value::Object(way)).collect();
    value.insert("route".to_owned(), Value::Array(ways));
    if lost > 0 {
        let number = |whole: u64| format!("{whole}").parse::<f64>().unwrap_or_default();
        let share = number(lost) * 100.0 / number(all);
        abort(value, json!(share), is_grpc);
    }
}

/// Lets a share of requests fail as those fail that have no backend.
fn abort(value: &mut Map<String, Value>, share: Value, is_grpc: bool) {
    let percentage = json!({"value": share});
    let abort = match is_grpc {
        true => json!({"percentage": percentage, "grpcStatus": "UNAVAILABLE"}),
        false => json!({"percentage": percentage, "httpStatus": 500}),
    };
    value.insert("fault".to_owned(), json!({ "abort": abort }));
}

/// Lets every request fail as those fail that have no backend.
fn fail(value: &mut Map<String, Value>, is_grpc: bool) {
    for name in ["rewrite", "mirrors", "timeout", "retries"] {
        value.remove(name);
    }
    match is_grpc {
        true => abort(value, json!(100), true),
        false => drop(value.insert("directResponse".to_owned(), json!({"status": 500}))),
    }
}
