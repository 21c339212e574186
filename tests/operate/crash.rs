//! A module that crashes, under each failure policy.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::module;
use crate::support::envoy::{Bootstrap, Configuration, Envoy, Upstreams, wait_until};
use crate::support::http::{Keeping, Response, request};
use crate::support::sign;

const TOKENS: usize = 10;

fn policy() -> Value {
    json!({
        "authentication": {
            "jwtRules": [{"issuer": "https://auth.example.com", "jwks": sign::jwks(&["rsa1"])}],
            "requirements": [{"match": [{"uri": {"prefix": "/api"}}]}, {"require": "optional"}],
        },
        "http": [
            {
                "match": [{"uri": {"exact": "/slow"}}],
                "fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "60s"}},
                "route": [{"destination": {"host": "v1"}}],
            },
            {"route": [{"destination": {"host": "v1"}}]},
        ],
        "rateLimits": [{
            "match": [{"uri": {"exact": "/limited"}}],
            "tokenBucket": {"maxTokens": TOKENS, "tokensPerFill": 1, "fillInterval": "8760h"},
        }],
    })
}

struct Running {
    envoy: Envoy,
    address: SocketAddr,
    bootstrap: Bootstrap,
    _upstreams: Upstreams,
}

impl Running {
    fn start(failure_policy: &str, adjust: impl FnOnce(&mut Bootstrap)) -> Self {
        let upstreams = Upstreams::start().unwrap();
        let mut bootstrap = Bootstrap::new(Configuration::Struct(policy()), &upstreams);
        bootstrap.module = Some(module::crashing());
        bootstrap.plugin_fields.insert("failure_policy".to_owned(), failure_policy.into());
        bootstrap.dynamic = true;
        adjust(&mut bootstrap);
        let envoy = Envoy::start(&bootstrap).unwrap();
        let address = envoy.address().unwrap();
        Running { envoy, address, bootstrap, _upstreams: upstreams }
    }

    fn get(&self, path: &str) -> Response {
        request(self.address, path, &[]).unwrap()
    }

    fn status(&self, path: &str) -> u16 {
        self.get(path).status
    }

    fn crash(&self) {
        let crashed = request(self.address, "/", &module::deadly_headers()).unwrap();
        assert_eq!(crashed.status, 503, "{}", self.envoy.log());
    }

    /// A statistic of the plugin's.
    fn stat(&self, name: &str) -> u64 {
        self.envoy.stat(&format!("wasm.meshfilter.{name}"))
    }

    /// Pushes the listener with the same policy.
    fn push(&mut self) {
        self.bootstrap.manager_fields.insert("server_name".to_owned(), "pushed".into());
        self.bootstrap.update(self.envoy.folder()).unwrap();
        let pushed = || self.get("/").header("server").as_deref() == Some("pushed");
        wait_until("the pushed listener", || pushed().then_some(())).unwrap();
    }
}

#[test]
fn fail_reload_refuses_for_a_moment_and_then_decides_as_before() {
    const IDLE: Duration = Duration::from_secs(3);
    let running = Running::start("FAIL_RELOAD", |bootstrap| {
        let idle = format!("{}s", IDLE.as_secs());
        bootstrap.manager_fields.insert("stream_idle_timeout".to_owned(), idle.into());
    });
    assert_eq!(running.status("/api"), 401);
    const TAKEN: usize = 4;
    for _ in 0..TAKEN {
        assert_eq!(running.status("/limited"), 200);
    }
    let address = running.address;
    let waiting = thread::spawn(move || {
        let began = Instant::now();
        (request(address, "/slow", &[]).unwrap().status, began.elapsed())
    });
    let waits = || (running.envoy.stat("http.http.downstream_rq_active") == 1).then_some(());
    wait_until("a request waits", waits).unwrap();
    let gauge = || running.envoy.stat("wasmcustom.meshfilter_waiting_requests<reason=delay>");
    wait_until("the gauge shows it", || (gauge() == 1).then_some(())).unwrap();

    let crashes = 2;
    for number in 1..=crashes {
        running.crash();
        let began = Instant::now();
        wait_until("decisions", || match running.status("/api") {
            503 => None,
            status => {
                assert_eq!(status, 401, "nobody passes who did not before");
                Some(())
            }
        })
        .unwrap();
        println!("decided again after {:.2?}", began.elapsed());
        assert_eq!(running.stat("vm_reload_success"), number);
    }
    assert_eq!(running.stat("vm_reload_failure"), 0);
    let passed = (0..2 * TOKENS).filter(|_| running.status("/limited") == 200).count();
    assert_eq!(passed, TOKENS - TAKEN, "the bucket keeps what was taken");
    let log = running.envoy.log();
    assert!(
        log.contains("Function: proxy_on_request_headers failed: Uncaught RuntimeError: unreachable"),
        "{log}"
    );

    // Nor is it told any more that it waits.
    wait_until("the gauge is taken back", || (gauge() == 0).then_some(())).unwrap();

    // What waited in the module has nobody who would let it go on.
    let (status, took) = waiting.join().unwrap();
    assert_eq!(status, 503);
    // Envoy counts from when its event loop last looked at the clock, which is a little before it arms the timer.
    assert!(took >= IDLE - Duration::from_millis(100), "{took:?}");
}

#[test]
fn the_pause_before_the_reload_is_a_matter_of_configuration() {
    let running = Running::start("FAIL_RELOAD", |bootstrap| {
        let backoff = json!({"backoff": {"base_interval": "30s"}});
        bootstrap.plugin_fields.insert("reload_config".to_owned(), backoff);
    });
    running.crash();
    wait_until("refusals", || {
        assert_eq!(running.status("/"), 503);
        (running.stat("vm_reload_backoff") >= 20).then_some(())
    })
    .unwrap();
    assert_eq!(running.stat("vm_reload_success"), 0);
}

#[test]
fn fail_closed_refuses_until_the_next_push_in_that_worker_alone() {
    let mut running = Running::start("FAIL_CLOSED", |bootstrap| bootstrap.workers = 2);
    let mut clients: Vec<Keeping> = (0..32).map(|_| Keeping::new(running.address)).collect();
    let mut statuses = || -> Vec<u16> {
        clients.iter_mut().map(|client| client.request("GET", "/", &[]).unwrap().status).collect()
    };
    assert!(statuses().iter().all(|status| *status == 200));
    running.crash();
    for _ in 0..3 {
        let statuses = statuses();
        assert!(statuses.contains(&503) && statuses.contains(&200), "{statuses:?}");
    }
    running.push();
    assert!((0..32).all(|_| running.status("/api") == 401));
}

#[test]
fn fail_open_lets_everybody_in() {
    let mut running = Running::start("FAIL_OPEN", |_| {});
    assert_eq!(running.status("/api"), 401);
    running.crash();
    let passed = running.get("/api");
    assert_eq!(passed.status, 200);
    assert_eq!(passed.header("x-upstream").as_deref(), Some("fallback"), "by Envoy's own route");
    assert_eq!(running.stat("vm_reload_success"), 0);
    running.push();
    assert_eq!(running.status("/api"), 401);
}
