//! Envoy's local rate limit beside ours; who shares a bucket, and what a new configuration keeps.

use serde_json::{Value, json};

use crate::pair::{Answer, Listener, Request, SideBySide, details, native, ours, plugin, theirs};
use crate::random::{Random, seed};
use crate::support::case::yaml;
use crate::support::envoy::{Bootstrap, Configuration, Envoy, Upstreams, wait_until};
use crate::support::http::Client;

const LOCAL_RATE_LIMIT: &str =
    "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";

/// Nothing is refilled while the test runs.
const LIMITS: &str = r#"
- path: /one
  native: {token_bucket: {max_tokens: 7, tokens_per_fill: 1, fill_interval: 86400s}}
  ours: {tokenBucket: {maxTokens: 7, tokensPerFill: 1, fillInterval: 24h}}
- path: /status
  native: {token_bucket: {max_tokens: 3, tokens_per_fill: 1, fill_interval: 86400s}, status: {code: 503}}
  ours: {tokenBucket: {maxTokens: 3, tokensPerFill: 1, fillInterval: 24h}, status: 503}
- path: /users
  native:
    token_bucket: {max_tokens: 100000, tokens_per_fill: 1, fill_interval: 86400s}
    rate_limits: [{actions: [{request_headers: {header_name: x-user, descriptor_key: user}}]}]
    descriptors:
    - {entries: [{key: user, value: alice}], token_bucket: {max_tokens: 4, tokens_per_fill: 1, fill_interval: 86400s}}
    - {entries: [{key: user, value: bob}], token_bucket: {max_tokens: 4, tokens_per_fill: 1, fill_interval: 86400s}}
    - {entries: [{key: user, value: ""}], token_bucket: {max_tokens: 4, tokens_per_fill: 1, fill_interval: 86400s}}
  ours: {key: [{header: x-user}], tokenBucket: {maxTokens: 4, tokensPerFill: 1, fillInterval: 24h}}
"#;

#[test]
fn refusals_are_those_of_envoys_filter() {
    let limits = yaml(LIMITS).unwrap();
    let (mut routes, mut entries): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for limit in limits.as_array().unwrap() {
        let mut native = limit["native"].clone();
        native["@type"] = LOCAL_RATE_LIMIT.into();
        native["stat_prefix"] = "local".into();
        native["enable_x_ratelimit_headers"] = "DRAFT_VERSION_03".into();
        for enabled in ["filter_enabled", "filter_enforced"] {
            native[enabled] = json!({"default_value": {"numerator": 100}});
        }
        routes.push(json!({
            "match": {"path": limit["path"]},
            "route": {"cluster": "fallback"},
            "typed_per_filter_config": {"envoy.filters.http.local_ratelimit": native},
        }));
        let mut ours = limit["ours"].clone();
        ours["match"] = json!([{"uri": {"exact": limit["path"]}}]);
        ours["headers"] = "draft03".into();
        entries.push(ours);
    }
    routes.push(json!({"match": {"prefix": "/"}, "route": {"cluster": "fallback"}}));
    let filter = native(
        "envoy.filters.http.local_ratelimit",
        json!({"@type": LOCAL_RATE_LIMIT, "stat_prefix": "local"}),
    );
    let running = SideBySide::start(&[
        Listener { name: "native", filters: vec![filter], virtual_host: theirs(routes) },
        Listener {
            name: "ours",
            filters: vec![plugin("ours", &json!({"rateLimits": entries}))],
            virtual_host: ours(),
        },
    ]);
    let mut random = Random(seed());
    let (mut native, mut ours) = (running.client("native"), running.client("ours"));
    // Ours alone says when to come back, and rounds the reset up; both look at the clock for themselves.
    let comparable = |answer: Answer| answer.without(&["retry-after", "x-ratelimit-reset"]);
    let mut sent = Vec::new();
    for index in 0..120 {
        let mut headers = Vec::new();
        if random.percent(30) {
            headers.push(("content-type", "application/grpc"));
        }
        let path = random.pick(&["/one", "/status", "/users", "/users", "/free"]);
        // Without the header Envoy takes from the default bucket, and ours does not apply.
        if path == "/users" {
            headers.push(("x-user", random.pick(&["alice", "bob", ""])));
        }
        let request = Request::new(random.pick(&["GET", "POST", "HEAD"]), path, &headers);
        let (n, o) = (format!("n{index}"), format!("o{index}"));
        let expected = native.send(&request, &n);
        let answer = ours.send(&request, &o);
        let refused = answer.header("x-upstream").is_none();
        let reset =
            |answer: &Answer| answer.header("x-ratelimit-reset").map(|reset| reset.parse::<u64>().unwrap());
        let close = match (reset(&expected), reset(&answer)) {
            (Some(expected), Some(reset)) => expected.abs_diff(reset) <= 1,
            (expected, reset) => expected == reset,
        };
        assert!(close, "{request:?}\n  native {expected:?}\n  ours   {answer:?}");
        assert_eq!(answer.header("retry-after").is_some(), refused, "{request:?}: {answer:?}");
        sent.push((request, n, comparable(expected), o, comparable(answer)));
    }
    let details = details(&running.envoy, 2 * sent.len());
    let wrong = |(request, n, expected, o, answer): &(Request, String, Answer, String, Answer)| {
        let (expected, answer) = ((expected, &details[n]), (answer, &details[o]));
        (expected != answer).then(|| format!("{request:?}\n  native {expected:?}\n  ours   {answer:?}"))
    };
    let wrong: Vec<String> = sent.iter().filter_map(wrong).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(10)].join("\n"));
}

