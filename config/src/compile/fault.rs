//! One entry's `fault`.

use std::rc::Rc;
use std::time::Duration;

use super::{Context, Path, common};
use crate::date;
use crate::document;
use meshfilter_core::policy::fault::{AbortFault, ActiveFaults, Delay, DelayFault, Ending, Fault};

/// Shorter than this, the proxy's timer cannot wait, and Istio refuses it, too.
const SHORTEST: Duration = Duration::from_millis(1);

/// Envoy's own words.
const BODY: &str = "fault filter abort";

/// Compiles the fault of the entry of that name.
pub fn compile(source: &document::Fault, path: &Path<'_>, entry: &Rc<str>, cx: &Context<'_>) -> Fault {
    if source.delay.is_none() && source.abort.is_none() && !cx.errors.any_within(path) {
        cx.errors.add(path, "a fault that does nothing; add delay or abort");
    }
    let header_controlled = source.header_controlled.unwrap_or(false);
    let delay =
        source.delay.as_ref().map(|delay| self::delay(delay, header_controlled, &path.field("delay"), cx));
    let abort =
        source.abort.as_ref().map(|abort| self::abort(abort, header_controlled, &path.field("abort"), cx));
    let until = source.until.as_ref().and_then(|text| {
        let until = date::parse_rfc3339(text);
        if until.is_none() {
            cx.errors.add(
                &path.field("until"),
                format_args!("\"{text}\" is not a date; use one such as 2026-01-31T18:00:00Z"),
            );
        }
        until
    });
    if source.max_active == Some(0) {
        cx.errors
            .add(&path.field("maxActive"), "0 lets no fault happen; use a whole number from 1, or no fault");
    }
    let longest = delay.as_ref().map_or(Duration::ZERO, |fault| fault.delay.longest());
    Fault {
        name: entry.clone(),
        mode: source.mode.unwrap_or_default(),
        until,
        max_active: source.max_active.map(|limit| ActiveFaults::new(limit, entry, longest)),
        delay,
        abort,
    }
}

