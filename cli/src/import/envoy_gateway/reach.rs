//! Which entries a policy reaches: those of its targets for which no nearer target has another policy of its kind.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::literal::{All, Literal, disjoint, of_entry, product};
use crate::import::dialect::Context;
use crate::import::field::Object;
use crate::import::mesh::gateways::Listener;
use crate::import::mesh::{Entry, hosts};
use crate::import::read::Resource;

/// How near a target is; the nearest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Near {
    Gateway,
    Listener,
    Route,
    Rule,
}

/// Takes the fields that say what a policy is for, and gives the entries that it reaches. Where there are none, that was said.
pub fn read(kind: &'static str, spec: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) -> Vec<usize> {
    let mut named = Vec::new();
    if let Some(field) = spec.field("targetRef") {
        named.push(field);
    }
    named.extend(spec.field("targetRefs").into_iter().flat_map(|field| field.items()));
    let namespace = cx.namespace(resource).to_owned();
    for field in &named {
        let Some(target) = Target::of(field.value()) else {
            field.forbid("it names no target", "give it group, kind and name");
            continue;
        };
        let known = matches!(target.kind, "Gateway" | "HTTPRoute" | "GRPCRoute");
        match (known, cx.find(target.kind, &namespace, target.name)) {
            (false, _) => field.forbid(
                format!("nothing is known of a {} as a target", target.kind),
                "name a Gateway, an HTTPRoute or a GRPCRoute",
            ),
            (true, None) => field.forbid(
                format!("there is no {} {namespace}/{} in the input", target.kind, target.name),
                "put it into the input",
            ),
            (true, Some(_)) => field.taken("the entries that this is for"),
        }
    }
    if let Some(field) = spec.field("targetSelectors") {
        field.forbid("targets are not chosen by labels here", "name them in targetRefs");
    }
    if let Some(field) = spec.field("mergeType") {
        field.forbid(
            "a policy is not put together with that of the Gateway here",
            "write all of it into the policy of the route",
        );
    }
    if named.is_empty() && !spec.has("targetSelectors") {
        resource.log.error("spec", "it does not say what it is for", "give it targetRefs");
    }
    let reached = reached_by(kind, resource, cx);
    let among = |list: &str| {
        let found = cx.mesh.found.get(kind).and_then(|found| found.get(list)?.as_array());
        found.is_some_and(|found| found.contains(&json!(resource.index)))
    };
    if among(UNCLEAR) {
        resource.log.error(
            "spec",
            "it is for one of several listeners, and routes are on all of them: who comes by which is not told apart here",
            "give the routes a sectionName, or target the Gateway",
        );
    }
    if among(SUPERSEDED) {
        resource.log.warn(
            "spec",
            "for some of its routes it does not hold: another one is for the same target, and older",
            "keep one for each target",
        );
    }
    if reached.is_empty() {
        spec.rest(|field| field.no_meaning("no route of this proxy is reached by it"));
    }
    reached
}

/// Under these names it is kept which policies are for a listener of routes that are on several, and in whose place others hold.
const UNCLEAR: &str = "unclear";
const SUPERSEDED: &str = "superseded";

struct Target<'v> {
    kind: &'v str,
    name: &'v str,
    section: Option<&'v str>,
}

impl<'v> Target<'v> {
    fn of(value: &'v Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        Some(Target { kind: text("kind")?, name: text("name")?, section: text("sectionName") })
    }

    fn all(policy: &'v Value) -> Vec<Self> {
        let one = policy.pointer("/spec/targetRef").into_iter();
        let several = policy.pointer("/spec/targetRefs").and_then(Value::as_array).into_iter().flatten();
        one.chain(several).filter_map(Target::of).collect()
    }
}

/// The entries of a policy, out of what is found once for all policies of its kind.
fn reached_by(kind: &'static str, resource: &Resource, cx: &mut Context<'_>) -> Vec<usize> {
    if !cx.mesh.found.contains_key(kind) {
        let found = all(kind, cx);
        cx.mesh.found.insert(kind, found);
    }
    let own = cx.mesh.found.get(kind).and_then(|found| found.get(resource.index.to_string()));
    let entries = own.and_then(Value::as_array).into_iter().flatten();
    entries.filter_map(|index| usize::try_from(index.as_u64()?).ok()).collect()
}

/// An entry, and the listener that its route names.
type OnListener<'v> = (usize, Option<&'v str>);

