use serde::Deserialize;

use super::{Duration, HttpMatch, Mode, Source};

/// One entry of the `rateLimits` section. Every entry that applies has to have tokens; a request takes from all or
/// from none.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RateLimit {
    /// The entry's name; default its place, `rateLimits[0]`. Buckets belong to it.
    pub name: Option<String>,
    /// Which requests the entry applies to: those for which any of these holds. Default all.
    #[serde(rename = "match")]
    pub matches: Option<Vec<HttpMatch>>,
    /// One bucket for each combination of these values; default one for all requests. Where a value is missing that
    /// has no `default`, the entry does not apply.
    pub key: Vec<Source>,
    /// The bucket's sizes.
    pub token_bucket: Option<TokenBucket>,
    /// How many tokens a request takes, 1 to `maxTokens`. Default 1.
    pub cost: Option<u32>,
    /// The status of a refusal, 400 to 599. Default 429.
    pub status: Option<u32>,
    /// What the client is told. Default `refused`.
    pub headers: Option<LimitHeaders>,
    /// The body of a refusal. Default `local_rate_limited`.
    pub body: Option<String>,
    /// Default `enforce`.
    pub mode: Option<Mode>,
    /// A rate limit service in place of `tokenBucket`. This version has none.
    pub global: Option<serde::de::IgnoredAny>,
}

/// The sizes of a bucket: it starts full and refills continuously.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TokenBucket {
    /// How many tokens a full bucket has, from 1.
    pub max_tokens: Option<u32>,
    /// So many are added in a `fillInterval`, from 1. Default 1.
    pub tokens_per_fill: Option<u32>,
    /// At least 50ms. It sets the speed alone: tokens come one by one, not all at its end.
    pub fill_interval: Option<Duration>,
}

/// What a client is told about a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LimitHeaders {
    /// `retry-after` and `x-ratelimit-*` on refusals.
    #[default]
    Refused,
    /// `x-ratelimit-*` on allowed responses, too.
    Draft03,
    /// Nothing, not even `retry-after`.
    None,
}
