//! Everything at once, for as long as one likes: all policies, policies and listeners pushed every few seconds, an issuer
//! that fails every other moment, clients that leave. No answer may be lost or wrong, the counters must say what was sent,
//! and memory must stay where it was.
//!
//! `MESHFILTER_SOAK_SECONDS` says how long; `make soak MINUTES=10` sets it.

mod policy;
#[path = "../support/mod.rs"]
mod support;
mod traffic;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use policy::{TOKENS, policy};
use support::envoy::native::is_native;
use support::envoy::{Bootstrap, Configuration, Envoy, Upstreams, wait_until};
use support::issuer::{Answer, Issuer, http, keys};
use support::load::under_load;
use support::memory::Memory;
use traffic::{Seen, Traffic};

const CLIENTS: usize = 12;
const PUSH_EVERY: Duration = Duration::from_secs(3);
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// Longer than the longest request, and shorter than a minute, so that old listeners go while it lasts.
const DRAIN: Duration = Duration::from_secs(15);
/// What memory may grow by between a third of the time and the end, a share and bytes: connections, what is known of
/// clients, old policies that are still drained. It comes in steps, a few pages for each module.
const GROWTH: f64 = 1.2;
const STEPS: f64 = 4e6;

fn main() -> ExitCode {
    let seconds = std::env::var("MESHFILTER_SOAK_SECONDS")
        .map_or(60, |seconds| seconds.parse().expect("MESHFILTER_SOAK_SECONDS is a whole number of seconds"));
    match soak(Duration::from_secs(seconds)) {
        Ok(()) => {
            println!("soak: passed");
            ExitCode::SUCCESS
        }
        Err(problems) => {
            println!("soak: failed\n{}", problems.join("\n"));
            ExitCode::FAILURE
        }
    }
}

/// Envoy, and what happens to it.
struct Soak {
    envoy: Envoy,
    bootstrap: Bootstrap,
    issuer: Issuer,
    traffic: Traffic,
    version: u32,
    broken: u64,
}

fn soak(lasting: Duration) -> Result<(), Vec<String>> {
    let wrong = |error: String| vec![error];
    let upstreams = Upstreams::start().map_err(|error| vec![error.to_string()])?;
    upstreams.forget();
    let issuer = Issuer::start(keys(&["rsa2"]));
    let mut bootstrap = Bootstrap::new(Configuration::Struct(policy(0)), &upstreams);
    bootstrap.workers = 2;
    bootstrap.dynamic = true;
    bootstrap.dynamic_filter = true;
    bootstrap.drain = DRAIN;
    bootstrap.manager_fields.insert("access_log".to_owned(), json!([]));
    bootstrap.cluster("auth", issuer.address);
    let envoy = Envoy::start(&bootstrap).map_err(wrong)?;
    let logging = envoy.admin_post("/logging?level=warning");
    if !logging.as_ref().is_ok_and(|response| response.status == 200) {
        return Err(vec![format!("the log level cannot be set: {logging:?}")]);
    }
    let traffic = Traffic::new(envoy.address().map_err(wrong)?);
    let mut soak = Soak { envoy, bootstrap, issuer, traffic, version: 0, broken: 0 };
    soak.run(lasting)
}

impl Soak {
    fn run(&mut self, lasting: Duration) -> Result<(), Vec<String>> {
        let mut first = self.traffic.sender(0);
        wait_until("the issuer's keys", || self.traffic.remote(&mut first).then_some(()))
            .map_err(|e| vec![e])?;
        let Soak { envoy, bootstrap, issuer, traffic, version, broken } = self;
        let traffic = &*traffic;
        let round = |(number, sender): &mut (usize, traffic::Sender)| match *number {
            0 => traffic.stranger(sender),
            1 => traffic.leave(sender),
            2 => traffic.http2(sender),
            _ => traffic.any(sender),
        };
        let state = |number| (number, traffic.sender(number));
        let (memory, _) = under_load(CLIENTS, state, round, || {
            let began = Instant::now();
            let mut samples: Vec<(Duration, Memory)> = Vec::new();
            let (mut next_push, mut next_line) = (PUSH_EVERY, PROGRESS_EVERY);
            while began.elapsed() < lasting {
                thread::sleep(Duration::from_millis(100));
                let elapsed = began.elapsed();
                if elapsed >= next_push {
                    next_push += PUSH_EVERY;
                    *version += 1;
                    issuer.says(mood(*version));
                    push(bootstrap, envoy, *version, broken);
                }
                if elapsed >= next_line {
                    next_line += PROGRESS_EVERY;
                    let memory = Memory::of(envoy.id()).unwrap_or_default();
                    println!("{}", progress(elapsed, &traffic.seen(), *version, memory));
                    samples.push((elapsed, memory));
                }
            }
            samples
        });
        let mut problems = Vec::new();
        let mut last = traffic.sender(0);
        while traffic.limited(&mut last) {}
        let seen = traffic.seen();
        problems.extend(seen.wrong.iter().take(10).cloned());
        if seen.wrong.len() > 10 {
            problems.push(format!("and {} more wrong answers", seen.wrong.len() - 10));
        }
        if seen.limited_passed != TOKENS {
            problems.push(format!("{} passed the bucket of {TOKENS}", seen.limited_passed));
        }
        problems.extend(counters(envoy, &seen));
        problems.extend(health(envoy, *broken));
        problems.extend(growth(&memory, lasting));
        if problems.is_empty() {
            return Ok(());
        }
        problems.push(format!("Envoy's log:\n{}", envoy.log()));
        Err(problems)
    }
}

