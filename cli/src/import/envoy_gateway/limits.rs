//! `rateLimit` of a BackendTrafficPolicy: limits here, and limits of a rate limit service.

use serde_json::{Map, Value, json};

use super::authorization::{inverted, path};
use super::literal::{All, Asked, Literal, contrary, matching, product};
use super::reach::{requests, set};
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::put;
use crate::import::read::Resource;

/// The cluster of the rate limit service.
const SERVICE: &str = "ratelimit";

/// The longest spans that are asked for, in seconds.
const UNITS: [(&str, u64); 7] = [
    ("Second", 1),
    ("Minute", 60),
    ("Hour", 3_600),
    ("Day", 86_400),
    ("Week", 604_800),
    ("Month", 2_592_000),
    ("Year", 31_536_000),
];

/// One rule.
struct Limit {
    number: usize,
    asked: All,
    /// What has a bucket of its own: sources of the policy's keys, each with its name.
    keys: Vec<(String, Value)>,
    requests: u64,
    unit: &'static str,
    seconds: u64,
    shared: bool,
    value: Value,
}

impl Limit {
    /// Whether it has no selectors.
    fn is_for_the_rest(&self) -> bool {
        self.asked.is_empty() && self.keys.is_empty()
    }

    /// What a request has to have to be counted: the headers that are told apart, too.
    fn all_asked(&self) -> All {
        let any = || json!({"regex": ".*"});
        let told_apart = self.keys.iter().filter_map(|(name, key)| {
            let asked = match (key.get("header"), key.get("queryParam")) {
                (Some(_), _) => Asked::Header(name.clone(), vec![any()]),
                (_, Some(_)) => Asked::Query(name.clone(), any()),
                _ => return None,
            };
            Some(Literal { asked, holds: true })
        });
        self.asked.iter().cloned().chain(told_apart).collect()
    }
}

/// Reads it.
pub fn read(field: &Field<'_>, reached: &[usize], resource: &Resource, cx: &mut Context<'_>) {
    let Some(object) = field.object() else { return };
    if let Some(field) = object.field("type") {
        field.taken("rateLimits");
    }
    for (name, is_global) in [("local", false), ("global", true)] {
        let Some(part) = object.field(name) else { continue };
        let Some(inner) = part.object() else { continue };
        let items = inner.field("rules").map(|field| field.items()).unwrap_or_default();
        let mut limits = Vec::new();
        for (number, item) in items.iter().enumerate() {
            limits.extend(limit(item, number, is_global));
        }
        if is_global && !limits.is_empty() && !cx.scope.endpoints.iter().any(|name| name == SERVICE) {
            part.warn(
                "the input does not say where the rate limit service is: it is asked at ratelimit:8081, and while nothing \
                 answers there, nothing is limited",
                "--endpoint ratelimit=HOST:PORT",
            );
        }
        let wrong = limits.len() < items.len();
        if wrong {
            continue;
        }
        let to = format!("{}/{name}", super::name(resource, cx));
        match written(&limits, &to, is_global, reached, resource, cx) {
            Ok(values) => {
                let origin = cx.origin(resource, part.path());
                cx.mesh.rate_limits.extend(values.into_iter().map(|value| (value, origin.clone())));
            }
            Err(reason) => part.problem_here(
                format!("which requests it is for cannot be written down: {reason}"),
                "target the Gateway, or write it into the policy's rateLimits",
            ),
        }
    }
}

