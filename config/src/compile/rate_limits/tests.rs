use serde_json::{Value, json};

use crate as config;

fn errors(document: &Value) -> Vec<String> {
    match config::load(document.to_string().as_bytes(), &|_| None) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_contracts_example_is_good() {
    let entry = json!({
        "name": "per-user",
        "key": [{"claim": "sub"}],
        "tokenBucket": {"maxTokens": 100, "tokensPerFill": 100, "fillInterval": "60s"},
    });
    assert_eq!(errors(&json!({"rateLimits": [entry]})), Vec::<String>::new());
    let everything = json!({
        "match": [{"method": {"exact": "GET"}}],
        "key": [
            {"header": "X-User", "default": "nobody"}, {"cookie": "c"}, {"queryParam": "q"}, {"path": true},
            {"remoteAddress": {"v4PrefixLength": 24, "v6PrefixLength": 64}}, {"method": true}, {"literal": "x"},
            {"property": "xds.route_name"},
        ],
        "tokenBucket": {"maxTokens": 4294967295u32, "fillInterval": "50ms"},
        "cost": 4294967295u32,
        "status": 503,
        "grpcStatus": 8,
        "headers": "draft03",
        "body": "",
        "mode": "shadow",
    });
    assert_eq!(errors(&json!({"rateLimits": [everything], "rateLimitSlots": 64})), Vec::<String>::new());
}

#[test]
fn every_mistake_is_named_with_what_would_be_right() {
    let bucket = json!({"maxTokens": 10, "fillInterval": "1s"});
    for (entry, expected) in [
        (json!({}), "rateLimits[0]: \"tokenBucket\" is missing; add it"),
        (
            json!({"tokenBucket": {"fillInterval": "1s"}}),
            "rateLimits[0].tokenBucket: \"maxTokens\" is missing; add it",
        ),
        (
            json!({"tokenBucket": {"maxTokens": 1}}),
            "rateLimits[0].tokenBucket: \"fillInterval\" is missing; add it",
        ),
        (
            json!({"tokenBucket": {"maxTokens": 0, "fillInterval": "1s"}}),
            "rateLimits[0].tokenBucket.maxTokens: 0 is not a number of tokens; use a whole number from 1 to 4294967295",
        ),
        (
            json!({"tokenBucket": {"maxTokens": -1, "fillInterval": "1s"}}),
            "rateLimits[0].tokenBucket.maxTokens: -1 is out of range; use a whole number from 0 to 4294967295",
        ),
        (
            json!({"tokenBucket": {"maxTokens": 1, "tokensPerFill": 0, "fillInterval": "1s"}}),
            "rateLimits[0].tokenBucket.tokensPerFill: 0 is not a number of tokens; use a whole number from 1 to 4294967295",
        ),
        (
            json!({"tokenBucket": {"maxTokens": 1, "fillInterval": "49ms"}}),
            "rateLimits[0].tokenBucket.fillInterval: 49ms is too short to fill; use 50ms or more, with more tokensPerFill",
        ),
        (
            json!({"tokenBucket": bucket, "cost": 11}),
            "rateLimits[0].cost: 11 is not a cost; use a whole number from 1 to 10, which is maxTokens",
        ),
        (
            json!({"tokenBucket": bucket, "cost": 0}),
            "rateLimits[0].cost: 0 is not a cost; use a whole number from 1 to 10, which is maxTokens",
        ),
        (
            json!({"tokenBucket": bucket, "status": 200}),
            "rateLimits[0].status: 200 is not a status to refuse with; use one from 400 to 599",
        ),
        (
            json!({"tokenBucket": bucket, "grpcStatus": "OK"}),
            "rateLimits[0].grpcStatus: OK refuses nothing; use a status such as RESOURCE_EXHAUSTED",
        ),
        (
            json!({"tokenBucket": bucket, "grpcStatus": "EXHAUSTED"}),
            "rateLimits[0].grpcStatus: \"EXHAUSTED\" is not a gRPC status; use one such as UNAVAILABLE",
        ),
        (
            json!({"tokenBucket": bucket, "headers": "all"}),
            "rateLimits[0].headers: \"all\" is not known here; use \"refused\", \"draft03\" or \"none\"",
        ),
        (
            json!({"tokenBucket": bucket, "match": []}),
            "rateLimits[0].match: an empty list matches nothing; leave it out to match every request",
        ),
        (
            json!({"tokenBucket": bucket, "key": [{}]}),
            "rateLimits[0].key[0]: no source; use one of header, claim, cookie, queryParam, remoteAddress, path, method, literal, property",
        ),
        (
            json!({"tokenBucket": bucket, "key": [{"header": "a", "cookie": "b"}]}),
            "rateLimits[0].key[0]: more than one source; keep one",
        ),
        (
            json!({"tokenBucket": bucket, "key": [{"environment": "A"}]}),
            "rateLimits[0].key[0].environment: this belongs in a telemetry tag; a key has header, claim or path",
        ),
        (
            json!({"tokenBucket": bucket, "key": [{"claim": "a..b"}]}),
            "rateLimits[0].key[0].claim: \"a..b\" is not a claim's path; use a.b, or [a][b] for names with dots",
        ),
        (
            json!({"tokenBucket": bucket, "key": [{"remoteAddress": {"v4PrefixLength": 33}}]}),
            "rateLimits[0].key[0].remoteAddress.v4PrefixLength: 33 is too long; use 0 to 32",
        ),
    ] {
        assert_eq!(errors(&json!({"rateLimits": [entry]})), [expected], "{entry}");
    }
}

#[test]
fn names_and_slots_are_checked() {
    let entry = json!({"name": "a", "tokenBucket": {"maxTokens": 10, "fillInterval": "1s"}});
    assert_eq!(
        errors(&json!({"rateLimits": [entry, entry]})),
        ["rateLimits[1].name: \"a\" is used twice; give each its own"]
    );
    for slots in [0u32, 63, 1_048_577] {
        assert_eq!(
            errors(&json!({"rateLimitSlots": slots})),
            [format!(
                "rateLimitSlots: {slots} is not a number of slots; use a whole number from 64 to 1048576"
            )]
        );
    }
}

#[test]
fn a_limit_of_a_services_is_checked_like_any_other() {
    let descriptors = json!([{"entries": [{"key": "user", "value": {"claim": "sub", "default": "nobody"}}]}]);
    let global = |more: Value| {
        let mut global = json!({"cluster": "rls", "domain": "web", "descriptors": descriptors});
        for (name, value) in more.as_object().cloned().unwrap_or_default() {
            global[name] = value;
        }
        json!({"global": global})
    };
    for good in [
        json!({}),
        json!({"timeout": "1s", "failureMode": "deny"}),
        json!({"failureMode": "allow"}),
        json!({"limit": {"requestsPerUnit": 0, "unit": "MINUTE"}}),
    ] {
        assert_eq!(errors(&json!({"rateLimits": [global(good)]})), Vec::<String>::new());
    }
    let mut before = global(json!({}));
    before["tokenBucket"] = json!({"maxTokens": 1, "fillInterval": "1s"});
    before["key"] = json!([{"claim": "sub"}]);
    assert_eq!(errors(&json!({"rateLimits": [before]})), Vec::<String>::new());
    let with = |name: &str, value: Value| {
        let mut entry = global(json!({}));
        entry[name] = value;
        entry
    };
    for (entry, expected) in [
        (
            with("key", json!([{"claim": "sub"}])),
            "rateLimits[0].key: a key is for a bucket; say it in global.descriptors, or give a tokenBucket that stands before the service",
        ),
        (
            global(json!({"limit": {"unit": "MINUTE"}})),
            "rateLimits[0].global.limit: \"requestsPerUnit\" is missing; add it",
        ),
        (
            global(json!({"limit": {"requestsPerUnit": 1}})),
            "rateLimits[0].global.limit: \"unit\" is missing; add it",
        ),
        (
            global(json!({"limit": {"requestsPerUnit": 1, "unit": "minute"}})),
            "rateLimits[0].global.limit.unit: \"minute\" is not known here; use \"SECOND\", \"MINUTE\", \"HOUR\", \"DAY\", \"MONTH\" or \"YEAR\"",
        ),
        (with("cost", json!(0)), "rateLimits[0].cost: 0 is not a cost; use a whole number from 1"),
        (
            json!({"global": {"domain": "web", "descriptors": descriptors}}),
            "rateLimits[0].global: \"cluster\" is missing; add it",
        ),
        (global(json!({"domain": ""})), "rateLimits[0].global.domain: an empty name; give the service's"),
        (
            global(json!({"timeout": "0s"})),
            "rateLimits[0].global.timeout: 0ns is not a time to wait for an answer; use 1ms to 60s",
        ),
        (
            global(json!({"descriptors": []})),
            "rateLimits[0].global.descriptors: no descriptor; give one, such as {entries: [{key: user, value: {claim: sub}}]}",
        ),
        (
            global(json!({"descriptors": [{"entries": []}]})),
            "rateLimits[0].global.descriptors[0].entries: no entry; give one, such as {key: user, value: {claim: sub}}",
        ),
        (
            global(json!({"descriptors": [{"entries": [{"key": "user"}]}]})),
            "rateLimits[0].global.descriptors[0].entries[0]: \"value\" is missing; add it",
        ),
        (
            global(json!({"descriptors": [{"entries": [{"key": "u", "value": {"route": true}}]}]})),
            "rateLimits[0].global.descriptors[0].entries[0].value.route: this belongs in a telemetry tag; a key has header, claim or path",
        ),
    ] {
        assert_eq!(errors(&json!({"rateLimits": [entry]})), [expected], "{entry}");
    }
}
