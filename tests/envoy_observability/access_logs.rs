//! The two access logs of the sample, text and JSON.

use std::fs;

use regex::Regex;
use serde_json::{Value, json};

use super::sample::{Proxy, Upstreams, bearer, bearer_until};
use crate::support::envoy::wait_until;

/// The lines of a log, once there are so many.
fn lines(proxy: &Proxy, log: &str, count: usize) -> Vec<String> {
    let path = proxy.envoy.folder().join(log);
    wait_until("the access log", || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        (lines.len() >= count && text.ends_with('\n')).then_some(lines)
    })
    .unwrap_or_else(|error| panic!("{log}: {error}\n{}", proxy.envoy.log()))
}

#[test]
fn both_forms_say_who_asked_where_it_went_and_why_it_did_not() {
    let upstreams = Upstreams::start();
    let mut sample = upstreams.sample();
    let shares = &mut sample.bootstrap()["layered_runtime"]["layers"][0]["static_layer"]["access_log"];
    assert_eq!(*shares, json!({"text": 100, "json": 0}));
    shares["json"] = 100.into();
    let proxy = Proxy::new(sample.start(1).unwrap());

    let (good, late) = (bearer("alice", "acme"), bearer_until("alice", "acme", "-1h"));
    let parameter = format!("/api/orders?access_token={}&x=1", late.trim_start_matches("Bearer "));
    let id = |id: &'static str| ("x-request-id", id);
    let role = ("user-role", "user");
    for (path, headers, status) in [
        ("/api/orders?page=2", vec![id("one"), ("authorization", &good), role, ("canary", "true")], 200),
        ("/api/orders", vec![id("two"), ("authorization", &good)], 403),
        ("/api/orders", vec![id("three"), ("authorization", &late)], 401),
        (&parameter, vec![id("four")], 401),
        ("/elsewhere", vec![("x-request-id", "five"), ("canary", "true")], 200),
    ] {
        assert_eq!(proxy.get(path, &headers).status, status);
    }

    let expected = [
        ("one", "/api/orders", "200", "via_upstream", "webapp|v2", "canary-by-header", "allowed", "acme"),
        (
            "two",
            "/api/orders",
            "403",
            "rbac_access_denied_matched_policy[none]",
            "-",
            "-",
            "authz_denied",
            "acme",
        ),
        (
            "three",
            "/api/orders",
            "401",
            "jwt_authn_access_denied{Jwt_is_expired}",
            "-",
            "-",
            "authn_denied",
            "none",
        ),
        (
            "four",
            "/api/orders",
            "401",
            "jwt_authn_access_denied{Jwt_is_expired}",
            "-",
            "-",
            "authn_denied",
            "none",
        ),
        ("five", "/elsewhere", "200", "via_upstream", "webapp|v2", "canary-by-header", "allowed", "none"),
    ];
    let told = |[id, path, status, details, destination, route, decision, tenant]: [String; 8]| {
        format!("{id} {path} {status} {details} {destination} {route} {decision} {tenant}")
    };
    let wanted: Vec<String> = expected
        .map(|(id, path, status, details, destination, route, decision, tenant)| {
            told([id, path, status, details, destination, route, decision, tenant].map(str::to_owned))
        })
        .to_vec();

    let json = lines(&proxy, "json", expected.len());
    let fields = ["request_id", "path", "status", "details", "destination", "route", "decision", "tenant"];
    let of_json = |line: &String| {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["method"], &line["protocol"]), (&json!("GET"), &json!("HTTP/1.1")));
        assert!(line["duration_ms"].is_u64() && line["client"] == "127.0.0.1", "{line}");
        assert!(line["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        told(fields.map(|field| match &line[field] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }))
    };
    assert_eq!(json.iter().map(of_json).collect::<Vec<_>>(), wanted);

    let text = lines(&proxy, "text", expected.len());
    let form = Regex::new(
        r#"^\[[^\]]+Z\] "GET (?<path>\S+) HTTP/1\.1" (?<status>\d+) \S+ (?<details>\S+) \d+ms route="(?<route>[^"]+)" destination="(?<destination>[^"]+)" decision="(?<decision>[^"]+)" tenant="(?<tenant>[^"]+)" request_id="(?<request_id>[^"]+)"$"#,
    )
    .unwrap();
    let of_text = |line: &String| {
        let found = form.captures(line).unwrap_or_else(|| panic!("{line}"));
        told(fields.map(|field| found[field].to_owned()))
    };
    assert_eq!(text.iter().map(of_text).collect::<Vec<_>>(), wanted);
}
