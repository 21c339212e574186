//! One limit for the whole fleet: asks Envoy's rate limit service, over gRPC.
//!
//! Local buckets come first. Who is refused there is not asked about; whom the service refuses gets the tokens back
//! that were taken from the local ones. All services that a request needs are asked at once. What a service refused is
//! refused here until the time that it named.

#[expect(missing_docs, reason = "the names are those of envoy.service.ratelimit.v3")]
pub mod message;
mod refusals;
mod service;

use std::rc::Rc;
use std::time::Duration;

use super::reply::{self, Refusal};
use super::{Asked, KeyPart, Level};
use crate::host::{BufferType, HeaderMap, Host, HttpCall, Instant, MapType};
use crate::policy::{Facts, Guard, Mode, Sight, Step, Wait, line};
use crate::request::{HeaderEdit, Request};
use crate::trace::{self, Event};
use meshfilter_json::Deserialize;
use message::{
    Code, DescriptorStatus, HeaderValue, RateLimitDescriptor, RateLimitOverride, RateLimitRequest,
    RateLimitResponse,
};
pub use refusals::Refusals;
use refusals::{Fingerprint, Refused};
pub use service::Service;

/// The longest answer, in bytes.
const MAX_RESPONSE_LENGTH: usize = 64 * 1024;

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// One entry that asks a service.
#[derive(Debug)]
pub struct GlobalLimit {
    /// Its name.
    pub name: Rc<str>,
    /// Which requests it is for.
    pub guard: Guard,
    /// The Envoy cluster of the service.
    pub cluster: String,
    /// Which of the service's limits are meant.
    pub domain: String,
    /// How long an answer may take.
    pub timeout: Duration,
    /// What becomes of a request about which there is no answer.
    pub failure_mode: FailureMode,
    /// What the service is asked about.
    pub descriptors: Vec<Descriptor>,
    /// Goes with every descriptor, in place of the limit that the service is configured with.
    pub limit: Option<Override>,
    /// How many hits a request is. 0 is what a service takes for one.
    pub hits_addend: u32,
    /// How a request is refused. Without a body, the service's.
    pub refusal: Refusal,
    /// Whether it counts.
    pub mode: Mode,
    /// How the service does.
    pub service: Service,
}

/// A limit that stands in the policy and not in the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// From 0: nothing.
    pub requests_per_unit: u32,
    /// The time that they are for.
    pub unit: Unit,
}

/// A unit of time, as rate limit services count in. The numbers are those of `envoy.type.v3.RateLimitUnit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum Unit {
    /// A second.
    Second = 1,
    /// 60 seconds.
    Minute = 2,
    /// 60 minutes.
    Hour = 3,
    /// 24 hours.
    Day = 4,
    /// 30 days to most services.
    Month = 5,
    /// 365 days to most services.
    Year = 6,
}

/// What becomes of a request about which a rate limit service gives no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum FailureMode {
    /// It passes.
    #[default]
    Allow,
    /// It is refused with 500.
    Deny,
}

/// One descriptor: its entries' keys and where their values come from. If a value is missing the descriptor is left
/// out.
#[derive(Debug)]
pub struct Descriptor(pub Vec<(String, KeyPart)>);

/// What one service was asked, and what it said.
#[derive(Debug)]
pub struct Question {
    /// The limit's place.
    limit: usize,
    /// What it was asked about, in its order; empty if nothing can be remembered.
    fingerprints: Vec<Fingerprint>,
    state: State,
}

