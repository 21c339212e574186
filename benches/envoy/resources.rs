//! What the module takes beside time for requests: time to start, and memory.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::configurations::{Configuration, Modules};
use crate::load::Load;
use crate::measure;
use crate::policies;
use crate::proxy::{Processors, Proxy};
use crate::requests::{Keys, Wallet};

/// How often everything is started.
const STARTS: usize = 5;
/// Requests before the memory is looked at.
const REQUESTS: usize = 2000;
/// How many keys come again and again before the many come.
const FEW_KEYS: u64 = 1000;

/// An Envoy with a configuration, right after it was started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    pub name: String,
    pub title: String,
    pub workers: u32,
    /// Milliseconds from the start of the process until it is ready, at the least.
    pub ready: f64,
    /// Bytes of memory after some requests, at the least.
    pub resident: u64,
}

/// What many keys of a limit do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ManyKeys {
    pub count: u64,
    /// Microseconds for each request with few keys, in the lowest slice.
    pub few: f64,
    /// The same with keys that are all new, in the last tenth of the slices.
    pub many: f64,
    /// Bytes that Envoy has grown by.
    pub growth: u64,
}

/// Starts each of these with one, two and four workers.
pub fn starts(
    load: &mut Load,
    configurations: &[Configuration],
    wallet: &Wallet,
    processors: &Processors,
) -> Result<Vec<Start>, String> {
    let mut found: Vec<Start> = Vec::new();
    let upstreams = load.upstreams().map_err(|error| error.to_string())?;
    for round in 1..=STARTS {
        eprintln!("starting and stopping, {round} of {STARTS}");
        for configuration in configurations {
            for workers in [1, 2, 4] {
                let configuration = Configuration { workers, ..configuration.clone() };
                // What is compiled at the start may use every processor, as it does elsewhere.
                processors.unpin()?;
                let began = Instant::now();
                let proxy = Proxy::start(&configuration, &configuration.filters, &upstreams, processors)?;
                let ready = began.elapsed().as_secs_f64() * 1000.0;
                processors.pin_client()?;
                let connections = measure::connections(&configuration);
                let mut client =
                    load.connect(proxy.address, connections).map_err(|error| error.to_string())?;
                load.run(&mut client, REQUESTS, &mut wallet.pool(configuration.traffic))
                    .map_err(|error| format!("{}: {error}", configuration.name))?;
                let resident = proxy.resident()?;
                let Configuration { name, title, .. } = configuration;
                match found.iter_mut().find(|start| start.name == name && start.workers == workers) {
                    None => found.push(Start { name, title, workers, ready, resident }),
                    Some(start) => {
                        start.ready = start.ready.min(ready);
                        start.resident = start.resident.min(resident);
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Sends so many keys, each once, through a limit that has a bucket for each.
pub fn keys(
    load: &mut Load,
    modules: &Modules,
    count: u64,
    slice: usize,
    processors: &Processors,
) -> Result<ManyKeys, String> {
    let filters: Vec<Value> = vec![policies::meshfilter(&modules.meshfilter, &policies::keyed_rate_limits())];
    let configuration = Configuration { routes: policies::routes(), ..Configuration::bare() };
    let upstreams = load.upstreams().map_err(|error| error.to_string())?;
    let proxy = Proxy::start(&configuration, &filters, &upstreams, processors)?;
    let mut client = load
        .connect(proxy.address, measure::connections(&configuration))
        .map_err(|error| error.to_string())?;
    let mut slices = |source: &mut Keys, requests: u64| -> Result<Vec<f64>, String> {
        (0..requests.div_ceil(slice as u64))
            .map(|_| {
                let before = proxy.used()?;
                load.run(&mut client, slice, source)?;
                Ok(measure::microseconds(proxy.used()? - before) / slice as f64)
            })
            .collect()
    };
    eprintln!("sending {FEW_KEYS} keys again and again");
    let mut few = Keys { count: FEW_KEYS, next: 0 };
    let few = slices(&mut few, count / 20)?;
    let before = proxy.resident()?;
    eprintln!("sending {count} keys");
    let many = slices(&mut Keys { count, next: 0 }, count)?;
    let growth = proxy.resident()?.saturating_sub(before);
    let last = many.len() - many.len().div_ceil(10);
    let lowest = |slices: &[f64]| slices.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(ManyKeys { count, few: lowest(&few), many: lowest(&many[last..]), growth })
}
