mod answers;
mod hosts;
mod index;
mod sending;

use std::rc::Rc;

use serde_json::{Value, json};

use crate as config;
use meshfilter_core::host::LocalReply;
use meshfilter_core::host::fake::Fake;
use meshfilter_core::pipeline::Pipeline;
use meshfilter_core::policy::{Decision, Facts, Policy, Step, Token};
use meshfilter_core::request::{HeaderEdit, Request};

fn policy(document: &Value) -> Policy {
    let loaded = config::load(document.to_string().as_bytes(), &|_| None);
    loaded.map(|compiled| compiled.policy).map_err(|errors| format!("{errors:#?}")).unwrap()
}

/// One entry.
fn entry(entry: Value) -> Policy {
    policy(&json!({"http": [entry]}))
}

fn to(host: &str) -> Value {
    json!([{"destination": {"host": host}}])
}

struct Outcome {
    step: Step,
    request: Request<'static>,
    facts: Facts,
}

impl Outcome {
    fn header(&self, name: &str) -> Option<String> {
        let values: Vec<String> = self
            .request
            .header_values(name)
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect();
        if values.is_empty() { None } else { Some(values.join(" | ")) }
    }

    fn cluster(&self) -> Option<String> {
        self.facts.destination.as_deref().map(str::to_owned)
    }

    fn reply(&self) -> &LocalReply {
        match &self.step {
            Step::Reply(reply) => reply,
            step => panic!("no answer but {step:?}"),
        }
    }

    fn reply_header(&self, name: &str) -> Option<String> {
        let found = self.reply().headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    /// The edits to the response, one word each.
    fn response_edits(&self) -> Vec<String> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let edits = self.facts.response_edits.iter().map(|edit| match edit {
            HeaderEdit::Set(name, value) => format!("{name}={}", text(value)),
            HeaderEdit::Add(name, value) => format!("{name}+={}", text(value)),
            HeaderEdit::Remove(name) => format!("-{name}"),
        });
        edits.collect()
    }
}

fn send_with(policy: &Policy, host: &Fake, headers: &[(&str, &str)], mut facts: Facts) -> Outcome {
    let defaults = [(":method", "GET"), (":scheme", "http"), (":authority", "example.com"), (":path", "/")];
    let missing = defaults.iter().filter(|(name, _)| headers.iter().all(|(given, _)| given != name));
    let attribute = |path: &Vec<String>| match path.join(".").as_str() {
        "source.address" => Some(b"203.0.113.9:4711".to_vec()),
        "destination.port" => Some(8080i64.to_le_bytes().to_vec()),
        other => panic!("{other} is not faked"),
    };
    let attributes = policy.attributes.paths().iter().map(attribute).collect();
    let mut request = Request::new(missing.chain(headers).copied().collect(), attributes, 0);
    let step = Pipeline::default().run(policy, &mut request, &mut facts, host);
    Outcome { step, request, facts }
}

fn send(policy: &Policy, headers: &[(&str, &str)]) -> Outcome {
    send_with(policy, &Fake::new(), headers, Facts::default())
}

#[test]
fn the_first_entry_that_matches_is_taken() {
    let policy = policy(&json!({"http": [
        {"name": "canary", "match": [{"headers": {"canary": {"exact": "true"}}}, {"uri": {"exact": "/beta"}}],
         "route": [{"destination": {"host": "webapp", "subset": "v2"}}]},
        {"match": [{"uri": {"prefix": "/api"}}], "route": to("api")},
        {"match": [{"uri": {"prefix": "/"}}], "route": [{"destination": {"cluster": "outbound|80||x"}}]},
    ]}));
    for (headers, route, cluster) in [
        (vec![("canary", "true")], "canary", "webapp|v2"),
        (vec![("canary", "true"), (":path", "/api")], "canary", "webapp|v2"),
        (vec![(":path", "/beta?x")], "canary", "webapp|v2"),
        (vec![(":path", "/apis")], "http[1]", "api"),
        (vec![], "http[2]", "outbound|80||x"),
    ] {
        let outcome = send(&policy, &headers);
        assert_eq!(outcome.step, Step::Continue);
        assert_eq!(outcome.facts.route.as_deref(), Some(route), "{headers:?}");
        assert_eq!(outcome.cluster().as_deref(), Some(cluster), "{headers:?}");
    }
    let none = send(&policy, &[(":path", "*"), (":method", "OPTIONS")]);
    assert_eq!((none.facts.route.clone(), none.cluster()), (None, None));
}