/// The limits in the policy's words: for each entry by itself, unless they are shared.
fn written(
    limits: &[Limit],
    to: &str,
    is_global: bool,
    reached: &[usize],
    resource: &Resource,
    cx: &Context<'_>,
) -> Result<Vec<Value>, String> {
    let entries = &cx.mesh.entries;
    let own = set(reached);
    let mut found = Vec::new();
    for limit in limits {
        // Here a limit without selectors is for requests that no other one is for; a service counts each by itself.
        let mut asked = vec![limit.asked.clone()];
        if !is_global && limit.is_for_the_rest() {
            for other in limits.iter().filter(|other| !other.is_for_the_rest()) {
                asked = product(&asked, &contrary(&other.all_asked()))?;
            }
        }
        let groups: Vec<(Option<String>, Vec<usize>)> = match limit.shared || reached.len() == 1 {
            true => vec![(None, reached.to_vec())],
            false => reached
                .iter()
                .map(|index| {
                    let name = entries.get(*index).map(|entry| entry.name.as_str()).unwrap_or_default();
                    (Some(format!("{name}-{index}")), vec![*index])
                })
                .collect(),
        };
        for (entry, group) in groups {
            let all = entry.is_none() && own.len() == entries.len();
            let mut matches = Vec::new();
            for index in group.iter().filter(|_| !all) {
                let others = |other: usize| entry.is_some() || !own.contains(&other);
                for all in product(&requests(*index, others, entries)?, &asked)? {
                    matches.push(matching(&all)?);
                }
            }
            if all {
                matches = asked.iter().map(|all| matching(all)).collect::<Result<_, _>>()?;
            }
            let mut value = limit.value.clone();
            let own_name = match &entry {
                Some(entry) => format!("{to}/{}/{entry}", limit.number),
                None => format!("{to}/{}", limit.number),
            };
            put(&mut value, "name", own_name.as_str());
            if matches.is_empty() {
                continue;
            }
            if !matches.contains(&json!({})) {
                put(&mut value, "match", matches);
            }
            match is_global {
                false => bucket(limit, &mut value),
                true => service(limit, &own_name, resource, cx, &mut value),
            }
            found.push(value);
        }
    }
    Ok(found)
}

fn bucket(limit: &Limit, value: &mut Value) {
    put(
        value,
        "tokenBucket",
        json!({
            "maxTokens": limit.requests,
            "tokensPerFill": limit.requests,
            "fillInterval": format!("{}s", limit.seconds),
        }),
    );
    if !limit.keys.is_empty() {
        put(value, "key", limit.keys.iter().map(|(_, key)| key.clone()).collect::<Vec<Value>>());
    }
}

fn service(limit: &Limit, name: &str, resource: &Resource, cx: &Context<'_>, value: &mut Value) {
    let mut parts = vec![json!({"key": "rule", "value": {"literal": name}})];
    parts.extend(limit.keys.iter().map(|(name, key)| json!({"key": name, "value": key})));
    put(
        value,
        "global",
        json!({
            "cluster": SERVICE,
            "domain": super::name(resource, cx),
            "failureMode": "allow",
            "descriptors": [{"entries": parts}],
            "limit": {"requestsPerUnit": limit.requests, "unit": limit.unit.to_ascii_uppercase()},
        }),
    );
}

fn limit(item: &Field<'_>, number: usize, is_global: bool) -> Option<Limit> {
    const TO: &str = "rateLimits";
    let object = item.object()?;
    object.may_have(&["clientSelectors", "cost", "limit", "shadowMode", "shared", "xRateLimitHeaders"]);
    let mut value = json!({});
    let (mut asked, mut keys, mut good) = (All::new(), Vec::new(), true);
    for selector in object.field("clientSelectors").into_iter().flat_map(|field| field.items()) {
        good &= selected(&selector, &mut asked, &mut keys).is_some();
    }
    let flag = |name: &'static str| -> Option<bool> {
        let field = object.field(name)?;
        field.taken(TO);
        field.flag()
    };
    let shared = flag("shared").unwrap_or(false);
    if flag("shadowMode") == Some(true) {
        put(&mut value, "mode", "shadow");
    }
    if let Some(field) = object.field("xRateLimitHeaders")
        && let Some(headers) = field.text()
    {
        field.taken("rateLimits[].headers");
        put(&mut value, "headers", if headers == "Off" { "none" } else { "draft03" });
    } else if is_global {
        put(&mut value, "headers", "draft03");
    }
    if let Some(cost) = object.field("cost").and_then(|field| field.object()) {
        good &= self::cost(&cost, &mut value).is_some();
    }
    let limit = object.field("limit").and_then(|field| field.object());
    let Some(limit) = limit else {
        item.problem_here("it has no limit", "give it limit.requests and limit.unit");
        return None;
    };
    if let Some(field) = limit.field("fromMetadata") {
        field.forbid("a limit that other filters know is not asked for", "write it into limit.requests");
        good = false;
    }
    limit.may_have(&["requests", "unit"]);
    let (requests, unit) = (limit.field("requests"), limit.field("unit"));
    let (requests, unit) = requests.zip(unit)?;
    let count = requests.whole(1, u64::from(u32::MAX))?;
    let named = unit.text()?;
    let Some((name, seconds)) = UNITS.iter().find(|(known, _)| *known == named) else {
        return unit.wrong(format!("{named} is no unit; use Second, Minute, Hour, Day, Month or Year"));
    };
    if is_global && *name == "Week" {
        return unit.wrong("a rate limit service knows no weeks; use Day or Month");
    }
    requests.taken(TO);
    unit.taken(TO);
    let found = Limit { number, asked, keys, requests: count, unit: name, seconds: *seconds, shared, value };
    good.then_some(found)
}

