//! An Envoy for each configuration, where its threads run, and what they use.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

use crate::configurations::Configuration;
use crate::load::UPSTREAMS;
use crate::native;
use crate::support::envoy::{Envoy, any_port, binary, cluster};

/// Which processors the proxies have, and which the client.
#[derive(Clone, Debug)]
pub struct Processors {
    pub envoy: Vec<usize>,
    pub client: usize,
}

impl Processors {
    /// Of those that this process may use, the last is the client's.
    pub fn choose() -> Result<Self, String> {
        let allowed = sched_getaffinity(None).map_err(|error| error.to_string())?;
        let mut known: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|number| allowed.is_set(*number)).collect();
        let client = known.pop().ok_or("no processor")?;
        if known.is_empty() {
            return Err("two processors are needed: one for Envoy, one for its client".to_owned());
        }
        Ok(Processors { envoy: known, client })
    }

    /// Keeps this thread on the client's.
    pub fn pin_client(&self) -> Result<(), String> {
        pin(None, &[self.client])
    }

    /// Lets this thread run anywhere, and with it what it starts.
    pub fn unpin(&self) -> Result<(), String> {
        pin(None, &[self.envoy.as_slice(), &[self.client]].concat())
    }

    /// Gives a process with so many workers as many processors, if there are as many.
    fn pin_envoy(&self, process: u32, workers: u32) -> Result<(), String> {
        let count = self.envoy.len().min(workers as usize);
        for thread in threads(process)? {
            pin(Pid::from_raw(thread), &self.envoy[..count])?;
        }
        Ok(())
    }
}

/// Has a process go before all that are not real-time ones: what else runs on this machine disturbs less. It needs the right
/// to do so, and leaves little of two processors to anybody else.
pub fn go_first(process: u32) -> Result<(), String> {
    let output =
        Command::new("chrt").args(["--all-tasks", "--rr", "--pid", "1"]).arg(process.to_string()).output();
    let output = output.map_err(|error| format!("chrt: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn pin(thread: Option<Pid>, processors: &[usize]) -> Result<(), String> {
    let mut set = CpuSet::new();
    processors.iter().for_each(|processor| set.set(*processor));
    sched_setaffinity(thread, &set).map_err(|error| format!("cannot pin a thread to {processors:?}: {error}"))
}

/// A running Envoy.
pub struct Proxy {
    pub envoy: Envoy,
    pub address: SocketAddr,
}

impl Proxy {
    /// Starts one, and keeps it where it belongs as soon as it is ready.
    pub fn start(
        configuration: &Configuration,
        filters: &[Value],
        upstreams: &[SocketAddr],
        processors: &Processors,
    ) -> Result<Self, String> {
        Self::start_as(&binary()?, configuration, filters, upstreams, processors)
    }

    /// Starts one through another program, which becomes Envoy.
    pub fn start_as(
        program: &Path,
        configuration: &Configuration,
        filters: &[Value],
        upstreams: &[SocketAddr],
        processors: &Processors,
    ) -> Result<Self, String> {
        let bootstrap = bootstrap(configuration, filters, upstreams);
        let started = Envoy::start_as(program, configuration.workers, &bootstrap).and_then(|envoy| {
            let address = envoy.address()?;
            processors.pin_envoy(envoy.id(), configuration.workers)?;
            Ok(Proxy { envoy, address })
        });
        started.map_err(|error| format!("{}: {error}", configuration.name))
    }

    /// What all threads together used of processors so far, once they are done with what they had to do.
    pub fn used(&self) -> Result<Duration, String> {
        let read = || -> Result<u64, String> {
            let mut sum = 0;
            for thread in threads(self.envoy.id())? {
                let path = format!("/proc/{}/task/{thread}/schedstat", self.envoy.id());
                let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
                let used = text.split(' ').next().and_then(|used| used.parse::<u64>().ok());
                sum += used.ok_or_else(|| format!("{path}: {text:?}"))?;
            }
            Ok(sum)
        };
        // The scheduler books what a running thread used only now and then; what sleeps is booked.
        let mut last = read()?;
        loop {
            thread::sleep(Duration::from_millis(1));
            let used = read()?;
            if used == last {
                return Ok(Duration::from_nanos(used));
            }
            last = used;
        }
    }

    /// Memory that is really there, in bytes.
    pub fn resident(&self) -> Result<u64, String> {
        let path = format!("/proc/{}/status", self.envoy.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kilobytes.ok_or_else(|| format!("{path} has no VmRSS"))? << 10)
    }
}

fn threads(process: u32) -> Result<Vec<i32>, String> {
    let path = format!("/proc/{process}/task");
    let entries = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    Ok(entries.flatten().filter_map(number).collect())
}

fn bootstrap(configuration: &Configuration, filters: &[Value], upstreams: &[SocketAddr]) -> Value {
    let clusters: Vec<Value> =
        UPSTREAMS.iter().zip(upstreams).map(|(name, address)| cluster(name, *address)).collect();
    let for_all = || vec![json!({"name": "measured", "domains": ["*"], "routes": configuration.routes})];
    let virtual_hosts = configuration.virtual_hosts.clone().unwrap_or_else(for_all);
    let mut filters = filters.to_vec();
    filters.push(native::router());
    // Nothing of what Envoy does by itself falls into some slices and not into others.
    let patient = json!({"miss_timeout": "86400s", "megamiss_timeout": "86400s"});
    json!({
        "admin": {"address": any_port()},
        "stats_flush_interval": "299s",
        "watchdogs": {"main_thread_watchdog": patient, "worker_watchdog": patient},
        "static_resources": {
            "clusters": clusters,
            "listeners": [{
                "name": "measured",
                "address": any_port(),
                // With several workers each gets as many connections.
                "connection_balance_config": {"exact_balance": {}},
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        "stat_prefix": "measured",
                        "use_remote_address": true,
                        "normalize_path": true,
                        "merge_slashes": true,
                        "access_log": configuration.access_log,
                        "http_filters": filters,
                        "route_config": {"virtual_hosts": virtual_hosts},
                    },
                }]}],
            }],
        },
    })
}
