//! What one can see of an imported mesh: Istio's queries and alerts in a real Prometheus, spans at collectors of every kind.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::Import;
use crate::grpc::{self, Reply};
use crate::support::case::yaml;
use crate::support::envoy::wait_until;
use crate::support::http::Upstream;
use crate::support::prometheus::{ALERTS, Prometheus};
use crate::tls::plain;
use crate::traffic::tempfile;

const MESH: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: ['*']
  http:
  - {match: [{uri: {prefix: /reviews}}], route: [{destination: {host: reviews, subset: v3}}]}
  - {route: [{destination: {host: productpage}}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/closed]}}]}]}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: tags}
spec:
  metrics:
  - providers: [{name: prometheus}]
    overrides:
    - match: {metric: REQUEST_COUNT}
      tagOverrides: {tenant: {value: \"request.headers['x-tenant']\"}}
";

/// So often each is asked for in a round.
const ROUND: [(&str, u16, usize); 4] =
    [("/reviews/1", 200, 5), ("/productpage", 200, 3), ("/productpage/fail", 503, 2), ("/closed", 403, 1)];

/// What people ask, and how many samples they get.
const QUERIES: [(&str, usize); 6] = [
    (
        r#"istio_requests_total{destination_service="reviews.default.svc.cluster.local", destination_version="v3"}"#,
        1,
    ),
    (r#"istio_requests_total{destination_service=~"productpage.*", response_code="503"}"#, 1),
    (r#"istio_requests_total{tenant="acme"}"#, 1),
    (r#"sum(rate(istio_requests_total{response_code=~"5.*"}[5m])) / sum(rate(istio_requests_total[5m]))"#, 1),
    (
        "histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket[5m])) by (le, destination_service))",
        3,
    ),
    ("sum(rate(istio_requests_total[5m])) by (destination_service_name, response_code)", 4),
];

#[test]
fn istio_s_queries_and_alerts_find_what_was_sent() {
    let upstream = |name: &str| {
        let answer = |path: &[u8]| if path.ends_with(b"fail") { b"503".to_vec() } else { b"200".to_vec() };
        Upstream::start(name, move |seen| (vec![(":status".to_owned(), answer(&seen.path))], Vec::new()))
            .unwrap()
    };
    let (reviews, productpage) = (upstream("reviews"), upstream("productpage"));
    let envoy = Import::new(MESH)
        .endpoint("reviews|v3", &[reviews.address()])
        .endpoint("productpage", &[productpage.address()])
        .start(&tempfile());
    let address = envoy.address().unwrap();
    let configuration = json!({
        "global": {"scrape_interval": "250ms", "evaluation_interval": "250ms"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{
            "job_name": "envoy-stats",
            "metrics_path": "/stats/prometheus",
            "static_configs": [{"targets": [envoy.admin_address().to_string()]}],
        }],
    });
    let rules: Value = yaml(ALERTS).unwrap();
    let prometheus =
        Prometheus::start(&[("prometheus.yaml", &configuration), ("rules.yaml", &rules)]).unwrap();
    let api = prometheus.api();
    // The first round makes the series, the second is what they grow by.
    let all: usize = ROUND.iter().map(|(_, _, count)| count).sum();
    for round in 1..=2 {
        for (path, status, count) in ROUND {
            for _ in 0..count {
                let tenant = if path == "/reviews/1" { "acme" } else { "other" };
                assert_eq!(
                    plain(address, "shop", path, &[("x-tenant", tenant)]).unwrap().status,
                    status,
                    "{path}"
                );
            }
        }
        wait_until("Prometheus sees the requests", || {
            (api.number("sum(istio_requests_total)").ok()? == (round * all) as f64).then_some(())
        })
        .unwrap();
    }
    for (query, samples) in QUERIES {
        let found = api.query(query).unwrap();
        assert_eq!(found.len(), samples, "{query}: {found:#?}");
        assert!(found.iter().any(|sample| sample.value > 0.0), "{query}: {found:?}");
    }
    let firing = || {
        let found = api.query(r#"ALERTS{alertstate="firing"}"#).unwrap();
        found.iter().map(|sample| sample.label("alertname").to_owned()).collect::<Vec<_>>()
    };
    wait_until("the alert fires", || firing().contains(&"IstioHighErrorRate".to_owned()).then_some(()))
        .unwrap();
    assert_eq!(firing(), ["IstioHighErrorRate"]);
}

const OPERATOR: &str = "\
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  meshConfig:
    enableTracing: true
    defaultConfig: {tracing: {sampling: 100.0, zipkin: {address: jaeger-collector.istio-system:9411}}}
";

fn providers(protocol: &str) -> String {
    format!(
        "\
apiVersion: istio.io/v1alpha1
kind: MeshConfig
extensionProviders:
- {{name: spans, opentelemetry: {{service: collector.monitoring.svc.cluster.local, {protocol}}}}}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: spans}}
spec:
  tracing:
  - providers: [{{name: spans}}]
    randomSamplingPercentage: 100
    customTags: {{team: {{literal: {{value: payments}}}}, client: {{header: {{name: x-client, defaultValue: nobody}}}}}}
"
    )
}

/// A path, and what was sent there.
type Call = (String, Vec<u8>);

type Received<'a> = Box<dyn Fn() -> Vec<Call> + 'a>;

#[test]
fn collectors_get_spans_over_zipkin_grpc_and_http() {
    let app = Upstream::echo("app").unwrap();
    let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
    let seen = calls.clone();
    let over_grpc = grpc::serve(move |path, message| {
        seen.lock().unwrap().push((path.to_owned(), message.to_vec()));
        Reply::Message(Vec::new())
    });
    let collector = || {
        Upstream::start("collector", |_| (vec![(":status".to_owned(), b"202".to_vec())], Vec::new())).unwrap()
    };
    let (zipkin, over_http) = (collector(), collector());
    let has = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let route = "---\nkind: VirtualService\nmetadata: {name: app}\nspec: {hosts: [app], http: [{route: [{destination: {host: app}}]}]}\n";
    let of = |collector: &Upstream| -> Vec<Call> {
        let seen = collector.seen().into_iter();
        seen.map(|seen| (String::from_utf8_lossy(&seen.path).into_owned(), seen.body)).collect()
    };
    let cases: [(String, &str, std::net::SocketAddr, &str, Received<'_>); 3] = [
        (
            OPERATOR.to_owned(),
            "jaeger-collector.istio-system",
            zipkin.address(),
            "/api/v2/spans",
            Box::new(|| of(&zipkin)),
        ),
        (
            providers("port: 4317"),
            "collector.monitoring",
            over_grpc,
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Box::new(|| calls.lock().unwrap().clone()),
        ),
        (
            providers("port: 4318, http: {path: otlp/traces}"),
            "collector.monitoring",
            over_http.address(),
            "/otlp/traces",
            Box::new(|| of(&over_http)),
        ),
    ];
    for (mesh, name, at, path, received) in cases {
        let yaml = format!("{mesh}{route}");
        let import = Import::new(&yaml).endpoint("app", &[app.address()]).endpoint(name, &[at]);
        let envoy = import.start(&tempfile());
        let headers = [("x-client", "mobile-7")];
        assert_eq!(plain(envoy.address().unwrap(), "app", "/traced", &headers).unwrap().status, 200);
        let (asked, body) = wait_until("a span", || received().into_iter().next())
            .unwrap_or_else(|error| panic!("{error}: {path}\n{}", envoy.log()));
        assert_eq!(asked, path);
        assert!(has(&body, "/traced"), "{path}: {}", String::from_utf8_lossy(&body));
        for tag in ["payments", "mobile-7"].iter().filter(|_| !path.starts_with("/api")) {
            assert!(has(&body, tag), "{path}: {tag}");
        }
    }
}
