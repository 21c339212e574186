use std::rc::Rc;

use serde_json::{Value, json};

use crate::config;
use crate::host::LocalReply;
use crate::host::fake::Fake;
use crate::pipeline::Pipeline;
use crate::policy::{Decision, Facts, Policy, Step, Token};
use crate::request::{HeaderEdit, Request};

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
    request: Request,
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
        let cluster = self.header("x-meshfilter-cluster");
        assert_eq!(cluster.as_deref(), self.facts.destination.as_deref());
        cluster
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
    assert_eq!(outcome.header("x-meshfilter-mirror-cluster").as_deref(), Some("b"));
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
            let facts = Facts { tokens: vec![token.clone()], ..Facts::default() };
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

#[test]
fn headers_are_changed_by_the_entry_and_then_by_the_destination() {
    let policy = entry(json!({
        "headers": {
            "request": {"set": {"X-A": "entry", "host": "entry.example"}, "add": {"x-b": "2"}, "remove": ["x-c"]},
            "response": {"set": {"x-r": "5%%"}, "remove": ["server"]},
        },
        "route": [{"destination": {"host": "a"}, "headers": {
            "request": {"set": {"x-a": "destination", ":authority": "destination.example"}},
            "response": {"add": {"x-r": "2"}},
        }}],
    }));
    let outcome = send(&policy, &[("x-a", "1"), ("x-b", "1"), ("x-c", "1")]);
    assert_eq!(outcome.header("x-a").as_deref(), Some("destination"));
    assert_eq!(outcome.header("x-b").as_deref(), Some("1 | 2"));
    assert_eq!(outcome.header("x-c"), None);
    assert_eq!(outcome.header(":authority").as_deref(), Some("entry.example"));
    assert_eq!(outcome.response_edits(), ["-server", "x-r=5%", "x-r+=2"]);

    let policy = entry(json!({"route": [{"destination": {"host": "a"}, "headers": {
        "request": {"add": {"Host": "destination.example"}},
    }}]}));
    assert_eq!(send(&policy, &[]).header(":authority").as_deref(), Some("destination.example"));
}

#[test]
fn a_rewrite_replaces_the_prefix_that_matched_or_the_whole_path() {
    let rewritten = |uri: Value, rewrite: Value, path: &str| {
        let mut source = json!({"match": [{"uri": {"exact": "/never"}}, {}], "rewrite": rewrite});
        if !uri.is_null() {
            source["match"][1]["uri"] = uri;
        }
        let outcome = send(&entry(source), &[(":path", path), ("x-envoy-original-path", "/evil")]);
        let original = (outcome.header(":path").as_deref() != Some(path)).then(|| path.to_owned());
        assert_eq!(outcome.header("x-envoy-original-path"), original);
        outcome.header(":path").unwrap()
    };
    let uri = json!({"uri": "/v2"});
    assert_eq!(rewritten(json!({"prefix": "/v1"}), uri.clone(), "/v1/a?b=/v1"), "/v2/a?b=/v1");
    assert_eq!(rewritten(json!({"prefix": "/v1/"}), uri.clone(), "/v1/a"), "/v2a");
    assert_eq!(rewritten(json!({"prefix": "/v1"}), json!({"uri": "/"}), "/v1/a"), "//a");
    assert_eq!(rewritten(json!({"exact": "/v1"}), uri.clone(), "/v1?q"), "/v2?q");
    assert_eq!(rewritten(json!({"regex": "/v1.*"}), uri.clone(), "/v1/a#f"), "/v2#f");
    assert_eq!(rewritten(Value::Null, uri, "/v1/a?q"), "/v2?q");

    let regex =
        |pattern: &str, rewrite: &str| json!({"uriRegexRewrite": {"match": pattern, "rewrite": rewrite}});
    assert_eq!(
        rewritten(Value::Null, regex("^/u/([^/]+)(.*)$", r"/x\2/by/\1"), "/u/me/a?/u/me"),
        "/x/a/by/me?/u/me"
    );
    assert_eq!(rewritten(Value::Null, regex("o", "0"), "/foo?o"), "/f00?o");
    assert_eq!(rewritten(Value::Null, regex("(a)|b", r"[\0\1\\]"), "/ab"), r"/[aa\][b\]");
    assert_eq!(rewritten(Value::Null, regex("x", "y"), "/a"), "/a");
}

