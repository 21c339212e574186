//! Envoy's own filter for rate limit services beside our `global`, both asking the same service.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::pair::{Answer, Listener, Request, SideBySide, details, native, ours, plugin, theirs};
use crate::service::{self, Question, Reaction, Service};
use crate::support::envoy::cluster;

const RATE_LIMIT: &str = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit";

pub fn grpc_cluster(name: &str, address: SocketAddr) -> Value {
    let mut cluster = cluster(name, address);
    cluster["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        },
    });
    cluster
}

fn text(key: &str, value: &str) -> service::Text {
    service::Text { key: key.into(), value: value.into() }
}

/// What a user gets is said by the user's name.
fn react(question: &Question) -> Reaction {
    let status = |code, remaining| service::Status {
        code,
        limit: Some(service::Limit { requests_per_unit: 10 }),
        remaining,
        // With a time ours would not ask again, and Envoy's filter would.
        until_reset: None,
    };
    let plain =
        |code| service::Answer { code, statuses: vec![status(code, 3)], ..service::Answer::default() };
    let user = &question.descriptors[0].entries[0].value;
    match user.as_str() {
        "over" => Reaction::Say(plain(2)),
        "told" => Reaction::Say(service::Answer {
            response_headers: vec![text("x-why", "plan"), text("x-both", "service")],
            body: b"slow down".to_vec(),
            ..plain(2)
        }),
        "marked" => Reaction::Say(service::Answer {
            response_headers: vec![text("x-seen", "1")],
            request_headers: vec![text("x-quota", "3"), text("x-user", "other")],
            ..plain(1)
        }),
        "broken" => Reaction::Fail("13"),
        "unknown" => Reaction::Say(plain(0)),
        "silent" => Reaction::Silence,
        _ => Reaction::Say(plain(1)),
    }
}

#[test]
fn a_service_is_asked_and_believed_as_by_envoys_filter() {
    let service = Service::start(react);
    let filter = |name: &str, deny: bool| {
        native(
            name,
            json!({
                "@type": RATE_LIMIT,
                "domain": "web",
                "timeout": "0.5s",
                "failure_mode_deny": deny,
                "rate_limit_service": {
                    "grpc_service": {"envoy_grpc": {"cluster_name": "rls"}},
                    "transport_api_version": "V3",
                },
            }),
        )
    };
    let actions = json!([{"actions": [
        {"request_headers": {"header_name": "x-user", "descriptor_key": "user"}},
        {"generic_key": {"descriptor_key": "kind", "descriptor_value": "web"}},
    ]}]);
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "fallback", "rate_limits": actions}});
    let global = |mode: &str| {
        json!({"rateLimits": [{"name": "fleet", "headers": "none", "global": {
            "cluster": "rls", "domain": "web", "timeout": "500ms", "failureMode": mode,
            "descriptors": [{"entries": [
                {"key": "user", "value": {"header": "x-user"}},
                {"key": "kind", "value": {"literal": "web"}},
            ]}],
        }}]})
    };
    let listener = |name, filter, virtual_host| Listener { name, filters: vec![filter], virtual_host };
    let own = "envoy.filters.http.ratelimit";
    let running = SideBySide::start_with(
        &[
            listener("native-allow", filter(own, false), theirs(vec![route.clone()])),
            listener("ours-allow", plugin("allow", &global("allow")), ours()),
            listener("native-deny", filter(own, true), theirs(vec![route])),
            listener("ours-deny", plugin("deny", &global("deny")), ours()),
        ],
        vec![grpc_cluster("rls", service.address)],
    );
    let mut sent = Vec::new();
    for mode in ["allow", "deny"] {
        let (mut native, mut ours) =
            (running.client(&format!("native-{mode}")), running.client(&format!("ours-{mode}")));
        for user in ["fine", "over", "told", "marked", "broken", "silent", ""] {
            for kind in ["", "application/grpc"] {
                let mut headers = vec![("x-user", user)];
                headers.extend((!kind.is_empty()).then_some(("content-type", kind)));
                let request = Request::new("POST", "/", &headers);
                let (n, o) = (format!("n{}", sent.len()), format!("o{}", sent.len()));
                let before = service.asked().len();
                let expected = native.send(&request, &n);
                let answer = ours.send(&request, &o);
                let asked = service.asked();
                let [theirs, ours] = &asked[before..] else { panic!("{request:?}: {:?}", &asked[before..]) };
                assert_eq!(theirs, ours, "{request:?}");
                sent.push((request, n, expected, o, answer));
            }
        }
        // Envoy lets pass what a service left open, whatever the failure mode; ours treats it as no answer.
        let request = Request::new("GET", "/", &[("x-user", "unknown")]);
        let statuses = (native.send(&request, "native").status, ours.send(&request, "ours").status);
        assert_eq!(statuses, (200, if mode == "deny" { 500 } else { 200 }));
        // Without the header there is no descriptor, and nobody is asked.
        let before = service.asked().len();
        let request = Request::new("GET", "/", &[]);
        let (n, o) = (format!("n{}", sent.len()), format!("o{}", sent.len()));
        let (expected, answer) = (native.send(&request, &n), ours.send(&request, &o));
        assert_eq!(service.asked().len(), before);
        sent.push((request, n, expected, o, answer));
    }
    let statuses: BTreeMap<u16, usize> = sent.iter().fold(BTreeMap::new(), |mut statuses, (.., answer)| {
        *statuses.entry(answer.status).or_default() += 1;
        statuses
    });
    assert!([200, 429, 500].iter().all(|status| statuses.contains_key(status)), "{statuses:?}");
    // Two more ids are those of the requests that are not compared.
    let details = details(&running.envoy, 2 * sent.len() + 2);
    let wrong = |(request, n, expected, o, answer): &(Request, String, Answer, String, Answer)| {
        let (expected, answer) = ((expected, &details[n]), (answer, &details[o]));
        (expected != answer).then(|| format!("{request:?}\n  native {expected:?}\n  ours   {answer:?}"))
    };
    let wrong: Vec<String> = sent.iter().filter_map(wrong).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    println!("{} pairs, the service was asked {} times", sent.len(), service.asked().len());
}