/// What the issuer does for the next few seconds: every other time something is wrong with it.
fn mood(version: u32) -> Answer {
    match version % 10 {
        1 => Answer::Nothing,
        3 => Answer::Bytes(http("500 Internal Server Error", "")),
        5 => Answer::Late(Duration::from_secs(30), Vec::new()),
        7 => Answer::Bytes(http("200 OK", "<html>")),
        9 => Answer::Endless(2 * 1024 * 1024),
        _ => keys(&["rsa2"]),
    }
}

/// A new policy by ECDS, a new listener by LDS, and now and then a policy that is wrong.
fn push(bootstrap: &mut Bootstrap, envoy: &Envoy, version: u32, broken: &mut u64) {
    let new = match version % 5 {
        4 => {
            *broken += 1;
            json!({"http": [{"rote": version}]})
        }
        _ => policy(version),
    };
    bootstrap.configuration = Configuration::Struct(new);
    // Not beside a wrong policy: until that is mended, Envoy takes no listener that refers to it.
    if version % 5 == 2 {
        bootstrap.manager_fields.insert("server_name".to_owned(), format!("revision {version}").into());
    }
    bootstrap.update(envoy.folder()).expect("a push");
}

fn progress(elapsed: Duration, seen: &Seen, pushes: u32, memory: Memory) -> String {
    const MEGABYTE: f64 = 1024.0 * 1024.0;
    let sent: u64 = seen.statuses.values().sum();
    format!(
        "{:4} s  {sent:8} requests  {pushes:3} pushes  {:6.1} MB resident  {:5.1} MB of modules  {} wrong  {:?}",
        elapsed.as_secs(),
        memory.resident as f64 / MEGABYTE,
        memory.linear as f64 / MEGABYTE,
        seen.wrong.len(),
        seen.statuses,
    )
}

/// The counters against what was sent.
fn counters(envoy: &Envoy, seen: &Seen) -> Option<String> {
    let mut counted = BTreeMap::new();
    let expected = &seen.statuses;
    let agree = wait_until("counters", || {
        counted.clear();
        for (series, count) in envoy.prometheus() {
            if series.name == "meshfilter_requests_total" {
                let code = series.labels.get("response_code").and_then(|code| code.parse::<u16>().ok());
                *counted.entry(code.unwrap_or_default()).or_default() += count;
            }
        }
        (counted == *expected).then_some(())
    });
    agree.err().map(|_| format!("the counters say {counted:?}, and {expected:?} were sent"))
}

fn health(envoy: &Envoy, broken: u64) -> Vec<String> {
    let expected = |name: &str, value: u64| {
        let found = envoy.stat(name);
        (found != value).then(|| format!("{name} is {found}, and should be {value}"))
    };
    // A panic of the native module is logged; of a VM that fails, Envoy itself says as much of a wrong policy.
    let log = if is_native() { envoy.log() } else { String::new() };
    let panicked = log.lines().find(|line| line.contains("[critical]")).map(str::to_owned);
    let statistics = [
        // Where there is no VM, none of these is there, and each is 0.
        ("wasm.meshfilter.vm_reload", 0),
        ("wasm.meshfilter.vm_reload_success", 0),
        ("wasm.meshfilter.vm_reload_failure", 0),
        ("wasm.meshfilter.vm_reload_backoff", 0),
        ("extension_config_discovery.http_filter.meshfilter.config_fail", broken),
        ("listener_manager.lds.update_rejected", 0),
    ]
    .into_iter()
    .filter_map(|(name, value)| expected(name, value));
    statistics.chain(panicked).collect()
}

/// Memory after the first third against the end's.
fn growth(samples: &[(Duration, Memory)], lasting: Duration) -> Vec<String> {
    let warm = samples.iter().find(|(elapsed, _)| *elapsed >= lasting / 3);
    let (Some((_, warm)), Some((_, end))) = (warm, samples.last()) else {
        return vec!["it was too short to say anything about memory".to_owned()];
    };
    let check = |what: &str, before: u64, after: u64| {
        println!("{what}: {:.2} times what it was after a third of the time", after as f64 / before as f64);
        // Nothing measured is no good sign either.
        (before == 0 || after as f64 > GROWTH * before as f64 + STEPS)
            .then(|| format!("{what} grew from {before} to {after} bytes"))
    };
    let resident = check("resident memory", warm.resident, end.resident);
    let linear = (!is_native()).then(|| check("the modules' memory", warm.linear, end.linear));
    [resident, linear.flatten()].into_iter().flatten().collect()
}