#[test]
fn a_rewrite_leaves_the_query_and_a_connect_alone() {
    let policy = entry(json!({"rewrite": {"uri": "/x", "authority": "other.example"}}));
    let policy_request =
        Request::new([(":method", "CONNECT"), (":authority", "a")].into_iter().collect(), vec![], 0);
    let (mut request, mut facts) = (policy_request, Facts::default());
    let step = Pipeline::default().run(&policy, &mut request, &mut facts, &Fake::new());
    assert_eq!(step, Step::Continue);
    assert_eq!(request.header(":path"), None);
    assert_eq!(request.authority(), b"other.example");
}

#[test]
fn a_redirect_changes_what_it_names() {
    let location = |redirect: Value, headers: &[(&str, &str)]| {
        let policy = entry(json!({"match": [{"uri": {"prefix": "/old"}}, {}], "redirect": redirect}));
        let outcome = send(&policy, headers);
        assert_eq!(outcome.facts.decision, Decision::Redirected);
        assert_eq!((outcome.reply().status, outcome.reply().details.as_str()), (301, "direct_response"));
        outcome.reply_header("location").unwrap()
    };
    let plain: [(&str, &str); 2] = [(":path", "/old/a?q=1"), (":authority", "a.example:8080")];
    for (redirect, expected) in [
        (json!({"uri": "/new"}), "http://a.example:8080/new?q=1"),
        (json!({"uri": "/new?x"}), "http://a.example:8080/new?x"),
        (json!({"prefixRewrite": "/new"}), "http://a.example:8080/new/a?q=1"),
        (json!({"authority": "b.example"}), "http://b.example/old/a?q=1"),
        (json!({"scheme": "https"}), "https://a.example:8080/old/a?q=1"),
        (json!({"port": 9090}), "http://a.example:9090/old/a?q=1"),
        (json!({"port": 80}), "http://a.example/old/a?q=1"),
        (json!({"port": 443, "scheme": "https"}), "https://a.example/old/a?q=1"),
        (json!({"port": 80, "scheme": "https"}), "https://a.example:80/old/a?q=1"),
        (json!({"derivePort": "FROM_PROTOCOL_DEFAULT"}), "http://a.example/old/a?q=1"),
        (
            json!({"authority": "b.example", "derivePort": "FROM_REQUEST_PORT"}),
            "http://b.example:8080/old/a?q=1",
        ),
        (json!({"authority": "b", "port": 81, "uri": "/c", "scheme": "https"}), "https://b:81/c?q=1"),
    ] {
        assert_eq!(location(redirect.clone(), &plain), expected, "{redirect}");
    }
    let https = json!({"scheme": "https"});
    assert_eq!(location(https.clone(), &[(":authority", "a:80")]), "https://a/");
    assert_eq!(location(https.clone(), &[(":authority", "[::1]")]), "https://[::1]/");
    assert_eq!(location(json!({"port": 81}), &[(":authority", "[::1]:80")]), "http://[::1]:81/");
    assert_eq!(location(https, &[(":path", "//evil.example")]), "https://example.com//evil.example");
    let found = send(&entry(json!({"redirect": {"uri": "/", "redirectCode": 308}})), &[]);
    assert_eq!(found.reply().status, 308);
}

#[test]
fn a_direct_response_is_text_or_bytes() {
    let policy = entry(json!({"directResponse": {"status": 503, "body": {"string": "closed"}}}));
    let outcome = send(&policy, &[]);
    assert_eq!(outcome.facts.decision, Decision::DirectResponse);
    assert_eq!((outcome.reply().status, outcome.reply().body.as_slice()), (503, b"closed".as_slice()));
    assert_eq!(outcome.reply().details, "direct_response");
    assert_eq!(outcome.cluster(), None);
    let policy = entry(json!({"directResponse": {"status": 200, "body": {"bytes": "AP8="}}}));
    assert_eq!(send(&policy, &[]).reply().body, [0, 255]);
    assert_eq!(send(&entry(json!({"directResponse": {"status": 204}})), &[]).reply().body, b"");
}

