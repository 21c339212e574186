//! A real Envoy for cases, with upstreams that tell what they saw.

mod bootstrap;
pub mod http;
mod process;
mod run;
mod upstreams;

pub use bootstrap::{Log, bootstrap, plain};
pub use process::{Envoy, Launch, PATIENCE, Written, version, wait_at_most, wait_until};
pub use run::{Program, Ran, Sent, outcomes, send_all};
pub use upstreams::{CLUSTERS, Upstreams};

/// The header by which a request is found again in the access log and at the upstreams.
pub const ID_HEADER: &str = "x-case-request";
