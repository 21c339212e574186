use std::collections::BTreeMap;

use super::{Headers, StringMatch, Unsupported};
use meshfilter_json::Deserialize;

/// Istio's HTTPMatchRequest: all members hold together. In the `match` of `http` entries, rate limits and token
/// requirements.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpMatch {
    /// What this match is called in the log.
    pub name: Option<String>,
    /// The path without query and fragment.
    pub uri: Option<UriMatch>,
    /// `http` or `https`, as the proxy sees it.
    pub scheme: Option<StringMatch>,
    /// The method; case counts.
    pub method: Option<StringMatch>,
    /// Host, and port if the client sent one; case counts.
    pub authority: Option<StringMatch>,
    /// Headers by name; case does not count in the name. Of repeated values any may match; `{}` asks for presence.
    /// `@request.auth.claims.a.b` and `@request.auth.claims[a][b]` are Istio's spelling of `claims`.
    pub headers: Headers<StringMatch>,
    /// Headers that must not look like this; an absent one is fine.
    pub without_headers: Headers<StringMatch>,
    /// Query parameters by name, percent-decoded. Of repeated values the first counts; `{}` asks for presence.
    pub query_params: BTreeMap<String, StringMatch>,
    /// Whether case does not count in `uri`; a regular expression decides by itself. Default `false`.
    pub ignore_uri_case: Option<bool>,
    /// The port that the client connected to. Without it any.
    pub port: Option<u16>,
    /// Cookies by name. Beyond Istio.
    pub cookies: BTreeMap<String, StringMatch>,
    /// Claims of the verified token by path, `a.b` or `[a][b]`: a string, or a list that has it. Beyond Istio.
    pub claims: BTreeMap<String, StringMatch>,
    /// Blocks that the client's address is in, behind trusted proxies. Beyond Istio.
    pub remote_ip_blocks: Option<Vec<String>>,
    /// Blocks that it is not in. Beyond Istio.
    pub not_remote_ip_blocks: Option<Vec<String>>,
    /// Istio's; refused.
    pub gateways: Option<Unsupported>,
    /// Istio's; refused.
    pub source_labels: Option<Unsupported>,
    /// Istio's; refused.
    pub source_namespace: Option<Unsupported>,
    /// Istio's; refused.
    pub stat_prefix: Option<Unsupported>,
}

/// How a path has to look. Exactly one member stands.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UriMatch {
    /// The whole path.
    pub exact: Option<String>,
    /// How it begins, as a text: `/api` has `/apis`.
    pub prefix: Option<String>,
    /// How it begins, in whole segments: `/api` has `/api/` and `/api/a`, but not `/apis`. A slash at its end says nothing.
    /// Beyond Istio; the `PathPrefix` of the Gateway API.
    pub path_prefix: Option<String>,
    /// How it ends. Beyond Istio.
    pub suffix: Option<String>,
    /// What it has in it. Beyond Istio.
    pub contains: Option<String>,
    /// RE2 syntax, the whole path.
    pub regex: Option<String>,
    /// It is always there; refused.
    pub present: Option<Unsupported>,
}
