use serde::Deserialize;

/// Istio's HTTPMatchRequest: all members hold together. In the `match` of `http` entries, rate limits and token
/// requirements.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpMatch {}
