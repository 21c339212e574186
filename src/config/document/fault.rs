use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Duration, Headers, Mode, Percent};

/// Istio's HTTPFaultInjection: what goes wrong on purpose. Delay and abort are drawn independently, the delay first.
#[derive(Clone, Debug, Default, Deserialize)]
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
    /// bounds, and no delay or status stands here. Default false. Beyond Istio.
    pub header_controlled: Option<bool>,
    /// Default `enforce`.
    pub mode: Option<Mode>,
}

/// Requests that have to wait.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FaultDelay {
    /// How many of them, in parts per million; none by default.
    pub percentage: Option<Percent>,
    /// Istio's older form of `percentage`: a whole number from 0 to 100.
    pub percent: Option<i64>,
    /// How long, at least 1ms.
    pub fixed_delay: Option<Duration>,
    /// How long, drawn anew for every request, in place of `fixedDelay`. Beyond Istio.
    pub distribution: Option<DelayDistribution>,
    /// Istio has this field and refuses it.
    pub exponential_delay: Option<Duration>,
}

/// How long requests wait, drawn anew for each. Exactly one member stands.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
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
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UniformDelay {
    /// The shortest; default 0s.
    pub min: Option<Duration>,
    /// The longest, at least 1ms.
    pub max: Option<Duration>,
}

/// The bell curve.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NormalDelay {
    /// The middle, at least 1ms.
    pub mean: Option<Duration>,
    /// The standard deviation.
    pub stddev: Option<Duration>,
}

/// Many short ones, few long ones.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExponentialDelay {
    /// The average, at least 1ms.
    pub mean: Option<Duration>,
}

/// Requests that are ended. Exactly one of `httpStatus`, `grpcStatus` and `reset` stands.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FaultAbort {
    /// How many of them, in parts per million; none by default.
    pub percentage: Option<Percent>,
    /// 200 to 599.
    pub http_status: Option<u32>,
    /// A gRPC status by its name, such as `UNAVAILABLE`, or by its number.
    pub grpc_status: Option<GrpcStatus>,
    /// Istio has this field and refuses it.
    pub http2_error: Option<String>,
    /// The body of the answer; default `fault filter abort`. Beyond Istio.
    pub body: Option<String>,
    /// Headers of the answer. Beyond Istio.
    pub headers: Headers<String>,
    /// Whether the stream is closed without an answer. Default false. Beyond Istio.
    pub reset: Option<bool>,
}

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcStatus(pub u32);

/// The names of gRPC's status codes, in the order of their numbers.
const GRPC_STATUS_NAMES: [&str; 17] = [
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

impl<'de> Deserialize<'de> for GrpcStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrNumber;
        impl Visitor<'_> for NameOrNumber {
            type Value = GrpcStatus;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a gRPC status such as UNAVAILABLE or 14")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<GrpcStatus, E> {
                let number = GRPC_STATUS_NAMES.iter().position(|known| *known == name);
                match number.and_then(|number| u32::try_from(number).ok()) {
                    Some(number) => Ok(GrpcStatus(number)),
                    None => Err(E::custom(format_args!(
                        "\"{name}\" is not a gRPC status; use one such as UNAVAILABLE"
                    ))),
                }
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<GrpcStatus, E> {
                match i32::try_from(number).ok().and_then(|number| u32::try_from(number).ok()) {
                    Some(number) => Ok(GrpcStatus(number)),
                    None => Err(E::invalid_value(de::Unexpected::Unsigned(number), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<GrpcStatus, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
                }
            }
        }
        deserializer.deserialize_u64(NameOrNumber)
    }
}
