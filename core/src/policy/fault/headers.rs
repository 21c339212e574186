//! Envoy's `x-envoy-fault-*` request headers: who calls says what goes wrong, within what is configured.
//!
//! They are not to be trusted, so that only the first value of each counts, and what is no whole number counts as
//! absent, as in Envoy.

use std::str::FromStr;
use std::time::Duration;

use super::Ending;
use crate::request::Request;

/// No request header makes a request wait for longer.
pub const MAX_DELAY: Duration = Duration::from_secs(3600);

/// The share of requests to delay: the header's percentage, at most the configured one.
pub(super) fn delay_percentage(request: &Request, configured: u32) -> u32 {
    percentage(request, "x-envoy-fault-delay-request-percentage", configured)
}

/// The share of requests to end: the header's percentage, at most the configured one.
pub(super) fn abort_percentage(request: &Request, configured: u32) -> u32 {
    percentage(request, "x-envoy-fault-abort-request-percentage", configured)
}

/// How long the request asks to wait.
pub(super) fn delay(request: &Request) -> Option<Duration> {
    let milliseconds: u64 = number(request, "x-envoy-fault-delay-request")?;
    Some(Duration::from_millis(milliseconds).min(MAX_DELAY))
}

/// How the request asks to be ended. An HTTP status goes before a gRPC one.
pub(super) fn ending(request: &Request) -> Option<Ending> {
    let status = number(request, "x-envoy-fault-abort-request").filter(|status| (200..600).contains(status));
    let grpc_status = || number(request, "x-envoy-fault-abort-grpc-request").map(Ending::Grpc);
    status.map(Ending::Http).or_else(grpc_status)
}

fn percentage(request: &Request, name: &str, configured: u32) -> u32 {
    number::<u32>(request, name).map_or(configured, |percent| percent.saturating_mul(10_000).min(configured))
}

fn number<T: FromStr>(request: &Request, name: &str) -> Option<T> {
    std::str::from_utf8(request.header(name)?.trim_ascii()).ok()?.parse().ok()
}