#[test]
fn nothing_is_edited_where_nothing_changes() {
    let document = json!({"http": [
        {"match": [{"uri": {"prefix": "/a"}}]},
        {"match": [{"uri": {"prefix": "/b"}}], "rewrite": {"uri": "/b", "authority": "example.com"},
         "headers": {"request": {"set": {"x": "1"}, "remove": ["y"]}}},
    ]});
    let policy = policy(&document);
    for path in ["/", "/a", "/b"] {
        let mut outcome = send(&policy, &[(":path", path), ("x", "1")]);
        assert_eq!(outcome.request.take_edits(), [], "{path}");
    }
    let mut outcome = send(&policy, &[(":path", "/b"), ("x", "1"), ("x", "1")]);
    assert_eq!(outcome.request.take_edits().len(), 1);
}

#[test]
fn what_the_client_says_in_the_filters_headers_is_not_believed() {
    let policy = policy(&json!({"http": [{"match": [{"headers": {"x": {}}}], "timeout": "1s"}]}));
    let names = ["x-meshfilter-cluster", "x-meshfilter-mirror-cluster-3", "x-envoy-upstream-rq-timeout-ms"];
    let outcome = send(&policy, &names.map(|name| (name, "evil")));
    for name in names {
        assert_eq!(outcome.header(name), None, "{name}");
    }
}

#[test]
fn clusters_are_named_by_the_pattern() {
    let cluster = |destinations: Value, destination: Value| {
        let mut document = json!({"http": [{"route": [{"destination": destination}]}]});
        if !destinations.is_null() {
            document["destinations"] = destinations;
        }
        send(&policy(&document), &[]).cluster().unwrap()
    };
    let istio = json!({"clusterName": "outbound|{port}|{subset}|{host}", "port": 80});
    assert_eq!(cluster(Value::Null, json!({"host": "a", "port": {"number": 5}})), "a");
    assert_eq!(cluster(Value::Null, json!({"host": "a", "subset": "v1"})), "a|v1");
    assert_eq!(cluster(istio.clone(), json!({"host": "a.b", "subset": "v1"})), "outbound|80|v1|a.b");
    assert_eq!(cluster(istio.clone(), json!({"host": "a", "port": {"number": 5}})), "outbound|5||a");
    assert_eq!(cluster(istio, json!({"cluster": "x"})), "x");
    assert_eq!(cluster(json!({"clusterName": "{host}|{subset}"}), json!({"host": "a"})), "a|");
}

#[test]
fn weights_are_drawn_within_four_sigma() {
    let policy = entry(json!({"route": [
        {"destination": {"host": "v1"}, "weight": 90},
        {"destination": {"host": "v0"}},
        {"destination": {"host": "v2"}, "weight": 10},
    ]}));
    let host = Fake::new();
    host.set_seed(7);
    let draws = 100_000;
    let canary = (0..draws)
        .filter(|_| {
            let cluster = send_with(&policy, &host, &[], Facts::default()).cluster();
            assert_ne!(cluster.as_deref(), Some("v0"));
            cluster.as_deref() == Some("v2")
        })
        .count();
    let sigma = (f64::from(draws) * 0.1 * 0.9).sqrt();
    assert!((canary as f64 - 10_000.0).abs() < 4.0 * sigma, "{canary} of {draws}");
}

