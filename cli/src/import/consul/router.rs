//! ServiceRouter → entries of `http` in its order.

use serde_json::{Map, Value, json};

use super::chain::{self, HEADERS};
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::condition::one_of;
use crate::import::mesh::{Entry, put, span};
use crate::import::read::Resource;

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let namespace = cx.namespace(resource).to_owned();
    let spec = top.field("spec").and_then(|spec| spec.object());
    let routes = spec.as_ref().and_then(|spec| spec.field("routes"));
    let hosts = chain::names(&resource.name, &namespace);
    for (index, item) in routes.iter().flat_map(Field::items).enumerate() {
        let Some(object) = item.object() else { continue };
        let mut value = Map::new();
        if let Some(field) = object.field("match").and_then(|field| field.object()?.field("http"))
            && let Some(found) = matches(&field)
            && found != json!({})
        {
            value.insert("match".to_owned(), json!([found]));
        }
        let route = match object.field("destination") {
            Some(field) => destination(&field, &mut value, resource, &namespace, cx),
            None => Some(chain::route(&resource.name, None, &namespace, cx)),
        };
        let Some(route) = route else { continue };
        value.insert("route".to_owned(), route);
        cx.mesh.entries.push(Entry {
            name: format!("{}/{index}", resource.name),
            hosts: hosts.clone(),
            precedence: Vec::new(),
            value,
            origin: cx.origin(resource, format!("spec.routes[{index}]")),
        });
    }
    let mut others = Map::new();
    others.insert("route".to_owned(), chain::route(&resource.name, None, &namespace, cx));
    if let Some(timeout) = chain::timeout(&resource.name, &namespace, cx) {
        others.insert("timeout".to_owned(), timeout);
    }
    cx.mesh.entries.push(Entry {
        name: format!("{}/others", resource.name),
        hosts,
        precedence: Vec::new(),
        value: others,
        origin: cx.origin(resource, "spec"),
    });
}

/// Which requests.
fn matches(field: &Field<'_>) -> Option<Value> {
    let object = field.object()?;
    let to = "match";
    let mut value = Map::new();
    for (name, word) in [("pathExact", "exact"), ("pathPrefix", "prefix"), ("pathRegex", "regex")] {
        if let Some(field) = object.field(name)
            && let Some(text) = field.text().filter(|text| !text.is_empty())
        {
            field.taken(format!("{to}.uri.{word}"));
            value.insert("uri".to_owned(), json!({ word: text }));
        }
    }
    if let Some(field) = object.field("caseInsensitive")
        && let Some(flag) = field.flag()
    {
        field.taken(format!("{to}.ignoreUriCase"));
        if flag {
            value.insert("ignoreUriCase".to_owned(), true.into());
        }
    }
    if let Some(field) = object.field("methods") {
        let methods: Vec<String> = field.texts().into_iter().map(str::to_ascii_uppercase).collect();
        field.taken(format!("{to}.method"));
        let methods: Vec<&str> = methods.iter().map(String::as_str).collect();
        if !methods.is_empty() {
            value.insert("method".to_owned(), one_of(&methods));
        }
    }
    for (name, word) in [("header", "headers"), ("queryParam", "queryParams")] {
        let Some(field) = object.field(name) else { continue };
        for item in field.items() {
            let Some((name, text, invert)) = named(&item) else { continue };
            let word = match (invert, word) {
                (true, "headers") => "withoutHeaders",
                (true, _) => {
                    item.problem_here(
                        "a query parameter cannot be one that must not be there",
                        "leave out invert",
                    );
                    continue;
                }
                (false, word) => word,
            };
            let map = value.entry(word.to_owned()).or_insert_with(|| json!({}));
            if map.get(&name).is_some() {
                item.problem_here(format!("{name} stands twice"), "write one that says both");
            }
            put(map, &name, text);
        }
    }
    Some(Value::Object(value))
}

