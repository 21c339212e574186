use serde_json::Value;

use super::{Headers, Mode, Unsupported};
use meshfilter_json::{Deserialize, Member};

/// One entry of the `authorization` section: the `spec` of Istio's AuthorizationPolicy, with a name and a mode.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizationPolicy {
    /// Its name in refusals, logs and metrics; default the entry's place, `authorization[0]`.
    pub name: Option<String>,
    /// What a match means. Default `ALLOW`.
    pub action: Option<AuthorizationAction>,
    /// The policy matches if one of them does. Without any it never does; an empty rule always does.
    pub rules: Option<Vec<AuthorizationRule>>,
    /// Default `enforce`.
    pub mode: Option<Mode>,
    /// What the caller gets when this policy refuses. Default: 403 and `RBAC: access denied`. Beyond Istio.
    pub deny: Option<DenyReply>,
    /// Istio's; refused.
    pub selector: Option<Unsupported>,
    /// Istio's; refused.
    pub target_ref: Option<Unsupported>,
    /// Istio's; refused.
    pub target_refs: Option<Unsupported>,
    /// Istio's; refused.
    pub provider: Option<Unsupported>,
}

/// What it means that a policy matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum AuthorizationAction {
    /// The request may pass. Once there is such a policy, only requests that one of them matches do.
    #[default]
    Allow,
    /// The request is refused, whatever else matches.
    Deny,
    /// A log line and a counter; the request is not touched.
    Audit,
}

/// The answer of a policy that refuses.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DenyReply {
    /// 200 to 599. Default `403`.
    pub status: Option<u16>,
    /// Default `RBAC: access denied`.
    pub body: Option<String>,
    /// Headers of the answer.
    pub headers: Headers<String>,
}

/// One rule. Of `from` and of `to` one element has to match, of `when` all; a part that is absent always does.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizationRule {
    /// Who asks.
    pub from: Option<Vec<AuthorizationFrom>>,
    /// For what.
    pub to: Option<Vec<AuthorizationTo>>,
    /// Under which conditions.
    pub when: Option<Vec<AuthorizationCondition>>,
}

/// One element of `from`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizationFrom {
    /// Who asks. Required.
    pub source: Option<AuthorizationSource>,
}

/// One element of `to`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizationTo {
    /// What is asked for. Required.
    pub operation: Option<AuthorizationOperation>,
}

/// Who asks. All members that stand have to match; of a list, one value.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizationSource {
    /// The peer's SPIFFE id without `spiffe://`: `cluster.local/ns/default/sa/frontend`.
    pub principals: Option<Vec<AuthorizationValue>>,
    /// None of these.
    pub not_principals: Option<Vec<AuthorizationValue>>,
    /// Issuer and subject of a verified token: `https://auth.example.com/alice`.
    pub request_principals: Option<Vec<AuthorizationValue>>,
    /// None of these.
    pub not_request_principals: Option<Vec<AuthorizationValue>>,
    /// The namespace in the peer's SPIFFE id; `*` may stand anywhere.
    pub namespaces: Option<Vec<AuthorizationValue>>,
    /// None of these.
    pub not_namespaces: Option<Vec<AuthorizationValue>>,
    /// `namespace/account`, or `account` in the document's `namespace`.
    pub service_accounts: Option<Vec<AuthorizationValue>>,
    /// None of these.
    pub not_service_accounts: Option<Vec<AuthorizationValue>>,
    /// The trust domain of the peer's SPIFFE id.
    pub trust_domains: Option<Vec<AuthorizationValue>>,
    /// None of these.
    pub not_trust_domains: Option<Vec<AuthorizationValue>>,
    /// Blocks that the direct peer's address is in.
    pub ip_blocks: Option<Vec<String>>,
    /// None of these.
    pub not_ip_blocks: Option<Vec<String>>,
    /// Blocks that the client's address is in, behind trusted proxies.
    pub remote_ip_blocks: Option<Vec<String>>,
    /// None of these.
    pub not_remote_ip_blocks: Option<Vec<String>>,
}

/// What is asked for. All members that stand have to match; of a list, one value.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizationOperation {
    /// `:authority`, case not counting.
    pub hosts: Option<Vec<AuthorizationValue>>,
    /// None of these.
    pub not_hosts: Option<Vec<AuthorizationValue>>,
    /// The port that the request came in on: `"8080"`.
    pub ports: Option<Vec<String>>,
    /// None of these.
    pub not_ports: Option<Vec<String>>,
    /// Methods.
    pub methods: Option<Vec<AuthorizationValue>>,
    /// None of these.
    pub not_methods: Option<Vec<AuthorizationValue>>,
    /// Paths without query and fragment; `{*}` is one segment, `{**}` any number of them.
    pub paths: Option<Vec<AuthorizationValue>>,
    /// None of these.
    pub not_paths: Option<Vec<AuthorizationValue>>,
}

/// A condition on one attribute.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizationCondition {
    /// The attribute: `request.headers[x-role]`, `source.ip`, `request.auth.claims[a][b]`. Required.
    pub key: Option<String>,
    /// One of these.
    pub values: Option<Vec<AuthorizationValue>>,
    /// None of these.
    pub not_values: Option<Vec<AuthorizationValue>>,
}

/// One value of a list: Istio's string with its wildcards, or an object with one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizationValue {
    /// `abc`, `abc*`, `*abc` or `*`.
    Text(String),
    /// RE2 syntax, the whole value. Beyond Istio.
    Regex(String),
    /// What another attribute of the same request holds: `request.path[1]`. Beyond Istio.
    Attribute(String),
    /// A number or a boolean, which only a claim of that type equals. Beyond Istio.
    Scalar(Value),
}

impl Deserialize for AuthorizationValue {
    fn read(member: Member<'_>) -> Option<Self> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        struct Object {
            regex: Option<String>,
            attribute: Option<String>,
        }

        match member.value {
            Value::String(text) => Some(AuthorizationValue::Text(text.clone())),
            Value::Object(_) => match Object::read(member)? {
                Object { regex: Some(text), attribute: None } => Some(AuthorizationValue::Regex(text)),
                Object { regex: None, attribute: Some(name) } => Some(AuthorizationValue::Attribute(name)),
                _ => member.wrong("not one value; use a string, {regex: …} or {attribute: …}"),
            },
            Value::Number(_) | Value::Bool(_) => Some(AuthorizationValue::Scalar(member.value.clone())),
            _ => member.unfit("a string, {regex: …} or {attribute: …}"),
        }
    }

    fn stand_in() -> Option<Self> {
        Some(AuthorizationValue::Text("*".to_owned()))
    }
}
