//! `make fleet`: one limit for two Envoys, counted by a rate limit service in Redis, all of them on this machine.
//!
//! It says how many of its requests passed, and stays for you to try until Ctrl-C. With `ONCE=1` it ends by itself, and fails
//! if more or fewer passed than the limit says. `RUNS=10` measures instead: so many runs, what asking costs, and what users
//! cost Redis.

mod measure;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use support::envoy::sample::read;
use support::fleet::{self, Redis, Service};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const POLICY: &str = "examples/policies/fleet.yaml";

/// Twice what passes, and a little.
const REQUESTS: u64 = 2500;
const CLIENTS: usize = 4;

fn main() -> ExitCode {
    let runs = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok());
    let done = match runs {
        Some(runs) => measure::measure(runs),
        None => run(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the fleet cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether as many passed as the limit says.
fn run() -> Result<bool> {
    let began = Instant::now();
    let policy = read(POLICY)?;
    let limit = &policy["rateLimits"][0]["global"]["limit"];
    let (allowed, unit) = (limit["requestsPerUnit"].as_u64().unwrap_or_default(), unit(limit));
    let redis = Redis::start(false)?;
    let service = Service::start(&redis)?;
    let envoys = [fleet::envoy(&policy, service.address, 1)?, fleet::envoy(&policy, service.address, 1)?];
    let addresses = envoys.each_ref().map(|(_, address)| *address);
    println!("Two Envoys with {POLICY}, ready in {:.1} s:", began.elapsed().as_secs_f64());
    for address in addresses {
        println!("  http://{address}/");
    }
    println!(
        "A rate limit service on {}, which counts in Redis: {allowed} a {unit} for both.",
        service.address
    );
    let began = Instant::now();
    let outcome = fleet::flood(&addresses, CLIENTS, REQUESTS, |_| Vec::new());
    println!(
        "{REQUESTS} requests through both in {:.1} s: {} passed, {} were refused, {} failed.",
        began.elapsed().as_secs_f64(),
        outcome.passed,
        outcome.refused,
        outcome.failed
    );
    let met = outcome.passed == allowed && outcome.failed == 0;
    if !met {
        println!("{allowed} should have passed, and all others have been refused.");
    }
    if std::env::var("ONCE").is_ok_and(|once| once == "1") {
        return Ok(met);
    }
    println!("\nThey stay until Ctrl-C. Try:\n");
    for address in addresses {
        println!("  curl -i http://{address}/");
    }
    for (envoy, _) in &envoys {
        println!("  curl -s http://{}/stats/prometheus | grep rate_limit_service", envoy.admin_address());
    }
    loop {
        sleep(Duration::from_secs(3600));
    }
}

fn unit(limit: &Value) -> String {
    limit["unit"].as_str().unwrap_or_default().to_lowercase()
}
