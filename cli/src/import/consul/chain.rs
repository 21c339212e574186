//! ServiceSplitter and ServiceResolver: where the requests of a service go in the end.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::envoy::cluster::Balancing;
use crate::import::context::Context;
use crate::import::field::{Field, Member, Object, Shape};
use crate::import::mesh::services::Labels;
use crate::import::mesh::traffic::{Balancer, Pool};
use crate::import::mesh::{Destination, Entry, Rule, Subset, TrafficPolicy, hosts, put, span};
use crate::import::read::Resource;
use crate::import::smi::split::whole;

/// So many services may lead to each other.
const DEEPEST: usize = 8;

/// Changes of headers.
pub const HEADERS: Shape = Shape::Object(&[
    Member("add", Shape::Map(&Shape::Text)),
    Member("set", Shape::Map(&Shape::Text)),
    Member("remove", Shape::List(&Shape::Text)),
]);

/// One of the ways of a service's requests.
#[derive(Clone, Debug)]
struct Way {
    destination: Destination,
    /// Of all requests.
    share: f64,
    headers: Map<String, Value>,
}

/// All that a service is called.
pub fn names(name: &str, namespace: &str) -> Vec<String> {
    vec![
        hosts::of_service(name, namespace),
        format!("{name}.virtual.consul"),
        format!("{name}.service.consul"),
    ]
}

/// The policy's `route` of a service: what splitters and resolvers make of it.
pub fn route(name: &str, subset: Option<&str>, namespace: &str, cx: &Context<'_>) -> Value {
    let mut ways: Vec<Way> = Vec::new();
    ways_of(name, subset, namespace, 1.0, &Map::new(), DEEPEST, &mut ways, cx);
    let several = ways.len() > 1;
    let shares = ways.iter().map(|way| format!("{:.0}", way.share * 1e7).parse().unwrap_or(0));
    let weights = whole(shares.collect());
    let value = |(way, weight): (&Way, u32)| {
        let mut value = json!({"destination": way.destination.value()});
        if several {
            put(&mut value, "weight", weight);
        }
        if !way.headers.is_empty() {
            put(&mut value, "headers", way.headers.clone());
        }
        value
    };
    ways.iter().zip(weights).map(value).collect()
}

#[allow(clippy::too_many_arguments)]
fn ways_of(
    name: &str,
    subset: Option<&str>,
    namespace: &str,
    share: f64,
    headers: &Map<String, Value>,
    deeper: usize,
    found: &mut Vec<Way>,
    cx: &Context<'_>,
) {
    let text = |value: &Value, member: &str| value.get(member).and_then(Value::as_str).map(str::to_owned);
    let splitter = cx.find("ServiceSplitter", namespace, name).filter(|_| subset.is_none() && deeper > 0);
    let splits = splitter.and_then(|splitter| splitter.value.pointer("/spec/splits")?.as_array());
    if let Some(splits) = splits {
        for split in splits {
            let weight = split.get("weight").and_then(Value::as_f64).unwrap_or_default() / 100.0;
            let service = text(split, "service").unwrap_or_else(|| name.to_owned());
            let subset = text(split, "serviceSubset");
            let mut headers = headers.clone();
            for (side, member) in [("request", "requestHeaders"), ("response", "responseHeaders")] {
                if let Some(changes) = split.get(member) {
                    headers.insert(side.to_owned(), changes.clone());
                }
            }
            // A share of its own is the service itself.
            let deeper = if service == name { 0 } else { deeper.saturating_sub(1) };
            ways_of(&service, subset.as_deref(), namespace, share * weight, &headers, deeper, found, cx);
        }
        return;
    }
    let (name, subset) = resolved(name, subset, namespace, cx);
    let host = hosts::of_service(&name, namespace);
    let port = cx.mesh.services.only_port(&host);
    let destination = Destination { host, subset, port };
    match found.iter_mut().find(|way| way.destination == destination && way.headers == *headers) {
        Some(way) => way.share += share,
        None => found.push(Way { destination, share, headers: headers.clone() }),
    }
}

/// What resolvers make of a service and a subset.
fn resolved(name: &str, subset: Option<&str>, namespace: &str, cx: &Context<'_>) -> (String, Option<String>) {
    let (mut name, mut subset) = (name.to_owned(), subset.map(str::to_owned));
    for _ in 0..DEEPEST {
        let Some(resolver) = cx.find("ServiceResolver", namespace, &name) else { break };
        let text = |pointer: &str| resolver.value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let redirected = text("/spec/redirect/service").filter(|other| *other != name);
        if let Some(other) = redirected.filter(|_| subset.is_none()) {
            name = other;
            subset = text("/spec/redirect/serviceSubset");
            continue;
        }
        let default = || text("/spec/redirect/serviceSubset").or_else(|| text("/spec/defaultSubset"));
        subset = subset.or_else(default).filter(|subset| !subset.is_empty());
        break;
    }
    (name, subset)
}

