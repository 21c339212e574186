use super::{Duration, Fault, Headers, HttpMatch, Percent, StringMatch, Unsupported};
use meshfilter_json::Deserialize;

/// One entry of the `http` section: Istio's HTTPRoute. The first entry that matches is taken.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpEntry {
    /// Its name in logs, metrics and tags; default its place, such as `http[2]`.
    pub name: Option<String>,
    /// For which hosts it is: `a.example.com`, `*.example.com`, `*`. Neither case nor port counts. The most specific host is chosen
    /// before the order of the entries counts, as Envoy chooses a virtual host. Without it, for every host. Beyond Istio's
    /// `http`: a VirtualService has it.
    pub hosts: Option<Vec<String>>,
    /// Which requests it is for: any of these. Without it, every request.
    pub r#match: Option<Vec<HttpMatch>>,
    /// Where they go. Without it, Envoy's own route decides.
    pub route: Option<Vec<RouteDestination>>,
    /// What keeps a request on the same destination as those before it. By default each is drawn anew. Beyond Istio.
    pub sticky: Option<Sticky>,
    /// Changes to the headers, of the request on its way to the upstream and of every answer.
    pub headers: Option<HeaderOperations>,
    /// Changes to path and host on the way to the upstream.
    pub rewrite: Option<Rewrite>,
    /// Answers with another address.
    pub redirect: Option<Redirect>,
    /// Answers by itself.
    pub direct_response: Option<DirectResponse>,
    /// How long the upstream may take for the whole response; `0s` is for ever. Default: what Envoy's route says.
    pub timeout: Option<Duration>,
    /// How failures are tried again. Default: what Envoy's route says.
    pub retries: Option<Retries>,
    /// What goes wrong on purpose.
    pub fault: Option<Fault>,
    /// Who gets a copy of the requests; the answer to it is thrown away.
    pub mirror: Option<Destination>,
    /// How many of the requests `mirror` gets; default all.
    pub mirror_percentage: Option<Percent>,
    /// Istio's older form of `mirrorPercentage`: a whole number from 0 to 100.
    #[serde(alias = "mirror_percent")]
    pub mirror_percent: Option<i64>,
    /// Who gets copies, in place of `mirror`; three at most.
    pub mirrors: Option<Vec<Mirror>>,
    /// Which other sites' scripts may ask.
    pub cors_policy: Option<CorsPolicy>,
    /// Istio's; refused.
    pub delegate: Option<Unsupported>,
}

/// One of an entry's destinations.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RouteDestination {
    /// Where. Required.
    pub destination: Option<Destination>,
    /// Its part of the sum of all weights, from 0. A single destination gets everything; among several the default
    /// is 0.
    pub weight: Option<i64>,
    /// Changes to the headers of what goes there and comes back, after the entry's own.
    pub headers: Option<HeaderOperations>,
}

/// A service's name and version, or an Envoy cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Destination {
    /// The service; see `destinations` for how it becomes the name of a cluster.
    pub host: Option<String>,
    /// One of its versions.
    pub subset: Option<String>,
    /// One of its ports.
    pub port: Option<PortSelector>,
    /// The Envoy cluster's own name, in place of the others. Beyond Istio.
    pub cluster: Option<String>,
}

/// A port by its number.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PortSelector {
    /// 1 to 65535. Required.
    pub number: Option<u16>,
}

/// What keeps a request on the same destination. Exactly one member stands. A request that does not have it is drawn
/// at random.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sticky {
    /// The value of this request header.
    pub header: Option<String>,
    /// The value of this claim: `a.b` or `[a][b]`.
    pub claim: Option<String>,
    /// A cookie, which is set where the client has none.
    pub cookie: Option<StickyCookie>,
    /// The client's address, without the port.
    pub source_address: Option<bool>,
}

/// A cookie that holds a random id.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StickyCookie {
    /// Its name. Required.
    pub name: Option<String>,
    /// How long the client keeps it; by default as long as its session.
    pub ttl: Option<Duration>,
}

/// Changes to headers: first `remove`, then `set`, then `add`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HeaderOperations {
    /// Of the request. `host` and `:authority` may be set; other pseudo-headers may not.
    pub request: Option<HeaderChanges>,
    /// Of the answer.
    pub response: Option<HeaderChanges>,
}

