//! One limit for the whole fleet: asks Envoy's rate limit service, over gRPC.
//!
//! Local buckets come first. Who is refused there is not asked about; whom the service refuses gets the tokens back
//! that were taken from the local ones. All services that a request needs are asked at once.

mod message;

use std::rc::Rc;
use std::time::Duration;

use super::reply::{self, Refusal};
use super::{Asked, KeyPart, Level};
use crate::host::{BufferType, HeaderMap, Host, HttpCall, MapType};
use crate::json::Deserialize;
use crate::policy::{Facts, Guard, Mode, Sight, Step, Wait, line};
use crate::request::{HeaderEdit, Request};
use crate::trace::{self, Event};
use message::{
    Code, DescriptorStatus, HeaderValue, RateLimitDescriptor, RateLimitRequest, RateLimitResponse,
};

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
    /// How many hits a request is. 0 is what a service takes for one.
    pub hits_addend: u32,
    /// How a request is refused. Without a body, the service's.
    pub refusal: Refusal,
    /// Whether it counts.
    pub mode: Mode,
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
    state: State,
}

#[derive(Debug)]
enum State {
    Asked {
        token: u32,
    },
    Answered(Box<RateLimitResponse>),
    /// There is no answer, for this reason.
    Failed(&'static str),
}

impl GlobalLimit {
    /// Asks the service; `None` if the limit does not apply.
    fn ask(&self, limit: usize, sight: &Sight<'_>, host: &dyn Host) -> Option<Question> {
        if !self.guard.may_hold(sight) {
            return None;
        }
        let descriptors =
            self.descriptors.iter().filter_map(|descriptor| descriptor.fill(sight.request, sight.facts));
        let descriptors: Vec<_> = descriptors.collect();
        if descriptors.is_empty() {
            return None;
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
        Some(Question { limit, state })
    }
}

impl Descriptor {
    fn fill(&self, request: &Request, facts: &Facts) -> Option<RateLimitDescriptor> {
        let entry = |(key, part): &(String, KeyPart)| {
            let value = part.value(request, facts)?;
            // protobuf wants UTF-8. A value that is none must be counted all the same.
            let value = String::from_utf8_lossy(&value).into_owned();
            Some(message::Entry { key: key.clone(), value })
        };
        let entries = self.0.iter().map(entry).collect::<Option<Vec<_>>>()?;
        Some(RateLimitDescriptor { entries })
    }
}

/// Asks about a request where that is to be done; run again, it decides what the answers mean.
pub(super) fn ask(
    limits: &[GlobalLimit],
    request: &mut Request,
    facts: &mut Facts,
    host: &dyn Host,
) -> Option<Step> {
    if !facts.asked.begun {
        let sight = Sight::new(request, facts);
        let asked = limits.iter().enumerate();
        let questions = asked.filter_map(|(index, limit)| limit.ask(index, &sight, host)).collect();
        let longest = limits.iter().map(|limit| limit.timeout).max().unwrap_or_default();
        let longest = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        facts.asked.questions = questions;
        facts.asked.deadline = host.now().saturating_add(longest);
        facts.asked.begun = true;
    }
    if facts.asked.calls().next().is_some() && host.now() < facts.asked.deadline {
        return Some(Step::Wait(Wait::Answers(facts.asked.deadline)));
    }
    settle(limits, request, facts)
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
fn settle(limits: &[GlobalLimit], request: &mut Request, facts: &mut Facts) -> Option<Step> {
    let questions = std::mem::take(&mut facts.asked.questions);
    let mut refused: Option<(&GlobalLimit, Box<RateLimitResponse>)> = None;
    let mut undecided: Option<&GlobalLimit> = None;
    let mut passed = Vec::new();
    for question in questions {
        let Some(limit) = limits.get(question.limit) else { continue };
        let word = match &question.state {
            State::Answered(answer) if answer.overall_code() == Code::OverLimit => "limited",
            State::Answered(_) => "allowed",
            State::Asked { .. } | State::Failed(_) => "unavailable",
        };
        trace::tell(|| Event::Answered { name: limit.name.clone(), word });
        facts.verdict(&limit.name, word, limit.mode);
        say(limit, &question.state, word, request);
        if limit.mode == Mode::Shadow {
            continue;
        }
        match question.state {
            State::Answered(answer) if answer.overall_code() == Code::OverLimit => {
                let longer = refused.as_ref().is_none_or(|(_, known)| wait(&answer) > wait(known));
                if longer {
                    refused = Some((limit, answer));
                }
            }
            State::Answered(answer) => passed.push((limit, answer)),
            State::Asked { .. } | State::Failed(_) if limit.failure_mode == FailureMode::Deny => {
                undecided = Some(limit);
            }
            State::Asked { .. } | State::Failed(_) => {}
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
    let wait = status.duration_until_reset.as_ref().map_or(0, |duration| {
        let seconds = u64::try_from(duration.seconds).unwrap_or(0).saturating_mul(NANOSECONDS_PER_SECOND);
        seconds.saturating_add(u64::try_from(duration.nanos).unwrap_or(0))
    });
    Some(Level { limit, remaining: super::bucket::whole(status.limit_remaining), wait })
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
            State::Answered(_) | State::Failed(_) => None,
        }
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests;