/// The time that a resolver gives requests.
pub fn timeout(name: &str, namespace: &str, cx: &Context<'_>) -> Option<Value> {
    let resolver = cx.find("ServiceResolver", namespace, name)?;
    let text = resolver.value.pointer("/spec/requestTimeout")?.as_str()?;
    meshfilter::config::document::Duration::parse(text).map(|time| span(time.0).into())
}

/// The entry of a service that has no routes of its own.
fn entry(resource: &Resource, cx: &mut Context<'_>) {
    let namespace = cx.namespace(resource).to_owned();
    let mut value = Map::new();
    value.insert("route".to_owned(), route(&resource.name, None, &namespace, cx));
    if let Some(timeout) = timeout(&resource.name, &namespace, cx) {
        value.insert("timeout".to_owned(), timeout);
    }
    cx.mesh.entries.push(Entry {
        name: resource.name.clone(),
        hosts: names(&resource.name, &namespace),
        precedence: Vec::new(),
        value,
        origin: cx.origin(resource, "spec"),
    });
}

/// Reads a ServiceSplitter.
pub fn splitter(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let spec = top.field("spec").and_then(|spec| spec.object());
    let Some(field) = spec.as_ref().and_then(|spec| spec.field("splits")) else {
        resource.log.error("spec.splits", "it divides nothing", "say where requests go");
        return;
    };
    let mut sum = 0.0;
    let to = format!("http[{}].route", resource.name);
    for item in field.items() {
        let Some(object) = item.object() else { continue };
        match object.field("weight") {
            Some(field) => {
                if let Some(weight) = field.number(0.0, 100.0) {
                    field.taken(format!("{to}[].weight"));
                    sum += weight;
                }
            }
            None => item.problem_here("it has no weight", "say how many requests of a hundred go there"),
        }
        for name in ["service", "serviceSubset"] {
            if let Some(field) = object.field(name)
                && field.text().is_some()
            {
                field.taken(format!("{to}[].destination"));
            }
        }
        elsewhere(&object);
        for (name, to) in [("requestHeaders", "headers.request"), ("responseHeaders", "headers.response")] {
            if let Some(field) = object.field(name) {
                field.copy(&HEADERS, to);
            }
        }
    }
    if (sum - 100.0).abs() > 0.01 {
        field.problem_here(format!("the weights are {sum} together"), "let them be 100");
        return;
    }
    if cx.find("ServiceRouter", cx.namespace(resource), &resource.name).is_none() {
        entry(resource, cx);
    }
}

/// Namespaces, partitions and peers of Consul's own.
pub fn elsewhere(object: &Object<'_>) {
    for name in ["namespace", "partition", "peer", "datacenter", "samenessGroup"] {
        let Some(field) = object.field(name) else { continue };
        match field.value().as_str() {
            Some("" | "default") => field.no_meaning("it is the default one"),
            _ => field.forbid(
                "one proxy knows the services of one namespace, and no other clusters",
                "leave it out, and say with --endpoint where the service is",
            ),
        }
    }
}

/// Reads a ServiceResolver.
pub fn resolver(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    let to = "where requests of the service go";
    if let Some(field) = spec.field("defaultSubset")
        && field.text().is_some()
    {
        field.taken(to);
    }
    if let Some(redirect) = spec.field("redirect").and_then(|field| field.object()) {
        for name in ["service", "serviceSubset"] {
            if let Some(field) = redirect.field(name)
                && field.text().is_some()
            {
                field.taken(to);
            }
        }
        elsewhere(&redirect);
    }
    if let Some(field) = spec.field("failover") {
        field.forbid(
            "where requests go instead when all servers have failed is not known to a cluster here",
            "leave it out, or give --endpoint the other addresses, too",
        );
    }
    if let Some(field) = spec.field("prioritizeByLocality") {
        field.refuse("one proxy knows no localities", "leave it out");
    }
    if let Some(field) = spec.field("requestTimeout")
        && field.span().is_some()
    {
        field.taken("timeout");
    }
    let mut policy = TrafficPolicy::default();
    if let Some(field) = spec.field("connectTimeout")
        && let Some(time) = field.span()
    {
        field.left_to_envoy("connect_timeout of the cluster");
        policy.pool = Some(Pool { connect_timeout: Some(time), ..Pool::default() });
    }
    policy.balancer = spec.field("loadBalancer").and_then(|field| balancer(&field));
    let subsets: Vec<Subset> = spec
        .field("subsets")
        .into_iter()
        .flat_map(|field| field.entries())
        .filter_map(|(name, field)| subset(name, &field))
        .collect();
    let namespace = cx.namespace(resource).to_owned();
    cx.mesh.rules.push(Rule {
        host: hosts::of_service(&resource.name, &namespace),
        policy,
        ports: BTreeMap::new(),
        subsets,
        rank: 0,
        origin: cx.origin(resource, "spec"),
    });
    let has = |kind: &str| cx.find(kind, &namespace, &resource.name).is_some();
    if !has("ServiceRouter") && !has("ServiceSplitter") {
        entry(resource, cx);
    }
}

