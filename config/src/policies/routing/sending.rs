//! What goes on to the upstream.

use super::*;

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
    assert_eq!(outcome.header("x-envoy-original-host").as_deref(), Some("example.com"));
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
        let [one, two, three] = &outcome.facts.mirrors;
        assert_eq!((two.as_deref(), three.as_deref()), (None, Some("m3|v2")));
        first += u32::from(one.as_deref() == Some("m1|v2"));
    }
    let sigma = (20_000.0 * 0.25 * 0.75f64).sqrt();
    assert!((f64::from(first) - 5_000.0).abs() < 4.0 * sigma, "{first}");
    for percent in ["mirrorPercent", "mirror_percent"] {
        let policy = entry(json!({"mirror": destination("m"), percent: 0}));
        assert_eq!(send(&policy, &[]).facts.mirrors, [None, None, None]);
    }
}

#[test]
fn an_entry_without_a_route_applies_its_other_fields() {
    let policy = entry(json!({
        "headers": {"request": {"set": {"x": "1"}}}, "timeout": "1s", "mirror": {"host": "m"},
        "rewrite": {"uri": "/x"},
    }));
    let outcome = send(&policy, &[]);
    assert_eq!(outcome.cluster(), None);
    assert_eq!(outcome.facts.mirrors[0].as_deref(), Some("m"));
    for (name, value) in [("x", "1"), (":path", "/x"), ("x-envoy-upstream-rq-timeout-ms", "1000")] {
        assert_eq!(outcome.header(name).as_deref(), Some(value), "{name}");
    }
}
