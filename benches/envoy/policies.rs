//! The policies as documents, and the filters that carry them.

use std::path::Path;

use meshfilter_cli::envoy::Plugin;
use meshfilter_cli::envoy::listener::{Action, Route};
use meshfilter_cli::envoy::plugin::{Configuration, Module};
use serde_json::{Map, Value, json};

use crate::requests::host;
use crate::support::sign;

pub const ISSUER: &str = "https://auth.example.com";
pub const AUDIENCE: &str = "webapp-api";
pub const KEY: &str = "rsa1";

/// What both verify tokens with.
pub fn key_set() -> Value {
    sign::jwks(&[KEY])
}

pub fn authentication() -> Value {
    json!({"authentication": {"jwtRules": [{
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "jwks": key_set(),
        "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}],
    }]}})
}

pub fn authorization() -> Value {
    json!({"authorization": [{
        "name": "webapp-authz",
        "action": "ALLOW",
        "rules": [{
            "to": [{"operation": {"methods": ["GET", "POST"], "paths": ["/api/*"]}}],
            "when": [{"key": "request.headers[user-role]", "values": ["admin", "user"]}],
        }],
    }]})
}

/// One rule for each of so many path prefixes.
pub fn many_rules(count: usize) -> Value {
    let rule = |number: usize| {
        let paths = [format!("/service-{number}/*")];
        json!({"to": [{"operation": {"methods": ["GET"], "paths": paths}}]})
    };
    let rules: Vec<Value> = (0..count).map(rule).collect();
    json!({"authorization": [{"name": "many", "action": "ALLOW", "rules": rules}]})
}

pub fn faults() -> Value {
    json!({"http": [fault_entry()]})
}

pub fn routing() -> Value {
    json!({"http": routing_entries()})
}

/// One entry for each of so many path prefixes.
pub fn many_entries(count: usize) -> Value {
    let entry = |number: usize| {
        let subset = if number.is_multiple_of(2) { "v1" } else { "v2" };
        json!({
            "match": [{"uri": {"prefix": format!("/service-{number}/")}}],
            "route": [{"destination": {"host": "webapp", "subset": subset}}],
        })
    };
    json!({"http": (0..count).map(entry).collect::<Vec<_>>()})
}

/// One entry for each of so many hosts.
pub fn many_hosts(count: usize) -> Value {
    let entry = |number: usize| {
        let subset = if number.is_multiple_of(2) { "v1" } else { "v2" };
        json!({
            "hosts": [host(number)],
            "route": [{"destination": {"host": "webapp", "subset": subset}}],
        })
    };
    json!({"http": (0..count).map(entry).collect::<Vec<_>>()})
}

pub fn rate_limits(tokens: u32) -> Value {
    json!({"rateLimits": [{
        "name": "all",
        "tokenBucket": {"maxTokens": tokens, "tokensPerFill": 1, "fillInterval": "1h"},
    }]})
}

/// A bucket for each value of a header.
pub fn keyed_rate_limits() -> Value {
    json!({"rateLimits": [{
        "name": "per-key",
        "key": [{"header": "x-key"}],
        "tokenBucket": {"maxTokens": 100, "tokensPerFill": 1, "fillInterval": "1h"},
    }]})
}

/// What is told of every request beside its tag.
#[derive(Clone, Copy)]
pub enum Metrics {
    /// What there is unless somebody asks for something else: counted with the response's code, and timed.
    Full,
    /// Counted, which costs no call.
    Cheap,
}

pub fn telemetry(metrics: Metrics) -> Value {
    let mut telemetry = json!({"tags": [
        {"name": "tenant", "value": {"header": "x-tenant"}, "default": "none", "in": ["logs"]},
    ]});
    if let Metrics::Cheap = metrics {
        telemetry["metrics"] = json!({"responseCode": false, "duration": false});
    }
    json!({"telemetry": telemetry})
}

/// All of them in one document.
pub fn chain(tokens: u32, metrics: Metrics) -> Value {
    let [canary, weighted] = routing_entries();
    document(vec![fault_entry(), canary, weighted], tokens, metrics)
}

/// What Envoy has filters for; routing is left to its routes.
pub fn filters(tokens: u32, metrics: Metrics) -> Value {
    document(vec![fault_entry()], tokens, metrics)
}

fn document(http: Vec<Value>, tokens: u32, metrics: Metrics) -> Value {
    let mut whole = Map::from_iter([("http".to_owned(), Value::from(http))]);
    for part in [authentication(), authorization(), rate_limits(tokens), telemetry(metrics)] {
        if let Value::Object(sections) = part {
            whole.extend(sections);
        }
    }
    Value::Object(whole)
}

fn fault_entry() -> Value {
    json!({
        "name": "fault-test",
        "match": [{"headers": {"test-fault": {"exact": "true"}}}],
        "fault": {
            "delay": {"percentage": {"value": 100}, "fixedDelay": "10ms"},
            "abort": {"percentage": {"value": 100}, "httpStatus": 503},
        },
    })
}

fn routing_entries() -> [Value; 2] {
    [
        json!({
            "name": "canary-by-header",
            "match": [{"headers": {"canary": {"exact": "true"}}}],
            "route": [{"destination": {"host": "webapp", "subset": "v2"}}],
        }),
        json!({
            "name": "weighted",
            "route": [
                {"destination": {"host": "webapp", "subset": "v1"}, "weight": 90},
                {"destination": {"host": "webapp", "subset": "v2"}, "weight": 10},
            ],
        }),
    ]
}

/// The filter with this document.
pub fn meshfilter(module: &Path, document: &Value) -> Value {
    plugin(module, Configuration::Struct(document.clone()))
}

/// A module without a configuration.
pub fn wasm(module: &Path) -> Value {
    plugin(module, Configuration::Text(String::new()))
}

fn plugin(module: &Path, configuration: Configuration) -> Value {
    let module = Module::Wasm(module.to_owned());
    Plugin { name: "measured".to_owned(), ..Plugin::new(module, configuration) }.filter()
}

/// The routes that read what the filter decided, as `meshfilter bootstrap` writes them.
pub fn routes() -> Vec<Value> {
    let default = Action::Cluster("webapp|v1".to_owned());
    [Action::Decided, default].map(|action| Route::new(action).value()).into()
}
