//! Consul's config entries as Kubernetes has them: ServiceRouter, ServiceSplitter, ServiceResolver, ServiceIntentions,
//! JWTProvider.

mod chain;
mod intentions;
mod jwt;
mod router;

use super::dialect::{Dialect, Kind, Phase, Read, no_finish};
use super::scope::Audience;

/// Consul.
pub static DIALECT: Dialect =
    Dialect { name: "Consul", kinds: KINDS, istio_metrics: false, finish: no_finish };

const KINDS: &[Kind] = &[
    kind("ServiceRouter", Audience::Everyone, router::read),
    kind("ServiceSplitter", Audience::Everyone, chain::splitter),
    kind("ServiceResolver", Audience::Everyone, chain::resolver),
    kind("JWTProvider", Audience::Everyone, jwt::provider),
    // It is for a service, not for labels: the reader looks for itself.
    kind("ServiceIntentions", Audience::NAMESPACE, intentions::read),
];

const fn kind(name: &'static str, audience: Audience, read: Read) -> Kind {
    Kind::new(name, &["consul.hashicorp.com"], Phase::Policies, audience, read)
}

#[cfg(test)]
mod tests;
