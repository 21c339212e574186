//! Runs a case through a real Envoy.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::bootstrap::{TOLD, bootstrap};
use super::http::{Client, request_bytes};
use super::process::{Envoy, Launch, Written, wait_at_most, wait_until};
use super::upstreams::Upstreams;
use super::{ID_HEADER, version};
use crate::cases::case::{Case, Request, RequestSpec};
use crate::cases::check::{Answer, Exchange, counter_differences, differences};
use crate::cases::outcome::Outcome;
use crate::envoy::plugin::Module;
use crate::envoy::policy::Names;

/// Of a loaded machine; the fake host holds delays to the millisecond.
const DELAY_SLACK: Duration = Duration::from_secs(1);

/// Counters and copies come after the answer. Envoy shows histograms when it flushes its statistics, every five seconds.
const COUNTED_WITHIN: Duration = Duration::from_secs(30);

/// The first Envoy whose spans read formats.
const SPANS_READ_FORMATS: (u32, u32) = (1, 37);

/// What runs a case.
#[derive(Clone, Debug)]
pub struct Program {
    /// The binary.
    pub envoy: PathBuf,
    /// What decides.
    pub module: Module,
}

/// A request of a case, and what came of it.
#[derive(Debug)]
pub struct Sent {
    /// Which of the case's requests.
    pub index: usize,
    /// 1 where it is sent for the first time.
    pub round: u32,
    /// As it was sent.
    pub request: Request,
    /// What came back.
    pub exchange: Exchange,
}

/// Everything that was sent for a case.
#[derive(Debug)]
pub struct Ran {
    /// In their order.
    pub sent: Vec<Sent>,
    /// Counters that are not as expected.
    pub counters: Vec<String>,
    /// Envoy's log.
    pub log: String,
}

/// Runs a case; what came of each request.
pub fn outcomes(case: &Case, program: &Program) -> Outcome {
    match send_all(case, program) {
        Ok(ran) => ran.outcome(case, |_| Vec::new()),
        Err(error) => Outcome { error: Some(error), ..Outcome::of(case) },
    }
}

impl Ran {
    /// What is not as expected, and what somebody else has to say of a request.
    pub fn outcome(self, case: &Case, mut more: impl FnMut(&Sent) -> Vec<String>) -> Outcome {
        let mut outcome = Outcome { counters: self.counters, ..Outcome::of(case) };
        for sent in &self.sent {
            let (Some(spec), Some(of_request)) =
                (case.requests.get(sent.index), outcome.requests.get_mut(sent.index))
            else {
                continue;
            };
            let mut problems = differences(&spec.expect, &sent.exchange);
            problems.extend(more(sent));
            // The first round that is wrong is told.
            if !problems.is_empty() && of_request.problems.is_empty() {
                of_request.failed(spec, sent.round, problems);
            }
        }
        if !outcome.is_good() {
            outcome.log = self.log;
        }
        outcome
    }
}

/// Sends a case's requests, and waits for everything that is expected.
///
/// # Errors
/// What kept it from being run, with Envoy's log.
pub fn send_all(case: &Case, program: &Program) -> Result<Ran, String> {
    let names = Names::of(&case.policy);
    let clusters = names.destinations.iter().map(|destination| destination.cluster.as_str());
    let there =
        |cluster: &&str| case.clusters.as_ref().is_none_or(|there| there.iter().any(|c| c == cluster));
    let upstreams = Upstreams::of(clusters.filter(there)).map_err(|error| error.to_string())?;
    let launch = Launch::new(program.envoy.clone());
    let reads_formats = version(&program.envoy)? >= SPANS_READ_FORMATS;
    let envoy = launch.start(|folder| {
        let mut bootstrap = bootstrap(case, &program.module, &upstreams, folder)?;
        let http = bootstrap.listeners.iter_mut().flat_map(|listener| &mut listener.chains);
        if !reads_formats {
            http.for_each(|chain| chain.http.tags.clear());
        }
        let configuration = folder.join("bootstrap.json");
        write(&configuration, &bootstrap.value())?;
        // A native module has the variables of its process.
        let environment = match program.module {
            Module::Wasm(_) => BTreeMap::new(),
            Module::Native(_) => case.environment.clone(),
        };
        Ok(Written { configuration, environment })
    })?;
    let logged = |error: String| format!("{error}\n{}", envoy.log());
    let address = envoy.address()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let tokens = case.tokens(now)?;
    let mut sent = Vec::new();
    for (index, spec) in case.requests.iter().enumerate() {
        let request = spec.prepare(&tokens)?;
        for round in 1..=spec.repeat {
            let id = sent.len().to_string();
            let exchange =
                send(address, &request, &id).map_err(|error| logged(format!("{}: {error}", spec.name)))?;
            sent.push(Sent { index, round, request: request.clone(), exchange });
        }
    }
    let lines = access_log(&envoy, sent.len()).map_err(logged)?;
    for (number, sent) in sent.iter_mut().enumerate() {
        let id = number.to_string();
        if let Some(line) = lines.get(&id) {
            read_line(line, &mut sent.exchange);
        }
        if let Some(spec) = case.requests.get(sent.index) {
            arrivals(&upstreams, spec, &id, &mut sent.exchange.answer);
        }
    }
    // Counters are written in batches.
    let mut counters = Vec::new();
    let _ = wait_at_most(COUNTED_WITHIN, "counters", || {
        counters = counter_differences(&case.counters, &envoy.prometheus());
        counters.is_empty().then_some(())
    });
    Ok(Ran { sent, counters, log: envoy.log() })
}

