//! What a series of Envoy's is about, by its name.

use meshfilter::policy::metric::split_metric_name;

use super::labelled;
use crate::report::printable;

/// What of the statistics is asked for: as Envoy's `filter`, so that it sends no more. A metric without labels, or with those
/// that stand in its name.
pub const FILTER: &str = r"^(wasmcustom\.(meshfilter|istio)_[a-z_]*(<|$)|wasm\..*vm_reload_success$|cluster\..*\.membership_(healthy|total)$|(listener_manager\.lds|cluster_manager\.cds)\.update_rejected$)";

/// What is asked for as Prometheus has it: metrics whose labels Envoy was told, as the native module does.
pub const LABELLED: &str = r"^wasmcustom\.(meshfilter|istio)_[a-z_]*\.";

/// Where plugins' metrics stand.
const PREFIX: &str = "wasmcustom.";

/// Which metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `meshfilter_requests_total`, or Istio's.
    Requests,
    /// `meshfilter_request_duration_milliseconds`, or Istio's.
    Durations,
    /// `meshfilter_policy_decisions_total`
    Decisions,
    /// `meshfilter_rate_limit_nearly_empty_total`
    NearlyEmpty,
    /// `meshfilter_rate_limit_service_total`
    ServiceAnswers,
    /// `meshfilter_rate_limit_slots`
    Slots,
    /// `meshfilter_rate_limit_slots_used`
    SlotsUsed,
    /// `meshfilter_rate_limit_displaced_total`
    Displaced,
    /// `meshfilter_waiting_requests`
    Waiting,
    /// `meshfilter_jwks_fetches_total`
    KeyFetches,
    /// `meshfilter_jwks_last_success_timestamp_seconds`
    KeySuccess,
    /// `meshfilter_configuration_version`
    Configuration,
    /// `meshfilter_tag_overflows_total`
    Overflows,
    /// `wasm.….vm_reload_success`
    Reloads,
    /// `cluster.….membership_healthy`
    Healthy,
    /// `cluster.….membership_total`
    Members,
    /// Pushes that Envoy refused.
    Rejected,
}

/// A series that has a place in the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    pub kind: Kind,
    /// As they stand in the name; nothing in them commands a terminal.
    pub labels: Vec<(String, String)>,
}

impl Metric {
    /// The metric of a name; none: it is none of ours.
    pub fn of(name: &str) -> Option<Self> {
        if let Some((name, labels)) = labelled::split(name) {
            // An Envoy that was not told to leave out where they stand.
            let name = name.strip_prefix("envoy_wasmcustom_").unwrap_or(name);
            return Self::ours(name, labels.iter().map(|(label, value)| (*label, &**value)));
        }
        if let Some(flat) = name.strip_prefix(PREFIX) {
            let (name, labels) = split_metric_name(flat);
            return Self::ours(name, labels.into_iter());
        }
        let cluster = |ending: &str| {
            let cluster = name.strip_prefix("cluster.")?.strip_suffix(ending)?;
            Some(vec![("cluster".to_owned(), printable(cluster.chars()))])
        };
        if let Some(labels) = cluster(".membership_healthy") {
            return Some(Metric { kind: Kind::Healthy, labels });
        }
        if let Some(labels) = cluster(".membership_total") {
            return Some(Metric { kind: Kind::Members, labels });
        }
        let kind = match name {
            "listener_manager.lds.update_rejected" | "cluster_manager.cds.update_rejected" => Kind::Rejected,
            _ if name.starts_with("wasm.") && name.ends_with("vm_reload_success") => Kind::Reloads,
            _ => return None,
        };
        Some(Metric { kind, labels: Vec::new() })
    }

