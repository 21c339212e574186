//! Decides requests under both policies.

use std::time::Duration;

use meshfilter::trace;
use serde_json::Value;

use super::input::{Chunk, Item, What};
use super::report::{Example, Kind, Report};
use crate::explain::{Document, tell};
use crate::member::member;
use crate::package::Problem;
use crate::proxy::{Answer, Normalized, Proxy, Request, Settings, StandIn, normalize, put_keys};
use crate::recorded::tags::{Tags, not_recorded};
use crate::recorded::{self, Recorded};

/// Where clocks begin that no request has set.
const START: Duration = Duration::from_secs(1_700_000_000);

/// A policy, before and after it was made ready.
pub struct Side {
    document: Document,
    /// Rules take claims in place of tokens, and nothing is counted.
    policy: Value,
    /// What its log has of a request.
    tags: Tags,
}

impl Side {
    pub fn new(document: Document, keys: Option<&Value>) -> Result<Self, Problem> {
        let mut policy = document.source.value.clone();
        if let Some(keys) = keys {
            put_keys(&mut policy, keys);
        }
        StandIn::prepare(&mut policy);
        let tags = Tags::of(&policy);
        if let Some(members) = policy.as_object_mut() {
            // It decides nothing, and its histograms would grow with the requests.
            members.remove("telemetry");
        }
        let side = Side { document, policy, tags };
        side.start(1)?;
        Ok(side)
    }

    /// What it looks at and the log of `old` does not have.
    pub fn looks_beyond(&self, old: &Side) -> Vec<String> {
        not_recorded(&self.policy, &old.tags)
    }

    /// Whether what it decides depends on the requests before.
    pub fn remembers(&self) -> bool {
        let limits = member(&self.policy, "rateLimits").as_array().is_some_and(|limits| !limits.is_empty());
        let entries = member(&self.policy, "http").as_array().map_or(&[][..], Vec::as_slice);
        limits || entries.iter().any(|entry| !member(member(entry, "fault"), "maxActive").is_null())
    }

    fn start(&self, seed: u64) -> Result<Proxy, Problem> {
        let settings = Settings {
            seed: Some(seed),
            now: Some(START),
            environment: std::env::vars().collect(),
            ..Settings::default()
        };
        Proxy::start(&self.policy, settings).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Problem::Wrong(format!("{}: the policy is refused\n{}", self.document.file, lines.join("\n")))
        })
    }
}

/// Decides on one thread.
pub struct Worker<'a> {
    sides: &'a [Side; 2],
    proxies: [Proxy; 2],
    seed: u64,
    first: usize,
    /// The latest recorded time.
    clock: Option<Duration>,
    pub report: Report,
}

impl<'a> Worker<'a> {
    pub fn start(sides: &'a [Side; 2], seed: u64, first: usize) -> Result<Self, Problem> {
        let [old, new] = sides;
        let proxies = [old.start(seed)?, new.start(seed)?];
        Ok(Worker { sides, proxies, seed, first, clock: None, report: Report::new(first) })
    }

    pub fn decide(&mut self, chunk: Chunk) {
        for (number, item) in (chunk.first..).zip(chunk.items) {
            let Item { place, what } = item;
            let recorded = match what {
                What::Line(line) => recorded::read_line(&line),
                What::Read(recorded) => recorded.map(|recorded| *recorded),
            };
            match recorded {
                Ok(recorded) => self.one(number, place, recorded),
                Err(error) => self.report.cannot_read(number, place, error),
            }
        }
    }

