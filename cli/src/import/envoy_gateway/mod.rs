//! Envoy Gateway's policies, which are attached to Gateways and routes: SecurityPolicy, BackendTrafficPolicy.
//!
//! They are read when all routes are: what they ask for is laid into the entries that they reach, or, where the policy
//! document has it in a section of its own, said with the conditions of these entries.

mod authorization;
mod balance;
mod limits;
mod literal;
mod reach;
mod security;
mod tokens;
mod traffic;

use super::context::Context;
use super::dialect::{Dialect, Kind, Phase, Read};
use super::gateway::attached::{SECURITY, TRAFFIC};
use super::read::Resource;
use super::scope::Audience;

/// Envoy Gateway.
pub static DIALECT: Dialect =
    Dialect { name: "Envoy Gateway", kinds: KINDS, istio_metrics: false, finish: tokens::finish };

const KINDS: &[Kind] = &[kind(SECURITY, security::read), kind(TRAFFIC, traffic::read)];

const fn kind(name: &'static str, read: Read) -> Kind {
    Kind::new(name, &["gateway.envoyproxy.io"], Phase::Attached, Audience::Everyone, read)
}

/// What a policy is called where a name has to be one of a kind.
fn name(resource: &Resource, cx: &Context<'_>) -> String {
    format!("{}/{}", cx.namespace(resource), resource.name)
}

#[cfg(test)]
mod tests;
