//! Runs a case on the fake host.

use std::time::Duration;

use meshfilter::host::Host;
use meshfilter::trace::{self, Event};

use super::super::proxy::{self, Proxy, Settings};
use super::case::{Case, Request, RequestSpec};
use super::check::{Exchange, counter_differences, differences};
use super::lines;
use super::outcome::Outcome;

/// Runs a case; the error has everything that was not as expected.
///
/// # Errors
/// A line for each request that was not answered as expected, and for each counter.
pub fn run(case: &Case) -> Result<(), String> {
    outcomes(case).into_result()
}

/// Runs a case; what came of each request.
pub fn outcomes(case: &Case) -> Outcome {
    let mut outcome = Outcome::of(case);
    if let Err(error) = fill(case, &mut outcome) {
        outcome.error = Some(error);
    }
    outcome
}

fn fill(case: &Case, outcome: &mut Outcome) -> Result<(), String> {
    let mut proxy = start(case)?;
    let tokens = case.tokens(proxy.host.wall_clock())?;
    for (spec, request_outcome) in case.requests.iter().zip(&mut outcome.requests) {
        let request = spec.prepare(&tokens)?;
        if let Some(by) = spec.advance {
            proxy.advance(by);
        }
        for round in 1..=spec.repeat {
            let problems = differences(&spec.expect, &send(&mut proxy, spec, &request));
            if !problems.is_empty() {
                request_outcome.failed(spec, round, problems);
                break;
            }
        }
    }
    proxy.settle();
    outcome.counters = counter_differences(&case.counters, &proxy.counters());
    Ok(())
}

/// The fake Envoy with the case's policy.
///
/// # Errors
/// Everything that is wrong with the policy.
pub fn start(case: &Case) -> Result<Proxy, String> {
    let settings = Settings {
        environment: case.environment.clone(),
        seed: case.seed,
        clusters: case.clusters.clone(),
        ..Settings::default()
    };
    Proxy::start(&case.policy, settings).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!("the policy is refused:\n{}", lines.join("\n"))
    })
}

/// Sends one request.
pub fn send(proxy: &mut Proxy, spec: &RequestSpec, request: &Request) -> Exchange {
    proxy.respond(spec.response);
    let sent = sent(request);
    let mut deliver = || trace::listen(|| proxy.send(&sent));
    let ((answer, events), log) = match spec.expect.log.is_empty() {
        true => (deliver(), Vec::new()),
        false => lines::heard(deliver),
    };
    let tags = events.into_iter().filter_map(|event| match event {
        Event::Tag { name, value } => Some((name, value)),
        _ => None,
    });
    Exchange { answer, delay_slack: Duration::from_millis(1), decided: true, tags: Some(tags.collect()), log }
}

/// A case's request as the fake Envoy takes it.
pub fn sent(request: &Request) -> proxy::Request {
    let usual = proxy::Request::default();
    proxy::Request {
        method: request.method.clone(),
        path: request.path.clone(),
        host: request.host.clone().into_bytes(),
        headers: request.headers.clone(),
        source: request.source,
        direct: request.direct,
        port: request.port.unwrap_or(usual.port),
        peer: request.peer.clone(),
        properties: request
            .properties
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
            .collect(),
        ..usual
    }
}
