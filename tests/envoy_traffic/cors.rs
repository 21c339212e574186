//! Envoy's `cors` filter in front of its `jwt_authn` and `rbac`, and the same as a document: what a browser sees.

use serde_json::{Value, json};

use crate::pair::{Answer, Listener, Request, SideBySide, details, native, ours, plugin, theirs};
use crate::random::{Random, seed};
use crate::support::case::yaml;
use crate::support::sign;
use crate::support::token::jwks;

/// Envoy has a policy on each route, and its preflights find a route by their own method; so no route here asks for one.
const POLICIES: &str = r#"
- path: /any
  native:
    allow_origin_string_match: [{safe_regex: {regex: ".*"}}]
    allow_methods: "*"
    allow_headers: "*"
  ours: {allowOrigins: [{exact: "*"}], allowMethods: ["*"], allowHeaders: ["*"]}
- path: /some
  native:
    allow_origin_string_match: [{exact: "https://a.example"}, {safe_regex: {regex: "https://.*\\.b\\.example"}}]
    allow_methods: GET,POST
    allow_headers: x-a,x-b
    expose_headers: x-c
    max_age: "600"
    allow_credentials: true
    forward_not_matching_preflights: true
  ours:
    allowOrigins: [{exact: "https://a.example"}, {regex: "https://.*\\.b\\.example"}]
    allowMethods: [GET, POST]
    allowHeaders: [x-a, x-b]
    exposeHeaders: [x-c]
    maxAge: 10m
    allowCredentials: true
- path: /closed
  native:
    allow_origin_string_match: [{exact: "https://a.example"}]
    allow_methods: GET
    forward_not_matching_preflights: false
  ours: {allowOrigins: [{exact: "https://a.example"}], allowMethods: [GET], unmatchedPreflights: IGNORE}
"#;

const FILTERS: &str = r#"
- name: envoy.filters.http.cors
  typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}
- name: envoy.filters.http.jwt_authn
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication
    bypass_cors_preflight: true
    providers:
      p: {issuer: i, local_jwks: {inline_string: JWKS}, payload_in_metadata: payload}
    rules: [{match: {prefix: /}, requires: {provider_name: p}}]
- name: envoy.filters.http.rbac
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
    rules:
      action: ALLOW
      policies:
        admins:
          permissions: [{any: true}]
          principals:
          - metadata:
              filter: envoy.filters.http.jwt_authn
              path: [{key: payload}, {key: role}]
              value: {string_match: {exact: admin}}
"#;

const PAIRS: usize = 400;

#[test]
fn a_browser_sees_what_envoys_filters_show() {
    let mut filters: Vec<Value> = serde_json::from_value(yaml(FILTERS).unwrap()).unwrap();
    filters[1]["typed_config"]["providers"]["p"]["local_jwks"]["inline_string"] = jwks().to_string().into();
    let filters = filters
        .into_iter()
        .map(|filter| native(filter["name"].as_str().unwrap(), filter["typed_config"].clone()))
        .collect();
    let (mut routes, mut entries): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for policy in yaml(POLICIES).unwrap().as_array().unwrap() {
        let mut native = policy["native"].clone();
        native["@type"] = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy".into();
        routes.push(json!({
            "match": {"prefix": policy["path"]},
            "route": {"cluster": "v1"},
            "typed_per_filter_config": {"envoy.filters.http.cors": native},
        }));
        entries.push(json!({
            "match": [{"uri": {"prefix": policy["path"]}}],
            "corsPolicy": policy["ours"],
            "route": [{"destination": {"cluster": "v1"}}],
        }));
    }
    routes.push(json!({"match": {"prefix": "/"}, "route": {"cluster": "fallback"}}));
    let document = json!({
        "authentication": {"jwtRules": [{"issuer": "i", "jwks": jwks()}]},
        "authorization": [{
            "name": "admins",
            "rules": [{"when": [{"key": "request.auth.claims[role]", "values": ["admin"]}]}],
        }],
        "http": entries,
    });
    let running = SideBySide::start(&[
        Listener { name: "native", filters, virtual_host: theirs(routes) },
        Listener { name: "ours", filters: vec![plugin("ours", &document)], virtual_host: ours() },
    ]);
    let token = |role: &str| {
        let claims = json!({"iss": "i", "sub": "alice", "role": role, "exp": 9_999_999_999_u64}).to_string();
        let token = sign::token("rsa1", "RS256", r#"{"alg":"RS256","kid":"rsa1"}"#, claims).unwrap();
        format!("Bearer {token}")
    };
    let (admin, user) = (token("admin"), token("user"));

    let mut random = Random(seed());
    let (mut native, mut ours) = (running.client("native"), running.client("ours"));
    let mut sent = Vec::new();
    let mut kinds = std::collections::BTreeMap::<(bool, u16, bool), usize>::new();
    for index in 0..PAIRS {
        let mut headers: Vec<(&str, &str)> = Vec::new();
        let origins = ["https://a.example", "https://x.b.example", "https://evil.example", "null", ""];
        if random.percent(85) {
            headers.push(("origin", random.pick(&origins)));
        }
        let method = random.pick(&["OPTIONS", "OPTIONS", "GET", "POST", "DELETE"]);
        if random.percent(70) {
            headers.push(("access-control-request-method", random.pick(&["GET", "PUT", ""])));
        }
        let path = random.pick(&["/any", "/some/x", "/some", "/closed", "/none"]);
        // Asked for no headers, Envoy's `*` allows an empty list of them.
        if path == "/any" || random.percent(50) {
            headers.push(("access-control-request-headers", "x-a,x-z"));
        }
        match random.pick(&["admin", "user", "bad", "none"]) {
            "admin" => headers.push(("authorization", &admin)),
            "user" => headers.push(("authorization", &user)),
            "bad" => headers.push(("authorization", "Bearer x.y.z")),
            _ => {}
        }
        let request = Request::new(method, path, &headers);
        let (n, o) = (format!("n{index}"), format!("o{index}"));
        let expected = native.send(&request, &n);
        let answer = ours.send(&request, &o);
        let told = answer.header("access-control-allow-origin").is_some();
        *kinds.entry((method == "OPTIONS", answer.status, told)).or_default() += 1;
        // Ours alone says that another site gets another answer.
        let vary = answer.header("vary").map(str::to_owned);
        assert_eq!(vary.as_deref(), told.then_some("origin"), "{request:?}: {answer:?}");
        assert_eq!(comparable(answer), comparable(expected), "{request:?}");
        sent.push((n, o, request));
    }
    // Preflights answered; requests let through, and refused for both reasons, with leave and without.
    for kind in [
        (true, 200, true),
        (false, 200, true),
        (false, 401, true),
        (false, 403, true),
        (false, 200, false),
        (false, 401, false),
        (false, 403, false),
    ] {
        assert!(kinds.contains_key(&kind), "{kind:?} is not in {kinds:?}");
    }
    let details = details(&running.envoy, 2 * PAIRS);
    for (n, o, request) in sent {
        // Its name is the policy's.
        let details = |id: &str| details[id].replace("matched_policy[admins]", "matched_policy[none]");
        assert_eq!(details(&o), details(&n), "{request:?}");
    }
}

fn comparable(mut answer: Answer) -> Answer {
    answer = answer.without(&["vary"]);
    // Which of them are sent on is not what this is about: Envoy's own filter keeps the token.
    if answer.header("x-upstream").is_some() {
        answer.body.clear();
        answer = answer.without(&["content-length"]);
    }
    answer
}
