//! Annotations of a Service that say when one of its servers is left alone: Linkerd's failure accrual → Envoy's outlier
//! detection.

use std::time::Duration;

use crate::envoy::cluster::OutlierDetection;
use crate::import::field::Object;

/// How they begin.
pub const ACCRUAL: &str = "balancer.linkerd.io/failure-accrual";

const TO: &str = "outlier_detection of the cluster";

/// Linkerd's own, where annotations say none.
const FAILURES: u32 = 7;
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);

/// What the annotations of a resource say; `None` where no server is left alone.
pub fn of(top: &Object<'_>) -> Option<OutlierDetection> {
    let metadata = top.peek("metadata")?.object_quietly()?;
    metadata.rest(|_| {});
    let annotations = metadata.peek("annotations").filter(|field| field.value().is_object())?.entries();
    let mut mode = None;
    let (mut failures, mut least, mut most) = (FAILURES, LEAST, MOST);
    for (name, field) in &annotations {
        let Some(rest) = name.strip_prefix(ACCRUAL) else { continue };
        let Some(text) = field.text() else { continue };
        match rest {
            "" => mode = Some((field, text)),
            "-consecutive-max-failures" => match text.trim().parse() {
                Ok(number) => failures = number,
                Err(_) => drop(field.wrong::<()>(format!("{text} is not a number"))),
            },
            "-consecutive-min-penalty" => least = field.span()?,
            "-consecutive-max-penalty" => most = field.span()?,
            "-consecutive-jitter-ratio" => {
                field.no_meaning("a server comes back when its time is over, which is the same for all");
                continue;
            }
            _ => {
                field.refuse("Envoy counts failures in a row", "use failure-accrual-consecutive-…");
                continue;
            }
        }
        field.left_to_envoy(TO);
    }
    let (field, mode) = mode?;
    match mode {
        "consecutive" => {}
        "unified" => field.warn(
            "failures in a row are counted, and the share of successes is not",
            "use consecutive, or write outlier_detection into envoy.yaml",
        ),
        other => {
            return field.wrong(format!("{other} is no way to count failures; use consecutive"));
        }
    }
    if least > most || most.is_zero() {
        return field.wrong("the least penalty is more than the most, or that is nothing: use 1s and 60s");
    }
    // None in a row is as many as never come.
    (failures > 0).then(|| OutlierDetection {
        consecutive_5xx: Some(failures),
        enforcing_consecutive_5xx: Some(100),
        // Who may come back is looked for as often as somebody may.
        interval: Some(least.max(SOONEST)),
        base_ejection_time: Some(least.max(SOONEST)),
        max_ejection_time: Some(most.max(SOONEST)),
        max_ejection_percent: Some(100),
        ..OutlierDetection::default()
    })
}

/// Envoy has no time of nothing.
const SOONEST: Duration = Duration::from_millis(1);
