//! Consul's config entries as Kubernetes has them: ServiceRouter, ServiceSplitter, ServiceResolver, ServiceIntentions,
//! JWTProvider.

mod chain;
mod intentions;
mod jwt;
mod router;

use super::dialect::{Audience, Context, Dialect, Kind, Phase, no_finish, no_hint, no_repair};
use super::field::Object;
use super::read::Resource;

/// Consul.
pub static DIALECT: Dialect =
    Dialect { name: "Consul", kinds: KINDS, istio_metrics: false, finish: no_finish };

const KINDS: &[Kind] = &[
    kind("ServiceRouter", Audience::Everyone, router::read),
    kind("ServiceSplitter", Audience::Everyone, chain::splitter),
    kind("ServiceResolver", Audience::Everyone, chain::resolver),
    kind("JWTProvider", Audience::Everyone, jwt::provider),
    // It is for a service, not for labels: the reader looks for itself.
    kind("ServiceIntentions", Audience::Workloads("/-"), intentions::read),
];

const fn kind(
    name: &'static str,
    audience: Audience,
    read: fn(&Object<'_>, &Resource, &mut Context<'_>),
) -> Kind {
    Kind {
        name,
        groups: &["consul.hashicorp.com"],
        phase: Phase::Policies,
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
