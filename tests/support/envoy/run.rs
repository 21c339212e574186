//! Runs a case through a real Envoy.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::{Bootstrap, Envoy, ID_HEADER, Upstreams, wait_at_most, wait_until};
use crate::support::case::{Case, Request, RequestSpec};
use crate::support::check::{Answer, counter_differences, differences};
use crate::support::explained::Explainer;
use crate::support::http::{Client, request_bytes};
use crate::support::native;

/// Of a loaded machine; the fake host holds delays to the millisecond.
const DELAY_SLACK: Duration = Duration::from_secs(1);

/// Counters and copies come after the answer. Envoy shows histograms when it flushes its statistics, every five seconds.
const COUNTED_WITHIN: Duration = Duration::from_secs(30);

/// Runs a case; the error has everything that was not as expected, and what Envoy logged.
pub fn run(case: &Case) -> Result<(), String> {
    let upstreams = Upstreams::start().map_err(|error| error.to_string())?;
    let envoy = Envoy::start(&Bootstrap::for_case(case, &upstreams))?;
    let address = envoy.address()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let tokens = case.tokens(now)?;
    let mut sent = Vec::new();
    // What is for Envoy alone cannot be explained.
    let mut explainer = match case.only {
        None => Some(Explainer::new(&case.policy, &case.environment)?),
        Some(_) => None,
    };
    for spec in &case.requests {
        let request = spec.prepare(&tokens)?;
        for round in 1..=spec.repeat {
            let id = sent.len().to_string();
            let explained = explainer.as_mut().map(|explainer| explainer.explain(&native::sent(&request)));
            let answer = send(address, &request, &id)
                .map_err(|error| format!("{}: {error}\n{}", spec.name, envoy.log()))?;
            sent.push((spec, round, id, answer, explained));
        }
    }
    let logged = logged(&envoy, sent.len())?;
    let mut found = Vec::new();
    for (spec, round, id, mut answer, explained) in sent {
        if let Some(line) = logged.get(&id) {
            answer.details = line["details"].as_str().unwrap_or_default().to_owned();
            for (name, value) in line["state"].as_object().into_iter().flatten() {
                if let Some(value) = value.as_str() {
                    answer.filter_state.insert(name.clone(), value.as_bytes().to_vec());
                }
            }
        }
        arrivals(&upstreams, spec, &id, &mut answer);
        let mut problems = differences(&spec.expect, &answer);
        problems.extend(explained.iter().flat_map(|explained| explained.differences(&answer)));
        if !problems.is_empty() {
            let round = if spec.repeat > 1 { format!(" (round {round})") } else { String::new() };
            found.push(format!("{}{round}: {}", spec.name, problems.join("; ")));
        }
    }
    // Counters are written in batches.
    let mut wrong = Vec::new();
    let _ = wait_at_most(COUNTED_WITHIN, "counters", || {
        wrong = counter_differences(&case.counters, &envoy.prometheus());
        wrong.is_empty().then_some(())
    });
    found.extend(wrong);
    match found.is_empty() {
        true => Ok(()),
        false => Err(format!("{}\nEnvoy's log:\n{}", found.join("\n"), envoy.log())),
    }
}

fn send(address: SocketAddr, request: &Request, id: &str) -> io::Result<Answer> {
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
    let mut answer = Answer { delay: began.elapsed(), delay_slack: DELAY_SLACK, ..Answer::default() };
    if let Some(response) = response {
        answer.status = Some(response.status);
        answer.headers = response.headers;
        answer.body = response.body;
    }
    Ok(answer)
}

/// The access log by the requests' ids, once it has them all.
fn logged(envoy: &Envoy, count: usize) -> Result<BTreeMap<String, Value>, String> {
    wait_until("the access log", || {
        let lines = envoy.access_log();
        let by_id: BTreeMap<String, Value> =
            lines.into_iter().filter_map(|line| Some((line["id"].as_str()?.to_owned(), line))).collect();
        (by_id.len() == count).then_some(by_id)
    })
    .map_err(|error| format!("{error}\n{}", envoy.log()))
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
        answer.mirrors = copies.into_iter().map(|seen| seen.upstream).collect();
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