#[test]
fn a_single_destination_asks_for_no_random_number() {
    let host = Fake::new();
    let policy =
        entry(json!({"route": [{"destination": {"host": "a"}, "weight": 0}], "mirror": {"host": "b"}}));
    let outcome = send_with(&policy, &host, &[], Facts::default());
    assert_eq!(outcome.cluster().as_deref(), Some("a"));
    assert_eq!(outcome.facts.mirrors[0].as_deref(), Some("b"));
    assert_eq!(host.take_hostcalls().get("random"), None);
}

#[test]
fn a_sticky_cookie_is_set_where_the_client_has_none() {
    let document = |ttl: Value| {
        let mut sticky = json!({"cookie": {"name": "arm"}});
        if !ttl.is_null() {
            sticky["cookie"]["ttl"] = ttl;
        }
        entry(json!({"name": "e", "sticky": sticky, "route": [
            {"destination": {"host": "v1"}, "weight": 1}, {"destination": {"host": "v2"}, "weight": 1},
        ]}))
    };
    let host = Fake::new();
    let policy = document(json!("1h"));
    let mut arms = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let first = send_with(&policy, &host, &[], Facts::default());
        let edits = first.response_edits();
        let [cookie] = edits.as_slice() else { panic!("{edits:?}") };
        let value = cookie.strip_prefix("set-cookie+=arm=").unwrap();
        let (value, attributes) = value.split_once(';').unwrap();
        assert_eq!(value.len(), 32);
        assert_eq!(attributes, " Path=/; HttpOnly; SameSite=Lax; Max-Age=3600");
        let cookie = format!("a=b; arm={value}");
        let second = send_with(&policy, &host, &[("cookie", &cookie)], Facts::default());
        assert_eq!(second.cluster(), first.cluster());
        assert!(second.response_edits().is_empty());
        arms.extend(first.cluster());
    }
    assert_eq!(arms.len(), 2);
    let session = send(&document(Value::Null), &[("cookie", "arm=")]);
    assert!(session.response_edits()[0].ends_with("; Path=/; HttpOnly; SameSite=Lax"));
}

#[test]
fn a_sticky_value_gives_the_same_arm_in_every_process() {
    let entry = |name: &str, sticky: Value| {
        entry(json!({"name": name, "sticky": sticky, "route": [
            {"destination": {"host": "v1"}, "weight": 50}, {"destination": {"host": "v2"}, "weight": 50},
        ]}))
    };
    let arms = |policy: &Policy| -> String {
        let arm = |user: u32| {
            let outcome = send(policy, &[("x-user", &user.to_string())]);
            if outcome.cluster().as_deref() == Some("v1") { '1' } else { '2' }
        };
        (0..32).map(arm).collect()
    };
    let header = json!({"header": "X-User"});
    // Fixed for ever: a release that changed this would move everybody.
    assert_eq!(arms(&entry("e", header.clone())), "22111221111112222222212222222111");
    assert_ne!(arms(&entry("f", header.clone())), arms(&entry("e", header)));

    let policy = entry("e", json!({"claim": "sub"}));
    let claims = json!({"sub": "alice"}).as_object().unwrap().clone();
    let token = Rc::new(Token { claims, ..Token::default() });
    let host = Fake::new();
    let mut clusters: Vec<_> = (0..20)
        .map(|_| {
            let facts = Facts { token: Some(token.clone()), ..Facts::default() };
            send_with(&policy, &host, &[], facts).cluster()
        })
        .collect();
    clusters.dedup();
    assert_eq!(clusters.len(), 1, "one user, one arm");
    let without: std::collections::BTreeSet<_> =
        (0..50).map(|_| send_with(&policy, &host, &[], Facts::default()).cluster()).collect();
    assert_eq!(without.len(), 2, "without the value it is drawn");

    let policy = entry("e", json!({"sourceAddress": true}));
    let mut clusters: Vec<_> =
        (0..20).map(|_| send_with(&policy, &host, &[], Facts::default()).cluster()).collect();
    clusters.dedup();
    assert_eq!(clusters.len(), 1, "one address, one arm");
}
