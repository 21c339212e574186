//! Linkerd's kinds.

mod identity;
pub mod matching;
mod misplaced;
mod rate_limit;
mod route;
mod server;
mod service_profile;

use super::dialect::{Audience, Context, Dialect, Kind, Phase, no_finish, no_hint, no_repair};
use super::field::Object;
use super::read::Resource;

pub use route::{ANNOTATIONS, annotations};
pub use server::{BY_DEFAULT, by_default};
pub use service_profile::has_profile;

/// Linkerd.
pub static DIALECT: Dialect =
    Dialect { name: "Linkerd", kinds: KINDS, istio_metrics: false, finish: no_finish };

/// Policies are for a Server, which the reader looks for; here their namespace counts.
const NAMESPACE: Audience = Audience::Workloads("/-");

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
    Kind { annotations: route::ANNOTATIONS, ..kind("HTTPRoute", POLICY, Audience::Everyone, route::read) },
    Kind { annotations: route::ANNOTATIONS, ..kind("GRPCRoute", POLICY, Audience::Everyone, route::read) },
];

const fn kind(
    name: &'static str,
    groups: &'static [&'static str],
    audience: Audience,
    read: fn(&Object<'_>, &Resource, &mut Context<'_>),
) -> Kind {
    Kind {
        name,
        groups,
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
