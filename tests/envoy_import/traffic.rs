//! DestinationRule, Telemetry and MeshConfig: pools, outliers, hashes, labels, spans.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::Import;
use crate::support::envoy::wait_until;
use crate::support::http::Upstream;
use crate::tls::plain;

const MESH: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: hosts}
spec:
  hosts: ['*']
  http:
  - {match: [{uri: {prefix: /pool}}], route: [{destination: {host: pool}}]}
  - {match: [{uri: {prefix: /outlier}}], route: [{destination: {host: outlier}}]}
  - {match: [{uri: {prefix: /hash}}], route: [{destination: {host: hash}}]}
  - {match: [{uri: {prefix: /cookie}}], route: [{destination: {host: hash, subset: cookie}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: pool}
spec:
  host: pool
  trafficPolicy: {connectionPool: {tcp: {maxConnections: 2}, http: {http1MaxPendingRequests: 1}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: outlier}
spec:
  host: outlier
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    outlierDetection: {consecutive5xxErrors: 2, interval: 0.1s, baseEjectionTime: 0.5s, maxEjectionPercent: 100}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: hash}
spec:
  host: hash
  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}
  subsets:
  - name: cookie
    labels: {version: v1}
    trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: arm, ttl: 60s}}}}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: tags, namespace: istio-system}
spec:
  metrics:
  - providers: [{name: prometheus}]
    overrides:
    - match: {metric: ALL_METRICS}
      tagOverrides: {team: {value: \"request.headers['x-team']\"}}
---
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  meshConfig:
    enableTracing: true
    defaultConfig: {tracing: {sampling: 100.0, zipkin: {address: 'jaeger-collector.istio-system:9411'}}}
";

/// Whoever waits here goes on when it is opened.
#[derive(Default)]
pub struct Gate(Mutex<bool>, Condvar);

impl Gate {
    pub fn wait(&self) {
        let mut open = self.0.lock().unwrap();
        while !*open {
            open = self.1.wait(open).unwrap();
        }
    }

    pub fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

#[test]
fn traffic_is_carried_as_the_rules_say() {
    let gate = Arc::new(Gate::default());
    let waiting = gate.clone();
    let pool = Upstream::start("pool", move |_| {
        waiting.wait();
        (Vec::new(), Vec::new())
    })
    .unwrap();
    let broken = Arc::new(AtomicBool::new(true));
    let failed = Arc::new(AtomicUsize::new(0));
    let (is_broken, failures) = (broken.clone(), failed.clone());
    let bad = Upstream::start("bad", move |_| {
        failures.fetch_add(1, Ordering::SeqCst);
        let status: &[u8] = if is_broken.load(Ordering::SeqCst) { b"500" } else { b"200" };
        (
            vec![(":status".to_owned(), status.to_vec()), ("x-upstream".to_owned(), b"bad".to_vec())],
            Vec::new(),
        )
    })
    .unwrap();
    let good = Upstream::echo("good").unwrap();
    let hashed = ["h1", "h2", "h3"].map(|name| Upstream::echo(name).unwrap());
    let hashed_at: Vec<_> = hashed.iter().map(Upstream::address).collect();
    let collector =
        Upstream::start("spans", |_| (vec![(":status".to_owned(), b"202".to_vec())], Vec::new())).unwrap();
    let folder = tempfile();
    let envoy = Import::new(MESH)
        .endpoint("pool", &[pool.address()])
        .endpoint("outlier.default", &[bad.address(), good.address()])
        .endpoint("hash.default.svc.cluster.local", &hashed_at)
        .endpoint("hash|cookie", &hashed_at)
        .endpoint("jaeger-collector.istio-system", &[collector.address()])
        .start(&folder);
    let address = envoy.address().unwrap();

    // Two connections, one request that waits, and none more.
    let cluster = "cluster.pool_default_svc_cluster_local";
    let mut holding = Vec::new();
    // One after the other: whoever waits for a connection that is being made waits, too.
    for (active, pending) in [(1, 0), (2, 0), (2, 1)] {
        holding.push(thread::spawn(move || plain(address, "any", "/pool", &[]).unwrap().status));
        wait_until("two under way and one that waits", || {
            let at = |name: &str| envoy.stat(&format!("{cluster}.{name}"));
            let found = (at("upstream_cx_active"), at("upstream_rq_pending_active"));
            (found == (active, pending)).then_some(())
        })
        .unwrap();
    }
    let refused = plain(address, "any", "/pool", &[]).unwrap();
    assert_eq!((refused.status, envoy.stat(&format!("{cluster}.upstream_rq_pending_overflow"))), (503, 1));
    gate.open();
    let answers: Vec<u16> = holding.into_iter().map(|request| request.join().unwrap()).collect();
    assert_eq!(answers, [200, 200, 200]);
    assert_eq!(envoy.stat(&format!("{cluster}.upstream_cx_total")), 2);

    // Who fails is left alone, and comes back.
    let ejected =
        || envoy.stat("cluster.outlier_default_svc_cluster_local.outlier_detection.ejections_active");
    wait_until("it is left alone", || {
        plain(address, "any", "/outlier", &[]).unwrap();
        (ejected() == 1).then_some(())
    })
    .unwrap();
    broken.store(false, Ordering::SeqCst);
    wait_until("it comes back", || {
        plain(address, "any", "/outlier", &[]).unwrap();
        (ejected() == 0).then_some(())
    })
    .unwrap();
    let before = failed.load(Ordering::SeqCst);
    wait_until("it is asked again", || {
        plain(address, "any", "/outlier", &[]).unwrap();
        (failed.load(Ordering::SeqCst) > before).then_some(())
    })
    .unwrap();

    // A user keeps a server, and so does a cookie; there are several of them.
    let at = |headers: &[(&str, &str)], path| {
        let answer = plain(address, "any", path, headers).unwrap();
        (answer.header("x-upstream").unwrap(), answer.header("set-cookie"))
    };
    let mut used = BTreeSet::new();
    for user in 0..20 {
        let user = format!("user-{user}");
        let first = at(&[("x-user", &user)], "/hash").0;
        for _ in 0..3 {
            assert_eq!(at(&[("x-user", &user)], "/hash").0, first, "{user}");
        }
        used.insert(first);
    }
    assert!(used.len() > 1, "{used:?}");
    let (first, cookie) = at(&[], "/cookie");
    let cookie = cookie.unwrap();
    let cookie = cookie.split(';').next().unwrap();
    assert!(cookie.starts_with("arm="), "{cookie}");
    for _ in 0..5 {
        assert_eq!(at(&[("cookie", cookie)], "/cookie"), (first.clone(), None));
    }

    // Istio's names, with the tag; and spans.
    at(&[("x-user", "x"), ("x-team", "blue")], "/hash");
    wait_until("the counter", || {
        let found = envoy.prometheus().into_iter().any(|(series, count)| {
            let told = format!("{series:?}");
            count > 0
                && told.contains("istio_requests_total")
                && told.contains("blue")
                && told.contains("hash.default.svc.cluster.local")
        });
        found.then_some(())
    })
    .unwrap();
    wait_until("spans", || collector.seen().iter().any(|seen| seen.path == b"/api/v2/spans").then_some(()))
        .unwrap();
}

/// A folder of this test's own.
pub fn tempfile() -> std::path::PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("meshfilter-import-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
