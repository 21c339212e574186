//! `make fleet RUNS=10`: how exact one limit is at full speed, what asking costs, and what users cost Redis.

use std::net::SocketAddr;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Result;
use super::support::envoy::{Envoy, wait_at_most};
use super::support::fleet::{self, CLUSTER, Redis, Service};
use super::support::http::Client;

/// A minute's limit for every value of `x-run`.
const LIMIT: u64 = 1000;
const WORKERS: u32 = 4;
const USERS: u64 = 100_000;
/// Requests of one client, one after the other, of which the median counts.
const ASKED: usize = 1000;

/// Whether every run let through what the limit says.
pub fn measure(runs: u32) -> Result<bool> {
    let cores = available_parallelism().map_or(0, usize::from);
    println!("two Envoys with {WORKERS} workers each, {cores} cores, 8 clients each, {LIMIT} a minute\n");
    let redis = Redis::start(false)?;
    let service = Service::start(&redis)?;
    let policy = by_header("x-run", LIMIT);
    let envoys =
        [fleet::envoy(&policy, service.address, WORKERS)?, fleet::envoy(&policy, service.address, WORKERS)?];
    let addresses = envoys.each_ref().map(|(_, address)| *address);
    let mut met = true;
    println!("| run | requests | passed | refused | failed | seconds |\n|---|---|---|---|---|---|");
    for run in 1..=runs {
        let (began, requests) = (Instant::now(), 4 * LIMIT);
        let outcome = fleet::flood(&addresses, 8, requests, |_| vec![("x-run", run.to_string())]);
        let seconds = began.elapsed().as_secs_f64();
        let fleet::Outcome { passed, refused, failed } = outcome;
        println!("| {run} | {requests} | {passed} | {refused} | {failed} | {seconds:.1} |");
        met &= passed == LIMIT && failed == 0;
    }
    asked(&envoys, "the runs above, with the refusals that are remembered")?;
    users(&redis, &addresses)?;
    drop(envoys);
    cost(&redis)?;
    Ok(met)
}

fn by_header(header: &str, limit: u64) -> Value {
    json!({"rateLimits": [{"name": "fleet", "global": {
        "cluster": CLUSTER, "domain": "web", "timeout": "10s", "failureMode": "deny",
        "descriptors": [{"entries": [{"key": "run", "value": {"header": header}}]}],
        "limit": {"requestsPerUnit": limit, "unit": "MINUTE"},
    }}]})
}

/// How often the service was asked for a request.
fn asked(envoys: &[(Envoy, SocketAddr)], what: &str) -> Result<()> {
    // Counters are written in batches.
    std::thread::sleep(Duration::from_secs(2));
    let (mut calls, mut all) = (0, 0);
    for (series, value) in envoys.iter().flat_map(|(envoy, _)| envoy.prometheus()) {
        if series.name == "meshfilter_rate_limit_service_total" {
            all += value;
            calls += if series.labels.get("result").is_some_and(|it| it == "remembered") { 0 } else { value };
        }
    }
    println!("\nservice calls per request, {what}: {calls} of {all}, {:.3}", calls as f64 / all as f64);
    Ok(())
}

/// One request of each of many users, and Redis before, after, and when their windows are over.
fn users(redis: &Redis, addresses: &[SocketAddr]) -> Result<()> {
    redis.ask(&["FLUSHALL"])?;
    let before = redis.memory()?;
    let began = Instant::now();
    let outcome = fleet::flood(addresses, 8, USERS, |number| vec![("x-run", format!("user-{number}"))]);
    let seconds = began.elapsed().as_secs_f64();
    let (keys, after) = (redis.keys()?, redis.memory()?);
    println!(
        "\n{USERS} users, one request each, in {seconds:.0} s: {} passed; Redis has {keys} keys in {:.1} MB more, {} bytes a user",
        outcome.passed,
        (after - before) as f64 / 1e6,
        (after - before) / keys.max(1)
    );
    // The last window is over a minute later; Redis looks for such keys by itself.
    wait_at_most(Duration::from_secs(150), "the windows are over", || {
        (redis.keys().ok()? == 0).then_some(())
    })?;
    println!(
        "when their windows are over: 0 keys, {:.1} MB more than at the start",
        (redis.memory()? as f64 - before as f64) / 1e6
    );
    Ok(())
}

/// What one client waits for an answer, by what has to be asked for it.
fn cost(redis: &Redis) -> Result<()> {
    let service = Service::start(redis)?;
    let file = std::env::temp_dir().join(format!("meshfilter-fleet-limits-{}.yaml", std::process::id()));
    std::fs::write(
        &file,
        "- {namespace: web, max_value: 1, seconds: 60, conditions: [], variables: ['descriptors[0].run']}\n",
    )?;
    let silent = Service::with_limits(redis, &file);
    std::fs::remove_file(&file)?;
    let silent = silent?;
    let bucket = json!({"rateLimits": [{"name": "local", "tokenBucket": {"maxTokens": 4_000_000, "fillInterval": "1s"}}]});
    println!("\n| a request that | median µs | service calls per request |\n|---|---|---|");
    for (what, policy, address, header) in [
        ("has no limit", json!({}), service.address, "none"),
        ("takes from a local bucket", bucket, service.address, "none"),
        ("the service allows", by_header("x-run", 4_000_000), service.address, "cost"),
        ("the service refused before, and named a time", by_header("x-run", 1), service.address, "named"),
        ("the service refuses, and names no time", by_header("x-run", 1), silent.address, "silent"),
    ] {
        let without = policy["rateLimits"][0]["global"].is_null();
        let envoy = match without {
            // The builder wants no cluster that nothing asks.
            true => fleet::envoy_alone(&policy, 1)?,
            false => fleet::envoy(&policy, address, 1)?,
        };
        let mut client = Client::connect(envoy.1)?;
        let mut times = Vec::new();
        for _ in 0..ASKED + 100 {
            let began = Instant::now();
            client.request("GET", "/", &[("x-run", header)])?;
            times.push(began.elapsed());
        }
        let mut times = times.split_off(100);
        times.sort();
        std::thread::sleep(Duration::from_secs(2));
        let counted = envoy.0.prometheus();
        let calls: u64 = counted
            .iter()
            .filter(|(series, _)| series.name == "meshfilter_rate_limit_service_total")
            .filter(|(series, _)| series.labels.get("result").is_none_or(|result| result != "remembered"))
            .map(|(_, value)| *value)
            .sum();
        println!(
            "| {what} | {} | {:.3} |",
            times[ASKED / 2].as_micros(),
            calls as f64 / (ASKED + 100) as f64
        );
    }
    Ok(())
}
