//! The same policies for Envoy's own filters.

use serde_json::{Value, json};

use crate::policies::{AUDIENCE, ISSUER, key_set};
use crate::requests::host;

/// The filter that passes requests on, which stands last.
pub fn router() -> Value {
    filter("router", "router.v3.Router", json!({}))
}

/// `cached`: whether verified tokens are remembered, which they are not unless somebody asks for it.
pub fn jwt_authn(cached: bool) -> Value {
    let mut provider = json!({
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": {"inline_string": key_set().to_string()},
        "claim_to_headers": [{"header_name": "x-user", "claim_name": "sub"}],
    });
    if cached {
        provider["jwt_cache_config"] = json!({"jwt_cache_size": 1000});
    }
    filter(
        "jwt_authn",
        "jwt_authn.v3.JwtAuthentication",
        json!({
            "providers": {"auth": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "auth"}}],
            "bypass_cors_preflight": true,
        }),
    )
}

pub fn rbac() -> Value {
    let role = |role: &str| json!({"header": {"name": "user-role", "string_match": {"exact": role}}});
    allow(json!({"webapp-authz": {
        "permissions": [{"and_rules": {"rules": [
            {"or_rules": {"rules": [method("GET"), method("POST")]}},
            path("/api/"),
        ]}}],
        "principals": [role("admin"), role("user")],
    }}))
}

/// One policy for each of so many path prefixes.
pub fn many_rules(count: usize) -> Value {
    let policy = |number: usize| {
        let permission =
            json!({"and_rules": {"rules": [method("GET"), path(&format!("/service-{number}/"))]}});
        (format!("rule-{number:04}"), json!({"permissions": [permission], "principals": [{"any": true}]}))
    };
    allow((0..count).map(policy).collect())
}

fn allow(policies: Value) -> Value {
    filter("rbac", "rbac.v3.RBAC", json!({"rules": {"action": "ALLOW", "policies": policies}}))
}

fn method(name: &str) -> Value {
    json!({"header": {"name": ":method", "string_match": {"exact": name}}})
}

fn path(prefix: &str) -> Value {
    json!({"url_path": {"path": {"prefix": prefix}}})
}

pub fn fault() -> Value {
    let always = json!({"numerator": 100});
    filter(
        "fault",
        "fault.v3.HTTPFault",
        json!({
            "headers": [{"name": "test-fault", "string_match": {"exact": "true"}}],
            "delay": {"fixed_delay": "0.010s", "percentage": always},
            "abort": {"http_status": 503, "percentage": always},
        }),
    )
}

pub fn local_ratelimit(tokens: u32) -> Value {
    let always = json!({"default_value": {"numerator": 100}});
    filter(
        "local_ratelimit",
        "local_ratelimit.v3.LocalRateLimit",
        json!({
            "stat_prefix": "limit",
            "token_bucket": {"max_tokens": tokens, "tokens_per_fill": 1, "fill_interval": "3600s"},
            "filter_enabled": always,
            "filter_enforced": always,
        }),
    )
}

pub fn header_to_metadata() -> Value {
    filter(
        "header_to_metadata",
        "header_to_metadata.v3.Config",
        json!({"request_rules": [{
            "header": "x-tenant",
            "on_header_present": {"metadata_namespace": "tags", "key": "tenant"},
            "on_header_missing": {"metadata_namespace": "tags", "key": "tenant", "value": "none"},
        }]}),
    )
}

/// The counter and the histogram that meshfilter's telemetry has, by Envoy's logger of statistics.
pub fn metrics() -> Value {
    let tag = |(name, value): (&str, &str)| json!({"name": name, "value_format": value});
    let labels = [
        ("route", "%ROUTE_NAME%"),
        ("destination", "%UPSTREAM_CLUSTER%"),
        ("decision", "%RESPONSE_CODE_DETAILS%"),
        ("response_code", "%RESPONSE_CODE%"),
    ]
    .map(tag);
    json!({
        "name": "envoy.access_loggers.stats",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stats.v3.Config",
            "stat_prefix": "measured",
            "counters": [{"stat": {"name": "requests", "tags": labels}, "value_fixed": 1}],
            "histograms": [{
                "stat": {"name": "duration", "tags": &labels[..3]},
                "unit": "Milliseconds",
                "value_format": "%DURATION%",
            }],
        },
    })
}

/// The canary header, and a split for everybody else.
pub fn routes() -> Vec<Value> {
    let canary = json!({"name": "canary", "string_match": {"exact": "true"}});
    vec![
        json!({"match": {"prefix": "/", "headers": [canary]}, "route": {"cluster": "webapp|v2"}}),
        json!({"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
            {"name": "webapp|v1", "weight": 90},
            {"name": "webapp|v2", "weight": 10},
        ]}}}),
    ]
}

/// One route for each of so many path prefixes.
pub fn many_routes(count: usize) -> Vec<Value> {
    let route = |number: usize| {
        json!({
            "match": {"prefix": format!("/service-{number}/")},
            "route": {"cluster": if number.is_multiple_of(2) { "webapp|v1" } else { "webapp|v2" }},
        })
    };
    (0..count).map(route).collect()
}

/// One virtual host for each of so many hosts.
pub fn many_hosts(count: usize) -> Vec<Value> {
    let virtual_host = |number: usize| {
        json!({
            "name": format!("host-{number}"),
            "domains": [host(number)],
            "routes": [{
                "match": {"prefix": "/"},
                "route": {"cluster": if number.is_multiple_of(2) { "webapp|v1" } else { "webapp|v2" }},
            }],
        })
    };
    (0..count).map(virtual_host).collect()
}

/// Everything to one upstream.
pub fn plain_route() -> Vec<Value> {
    vec![json!({"match": {"prefix": "/"}, "route": {"cluster": "webapp|v1"}})]
}

fn filter(name: &str, kind: &str, configuration: Value) -> Value {
    let mut configuration = configuration;
    configuration["@type"] = format!("type.googleapis.com/envoy.extensions.filters.http.{kind}").into();
    json!({"name": format!("envoy.filters.http.{name}"), "typed_config": configuration})
}
