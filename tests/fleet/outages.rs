//! A service that hangs, dies, talks nonsense and comes back, and a Redis that does, under load: nothing hangs, nobody gets
//! in who should not, nobody is refused who should not be, and it is told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::support::envoy::{Envoy, wait_until};
use crate::support::fleet::{self, CLUSTER, Redis, Service};
use crate::support::http::{self, Keeping};
use crate::support::load::under_load;

/// What the counted entry lets through in all.
const LIMIT: u64 = 40;

fn policy() -> Value {
    let entry = |name: &str, mode: &str, requests_per_unit: u64| {
        json!({"name": name, "match": [{"uri": {"exact": format!("/{name}")}}], "global": {
            "cluster": CLUSTER, "domain": "web", "timeout": "300ms", "failureMode": mode,
            "descriptors": [{"entries": [{"key": "entry", "value": {"literal": name}}]}],
            "limit": {"requestsPerUnit": requests_per_unit, "unit": "DAY"},
        }})
    };
    json!({"rateLimits": [
        entry("allow", "allow", 1_000_000), entry("deny", "deny", 1_000_000), entry("counted", "deny", LIMIT),
    ]})
}

/// A service that answers everything with bytes that are no HTTP/2.
struct Nonsense {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Nonsense {
    fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let _ = stream.read(&mut [0; 64]);
                let _ = stream.write_all(&[0xff; 256]);
            }
        });
        Nonsense { address, over, thread: Some(thread) }
    }
}

impl Drop for Nonsense {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = std::net::TcpStream::connect(self.address);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

fn status(address: SocketAddr, path: &str) -> u16 {
    http::request(address, path, &[]).unwrap().status
}

/// Waits until nobody gets in who has to be let in by the service, and looks that it stays so.
fn is_closed(address: SocketAddr, what: &str) {
    wait_until(what, || (status(address, "/deny") == 500).then_some(())).unwrap();
    for _ in 0..5 {
        assert_eq!((status(address, "/deny"), status(address, "/allow")), (500, 200), "{what}");
    }
}

fn is_open(address: SocketAddr, what: &str) {
    wait_until(what, || (status(address, "/deny") == 200).then_some(())).unwrap();
    assert_eq!(status(address, "/allow"), 200, "{what}");
}

fn count(envoy: &Envoy, policy: &str, result: &str) -> u64 {
    let counted = envoy.prometheus();
    let labelled = counted.iter().filter(|(series, _)| {
        let has = |label: &str, value: &str| series.labels.get(label).is_some_and(|found| found == value);
        series.name == "meshfilter_rate_limit_service_total" && has("policy", policy) && has("result", result)
    });
    labelled.map(|(_, value)| *value).sum()
}

#[test]
fn outages_of_the_service_and_of_redis_let_nobody_in_and_keep_nobody_out() {
    // What it counted outlives it, so that the counted entry stays counted.
    let mut redis = Redis::start(true).unwrap();
    let mut service = Service::start(&redis).unwrap();
    let policy = policy();
    let (envoy, address) = fleet::envoy(&policy, service.address, 1).unwrap();
    let counted = AtomicU64::new(0);
    let client = |number: usize| {
        let path = ["/allow", "/deny", "/counted"][number % 3];
        (path, Keeping::new(address), [0_u64; 2])
    };
    let round = |(path, client, seen): &mut (&str, Keeping, [u64; 2])| {
        let status = client.request("GET", path, &[]).unwrap().status;
        match (*path, status) {
            ("/counted", 200) => {
                counted.fetch_add(1, Ordering::SeqCst);
                seen[0] += 1;
            }
            (_, 200) => seen[0] += 1,
            ("/deny", 500) | ("/counted", 429 | 500) => seen[1] += 1,
            (path, status) => panic!("{path}: {status}"),
        }
    };
    let ((), seen) = under_load(6, client, round, || {
        is_open(address, "before");
        service.hang().unwrap();
        is_closed(address, "the service hangs");
        service.go_on().unwrap();
        is_open(address, "the service goes on");
        service.kill();
        is_closed(address, "the service is dead");
        {
            let _nonsense = Nonsense::start(service.address);
            is_closed(address, "the service talks nonsense");
        }
        service.again().unwrap();
        is_open(address, "the service is back");
        redis.kill();
        is_closed(address, "Redis is dead");
        redis.again().unwrap();
        is_open(address, "Redis is back");
        redis.hang().unwrap();
        is_closed(address, "Redis hangs");
        redis.go_on().unwrap();
        is_open(address, "Redis goes on");
    });
    let log = envoy.log();
    let requests =
        |path: &str| seen.iter().filter(|(of, ..)| *of == path).map(|(.., [yes, no])| yes + no).sum::<u64>();
    assert!(["/allow", "/deny", "/counted"].map(requests).iter().all(|sent| *sent > 100), "it was no load");
    assert!((1..=LIMIT).contains(&counted.load(Ordering::SeqCst)), "{counted:?} of {LIMIT} passed");
    for (policy, said) in [
        ("allow", "requests pass without it (failureMode: allow)"),
        ("deny", "requests are refused with 500 (failureMode: deny)"),
    ] {
        let says = |text: String| log.matches(&text).count();
        let fails = format!("rate limit {policy}: cluster {CLUSTER} does not decide: ");
        assert!(log.lines().any(|line| line.contains(&fails) && line.ends_with(said)), "{log}");
        assert!(says(format!("rate limit {policy}: the service answers again")) >= 4, "{log}");
        wait_until("the counters", || (count(&envoy, policy, "failed") > 0).then_some(())).unwrap();
        assert!(count(&envoy, policy, "allowed") > 0 && count(&envoy, policy, "refused") == 0);
    }
    let lines = log.matches("does not decide").count();
    assert!(lines <= 3 * 2 * 6, "a line for each outage, not for each request: {lines}");
}
