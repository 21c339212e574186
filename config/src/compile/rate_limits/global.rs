//! A limit that a service keeps.

use std::rc::Rc;
use std::time::Duration;

use super::{key_part, refusal};
use crate::compile::{Context, Path, common, http_match};
use crate::document;
use meshfilter_core::policy::rate_limit::GlobalLimit;
use meshfilter_core::policy::rate_limit::global::{Descriptor, Override, Service};

/// Envoy's own default.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(20);

/// The proxy counts whole milliseconds, and a request must not wait for ever.
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

pub fn compile(
    source: &document::RateLimit,
    asked: &document::GlobalLimit,
    name: Rc<str>,
    path: &Path<'_>,
    cx: &Context<'_>,
) -> GlobalLimit {
    if !source.key.is_empty() && source.token_bucket.is_none() {
        cx.errors.add(
            &path.field("key"),
            "a key is for a bucket; say it in global.descriptors, or give a tokenBucket that stands before the service",
        );
    }
    // A bucket says the same, and more.
    if source.cost == Some(0) && source.token_bucket.is_none() {
        cx.errors.add(&path.field("cost"), "0 is not a cost; use a whole number from 1");
    }
    let place = path.field("global");
    let text = |given: &Option<String>, name: &str| {
        match given.as_deref() {
            Some("") => cx.errors.add(&place.field(name), "an empty name; give the service's"),
            Some(_) => {}
            None => common::missing(&place, name, cx),
        }
        given.clone().unwrap_or_default()
    };
    let timeout = asked.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0);
    if !TIMEOUTS.contains(&timeout) {
        cx.errors.add(
            &place.field("timeout"),
            format_args!("{timeout:?} is not a time to wait for an answer; use 1ms to 60s"),
        );
    }
    let listed = place.field("descriptors");
    if asked.descriptors.is_empty() && !cx.errors.any_within(&listed) {
        cx.errors
            .add(&listed, "no descriptor; give one, such as {entries: [{key: user, value: {claim: sub}}]}");
    }
    let descriptors = asked.descriptors.iter().enumerate();
    GlobalLimit {
        service: Service::new(&name),
        name,
        guard: http_match::guard(source.matches.as_ref(), &path.field("match"), cx),
        cluster: text(&asked.cluster, "cluster"),
        domain: text(&asked.domain, "domain"),
        timeout,
        failure_mode: asked.failure_mode.unwrap_or_default(),
        descriptors: descriptors
            .map(|(index, source)| descriptor(source, &listed.index(index), cx))
            .collect(),
        limit: asked.limit.as_ref().and_then(|limit| over(limit, &place.field("limit"), cx)),
        hits_addend: source.cost.unwrap_or(0),
        refusal: refusal(source, path, cx),
        mode: source.mode.unwrap_or_default(),
    }
}

fn over(source: &document::GlobalLimitOverride, path: &Path<'_>, cx: &Context<'_>) -> Option<Override> {
    if source.requests_per_unit.is_none() {
        common::missing(path, "requestsPerUnit", cx);
    }
    if source.unit.is_none() {
        common::missing(path, "unit", cx);
    }
    Some(Override { requests_per_unit: source.requests_per_unit?, unit: source.unit? })
}

fn descriptor(source: &document::Descriptor, path: &Path<'_>, cx: &Context<'_>) -> Descriptor {
    let place = path.field("entries");
    if source.entries.is_empty() && !cx.errors.any_within(&place) {
        cx.errors.add(&place, "no entry; give one, such as {key: user, value: {claim: sub}}");
    }
    let entry = |(index, source): (usize, &document::DescriptorEntry)| {
        let path = place.index(index);
        match source.key.as_deref() {
            Some("") => cx.errors.add(&path.field("key"), "an empty key; give the one that the service has"),
            Some(_) => {}
            None => common::missing(&path, "key", cx),
        }
        let Some(value) = &source.value else {
            common::missing(&path, "value", cx);
            return None;
        };
        Some((source.key.clone()?, key_part(value, &path.field("value"), cx)?))
    };
    Descriptor(source.entries.iter().enumerate().filter_map(entry).collect())
}
