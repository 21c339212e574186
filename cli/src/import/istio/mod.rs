//! Istio's kinds.

mod authorization;
mod request_authentication;
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
    kind("VirtualService", NETWORKING, Phase::Policies, Audience::Everyone, virtual_service::read),
    kind("RequestAuthentication", SECURITY, Phase::Policies, SELECTOR, request_authentication::read),
    Kind {
        annotations: &["istio.io/dry-run"],
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
