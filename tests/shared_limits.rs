//! Envoy's own cases for its fault and local rate limit filters, against this filter's policies.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod shared;

use std::time::Duration;

use meshfilter::config;
use meshfilter::host::fake::Fake;
use meshfilter::host::{Host, LocalReply};
use meshfilter::pipeline::Pipeline;
use meshfilter::policy::{Facts, Policy, Step, Wait};
use meshfilter::request::{HeaderEdit, Request};
use serde_json::{Value, json};

fn load(document: &Value) -> Result<Policy, Vec<String>> {
    let compiled = config::load(document.to_string().as_bytes(), &|_| None);
    compiled
        .map(|compiled| compiled.policy)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// A policy, started.
fn policy(document: &Value, host: &Fake) -> Policy {
    let mut policy = load(document).unwrap_or_else(|errors| panic!("{document}: {errors:?}"));
    policy.start(host);
    policy
}

/// What became of one request.
struct Outcome {
    waited: Duration,
    reply: Option<LocalReply>,
    facts: Facts,
}

impl Outcome {
    fn status(&self) -> u64 {
        self.reply.as_ref().map_or(200, |reply| reply.status.into())
    }

    fn injected(&self, word: &str) -> u64 {
        self.facts.verdicts.iter().filter(|verdict| verdict.decision == word).count() as u64
    }

    /// A header of the answer, the reply's own or one that is put on whatever answers.
    fn header(&self, name: &str) -> Option<String> {
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let own = self.reply.iter().flat_map(|reply| &reply.headers).find(|(key, _)| key == name);
        let edit = self.facts.response_edits.iter().find_map(|edit| match edit {
            HeaderEdit::Set(key, value) if key == name => Some(text(value)),
            _ => None,
        });
        own.map(|(_, value)| text(value)).or(edit)
    }
}

/// Sends a request through the whole pipeline, and moves the clock on while it waits.
fn send(policy: &Policy, host: &Fake, headers: &[(String, String)], connection: u64) -> Outcome {
    let pseudo = [(":method", "GET"), (":path", "/"), (":authority", "host"), (":scheme", "http")];
    let pseudo = pseudo.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let attributes =
        policy.attributes.paths().iter().map(|_| Some(connection.to_le_bytes().to_vec())).collect();
    let mut request = Request::new(pseudo.iter().chain(headers).cloned().collect(), attributes, host.now());
    let (mut pipeline, mut facts, mut waited) = (Pipeline::default(), Facts::default(), Duration::ZERO);
    let reply = loop {
        match pipeline.run(policy, &mut request, &mut facts, host) {
            Step::Continue => break None,
            Step::Reply(reply) => break Some(*reply),
            Step::Wait(Wait::Until(deadline)) => {
                let wait = Duration::from_nanos(deadline - host.now());
                host.advance(wait);
                waited += wait;
            }
            other => panic!("{other:?}"),
        }
    };
    pipeline.abandon(&mut facts, host);
    Outcome { waited, reply, facts }
}

/// Says how many cases ran, and which differ on purpose.
fn report(file: &str, ran: usize, differences: &[(String, &str)]) {
    println!("{file}: {ran} cases ran, {} differ on purpose", differences.len());
    for (case, reason) in differences {
        println!("  {case}: {reason}");
    }
}

// Rate limits.

/// `2` and a file's `{max_tokens, tokens_per_fill, fill_interval_ms}` → `tokenBucket`.
fn bucket(source: &Value) -> Value {
    json!({
        "maxTokens": source["max_tokens"],
        "tokensPerFill": source["tokens_per_fill"],
        "fillInterval": format!("{}ms", source["fill_interval_ms"]),
    })
}

/// A case's buckets as limits: `default` is for every request, `user=*` for each value of a header, and any other name
/// for requests with a header of that name.
fn limits(case: &Value, costs: &Value) -> Value {
    let entry = |name: &str, sizes: &Value| {
        let cost = costs[name].as_u64().unwrap_or(1);
        let mut entry =
            json!({"name": name, "tokenBucket": bucket(sizes), "cost": cost, "headers": "draft03"});
        match name.strip_suffix("=*") {
            Some(header) => entry["key"] = json!([{"header": format!("x-{header}")}]),
            None if name != "default" => {
                entry["match"] = json!([{"headers": {format!("x-{name}"): {"present": true}}}]);
            }
            None => {}
        }
        entry
    };
    let only = json!({"default": case["bucket"]});
    let buckets = case["buckets"].as_object().or(only.as_object()).unwrap();
    buckets.iter().filter(|(_, sizes)| !sizes.is_null()).map(|(name, sizes)| entry(name, sizes)).collect()
}

/// `d1`, `["d1", "d2"]`, `user=A` or `user=A,key=value` as headers.
fn descriptor(source: &Value) -> Vec<(String, String)> {
    let names = match source {
        Value::String(names) => names.split(',').collect(),
        Value::Array(names) => names.iter().map(|name| name.as_str().unwrap()).collect(),
        Value::Object(costs) => costs.keys().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    let header = |name: &str| {
        let (name, value) = name.split_once('=').unwrap_or((name, ""));
        (format!("x-{name}"), value.to_owned())
    };
    names.into_iter().map(header).collect()
}

/// Runs the steps of a bucket's case.
fn run_bucket_case(case: &Value) {
    let id = case["id"].as_str().unwrap();
    let host = Fake::new();
    let steps = case["steps"].as_array().unwrap();
    let mut costs = steps.iter().find(|step| step[0] == "take_n").map_or(Value::Null, |step| step[1].clone());
    if id.ends_with("WithShareProvider") {
        // Half a share is twice the cost.
        costs = json!({"default": 2});
    }
    let policy = policy(&json!({"rateLimits": limits(case, &costs)}), &host);
    for (index, step) in steps.iter().enumerate() {
        let place = format!("{id}, step {index}: {step}");
        let parts = step.as_array().unwrap();
        match parts[0].as_str().unwrap() {
            "advance_ms" => host.advance(Duration::from_millis(parts[1].as_u64().unwrap())),
            "status" => {
                // Asking for a whole bucket takes nothing unless it is full, and the answer tells what is there.
                let all = json!({"default": case["bucket"]["max_tokens"]});
                let probe = self::policy(&json!({"rateLimits": limits(case, &all)}), &host);
                let outcome = send(&probe, &host, &[], 0);
                let remaining = match &outcome.reply {
                    Some(_) => outcome.header("x-ratelimit-remaining").unwrap(),
                    None => case["bucket"]["max_tokens"].to_string(),
                };
                assert_eq!(remaining, parts[1]["remaining"].to_string(), "{place}");
            }
            "take" | "take_n" => {
                let outcome = send(&policy, &host, &descriptor(&parts[1]), 0);
                let allowed = parts.iter().find_map(Value::as_bool).unwrap();
                assert_eq!(outcome.reply.is_none(), allowed, "{place}");
                if let Some(remaining) = parts.iter().find_map(|part| part.get("remaining")) {
                    assert_eq!(
                        outcome.header("x-ratelimit-remaining"),
                        Some(remaining.to_string()),
                        "{place}"
                    );
                }
            }
            other => panic!("{place}: no step {other}"),
        }
    }
}

/// Runs the requests of a filter's case.
fn run_filter_case(case: &Value) {
    let id = case["id"].as_str().unwrap();
    let host = Fake::new();
    let mut all = json!({"name": "all", "tokenBucket": bucket(&case["bucket"])});
    if case["x_ratelimit_headers"] == "DRAFT_VERSION_03" {
        all["headers"] = json!("draft03");
    }
    if case["per_connection"] == true {
        all["key"] = json!([{"property": "connection.id"}]);
    }
    let mut entries = Vec::new();
    if !case["descriptor"].is_null() {
        entries.push(json!({
            "name": "descriptor",
            "key": [{"header": case["descriptor"]["request_header"]}],
            "tokenBucket": bucket(&case["descriptor"]["bucket"]),
            "mode": if case["shadow_mode"] == true { "shadow" } else { "enforce" },
        }));
    }
    // In Envoy, a descriptor in shadow mode hides the default bucket.
    if case["shadow_mode"] != true {
        entries.push(all);
    }
    let policy = policy(&json!({"rateLimits": entries}), &host);
    let (mut connection, mut limited) = (0, 0);
    for (index, step) in case["steps"].as_array().unwrap().iter().enumerate() {
        let place = format!("{id}, step {index}: {step}");
        if let Some(advance) = step["advance_ms"].as_u64() {
            host.advance(Duration::from_millis(advance));
            continue;
        }
        connection += u64::from(step["new_connection"] == true);
        let header = case["descriptor"]["request_header"].as_str().unwrap_or_default().to_owned();
        let cluster = step["cluster"].as_str().map(|cluster| (header, cluster.to_owned()));
        let outcome = send(&policy, &host, &cluster.into_iter().collect::<Vec<_>>(), connection);
        assert_eq!(outcome.status(), step["expect"].as_u64().unwrap(), "{place}");
        limited += outcome.injected("limited");
        if let Some(expected) = step["counter shadow_mode"].as_u64() {
            assert_eq!(limited, expected, "{place}");
        }
        if let Some(body) = step["body"].as_str() {
            let reply = outcome.reply.as_ref().unwrap();
            assert_eq!((reply.body.as_slice(), reply.details.as_str()), (body.as_bytes(), body), "{place}");
        }
        for name in ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"] {
            if let Some(expected) = step[name].as_str() {
                assert_eq!(outcome.header(name).as_deref(), Some(expected), "{place}: {name}");
            }
        }
    }
}

#[test]
fn local_rate_limit() {
    const FILE: &str = "envoy/ratelimit_cases.json";
    let Some(folder) = shared::folder() else { return };
    let file = shared::json(&folder, FILE);
    let (mut ran, mut differences) = (0, Vec::new());
    let list = |name: &str| file[name].as_array().unwrap().clone();
    for (case, run) in list("cases")
        .iter()
        .map(|case| (case, run_bucket_case as fn(&Value)))
        .chain(list("http_cases").iter().map(|case| (case, run_filter_case as fn(&Value))))
    {
        let id = case["id"].as_str().unwrap();
        let reason = match id.split_once(':').unwrap().1 {
            "AlwaysRejectWithZeroMaxTokens" | "RequestRateLimitedButNotEnforced" => {
                "a bucket of no tokens is an error of the document; refusing everything is authorization's work"
            }
            "IsNegativeRefundsTokens" | "IsNegativeCappedAtMax" => {
                "a request cannot put tokens into a bucket"
            }
            "RequestRateLimitedResourceExhausted" => {
                "a gRPC caller gets what Envoy maps 429 to, UNAVAILABLE, its default; there is no switch for 8"
            }
            "ToErrorCode" => "a status that is no error is an error of the document, and not quietly 429",
            _ => {
                run(case);
                ran += 1;
                continue;
            }
        };
        differences.push((id.to_owned(), reason));
    }
    let entry = |sizes: Value| json!({"name": "a", "tokenBucket": sizes});
    let good = entry(json!({"maxTokens": 1, "fillInterval": "50ms"}));
    let short = entry(json!({"maxTokens": 1, "fillInterval": "49ms"}));
    let zero = entry(json!({"maxTokens": 0, "fillInterval": "50ms"}));
    let mut status = good.clone();
    status["status"] = json!(399);
    for refused in [json!([short]), json!([good, good]), json!([zero]), json!([status])] {
        assert!(load(&json!({"rateLimits": refused})).is_err(), "{refused}");
    }
    assert!(load(&json!({"rateLimits": [good]})).is_ok());
    ran += list("invalid_configs_must_be_rejected").len();
    report(FILE, ran, &differences);
}

// Faults.

/// The number after a word.
fn number_after(text: &str, word: &str) -> Option<u64> {
    let rest = text.split_once(word)?.1.trim_start();
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// An entry of `http` that does what Envoy's configuration says, as far as the files write it.
fn entry(source: &str) -> Value {
    let percentage = number_after(source, "numerator:").unwrap_or(100);
    let percentage = json!({"value": percentage});
    let mut fault = json!({});
    if source.contains("header_abort") || source.contains("numerator: 80") {
        fault = json!({"headerControlled": true, "delay": {"percentage": {"value": 100}}, "abort": {"percentage": percentage}});
    }
    if source.contains("5s") {
        fault["delay"] = json!({"percentage": percentage, "fixedDelay": "5s"});
    }
    if let Some(status) = number_after(source, "http_status:").or(number_after(source, "abort ")) {
        fault["abort"] = json!({"percentage": percentage, "httpStatus": status});
    }
    if let Some(status) = number_after(source, "grpc_status:") {
        fault["abort"] = json!({"percentage": percentage, "grpcStatus": status});
    }
    if source.contains("max_active_faults: 1") {
        fault["maxActive"] = json!(1);
    }
    let mut entry = json!({"name": "entry"});
    if fault != json!({}) {
        entry["fault"] = fault;
    }
    if source.contains("X-Foo1") {
        entry["match"] = json!([{"headers": {"x-foo1": {"exact": "Bar"}, "x-foo2": {"present": true}}}]);
    }
    entry
}

fn run_fault_case(case: &Value) {
    let (id, source) = (case["id"].as_str().unwrap(), case["fault_yaml"].as_str().unwrap());
    let host = Fake::new();
    let policy = policy(&json!({"http": [entry(source)]}), &host);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pairs = case["headers"].as_array().unwrap().iter();
    let mut headers: Vec<(String, String)> = pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
    let expect = &case["expect"];
    let place = format!("{id}: {headers:?}");
    if let Some(percentage) = expect["effective_percentage"].as_f64() {
        headers.push(("x-envoy-fault-abort-request".to_owned(), "503".to_owned()));
        let draws = 10_000;
        let aborted = (0..draws).filter(|_| send(&policy, &host, &headers, 0).status() == 503).count();
        let (n, p) = (f64::from(draws), percentage / 100.0);
        let sigma = (n * p * (1.0 - p)).sqrt();
        assert!((aborted as f64 - n * p).abs() < 4.0 * sigma, "{place}: {aborted}");
        return;
    }
    let requests = if expect["request2_delayed"] == true { 2 } else { 1 };
    for _ in 0..requests {
        let outcome = send(&policy, &host, &headers, 0);
        let grpc = headers.iter().any(|(_, value)| value == "application/grpc");
        if let Some(status) = expect["status"].as_u64() {
            // A gRPC answer is 200 whatever its status.
            assert!(grpc || outcome.status() == status, "{place}: {}", outcome.status());
        }
        let reply = outcome.reply.as_ref();
        let grpc_status = expect["headers"]["grpc-status"].as_str().map(|status| status.parse().unwrap());
        if let Some(status) = grpc_status.or(expect["grpc_status"].as_u64()) {
            assert_eq!(reply.unwrap().grpc_status.map(u64::from), Some(status), "{place}");
        }
        if let Some(body) = expect["body"].as_str().or(expect["headers"]["grpc-message"].as_str()) {
            assert_eq!(reply.unwrap().body, body.as_bytes(), "{place}");
            assert_eq!(reply.unwrap().details, "fault_filter_abort", "{place}");
        }
        if let Some(count) = expect["aborts_injected"].as_u64() {
            assert_eq!(outcome.injected("aborted"), count, "{place}");
        }
        if let Some(count) = expect["delays_injected"].as_u64() {
            assert_eq!(outcome.injected("delayed"), count, "{place}");
        }
        let delayed = requests == 2;
        let delay = expect["delay_ms"].as_u64().unwrap_or(if delayed { 5000 } else { 0 });
        assert_eq!(outcome.waited, Duration::from_millis(delay), "{place}");
    }
}

#[test]
fn fault() {
    const FILE: &str = "envoy/fault_cases.json";
    let Some(folder) = shared::folder() else { return };
    let file = shared::json(&folder, FILE);
    let (mut ran, mut differences) = (0, Vec::new());
    for case in file["cases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        let reason = match id.split_once(':').unwrap().1 {
            "FaultRateLimitHeaderConfig" => {
                "a plugin can hold a response's body but not pace it: no throttling"
            }
            "FixedDelayZeroDuration" => {
                "there are no runtime keys; a fixedDelay of nothing is an error of the document"
            }
            "Overflow" => {
                "a maxActive of nothing is an error of the document; what is over one of 1 is tested beside the code"
            }
            "NoDownstreamMatch" => {
                "whom a fault is for, the entry's match says, by the header x-envoy-downstream-service-node"
            }
            "TimerResetAfterStreamReset" => {
                "a client that leaves is tested beside the code, where a stream can end"
            }
            _ => {
                run_fault_case(case);
                ran += 1;
                continue;
            }
        };
        differences.push((id.to_owned(), reason));
    }
    let half = json!({"value": 50});
    for refused in [
        json!({"delay": {"percentage": half, "fixedDelay": "5s"}, "downstreamNodes": []}),
        json!({"abort": {"percentage": half}}),
        json!({"delay": {"percentage": half, "fixedDelay": "5s", "type": "foo"}}),
        json!({"delay": {"percentage": half, "fixedDelay": "0s"}}),
        json!({"delay": {"percentage": half}}),
        json!({"delay": {"percentage": half, "fixedDelay": "5s"}, "maxActive": 0}),
    ] {
        assert!(load(&json!({"http": [{"fault": refused}]})).is_err(), "{refused}");
    }
    ran += file["invalid_configs_must_be_rejected"].as_array().unwrap().len();
    report(FILE, ran, &differences);
}