fn write(path: &Path, value: &Value) -> Result<(), String> {
    fs::write(path, value.to_string()).map_err(|error| format!("{}: {error}", path.display()))
}

fn send(address: SocketAddr, request: &Request, id: &str) -> io::Result<Exchange> {
    let mut headers = request.headers.clone();
    headers.push((ID_HEADER.to_owned(), id.as_bytes().to_vec()));
    if let Some(source) = request.source {
        headers.push(("x-forwarded-for".to_owned(), source.to_string().into_bytes()));
    }
    let mut client = Client::connect(address)?;
    let began = Instant::now();
    client.send(&request_bytes(&request.method, &request.path, &request.host, &headers))?;
    let response = match client.receive(&request.method) {
        Ok(response) => Some(response),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) =>
        {
            None
        }
        Err(error) => return Err(error),
    };
    let mut answer = Answer { delay: began.elapsed(), ..Answer::default() };
    if let Some(response) = response {
        answer.status = Some(response.status);
        answer.headers = response.headers;
        answer.body = response.body;
    }
    Ok(Exchange { answer, delay_slack: DELAY_SLACK, ..Exchange::default() })
}

/// The access log by the requests' ids, once it has them all.
fn access_log(envoy: &Envoy, count: usize) -> Result<BTreeMap<String, Value>, String> {
    wait_until("the access log", || {
        let lines = envoy.access_log();
        let by_id: BTreeMap<String, Value> =
            lines.into_iter().filter_map(|line| Some((line.get("id")?.as_str()?.to_owned(), line))).collect();
        (by_id.len() == count).then_some(by_id)
    })
}

/// What the log tells of a request.
fn read_line(line: &Value, exchange: &mut Exchange) {
    let answer = &mut exchange.answer;
    answer.details = line.get("details").and_then(Value::as_str).unwrap_or_default().to_owned();
    for (name, value) in line.get("state").and_then(Value::as_object).into_iter().flatten() {
        if let Some(value) = value.as_str() {
            answer.filter_state.insert(name.clone(), value.as_bytes().to_vec());
        }
    }
    let mut told = TOLD.map(|(name, _)| {
        let value = answer.filter_state.remove(name)?;
        Some(String::from_utf8_lossy(&value).into_owned())
    });
    let [decision, route, destination] = &mut told;
    // What Envoy refuses by itself never comes to the filter.
    if let Some(decision) = decision.take() {
        exchange.decided = true;
        answer.decision = decision.into();
        answer.route = route.take();
        answer.destination = destination.take();
    }
}

/// Who got the request, and who a copy; a copy may come later than the answer.
fn arrivals(upstreams: &Upstreams, spec: &RequestSpec, id: &str, answer: &mut Answer) {
    let wanted = spec.expect.mirrors.as_ref().map_or(0, Vec::len);
    let _ = wait_at_most(COUNTED_WITHIN, "mirrors", || {
        let is_copy = |headers: &[(String, Vec<u8>)]| {
            headers.iter().any(|(name, value)| name == ":authority" && has_shadow_suffix(value))
        };
        let (copies, originals): (Vec<_>, Vec<_>) =
            upstreams.seen(id).into_iter().partition(|seen| is_copy(&seen.headers));
        answer.mirrors = copies.into_iter().map(|seen| seen.cluster).collect();
        // The last one is the one that answered, should there have been retries.
        answer.upstream = originals.into_iter().next_back();
        (answer.mirrors.len() >= wanted).then_some(())
    });
}

/// Envoy marks the host of a copy.
fn has_shadow_suffix(host: &[u8]) -> bool {
    let host = host.split(|byte| *byte == b':').next().unwrap_or_default();
    host.ends_with(b"-shadow")
}