#[derive(Debug)]
enum State {
    Asked {
        token: u32,
    },
    Answered(Box<RateLimitResponse>),
    /// It refused this before, and named a time that is not over.
    Remembered(Refused),
    /// There is no answer, for this reason.
    Failed(&'static str),
}

impl GlobalLimit {
    /// Asks the service, unless it is known what it would say; `None` if the limit does not apply.
    fn ask(&self, limit: usize, refusals: &Refusals, sight: &Sight<'_>, host: &dyn Host) -> Option<Question> {
        if !self.guard.may_hold(sight) {
            return None;
        }
        let fill = |descriptor: &Descriptor| descriptor.fill(self.limit, sight.request, sight.facts);
        let descriptors = self.descriptors.iter().filter_map(fill);
        let descriptors: Vec<_> = descriptors.collect();
        if descriptors.is_empty() {
            return None;
        }
        let prints = descriptors.iter().map(|it| refusals.fingerprint(limit, self.hits_addend, it));
        let fingerprints = prints.collect::<Option<Vec<_>>>().unwrap_or_default();
        let now = host.now();
        let refused = fingerprints.iter().filter_map(|print| refusals.get(*print, now));
        if let Some(refused) = refused.max_by_key(|refused| refused.until) {
            return Some(Question { limit, fingerprints, state: State::Remembered(refused) });
        }
        let question =
            RateLimitRequest { domain: self.domain.clone(), descriptors, hits_addend: self.hits_addend };
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", message::PATH),
            (":authority", &self.cluster),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let call = HttpCall {
            cluster: self.cluster.clone(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            body: message::frame(&question),
            timeout: self.timeout,
        };
        trace::tell(|| {
            let pair = |entry: &message::Entry| (entry.key.clone(), entry.value.clone());
            let all = question.descriptors.iter();
            let descriptors = all.map(|descriptor| descriptor.entries.iter().map(pair).collect()).collect();
            Event::Asked { name: self.name.clone(), mode: self.mode, descriptors }
        });
        let state = match host.http_call(&call) {
            Ok(token) => State::Asked { token },
            Err(_) => State::Failed("the proxy cannot ask: is there a cluster of this name?"),
        };
        Some(Question { limit, fingerprints, state })
    }

    /// Keeps in mind which descriptors are refused, and until when.
    fn remember(&self, question: &Question, answer: &RateLimitResponse, refusals: &Refusals, now: Instant) {
        // A service that does not say which is not understood.
        if question.fingerprints.len() != answer.statuses.len() {
            return;
        }
        let each = question.fingerprints.iter().zip(&answer.statuses);
        for (fingerprint, status) in each.filter(|(_, status)| status.code() == Code::OverLimit) {
            if status.duration_until_reset.is_none() {
                continue;
            }
            let limit = status.current_limit.as_ref().map_or(0, |limit| limit.requests_per_unit);
            let until = now.saturating_add(reset(status));
            refusals.remember(*fingerprint, Refused { until, limit }, now);
        }
    }
}

impl Descriptor {
    fn fill(&self, limit: Option<Override>, request: &Request, facts: &Facts) -> Option<RateLimitDescriptor> {
        let entry = |(key, part): &(String, KeyPart)| {
            let value = part.value(request, facts)?;
            // protobuf wants UTF-8. A value that is none must be counted all the same.
            let value = String::from_utf8_lossy(&value).into_owned();
            Some(message::Entry { key: key.clone(), value })
        };
        let entries = self.0.iter().map(entry).collect::<Option<Vec<_>>>()?;
        let limit = limit.map(|Override { requests_per_unit, unit }| RateLimitOverride {
            requests_per_unit,
            unit: unit as i32,
        });
        Some(RateLimitDescriptor { entries, limit })
    }
}

/// Asks about a request where that is to be done; run again, it decides what the answers mean.
pub(super) fn ask(
    limits: &[GlobalLimit],
    refusals: &Refusals,
    request: &mut Request,
    facts: &mut Facts,
    host: &dyn Host,
) -> Option<Step> {
    if !facts.asked.begun {
        let sight = Sight::new(request, facts);
        let asked = limits.iter().enumerate();
        let ask = |(index, limit): (usize, &GlobalLimit)| limit.ask(index, refusals, &sight, host);
        let questions = asked.filter_map(ask).collect();
        let longest = limits.iter().map(|limit| limit.timeout).max().unwrap_or_default();
        let longest = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        facts.asked.questions = questions;
        facts.asked.deadline = host.now().saturating_add(longest);
        facts.asked.begun = true;
    }
    if facts.asked.calls().next().is_some() && host.now() < facts.asked.deadline {
        return Some(Step::Wait(Wait::Answers(facts.asked.deadline)));
    }
    settle(limits, refusals, request, facts, host)
}

/// Takes the answer of a callout, if it is one of this request's. Says whether all have come.
pub(super) fn on_http_call_response(token: u32, asked: &mut Asked, host: &dyn Host) -> bool {
    let mine = asked.questions.iter_mut().find(|question| question.call() == Some(token));
    let Some(question) = mine else { return false };
    question.state = answer(host).map_or_else(State::Failed, |answer| State::Answered(Box::new(answer)));
    asked.calls().next().is_none()
}

/// Reads a callout's answer.
fn answer(host: &dyn Host) -> Result<RateLimitResponse, &'static str> {
    let headers = host.header_map(MapType::HttpCallResponseHeaders).map_err(|_| "no answer in time")?;
    match headers.get(b":status") {
        Some(b"200") => {}
        None => return Err("no answer in time"),
        Some(_) => return Err("the service did not answer with 200"),
    }
    // An answer without a message has it among the headers.
    let trailers = host.header_map(MapType::HttpCallResponseTrailers).unwrap_or_default();
    let status = |map: &HeaderMap| map.get(b"grpc-status").map(|status| status == b"0");
    if status(&trailers).or_else(|| status(&headers)) != Some(true) {
        return Err("the service's grpc-status is not 0");
    }
    let body = host.buffer(BufferType::HttpCallResponseBody, 0, MAX_RESPONSE_LENGTH).unwrap_or_default();
    let answer: RateLimitResponse = message::unframe(&body).ok_or("the answer is no RateLimitResponse")?;
    match answer.overall_code() {
        Code::Unknown => Err("the service did not decide"),
        Code::Ok | Code::OverLimit => Ok(answer),
    }
}

/// What the answers mean; `None` lets the request pass.
fn settle(
    limits: &[GlobalLimit],
    refusals: &Refusals,
    request: &mut Request,
    facts: &mut Facts,
    host: &dyn Host,
) -> Option<Step> {
    let questions = std::mem::take(&mut facts.asked.questions);
    let now = host.now();
    let mut refused: Option<(&GlobalLimit, Box<RateLimitResponse>)> = None;
    let mut undecided: Option<&GlobalLimit> = None;
    let mut passed = Vec::new();
    for question in questions {
        let Some(limit) = limits.get(question.limit) else { continue };
        let word = match &question.state {
            State::Answered(answer) if answer.overall_code() == Code::OverLimit => {
                limit.remember(&question, answer, refusals, now);
                limit.service.refused.add(1, host);
                "limited"
            }
            State::Remembered(_) => {
                limit.service.remembered.add(1, host);
                "limited"
            }
            State::Answered(_) => {
                limit.service.allowed.add(1, host);
                "allowed"
            }
            State::Asked { .. } | State::Failed(_) => "unavailable",
        };
        match &question.state {
            State::Answered(_) => limit.service.answers(&limit.name),
            State::Asked { .. } => limit.service.fails(limit, "no answer in time", host),
            State::Failed(reason) => limit.service.fails(limit, reason, host),
            State::Remembered(_) => {}
        }
        trace::tell(|| Event::Answered { name: limit.name.clone(), word });
        // A bucket of the same entry may have said something before.
        facts.revise_verdict(&limit.name, word, limit.mode);
        say(limit, &question.state, word, request);
        if limit.mode == Mode::Shadow {
            continue;
        }
        let refusal = match question.state {
            State::Answered(answer) if answer.overall_code() == Code::OverLimit => Some(answer),
            State::Remembered(remembered) => Some(Box::new(remembered.answer(now))),
            State::Answered(answer) => {
                passed.push((limit, answer));
                None
            }
            State::Asked { .. } | State::Failed(_) => {
                if limit.failure_mode == FailureMode::Deny {
                    undecided = Some(limit);
                }
                None
            }
        };
        if let Some(answer) = refusal
            && refused.as_ref().is_none_or(|(_, known)| wait(&answer) > wait(known))
        {
            refused = Some((limit, answer));
        }
    }
    if let Some((limit, answer)) = refused {
        return Some(refuse(limit, &answer, facts));
    }
    if let Some(limit) = undecided {
        return Some(reply::undecided(limit, request, facts));
    }
    for (limit, answer) in passed {
        for (name, value) in answer.request_headers_to_add.iter().filter_map(header) {
            request.add_header(name, value);
        }
        let added = answer.response_headers_to_add.iter().filter_map(header);
        facts.response_edits.extend(added.map(|(name, value)| HeaderEdit::Add(name.into(), value.to_vec())));
        let level = answer.statuses.iter().filter_map(level).min_by_key(Level::rank);
        reply::tell(limit.refusal.headers, level, facts);
    }
    None
}

/// Says what a service did not allow; a request that it did not decide is refused by `failureMode`.
fn say(limit: &GlobalLimit, state: &State, word: &str, request: &Request) {
    let (event, reason) = match state {
        State::Answered(_) if word == "limited" => ("refused", "over the limit"),
        State::Remembered(_) => ("refused", "over the limit, as the service said before"),
        State::Answered(_) => return,
        State::Failed(reason) => ("undecided", *reason),
        State::Asked { .. } => ("undecided", "no answer in time"),
    };
    let more = format_args!("cluster={:?} reason={reason:?}", limit.cluster);
    line::debug(event, &limit.name, limit.mode, request, more);
}

fn refuse(limit: &GlobalLimit, answer: &RateLimitResponse, facts: &mut Facts) -> Step {
    let over = answer.statuses.iter().filter(|status| status.code() == Code::OverLimit);
    let level = over.filter_map(level).max_by_key(|level| level.wait);
    let mut headers: Vec<_> = answer.response_headers_to_add.iter().filter_map(header).collect();
    headers.push(("x-envoy-ratelimited".to_owned(), b"true"));
    let headers = headers.into_iter().map(|(name, value)| (name, value.to_vec())).collect();
    reply::over(&limit.refusal, "request_rate_limited", &answer.raw_body, level, headers, facts)
}

/// Nanoseconds until the last of the limits that refuse begins anew.
fn wait(answer: &RateLimitResponse) -> u64 {
    let over = answer.statuses.iter().filter(|status| status.code() == Code::OverLimit);
    over.filter_map(level).map(|level| level.wait).max().unwrap_or(0)
}

/// What a client may be told of a limit; a descriptor for which the service has none says nothing.
fn level(status: &DescriptorStatus) -> Option<Level> {
    let limit = status.current_limit.as_ref()?.requests_per_unit;
    Some(Level { limit, remaining: super::bucket::whole(status.limit_remaining), wait: reset(status) })
}

/// Nanoseconds until a limit begins anew; 0 where the service does not say.
fn reset(status: &DescriptorStatus) -> u64 {
    status.duration_until_reset.as_ref().map_or(0, |duration| {
        let seconds = u64::try_from(duration.seconds).unwrap_or(0).saturating_mul(NANOSECONDS_PER_SECOND);
        seconds.saturating_add(u64::try_from(duration.nanos).unwrap_or(0))
    })
}

/// A header that a service wants added, unless it is none, or one that belongs to the filter or to the proxy.
fn header(header: &HeaderValue) -> Option<(String, &[u8])> {
    let name = header.key.to_ascii_lowercase();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) || name.starts_with("x-meshfilter-") {
        return None;
    }
    let value = if header.value.is_empty() { header.raw_value.as_slice() } else { header.value.as_bytes() };
    let printable = !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    printable.then_some((name, value))
}

impl Question {
    /// The callout's token, while there is no answer.
    pub(super) fn call(&self) -> Option<u32> {
        match self.state {
            State::Asked { token } => Some(token),
            State::Answered(_) | State::Remembered(_) | State::Failed(_) => None,
        }
    }
}

impl Refused {
    /// What the service would say.
    fn answer(self, now: Instant) -> RateLimitResponse {
        let left = self.until.saturating_sub(now);
        let seconds = i64::try_from(left / NANOSECONDS_PER_SECOND).unwrap_or(i64::MAX);
        let nanos = i32::try_from(left % NANOSECONDS_PER_SECOND).unwrap_or(0);
        let status = DescriptorStatus {
            code: Code::OverLimit.into(),
            current_limit: (self.limit > 0)
                .then_some(message::CurrentLimit { requests_per_unit: self.limit }),
            limit_remaining: 0,
            duration_until_reset: Some(prost_types::Duration { seconds, nanos }),
        };
        let overall_code = Code::OverLimit.into();
        RateLimitResponse { overall_code, statuses: vec![status], ..RateLimitResponse::default() }
    }
}
