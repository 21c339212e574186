use super::Source;
use meshfilter_json::Deserialize;

/// The `telemetry` section. Where it stands, requests are counted and timed; `{}` does so without tags.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Telemetry {
    /// What is told about a request besides its route, destination, decision and response code.
    pub tags: Vec<Tag>,
    /// What is counted of them, and under which names.
    pub metrics: Metrics,
}

/// What is counted of requests. What is left out costs nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Metrics {
    /// Whether the response's code is a label. Default `true`.
    pub response_code: Option<bool>,
    /// Whether requests are timed. Default `true`.
    pub duration: Option<bool>,
    /// Whether metrics and labels have the names of Istio's standard metrics: `istio_requests_total` and
    /// `istio_request_duration_milliseconds` in place of the filter's own. Default `false`.
    pub istio: Option<bool>,
}

/// A name, and where its value comes from: a label of the metrics, a field of the access log, a tag of a span, a
/// header.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tag {
    /// Its name: letters, digits and underscores, as for a label of Prometheus. Required.
    pub name: Option<String>,
    /// Where the value comes from. Required.
    pub value: Option<Source>,
    /// Stands in where there is no value, or an empty one. Without it a label says `none`, and the other places get
    /// nothing.
    pub default: Option<String>,
    /// The values that are told; any other is `other`. All of them by default.
    pub values: Option<Vec<String>>,
    /// How many distinct values are told by all workers together, up to 10000; what comes after them is `other`. Default
    /// 100 for a tag that is in the metrics and whose values the request's sender may choose; none else.
    pub max_values: Option<u32>,
    /// Where it goes. Default `[metrics, logs]`.
    #[serde(rename = "in")]
    pub places: Option<Vec<TagPlace>>,
    /// The header that carries it to the upstream or downstream: `x-…`. Only the filter may set it.
    pub header: Option<String>,
}

/// Where a tag goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum TagPlace {
    /// A label of `meshfilter_requests_total`.
    Metrics,
    /// Filter state `wasm.<name>`, for access logs and spans.
    Logs,
    /// A header of the request.
    Upstream,
    /// A header of the response.
    Downstream,
}
