//! What was chosen stays chosen, whatever is rewritten: each way to tell Envoy, under virtual hosts with domains and routes
//! with prefixes; two filters in one chain; settings of single routes; a destination without healthy endpoints.

use serde_json::{Value, json};

use crate::pair::{Answer, Listener, Request, Sender, SideBySide, lua, marker, native, plugin};
use crate::support::case::yaml;
use crate::support::envoy::native::is_native;

const POLICY: &str = r#"
http:
- {match: [{uri: {prefix: /api/}}], rewrite: {uri: /}}
- {match: [{uri: {pathPrefix: /host}}], rewrite: {authority: backend.internal}, route: [{destination: {cluster: v2}}]}
- {match: [{uri: {pathPrefix: /set}}], headers: {request: {set: {host: backend.internal}}}, route: [{destination: {cluster: v2}}]}
- {match: [{uri: {pathPrefix: /arm}}], route: [{destination: {cluster: v2}, headers: {request: {set: {host: backend.internal}}}}]}
- {match: [{uri: {pathPrefix: /both}}], rewrite: {uri: /x, authority: backend.internal}, route: [{destination: {cluster: v2}}]}
- {match: [{uri: {pathPrefix: /own}}], rewrite: {uri: /x, authority: backend.internal}}
- {match: [{uri: {pathPrefix: /drop}}], headers: {request: {remove: [x-canary]}}}
"#;

/// Envoy's own routes, behind the one that reads the choice; each says that its settings hold.
fn routes(header_route: Value) -> Value {
    let settings = json!([{"header": {"key": "x-settings", "value": "own"}}]);
    let own = |mut matched: Value, prefix: &str, cluster: &str| {
        matched["prefix"] = prefix.into();
        json!({"match": matched, "route": {"cluster": cluster}, "response_headers_to_add": settings})
    };
    json!([
        {"match": {"prefix": "/", "headers": [{"name": "x-meshfilter-cluster", "present_match": true}]}, "route": header_route},
        own(json!({}), "/api/", "v1"),
        own(json!({}), "/own", "v1"),
        own(json!({"headers": [{"name": "x-canary", "present_match": true}]}), "/drop", "v1"),
        own(json!({}), "/", "fallback"),
    ])
}

fn host(domain: &str, routes: Value) -> Value {
    json!({"name": "host", "domains": [domain], "routes": routes})
}

fn policy() -> Value {
    yaml(POLICY).unwrap()
}

fn send(client: &mut Sender, path: &str, headers: &[(&str, &str)]) -> Answer {
    client.send(&Request::new("GET", path, headers), "choice")
}

