//! Traffic through the sample, and what a real Prometheus says about it: the numbers, the alerts, the dashboard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::dashboard;
use super::sample::{Proxy, Upstreams, bearer, bearer_until};
use crate::support::envoy::native::is_native;
use crate::support::envoy::sample::read;
use crate::support::envoy::{cluster, wait_until};
use crate::support::http::Upstream;
use crate::support::prometheus::{Api, Prometheus};
use crate::support::token;

/// How often Prometheus scrapes and evaluates here.
const INTERVAL: &str = "250ms";

/// How many requests of each kind a round has.
const CANARY: usize = 20;
const PLAIN: usize = 40;
const NO_TOKEN: usize = 3;
const EXPIRED: usize = 2;
const NO_ROLE: usize = 4;
const FAULTY: usize = 12;
/// Of a bucket of 10.
const LIMITED: usize = 5;
const BUCKET: usize = 10;

/// What every request of the fault entry waits.
const DELAY: Duration = Duration::from_millis(300);

/// The proxy with the sample's policy, a limit that is soon empty, and an issuer that may be gone.
struct Scene {
    proxy: Proxy,
    prometheus: Prometheus,
    issuer_is_up: Arc<AtomicBool>,
    _upstreams: Upstreams,
    _issuer: Upstream,
}

impl Scene {
    fn start() -> Self {
        let upstreams = Upstreams::start();
        let issuer_is_up = Arc::new(AtomicBool::new(true));
        let up = issuer_is_up.clone();
        let issuer = Upstream::start("issuer", move |_| {
            let status = if up.load(Ordering::SeqCst) { "200" } else { "503" };
            let headers = [(":status", status), ("cache-control", "max-age=1")];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
            (headers.to_vec(), token::jwks().to_string().into_bytes())
        })
        .unwrap();

        let mut sample = upstreams.sample();
        sample.cluster(cluster("issuer", issuer.address())).unwrap();
        let policy = sample.policy().unwrap();
        let rules = policy["authentication"]["jwtRules"].as_array_mut().unwrap();
        rules.push(json!({
            "issuer": "https://other.example.com", "jwksUri": "https://other.example.com/jwks", "jwksCluster": "issuer",
            "jwksCacheDuration": "5s",
        }));
        policy["http"][0]["fault"] = json!({
            "delay": {"percentage": {"value": 100}, "fixedDelay": format!("{}ms", DELAY.as_millis())},
            "abort": {"percentage": {"value": 50}, "httpStatus": 500},
        });
        policy["rateLimits"] = json!([
            {"name": "per-user", "key": [{"claim": "sub"}],
             "tokenBucket": {"maxTokens": BUCKET, "tokensPerFill": 1, "fillInterval": "3600s"}},
            {"name": "planned", "mode": "shadow", "key": [{"claim": "sub"}],
             "tokenBucket": {"maxTokens": 1, "tokensPerFill": 1, "fillInterval": "3600s"}},
            // Nobody asks for it; its counters are there all the same.
            {"name": "fleet", "match": [{"uri": {"exact": "/fleet"}}], "global": {
                "cluster": "issuer", "domain": "web",
                "descriptors": [{"entries": [{"key": "limit", "value": {"literal": "everybody"}}]}],
            }},
        ]);
        policy["telemetry"]["tags"][3]["maxValues"] = 4.into();
        assert_eq!(policy["telemetry"]["tags"][3]["name"], "tenant");
        let proxy = Proxy::new(sample.start(2).unwrap());
        let prometheus = Self::prometheus(&proxy);
        Scene { proxy, prometheus, issuer_is_up, _upstreams: upstreams, _issuer: issuer }
    }