fn cost(cost: &Object<'_>, value: &mut Value) -> Option<()> {
    cost.may_have(&["request", "response"]);
    if let Some(field) = cost.field("response") {
        field.forbid("what an answer costs is not counted", "count requests");
        return None;
    }
    let request = cost.field("request")?.object()?;
    request.may_have(&["from", "metadata", "number"]);
    if let Some(field) = request.field("metadata") {
        field.forbid("what other filters say a request costs is not asked for", "use number");
        return None;
    }
    if let Some(field) = request.field("from") {
        field.taken("rateLimits[].cost");
    }
    let field = request.field("number")?;
    let number = field.whole(1, u64::from(u32::MAX))?;
    field.taken("rateLimits[].cost");
    put(value, "cost", number);
    Some(())
}

/// What a selector asks for, and what it tells apart.
fn selected(field: &Field<'_>, asked: &mut All, keys: &mut Vec<(String, Value)>) -> Option<()> {
    const TO: &str = "rateLimits[].match";
    let object = field.object()?;
    object.may_have(&["headers", "queryParams", "methods", "path", "sourceCIDR"]);
    for (name, is_header) in [("headers", true), ("queryParams", false)] {
        for item in object.field(name).into_iter().flat_map(|field| field.items()) {
            let object = item.object()?;
            object.may_have(&["name", "type", "value", "invert"]);
            let named = object.field("name")?;
            let own = named.text()?;
            named.taken(TO);
            let kind = text(&object, "type")?.unwrap_or("Exact");
            let value = text(&object, "value")?;
            let holds = !inverted(&object, TO)?;
            let own = if is_header { own.to_ascii_lowercase() } else { own.to_owned() };
            let how = match (kind, value) {
                ("Distinct", _) => {
                    let source = if is_header { "header" } else { "queryParam" };
                    keys.push((
                        own.clone(),
                        Value::Object(Map::from_iter([(source.to_owned(), json!(own))])),
                    ));
                    continue;
                }
                ("Exact", Some(value)) => json!({ "exact": value }),
                ("RegularExpression", Some(value)) => json!({ "regex": value }),
                _ => {
                    return item.wrong(
                        "it has no value, or a type that is none of Exact, RegularExpression, Distinct",
                    );
                }
            };
            let what = match is_header {
                true => Asked::Header(own, vec![how]),
                false => Asked::Query(own, how),
            };
            asked.push(Literal { asked: what, holds });
        }
    }
    let mut methods = Vec::new();
    for item in object.field("methods").into_iter().flat_map(|field| field.items()) {
        let object = item.object()?;
        object.may_have(&["value", "invert"]);
        let value = text(&object, "value")?.unwrap_or_default().to_owned();
        match inverted(&object, TO)? {
            true => asked.push(Literal { asked: Asked::Methods(vec![value]), holds: false }),
            false => methods.push(value),
        }
    }
    if !methods.is_empty() {
        asked.push(Literal { asked: Asked::Methods(methods), holds: true });
    }
    if let Some(field) = object.field("path") {
        asked.extend(path(&field, TO)?);
    }
    if let Some(field) = object.field("sourceCIDR") {
        let object = field.object()?;
        object.may_have(&["type", "value", "invert"]);
        let (kind, value) = (text(&object, "type")?.unwrap_or("Exact"), text(&object, "value")?);
        let holds = !inverted(&object, TO)?;
        let Some(value) = value else { return field.wrong("it has no value") };
        if kind == "Distinct" {
            keys.push(("remote_address".to_owned(), json!({"remoteAddress": {}})));
        }
        let everybody = matches!(value, "0.0.0.0/0" | "::/0");
        if kind != "Distinct" || !everybody {
            asked.push(Literal { asked: Asked::Client(vec![value.to_owned()]), holds });
        }
    }
    Some(())
}

/// A text that is taken; `None` where it is none.
fn text<'a>(object: &Object<'a>, name: &'static str) -> Option<Option<&'a str>> {
    let Some(field) = object.field(name) else { return Some(None) };
    let text = field.text()?;
    field.taken("rateLimits[].match");
    Some(Some(text))
}