    /// One of the module's own.
    fn ours<'a>(name: &str, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let kind = match name {
            "meshfilter_requests_total" | "istio_requests_total" => Kind::Requests,
            "meshfilter_request_duration_milliseconds" | "istio_request_duration_milliseconds" => {
                Kind::Durations
            }
            "meshfilter_policy_decisions_total" => Kind::Decisions,
            "meshfilter_rate_limit_nearly_empty_total" => Kind::NearlyEmpty,
            "meshfilter_rate_limit_service_total" => Kind::ServiceAnswers,
            "meshfilter_rate_limit_slots" => Kind::Slots,
            "meshfilter_rate_limit_slots_used" => Kind::SlotsUsed,
            "meshfilter_rate_limit_displaced_total" => Kind::Displaced,
            "meshfilter_waiting_requests" => Kind::Waiting,
            "meshfilter_jwks_fetches_total" => Kind::KeyFetches,
            "meshfilter_jwks_last_success_timestamp_seconds" => Kind::KeySuccess,
            "meshfilter_configuration_version" => Kind::Configuration,
            "meshfilter_tag_overflows_total" => Kind::Overflows,
            _ => return None,
        };
        let clean = |text: &str| printable(text.chars());
        let mut labels: Vec<(String, String)> =
            labels.map(|(label, value)| (clean(label), clean(value))).collect();
        if name.starts_with("istio_") {
            labels.push(("destination".to_owned(), istio_destination(&labels)));
        }
        Some(Metric { kind, labels })
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

/// Under Istio's names a destination is a service and its version.
fn istio_destination(labels: &[(String, String)]) -> String {
    let label = |name: &str| {
        let found = labels.iter().find(|(label, value)| label == name && value != "unknown");
        found.map(|(_, value)| value.as_str())
    };
    match (label("destination_service"), label("destination_version")) {
        (Some(service), Some(version)) => format!("{service}|{version}"),
        (Some(service), None) => service.to_owned(),
        (None, _) => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_are_about() {
        let of = |name: &str| Metric::of(name).map(|metric| metric.kind);
        let requests =
            Metric::of("wasmcustom.meshfilter_requests_total<route=a.b><destination=w|v1>").unwrap();
        assert_eq!((requests.kind, requests.label("route")), (Kind::Requests, Some("a.b")));
        assert_eq!(requests.label("tenant"), None);
        let istio = "wasmcustom.istio_requests_total<destination_service=w.ns><destination_version=v2>";
        assert_eq!(Metric::of(istio).unwrap().label("destination"), Some("w.ns|v2"));
        assert_eq!(of("wasmcustom.other_total<route=a>"), None);
        assert_eq!(of("wasm.envoy.wasm.runtime.v8.active"), None);
        assert_eq!(of("wasm.meshfilter.vm_reload_success"), Some(Kind::Reloads));
        let members = Metric::of("cluster.webapp|v1.membership_total").unwrap();
        assert_eq!((members.kind, members.label("cluster")), (Kind::Members, Some("webapp|v1")));
        assert_eq!(of("listener_manager.lds.update_rejected"), Some(Kind::Rejected));
        let told = Metric::of(r#"meshfilter_requests_total{route="a.b",destination="w|v1"}"#).unwrap();
        assert_eq!((told.kind, &told.labels), (Kind::Requests, &requests.labels));
        let unstripped = r#"envoy_wasmcustom_meshfilter_requests_total{route="a.b",destination="w|v1"}"#;
        assert_eq!(Metric::of(unstripped), Some(told));
        let hostile = Metric::of("wasmcustom.meshfilter_requests_total<route=\u{1b}[2J>").unwrap();
        assert_eq!(hostile.label("route"), Some("\u{fffd}[2J"));
    }

    #[test]
    fn the_filter_lets_through_what_has_a_place() {
        let filter = regex::Regex::new(FILTER).unwrap();
        for name in [
            "wasmcustom.meshfilter_requests_total<route=a>",
            "wasmcustom.istio_request_duration_milliseconds",
            "wasm.meshfilter.vm_reload_success",
            "cluster.a.b.membership_total",
            "cluster_manager.cds.update_rejected",
        ] {
            assert!(filter.is_match(name) && Metric::of(name).is_some(), "{name}");
        }
        assert!(!filter.is_match("cluster.a.upstream_rq_total"));
        // Each series comes once, one way or the other.
        let labelled = regex::Regex::new(LABELLED).unwrap();
        for (name, is_labelled) in [
            ("wasmcustom.meshfilter_requests_total.route.a<b.destination.none", true),
            ("wasmcustom.meshfilter_requests_total<route=a.b>", false),
            ("wasmcustom.meshfilter_rate_limit_slots", false),
        ] {
            assert_eq!((filter.is_match(name), labelled.is_match(name)), (!is_labelled, is_labelled));
        }
    }
}