/// Which workloads a subset is: `Service.Meta.NAME == VALUE`, joined with `and`, are labels.
fn subset(name: &str, field: &Field<'_>) -> Option<Subset> {
    let object = field.object()?;
    let mut labels = Labels::new();
    if let Some(field) = object.field("filter")
        && let Some(filter) = field.text()
    {
        let label = |part: &str| {
            let (key, value) = part.split_once("==")?;
            let key = key.trim().strip_prefix("Service.Meta.")?;
            Some((key.to_owned(), value.trim().trim_matches(['"', '`']).to_owned()))
        };
        let parts: Option<Labels> = filter.split(" and ").map(label).collect();
        match parts {
            Some(parts) => {
                field.left_to_envoy("which workloads answer: those with these labels");
                labels = parts;
            }
            None => field.refuse(
                "labels are all that is known of workloads here",
                format!("say with --endpoint SERVICE|{name}=HOST:PORT where it is"),
            ),
        }
    }
    if let Some(field) = object.field("onlyPassing") {
        field.no_meaning("who is not ready is no address of the service");
    }
    Some(Subset { name: name.to_owned(), labels, ..Subset::default() })
}

fn balancer(field: &Field<'_>) -> Option<Balancer> {
    let object = field.object()?;
    let to = "lb_policy of the cluster";
    let kind = match object.field("policy") {
        Some(field) => {
            let kind = match field.text()? {
                "random" => Balancing::Random,
                "round_robin" => Balancing::RoundRobin,
                "least_request" => Balancing::LeastRequest,
                "ring_hash" => Balancing::RingHash,
                "maglev" => Balancing::Maglev,
                other => {
                    return field.wrong(format!("{other} is no policy; use round_robin or least_request"));
                }
            };
            field.left_to_envoy(to);
            kind
        }
        None => Balancing::RoundRobin,
    };
    for name in ["leastRequestConfig", "ringHashConfig"] {
        if let Some(field) = object.field(name) {
            field.refuse("Envoy's own sizes hold", "leave it out");
        }
    }
    let mut policies = Vec::new();
    for item in object.field("hashPolicies").into_iter().flat_map(|field| field.items()) {
        policies.extend(hash(&item));
    }
    let hash = (!policies.is_empty()).then_some(Value::Array(policies));
    Some(Balancer { kind, hash, fields: Map::new() })
}

fn hash(field: &Field<'_>) -> Option<Value> {
    let object = field.object()?;
    let to = "hash_policy of the cluster's route";
    let text = |name: &'static str| {
        let field = object.field(name)?;
        field.left_to_envoy(to);
        field.text()
    };
    let (kind, name) = (text("field"), text("fieldValue").unwrap_or_default());
    let flag = |name: &'static str| {
        let field = object.field(name)?;
        field.left_to_envoy(to);
        field.flag()
    };
    let (address, terminal) = (flag("sourceIP") == Some(true), flag("terminal") == Some(true));
    let mut cookie = json!({ "name": name });
    if let Some(config) = object.field("cookieConfig").and_then(|field| field.object()) {
        if let Some(field) = config.field("ttl")
            && let Some(time) = field.span()
        {
            field.left_to_envoy(to);
            put(&mut cookie, "ttl", span(time));
        }
        if let Some(field) = config.field("path")
            && let Some(path) = field.text()
        {
            field.left_to_envoy(to);
            put(&mut cookie, "path", path);
        }
        if let Some(field) = config.field("session") {
            field.left_to_envoy(to);
            if field.flag() == Some(true) {
                put(&mut cookie, "ttl", "0s");
            }
        }
    }
    let mut policy = match kind {
        Some("header") => json!({"header": {"header_name": name}}),
        Some("cookie") => json!({ "cookie": cookie }),
        Some("query_parameter") => json!({"query_parameter": {"name": name}}),
        None if address => json!({"connection_properties": {"source_ip": true}}),
        _ => {
            field.problem_here(
                "it does not say what the hash is made of",
                "use header, cookie, query_parameter or sourceIP",
            );
            return None;
        }
    };
    if terminal {
        put(&mut policy, "terminal", true);
    }
    Some(policy)
}
