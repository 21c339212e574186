//! A limit under load, at twice its rate.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::envoy::{Bootstrap, Configuration, Envoy, Upstreams};
use crate::support::http::Client;

/// Of the bucket: tokens in a second, and one second's worth of them, so that a machine that stands still for a moment
/// loses none.
const RATE: u32 = 500;
const CLIENTS: u32 = 20;

/// Sends at twice the rate for so long; how many passed, and how many were sent.
fn load(address: SocketAddr, began: Instant, lasting: Duration) -> (u32, u32) {
    let one_client = |place: u32| {
        let mut client = Client::connect(address).unwrap();
        let pause = Duration::from_secs(1) * CLIENTS / (2 * RATE);
        let (mut passed, mut sent) = (0, 0);
        let mut due = began + pause * place / CLIENTS;
        while due < began + lasting {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let status = client.request("GET", "/", &[]).unwrap().status;
            assert!([200, 429].contains(&status), "{status}");
            passed += u32::from(status == 200);
            sent += 1;
            due += pause;
        }
        (passed, sent)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS).map(|place| scope.spawn(move || one_client(place))).collect();
        let counts = threads.into_iter().map(|thread| thread.join().unwrap());
        counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
    })
}

#[test]
fn under_load_a_limit_lets_through_what_it_says() {
    let seconds = std::env::var("MESHFILTER_LOAD_SECONDS").map_or(3, |seconds| seconds.parse().unwrap());
    let lasting = Duration::from_secs(seconds);
    let bucket = json!({"maxTokens": RATE, "tokensPerFill": RATE / 10, "fillInterval": "100ms"});
    let policy = json!({
        "http": [{"directResponse": {"status": 200}}],
        "rateLimits": [{"name": "all", "tokenBucket": bucket}],
    });
    let upstreams = Upstreams::start().unwrap();
    for workers in [1, 2, 4] {
        let mut bootstrap = Bootstrap::new(Configuration::Struct(policy.clone()), &upstreams);
        bootstrap.workers = workers;
        let envoy = Envoy::start(&bootstrap).unwrap();
        let address = envoy.address().unwrap();
        let began = Instant::now();
        let (passed, sent) = load(address, began, lasting);
        let took = began.elapsed();
        let allowed = |time: Duration| f64::from(RATE) * (1.0 + time.as_secs_f64());
        println!(
            "{workers} workers, {sent} requests in {took:.2?}: {passed} passed, the bucket allows {:.0}: {:.2} %",
            allowed(took),
            100.0 * f64::from(passed) / allowed(took)
        );
        assert!(f64::from(passed) <= allowed(took), "{passed} passed");
        assert!(f64::from(passed) >= 0.99 * allowed(lasting), "{passed} passed of {:.0}", allowed(lasting));
    }
}
