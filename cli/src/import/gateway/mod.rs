//! The Gateway API: Gateway, HTTPRoute, GRPCRoute, ReferenceGrant.
//!
//! [`rules`] reads what stands in a route's `rules`, for whoever has routes of this shape; [`routes`] knows on which Gateways
//! a route hangs.

pub mod attached;
mod backend;
mod filters;
mod grants;
mod listeners;
pub mod matches;
mod routes;
pub mod rules;

pub use filters::{cors, fraction};
pub use routes::of_services;

use super::annotations::times::ANNOTATIONS;
use super::context::Context;
use super::dialect::{Dialect, Kind, Phase, Read, no_finish};
use super::field::Object;
use super::read::Resource;
use super::scope::Audience;

/// The Gateway API.
pub static DIALECT: Dialect =
    Dialect { name: "Gateway API", kinds: KINDS, istio_metrics: false, finish: no_finish };

/// Its group.
pub const GROUP: &str = "gateway.networking.k8s.io";

const KINDS: &[Kind] = &[
    kind("ReferenceGrant", Phase::Services, grants::read),
    kind("Gateway", Phase::Listeners, listeners::read),
    Kind { annotations: ANNOTATIONS, ..kind("HTTPRoute", Phase::Policies, routes::read) },
    Kind { annotations: ANNOTATIONS, ..kind("GRPCRoute", Phase::Policies, routes::read) },
    kind("GatewayClass", Phase::Settings, class),
];

const fn kind(name: &'static str, phase: Phase, read: Read) -> Kind {
    Kind::new(name, &[GROUP], phase, Audience::Everyone, read)
}

/// It says which program makes Gateways.
fn class(top: &Object<'_>, _: &Resource, _: &mut Context<'_>) {
    if let Some(spec) = top.field("spec") {
        spec.no_meaning("it says which program makes Gateways, and this one is made by import");
    }
}

#[cfg(test)]
mod tests;
