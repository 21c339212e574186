//! What stands in the wrong place in Istio's resources, by habit or by a slip of indentation, and where it belongs.

use serde_json::{Map, Value};

use crate::import::repair::Move;
use crate::import::report::member;

/// What stands beside `match` and `route` in a route.
const OF_ROUTE: [&str; 13] = [
    "route",
    "redirect",
    "directResponse",
    "delegate",
    "rewrite",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirrors",
    "mirrorPercentage",
    "mirror_percent",
    "corsPolicy",
];

/// What a match has; what else stands in one with `exact`, `prefix` or `regex` is a header that slipped out of `headers`.
const OF_MATCH: [&str; 15] = [
    "name",
    "uri",
    "scheme",
    "method",
    "authority",
    "headers",
    "withoutHeaders",
    "queryParams",
    "ignoreUriCase",
    "port",
    "gateways",
    "sourceLabels",
    "sourceNamespace",
    "statPrefix",
    "cookies",
];

/// The routes of a VirtualService.
pub fn virtual_service(resource: &mut Value) -> Vec<Move> {
    let mut moves = Vec::new();
    let Some(http) = resource.pointer_mut("/spec/http").and_then(Value::as_array_mut) else { return moves };
    let mut index = 0;
    while index < http.len() {
        let before = format!("spec.http[{index}]");
        let mut more = Vec::new();
        if let Some(route) = http.get_mut(index).and_then(Value::as_object_mut) {
            self::route(route, &before, index, &mut moves, &mut more);
        }
        let count = more.len();
        // What follows has another place from now on.
        for (place, later) in http.iter().enumerate().skip(index.saturating_add(1)).filter(|_| count > 0) {
            moves.push(Move {
                from: format!("spec.http[{place}]"),
                to: format!("spec.http[{}]", place.saturating_add(count)),
                value: later.clone(),
                reason: String::new(),
            });
        }
        for (place, route) in more.into_iter().enumerate() {
            http.insert(index.saturating_add(1).saturating_add(place), route);
        }
        index = index.saturating_add(1);
    }
    moves
}

fn route(
    route: &mut Map<String, Value>,
    path: &str,
    index: usize,
    moves: &mut Vec<Move>,
    more: &mut Vec<Value>,
) {
    // match[]
    let mut found: Vec<(String, String, Value)> = Vec::new();
    if let Some(matches) = route.get_mut("match").and_then(Value::as_array_mut) {
        for (place, item) in matches.iter_mut().enumerate() {
            let Some(item) = item.as_object_mut() else { continue };
            let path = format!("{path}.match[{place}]");
            take(item, &path, "a match", &mut found);
            slipped(item, &path, moves);
        }
        matches.retain(|item| item.as_object().is_none_or(|item| !item.is_empty()));
    }
    if route.get("match").and_then(Value::as_array).is_some_and(Vec::is_empty) && !found.is_empty() {
        route.remove("match");
    }
    // route[]
    if let Some(ways) = route.get_mut("route").and_then(Value::as_array_mut) {
        let mut kept = Vec::new();
        for (place, mut way) in std::mem::take(ways).into_iter().enumerate() {
            let path = format!("{path}.route[{place}]");
            if let Some(object) = way.as_object_mut() {
                // A whole route that is an item of another's destinations.
                if !object.contains_key("destination") && object.contains_key("route") {
                    moves.push(Move {
                        from: path,
                        to: format!("spec.http[{}]", index.saturating_add(1).saturating_add(more.len())),
                        value: way.clone(),
                        reason: "this is a route of its own, and stands among the destinations of another"
                            .to_owned(),
                    });
                    more.push(way);
                    continue;
                }
                destination(object, &path, &mut found, moves);
                take(object, &path, "a destination of a route", &mut found);
            }
            kept.push(way);
        }
        *ways = kept;
    }
    for (from, name, value) in found {
        if route.contains_key(&name) {
            // Two of them: the reader says what stands there.
            continue;
        }
        let reason = match from.contains(".match[") {
            true => format!("{name} is no condition: it stands in match[]"),
            false => format!("{name} is of the whole route: it stands in route[]"),
        };
        moves.push(Move { from, to: member(path, &name), value: value.clone(), reason });
        route.insert(name, value);
    }
    mirror(route, path, moves);
}

