use meshfilter_json::Deserialize;

/// Where a value comes from, for rate limit keys, descriptors and telemetry tags. Exactly one of the members that
/// name a place stands; which of them are allowed depends on who asks.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Source {
    /// A fixed text.
    pub literal: Option<String>,
    /// The first value of a request header.
    pub header: Option<String>,
    /// The first value of a response header. Telemetry only.
    pub response_header: Option<String>,
    /// A claim of the verified token: `a.b` or `[a][b]`.
    pub claim: Option<String>,
    /// A cookie.
    pub cookie: Option<String>,
    /// A query parameter.
    pub query_param: Option<String>,
    /// The client's address, cut to a prefix. Rate limits only.
    pub remote_address: Option<RemoteAddress>,
    /// The path without its query. Rate limits only.
    pub path: Option<bool>,
    /// The method. Rate limits only.
    pub method: Option<bool>,
    /// An attribute of Envoy's, its parts joined by dots.
    pub property: Option<String>,
    /// A variable of the plugin's environment. Telemetry only.
    pub environment: Option<String>,
    /// The first of these path templates that matches. Telemetry only.
    pub path_template: Option<Vec<String>>,
    /// The name of the `http` entry. Telemetry only.
    pub route: Option<bool>,
    /// The chosen destination's cluster. Telemetry only.
    pub destination: Option<bool>,
    /// The decision. Telemetry only.
    pub decision: Option<bool>,
    /// Stands in where there is no value. In a rate limit's key.
    pub default: Option<String>,
}

/// How much of a client's address counts.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RemoteAddress {
    /// 0 to 32. Default `32`, all of it.
    pub v4_prefix_length: Option<u8>,
    /// 0 to 128. Default `128`, all of it.
    pub v6_prefix_length: Option<u8>,
}
