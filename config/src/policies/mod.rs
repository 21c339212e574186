//! What documents do with requests: the tests of the policies, each from its document to its decisions.

mod authentication;
mod authorization;
mod global_limit;
mod rate_limit;
mod routing;
mod telemetry;
