//! Which entries a policy reaches: those of its targets for which no nearer target has another policy of its kind.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::literal::{All, Literal, contrary, disjoint, of_entry, product};
use crate::import::context::Context;
use crate::import::field::Object;
use crate::import::gateway::attached::Target;
use crate::import::mesh::gateways::Named;
use crate::import::mesh::{Entry, hosts, put};
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
            "it is for some of several listeners, and routes are on all of them: who comes by which is not told apart here",
            "say --gateway, or give the routes a sectionName, or target the Gateway",
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

/// The entries of every policy of a kind, by its number among the resources.
fn all(kind: &'static str, cx: &Context<'_>) -> Value {
    let mut by_route: BTreeMap<(&str, &str, &str), Vec<usize>> = BTreeMap::new();
    let mut by_gateway: BTreeMap<(&str, &str), Vec<(usize, &Named)>> = BTreeMap::new();
    for (index, entry) in cx.mesh.entries.iter().enumerate() {
        let Some(route) = cx.resources.get(entry.origin.resource) else { continue };
        by_route.entry((&route.kind, cx.namespace(route), &route.name)).or_default().push(index);
    }
    for (index, listeners) in &cx.mesh.gateways.of_entries {
        for listener in listeners {
            by_gateway.entry((&listener.0, &listener.1)).or_default().push((*index, listener));
        }
    }
    // Who is on no listener is at one place all the same.
    let places = |index: usize| -> Vec<Option<&Named>> {
        match cx.mesh.gateways.of_entries.get(&index) {
            Some(listeners) => listeners.iter().map(Some).collect(),
            None => vec![None],
        }
    };
    let mut best: BTreeMap<(usize, Option<&Named>), (Near, usize)> = BTreeMap::new();
    let mut superseded = BTreeSet::new();
    let mut policies: Vec<&Resource> = cx.all(kind).collect();
    policies.sort_by_key(|policy| (policy.created(), cx.namespace(policy), policy.name.as_str()));
    for policy in policies {
        let namespace = cx.namespace(policy);
        for target in Target::all(&policy.value) {
            let (near, reached): (Near, Vec<(usize, Option<&Named>)>) = match (target.kind, target.section) {
                ("Gateway", section) => {
                    let near = if section.is_some() { Near::Listener } else { Near::Gateway };
                    let on = by_gateway.get(&(namespace, target.name)).into_iter().flatten();
                    let on = on.filter(|(_, listener)| section.is_none_or(|name| name == listener.2));
                    (near, on.map(|(index, listener)| (*index, Some(*listener))).collect())
                }
                (kind, section) => {
                    let near = if section.is_some() { Near::Rule } else { Near::Route };
                    let of = by_route.get(&(kind, namespace, target.name)).into_iter().flatten().copied();
                    let of = of.filter(|index| section.is_none_or(|name| is_rule(*index, name, cx)));
                    (
                        near,
                        of.flat_map(|index| places(index).into_iter().map(move |at| (index, at))).collect(),
                    )
                }
            };
            for place in reached {
                // Of several that are equally near the oldest counts.
                match best.get(&place) {
                    Some((known, of)) if near == *known && *of != policy.index => {
                        superseded.insert(policy.index);
                    }
                    Some((known, _)) if near <= *known => {}
                    _ => drop(best.insert(place, (near, policy.index))),
                }
            }
        }
    }
    let entries: BTreeSet<usize> = best.keys().map(|(index, _)| *index).collect();
    let (mut found, mut unclear) = (json!({}), BTreeSet::<usize>::new());
    for index in entries {
        let of = |at: Option<&Named>| best.get(&(index, at)).map(|(_, policy)| *policy);
        let policies: BTreeSet<Option<usize>> = places(index).into_iter().map(of).collect();
        // One entry has one policy.
        if policies.len() > 1 {
            unclear.extend(policies.iter().flatten());
        }
        for policy in policies.into_iter().flatten() {
            if let Some(map) = found.as_object_mut() {
                let entries = map.entry(policy.to_string()).or_insert_with(|| json!([]));
                entries.as_array_mut().into_iter().for_each(|entries| entries.push(json!(index)));
            }
        }
    }
    put(&mut found, UNCLEAR, json!(unclear));
    put(&mut found, SUPERSEDED, json!(superseded));
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
    // Who comes before it is another one for each host: those that have the same others are one.
    let mut groups: BTreeMap<Vec<Before<'_>>, Vec<String>> = BTreeMap::new();
    for host in &entry.hosts {
        let before = entries.iter().enumerate().filter(|(other, _)| *other != index && others(*other));
        let before = before.filter_map(|(at, other)| before_it(host, (index, entry), (at, other)));
        groups.entry(before.collect()).or_default().push(host.clone());
    }
    let mut found: Vec<All> = Vec::new();
    for (before, hosts) in groups {
        let with = |of: &Entry, hosts: Vec<String>| of_entry(&Entry { hosts, ..of.clone() });
        for own in with(entry, hosts.clone())? {
            let mut alternatives = vec![own.clone()];
            for (other, within) in &before {
                let Some(other) = entries.get(*other) else { continue };
                let of: Option<Vec<String>> =
                    within.as_ref().map(|within| within.iter().map(|host| (*host).to_owned()).collect());
                for taken in with(other, of.unwrap_or_else(|| hosts.clone()))? {
                    if disjoint(&own, &taken) {
                        continue;
                    }
                    let rest: Vec<Literal> =
                        taken.into_iter().filter(|literal| !own.contains(literal)).collect();
                    alternatives = product(&alternatives, &contrary(&rest))?;
                }
            }
            found.extend(alternatives);
        }
    }
    Ok(found)
}

/// An entry that comes before another for a host, and the hosts within it for which it does; `None`: all of it.
type Before<'e> = (usize, Option<Vec<&'e str>>);

fn before_it<'e>(host: &str, own: (usize, &Entry), (at, other): (usize, &'e Entry)) -> Option<Before<'e>> {
    let is_first = (&other.precedence, at) < (&own.1.precedence, own.0);
    if is_first && other.hosts.iter().any(|of| of == host) {
        return Some((at, None));
    }
    let within = other.hosts.iter().filter(|of| *of != host && hosts::has(host, of));
    let within: Vec<&str> = within.map(String::as_str).collect();
    (!within.is_empty()).then_some((at, Some(within)))
}

/// The order in which entries are asked, host by host.
pub fn order(entries: &[Entry]) -> Vec<(usize, Vec<String>)> {
    let hosts = entries.iter().enumerate().flat_map(|(index, entry)| {
        entry.hosts.iter().map(move |host| {
            let rank = if host.starts_with('*') { usize::MAX.saturating_sub(host.len()) } else { 0 };
            ((rank, &entry.precedence, index), host)
        })
    });
    let mut hosts: Vec<_> = hosts.collect();
    hosts.sort();
    let mut order: Vec<(usize, Vec<String>)> = Vec::new();
    for ((_, _, index), host) in hosts {
        match order.last_mut() {
            Some((last, hosts)) if *last == index => hosts.push(host.clone()),
            _ => order.push((index, vec![host.clone()])),
        }
    }
    order
}

/// A set for looking up.
pub fn set(entries: &[usize]) -> BTreeSet<usize> {
    entries.iter().copied().collect()
}
