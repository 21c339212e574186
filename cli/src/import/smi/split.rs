//! TrafficSplit → weighted entries of `http`.

use serde_json::{Map, Value, json};

use super::routes;
use crate::import::context::Context;
use crate::import::dialect::no_hint;
use crate::import::field::{Field, Object, Reading};
use crate::import::mesh::condition::Condition;
use crate::import::mesh::hosts;
use crate::import::mesh::{Destination, Entry, Origin};
use crate::import::read::Resource;

/// How the requests of a service are divided.
#[derive(Clone, Debug)]
pub struct Split {
    /// The name of the resource.
    pub name: String,
    /// The full name of the service.
    pub service: String,
    /// The policy's `route`.
    pub route: Value,
    /// The services that it leads to.
    pub backends: Vec<String>,
    /// Which requests it is for; `None`: all.
    pub condition: Option<Condition>,
    /// Where it comes from.
    pub origin: Origin,
}

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(split) = self::split(top, resource, cx) else { return };
    if let Some((reason, remedy)) = cx.not_its_host(resource, &split.service) {
        resource.log.warn("spec.service", format!("left out: {reason}"), remedy);
        return;
    }
    let earlier = of_service(&split.service, cx).into_iter().find(|other| {
        other.condition.is_none() && split.condition.is_none() && other.origin.resource < resource.index
    });
    if let Some(earlier) = earlier {
        resource.log.error(
            "spec.service",
            format!("the TrafficSplit {} divides {} already", earlier.name, split.service),
            "keep one, or give them matches",
        );
        return;
    }
    if cx.has_profile(&split.service) {
        // The profile's routes lead where this says.
        return;
    }
    let matches = match split.condition.as_ref().map(Condition::matches) {
        None => Vec::new(),
        Some(Ok(matches)) if matches.is_empty() => {
            resource.log.error("spec.matches", "no request can match this", "say what it is for");
            return;
        }
        Some(Ok(matches)) => matches,
        Some(Err(error)) => {
            resource.log.error("spec.matches", error, "");
            return;
        }
    };
    let everything = matches.is_empty() || matches == [json!({})];
    let mut value = Map::new();
    if !everything {
        value.insert("match".to_owned(), Value::Array(matches));
    }
    value.insert("route".to_owned(), split.route.clone());
    let hosts = vec![split.service.clone()];
    let entry = |name: String, value, last: i64| Entry {
        name,
        hosts: hosts.clone(),
        precedence: vec![last],
        value,
        origin: split.origin.clone(),
    };
    // What has matches comes first.
    cx.mesh.entries.push(entry(split.name.clone(), value, i64::from(everything)));
    let first_with_matches = || {
        let others = of_service(&split.service, cx);
        let all = others.iter().any(|other| other.condition.is_none());
        !all && others.first().is_none_or(|first| first.origin.resource == resource.index)
    };
    if !everything && first_with_matches() {
        let own = json!([{"destination": destination(&split.service, cx).value()}]);
        let value = Map::from_iter([("route".to_owned(), own)]);
        cx.mesh.entries.push(entry(format!("{}/others", split.name), value, 2));
    }
}

/// All that is said of how the requests of a service are divided, those with conditions first.
pub fn of_service(service: &str, cx: &Context<'_>) -> Vec<Split> {
    let named = |resource: &Resource| {
        let named = resource.value.get("spec").and_then(|spec| spec.get("service")?.as_str());
        named.map(str::to_owned)
    };
    let words = |resource: &Resource| named(resource).iter().map(|name| hosts::first(name)).collect();
    let mut splits: Vec<Split> = cx
        .with(("TrafficSplit", "service"), words, &hosts::first(service))
        .into_iter()
        .filter(|resource| {
            named(resource).is_some_and(|name| cx.host(&name, resource) == service)
                && cx.not_its_host(resource, service).is_none()
        })
        .filter_map(|resource| {
            resource.log.silently(|| {
                let reading = Reading { log: &resource.log, hint: no_hint };
                let top = Field::root(&resource.value, reading).object()?;
                top.rest(|_| {});
                self::split(&top, resource, cx)
            })
        })
        .collect();
    splits.sort_by_key(|split| split.condition.is_none());
    splits
}

/// A service as a destination, with its port if it has only one.
pub fn destination(host: &str, cx: &Context<'_>) -> Destination {
    Destination { host: host.to_owned(), subset: None, port: cx.mesh.services.only_port(host) }
}

