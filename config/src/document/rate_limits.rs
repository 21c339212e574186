use super::{Duration, GrpcStatus, HttpMatch, Mode, Source};
pub use meshfilter_core::policy::rate_limit::LimitHeaders;
pub use meshfilter_core::policy::rate_limit::global::{FailureMode, Unit};
use meshfilter_json::Deserialize;

/// One entry of the `rateLimits` section. Every entry that applies has to have tokens; a request takes from all or
/// from none.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// How many tokens a request takes, 1 to `maxTokens`. Default `1`.
    pub cost: Option<u32>,
    /// The status of a refusal, 400 to 599. Default `429`.
    pub status: Option<u32>,
    /// What gRPC callers get in place of Envoy's `UNAVAILABLE`: a gRPC status by its name, such as `RESOURCE_EXHAUSTED`, or
    /// by its number.
    pub grpc_status: Option<GrpcStatus>,
    /// What the client is told. Default `refused`.
    pub headers: Option<LimitHeaders>,
    /// The body of a refusal. Default `local_rate_limited`.
    pub body: Option<String>,
    /// Default `enforce`.
    pub mode: Option<Mode>,
    /// A rate limit service: one limit for the whole fleet. A `tokenBucket` on the same entry comes first, so that a flood does
    /// not reach the service; what the service refuses stays taken from it.
    pub global: Option<GlobalLimit>,
}

/// Asks an Envoy rate limit service (`envoy.service.ratelimit.v3.RateLimitService`, over gRPC).
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GlobalLimit {
    /// The Envoy cluster of the service. It has to speak HTTP/2. Required.
    pub cluster: Option<String>,
    /// Which of the service's limits are meant. Required.
    pub domain: Option<String>,
    /// How long an answer may take, from 1ms. Default `20ms`.
    pub timeout: Option<Duration>,
    /// What becomes of a request about which there is no answer. Default `allow`, as in Envoy.
    pub failure_mode: Option<FailureMode>,
    /// What the service is asked about. It refuses if any of these is over its limit. Required.
    pub descriptors: Vec<Descriptor>,
    /// The limit itself, which goes with every descriptor. envoyproxy/ratelimit takes it and has to know the domain alone;
    /// without that it allows everything. Limitador has a file of its own. `meshfilter limits` writes either.
    pub limit: Option<GlobalLimitOverride>,
}

/// How many requests a service lets through for one descriptor.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GlobalLimitOverride {
    /// So many, from 0. Required.
    pub requests_per_unit: Option<u32>,
    /// In this time. Required.
    pub unit: Option<Unit>,
}

/// One descriptor of a request. If the value of one of its entries is missing, and has no `default`, the descriptor is
/// left out; without any descriptor the service is not asked.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Descriptor {
    /// Its entries, in the order in which the service has them. Required.
    pub entries: Vec<DescriptorEntry>,
}

/// One entry of a descriptor.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DescriptorEntry {
    /// The name that the service knows it by. Required.
    pub key: Option<String>,
    /// Its value. Required.
    pub value: Option<Source>,
}

/// The sizes of a bucket: it starts full and refills continuously.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TokenBucket {
    /// How many tokens a full bucket has, from 1. Required.
    pub max_tokens: Option<u32>,
    /// So many are added in a `fillInterval`, from 1. Default `1`.
    pub tokens_per_fill: Option<u32>,
    /// At least `50ms`. It sets the speed alone: tokens come one by one, not all at its end. Required.
    pub fill_interval: Option<Duration>,
}
