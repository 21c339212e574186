//! Linkerd's kinds.

mod misplaced;
mod service_profile;

use super::dialect::{Audience, Context, Dialect, Kind, Phase, no_finish, no_hint, no_repair};
use super::field::Object;
use super::read::Resource;

pub use service_profile::has_profile;

/// Linkerd.
pub static DIALECT: Dialect =
    Dialect { name: "Linkerd", kinds: KINDS, istio_metrics: false, finish: no_finish };

const KINDS: &[Kind] = &[Kind {
    repair: misplaced::service_profile,
    ..kind("ServiceProfile", &["linkerd.io"], Audience::Everyone, service_profile::read)
}];

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