fn delay(
    source: &document::FaultDelay,
    header_controlled: bool,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> DelayFault {
    if source.exponential_delay.is_some() {
        cx.errors.add(
            &path.field("exponentialDelay"),
            "Istio has this field and refuses it; use distribution: {exponential: {mean: …}}",
        );
    }
    let given: Vec<Delay> = [
        source.fixed_delay.map(|length| Delay::Fixed(at_least(length, &path.field("fixedDelay"), cx))),
        source.distribution.map(|source| distribution(&source, &path.field("distribution"), cx)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let delay = match (header_controlled, given.as_slice()) {
        (true, []) => Delay::Headers,
        (true, _) => {
            cx.errors.add(path, "with headerControlled the request says how long; keep only percentage");
            Delay::Headers
        }
        (false, [delay]) => *delay,
        (false, []) => {
            if !cx.errors.any_within(path) {
                cx.errors.add(path, "no length; add fixedDelay, such as 5s");
            }
            Delay::Fixed(SHORTEST)
        }
        (false, [delay, ..]) => {
            cx.errors.add(path, "both fixedDelay and distribution; keep one");
            *delay
        }
    };
    DelayFault { parts_per_million: delay_percentage(source, path, cx), delay }
}

fn delay_percentage(source: &document::FaultDelay, path: &Path<'_>, cx: &Context<'_>) -> u32 {
    let Some(percent) = source.percent else {
        return percentage(source.percentage.as_ref(), path, cx);
    };
    if source.percentage.is_some() {
        cx.errors.add(path, "both percentage and percent; keep percentage");
    }
    match u32::try_from(percent) {
        Ok(percent @ 0..=100) => percent.saturating_mul(10_000),
        _ => {
            cx.errors.add(
                &path.field("percent"),
                format_args!("{percent} is not a percentage; use a whole number from 0 to 100"),
            );
            0
        }
    }
}

fn distribution(source: &document::DelayDistribution, path: &Path<'_>, cx: &Context<'_>) -> Delay {
    let length = |given: Option<document::Duration>, place: &Path<'_>, name: &str| match given {
        Some(given) => at_least(given, &place.field(name), cx),
        None => {
            common::missing(place, name, cx);
            SHORTEST
        }
    };
    let given: Vec<Delay> = [
        source.uniform.map(|uniform| {
            let place = path.field("uniform");
            let min = uniform.min.map_or(Duration::ZERO, |min| min.0);
            let max = length(uniform.max, &place, "max");
            if min > max {
                cx.errors.add(&place, "min is longer than max; use a min that is at most max");
            }
            Delay::Uniform { min, max }
        }),
        source.normal.map(|normal| {
            let place = path.field("normal");
            if normal.stddev.is_none() {
                common::missing(&place, "stddev", cx);
            }
            Delay::Normal {
                mean: length(normal.mean, &place, "mean"),
                stddev: normal.stddev.map_or(Duration::ZERO, |stddev| stddev.0),
            }
        }),
        source.exponential.map(|exponential| Delay::Exponential {
            mean: length(exponential.mean, &path.field("exponential"), "mean"),
        }),
    ]
    .into_iter()
    .flatten()
    .collect();
    match given.as_slice() {
        [delay] => *delay,
        [] => {
            if !cx.errors.any_within(path) {
                cx.errors.add(path, "no distribution; use one of uniform, normal, exponential");
            }
            Delay::Fixed(SHORTEST)
        }
        [delay, ..] => {
            cx.errors.add(path, "more than one distribution; keep one of uniform, normal, exponential");
            *delay
        }
    }
}

fn at_least(length: document::Duration, path: &Path<'_>, cx: &Context<'_>) -> Duration {
    if length.0 < SHORTEST {
        cx.errors.add(path, format_args!("{:?} is too short for a delay; use 1ms or more", length.0));
    }
    length.0.max(SHORTEST)
}

fn abort(
    source: &document::FaultAbort,
    header_controlled: bool,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> AbortFault {
    if source.http2_error.is_some() {
        cx.errors.add(
            &path.field("http2Error"),
            "Istio has this field and refuses it; use reset: true to close the stream",
        );
    }
    let reset = source.reset.unwrap_or(false);
    let given: Vec<Ending> = [
        source.http_status.map(|status| Ending::Http(http_status(status, &path.field("httpStatus"), cx))),
        source.grpc_status.map(|status| Ending::Grpc(status.0)),
        reset.then_some(Ending::Reset),
    ]
    .into_iter()
    .flatten()
    .collect();
    let ending = match (header_controlled, given.as_slice()) {
        (true, []) => Ending::Headers,
        (true, _) => {
            cx.errors.add(path, "with headerControlled the request says the status; leave it out here");
            Ending::Headers
        }
        (false, [ending]) => *ending,
        (false, []) => {
            if !cx.errors.any_within(path) {
                cx.errors.add(path, "no status; add one of httpStatus, grpcStatus, reset");
            }
            Ending::Reset
        }
        (false, [ending, ..]) => {
            cx.errors.add(path, "more than one way to end; keep one of httpStatus, grpcStatus, reset");
            *ending
        }
    };
    if reset && (source.body.is_some() || !source.headers.is_empty()) {
        cx.errors.add(path, "a reset sends no body and no headers; leave them out");
    }
    if let Ending::Http(status) = ending {
        common::check_body(status, source.body.is_some(), path, cx);
    }
    let place = path.field("headers");
    AbortFault {
        parts_per_million: percentage(source.percentage.as_ref(), path, cx),
        ending,
        body: source.body.as_deref().unwrap_or(BODY).as_bytes().to_vec(),
        headers: common::reply_headers(&source.headers, &place, cx),
    }
}

fn http_status(status: u32, path: &Path<'_>, cx: &Context<'_>) -> u16 {
    match u16::try_from(status) {
        Ok(status @ 200..=599) => status,
        _ => {
            cx.errors
                .add(path, format_args!("{status} is not a status to answer with; use one from 200 to 599"));
            500
        }
    }
}

/// A fault without a percentage never happens, in Istio and Envoy alike: good, but seldom what was meant.
fn percentage(source: Option<&document::Percent>, path: &Path<'_>, cx: &Context<'_>) -> u32 {
    if source.is_none() {
        cx.warn(path, "no percentage, so it never happens; add percentage: {value: 100} for every request");
    }
    common::parts_per_million(source, &path.field("percentage"), cx)
}

#[cfg(test)]
mod tests;
