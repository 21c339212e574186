use serde_json::Value;

use super::{Duration, Headers, Mode, Percent};
use meshfilter_json::{Deserialize, Member};

/// Istio's HTTPFaultInjection: what goes wrong on purpose. Delay and abort are drawn independently, the delay first.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Fault {
    /// Requests that have to wait.
    pub delay: Option<FaultDelay>,
    /// Requests that are ended.
    pub abort: Option<FaultAbort>,
    /// How many requests this entry may hold at once in the whole process; what is over it passes without a fault.
    /// No limit by default. Beyond Istio.
    pub max_active: Option<u32>,
    /// When the fault ends by itself, as RFC 3339 has dates: `2026-01-31T18:00:00Z`. Never by default. Beyond Istio.
    pub until: Option<String>,
    /// Whether the request's `x-envoy-fault-*` headers say what to do, as in Envoy; then the percentages are upper
    /// bounds, and no delay or status stands here. Default `false`. Beyond Istio.
    pub header_controlled: Option<bool>,
    /// Default `enforce`.
    pub mode: Option<Mode>,
}

/// Requests that have to wait.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FaultDelay {
    /// How many of them, to four decimals. Without it none.
    pub percentage: Option<Percent>,
    /// Istio's older form of `percentage`: a whole number from 0 to 100.
    pub percent: Option<i64>,
    /// How long, at least `1ms`.
    pub fixed_delay: Option<Duration>,
    /// How long, drawn anew for every request, in place of `fixedDelay`. Beyond Istio.
    pub distribution: Option<DelayDistribution>,
    /// Istio's; refused.
    pub exponential_delay: Option<Duration>,
}

/// How long requests wait, drawn anew for each. Exactly one member stands.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DelayDistribution {
    /// Every length between two is as likely as any other.
    pub uniform: Option<UniformDelay>,
    /// The bell curve. What would be less than nothing is nothing, and nothing is longer than the mean and six
    /// standard deviations.
    pub normal: Option<NormalDelay>,
    /// Many short ones, few long ones; none is longer than ten times the mean.
    pub exponential: Option<ExponentialDelay>,
}

/// Every length between two is as likely as any other.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UniformDelay {
    /// The shortest. Default `0s`.
    pub min: Option<Duration>,
    /// The longest, at least `1ms`. Required.
    pub max: Option<Duration>,
}

/// The bell curve.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NormalDelay {
    /// The middle, at least `1ms`. Required.
    pub mean: Option<Duration>,
    /// The standard deviation. Required.
    pub stddev: Option<Duration>,
}

/// Many short ones, few long ones.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExponentialDelay {
    /// The average, at least `1ms`. Required.
    pub mean: Option<Duration>,
}

/// Requests that are ended. Exactly one of `httpStatus`, `grpcStatus` and `reset` stands.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FaultAbort {
    /// How many of them, to four decimals. Without it none.
    pub percentage: Option<Percent>,
    /// 200 to 599.
    pub http_status: Option<u32>,
    /// A gRPC status by its name, such as `UNAVAILABLE`, or by its number.
    pub grpc_status: Option<GrpcStatus>,
    /// Istio's; refused.
    pub http2_error: Option<String>,
    /// The body of the answer. Default `fault filter abort`. Beyond Istio.
    pub body: Option<String>,
    /// Headers of the answer. Beyond Istio.
    pub headers: Headers<String>,
    /// Whether the stream is closed without an answer. Default `false`. Beyond Istio.
    pub reset: Option<bool>,
}

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcStatus(pub u32);

/// The names of gRPC's status codes, in the order of their numbers.
pub const GRPC_STATUS_NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl Deserialize for GrpcStatus {
    fn read(member: Member<'_>) -> Option<Self> {
        let Value::String(name) = member.value else {
            let number =
                member.whole_number(0, i32::MAX.into(), "a gRPC status such as UNAVAILABLE or 14")?;
            return u32::try_from(number).ok().map(GrpcStatus);
        };
        let number = GRPC_STATUS_NAMES.iter().position(|known| known == name);
        number.and_then(|number| u32::try_from(number).ok()).map(GrpcStatus).or_else(|| {
            member.wrong(format_args!("\"{name}\" is not a gRPC status; use one such as UNAVAILABLE"))
        })
    }
}
