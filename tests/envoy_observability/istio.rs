//! `metrics: {istio: true}`: the queries, alerts and dashboard expressions that people have for Istio, against a real
//! Prometheus. Of Istio's dashboards the names, labels and shapes are here, with their variables filled in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::support::envoy::{Envoy, Sample, wait_until};
use crate::support::http::{self, Upstream};
use crate::support::prometheus::{ALERTS, Api, Prometheus};

const INTERVAL: &str = "250ms";
const REVIEWS: usize = 12;
const PRODUCTS: usize = 9;
const FAILED: usize = 4;
const REFUSED: usize = 3;
const CALLS: usize = 2;

/// What is sent in a round, to each of the two listeners.
const ROUND: usize = REVIEWS + PRODUCTS + FAILED + REFUSED + CALLS;

const POLICY: &str = r#"
destinations: {clusterName: "outbound|{port}|{subset}|{host}", port: 9080}
authorization:
- name: closed
  action: DENY
  rules: [{to: [{operation: {paths: [/closed]}}]}]
http:
- match: [{uri: {prefix: /reviews}}]
  route: [{destination: {host: reviews.default.svc.cluster.local, subset: v3}}]
- match: [{uri: {prefix: /productpage}}]
  route: [{destination: {host: productpage.default.svc.cluster.local}}]
telemetry:
  metrics: {istio: true}
  tags: [{name: tenant, value: {header: x-tenant}, default: none}]
"#;

