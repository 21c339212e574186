use serde_json::Value;

use super::{AuthorizationValue, Duration, HttpMatch, Mode, StringMatch};
use meshfilter_json::{Deserialize, Member};

/// The `authentication` section: Istio's RequestAuthentication.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Authentication {
    /// The issuers that are believed, and where their tokens and keys are.
    pub jwt_rules: Vec<JwtRule>,
    /// Which tokens a request needs: the first entry that matches decides. No entry, or none that matches: any of
    /// the rules, and a missing token is refused. Beyond Istio.
    pub requirements: Option<Vec<TokenRequirement>>,
    /// Whether a CORS preflight passes without a token, since browsers send none. Default
    /// `true`.
    pub bypass_cors_preflight: Option<bool>,
    /// Whether refusals count. Default `enforce`.
    pub mode: Option<Mode>,
}

/// One issuer, its keys, and what becomes of its tokens: Istio's JWTRule.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JwtRule {
    /// What requirements call it; default the issuer, and the rule's place where that names another rule already.
    pub name: Option<String>,
    /// The `iss` of its tokens.
    pub issuer: Option<String>,
    /// Several issuers, in place of `issuer`. A token without `iss` matches only `{present: false}`. Beyond Istio.
    pub issuers: Option<Vec<StringMatch>>,
    /// The audiences, of which a token must have one; default: not looked at. `http://`, `https://` and one `/` at
    /// the end make no difference.
    pub audiences: Option<Vec<String>>,
    /// The key set itself, as an object or as its JSON text.
    #[cfg_attr(feature = "schema", schemars(extend("type" = ["object", "string"])))]
    pub jwks: Option<Value>,
    /// Where the key set is. Neither this nor `jwks`: found by OpenID discovery at the issuer.
    pub jwks_uri: Option<String>,
    /// The Envoy cluster through which the key set is fetched. Beyond Istio.
    pub jwks_cluster: Option<String>,
    /// The variable of the plugin's environment that holds the key set: the place for `oct` secrets, which
    /// `/config_dump` would show. Beyond Istio.
    pub jwks_from_environment: Option<String>,
    /// Whether one VM of the process fetches the key set for all. `false`: each fetches its own, and nothing of it is where
    /// other plugins can write. Default `true`. Beyond Istio.
    pub jwks_shared: Option<bool>,
    /// How long a fetched key set is fresh. Default `10m`. A shorter `Cache-Control: max-age` is honoured. Beyond
    /// Istio.
    pub jwks_cache_duration: Option<Duration>,
    /// How long a key set stays in force while none fresher can be had. Default `24h`. Beyond Istio.
    pub jwks_max_stale: Option<Duration>,
    /// How long a request waits for the first key set. Default `5s`.
    pub timeout: Option<Duration>,
    /// Headers with tokens. No `from…` at all: `Authorization: Bearer …`, in any case, and the
    /// query parameter `access_token`.
    pub from_headers: Vec<JwtHeader>,
    /// Query parameters with tokens.
    pub from_params: Vec<String>,
    /// Cookies with tokens.
    pub from_cookies: Vec<String>,
    /// The header that takes the verified payload, in base64url as it came.
    pub output_payload_to_header: Option<String>,
    /// Headers that take claims.
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// Whether the upstream gets the token, too. Default `false`.
    pub forward_original_token: Option<bool>,
    /// Claims with several values in one string, beside `scope` and `permission`: `a`, `a.b` or `[a][b]`.
    pub space_delimited_claims: Vec<String>,
    /// The algorithms that may sign; default every asymmetric one, `PS…` only with a key whose own `alg` says so. `HS…` only
    /// where it is listed. Beyond Istio.
    pub algorithms: Option<Vec<String>>,
    /// How far clocks may differ. Default `60s`. Beyond Istio.
    pub clock_skew: Option<Duration>,
    /// Whether a token must have `exp`. Default `false`. Beyond Istio.
    pub require_expiration: Option<bool>,
    /// How old a token may be by its `iat`, which it must have; default any age. Beyond Istio.
    pub max_token_age: Option<Duration>,
    /// A token must expire within this time from now; default any. Beyond Istio.
    pub max_lifetime: Option<Duration>,
    /// What the claims of a good token must hold; a token without it is refused with 403. Beyond Istio.
    pub required_claims: Vec<ClaimRequirement>,
}

/// A header with a token.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JwtHeader {
    /// Its name. Required.
    pub name: Option<String>,
    /// What stands before the token, such as `Bearer `; a value without it holds no token. Default nothing.
    pub prefix: Option<String>,
}

/// A header that takes a claim: strings, numbers and booleans as text, lists and objects as JSON in base64.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClaimToHeader {
    /// The header. What the client sends in it is removed. Required.
    pub header: Option<String>,
    /// The claim: `a.b` or `[a][b]`. Required.
    pub claim: Option<String>,
}

/// Which tokens some requests need.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TokenRequirement {
    /// The requests that this is about: any of these; default every request.
    #[serde(rename = "match")]
    pub matches: Option<Vec<HttpMatch>>,
    /// `any`, `all`, `optional`, `permissive`, `none`, or a tree of these over rules' names. Default
    /// `any`.
    pub require: Option<Requirement>,
    /// The names of the rules that `require` is about; default all.
    pub rules: Option<Vec<String>>,
}

/// A word, a rule's name, or a tree of them.
#[derive(Clone, Debug)]
pub enum Requirement {
    /// At the top `any`, `all`, `optional`, `permissive` or `none`; within a tree a rule's name.
    Word(String),
    /// How several stand together.
    Tree(Box<RequirementTree>),
}

/// Requirements of requirements. Exactly one member stands.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RequirementTree {
    /// Each of these.
    pub all: Option<Vec<Requirement>>,
    /// At least one of these.
    pub any: Option<Vec<Requirement>>,
    /// This, or no token at all.
    pub optional: Option<Requirement>,
    /// Good tokens count, missing and bad ones pass.
    pub permissive: Option<Requirement>,
}

impl Deserialize for Requirement {
    fn read(member: Member<'_>) -> Option<Self> {
        match member.value {
            Value::String(word) => Some(Requirement::Word(word.clone())),
            Value::Object(_) => {
                RequirementTree::read(member).map(|tree| Requirement::Tree(Box::new(tree)))
            }
            _ => member.unfit(
                "a word, a rule's name, or one of {all: [...]}, {any: [...]}, {optional: ...}, {permissive: ...}",
            ),
        }
    }
}

/// What a claim must hold. `values`, `notValues` or both stand.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClaimRequirement {
    /// The claim: `a.b` or `[a][b]`. Required.
    pub claim: Option<String>,
    /// One of these, as in authorization: `abc`, `abc*`, `*abc`, `*`, `{regex: ...}` or `{attribute: ...}`.
    pub values: Option<Vec<AuthorizationValue>>,
    /// None of these.
    pub not_values: Option<Vec<AuthorizationValue>>,
}
