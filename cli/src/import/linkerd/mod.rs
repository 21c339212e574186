//! Linkerd's kinds.

mod identity;
mod misplaced;
mod rate_limit;
mod route;
mod server;
mod service_profile;
mod settings;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::context::Context;
use super::dialect::{Dialect, Kind, Phase, Read, no_finish};
use super::istio::CONFIG_MAP;
use super::mesh::{Entry, Origin, Rule, Service, hosts};
use super::read::Resource;
use super::scope::Audience;
use super::smi::split;
use crate::envoy::cluster::OutlierDetection;
use crate::envoy::put_field;

use super::annotations::times::ANNOTATIONS;

/// Linkerd.
pub static DIALECT: Dialect =
    Dialect { name: "Linkerd", kinds: KINDS, istio_metrics: false, finish: no_finish };

/// Policies are for a Server, which the reader looks for; here their namespace counts.
const NAMESPACE: Audience = Audience::NAMESPACE;

/// So are routes of a Server.
const ROUTE: Audience = Audience::OfNamespaceIf(server::names_one);

/// The group of its policies.
const GROUP: &str = "policy.linkerd.io";

const POLICY: &[&str] = &[GROUP];

const KINDS: &[Kind] = &[
    Kind {
        is: settings::are_in,
        ..Kind::new(CONFIG_MAP, &[""], Phase::Settings, Audience::Everyone, settings::read)
    },
    Kind {
        repair: misplaced::service_profile,
        ..kind("ServiceProfile", &["linkerd.io"], Audience::Everyone, service_profile::read)
    },
    kind("Server", POLICY, server::SELECTED, server::read),
    kind("AuthorizationPolicy", POLICY, NAMESPACE, server::authorization_policy),
    kind("ServerAuthorization", POLICY, NAMESPACE, server::server_authorization),
    kind("MeshTLSAuthentication", POLICY, Audience::Everyone, server::authentication),
    kind("NetworkAuthentication", POLICY, Audience::Everyone, server::authentication),
    kind("HTTPLocalRateLimitPolicy", POLICY, NAMESPACE, rate_limit::read),
    Kind { annotations: ANNOTATIONS, ..kind("HTTPRoute", POLICY, ROUTE, route::read) },
    Kind { annotations: ANNOTATIONS, ..kind("GRPCRoute", POLICY, ROUTE, route::read) },
];

const fn kind(name: &'static str, groups: &'static [&'static str], audience: Audience, read: Read) -> Kind {
    Kind::new(name, groups, Phase::Policies, audience, read)
}

/// Whether a resource is one of Linkerd's policies.
fn is_ours(resource: &Resource) -> bool {
    resource.group.as_deref().is_none_or(|group| group == GROUP)
}

/// What is left to do when all resources were read, whether or not one of these kinds is among them: annotations of others count.
pub fn finish(cx: &mut Context<'_>) {
    settings::assumed(cx);
    server::by_default(cx);
    services(cx);
}

/// Services whose annotations say something of their requests: without a route they have an entry of their own.
fn services(cx: &mut Context<'_>) {
    let says = |service: &Service| !service.times.is_empty() || service.outliers.is_some();
    let annotated = cx.mesh.services.by_host.iter().filter(|(_, service)| says(service));
    let annotated: Vec<_> = annotated
        .map(|(host, service)| (host.clone(), service.times.clone(), service.outliers.clone()))
        .collect();
    if annotated.is_empty() {
        return;
    }
    let said = cx.mesh.entries.iter().flat_map(|entry| entry.hosts.iter().map(move |host| (host, entry)));
    let mut others: BTreeMap<String, (usize, BTreeSet<String>)> = BTreeMap::new();
    for (host, entry) in said {
        let (by, to) = others.entry(host.clone()).or_default();
        *by = entry.origin.resource;
        let ways = entry.value.get("route").and_then(Value::as_array).into_iter().flatten();
        to.extend(ways.filter_map(|way| way.pointer("/destination/host")?.as_str()).map(str::to_owned));
    }
    let (mut own, mut reached) = (BTreeMap::new(), BTreeMap::new());
    for (host, times, outliers) in annotated {
        let Some((name, namespace)) = hosts::parts(&host) else { continue };
        let Some(resource) = cx.find("Service", namespace, name) else { continue };
        let origin = cx.origin(resource, "metadata.annotations");
        let (by, to) = others.remove(&host).unzip();
        match by.and_then(|by| cx.resources.get(by)) {
            None => {
                let own = split::destination(&host, cx).value();
                let mut value = times;
                value.insert("route".to_owned(), json!([{"destination": own}]));
                cx.mesh.entries.push(Entry {
                    name: format!("service/{name}"),
                    hosts: vec![host.clone()],
                    precedence: Vec::new(),
                    value,
                    origin: origin.clone(),
                });
            }
            // Those have them.
            Some(other) if matches!(other.kind.as_str(), "HTTPRoute" | "GRPCRoute") => {}
            Some(other) => {
                resource.log.warn(
                    "metadata.annotations",
                    format!(
                        "{} {} says what becomes of its requests, and what annotations say of them does not count",
                        other.kind, other.name
                    ),
                    "say it there",
                );
                continue;
            }
        }
        // They are the Service's, wherever its requests go; those of where they go come first.
        if let Some(outliers) = outliers {
            for to in to.into_iter().flatten().filter(|to| *to != host) {
                reached.entry(to).or_insert_with(|| (outliers.clone(), origin.clone()));
            }
            own.insert(host, (outliers, origin));
        }
    }
    reached.extend(own);
    leave_alone(reached, cx);
}

/// When servers of hosts are left alone, where no rule says it.
fn leave_alone(hosts: BTreeMap<String, (OutlierDetection, Origin)>, cx: &mut Context<'_>) {
    let known: BTreeSet<&String> = cx.mesh.rules.iter().map(|rule| &rule.host).collect();
    let new = hosts.iter().filter(|(host, _)| !known.contains(host));
    let new =
        new.map(|(host, (_, origin))| Rule { host: host.clone(), origin: origin.clone(), ..Rule::default() });
    let new: Vec<Rule> = new.collect();
    cx.mesh.rules.extend(new);
    for rule in cx.mesh.rules.iter_mut().filter(|rule| rule.policy.outliers.is_none()) {
        let Some((outliers, _)) = hosts.get(&rule.host) else { continue };
        rule.policy.outliers = Some(outliers.clone());
        // Servers are not compared with each other.
        put_field(&mut rule.policy.fields, &["outlier_detection", "enforcing_success_rate"], 0);
    }
}

#[cfg(test)]
mod tests;