fn split(top: &Object<'_>, resource: &Resource, cx: &Context<'_>) -> Option<Split> {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else {
        resource.log.error("spec", "a TrafficSplit without a spec divides nothing", "give it spec.service");
        return None;
    };
    let condition = spec.field("matches").map(|field| conditions(&field, resource, cx));
    let service = spec.field("service");
    let backends = spec.field("backends");
    let Some(service) = service else {
        resource.log.error("spec.service", "it does not say whose requests it divides", "name the service");
        return None;
    };
    let host = cx.host(service.text()?, resource);
    service.taken("the hosts of the http entry");
    let Some(backends) = backends else {
        resource.log.error("spec.backends", "it has no backends", "say where requests go");
        return None;
    };
    let mut read: Vec<(String, u64)> = Vec::new();
    for (index, item) in backends.items().iter().enumerate() {
        let Some(object) = item.object() else { continue };
        let to = format!("http[{}].route[{index}]", resource.name);
        let weight = match object.field("weight") {
            Some(field) => {
                let weight = thousandths(&field);
                if weight.is_some() {
                    field.taken(format!("{to}.weight"));
                }
                weight
            }
            None => {
                item.problem_here("it has no weight", "say how many requests go there");
                None
            }
        };
        match object.field("service") {
            Some(field) => {
                if let Some(name) = field.text() {
                    field.taken(format!("{to}.destination.host"));
                    read.push((cx.host(name, resource), weight.unwrap_or_default()));
                }
            }
            None => item.problem_here("it names no service", "say where requests go"),
        }
    }
    if read.iter().all(|(_, weight)| *weight == 0) {
        backends.problem_here("all weights are 0: nothing is left to go to", "give one of them a weight");
        return None;
    }
    let weights = whole(read.iter().map(|(_, weight)| *weight).collect());
    let way = |((host, _), weight): (&(String, u64), u32)| json!({"destination": destination(host, cx).value(), "weight": weight});
    Some(Split {
        name: resource.name.clone(),
        service: host,
        route: read.iter().zip(weights).map(way).collect(),
        backends: read.iter().map(|(host, _)| host.clone()).collect(),
        condition: condition.flatten(),
        origin: cx.origin(resource, "spec"),
    })
}

/// Any of the groups of matches that are named.
fn conditions(field: &Field<'_>, resource: &Resource, cx: &Context<'_>) -> Option<Condition> {
    let mut any = Vec::new();
    for item in field.items() {
        let Some(object) = item.object() else { continue };
        any.extend(routes::named(&item, &object, cx.namespace(resource), cx));
    }
    (!any.is_empty()).then_some(Condition::Any(any))
}

/// A weight in thousandths, rounded up: a number, or a quantity of Kubernetes such as `900m`.
pub fn thousandths(field: &Field<'_>) -> Option<u64> {
    let text = match field.value() {
        Value::Number(number) => number.to_string(),
        _ => field.text()?.to_owned(),
    };
    quantity(&text)
        .or_else(|| field.wrong(format!("\"{text}\" is no weight; use a number or a quantity such as 900m")))
}

/// A quantity of Kubernetes in thousandths, rounded up.
pub fn quantity(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || fraction.len() > 18 {
        return None;
    }
    let exponent = |text: &str| text.parse::<i32>().ok().filter(|exponent| exponent.abs() <= 18);
    let (power, times): (i32, u128) = match suffix {
        "" => (0, 1),
        "n" => (-9, 1),
        "u" => (-6, 1),
        "m" => (-3, 1),
        "k" => (3, 1),
        "M" => (6, 1),
        "G" => (9, 1),
        "Ki" => (0, 1 << 10),
        "Mi" => (0, 1 << 20),
        "Gi" => (0, 1 << 30),
        other => (exponent(other.strip_prefix(['e', 'E'])?)?, 1),
    };
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let digits = digits.checked_mul(times)?;
    let power = power.checked_add(3)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let ten = |power: i32| 10_u128.checked_pow(power.unsigned_abs());
    let thousandths = match power {
        0.. => digits.checked_mul(ten(power)?)?,
        _ => digits.div_ceil(ten(power)?),
    };
    u64::try_from(thousandths).ok()
}

/// Thousandths as whole weights in the same proportions: as they were written, where those are whole numbers.
pub fn whole(thousandths: Vec<u64>) -> Vec<u32> {
    let all_whole = thousandths.iter().all(|weight| weight % 1000 == 0);
    let mut weights: Vec<u64> =
        thousandths.into_iter().map(|weight| if all_whole { weight / 1000 } else { weight }).collect();
    // The policy's weights have 32 bits, and so has their sum.
    let count = u64::try_from(weights.len()).unwrap_or(u64::MAX);
    let limit = u64::from(u32::MAX).checked_div(count).unwrap_or(u64::MAX).max(1);
    let most = weights.iter().copied().max().unwrap_or_default();
    if most > limit {
        let by = most.checked_div(limit).unwrap_or_default().saturating_add(1);
        weights = weights.into_iter().map(|weight| weight.div_ceil(by)).collect();
    }
    weights.into_iter().map(|weight| u32::try_from(weight).unwrap_or(u32::MAX)).collect()
}