#[test]
fn a_services_no_gives_a_bucket_its_token_back_and_a_token_can_be_a_descriptor_after_a_delay() {
    let left = Mutex::new(2u32);
    let service = Service::start(move |question| {
        let mut left = left.lock().unwrap();
        let hits = question.hits_addend.max(1);
        let code = if *left >= hits { 1 } else { 2 };
        *left = left.saturating_sub(hits);
        Reaction::Say(service::Answer { code, ..service::Answer::default() })
    });
    let policy = json!({
        "http": [{"fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "20ms"}}}],
        "rateLimits": [
            {"name": "local", "tokenBucket": {"maxTokens": 3, "fillInterval": "24h"}},
            {"name": "fleet", "global": {
                "cluster": "rls", "domain": "web", "timeout": "5s", "failureMode": "deny",
                "descriptors": [{"entries": [{"key": "path", "value": {"path": true}}]}],
            }},
        ],
    });
    let running = SideBySide::start_with(
        &[Listener { name: "ours", filters: vec![plugin("ours", &policy)], virtual_host: ours() }],
        vec![grpc_cluster("rls", service.address)],
    );
    let mut client = running.client("ours");
    let mut status = |id: &str| client.send(&Request::new("GET", "/a", &[]), id).status;
    let statuses: Vec<u16> = (0..6).map(|index| status(&index.to_string())).collect();
    let details = details(&running.envoy, 6);
    let log = running.envoy.log();
    let log: Vec<&str> = log.lines().filter(|line| line.contains("meshfilter: rate limit")).collect();
    assert_eq!(statuses, [200, 200, 429, 429, 429, 429], "{details:?} {log:#?}");
    // The bucket of three was never empty: the service refused, and its token came back.
    assert!((2..6).all(|index| details[&index.to_string()] == "request_rate_limited"), "{details:?}");
    assert_eq!(service.asked().len(), 6);
}

#[test]
fn what_a_service_refused_is_refused_without_it_and_the_policys_limit_goes_with_the_question() {
    let service = Service::start(|question| {
        let limit = question.descriptors[0].limit;
        assert_eq!(limit, Some(service::Override { requests_per_unit: 7, unit: 2 }));
        let over = question.descriptors[0].entries[0].value == "over";
        let status = service::Status {
            code: if over { 2 } else { 1 },
            limit: Some(service::Limit { requests_per_unit: 7 }),
            remaining: if over { 0 } else { 3 },
            until_reset: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        };
        Reaction::Say(service::Answer {
            code: status.code,
            statuses: vec![status],
            ..service::Answer::default()
        })
    });
    let global = json!({
        "cluster": "rls", "domain": "web", "timeout": "5s", "failureMode": "deny",
        "descriptors": [{"entries": [{"key": "user", "value": {"header": "x-user"}}]}],
        "limit": {"requestsPerUnit": 7, "unit": "MINUTE"},
    });
    let policy = json!({"rateLimits": [
        {"name": "fleet", "match": [{"uri": {"exact": "/fleet"}}], "global": global},
        {"name": "both", "match": [{"uri": {"exact": "/both"}}], "global": global,
         "tokenBucket": {"maxTokens": 2, "fillInterval": "24h"}},
    ]});
    let running = SideBySide::start_with(
        &[Listener { name: "ours", filters: vec![plugin("ours", &policy)], virtual_host: ours() }],
        vec![grpc_cluster("rls", service.address)],
    );
    let mut client = running.client("ours");
    let mut send = |path: &str, user: &str, id: &str| {
        let before = service.asked().len();
        let answer = client.send(&Request::new("GET", path, &[("x-user", user)]), id);
        (answer.status, service.asked().len() - before)
    };
    assert_eq!(send("/fleet", "over", "0"), (429, 1));
    for id in 1..10 {
        assert_eq!(send("/fleet", "over", &id.to_string()), (429, 0), "it named an hour");
    }
    assert_eq!(send("/fleet", "fine", "10"), (200, 1));
    assert_eq!(send("/fleet", "fine", "11"), (200, 1));
    // The bucket in front sheds what the service would have to answer.
    let both: Vec<_> = (12..16).map(|id| send("/both", "fine", &id.to_string())).collect();
    assert_eq!(both, [(200, 1), (200, 1), (429, 0), (429, 0)]);
    let details = details(&running.envoy, 16);
    assert_eq!(details["9"], "request_rate_limited");
    assert_eq!(details["15"], "local_rate_limited");
}