#[test]
fn timeouts_and_retries_are_told_to_the_router() {
    let headers = |source: Value| {
        let outcome = send(&entry(source), &[]);
        let names = [
            "x-envoy-upstream-rq-timeout-ms",
            "x-envoy-upstream-rq-per-try-timeout-ms",
            "x-envoy-max-retries",
            "x-envoy-retry-on",
            "x-envoy-retry-grpc-on",
            "x-envoy-retriable-status-codes",
        ];
        names.map(|name| outcome.header(name).unwrap_or_default()).join("; ")
    };
    assert_eq!(headers(json!({"timeout": "0.5s"})), "500; ; ; ; ; ");
    assert_eq!(headers(json!({"timeout": "0s"})), "0; ; ; ; ; ");
    assert_eq!(headers(json!({"timeout": "10us"})), "1; ; ; ; ; ");
    assert_eq!(
        headers(json!({"retries": {"attempts": 3, "perTryTimeout": "2s"}})),
        "; 2000; 3; connect-failure,refused-stream; unavailable,cancelled; "
    );
    assert_eq!(
        headers(json!({"retries": {"attempts": 1, "retryOn": "5xx, 503,reset,429,internal"}})),
        "; ; 1; 5xx,reset,retriable-status-codes; internal; 503,429"
    );
    assert_eq!(
        headers(json!({"retries": {"attempts": 1, "retryOn": "retriable-status-codes,503"}})),
        "; ; 1; retriable-status-codes; ; 503"
    );
    assert_eq!(headers(json!({"retries": {"attempts": 0}})), "; ; 0; ; ; ");
}

#[test]
fn mirrors_are_drawn_one_by_one() {
    let destination = |host: &str| json!({"host": host, "subset": "v2"});
    let policy = entry(json!({"route": to("a"), "mirrors": [
        {"destination": destination("m1"), "percentage": {"value": 25}},
        {"destination": destination("m2"), "percentage": {"value": 0}},
        {"destination": destination("m3")},
    ]}));
    let host = Fake::new();
    let mut first = 0u32;
    for _ in 0..20_000 {
        let outcome = send_with(&policy, &host, &[], Facts::default());
        assert_eq!(outcome.header("x-meshfilter-mirror-cluster-2"), None);
        assert_eq!(outcome.header("x-meshfilter-mirror-cluster-3").as_deref(), Some("m3|v2"));
        first += u32::from(outcome.header("x-meshfilter-mirror-cluster").as_deref() == Some("m1|v2"));
    }
    let sigma = (20_000.0 * 0.25 * 0.75f64).sqrt();
    assert!((f64::from(first) - 5_000.0).abs() < 4.0 * sigma, "{first}");
    for percent in ["mirrorPercent", "mirror_percent"] {
        let policy = entry(json!({"mirror": destination("m"), percent: 0}));
        assert_eq!(send(&policy, &[]).header("x-meshfilter-mirror-cluster"), None);
    }
}

