//! The same policy twice: for Envoy's own filters and as a document.

use serde_json::{Value, json};

use crate::support::case::yaml;
use crate::support::sign;

/// Where a token may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A header, and what stands before the token in it.
    Header(&'static str, &'static str),
    Parameter(&'static str),
    Cookie(&'static str),
}

/// What a request has where nothing else is said.
pub const DEFAULT_PLACES: &[Place] =
    &[Place::Header("authorization", "Bearer "), Place::Parameter("access_token")];

/// One policy.
pub struct Setup {
    pub name: &'static str,
    /// The filters in front of the router.
    pub native: Vec<Value>,
    pub document: Value,
    /// Where its tokens are looked for.
    pub places: &'static [Place],
    /// Whether authorization looks at claims.
    pub asks_for_claims: bool,
    /// Whether a bad token is as good as none.
    pub lets_bad_tokens_pass: bool,
    /// Whether the connection manager settles what a path is.
    pub normalize: bool,
}

impl Setup {
    /// Whether another rule may accept a request where one does not.
    pub fn has_several_rules(&self) -> bool {
        self.document["authentication"]["jwtRules"].as_array().is_some_and(|rules| rules.len() > 1)
    }
}

/// The keys that both verify with.
pub const KEYS: [&str; 7] = ["rsa1", "rsa2", "ec256", "ec384", "ec521", "ed25519", "hmac1"];

pub const ISSUER: &str = "https://auth.example.com";
pub const OTHER_ISSUER: &str = "https://other.example.com";

const ALL_ALGORITHMS: &str =
    "[RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, HS256, HS384, HS512]";

const CLAIMS: &str = "[{header: x-user, claim: sub}, {header: x-tenant, claim: tenant}, {header: x-level, claim: level}, \
    {header: x-ok, claim: ok}, {header: x-groups, claim: groups}, {header: x-city, claim: address.city}, \
    {header: x-address, claim: address}]";

pub fn all() -> Vec<Setup> {
    vec![
        one_rule(),
        many_places(),
        any_of_two(),
        all_of_two(),
        by_request(),
        permissive(),
        everything_counts(),
        istio(),
        requests_only(),
        raw_paths(),
    ]
}

/// Defaults everywhere, and claims in headers.
fn one_rule() -> Setup {
    let native = providers(&[provider(ISSUER, "audiences: [webapp-api]", true)], "{provider_name: p0}");
    let document = document(&format!(
        "{{authentication: {{jwtRules: [{{issuer: '{ISSUER}', audiences: [webapp-api], jwks: JWKS, algorithms: {ALL_ALGORITHMS}, \
         outputClaimToHeaders: {CLAIMS}}}]}}}}"
    ));
    Setup {
        name: "one-rule",
        native: vec![native],
        document,
        places: DEFAULT_PLACES,
        asks_for_claims: false,
        lets_bad_tokens_pass: false,
        normalize: true,
    }
}

/// Every place, the token forwarded, the payload told.
fn many_places() -> Setup {
    let native = provider(
        ISSUER,
        "{audiences: [webapp-api, 'https://api.example.com'], forward: true, forward_payload_header: x-payload, \
          from_headers: [{name: x-token, value_prefix: 'Token '}, {name: authorization, value_prefix: 'Bearer '}, {name: x-raw}], \
          from_params: [token], from_cookies: [session]}",
        false,
    );
    let document = document(&format!(
        "{{authentication: {{bypassCorsPreflight: true, jwtRules: [{{issuer: '{ISSUER}', audiences: [webapp-api, 'https://api.example.com'], \
         jwks: JWKS, algorithms: {ALL_ALGORITHMS}, \
         forwardOriginalToken: true, outputPayloadToHeader: x-payload, \
         fromHeaders: [{{name: x-token, prefix: 'Token '}}, {{name: authorization, prefix: 'Bearer '}}, {{name: x-raw}}], \
         fromParams: [token], fromCookies: [session]}}]}}}}"
    ));
    Setup {
        name: "many-places",
        native: vec![providers(&[native], "{provider_name: p0}")],
        document,
        places: &[
            Place::Header("x-token", "Token "),
            Place::Header("authorization", "Bearer "),
            Place::Header("x-raw", ""),
            Place::Parameter("token"),
            Place::Cookie("session"),
        ],
        asks_for_claims: false,
        lets_bad_tokens_pass: false,
        normalize: true,
    }
}

fn two_rules(requirements: &str) -> Value {
    document(&format!(
        "{{authentication: {{jwtRules: [\
         {{name: p0, issuer: '{ISSUER}', audiences: [webapp-api], jwks: JWKS, algorithms: {ALL_ALGORITHMS}, outputClaimToHeaders: {CLAIMS}}}, \
         {{name: p1, issuer: '{OTHER_ISSUER}', jwks: JWKS, algorithms: {ALL_ALGORITHMS}, requireExpiration: true, fromHeaders: [{{name: x-other}}], fromCookies: [other], \
           outputPayloadToHeader: x-other-payload}}], \
         requirements: {requirements}}}}}"
    ))
}

fn two_providers(requirement: &str) -> Value {
    providers(&two(), requirement)
}

fn two() -> [Value; 2] {
    let other = "{require_expiration: true, from_headers: [{name: x-other}], from_cookies: [other], forward_payload_header: x-other-payload}";
    [provider(ISSUER, "audiences: [webapp-api]", true), provider(OTHER_ISSUER, other, false)]
}

const TWO_PLACES: &[Place] = &[
    Place::Header("authorization", "Bearer "),
    Place::Parameter("access_token"),
    Place::Header("x-other", ""),
    Place::Cookie("other"),
];

fn any_of_two() -> Setup {
    Setup {
        name: "any-of-two",
        native: vec![two_providers(
            "{requires_any: {requirements: [{provider_name: p0}, {provider_name: p1}]}}",
        )],
        document: two_rules("[{require: any}]"),
        places: TWO_PLACES,
        asks_for_claims: false,
        lets_bad_tokens_pass: false,
        normalize: true,
    }
}

fn all_of_two() -> Setup {
    Setup {
        name: "all-of-two",
        native: vec![two_providers(
            "{requires_all: {requirements: [{provider_name: p0}, {provider_name: p1}]}}",
        )],
        document: two_rules("[{require: all}]"),
        places: TWO_PLACES,
        asks_for_claims: false,
        lets_bad_tokens_pass: false,
        normalize: true,
    }
}

/// Which tokens are needed depends on the request.
fn by_request() -> Setup {
    let rules = "[{match: {path: /}}, \
        {match: {prefix: /open}}, \
        {match: {prefix: /, headers: [{name: x-role, string_match: {exact: admin}}]}, requires: {provider_name: p0}}, \
        {match: {prefix: /, headers: [{name: ':method', string_match: {exact: POST}}]}, requires: {provider_name: p1}}, \
        {match: {prefix: /api/}, requires: {requires_any: {requirements: [{provider_name: p0}, {provider_name: p1}]}}}, \
        {match: {prefix: /}, requires: {requires_any: {requirements: [{provider_name: p0}, {allow_missing: {}}]}}}]";
    let document = two_rules(
        "[{match: [{uri: {exact: /}}, {uri: {prefix: /open}}], require: none}, \
          {match: [{headers: {x-role: {exact: admin}}}], require: any, rules: [p0]}, \
          {match: [{method: {exact: POST}}], require: all, rules: [p1]}, \
          {match: [{uri: {prefix: /api/}}]}, \
          {require: optional, rules: [p0]}]",
    );
    Setup {
        name: "by-request",
        native: vec![jwt_authn(&two(), yaml(rules).unwrap())],
        document,
        places: TWO_PLACES,
        asks_for_claims: false,
        lets_bad_tokens_pass: false,
        normalize: true,
    }
}

fn permissive() -> Setup {
    Setup {
        name: "permissive",
        native: vec![
            two_providers(
                "{requires_any: {requirements: [{provider_name: p0}, {provider_name: p1}, {allow_missing_or_failed: {}}]}}",
            ),
            rbac(
                "ALLOW",
                json!({"a-known": {
                    "permissions": [{"any": true}],
                    "principals": [issued_by(json!({"exact": ISSUER})), header("x-role", json!({"prefix": "adm"}))],
                }}),
            ),
        ],
        document: merge(
            two_rules("[{require: {any: [p0, p1, {permissive: p0}]}}]"),
            "authorization:\n\
             - name: a-known\n  \
               rules: [{from: [{source: {requestPrincipals: ['https://auth.example.com/*']}}]}, {when: [{key: 'request.headers[x-role]', values: ['adm*']}]}]\n",
        ),
        places: TWO_PLACES,
        asks_for_claims: true,
        lets_bad_tokens_pass: true,
        normalize: true,
    }
}

/// Each token for itself, whatever becomes of it.
fn everything_counts() -> Setup {
    Setup {
        name: "everything-counts",
        native: vec![two_providers("{allow_missing_or_failed: {}}")],
        document: two_rules("[{require: permissive}]"),
        places: TWO_PLACES,
        asks_for_claims: false,
        lets_bad_tokens_pass: true,
        normalize: true,
    }
}

/// What Istio makes of a RequestAuthentication and some AuthorizationPolicies.
fn istio() -> Setup {
    let allowed = json!({"a-api": {
        "permissions": [{"and_rules": {"rules": [
            {"or_rules": {"rules": [method("GET"), method("POST")]}},
            {"or_rules": {"rules": [path(json!({"prefix": "/api/"})), path(json!({"exact": "/admin"}))]}},
        ]}}],
        "principals": [issued_by(json!({"exact": ISSUER}))],
    }, "b-open": {
        "permissions": [path(json!({"exact": "/"})), path(json!({"prefix": "/open/"}))],
        "principals": [{"any": true}],
    }, "c-staff": {
        "permissions": [{"not_rule": path(json!({"suffix": ".css"}))}],
        "principals": [{"and_ids": {"ids": [
            claim(&["groups"], json!({"exact": "staff"})),
            {"not_id": claim(&["address", "city"], json!({"prefix": "Ber"}))},
        ]}}],
    }, "d-audience": {
        "permissions": [header(":method", json!({"exact": "PUT"}))],
        "principals": [claim(&["aud"], json!({"suffix": "-api"}))],
    }, "e-scope": {
        "permissions": [{"header": {"name": ":method", "string_match": {"exact": "DELETE"}}}],
        "principals": [claim(&["scope"], json!({"exact": "write"}))],
    }});
    let denied = json!({"a-admin": {
        "permissions": [path(json!({"prefix": "/admin"}))],
        "principals": [{"not_id": claim(&["tenant"], json!({"exact": "acme"}))}],
    }, "b-address": {
        "permissions": [{"any": true}],
        "principals": [{"remote_ip": {"address_prefix": "198.51.100.0", "prefix_len": 24}},
            {"remote_ip": {"address_prefix": "2001:db8::", "prefix_len": 32}}],
    }});
    let document = "\
authorization:
- name: a-admin
  action: DENY
  rules: [{to: [{operation: {paths: [/admin*]}}], when: [{key: 'request.auth.claims[tenant]', notValues: [acme]}]}]
- name: b-address
  action: DENY
  rules: [{from: [{source: {remoteIpBlocks: [198.51.100.0/24, '2001:db8::/32']}}]}]
- name: a-api
  rules:
  - from: [{source: {requestPrincipals: ['https://auth.example.com/*']}}]
    to: [{operation: {methods: [GET, POST], paths: [/api/*, /admin]}}]
- name: b-open
  rules: [{to: [{operation: {paths: [/, /open/*]}}]}]
- name: c-staff
  rules:
  - to: [{operation: {notPaths: ['*.css']}}]
    when:
    - {key: 'request.auth.claims[groups]', values: [staff]}
    - {key: 'request.auth.claims[address][city]', notValues: [Ber*]}
- name: d-audience
  rules: [{to: [{operation: {methods: [PUT]}}], when: [{key: request.auth.audiences, values: ['*-api']}]}]
- name: e-scope
  rules: [{to: [{operation: {methods: [DELETE]}}], when: [{key: 'request.auth.claims[scope]', values: [write]}]}]
";
    Setup {
        name: "istio",
        native: vec![
            two_providers(
                "{requires_any: {requirements: [{provider_name: p0}, {provider_name: p1}, {allow_missing: {}}]}}",
            ),
            rbac("DENY", denied),
            rbac("ALLOW", allowed),
        ],
        document: merge(two_rules("[{require: optional}]"), document),
        places: TWO_PLACES,
        asks_for_claims: true,
        lets_bad_tokens_pass: false,
        normalize: true,
    }
}

/// Authorization without tokens: methods, hosts, headers and addresses.
fn requests_only() -> Setup {
    let denied = json!({"a-role": {
        "permissions": [{"any": true}],
        "principals": [{"and_ids": {"ids": [
            header("x-role", json!({"exact": "guest"})),
            {"not_id": {"direct_remote_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}}},
        ]}}],
    }});
    let allowed = json!({"b-address": {
        "permissions": [{"and_rules": {"rules": [{"not_rule": method("DELETE")}]}}],
        "principals": [{"and_ids": {"ids": [
            {"remote_ip": {"address_prefix": "203.0.113.0", "prefix_len": 24}},
            {"not_id": {"remote_ip": {"address_prefix": "203.0.113.7", "prefix_len": 32}}},
            {"direct_remote_ip": {"address_prefix": "127.0.0.0", "prefix_len": 8}},
        ]}}],
    }, "c-host": {
        "permissions": [{"header": {"name": ":authority", "string_match": {"suffix": ".example.com", "ignore_case": true}}}],
        "principals": [{"any": true}],
    }, "d-role": {
        "permissions": [{"uri_template": template("/api/{*}/items/{**}")}],
        "principals": [{"header": {"name": "x-role", "present_match": true}}],
    }, "e-role": {
        "permissions": [path(json!({"safe_regex": {"regex": "/v[0-9]+/.*"}}))],
        "principals": [header("x-role", json!({"suffix": "in"})), {"not_id": header("x-role", json!({"prefix": "a"}))}],
    }});
    let document = "\
authorization:
- name: a-role
  action: DENY
  rules: [{from: [{source: {notIpBlocks: [10.0.0.0/8]}}], when: [{key: 'request.headers[x-role]', values: [guest]}]}]
- name: b-address
  rules:
  - from: [{source: {remoteIpBlocks: [203.0.113.0/24], notRemoteIpBlocks: [203.0.113.7], ipBlocks: [127.0.0.0/8]}}]
    to: [{operation: {notMethods: [DELETE]}}]
- name: c-host
  rules: [{to: [{operation: {hosts: ['*.example.com']}}]}]
- name: d-role
  rules: [{to: [{operation: {paths: ['/api/{*}/items/{**}']}}], when: [{key: 'request.headers[x-role]', values: ['*']}]}]
- name: e-role
  rules:
  - {to: [{operation: {paths: [{regex: '/v[0-9]+/.*'}]}}], when: [{key: 'request.headers[x-role]', values: ['*in']}]}
  - {to: [{operation: {paths: [{regex: '/v[0-9]+/.*'}]}}], when: [{key: 'request.headers[x-role]', notValues: [a*]}]}
";
    Setup {
        name: "requests-only",
        native: vec![rbac("DENY", denied), rbac("ALLOW", allowed)],
        document: yaml(document).unwrap(),
        places: &[],
        asks_for_claims: false,
        lets_bad_tokens_pass: false,
        normalize: true,
    }
}

/// The connection manager leaves the path alone.
fn raw_paths() -> Setup {
    let denied = json!({"a-admin": {"permissions": [path(json!({"prefix": "/admin"}))], "principals": [{"any": true}]}});
    Setup {
        name: "raw-paths",
        native: vec![rbac("DENY", denied)],
        document: yaml("authorization: [{name: a-admin, action: DENY, rules: [{to: [{operation: {paths: [/admin*]}}]}]}]")
            .unwrap(),
        places: &[],
        asks_for_claims: false,
        lets_bad_tokens_pass: false,
        normalize: false,
    }
}

/// A document with all the keys.
fn document(text: &str) -> Value {
    let mut document = yaml(text).unwrap();
    for rule in document["authentication"]["jwtRules"].as_array_mut().unwrap() {
        rule["jwks"] = sign::jwks(&KEYS);
        // So much that no token changes its mind while the test runs.
        rule["clockSkew"] = "1h".into();
    }
    document
}

fn merge(mut document: Value, more: &str) -> Value {
    let Value::Object(more) = yaml(more).unwrap() else { panic!("no object") };
    document.as_object_mut().unwrap().extend(more);
    document
}

fn provider(issuer: &str, more: &str, claims: bool) -> Value {
    let mut provider = yaml(more).unwrap();
    provider["issuer"] = issuer.into();
    provider["local_jwks"] = json!({"inline_string": sign::jwks(&KEYS).to_string()});
    provider["clock_skew_seconds"] = 3600.into();
    provider["payload_in_metadata"] = "payload".into();
    provider["normalize_payload_in_metadata"] = json!({"space_delimited_claims": ["scope", "permission"]});
    if claims {
        let claims = yaml(CLAIMS).unwrap();
        let header = |entry: &Value| json!({"header_name": entry["header"], "claim_name": entry["claim"]});
        provider["claim_to_headers"] = claims.as_array().unwrap().iter().map(header).collect();
    }
    provider
}

fn providers(providers: &[Value], requirement: &str) -> Value {
    jwt_authn(providers, json!([{"match": {"prefix": "/"}, "requires": yaml(requirement).unwrap()}]))
}

fn jwt_authn(providers: &[Value], rules: Value) -> Value {
    let named = providers.iter().enumerate();
    json!({"name": "envoy.filters.http.jwt_authn", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": named.map(|(index, provider)| (format!("p{index}"), provider.clone())).collect::<serde_json::Map<_, _>>(),
        "rules": rules,
        "bypass_cors_preflight": true,
    }})
}

fn rbac(action: &str, policies: Value) -> Value {
    json!({"name": "envoy.filters.http.rbac", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": action, "policies": policies},
    }})
}

fn header(name: &str, matcher: Value) -> Value {
    json!({"header": {"name": name, "string_match": matcher}})
}

fn method(name: &str) -> Value {
    header(":method", json!({"exact": name}))
}

fn path(matcher: Value) -> Value {
    json!({"url_path": {"path": matcher}})
}

fn template(text: &str) -> Value {
    json!({"name": "template", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
        "path_template": text.replace("{*}", "*").replace("{**}", "**"),
    }})
}

fn metadata(path: &[&str], value: Value) -> Value {
    let keys = std::iter::once(&"payload").chain(path).map(|key| json!({"key": key}));
    json!({"metadata": {
        "filter": "envoy.filters.http.jwt_authn",
        "path": keys.collect::<Vec<_>>(),
        "value": value,
    }})
}

/// A claim that is a string, or a list that has one, as Istio asks for it.
fn claim(path: &[&str], matcher: Value) -> Value {
    json!({"or_ids": {"ids": [
        metadata(path, json!({"list_match": {"one_of": {"string_match": matcher}}})),
        metadata(path, json!({"string_match": matcher})),
    ]}})
}

/// A token of this issuer with a subject.
fn issued_by(issuer: Value) -> Value {
    json!({"and_ids": {"ids": [
        metadata(&["iss"], json!({"string_match": issuer})),
        metadata(&["sub"], json!({"string_match": {"safe_regex": {"regex": ".+"}}})),
    ]}})
}
