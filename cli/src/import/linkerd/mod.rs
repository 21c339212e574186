//! Linkerd's kinds.

mod identity;
pub mod matching;
mod misplaced;
mod rate_limit;
mod route;
mod server;
mod service_profile;

use super::dialect::{Audience, Dialect, Kind, Phase, Read, no_finish};

pub use route::{ANNOTATIONS, annotations};
pub use server::{BY_DEFAULT, by_default};
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
    Kind { annotations: route::ANNOTATIONS, ..kind("HTTPRoute", POLICY, ROUTE, route::read) },
    Kind { annotations: route::ANNOTATIONS, ..kind("GRPCRoute", POLICY, ROUTE, route::read) },
];

const fn kind(name: &'static str, groups: &'static [&'static str], audience: Audience, read: Read) -> Kind {
    Kind::new(name, groups, Phase::Policies, audience, read)
}

#[cfg(test)]
mod tests;
