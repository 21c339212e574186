//! The Service Mesh Interface's kinds, of every version.

mod routes;
pub mod split;
mod target;

use super::dialect::{Audience, Context, Dialect, Kind, Phase, no_hint, no_repair};
use super::field::Object;
use super::read::Resource;

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
    kind("TrafficTarget", &["access.smi-spec.io"], Audience::Workloads("/-"), target::read),
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