/// Who answered, at which host and path, and with whose settings.
fn outcome(answer: &Answer) -> String {
    let seen: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let headers = seen["headers"].as_array().cloned().unwrap_or_default();
    let header = |name: &str| {
        let values = headers.iter().filter(|header| header[0] == name);
        values.map(|header| header[1].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>().join("|")
    };
    let upstream = answer.header("x-upstream").unwrap_or("nobody");
    let settings = answer.header("x-settings").unwrap_or("none");
    let path = seen["path"].as_str().unwrap_or_default();
    let original = format!("{}{}", header("x-envoy-original-host"), header("x-envoy-original-path"));
    format!("{} {upstream} {} {path} settings={settings} was={original}", answer.status, header(":authority"))
}

#[test]
fn a_rewrite_does_not_move_the_choice() {
    let cluster = json!({"cluster_header": "x-meshfilter-cluster"});
    let with_host =
        json!({"cluster_header": "x-meshfilter-cluster", "host_rewrite_header": "x-meshfilter-authority"});
    let running = SideBySide::start(&[
        Listener {
            name: "here",
            filters: vec![plugin("here", &policy())],
            virtual_host: host("*", routes(cluster.clone())),
        },
        Listener {
            name: "route",
            filters: vec![marker("route"), plugin("route", &policy())],
            virtual_host: host("example.com", routes(with_host)),
        },
        Listener {
            name: "filter",
            filters: vec![marker("filter"), plugin("filter", &policy()), lua()],
            virtual_host: host("example.com", routes(cluster)),
        },
    ]);
    for (path, headers, expected) in [
        ("/api/x?q", &[][..], "200 v1 example.com /x?q settings=OWN was=/api/x?q"),
        ("/host/x", &[], "200 v2 backend.internal /host/x settings=none was=example.com"),
        ("/set/x", &[], "200 v2 backend.internal /set/x settings=none was=example.com"),
        ("/arm/x", &[], "200 v2 backend.internal /arm/x settings=none was=example.com"),
        ("/both/x", &[], "200 v2 backend.internal /x/x settings=none was=example.com/both/x"),
        ("/own/x", &[], "200 v1 backend.internal /x/x settings=OWN was=example.com/own/x"),
        ("/drop", &[("x-canary", "1")], "200 DROP example.com /drop settings=own was="),
        ("/drop", &[], "200 fallback example.com /drop settings=own was="),
        ("/other", &[], "200 fallback example.com /other settings=own was="),
    ] {
        for (way, own, drop) in
            [("here", "none", "fallback"), ("route", "none", "fallback"), ("filter", "own", "v1")]
        {
            // With a pinned cluster the settings of Envoy's route are not kept, and what chose it by a removed header neither:
            // that is what the filter behind is for. A native module keeps the route by itself.
            let (own, drop) = if is_native() { ("own", "v1") } else { (own, drop) };
            let expected = expected.replace("OWN", own).replace("DROP", drop);
            let answer = send(&mut running.client(way), path, headers);
            let log = || running.envoy.log();
            assert_eq!(outcome(&answer), expected, "{way} {path}: {answer:?}\n{}", log());
        }
    }
    // A client that names the cluster of its dreams has chosen nothing, and its forgery is not taken for Envoy's choice.
    for way in ["here", "route", "filter"] {
        let forged = [("x-meshfilter-cluster", "mirror"), ("x-meshfilter-authority", "evil")];
        let answer = send(&mut running.client(way), "/api/x", &forged);
        let outcome = outcome(&answer);
        assert!(!outcome.contains("mirror") && !outcome.contains("evil"), "{way}: {outcome}");
    }
}

#[test]
fn a_later_filter_keeps_what_an_earlier_one_chose() {
    let first = json!({"http": [
        {"match": [{"headers": {"x-to": {"exact": "v2"}}}], "timeout": "3s", "mirror": {"cluster": "mirror"},
         "route": [{"destination": {"cluster": "v2"}}]},
    ]});
    let second = json!({
        "http": [{"match": [{"headers": {"x-no": {}}}], "timeout": "1s"}],
        "rateLimits": [{"tokenBucket": {"maxTokens": 1000, "fillInterval": "1s"}}],
    });
    let mut host = crate::pair::ours();
    host["request_headers_to_remove"] = json!([]);
    let running = SideBySide::start(&[Listener {
        name: "two",
        filters: vec![plugin("first", &first), plugin("second", &second)],
        virtual_host: host,
    }]);
    let mut client = running.client("two");
    let chosen = send(&mut client, "/", &[("x-to", "v2")]);
    assert!(outcome(&chosen).starts_with("200 v2 "), "{chosen:?}");
    assert!(chosen.body.contains(r#"["x-envoy-expected-rq-timeout-ms","3000"]"#), "{chosen:?}");
    let copied = || (!running.seen("mirror").is_empty()).then_some(());
    crate::support::envoy::wait_until("the copy", copied).unwrap();
    for name in ["x-meshfilter-cluster", "x-meshfilter-mirror-cluster", "x-envoy-upstream-rq-timeout-ms"] {
        let forged = send(&mut client, "/", &[(name, "v1")]);
        assert!(outcome(&forged).starts_with("200 fallback "), "{name}: {forged:?}");
        assert!(!forged.body.contains("x-meshfilter-cluster"), "{name}: {forged:?}");
    }
}

/// What `docs/routing.md` warns of, and the pattern that it shows.
#[test]
fn settings_of_a_route_hold_where_it_has_a_twin_that_reads_the_choice() {
    let policy = json!({"http": [{"match": [{"headers": {"x-to": {"exact": "v2"}}}], "route": [{"destination": {"cluster": "v2"}}]}]});
    let deny = json!({"envoy.filters.http.rbac": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
        "rbac": {"rules": {"action": "DENY", "policies": {"nobody": {"permissions": [{"any": true}], "principals": [{"any": true}]}}}},
    }});
    let chosen = json!([{"name": "x-meshfilter-cluster", "present_match": true}]);
    let by_header = json!({"cluster_header": "x-meshfilter-cluster"});
    let twin = json!({"match": {"prefix": "/admin", "headers": chosen}, "route": by_header, "typed_per_filter_config": deny});
    let rest = [
        json!({"match": {"prefix": "/", "headers": chosen}, "route": by_header}),
        json!({"match": {"prefix": "/admin"}, "route": {"cluster": "v1"}, "typed_per_filter_config": deny}),
        json!({"match": {"prefix": "/"}, "route": {"cluster": "v1"}}),
    ];
    let rbac = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"});
    let listener = |name: &'static str, routes: Vec<Value>| Listener {
        name,
        filters: vec![plugin(name, &policy), native("envoy.filters.http.rbac", rbac.clone())],
        virtual_host: host("*", Value::Array(routes)),
    };
    let with_twin = [&[twin][..], &rest].concat();
    let running = SideBySide::start(&[listener("alone", rest.to_vec()), listener("twin", with_twin)]);
    for (listener, headers, expected) in [
        ("alone", &[][..], 403),
        // The warning: the settings of /admin are those of a route that is not taken.
        ("alone", &[("x-to", "v2")], 200),
        ("twin", &[], 403),
        ("twin", &[("x-to", "v2")], 403),
    ] {
        let answer = send(&mut running.client(listener), "/admin/x", headers);
        assert_eq!(answer.status, expected, "{listener} {headers:?}: {answer:?}");
        let elsewhere = send(&mut running.client(listener), "/", headers);
        assert_eq!(elsewhere.status, 200, "{listener} {headers:?}: {elsewhere:?}");
    }
}

#[test]
fn a_destination_without_healthy_endpoints_falls_back_to_the_next_of_an_aggregate_cluster() {
    let dead = json!({"name": "dead", "type": "STATIC", "load_assignment": {"cluster_name": "dead", "endpoints": []}});
    // Somebody listens there and answers no health check.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ill = crate::support::envoy::cluster("ill", silent.local_addr().unwrap());
    ill["common_lb_config"] = json!({"healthy_panic_threshold": {"value": 0}});
    ill["health_checks"] = json!([{
        "timeout": "0.1s", "interval": "0.1s", "no_traffic_interval": "0.1s", "unhealthy_threshold": 1,
        "healthy_threshold": 1, "http_health_check": {"path": "/healthz"},
    }]);
    let aggregate = |name: &str, clusters: [&str; 2]| {
        json!({"name": name, "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "1s", "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": clusters,
            },
        }})
    };
    let policy = json!({"http": [
        {"match": [{"uri": {"prefix": "/dead"}}], "route": [{"destination": {"host": "dead"}}]},
        {"match": [{"uri": {"exact": "/ill"}}], "route": [{"destination": {"host": "ill"}}]},
        {"match": [{"uri": {"exact": "/ill-else"}}], "route": [{"destination": {"host": "ill-else-v2"}}]},
        {"match": [{"uri": {"prefix": "/alive"}}], "route": [{"destination": {"host": "v1-else-v2"}}]},
        {"route": [{"destination": {"host": "dead-else-v2"}}]},
    ]});
    let running = SideBySide::start_with(
        &[Listener {
            name: "ours",
            filters: vec![plugin("ours", &policy)],
            virtual_host: crate::pair::ours(),
        }],
        vec![
            dead,
            ill,
            aggregate("dead-else-v2", ["dead", "v2"]),
            aggregate("ill-else-v2", ["ill", "v2"]),
            aggregate("v1-else-v2", ["v1", "v2"]),
        ],
    );
    let mut client = running.client("ours");
    assert_eq!(send(&mut client, "/dead", &[]).status, 503);
    assert!(outcome(&send(&mut client, "/alive", &[])).starts_with("200 v1 "));
    assert!(outcome(&send(&mut client, "/", &[])).starts_with("200 v2 "));
    assert_eq!(send(&mut client, "/ill", &[]).status, 503);
    assert!(outcome(&send(&mut client, "/ill-else", &[])).starts_with("200 v2 "));
}
