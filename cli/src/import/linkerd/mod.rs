//! Linkerd's kinds.

mod annotated;
mod identity;
mod misplaced;
mod rate_limit;
mod route;
mod server;
mod service_profile;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::dialect::{Audience, Context, Dialect, Kind, Phase, Read, no_finish};
use super::mesh::{Entry, hosts};
use super::smi::split;

pub use annotated::{ANNOTATIONS, Annotated};
pub use server::{BY_DEFAULT, GROUP, has_default};
pub use service_profile::has_profile;

/// Linkerd.
pub static DIALECT: Dialect =
    Dialect { name: "Linkerd", kinds: KINDS, istio_metrics: false, finish: no_finish };

/// Policies are for a Server, which the reader looks for; here their namespace counts.
const NAMESPACE: Audience = Audience::NAMESPACE;

/// So are routes of a Server.
const ROUTE: Audience = Audience::OfNamespaceIf(server::names_one);

const POLICY: &[&str] = &[server::GROUP];

const KINDS: &[Kind] = &[
    Kind {
        repair: misplaced::service_profile,
        ..kind("ServiceProfile", &["linkerd.io"], Audience::Everyone, service_profile::read)
    },
    kind("Server", POLICY, Audience::Workloads("/spec/podSelector/matchLabels"), server::read),
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

/// What is left to do when all resources were read, whether or not one of these kinds is among them: annotations of others count.
pub fn finish(cx: &mut Context<'_>) {
    server::by_default(cx);
    services(cx);
}

/// Services whose annotations say something of their requests, and to which no route leads.
fn services(cx: &mut Context<'_>) {
    let annotated = cx.mesh.services.by_host.iter().filter(|(_, service)| !service.times.is_empty());
    let annotated: Vec<(String, Map<String, Value>)> =
        annotated.map(|(host, service)| (host.clone(), service.times.clone())).collect();
    let said = cx.mesh.entries.iter().flat_map(|entry| entry.hosts.iter().map(move |host| (host, entry)));
    let others: BTreeMap<String, usize> = said
        .filter(|_| !annotated.is_empty())
        .map(|(host, entry)| (host.clone(), entry.origin.resource))
        .collect();
    for (host, times) in annotated {
        let Some((name, namespace)) = hosts::parts(&host) else { continue };
        let Some(resource) = cx.find("Service", namespace, name) else { continue };
        match others.get(&host).and_then(|other| cx.resources.get(*other)) {
            None => {
                let own = split::destination(&host, cx).value();
                let mut value = times;
                value.insert("route".to_owned(), json!([{"destination": own}]));
                let (name, origin) = (format!("service/{name}"), cx.origin(resource, "metadata.annotations"));
                cx.mesh.entries.push(Entry {
                    name,
                    hosts: vec![host],
                    precedence: Vec::new(),
                    value,
                    origin,
                });
            }
            // Those have them.
            Some(other) if matches!(other.kind.as_str(), "HTTPRoute" | "GRPCRoute") => {}
            Some(other) => resource.log.warn(
                "metadata.annotations",
                format!(
                    "{} {} says what becomes of its requests, and its retries and timeouts do not count",
                    other.kind, other.name
                ),
                "say them there",
            ),
        }
    }
}

#[cfg(test)]
mod tests;
