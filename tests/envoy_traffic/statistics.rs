//! Shares through Envoy, and arms that stay.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;

use serde_json::{Value, json};

use crate::support::envoy::{Bootstrap, Configuration, Envoy, Upstreams};
use crate::support::http::Client;

const REQUESTS: usize = 10_000;
const CLIENTS: usize = 10;

fn start(policy: Value, workers: u32, upstreams: &Upstreams) -> (Envoy, SocketAddr) {
    let mut bootstrap = Bootstrap::new(Configuration::Struct(policy), upstreams);
    bootstrap.workers = workers;
    let envoy = Envoy::start(&bootstrap).unwrap();
    let address = envoy.address().unwrap();
    (envoy, address)
}

fn split() -> Value {
    json!([
        {"destination": {"host": "v1"}, "weight": 90},
        {"destination": {"host": "v2"}, "weight": 10},
    ])
}

/// How many of so many independent draws hit, give or take four standard deviations.
fn assert_share(found: usize, of: usize, share: f64) {
    let (mean, sigma) = (of as f64 * share, (of as f64 * share * (1.0 - share)).sqrt());
    println!("{found} of {of}, {mean} expected, {:.1} sigma", (found as f64 - mean) / sigma);
    assert!(
        (found as f64 - mean).abs() <= 4.0 * sigma,
        "{found} of {of}, should be {mean} ± {:.0}",
        4.0 * sigma
    );
}

#[test]
fn ten_thousand_requests_are_split_and_aborted_as_asked() {
    let policy = json!({"http": [
        {"match": [{"uri": {"exact": "/abort"}}],
            "fault": {"abort": {"percentage": {"value": 10}, "httpStatus": 503}},
            "directResponse": {"status": 200}},
        {"route": split()},
    ]});
    let upstreams = Upstreams::start().unwrap();
    let (_envoy, address) = start(policy, 2, &upstreams);
    let one_client = || {
        let mut client = Client::connect(address).unwrap();
        let (mut second, mut aborted) = (0, 0);
        for _ in 0..REQUESTS / CLIENTS {
            let response = client.request("GET", "/", &[]).unwrap();
            second += usize::from(response.header("x-upstream").as_deref() == Some("v2"));
            aborted += usize::from(client.request("GET", "/abort", &[]).unwrap().status == 503);
        }
        (second, aborted)
    };
    let counts = thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(one_client)).collect();
        let counts = threads.into_iter().map(|thread| thread.join().unwrap());
        counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
    });
    assert_share(counts.0, REQUESTS, 0.1);
    assert_share(counts.1, REQUESTS, 0.1);
}

#[test]
fn a_user_keeps_the_arm_in_every_worker_and_after_a_restart() {
    const USERS: usize = 500;
    let policy = json!({"http": [{"name": "canary", "sticky": {"header": "x-user"}, "route": split()}]});
    let upstreams = Upstreams::start().unwrap();
    let mut arms: BTreeMap<String, String> = BTreeMap::new();
    for workers in [4, 1] {
        let (envoy, address) = start(policy.clone(), workers, &upstreams);
        // Each connection belongs to one worker.
        for _ in 0..4 * workers {
            let mut client = Client::connect(address).unwrap();
            for user in (0..USERS).map(|user| format!("user-{user}")) {
                let arm =
                    client.request("GET", "/", &[("x-user", &user)]).unwrap().header("x-upstream").unwrap();
                assert_eq!(arms.entry(user.clone()).or_insert_with(|| arm.clone()), &arm, "{user}");
            }
        }
        drop(envoy);
    }
    assert_share(arms.values().filter(|arm| *arm == "v2").count(), USERS, 0.1);
}