    fn one(&mut self, number: u64, place: (usize, u64), mut recorded: Recorded) {
        self.report.requests = self.report.requests.saturating_add(1);
        self.move_to(recorded.time);
        let now = self.clock.unwrap_or(START);
        let [old, new] = self.sides;
        // The log is the old policy's.
        let logged = old.tags.logged(&recorded);
        let has = |name: &str| recorded.line.as_ref().is_some_and(|line| line.get(name).is_some());
        if recorded.line.is_some() && !has("headers") && !has("claims") {
            self.report.bare = self.report.bare.saturating_add(1);
            old.tags.fill(&mut recorded);
        }
        let mut request = recorded.request.clone();
        match normalize(&request.path) {
            Normalized::Path(path) => request.path = path,
            // Envoy answers it before any policy sees it.
            Normalized::Refused => return,
        }
        let random = mixed(self.seed.wrapping_add(number));
        let [old_proxy, new_proxy] = &mut self.proxies;
        old_proxy.host.draw_from(random);
        new_proxy.host.draw_from(random);
        let mut old_request = with_claims(&request, &recorded, old, now);
        let mut before = old_proxy.send(&old_request);
        // Who came past authentication had a token that the log does not have.
        if before.decision == "authn_denied"
            && logged.as_ref().is_some_and(|logged| logged.decision != "authn_denied")
        {
            recorded.claims.get_or_insert_default().entry("sub").or_insert_with(|| "someone".into());
            old_request = with_claims(&request, &recorded, old, now);
            old_proxy.host.draw_from(random);
            before = old_proxy.send(&old_request);
        }
        if let Some(logged) = logged {
            // Whether the old policy decides as the log says that it did.
            self.report.compare(&logged, &before.decision);
        }
        let new_request = &with_claims(&request, &recorded, new, now);
        let after = new_proxy.send(new_request);
        let (old_request, before, after) = (&old_request, &before, &after);
        if same(before, after) {
            return;
        }
        let kind = Kind::of(before, after);
        if !self.report.wants(&kind) || self.first == 0 {
            self.report.count(kind, None);
            return;
        }
        let why = [(old, old_request, before), (new, new_request, after)]
            .map(|(side, request, answer)| self.why(side, request, answer, random, now));
        let line = format!(
            "{} {}",
            crate::explain::plain(request.method.as_bytes()),
            crate::explain::shown_path(&request.path)
        );
        let [old, new] = why;
        self.report.count(kind, Some(Example { number, place, line, old, new }));
    }

    /// Token buckets and dates follow the recorded times.
    fn move_to(&mut self, time: Option<Duration>) {
        let Some(time) = time else { return };
        match self.clock {
            None => self.proxies.iter().for_each(|proxy| proxy.host.set_wall_clock(time)),
            Some(before) => match time.checked_sub(before) {
                Some(by) => self.proxies.iter().for_each(|proxy| proxy.advance(by)),
                None => return,
            },
        }
        self.clock = Some(time);
    }

    /// Why a policy decides so, told by a proxy that remembers nothing.
    fn why(&self, side: &Side, request: &Request, answer: &Answer, random: u64, now: Duration) -> String {
        let Ok(mut proxy) = side.start(self.seed) else { return String::new() };
        proxy.host.set_wall_clock(now);
        proxy.host.draw_from(random);
        let (again, events) = trace::listen(|| proxy.send(request));
        if !same(&again, answer) {
            return format!("{}: the requests before it", answer.details);
        }
        tell(&side.document, &events, request, &again, now).reason()
    }
}

fn same(one: &Answer, other: &Answer) -> bool {
    one.decision == other.decision
        && one.status == other.status
        && one.details == other.details
        && one.upstream.as_ref().map(|seen| &seen.cluster)
            == other.upstream.as_ref().map(|seen| &seen.cluster)
}

/// The request with a token that has the recorded claims.
fn with_claims(request: &Request, recorded: &Recorded, side: &Side, now: Duration) -> Request {
    let mut request = request.clone();
    if let Some(claims) = &recorded.claims
        && let Ok(stand_in) = StandIn::of(&side.policy, None, claims)
    {
        stand_in.put(&mut request, claims, now);
    }
    request
}

/// SplitMix64: numbers in a row become any numbers.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