/// Takes what is a route's out of something in it.
fn take(object: &mut Map<String, Value>, path: &str, _what: &str, found: &mut Vec<(String, String, Value)>) {
    for name in OF_ROUTE {
        // `headers` and `name` may stand in both; `route` within a destination is looked at elsewhere.
        if let Some(value) = object.remove(name) {
            found.push((member(path, name), name.to_owned(), value));
        }
    }
}

/// `weight` inside a destination, `subset` and `port` beside it, and what is a route's.
fn destination(
    way: &mut Map<String, Value>,
    path: &str,
    found: &mut Vec<(String, String, Value)>,
    moves: &mut Vec<Move>,
) {
    let mut out = Vec::new();
    if let Some(inner) = way.get_mut("destination").and_then(Value::as_object_mut) {
        let path = member(path, "destination");
        take(inner, &path, "a destination", found);
        for name in ["weight", "headers"] {
            if let Some(value) = inner.remove(name) {
                out.push((name, member(&path, name), value));
            }
        }
    }
    for (name, from, value) in out {
        if way.contains_key(name) {
            continue;
        }
        let reason = format!("{name} stands inside destination");
        moves.push(Move { from, to: member(path, name), value: value.clone(), reason });
        way.insert(name.to_owned(), value);
    }
    let mut inwards = Vec::new();
    for name in ["host", "subset", "port"] {
        if let Some(value) = way.remove(name) {
            inwards.push((name, value));
        }
    }
    for (name, value) in inwards {
        let to = format!("{path}.destination.{name}");
        let inner = way.entry("destination").or_insert_with(|| Value::Object(Map::new()));
        if !inner.is_object() {
            *inner = Value::Object(Map::new());
        }
        let reason = format!("{name} is of the destination: it stands beside it");
        moves.push(Move { from: member(path, name), to, value: value.clone(), reason });
        if let Some(inner) = inner.as_object_mut() {
            inner.entry(name).or_insert(value);
        }
    }
}

/// Members of `headers` that stand beside it, because its indentation was lost.
fn slipped(item: &mut Map<String, Value>, path: &str, moves: &mut Vec<Move>) {
    if !item
        .get("headers")
        .is_some_and(|headers| headers.is_null() || headers.as_object().is_some_and(Map::is_empty))
    {
        return;
    }
    let is_condition = |value: &Value| {
        value.as_object().is_some_and(|value| {
            !value.is_empty()
                && value.keys().all(|name| matches!(name.as_str(), "exact" | "prefix" | "regex"))
        })
    };
    let names: Vec<String> = item
        .iter()
        .filter(|(name, value)| !OF_MATCH.contains(&name.as_str()) && is_condition(value))
        .map(|(name, _)| name.clone())
        .collect();
    let mut headers = Map::new();
    for name in names {
        let Some(value) = item.remove(&name) else { continue };
        let to = member(&format!("{path}.headers"), &name);
        let reason = format!("{name} is a header: it stands beside headers, not in it");
        moves.push(Move { from: member(path, &name), to, value: value.clone(), reason });
        headers.insert(name, value);
    }
    if !headers.is_empty() {
        let own = member(path, "headers");
        moves.push(Move { from: own.clone(), to: own, value: Value::Null, reason: String::new() });
        item.insert("headers".to_owned(), Value::Object(headers));
    }
}

