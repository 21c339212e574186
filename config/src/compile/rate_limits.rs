//! The `rateLimits` section.

mod global;

use std::rc::Rc;
use std::time::Duration;

use super::common::{self, SourceUse};
use super::{Context, Path, http_match};
use crate::document::{self, Document};
use meshfilter_core::policy::rate_limit::{KeyPart, Limit, RateLimits, Refusal, TokenBucket, WAYS};

/// How many buckets the process keeps unless the document says otherwise.
const DEFAULT_SLOTS: u32 = 65_536;

/// The fewest and the most buckets that a document may ask for: shared data never shrinks, and a slot takes up to
/// 200 bytes.
const SLOTS: std::ops::RangeInclusive<u32> = 64..=1_048_576;

/// Envoy's own bound.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);

/// Compiles the `rateLimits` section, and `rateLimitSlots`.
pub fn compile(document: &Document, cx: &Context<'_>) -> RateLimits {
    let slots = document.rate_limit_slots.unwrap_or(DEFAULT_SLOTS);
    if !SLOTS.contains(&slots) {
        cx.errors.add(
            &Path::ROOT.field("rateLimitSlots"),
            format_args!(
                "{slots} is not a number of slots; use a whole number from {} to {}",
                SLOTS.start(),
                SLOTS.end()
            ),
        );
    }
    let path = Path::ROOT.field("rateLimits");
    let names = common::names(document.rate_limits.iter().map(|limit| limit.name.as_deref()), &path, cx);
    let (mut limits, mut globals) = (Vec::new(), Vec::new());
    for (index, (source, name)) in document.rate_limits.iter().zip(names).enumerate() {
        let path = path.index(index);
        if let Some(asked) = &source.global {
            globals.push(global::compile(source, asked, name.clone(), &path, cx));
        }
        if source.global.is_none() || source.token_bucket.is_some() {
            limits.push(limit(source, name, &path, cx));
        }
    }
    RateLimits::new(limits, slots.div_ceil(u32::try_from(WAYS).unwrap_or(1)), globals)
}

fn limit(source: &document::RateLimit, name: Rc<str>, path: &Path<'_>, cx: &Context<'_>) -> Limit {
    let keys = path.field("key");
    let parts = source.key.iter().enumerate();
    let key = parts.filter_map(|(index, part)| key_part(part, &keys.index(index), cx)).collect();
    let bucket = match &source.token_bucket {
        Some(bucket) => token_bucket(bucket, &path.field("tokenBucket"), cx),
        None => {
            common::missing(path, "tokenBucket", cx);
            TokenBucket { max_tokens: u32::MAX, tokens_per_fill: 1, fill_interval: 1 }
        }
    };
    let cost = source.cost.unwrap_or(1);
    if (cost == 0 || cost > bucket.max_tokens) && !cx.errors.any_within(&path.field("tokenBucket")) {
        let most = bucket.max_tokens;
        cx.errors.add(
            &path.field("cost"),
            format_args!("{cost} is not a cost; use a whole number from 1 to {most}, which is maxTokens"),
        );
    }
    Limit {
        name,
        guard: http_match::guard(source.matches.as_ref(), &path.field("match"), cx),
        key,
        bucket,
        cost,
        refusal: refusal(source, path, cx),
        mode: source.mode.unwrap_or_default(),
        before_service: source.global.is_some(),
    }
}

fn refusal(source: &document::RateLimit, path: &Path<'_>, cx: &Context<'_>) -> Refusal {
    Refusal {
        status: status(source.status, &path.field("status"), cx),
        grpc_status: grpc_status(source.grpc_status, &path.field("grpcStatus"), cx),
        body: source.body.as_ref().map(|body| body.as_bytes().to_vec()),
        headers: source.headers.unwrap_or_default(),
    }
}

fn key_part(source: &document::Source, path: &Path<'_>, cx: &Context<'_>) -> Option<KeyPart> {
    let telemetry_only = [
        ("responseHeader", source.response_header.is_some()),
        ("environment", source.environment.is_some()),
        ("pathTemplate", source.path_template.is_some()),
        ("route", source.route.is_some()),
        ("destination", source.destination.is_some()),
        ("decision", source.decision.is_some()),
    ];
    for (name, _) in telemetry_only.into_iter().filter(|(_, given)| *given) {
        cx.errors.add(&path.field(name), "this belongs in a telemetry tag; a key has header, claim or path");
    }
    let compiled = common::source(source, SourceUse::RateLimit, path, cx);
    if compiled.is_none() && !cx.errors.any_within(path) {
        cx.errors.add(
            path,
            "no source; use one of header, claim, cookie, queryParam, remoteAddress, path, method, literal, property",
        );
    }
    Some(KeyPart { source: compiled?, default: source.default.as_ref().map(|text| text.as_bytes().into()) })
}

fn token_bucket(source: &document::TokenBucket, path: &Path<'_>, cx: &Context<'_>) -> TokenBucket {
    let tokens = |given: Option<u32>, default: Option<u32>, name: &str| match given.or(default) {
        Some(0) => {
            cx.errors.add(
                &path.field(name),
                "0 is not a number of tokens; use a whole number from 1 to 4294967295",
            );
            1
        }
        Some(tokens) => tokens,
        None => {
            common::missing(path, name, cx);
            1
        }
    };
    let max_tokens = tokens(source.max_tokens, None, "maxTokens");
    let tokens_per_fill = tokens(source.tokens_per_fill, Some(1), "tokensPerFill");
    let interval = match source.fill_interval {
        Some(interval) => interval.0,
        None => {
            common::missing(path, "fillInterval", cx);
            SHORTEST_INTERVAL
        }
    };
    if interval < SHORTEST_INTERVAL {
        cx.errors.add(
            &path.field("fillInterval"),
            format_args!("{interval:?} is too short to fill; use 50ms or more, with more tokensPerFill"),
        );
    }
    let interval = interval.max(SHORTEST_INTERVAL);
    TokenBucket {
        max_tokens,
        tokens_per_fill,
        fill_interval: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX),
    }
}

fn status(given: Option<u32>, path: &Path<'_>, cx: &Context<'_>) -> u16 {
    match u16::try_from(given.unwrap_or(429)) {
        Ok(status @ 400..=599) => status,
        _ => {
            let status = given.unwrap_or_default();
            cx.errors
                .add(path, format_args!("{status} is not a status to refuse with; use one from 400 to 599"));
            429
        }
    }
}

/// Absent, the mapping of the proxy holds.
fn grpc_status(given: Option<document::GrpcStatus>, path: &Path<'_>, cx: &Context<'_>) -> Option<u32> {
    let status = given?.0;
    if status == 0 {
        cx.errors.add(path, "OK refuses nothing; use a status such as RESOURCE_EXHAUSTED");
    }
    Some(status)
}

#[cfg(test)]
mod tests;