    /// Scrapes and judges as the compose file's does, only faster: an alert fires as soon as its expression holds.
    fn prometheus(proxy: &Proxy) -> Prometheus {
        let mut configuration = read("envoy/observability/prometheus.yaml").unwrap();
        configuration["global"] = json!({"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL});
        let target = &mut configuration["scrape_configs"][0]["static_configs"][0]["targets"][0];
        assert_eq!(*target, "proxy:9901");
        *target = proxy.envoy.admin_address().to_string().into();
        let mut rules = read("envoy/observability/rules.yaml").unwrap();
        for rule in alerts(&mut rules) {
            rule.as_object_mut().unwrap().remove("for");
        }
        Prometheus::start(&[("prometheus.yaml", &configuration), ("rules.yaml", &rules)]).unwrap()
    }

    fn api(&self) -> Api {
        self.prometheus.api()
    }

    /// Every kind of request, so many times each. A user's bucket is used up once.
    fn round(&self, name: &str, tenant: &str) {
        let user = |user: &str| bearer(&format!("{name}-{user}"), tenant);
        let role = ("user-role", "user");
        let canary = ("canary", "true");
        let send = |count: usize, path: &str, headers: &[(&str, &str)], status: u16| {
            for _ in 0..count {
                let answer = self.proxy.get(path, headers);
                assert_eq!(answer.status, status, "{path} {headers:?}: {}", answer.text());
            }
        };
        send(CANARY, "/", &[canary], 200);
        send(PLAIN, "/", &[], 200);
        send(NO_TOKEN, "/api/orders", &[], 401);
        send(EXPIRED, "/api/orders", &[("authorization", &bearer_until("late", tenant, "-1h"))], 401);
        send(NO_ROLE, "/api/orders", &[("authorization", &user("no-role"))], 403);
        let heavy = user("heavy");
        send(BUCKET, "/api/orders", &[("authorization", &heavy), role, canary], 200);
        send(LIMITED, "/api/orders", &[("authorization", &heavy), role, canary], 429);
        thread::scope(|scope| {
            for _ in 0..FAULTY {
                scope.spawn(|| self.proxy.get("/", &[("test-fault", "true")]));
            }
        });
    }

    /// Waits until Prometheus has counted so many requests.
    fn wait_for_requests(&self, count: usize) {
        for query in ["sum(meshfilter_requests_total)", "sum(meshfilter_request_duration_milliseconds_count)"]
        {
            let seen = wait_until("Prometheus sees the requests", || {
                (self.api().number(query).ok()? == count as f64).then_some(())
            });
            seen.unwrap_or_else(|error| {
                panic!("{error}: {query} is {:?}\n{}", self.api().query(query), self.prometheus.log())
            });
        }
        // What was counted at the same time may have come a moment later.
        self.wait_for_scrapes(3);
    }

    fn wait_for_scrapes(&self, count: usize) {
        let scrape = || self.api().number("timestamp(up)");
        for _ in 0..count {
            let last = scrape().unwrap();
            wait_until("a scrape", || (scrape().ok()? > last).then_some(())).unwrap();
        }
    }
}

const ROUND: usize = CANARY + PLAIN + NO_TOKEN + EXPIRED + NO_ROLE + BUCKET + LIMITED + FAULTY;

fn alerts(rules: &mut Value) -> impl Iterator<Item = &mut Value> {
    let groups = rules["groups"].as_array_mut().unwrap().iter_mut();
    groups.flat_map(|group| group["rules"].as_array_mut().unwrap().iter_mut())
}

#[test]
fn prometheus_sees_what_was_sent() {
    let scene = Scene::start();
    let api = scene.api();
    // The first round makes the series, the second is what they grow by.
    scene.round("first", "acme");
    scene.wait_for_requests(ROUND);
    let settled = Instant::now();
    let before = format!("@ {}", now(api));
    scene.round("second", "acme");
    scene.wait_for_requests(2 * ROUND);
    let after = format!("@ {}", now(api));

    // Exactly, by the difference of two points in time.
    let grew = |selector: &str| {
        let sum = |at: &str| format!("sum(meshfilter_{selector} {at})");
        let expression = format!("{} - {}", sum(&after), sum(&before));
        api.number(&expression)
            .unwrap_or_else(|error| panic!("{error}; {:?}", api.query(&format!("meshfilter_{selector}"))))
    };
    let faulty = FAULTY as f64;
    for (selector, expected) in [
        (
            r#"requests_total{route="canary-by-header", destination="webapp|v2", decision="allowed", response_code="200"}"#,
            CANARY + BUCKET,
        ),
        (r#"requests_total{route="weighted", decision="allowed"}"#, PLAIN),
        (
            r#"requests_total{decision="authn_denied", response_code="401", route="none", destination="none"}"#,
            NO_TOKEN + EXPIRED,
        ),
        (r#"requests_total{decision="authz_denied", response_code="403"}"#, NO_ROLE),
        (r#"requests_total{decision="rate_limited", response_code="429"}"#, LIMITED),
        (r#"requests_total{tenant="acme"}"#, NO_ROLE + BUCKET + LIMITED),
        (r#"requests_total{tenant="none"}"#, ROUND - NO_ROLE - BUCKET - LIMITED),
        (r#"policy_decisions_total{policy="webapp-authz", decision="denied", mode="enforce"}"#, NO_ROLE),
        (r#"policy_decisions_total{policy="authentication", decision="denied"}"#, NO_TOKEN + EXPIRED),
        (r#"policy_decisions_total{policy="per-user", decision="allowed"}"#, BUCKET),
        (r#"policy_decisions_total{policy="per-user", decision="limited"}"#, LIMITED),
        (r#"policy_decisions_total{policy="planned", decision="limited", mode="shadow"}"#, BUCKET - 1),
        (r#"policy_decisions_total{policy="fault-test", decision="delayed"}"#, FAULTY),
        // The last of ten leaves nothing; so does the only one of one.
        (r#"rate_limit_nearly_empty_total{policy="per-user"}"#, 1),
        (r#"rate_limit_nearly_empty_total{policy="planned"}"#, 1),
        // A user's bucket in each of the two limits.
        ("rate_limit_slots_used", 2),
        (r#"request_duration_milliseconds_count{route="fault-test"}"#, FAULTY),
        (r#"request_duration_milliseconds_count{decision="authz_denied"}"#, NO_ROLE),
    ] {
        assert_eq!(grew(selector), expected as f64, "{selector}");
    }
    let aborted = grew(r#"requests_total{decision="fault_aborted", response_code="500"}"#);
    assert_eq!(grew(r#"policy_decisions_total{decision="aborted"}"#), aborted);
    assert_eq!(
        grew(r#"requests_total{route="fault-test", decision="allowed", response_code="200"}"#),
        faulty - aborted
    );
    // Both workers may be the first to see a token.
    let (hits, misses) = (grew("jwt_cache_hits_total"), grew("jwt_cache_misses_total"));
    assert_eq!(hits + misses, (NO_ROLE + BUCKET + LIMITED) as f64);
    assert!((2.0..=4.0).contains(&misses), "{misses}");

    // As a rate, which Prometheus extrapolates to its window.
    let window = settled.elapsed().as_secs_f64() + 5.0;
    let rate = |selector: &str| {
        api.number(&format!("sum(rate(meshfilter_requests_total{selector}[{}ms]))", (window * 1000.0) as u64))
            .unwrap()
    };
    let allowed = rate(r#"{route="canary-by-header", decision="allowed"}"#) * window;
    assert!((20.0..=70.0).contains(&allowed), "{allowed} in {window} s");
    let share = rate(r#"{decision="rate_limited"}"#) / rate(r#"{decision="authz_denied"}"#);
    // A native module tells what all workers counted at once, and a rate needs what was there before.
    assert!((0.9..=1.5).contains(&share) || is_native(), "{share} should be about {LIMITED}/{NO_ROLE}");

    // The delay is between the bounds 250 and 500, and the rest above.
    let quantile = |q: f64| {
        let buckets = r#"meshfilter_request_duration_milliseconds_bucket{route="fault-test"}"#;
        api.number(&format!("histogram_quantile({q}, sum by (le) ({buckets}))")).unwrap()
    };
    assert!(quantile(0.01) > 250.0, "{}", quantile(0.01));
    assert!(quantile(0.99) >= quantile(0.5) && quantile(0.99).is_finite());

    the_histogram_has_the_bounds_of_the_bootstrap(api);
    the_internal_metrics_say_how_the_filter_is(&scene);
    dashboard::every_query_finds_something(api);
    dashboard::what_the_pages_ask_is_answered(api);
    alerts_fire(&scene);
}

/// Prometheus's own clock.
fn now(api: Api) -> f64 {
    api.number("vector(time())").unwrap()
}

fn the_histogram_has_the_bounds_of_the_bootstrap(api: Api) {
    let bootstrap = read("envoy/envoy.yaml").unwrap();
    let bounds = &bootstrap["stats_config"]["histogram_bucket_settings"][0]["buckets"];
    let mut expected: Vec<f64> = bounds.as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    expected.push(f64::INFINITY);
    let found = api.query("sum by (le) (meshfilter_request_duration_milliseconds_bucket)").unwrap();
    let mut found: Vec<(f64, f64)> =
        found.iter().map(|sample| (sample.label("le").parse().unwrap(), sample.value)).collect();
    found.sort_by(|one, other| one.0.total_cmp(&other.0));
    assert_eq!(found.iter().map(|(bound, _)| *bound).collect::<Vec<_>>(), expected);
    assert!(found.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{found:?}");
    assert_eq!(found.last().unwrap().1, api.number("sum(meshfilter_requests_total)").unwrap());
}

fn the_internal_metrics_say_how_the_filter_is(scene: &Scene) {
    let api = scene.api();
    let number = |query: &str| api.number(query).unwrap();
    assert_eq!(number("meshfilter_rate_limit_slots"), 65536.0);
    assert_eq!(number("meshfilter_rate_limit_displaced_total"), 0.0);
    assert!(number(r#"meshfilter_jwks_fetches_total{destination="issuer", result="success"}"#) >= 1.0);
    assert_eq!(number(r#"sum(meshfilter_jwks_fetches_total{result!="success"})"#), 0.0);
    let age = number(r#"time() - meshfilter_jwks_last_success_timestamp_seconds{destination="issuer"}"#);
    assert!((-1.0..600.0).contains(&age), "{age}");
    assert!(number("meshfilter_cas_retries_total") >= 0.0);
    assert!(number(r#"meshfilter_configuration_version{plugin="meshfilter"}"#) > 0.0);
    if !is_native() {
        assert_eq!(number(r#"{__name__="envoy_wasm_meshfilter_vm_reload_success"}"#), 0.0);
    }

    // While requests wait, the gauge says how many; afterwards none.
    let waiting = |reason: &str| number(&format!("meshfilter_waiting_requests{{reason={reason:?}}}"));
    assert_eq!((waiting("delay"), waiting("keys")), (0.0, 0.0));
    let gauge = || scene.proxy.envoy.stat("wasmcustom.meshfilter_waiting_requests<reason=delay>");
    thread::scope(|scope| {
        let done = Arc::new(AtomicBool::new(false));
        let sends = done.clone();
        scope.spawn(move || {
            while !sends.load(Ordering::SeqCst) {
                scene.proxy.get("/", &[("test-fault", "true")]);
            }
        });
        let seen = wait_until("a request waits", || (gauge() == 1).then_some(()));
        done.store(true, Ordering::SeqCst);
        seen.unwrap();
    });
    wait_until("none waits", || (gauge() == 0).then_some(())).unwrap();
}

/// An issuer that is gone, errors of an upstream, more tenants than there is room for: what they set off, and nothing else.
fn alerts_fire(scene: &Scene) {
    let api = scene.api();
    let firing = || {
        let found = api.query(r#"ALERTS{alertstate="firing"}"#).unwrap();
        let mut names: Vec<String> =
            found.iter().map(|sample| sample.label("alertname").to_owned()).collect();
        names.sort();
        names.dedup();
        names
    };
    scene.issuer_is_up.store(false, Ordering::SeqCst);
    for tenant in ["a", "b", "c", "d", "e"] {
        for _ in 0..4 {
            let token = bearer(&format!("user-{tenant}"), tenant);
            assert_eq!(scene.proxy.get("/", &[("authorization", &token), ("canary", "true")]).status, 200);
        }
    }
    let wanted = ["MeshfilterKeySetFetchesFail", "MeshfilterTagOverflow"];
    wait_until("the alerts fire", || {
        wanted.iter().all(|name| firing().iter().any(|found| found == name)).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", firing(), scene.proxy.envoy.log()));
    for quiet in ["MeshfilterModuleReloaded", "MeshfilterConfigurationSkew", "MeshfilterBucketsDisplaced"] {
        assert!(!firing().iter().any(|name| name == quiet), "{:?}", firing());
    }
}
