//! The Service Mesh Interface's kinds, of every version.

mod routes;
pub mod split;
mod target;

use super::dialect::{Dialect, Kind, Phase, Read};
use super::scope::Audience;

/// SMI.
pub static DIALECT: Dialect =
    Dialect { name: "SMI", kinds: KINDS, istio_metrics: false, finish: target::closed };

const KINDS: &[Kind] = &[
    kind("TrafficSplit", &["split.smi-spec.io"], Audience::Everyone, split::read),
    // The specification's own pages have a group without a name.
    kind("HTTPRouteGroup", &["specs.smi-spec.io", ""], Audience::Everyone, routes::http),
    kind("TCPRoute", &["specs.smi-spec.io"], Audience::Everyone, routes::ports),
    kind("UDPRoute", &["specs.smi-spec.io"], Audience::Everyone, routes::datagrams),
    // It is for an account, not for labels: the reader looks for itself.
    kind("TrafficTarget", &["access.smi-spec.io"], Audience::NAMESPACE, target::read),
];

const fn kind(name: &'static str, groups: &'static [&'static str], audience: Audience, read: Read) -> Kind {
    Kind::new(name, groups, Phase::Policies, audience, read)
}

#[cfg(test)]
mod tests;
