//! How labels travel in a metric's name.
//!
//! A plugin's metric has a name and nothing else: `wasmcustom.<name>` in Envoy. Labels therefore stand in the name,
//! `meshfilter_requests_total<route=r1><decision=allowed>`, and one `stats_tags` entry per label in Envoy's
//! bootstrap takes them out again:
//!
//! ```yaml
//! - {tag_name: route, regex: '^wasmcustom\.(?:meshfilter|istio)_.*?(<route=([^>]*)>)'}
//! ```
//! Envoy removes the first group from the name and makes the second the label's value. The leading
//! `^wasmcustom\.` keeps the expression away from every statistic that is not a plugin's.

use std::fmt::Write;

/// What a label says when there is no value: to Prometheus an empty label is an absent one.
pub const NO_VALUE: &str = "none";

/// Every label that the filter uses beside the tags of the document. Each has its line in `envoy/envoy.yaml`.
pub const LABELS: [&str; 10] = [
    "route",
    "destination",
    "decision",
    "response_code",
    "policy",
    "mode",
    "tag",
    "result",
    "reason",
    "plugin",
];

/// The labels of requests that are counted under Istio's names, beside `response_code`. Each has its line there, too.
pub const ISTIO_LABELS: [&str; 12] = [
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "source_principal",
    "destination_workload",
    "destination_workload_namespace",
    "destination_version",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "request_protocol",
    "connection_security_policy",
];

/// The expression of a label's `stats_tags` entry.
pub fn label_expression(label: &str) -> String {
    format!(r"^wasmcustom\.(?:meshfilter|istio)_.*?(<{label}=([^>]*)>)")
}

/// The longest value, in bytes; what is longer is cut.
pub const MAX_VALUE_LENGTH: usize = 128;

/// The flat name of a metric with its labels.
///
/// Every metric of the filter gets its name here, once per set of labels, never per request.
pub fn metric_name<V: AsRef<[u8]>>(name: &str, labels: &[(&str, V)]) -> String {
    let mut flat = name.to_owned();
    for (label, value) in labels {
        // The brackets also keep a value at the name's end away from Envoy's own `_rq_200$`.
        flat.push('<');
        flat.push_str(label);
        flat.push('=');
        push_value(&mut flat, value.as_ref());
        flat.push('>');
    }
    flat
}

/// The name and the labels that [`metric_name`] put together.
pub fn split_metric_name(flat: &str) -> (&str, Vec<(&str, &str)>) {
    let mut parts = flat.split('<');
    let name = parts.next().unwrap_or_default();
    (name, parts.filter_map(|part| part.strip_suffix('>')?.split_once('=')).collect())
}

/// Writes a value so that it can stand in a name: printable ASCII as it is; the brackets, and bytes that are not
/// printable ASCII, as `%XX`; dots at the end not at all, because Envoy drops them there.
fn push_value(flat: &mut String, value: &[u8]) {
    let start = flat.len();
    let end = start.saturating_add(MAX_VALUE_LENGTH);
    for &byte in value {
        let verbatim = matches!(byte, b' '..=b'~') && !matches!(byte, b'<' | b'>');
        if flat.len().saturating_add(if verbatim { 1 } else { 3 }) > end {
            break;
        }
        if verbatim {
            flat.push(char::from(byte));
        } else {
            let _ = write!(flat, "%{byte:02X}");
        }
    }
    while flat.len() > start && flat.ends_with('.') {
        flat.pop();
    }
    if flat.len() == start {
        flat.push_str(NO_VALUE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_in_brackets_after_the_name() {
        let labels = [("route", "http[2]"), ("destination", "webapp|v1"), ("tenant", "Acme & Co. 1=1")];
        let flat = metric_name("meshfilter_requests_total", &labels);
        assert_eq!(
            flat,
            "meshfilter_requests_total<route=http[2]><destination=webapp|v1><tenant=Acme & Co. 1=1>"
        );
        assert_eq!(split_metric_name(&flat), ("meshfilter_requests_total", labels.to_vec()));
        assert_eq!(metric_name::<&str>("plain", &[]), "plain");
        assert_eq!(split_metric_name("plain"), ("plain", Vec::new()));
    }

    #[test]
    fn any_bytes_make_a_printable_value_of_bounded_length() {
        for (value, expected) in [
            (b"".as_slice(), "none"),
            (b"M\xc3\xbcller", "M%C3%BCller"),
            (b"<a>", "%3Ca%3E"),
            (b"a\0b\r\n\x7f", "a%00b%0D%0A%7F"),
            (b"50%", "50%"),
            (b"a.b...", "a.b"),
            (b"..", "none"),
        ] {
            assert_eq!(metric_name("m", &[("l", value)]), format!("m<l={expected}>"));
        }
        for filler in [b'a', 0xff] {
            let flat = metric_name("m", &[("l", vec![filler; 100_000])]);
            let (_, labels) = split_metric_name(&flat);
            assert!((MAX_VALUE_LENGTH - 2..=MAX_VALUE_LENGTH).contains(&labels[0].1.len()), "{filler}");
        }
    }
}