fn bucket(tokens: u32) -> Value {
    json!([{"name": "all", "tokenBucket": {"maxTokens": tokens, "tokensPerFill": 1, "fillInterval": "24h"}}])
}

#[test]
fn listeners_share_the_buckets_of_plugins_of_one_name() {
    let policy = json!({"rateLimits": bucket(10)});
    let listener = |name, plugin_name| Listener {
        name,
        filters: vec![plugin(plugin_name, &policy)],
        virtual_host: ours(),
    };
    let running =
        SideBySide::start(&[listener("first", "one"), listener("second", "one"), listener("third", "two")]);
    let passed = |name: &str, count: usize| {
        let mut client = running.client(name);
        let get = Request::new("GET", "/", &[]);
        (0..count).filter(|index| client.send(&get, &index.to_string()).status == 200).count()
    };
    assert_eq!(passed("first", 6), 6);
    assert_eq!(passed("second", 10), 4);
    assert_eq!(passed("first", 3), 0);
    assert_eq!(passed("third", 20), 10);
}

#[test]
fn a_new_configuration_does_not_fill_a_bucket() {
    let upstreams = Upstreams::start().unwrap();
    let policy = |version: &str, tokens: u32| {
        Configuration::Struct(json!({
            "http": [{"headers": {"response": {"set": {"x-version": version}}}}],
            "rateLimits": bucket(tokens),
        }))
    };
    let mut bootstrap = Bootstrap::new(policy("1", 20), &upstreams);
    bootstrap.workers = 2;
    bootstrap.dynamic = true;
    let envoy = Envoy::start(&bootstrap).unwrap();
    // How many pass until one is refused, once this version answers.
    let passed = |version: &str| {
        let mut count = 0;
        wait_until("the version refuses", || {
            let mut client = Client::connect(envoy.address().ok()?).ok()?;
            let response = client.request("GET", "/", &[]).ok()?;
            count += usize::from(response.status == 200);
            (response.status == 429 && response.header("x-version").as_deref() == Some(version)).then_some(())
        })
        .unwrap();
        count
    };
    assert_eq!(passed("1"), 20);
    for (version, tokens, more) in [("2", 20, 0), ("3", 30, 10), ("4", 5, 0)] {
        bootstrap.configuration = policy(version, tokens);
        bootstrap.update(envoy.folder()).unwrap();
        assert_eq!(passed(version), more, "version {version}");
    }
}