/// The entries of every policy of a kind, by its number among the resources.
fn all(kind: &'static str, cx: &Context<'_>) -> Value {
    let mut by_route: BTreeMap<(&str, &str, &str), Vec<usize>> = BTreeMap::new();
    let mut by_gateway: BTreeMap<(&str, &str), Vec<OnListener<'_>>> = BTreeMap::new();
    for (index, entry) in cx.mesh.entries.iter().enumerate() {
        let Some(route) = cx.resources.get(entry.origin.resource) else { continue };
        let of = cx.namespace(route);
        by_route.entry((&route.kind, of, &route.name)).or_default().push(index);
        let parents = route.value.pointer("/spec/parentRefs").and_then(Value::as_array);
        for parent in parents.into_iter().flatten() {
            let text = |name: &str| parent.get(name).and_then(Value::as_str);
            let gateway = (text("namespace").unwrap_or(of), text("name").unwrap_or_default());
            let listeners = cx.mesh.gateways.listeners.get(&(gateway.0.into(), gateway.1.into()));
            let port = parent.get("port").and_then(Value::as_u64);
            let fits = |listener: &&Listener| port.is_none_or(|port| u64::from(listener.port) == port);
            let mut on = listeners.into_iter().flatten().filter(fits);
            let only = on.next().filter(|_| on.next().is_none()).map(|listener| listener.name.as_str());
            by_gateway.entry(gateway).or_default().push((index, text("sectionName").or(only)));
        }
    }
    let mut best: BTreeMap<usize, (Near, usize)> = BTreeMap::new();
    let (mut unclear, mut superseded) = (BTreeSet::new(), BTreeSet::new());
    let mut policies: Vec<&Resource> = cx.all(kind).collect();
    policies.sort_by_key(|policy| policy.age());
    for policy in policies {
        let namespace = cx.namespace(policy);
        for target in Target::all(&policy.value) {
            let (near, entries): (Near, Vec<usize>) = match (target.kind, target.section) {
                ("Gateway", section) => {
                    let here = |of: &Option<&str>| section.is_none() || *of == section;
                    let on = by_gateway.get(&(namespace, target.name)).into_iter().flatten();
                    if section.is_some() && on.clone().any(|(_, of)| of.is_none()) {
                        unclear.insert(policy.index);
                    }
                    let near = if section.is_some() { Near::Listener } else { Near::Gateway };
                    (near, on.filter(|(_, of)| here(of)).map(|(index, _)| *index).collect())
                }
                (kind, section) => {
                    let of = by_route.get(&(kind, namespace, target.name)).into_iter().flatten().copied();
                    match section {
                        None => (Near::Route, of.collect()),
                        Some(section) => {
                            (Near::Rule, of.filter(|index| is_rule(*index, section, cx)).collect())
                        }
                    }
                }
            };
            for entry in entries {
                // Of several that are equally near the oldest counts.
                match best.get(&entry) {
                    Some((known, of)) if near == *known && *of != policy.index => {
                        superseded.insert(policy.index);
                    }
                    Some((known, _)) if near <= *known => {}
                    _ => drop(best.insert(entry, (near, policy.index))),
                }
            }
        }
    }
    let mut found = json!({UNCLEAR: unclear, SUPERSEDED: superseded});
    for (entry, (_, policy)) in best {
        if let Some(map) = found.as_object_mut() {
            let entries = map.entry(policy.to_string()).or_insert_with(|| json!([]));
            entries.as_array_mut().into_iter().for_each(|entries| entries.push(json!(entry)));
        }
    }
    found
}

/// Whether an entry comes from the rule of this name.
fn is_rule(index: usize, name: &str, cx: &Context<'_>) -> bool {
    let Some(entry) = cx.mesh.entries.get(index) else { return false };
    let pointer = format!("/{}/name", entry.origin.path.replace(['.', '['], "/").replace(']', ""));
    let route = cx.resources.get(entry.origin.resource);
    route.and_then(|route| route.value.pointer(&pointer)).is_some_and(|own| own == name)
}

/// What requests of an entry are, in alternatives, and not those of entries before it that `others` has.
///
/// # Errors
/// What there are no words for.
pub fn requests(index: usize, others: impl Fn(usize) -> bool, entries: &[Entry]) -> Result<Vec<All>, String> {
    let Some(entry) = entries.get(index) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for own in of_entry(entry)? {
        let mut alternatives = vec![own.clone()];
        for (other, before) in entries.iter().enumerate() {
            if other == index || !others(other) || !comes_before((other, before), (index, entry)) {
                continue;
            }
            for taken in of_entry(before)? {
                if disjoint(&own, &taken) {
                    continue;
                }
                let contrary: Vec<All> = taken
                    .into_iter()
                    .filter(|literal| !own.contains(literal))
                    .map(|literal| vec![Literal { holds: !literal.holds, ..literal }])
                    .collect();
                alternatives = product(&alternatives, &contrary)?;
            }
        }
        found.extend(alternatives);
    }
    Ok(found)
}

/// Whether one entry is asked before another, for a host that both have.
fn comes_before((at, one): (usize, &Entry), (other_at, other): (usize, &Entry)) -> bool {
    let exact = |host: &str| (!host.starts_with('*'), host.len());
    one.hosts.iter().any(|host| {
        other.hosts.iter().any(|of| {
            hosts::common(host, of).is_some()
                && (exact(of), (&one.precedence, at)).cmp(&(exact(host), (&other.precedence, other_at)))
                    == std::cmp::Ordering::Less
        })
    })
}

/// The order in which entries are asked.
pub fn order(entries: &[Entry]) -> Vec<usize> {
    let key = |index: &usize| {
        let entry = entries.get(*index);
        let host =
            entry.and_then(|entry| entry.hosts.iter().map(|host| (!host.starts_with('*'), host.len())).max());
        (std::cmp::Reverse(host), entry.map(|entry| entry.precedence.clone()), *index)
    };
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_cached_key(key);
    order
}

/// A set for looking up.
pub fn set(entries: &[usize]) -> BTreeSet<usize> {
    entries.iter().copied().collect()
}
