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

use super::dialect::{Audience, Context, Dialect, Kind, Phase, no_finish, no_hint, no_repair};
use super::field::Object;
use super::read::Resource;

/// Istio.
pub static DIALECT: Dialect = Dialect { name: "Istio", kinds: KINDS, istio_metrics: true, finish: no_finish };

const NETWORKING: &[&str] = &["networking.istio.io"];
const SECURITY: &[&str] = &["security.istio.io"];

const SELECTOR: Audience = Audience::WorkloadsOrTargets("/spec/selector/matchLabels");

const KINDS: &[Kind] = &[
    kind("IstioOperator", &["install.istio.io"], Phase::Settings, Audience::Everyone, mesh_config::operator),
    kind(
        "MeshConfig",
        &["", "istio.io", "mesh.istio.io", "config.istio.io"],
        Phase::Settings,
        Audience::Everyone,
        mesh_config::document,
    ),
    Kind {
        labels: true,
        ..kind(
            "WorkloadEntry",
            NETWORKING,
            Phase::Workloads,
            Audience::Everyone,
            service_entry::workload_entry,
        )
    },
    kind("ServiceEntry", NETWORKING, Phase::Services, Audience::Everyone, service_entry::service_entry),
    kind("Gateway", NETWORKING, Phase::Listeners, Audience::Everyone, gateway::read),
    Kind {
        repair: misplaced::virtual_service,
        ..kind("VirtualService", NETWORKING, Phase::Policies, Audience::Everyone, virtual_service::read)
    },
    Kind {
        repair: misplaced::destination_rule,
        ..kind("DestinationRule", NETWORKING, Phase::Policies, Audience::Everyone, destination_rule::read)
    },
    kind(
        "EnvoyFilter",
        NETWORKING,
        Phase::Policies,
        Audience::WorkloadsOrTargets("/spec/workloadSelector/labels"),
        envoy_filter::read,
    ),
    kind(
        "PeerAuthentication",
        SECURITY,
        Phase::Policies,
        Audience::Workloads("/spec/selector/matchLabels"),
        peer_authentication::read,
    ),
    kind("Telemetry", &["telemetry.istio.io"], Phase::Policies, SELECTOR, telemetry::read),
    kind("RequestAuthentication", SECURITY, Phase::Policies, SELECTOR, request_authentication::read),
    Kind {
        annotations: &["istio.io/dry-run"],
        repair: misplaced::authorization,
        ..kind("AuthorizationPolicy", SECURITY, Phase::Policies, SELECTOR, authorization::read)
    },
];

const fn kind(
    name: &'static str,
    groups: &'static [&'static str],
    phase: Phase,
    audience: Audience,
    read: fn(&Object<'_>, &Resource, &mut Context<'_>),
) -> Kind {
    Kind {
        name,
        groups,
        phase,
        audience,
        read,
        labels: false,
        annotations: &[],
        repair: no_repair,
        hint: no_hint,
    }
}

#[cfg(test)]
mod tests;
