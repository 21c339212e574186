//! Slices: a few thousand requests through one configuration, and what they cost Envoy.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::configurations::Configuration;
use crate::load::Load;
use crate::proxy::Proxy;
use crate::requests::Pool;

/// Requests under way at a time, for each worker: enough to keep it busy.
const CONNECTIONS: usize = 8;

/// So many rounds are measured with one Envoy process of each configuration. Where a process has its memory decides what
/// shares a line of the processor's caches, for as long as it lives: that luck is worth up to a fifth of what a request costs.
const ROUNDS_OF_A_PROCESS: usize = 5;

/// A configuration that is up.
pub struct Measured {
    pub configuration: Configuration,
    pub proxy: Proxy,
    pub pool: Pool,
}

/// Time of Envoy's threads for each request, one for each slice, by the configuration's name; in microseconds.
pub type Slices = BTreeMap<String, Vec<f64>>;

/// Measures every configuration once in every round, each time in another order; `restart` gives one another process.
pub fn rounds(
    load: &mut Load,
    all: &mut [Measured],
    rounds: usize,
    requests: usize,
    restart: impl Fn(&Configuration) -> Result<Proxy, String>,
) -> Result<Slices, String> {
    let mut slices = Slices::new();
    let began = Instant::now();
    for round in 1..=rounds {
        fastrand::shuffle(all);
        if round % ROUNDS_OF_A_PROCESS == 1 {
            for Measured { configuration, proxy, pool } in all.iter_mut() {
                *proxy = restart(configuration)?;
                warm(load, configuration, proxy, pool, requests)?;
            }
        }
        for measured in all.iter_mut() {
            let used = slice(load, measured, requests).map_err(|error| {
                format!("{}: {error}\n{}", measured.configuration.name, measured.proxy.envoy.log())
            })?;
            slices.entry(measured.configuration.name.clone()).or_default().push(used);
        }
        let elapsed = began.elapsed();
        let left = elapsed / round as u32 * (rounds - round) as u32;
        eprintln!("round {round} of {rounds}, {} s, {} s to go", elapsed.as_secs(), left.as_secs());
    }
    Ok(slices)
}

/// Requests that a configuration gets in so many rounds.
pub fn sent(rounds: usize, requests: usize) -> usize {
    rounds * (requests + unmeasured(requests)) + rounds.div_ceil(ROUNDS_OF_A_PROCESS) * requests
}

/// Requests of a slice that are not measured: connections are made, and caches are warm again.
fn unmeasured(requests: usize) -> usize {
    requests / 8
}

/// What a new process does for the first time is not measured.
fn warm(
    load: &mut Load,
    configuration: &Configuration,
    proxy: &Proxy,
    pool: &mut Pool,
    requests: usize,
) -> Result<(), String> {
    let mut client =
        load.connect(proxy.address, connections(configuration)).map_err(|error| error.to_string())?;
    load.run(&mut client, requests, pool)
}

fn slice(load: &mut Load, measured: &mut Measured, requests: usize) -> Result<f64, String> {
    let Measured { configuration, proxy, pool } = measured;
    let connections = connections(configuration);
    let mut client = load.connect(proxy.address, connections).map_err(|error| error.to_string())?;
    load.run(&mut client, unmeasured(requests).max(connections), pool)?;
    let before = proxy.used()?;
    load.run(&mut client, requests, pool)?;
    Ok(microseconds(proxy.used()? - before) / requests as f64)
}

/// How many connections a configuration gets.
pub fn connections(configuration: &Configuration) -> usize {
    CONNECTIONS * configuration.workers as usize
}

/// For results.
pub fn microseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1000.0
}
