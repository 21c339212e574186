//! Istio's kinds.

mod authorization;
mod destination_rule;
mod envoy_filter;
mod gateway;
mod mesh_config;
mod misplaced;
mod peer_authentication;
mod request_authentication;
mod service_entry;
mod telemetry;
mod virtual_service;

use super::context::Context;
use super::dialect::{Dialect, Kind, Phase, no_finish};
use super::field::Object;
use super::read::Resource;
use super::scope::Audience;
use super::scope::Scope;
pub use mesh_config::{CONFIG_MAP, root_namespace};

/// Istio.
pub static DIALECT: Dialect = Dialect { name: "Istio", kinds: KINDS, istio_metrics: true, finish: no_finish };

const NETWORKING: &[&str] = &["networking.istio.io"];
const SECURITY: &[&str] = &["security.istio.io"];

const TELEMETRY: &str = "Telemetry";
const ENVOY_FILTER: &str = "EnvoyFilter";

const SELECTOR: Audience = Audience::WorkloadsOrTargets("/spec/selector/matchLabels");

const KINDS: &[Kind] = &[
    Kind::new(
        "IstioOperator",
        &["install.istio.io"],
        Phase::Settings,
        Audience::Everyone,
        mesh_config::operator,
    ),
    Kind::new(
        "MeshConfig",
        &["", "istio.io", "mesh.istio.io", "config.istio.io"],
        Phase::Settings,
        Audience::Everyone,
        mesh_config::document,
    ),
    Kind {
        is: mesh_config::is_in,
        ..Kind::new(CONFIG_MAP, &[""], Phase::Settings, Audience::Everyone, mesh_config::config_map)
    },
    Kind {
        labels: true,
        ..Kind::new(
            "WorkloadEntry",
            NETWORKING,
            Phase::Workloads,
            Audience::Everyone,
            service_entry::workload_entry,
        )
    },
    Kind::new("ServiceEntry", NETWORKING, Phase::Services, Audience::Everyone, service_entry::service_entry),
    Kind::new("Gateway", NETWORKING, Phase::Listeners, Audience::Everyone, gateway::read),
    Kind {
        repair: misplaced::virtual_service,
        ..Kind::new("VirtualService", NETWORKING, Phase::Policies, Audience::Everyone, virtual_service::read)
    },
    Kind {
        repair: misplaced::destination_rule,
        ..Kind::new(
            "DestinationRule",
            NETWORKING,
            Phase::Policies,
            Audience::Everyone,
            destination_rule::read,
        )
    },
    Kind::new(
        ENVOY_FILTER,
        NETWORKING,
        Phase::Policies,
        Audience::WorkloadsOrTargets("/spec/workloadSelector/labels"),
        envoy_filter::read,
    ),
    Kind::new(
        "PeerAuthentication",
        SECURITY,
        Phase::Policies,
        Audience::Workloads("/spec/selector/matchLabels"),
        peer_authentication::read,
    ),
    Kind::new(TELEMETRY, &["telemetry.istio.io"], Phase::Policies, SELECTOR, telemetry::read),
    Kind::new("RequestAuthentication", SECURITY, Phase::Policies, SELECTOR, request_authentication::read),
    Kind {
        annotations: &["istio.io/dry-run"],
        repair: misplaced::authorization,
        ..Kind::new("AuthorizationPolicy", SECURITY, Phase::Policies, SELECTOR, authorization::read)
    },
];

/// Whether the proxy's namespace sees what a resource of another exports.
fn is_seen(spec: &Object<'_>, namespace: &str, cx: &Context<'_>) -> bool {
    let Some(field) = spec.field("exportTo") else { return true };
    let to = field.texts();
    let own = cx.scope.namespace.as_str();
    let seen =
        to.is_empty() || to.iter().any(|to| ["*", own].contains(to) || (*to == "." && namespace == own));
    match seen || !cx.scope.is_placed {
        true => field.no_meaning("the proxy's namespace is the one that counts"),
        false => {
            let reason = format!("it is not exported to {own}, where the proxy is");
            field.no_meaning(&reason);
            field.warn(format!("left out: {reason}"), "say --namespace for a proxy elsewhere");
        }
    }
    seen
}

/// For what a policy is of which one counts: 0 the mesh, 1 its namespace, 2 the workload that it has chosen.
fn level(resource: &Resource, scope: &Scope) -> u8 {
    let of = |pointer: &str| resource.value.pointer(pointer);
    let labels = of("/spec/selector/matchLabels").and_then(|labels| labels.as_object());
    let chosen = labels.is_some_and(|labels| !labels.is_empty())
        || ["/spec/targetRef", "/spec/targetRefs"].iter().any(|pointer| of(pointer).is_some());
    let namespace = resource.namespace.as_ref().unwrap_or(&scope.default_namespace);
    match (chosen, *namespace == scope.root_namespace) {
        (true, _) => 2,
        (false, false) => 1,
        (false, true) => 0,
    }
}

/// What is read later, where the order counts: what says more of the proxy, and patches with a higher priority.
pub fn layer(resource: &Resource, kind: &Kind, scope: &Scope) -> i64 {
    match kind.name {
        TELEMETRY => level(resource, scope).into(),
        ENVOY_FILTER => {
            resource.value.pointer("/spec/priority").and_then(|number| number.as_i64()).unwrap_or(0)
        }
        _ => 0,
    }
}

/// The reason why a policy of which one counts for each level does not: an older one does.
fn superseded(resource: &Resource, audience: Audience, cx: &Context<'_>) -> Option<String> {
    let age = |resource: &Resource| (resource.created(), resource.name.clone());
    let level_of = |resource: &Resource| level(resource, cx.scope);
    let others = cx.resources.iter().filter(|other| {
        other.kind == resource.kind
            && other.group.as_ref().is_none_or(|group| group.ends_with("istio.io"))
            && level_of(other) == level_of(resource)
            && cx.scope.not_for(other, audience).is_none()
            && age(other) < age(resource)
    });
    let oldest = others.min_by_key(|other| age(other))?;
    let why = match (oldest.created(), resource.created()) {
        (one, other) if one == other => "whose name comes first",
        _ => "which is older",
    };
    Some(format!("one {} counts here, and that is {}, {why}", resource.kind, oldest.name))
}

#[cfg(test)]
mod tests;
