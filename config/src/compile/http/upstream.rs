//! What goes with a request to the upstream: rewrite, timeout, retries, copies.

use std::time::Duration;

use super::super::common::{parts_per_million, refuse};
use super::destination::{ClusterNames, cluster};
use crate::compile::{Context, Path};
use crate::document::{self, HttpEntry, Percent};
use meshfilter_core::matchers::regex::Replace;
use meshfilter_core::policy::routing::rewrite::{PathRewrite, Substitution};
use meshfilter_core::policy::routing::upstream::{MIRROR_CLUSTERS, Mirror, ORIGINAL_HOST, ORIGINAL_PATH};

const TIMEOUT: &str = "x-envoy-upstream-rq-timeout-ms";
const PER_TRY_TIMEOUT: &str = "x-envoy-upstream-rq-per-try-timeout-ms";
const MAX_RETRIES: &str = "x-envoy-max-retries";
const RETRY_ON: &str = "x-envoy-retry-on";
const RETRY_GRPC_ON: &str = "x-envoy-retry-grpc-on";
const RETRIABLE_STATUS_CODES: &str = "x-envoy-retriable-status-codes";

/// What Envoy reads from `x-envoy-retry-on`.
const CONDITIONS: [&str; 11] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
];

/// What it reads from `x-envoy-retry-grpc-on`.
const GRPC_CONDITIONS: [&str; 5] =
    ["cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"];

/// Istio's default, without the parts that only its control plane can give.
const DEFAULT_CONDITIONS: &str = "connect-failure,refused-stream,unavailable,cancelled";

/// Compiles changes to the path.
pub fn rewrite(source: &document::Rewrite, path: &Path<'_>, cx: &Context<'_>) -> Option<PathRewrite> {
    let document::Rewrite { uri, authority, uri_regex_rewrite } = source;
    if uri.is_none() && authority.is_none() && uri_regex_rewrite.is_none() {
        cx.errors.add(path, "a rewrite of nothing; add uri, authority or uriRegexRewrite");
    }
    if uri.as_ref().is_some_and(String::is_empty) {
        cx.errors
            .add(&path.field("uri"), "an empty path; use /, which after a pathPrefix takes the prefix away");
    }
    if authority.as_ref().is_some_and(String::is_empty) {
        cx.errors.add(&path.field("authority"), "an empty text; leave it out or give one");
    }
    if uri.is_some() || uri_regex_rewrite.is_some() {
        cx.reserve_header(ORIGINAL_PATH);
    }
    if authority.is_some() {
        cx.reserve_header(ORIGINAL_HOST);
    }
    match (uri, uri_regex_rewrite) {
        (Some(_), Some(_)) => {
            cx.errors.add(&path.field("uriRegexRewrite"), "beside uri; keep one of them");
            None
        }
        (Some(uri), None) => Some(PathRewrite::Uri(uri.as_bytes().into())),
        (None, Some(source)) => regex_rewrite(source, &path.field("uriRegexRewrite"), cx),
        (None, None) => None,
    }
}

fn regex_rewrite(source: &document::RegexRewrite, path: &Path<'_>, cx: &Context<'_>) -> Option<PathRewrite> {
    let Some(expression) = source.r#match.as_ref().filter(|expression| !expression.is_empty()) else {
        cx.errors.add(&path.field("match"), "no expression; add one such as ^/v1/(.*)");
        return None;
    };
    let compiled =
        Replace::new(expression).map_err(|error| cx.errors.add(&path.field("match"), error)).ok()?;
    let Some(rewrite) = &source.rewrite else {
        cx.errors.add(&path.field("rewrite"), r"nothing to stand in; add a text such as /\1");
        return None;
    };
    Substitution::parse(rewrite, compiled.groups())
        .map_err(|error| cx.errors.add(&path.field("rewrite"), error))
        .ok()
        .map(|substitution| PathRewrite::Regex(compiled, substitution))
}

/// Timeout and retries, in the headers that Envoy's router reads them from. Those that a policy uses at all are the
/// filter's alone.
pub fn router_headers(source: &HttpEntry, path: &Path<'_>, cx: &Context<'_>) -> Vec<(&'static str, Vec<u8>)> {
    let mut headers = Vec::new();
    if let Some(timeout) = source.timeout {
        cx.reserve_header(TIMEOUT);
        headers.push((TIMEOUT, milliseconds(timeout.0)));
    }
    if let Some(retries) = &source.retries {
        for name in [PER_TRY_TIMEOUT, MAX_RETRIES, RETRY_ON, RETRY_GRPC_ON, RETRIABLE_STATUS_CODES] {
            cx.reserve_header(name);
        }
        self::retries(retries, &path.field("retries"), &mut headers, cx);
    }
    headers
}

/// Whole milliseconds, rounded up: what is not nothing must not become nothing, which is for ever.
fn milliseconds(duration: Duration) -> Vec<u8> {
    duration.as_nanos().div_ceil(1_000_000).to_string().into_bytes()
}