/// `mirror_percent` and its like inside `mirror`.
fn mirror(route: &mut Map<String, Value>, path: &str, moves: &mut Vec<Move>) {
    let mut out = Vec::new();
    if let Some(mirror) = route.get_mut("mirror").and_then(Value::as_object_mut) {
        for name in ["mirror_percent", "mirrorPercent", "mirrorPercentage", "percentage"] {
            if let Some(value) = mirror.remove(name) {
                out.push((name, value));
            }
        }
    }
    for (name, value) in out {
        let right = if name == "percentage" { "mirrorPercentage" } else { name };
        let to = member(path, right);
        let reason = format!("{name} is of the route: it stands inside mirror");
        moves.push(Move { from: format!("{path}.mirror.{name}"), to, value: value.clone(), reason });
        route.entry(right).or_insert(value);
    }
}

/// `circuitBreaker` in a DestinationRule, which is what outlierDetection is called elsewhere.
pub fn destination_rule(resource: &mut Value) -> Vec<Move> {
    let mut moves = Vec::new();
    if let Some(policy) = resource.pointer_mut("/spec/trafficPolicy") {
        circuit_breaker(policy, "spec.trafficPolicy", &mut moves);
    }
    if let Some(subsets) = resource.pointer_mut("/spec/subsets").and_then(Value::as_array_mut) {
        for (index, subset) in subsets.iter_mut().enumerate() {
            if let Some(policy) = subset.get_mut("trafficPolicy") {
                circuit_breaker(policy, &format!("spec.subsets[{index}].trafficPolicy"), &mut moves);
            }
        }
    }
    moves
}

fn circuit_breaker(policy: &mut Value, path: &str, moves: &mut Vec<Move>) {
    let Some(policy) = policy.as_object_mut() else { return };
    let mut found = Vec::new();
    for holder in ["", "connectionPool"] {
        let object = match holder {
            "" => Some(&mut *policy),
            name => policy.get_mut(name).and_then(Value::as_object_mut),
        };
        let at = if holder.is_empty() { path.to_owned() } else { format!("{path}.{holder}") };
        if let Some(object) = object {
            for name in ["circuitBreaker", "circuitBreakers", "circuit_breakers"] {
                if let Some(value) = object.remove(name) {
                    found.push((format!("{at}.{name}"), name, value));
                }
            }
        }
    }
    for (from, name, value) in found {
        let to = format!("{path}.outlierDetection");
        let reason = format!("{name} is not a field: what leaves failing servers alone is outlierDetection");
        if policy.contains_key("outlierDetection") {
            policy.insert(name.to_owned(), value);
            continue;
        }
        moves.push(Move { from, to, value: value.clone(), reason });
        policy.insert("outlierDetection".to_owned(), value);
    }
}

/// `to` and `when` inside `from[]`, and the other way round.
pub fn authorization(resource: &mut Value) -> Vec<Move> {
    let mut moves = Vec::new();
    let Some(rules) = resource.pointer_mut("/spec/rules").and_then(Value::as_array_mut) else { return moves };
    for (index, rule) in rules.iter_mut().enumerate() {
        let path = format!("spec.rules[{index}]");
        let Some(rule) = rule.as_object_mut() else { continue };
        let mut found = Vec::new();
        for list in ["from", "to", "when"] {
            let Some(items) = rule.get_mut(list).and_then(Value::as_array_mut) else { continue };
            for (place, item) in items.iter_mut().enumerate() {
                let Some(item) = item.as_object_mut() else { continue };
                for name in ["from", "to", "when"] {
                    if let Some(value) = item.remove(name) {
                        found.push((list, format!("{path}.{list}[{place}].{name}"), name, value));
                    }
                }
            }
            items.retain(|item| item.as_object().is_none_or(|item| !item.is_empty()));
        }
        for (list, from, name, value) in found {
            let reason = format!("{name} is of the whole rule: it stands in {list}[]");
            moves.push(Move { from, to: format!("{path}.{name}"), value: value.clone(), reason });
            match rule.get_mut(name).and_then(Value::as_array_mut) {
                Some(list) => list.extend(value.as_array().cloned().unwrap_or_default()),
                None => drop(rule.insert(name.to_owned(), value)),
            }
        }
    }
    moves
}