/// A header or a parameter: its name, what its value has to be, and whether it is the contrary.
pub fn named(item: &Field<'_>) -> Option<(String, Value, bool)> {
    let object = item.object()?;
    let to = "match";
    let name = object.field("name").and_then(|field| {
        field.taken(to);
        field.text()
    });
    let flag = |name: &'static str| {
        let field = object.field(name)?;
        field.taken(to);
        field.flag()
    };
    let (present, invert) = (flag("present") == Some(true), flag("invert") == Some(true));
    if let Some(field) = object.field("ignoreCase")
        && field.flag() == Some(true)
    {
        field.forbid("values are compared as they are", "use regex with (?i)");
    } else if let Some(field) = object.peek("ignoreCase") {
        field.taken(to);
    }
    let mut value = present.then(|| json!({"present": true}));
    for word in ["exact", "prefix", "suffix", "contains", "regex"] {
        if let Some(field) = object.field(word)
            && let Some(text) = field.text()
        {
            field.taken(format!("{to}: {word}"));
            value = Some(json!({ word: text }));
        }
    }
    let Some(name) = name else {
        item.problem_here("it has no name", "name it");
        return None;
    };
    let Some(value) = value else {
        item.problem_here(
            "it does not say what the value has to be",
            "use exact, prefix, suffix, regex or present",
        );
        return None;
    };
    Some((name.to_owned(), value, invert))
}

fn destination(
    field: &Field<'_>,
    value: &mut Map<String, Value>,
    resource: &Resource,
    namespace: &str,
    cx: &Context<'_>,
) -> Option<Value> {
    let object = field.object()?;
    let text = |name: &'static str| {
        let field = object.field(name)?;
        field.taken("route[].destination");
        field.text()
    };
    let (service, subset) = (text("service"), text("serviceSubset"));
    chain::elsewhere(&object);
    if let Some(field) = object.field("prefixRewrite")
        && let Some(text) = field.text()
    {
        field.taken("rewrite.uri");
        value.insert("rewrite".to_owned(), json!({ "uri": text }));
    }
    let time = |name: &'static str| {
        let field = object.field(name)?;
        let time = field.span()?;
        field.taken("timeout");
        Some(Value::from(span(time)))
    };
    let timeout =
        time("requestTimeout").or_else(|| chain::timeout(service.unwrap_or(&resource.name), namespace, cx));
    if let Some(timeout) = timeout {
        value.insert("timeout".to_owned(), timeout);
    }
    if let Some(field) = object.field("idleTimeout") {
        field.refuse("one route has no idle time of its own", "use requestTimeout");
    }
    if let Some(retries) = retries(&object) {
        value.insert("retries".to_owned(), retries);
    }
    let mut headers = Map::new();
    for (name, side) in [("requestHeaders", "request"), ("responseHeaders", "response")] {
        if let Some(field) = object.field(name)
            && let Some(changes) = field.copy(&HEADERS, &format!("headers.{side}"))
        {
            headers.insert(side.to_owned(), changes);
        }
    }
    if !headers.is_empty() {
        value.insert("headers".to_owned(), Value::Object(headers));
    }
    Some(chain::route(service.unwrap_or(&resource.name), subset, namespace, cx))
}

fn retries(object: &Object<'_>) -> Option<Value> {
    let attempts = object.field("numRetries").and_then(|field| {
        let attempts = field.whole(0, 1000)?;
        field.taken("retries.attempts");
        Some(attempts)
    });
    let mut conditions: Vec<String> = Vec::new();
    if let Some(field) = object.field("retryOnConnectFailure") {
        field.taken("retries.retryOn");
        if field.flag() == Some(true) {
            conditions.push("connect-failure".to_owned());
        }
    }
    if let Some(field) = object.field("retryOn") {
        conditions.extend(field.texts().into_iter().map(str::to_owned));
        field.taken("retries.retryOn");
    }
    if let Some(field) = object.field("retryOnStatusCodes") {
        for item in field.items() {
            if let Some(code) = item.whole(100, 599) {
                item.taken("retries.retryOn");
                conditions.push(code.to_string());
            }
        }
    }
    if conditions.is_empty() && attempts.is_none() {
        return None;
    }
    let mut retries = json!({"attempts": attempts.unwrap_or(1)});
    if !conditions.is_empty() {
        put(&mut retries, "retryOn", conditions.join(","));
    }
    Some(retries)
}