fn retries(
    source: &document::Retries,
    path: &Path<'_>,
    headers: &mut Vec<(&'static str, Vec<u8>)>,
    cx: &Context<'_>,
) {
    refuse(
        [
            (
                "retryRemoteLocalities",
                source.retry_remote_localities,
                "no header tells Envoy's router so; set retry_priority in Envoy's route",
            ),
            (
                "retryIgnorePreviousHosts",
                source.retry_ignore_previous_hosts,
                "no header tells Envoy's router so; set retry_host_predicate in Envoy's route",
            ),
            (
                "backoff",
                source.backoff,
                "no header tells Envoy's router so; set retry_back_off in Envoy's route",
            ),
        ],
        path,
        cx,
    );
    let attempts = match source.attempts.map(|attempts| (attempts, u32::try_from(attempts))) {
        Some((_, Ok(attempts))) => attempts,
        Some((attempts, Err(_))) => {
            cx.errors.add(
                &path.field("attempts"),
                format_args!("{attempts} is not a number of attempts; use a whole number from 0"),
            );
            0
        }
        None => {
            cx.errors.add(path, "no number of attempts; add attempts, 0 for none");
            0
        }
    };
    headers.push((MAX_RETRIES, attempts.to_string().into_bytes()));
    let place = path.field("retryOn");
    let given = source.retry_on.as_deref().filter(|given| !given.is_empty());
    let conditions = given.unwrap_or(DEFAULT_CONDITIONS);
    let (mut plain, mut grpc, mut codes) = (Vec::new(), Vec::new(), Vec::new());
    for condition in conditions.split(',').map(str::trim).filter(|condition| !condition.is_empty()) {
        if CONDITIONS.contains(&condition) {
            plain.push(condition);
        } else if GRPC_CONDITIONS.contains(&condition) {
            grpc.push(condition);
        } else if condition.parse().is_ok_and(|code: u16| (100..600).contains(&code)) {
            codes.push(condition);
        } else {
            cx.errors.add(
                &place,
                format_args!(
                    "\"{condition}\" is not a condition; use Envoy's, such as 5xx or connect-failure, or a status number"
                ),
            );
        }
    }
    if conditions.split(',').all(|condition| condition.trim().is_empty()) {
        cx.errors.add(&place, "no condition; leave it out for the default, or use attempts: 0");
    }
    if attempts == 0 {
        // Envoy's own route may have retries; none are wanted.
        return;
    }
    if !codes.is_empty() && !plain.contains(&"retriable-status-codes") {
        plain.push("retriable-status-codes");
    }
    for (name, values) in [(RETRY_ON, plain), (RETRY_GRPC_ON, grpc), (RETRIABLE_STATUS_CODES, codes)] {
        if !values.is_empty() {
            headers.push((name, values.join(",").into_bytes()));
        }
    }
    if let Some(timeout) = source.per_try_timeout {
        headers.push((PER_TRY_TIMEOUT, milliseconds(timeout.0)));
    }
}

/// Compiles who gets copies.
pub fn mirrors(
    source: &HttpEntry,
    clusters: &ClusterNames,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Vec<Mirror> {
    let share = |percentage: Option<&Percent>, path: &Path<'_>| {
        let all = Percent { value: Some(100.0) };
        parts_per_million(Some(percentage.unwrap_or(&all)), path, cx)
    };
    let percent = source.mirror_percent.map(|percent| Percent { value: Some(percent as f64) });
    if source.mirror.is_none() {
        for (given, name) in [
            (source.mirror_percentage.is_some(), "mirrorPercentage"),
            (source.mirror_percent.is_some(), "mirrorPercent"),
        ] {
            if given {
                cx.errors.add(&path.field(name), "there is no mirror; add one, or use mirrors[].percentage");
            }
        }
    }
    let mut found = Vec::new();
    if let Some(mirror) = &source.mirror {
        let share = match (&source.mirror_percentage, &percent) {
            (Some(percentage), _) => share(Some(percentage), &path.field("mirrorPercentage")),
            (None, Some(percent)) => {
                if !(0.0..=100.0).contains(&percent.value.unwrap_or(0.0)) {
                    cx.errors
                        .add(&path.field("mirrorPercent"), "not a percentage; use a number from 0 to 100");
                    0
                } else {
                    share(Some(percent), path)
                }
            }
            (None, None) => share(None, path),
        };
        found.push((cluster(Some(mirror), clusters, &path.field("mirror"), cx), share));
    }
    if let Some(mirrors) = &source.mirrors {
        let place = path.field("mirrors");
        if source.mirror.is_some() {
            cx.errors.add(&place, "beside mirror; keep one of them");
        }
        if mirrors.is_empty() {
            cx.errors.add(&place, "an empty list copies to nobody; leave it out");
        }
        if mirrors.len() > MIRROR_CLUSTERS.len() {
            cx.errors.add(
                &place,
                format_args!("{} mirrors; Envoy's route has a header for each of 3 at most", mirrors.len()),
            );
        }
        for (index, mirror) in mirrors.iter().enumerate() {
            let path = place.index(index);
            let name = cluster(mirror.destination.as_ref(), clusters, &path.field("destination"), cx);
            found.push((name, share(mirror.percentage.as_ref(), &path.field("percentage"))));
        }
    }
    found.into_iter().map(|(cluster, parts_per_million)| Mirror { cluster, parts_per_million }).collect()
}