/// Istio's documentation and the guides: each with how many samples it finds.
const QUERIES: [(&str, usize); 7] = [
    (r#"istio_requests_total{destination_service="productpage.default.svc.cluster.local"}"#, 4),
    (
        r#"istio_requests_total{destination_service="reviews.default.svc.cluster.local", destination_version="v3"}"#,
        4,
    ),
    (r#"rate(istio_requests_total{destination_service=~"productpage.*", response_code="200"}[5m])"#, 2),
    (r#"istio_requests_total{destination_service="reviews.default.svc.cluster.local"}"#, 4),
    (
        "histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket[5m])) by (le, destination_service))",
        3,
    ),
    (r#"sum(rate(istio_requests_total{response_code=~"5.*"}[5m])) / sum(rate(istio_requests_total[5m]))"#, 1),
    ("sum(rate(istio_requests_total[5m])) by (destination_service_name, response_code)", 4),
];

/// The HTTP expressions of Istio's mesh, service and workload dashboards.
const DASHBOARDS: [&str; 18] = [
    r#"round(sum(rate(istio_requests_total{reporter=~"source|waypoint"}[1m])), 0.01)"#,
    r#"sum(rate(istio_requests_total{reporter=~"source|waypoint", response_code!~"5.."}[1m])) / sum(rate(istio_requests_total{reporter=~"source|waypoint"}[1m]))"#,
    r#"round(sum(rate(istio_requests_total{reporter=~"source|waypoint", response_code=~"4.."}[1m])), 0.01) or vector(0)"#,
    r#"round(sum(rate(istio_requests_total{reporter=~"source|waypoint", response_code=~"5.."}[1m])), 0.01) or vector(0)"#,
    r#"label_join(sum(rate(istio_requests_total{reporter=~"source|waypoint"}[1m])) by (destination_workload, destination_workload_namespace, destination_service), "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")"#,
    r#"label_join(histogram_quantile(0.9, sum(rate(istio_request_duration_milliseconds_bucket{reporter=~"source|waypoint"}[1m])) by (le, destination_workload, destination_workload_namespace)), "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")"#,
    r#"round(sum(irate(istio_requests_total{reporter=~"source", destination_service="SERVICE"}[1m])), 0.001)"#,
    r#"sum(irate(istio_requests_total{reporter=~"source", destination_service="SERVICE", response_code!~"5.*"}[1m])) / (sum(irate(istio_requests_total{reporter=~"source", destination_service="SERVICE"}[1m])) or on () vector(1))"#,
    r#"(histogram_quantile(0.50, sum(irate(istio_request_duration_milliseconds_bucket{reporter=~"source", destination_service="SERVICE"}[1m])) by (le)) / 1000) or histogram_quantile(0.50, sum(irate(istio_request_duration_seconds_bucket{reporter=~"source", destination_service="SERVICE"}[1m])) by (le))"#,
    r#"round(sum(irate(istio_requests_total{reporter="destination", destination_service="SERVICE"}[1m])), 0.001)"#,
    r#"sum(irate(istio_requests_total{reporter="destination", destination_service="SERVICE", response_code!~"5.*"}[1m])) / (sum(irate(istio_requests_total{reporter="destination", destination_service="SERVICE"}[1m])) or on () vector(1))"#,
    r#"(histogram_quantile(0.99, sum(irate(istio_request_duration_milliseconds_bucket{reporter="destination", destination_service="SERVICE"}[1m])) by (le)) / 1000) or histogram_quantile(0.99, sum(irate(istio_request_duration_seconds_bucket{reporter="destination", destination_service="SERVICE"}[1m])) by (le))"#,
    r#"round(sum(irate(istio_requests_total{connection_security_policy!="mutual_tls", destination_service=~"SERVICE", reporter=~"destination", source_workload=~"unknown", source_workload_namespace=~"unknown"}[1m])) by (source_workload, source_workload_namespace, response_code), 0.001)"#,
    r#"sum(irate(istio_requests_total{reporter=~"destination", connection_security_policy!="mutual_tls", destination_service=~"SERVICE", response_code!~"5.*", source_workload=~"unknown", source_workload_namespace=~"unknown"}[1m])) by (source_workload, source_workload_namespace) / sum(irate(istio_requests_total{reporter=~"destination", connection_security_policy!="mutual_tls", destination_service=~"SERVICE", source_workload=~"unknown", source_workload_namespace=~"unknown"}[1m])) by (source_workload, source_workload_namespace)"#,
    r#"round(sum(irate(istio_requests_total{connection_security_policy!="mutual_tls", destination_service=~"SERVICE", reporter="destination", destination_workload=~"unknown", destination_workload_namespace=~"default"}[1m])) by (destination_workload, destination_workload_namespace, response_code), 0.001)"#,
    r#"round(sum(irate(istio_requests_total{reporter=~"source", destination_workload_namespace=~"default", destination_workload=~"unknown", destination_service=~"SERVICE"}[1m])) by (destination_service, response_code), 0.001)"#,
    r#"sum(istio_requests_total{reporter=~"source", destination_service="SERVICE"}) by (source_workload_namespace)"#,
    r#"sum(istio_requests_total{reporter="destination", destination_workload_namespace=~"default", destination_service_name=~"reviews", request_protocol="http"}) by (source_principal)"#,
];

/// Envoy's own, which are Istio's.
const BOUNDS: [f64; 20] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
    f64::INFINITY,
];

struct Scene {
    envoy: Envoy,
    prometheus: Prometheus,
    addresses: BTreeMap<String, SocketAddr>,
    _upstreams: [Upstream; 2],
}

impl Scene {
    /// The sample with this policy, behind a listener that says nothing of its direction, as a gateway's, and one that
    /// is a sidecar's inbound one.
    fn start() -> Self {
        let failing = |name| {
            Upstream::start(name, |seen| {
                let status = if seen.path.ends_with(b"fail") { "503" } else { "200" };
                (vec![(":status".to_owned(), status.as_bytes().to_vec())], Vec::new())
            })
            .unwrap()
        };
        let upstreams = [failing("reviews"), failing("productpage")];
        let mut sample = Sample::new(&[
            ("outbound|9080|v3|reviews.default.svc.cluster.local", upstreams[0].address()),
            ("outbound|9080||productpage.default.svc.cluster.local", upstreams[1].address()),
            ("default", upstreams[1].address()),
        ])
        .unwrap();
        *sample.policy().unwrap() = crate::support::case::yaml(POLICY).unwrap();
        let listeners = sample.bootstrap()["static_resources"]["listeners"].as_array_mut().unwrap();
        let mut inbound = listeners[0].clone();
        inbound["name"] = "inbound".into();
        inbound["traffic_direction"] = "INBOUND".into();
        inbound["filter_chains"][0]["filters"][0]["typed_config"]["access_log"] = json!([]);
        listeners.push(inbound);
        let envoy = sample.start(2).unwrap();
        let addresses = envoy.addresses().unwrap();
        assert_eq!(addresses.len(), 2);
        let configuration = json!({
            "global": {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{
                "job_name": "envoy-stats",
                "metrics_path": "/stats/prometheus",
                "static_configs": [{"targets": [envoy.admin_address().to_string()]}],
            }],
        });
        let rules: Value = crate::support::case::yaml(ALERTS).unwrap();
        let prometheus =
            Prometheus::start(&[("prometheus.yaml", &configuration), ("rules.yaml", &rules)]).unwrap();
        Scene { envoy, prometheus, addresses, _upstreams: upstreams }
    }

    fn round(&self) {
        for address in self.addresses.values() {
            let send = |count: usize, path: &str, headers: &[(&str, &str)], status: u16| {
                for _ in 0..count {
                    assert_eq!(http::request(*address, path, headers).unwrap().status, status, "{path}");
                }
            };
            send(REVIEWS, "/reviews/1", &[("x-tenant", "acme")], 200);
            send(PRODUCTS, "/productpage", &[], 200);
            send(FAILED, "/productpage/fail", &[], 503);
            send(REFUSED, "/closed", &[], 403);
            send(CALLS, "/reviews/call", &[("content-type", "application/grpc")], 200);
        }
    }

    fn wait_for(&self, count: usize) {
        let api = self.prometheus.api();
        for query in ["sum(istio_requests_total)", "sum(istio_request_duration_milliseconds_count)"] {
            let seen = wait_until("Prometheus sees the requests", || {
                (api.number(query).ok()? == count as f64).then_some(())
            });
            seen.unwrap_or_else(|error| {
                panic!("{error}: {query} is {:?}\n{}", api.query(query), self.envoy.log())
            });
        }
    }
}

#[test]
fn what_people_have_for_istio_finds_what_was_sent() {
    let scene = Scene::start();
    let api = scene.prometheus.api();
    // The first round makes the series, the second is what they grow by.
    scene.round();
    scene.wait_for(2 * ROUND);
    scene.round();
    scene.wait_for(4 * ROUND);

    let count = |selector: &str| api.number(&format!("sum(istio_requests_total{{{selector}}})")).unwrap();
    for (selector, expected) in [
        (r#"reporter="source""#, ROUND),
        (r#"reporter="destination""#, ROUND),
        (
            r#"reporter="source", destination_service="reviews.default.svc.cluster.local", destination_version="v3""#,
            REVIEWS + CALLS,
        ),
        (
            r#"reporter="source", request_protocol="grpc", destination_service_name="reviews", destination_service_namespace="default""#,
            CALLS,
        ),
        (
            r#"reporter="source", destination_service_name="productpage", destination_version="unknown", response_code="503""#,
            FAILED,
        ),
        (r#"reporter="source", destination_service="unknown", response_code="403""#, REFUSED),
        (r#"reporter="destination", connection_security_policy="none""#, ROUND),
        (r#"reporter="source", connection_security_policy="unknown""#, ROUND),
        (r#"reporter="source", tenant="acme""#, REVIEWS),
        (r#"reporter="source", source_principal="unknown""#, ROUND),
    ] {
        assert_eq!(count(selector), 2.0 * expected as f64, "{selector}");
    }
    assert_eq!(api.query("meshfilter_requests_total").unwrap(), []);

    for (query, samples) in QUERIES {
        let found = api.query(query).unwrap();
        let labels = |sample: &crate::support::prometheus::Sample| format!("{:?}", sample.labels);
        assert_eq!(found.len(), samples, "{query}: {:#?}", found.iter().map(labels).collect::<Vec<_>>());
        assert!(found.iter().any(|sample| sample.value > 0.0), "{query}: {found:?}");
    }
    // What two scrapes one after the other say is told of traffic that goes on.
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                scene.round();
            }
        });
        let found: Vec<_> =
            DASHBOARDS.iter().map(|expression| (expression, finds(api, expression))).collect();
        done.store(true, Ordering::SeqCst);
        for (expression, found) in found {
            found.unwrap_or_else(|error| panic!("{error}: {expression}"));
        }
    });
    bounds_are_istios(api);
    alerts_fire(api);
}

fn finds(api: Api, expression: &str) -> Result<(), String> {
    let query = expression.replace("SERVICE", "reviews.default.svc.cluster.local");
    wait_until("a number", || {
        let found = api.query(&query).ok()?;
        found.iter().any(|sample| sample.value.is_finite()).then_some(())
    })
}

fn bounds_are_istios(api: Api) {
    let found = api.query("sum by (le) (istio_request_duration_milliseconds_bucket)").unwrap();
    let mut found: Vec<f64> = found.iter().map(|sample| sample.label("le").parse().unwrap()).collect();
    found.sort_by(f64::total_cmp);
    assert_eq!(found, BOUNDS);
}

fn alerts_fire(api: Api) {
    let firing = || {
        let found = api.query(r#"ALERTS{alertstate="firing"}"#).unwrap();
        found.iter().map(|sample| sample.label("alertname").to_owned()).collect::<Vec<_>>()
    };
    wait_until("the alert fires", || firing().contains(&"IstioHighErrorRate".to_owned()).then_some(()))
        .unwrap();
    assert_eq!(firing(), ["IstioHighErrorRate"]);
}
