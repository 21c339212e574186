//! Answers that an entry gives by itself.

use super::*;

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
            "access-control-expose-headers: x-c",
            "access-control-max-age: 3600",
            "vary: origin",
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
            "vary+=origin",
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
