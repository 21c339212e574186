//! A policy with everything in it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::sign;

/// Who gives tokens: one whose keys are in the document, and one that is asked for them.
pub const LOCAL: &str = "https://local.example.com";
pub const REMOTE: &str = "https://remote.example.com";

/// What the bucket that nothing refills lets through, in the whole run.
pub const TOKENS: u64 = 2_000;
/// How long `/slow` waits.
pub const DELAY: Duration = Duration::from_millis(300);
/// What `/aborted` is answered with.
pub const ABORTED: u16 = 418;

/// The policy; every version decides the same and says another number.
pub fn policy(version: u32) -> Value {
    let to = |host: &str, subset: &str| json!({"destination": {"host": host, "subset": subset}});
    let exactly = |path: &str| json!([{"uri": {"exact": path}}]);
    let delay = json!({"percentage": {"value": 100}, "fixedDelay": format!("{}ms", DELAY.as_millis())});
    let mut http = json!([
        {"name": "slow", "match": exactly("/slow"), "fault": {"delay": delay, "maxActive": 100_000}, "route": [to("webapp", "v1")]},
        {
            "name": "aborted",
            "match": exactly("/aborted"),
            "fault": {"abort": {"percentage": {"value": 100}, "httpStatus": ABORTED}},
            "route": [to("webapp", "v1")],
        },
        {"name": "moved", "match": exactly("/moved"), "redirect": {"uri": "/here"}},
        {"name": "direct", "match": exactly("/direct"), "directResponse": {"status": 200, "body": {"string": "direct"}}},
        {
            "name": "canary",
            "match": [{"headers": {"canary": {"exact": "true"}}}],
            "route": [to("webapp", "v2")],
            "mirrors": [{"destination": {"cluster": "mirror"}, "percentage": {"value": 10}}],
        },
        {
            "name": "weighted",
            "sticky": {"cookie": {"name": "arm", "ttl": "1h"}},
            "rewrite": {"uri": "/rewritten"},
            "route": [
                {"destination": {"host": "webapp", "subset": "v1"}, "weight": 90},
                {"destination": {"host": "webapp", "subset": "v2"}, "weight": 10},
            ],
        },
    ]);
    for entry in http.as_array_mut().into_iter().flatten() {
        entry["headers"] = json!({"response": {"set": {"x-version": version.to_string()}}});
    }
    json!({
        "authentication": {
            "jwtRules": [
                {
                    "name": "local",
                    "issuer": LOCAL,
                    "jwks": sign::jwks(&["rsa1", "ec256"]),
                    "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}],
                },
                {
                    "name": "remote",
                    "issuer": REMOTE,
                    "jwksUri": format!("{REMOTE}/keys"),
                    "jwksCluster": "auth",
                    "jwksCacheDuration": "5s",
                    "timeout": "2s",
                },
            ],
            "requirements": [
                {"match": [{"uri": {"prefix": "/api"}}], "require": "any", "rules": ["local"]},
                {"match": [{"uri": {"prefix": "/remote"}}], "require": "any", "rules": ["remote"]},
                {"require": "none"},
            ],
        },
        "authorization": [
            {"name": "no-evil", "action": "DENY", "rules": [{"when": [{"key": "request.headers[x-evil]", "values": ["*"]}]}]},
            {"name": "roles", "action": "ALLOW", "rules": [
                {"to": [{"operation": {"notPaths": ["/api*"]}}]},
                {"when": [{"key": "request.headers[user-role]", "values": ["admin"]}]},
            ]},
        ],
        "http": http,
        "rateLimits": [
            {
                "name": "exact",
                "match": exactly("/limited"),
                "tokenBucket": {"maxTokens": TOKENS, "tokensPerFill": 1, "fillInterval": "8760h"},
            },
            {
                "name": "per-client",
                "key": [{"header": "x-client"}],
                "tokenBucket": {"maxTokens": 1_000_000, "tokensPerFill": 1_000_000, "fillInterval": "1s"},
            },
        ],
        "telemetry": {"tags": [
            {"name": "subject", "value": {"claim": "sub"}, "default": "none", "maxValues": 5},
            {"name": "client", "value": {"header": "x-client"}, "in": ["logs"]},
        ]},
    })
}