/// Changes to one header map.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HeaderChanges {
    /// Headers that get this value in place of theirs. `%%` is a percent sign.
    pub set: Headers<String>,
    /// Headers that get this value beside theirs. `%%` is a percent sign.
    pub add: Headers<String>,
    /// Headers that are taken away.
    pub remove: Vec<String>,
}

/// Changes to path and host.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rewrite {
    /// Stands in for the prefix that matched, or for the whole path where no prefix did. After `pathPrefix` it is joined at
    /// the slash, and `/` takes the prefix away. The query stays.
    pub uri: Option<String>,
    /// The host.
    pub authority: Option<String>,
    /// Every match of an expression in the path is replaced. The query stays.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// Every match of an expression is replaced.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RegexRewrite {
    /// RE2 syntax; it may match anywhere in the path. Required.
    pub r#match: Option<String>,
    /// What stands in for it; `\1` to `\9` are its groups, `\0` is all of it, `\\` a backslash. Required.
    pub rewrite: Option<String>,
}

/// Answers with another address; what is not given stays as it was.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Redirect {
    /// The whole path; the request's query is kept unless this one has its own.
    pub uri: Option<String>,
    /// Stands in for the prefix that matched, in place of `uri`; the query stays.
    pub prefix_rewrite: Option<String>,
    /// The host.
    pub authority: Option<String>,
    /// The port; the scheme's own is left out. Without it the one that the client wrote stays.
    pub port: Option<u16>,
    /// Where the port comes from, in place of `port`. Without it the one that the client wrote stays.
    pub derive_port: Option<DerivePort>,
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// 301, 302, 303, 307 or 308. Default `301`.
    pub redirect_code: Option<u16>,
}

/// Where a redirect's port comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DerivePort {
    /// The scheme's own.
    FromProtocolDefault,
    /// The one that the client connected to.
    FromRequestPort,
}

/// Answers by itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DirectResponse {
    /// 200 to 599. Required.
    pub status: Option<u16>,
    /// Without it there is none.
    pub body: Option<DirectBody>,
}

/// A body. One member stands.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DirectBody {
    /// As text.
    pub string: Option<String>,
    /// As base64.
    pub bytes: Option<String>,
}

/// How failures are tried again.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retries {
    /// How often at most; 0 is never. Required.
    pub attempts: Option<i64>,
    /// How long each try may take; default as long as `timeout`.
    pub per_try_timeout: Option<Duration>,
    /// Envoy's conditions and status numbers, with commas. Default
    /// `connect-failure,refused-stream,unavailable,cancelled`.
    pub retry_on: Option<String>,
    /// Istio's; refused.
    pub retry_remote_localities: Option<Unsupported>,
    /// Istio's; refused.
    pub retry_ignore_previous_hosts: Option<Unsupported>,
    /// Istio's; refused.
    pub backoff: Option<Unsupported>,
}

/// Who gets copies of the requests.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Mirror {
    /// Where. Required.
    pub destination: Option<Destination>,
    /// How many of the requests; default all.
    pub percentage: Option<Percent>,
}

/// Which other sites' scripts may ask, by the fetch standard's CORS protocol.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CorsPolicy {
    /// The sites. `exact: "*"` is every one.
    pub allow_origins: Option<Vec<StringMatch>>,
    /// Istio's older form of `allowOrigins`: whole values, `*` for every one.
    pub allow_origin: Option<Vec<String>>,
    /// The methods that they may use; `*` is the one that is asked for.
    pub allow_methods: Vec<String>,
    /// The headers that they may send; `*` are those that are asked for.
    pub allow_headers: Vec<String>,
    /// The headers that they may see.
    pub expose_headers: Vec<String>,
    /// How long a preflight's answer may be kept, in whole seconds.
    pub max_age: Option<Duration>,
    /// Whether they may send cookies. Default `false`.
    pub allow_credentials: Option<bool>,
    /// What becomes of preflights from other sites. Default `FORWARD`.
    pub unmatched_preflights: Option<UnmatchedPreflights>,
}

/// What becomes of preflights from sites that are not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UnmatchedPreflights {
    /// As `FORWARD`.
    Unspecified,
    /// They go on to the upstream.
    Forward,
    /// They are answered without leave.
    Ignore,
}
