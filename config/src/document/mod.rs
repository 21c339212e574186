//! The policy document as users write it: Istio's words where Istio has a field for a thing.
//!
//! These types say what may stand where; what the values mean together is checked when they are compiled.
//! Unknown members are errors everywhere. An absent member is `None`, so that a default is chosen in one place.

mod authentication;
mod authorization;
mod fault;
mod http;
mod http_match;
mod misplaced;
mod rate_limits;
mod source;
mod telemetry;

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use meshfilter_json::{Deserialize, Member};

pub use authentication::*;
pub use authorization::*;
pub use fault::*;
pub use http::*;
pub use http_match::*;
pub use misplaced::misplaced;
pub use rate_limits::*;
pub use source::{RemoteAddress, Source};
pub use telemetry::*;

pub use meshfilter_core::policy::Mode;

/// The whole document.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Document {
    /// Who is asking: Istio's RequestAuthentication.
    pub authentication: Option<Authentication>,
    /// Whether they may: Istio's AuthorizationPolicy.
    pub authorization: Vec<AuthorizationPolicy>,
    /// Where to, and how: the `http` of Istio's VirtualService.
    pub http: Vec<HttpEntry>,
    /// How often.
    pub rate_limits: Vec<RateLimit>,
    /// What is told about it.
    pub telemetry: Option<Telemetry>,
    /// How a destination becomes the name of an Envoy cluster.
    pub destinations: Option<Destinations>,
    /// The namespace that a bare service account in `authorization` belongs to.
    pub namespace: Option<String>,
    /// Other names of the mesh's own trust domain, as in MeshConfig.
    pub trust_domain_aliases: Vec<String>,
    /// What becomes of a path that readers may understand differently, where a path rule is in force. Default
    /// `reject`.
    pub ambiguous_paths: Option<AmbiguousPaths>,
    /// How many buckets the process keeps at most, 64 to 1048576. Default `65536`.
    pub rate_limit_slots: Option<u32>,
}

/// How a destination becomes the name of an Envoy cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Destinations {
    /// The pattern, with `{host}`, `{subset}` and `{port}`. Without it `{host}|{subset}`, and just `{host}` without a
    /// subset. In Istio `outbound|{port}|{subset}|{host}`.
    pub cluster_name: Option<String>,
    /// The port of destinations that have none, 1 to 65535. Without it they have none.
    pub port: Option<u16>,
}

/// What becomes of a path that readers may understand differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum AmbiguousPaths {
    /// Refused with 400.
    #[default]
    Reject,
    /// Matched as it is.
    Allow,
}

/// How a string has to look. At most one member stands; none asks for presence.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StringMatch {
    /// The whole value.
    pub exact: Option<String>,
    /// How it begins.
    pub prefix: Option<String>,
    /// How it ends. Beyond Istio.
    pub suffix: Option<String>,
    /// What it has in it. Beyond Istio.
    pub contains: Option<String>,
    /// RE2 syntax, the whole value.
    pub regex: Option<String>,
    /// Whether there is a value at all, empty or not. Beyond Istio.
    pub present: Option<bool>,
}

/// A member that Istio has and a plugin cannot honour, whatever stands in it. It is known so that it can be refused
/// with the reason.
#[derive(Clone, Copy, Debug)]
pub struct Unsupported;

impl Deserialize for Unsupported {
    fn read(_: Member<'_>) -> Option<Self> {
        Some(Unsupported)
    }

    const MAY_STAND: bool = false;
}

/// A share from 0 to 100, with decimals.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Percent {
    /// 0 to 100. Default `0`.
    pub value: Option<f64>,
}

/// A span of time: `5s`, `250ms`, `1m30s`, `1.5h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration(pub StdDuration);

/// Headers by name.
pub type Headers<T> = BTreeMap<String, T>;

impl Duration {
    /// Reads a span of time in the form of Go and Istio: numbers with `h`, `m`, `s`, `ms`, `us` or `ns`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut total = StdDuration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, tail) = rest.split_at_checked(digits)?;
            let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at_checked(unit)?;
            let nanoseconds: u32 = match unit {
                "ns" => 1,
                "us" | "µs" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" | "h" => 0,
                _ => return None,
            };
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            let seconds: u64 = match unit {
                "m" => 60,
                "h" => 3600,
                _ => 0,
            };
            let unit = match nanoseconds {
                0 => StdDuration::from_secs(seconds),
                nanoseconds => StdDuration::from_nanos(nanoseconds.into()),
            };
            if !whole.is_empty() || fraction.is_empty() {
                total = total.checked_add(unit.checked_mul(whole.parse().ok()?)?)?;
            }
            let mut part = unit;
            for digit in fraction.chars() {
                part = part.checked_div(10)?;
                total = total.checked_add(part.checked_mul(digit.to_digit(10)?)?)?;
            }
            rest = tail;
        }
        (!text.is_empty()).then_some(Duration(total))
    }
}

impl Deserialize for Duration {
    fn read(member: Member<'_>) -> Option<Self> {
        let duration = member.value.as_str().and_then(Duration::parse);
        duration.or_else(|| member.unfit("a duration such as 5s, 250ms or 1m30s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_istio_writes_them() {
        for (text, milliseconds) in [
            ("5s", 5000),
            ("250ms", 250),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("0s", 0),
            (".5s", 500),
            ("1s1ms", 1001),
        ] {
            assert_eq!(
                Duration::parse(text),
                Some(Duration(StdDuration::from_millis(milliseconds))),
                "{text}"
            );
        }
        for text in ["", "5", "s", "-5s", "5 s", "5x", "1..5s", "99999999999999999999s", "5s5", "1e3s", "."] {
            assert_eq!(Duration::parse(text), None, "{text}");
        }
    }
}