#[test]
fn a_preflight_is_answered_and_an_actual_request_is_decorated() {
    let policy = policy(&json!({"http": [{
        "headers": {"response": {"set": {"x-r": "1"}}},
        "corsPolicy": {
            "allowOrigins": [{"exact": "https://a.example"}, {"regex": "https://.*\\.b\\.example"}],
            "allowMethods": ["GET", "POST"], "allowHeaders": ["x-a", "x-b"], "exposeHeaders": ["x-c"],
            "maxAge": "1h", "allowCredentials": true,
        },
        "fault": {"abort": {"percentage": {"value": 100}, "httpStatus": 500}},
        "route": to("a"),
    }]}));
    let preflight = |origin: &str| {
        send(&policy, &[(":method", "OPTIONS"), ("origin", origin), ("access-control-request-method", "PUT")])
    };
    let answered = preflight("https://x.b.example");
    assert_eq!((answered.reply().status, answered.reply().details.as_str()), (200, "cors_response"));
    assert_eq!(answered.facts.decision, Decision::DirectResponse);
    let headers: Vec<String> = answered
        .reply()
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
        .collect();
    assert_eq!(
        headers,
        [
            "access-control-allow-origin: https://x.b.example",
            "access-control-allow-credentials: true",
            "access-control-allow-methods: GET,POST",
            "access-control-allow-headers: x-a,x-b",
            "access-control-max-age: 3600",
        ]
    );
    assert_eq!(answered.response_edits(), ["x-r=1"]);
    let forwarded = preflight("https://evil.example");
    assert_eq!(forwarded.reply().status, 500, "it went on, to the fault");
    assert_eq!(forwarded.response_edits(), ["x-r=1"]);

    let actual = send(&policy, &[("origin", "https://a.example")]);
    assert_eq!(actual.reply().details, "fault_filter_abort");
    assert_eq!(
        actual.response_edits(),
        [
            "x-r=1",
            "access-control-allow-origin=https://a.example",
            "access-control-allow-credentials=true",
            "access-control-expose-headers=x-c",
        ]
    );
    for headers in [
        vec![("origin", "https://evil.example")],
        vec![("origin", "")],
        vec![],
        vec![(":method", "OPTIONS"), ("access-control-request-method", "GET")],
    ] {
        assert_eq!(send(&policy, &headers).response_edits(), ["x-r=1"], "{headers:?}");
    }
}

#[test]
fn a_star_allows_any_site_and_what_it_asks_for() {
    for origins in [json!({"allowOrigins": [{"exact": "*"}]}), json!({"allowOrigin": ["*"]})] {
        let mut cors = origins;
        cors["allowMethods"] = json!(["*"]);
        cors["allowHeaders"] = json!(["*"]);
        let outcome = send(
            &entry(json!({"corsPolicy": cors})),
            &[
                (":method", "OPTIONS"),
                ("origin", "null"),
                ("access-control-request-method", "PUT"),
                ("access-control-request-headers", "x-z"),
            ],
        );
        assert_eq!(outcome.reply_header("access-control-allow-origin").as_deref(), Some("null"));
        assert_eq!(outcome.reply_header("access-control-allow-methods").as_deref(), Some("PUT"));
        assert_eq!(outcome.reply_header("access-control-allow-headers").as_deref(), Some("x-z"));
        assert_eq!(outcome.reply_header("access-control-max-age"), None);
        assert_eq!(outcome.reply_header("access-control-allow-credentials"), None);
    }
}

#[test]
fn an_unmatched_preflight_may_be_answered_without_leave() {
    let cors = json!({"allowOrigins": [{"exact": "https://a"}], "allowMethods": ["GET"], "unmatchedPreflights": "IGNORE"});
    let outcome = send(
        &entry(json!({"corsPolicy": cors})),
        &[(":method", "OPTIONS"), ("origin", "https://b"), ("access-control-request-method", "GET")],
    );
    assert_eq!(outcome.reply().status, 200);
    assert_eq!(outcome.reply_header("access-control-allow-origin"), None);
}

#[test]
fn an_entry_without_a_route_applies_its_other_fields() {
    let policy = entry(json!({
        "headers": {"request": {"set": {"x": "1"}}}, "timeout": "1s", "mirror": {"host": "m"},
        "rewrite": {"uri": "/x"},
    }));
    let outcome = send(&policy, &[]);
    assert_eq!(outcome.cluster(), None);
    for (name, value) in [
        ("x", "1"),
        (":path", "/x"),
        ("x-envoy-upstream-rq-timeout-ms", "1000"),
        ("x-meshfilter-mirror-cluster", "m"),
    ] {
        assert_eq!(outcome.header(name).as_deref(), Some(value), "{name}");
    }
}
