//! Fault injection: delays and aborts by percentage, as Envoy's fault filter does them.

mod active;
mod delay;
mod headers;

use std::fmt;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::Duration;

pub use active::ActiveFaults;
pub use delay::Delay;

use super::{Decision, Facts, Mode, Step, Wait, line};
use crate::host::{Host, Instant, LocalReply};
use crate::request::Request;
use crate::trace::{self, Event};
use active::Place;

/// One entry's fault.
#[derive(Debug)]
pub struct Fault {
    /// The entry's name.
    pub name: Rc<str>,
    /// Whether it counts.
    pub mode: Mode,
    /// When it ends, since the Unix epoch.
    pub until: Option<Duration>,
    /// How many requests it may hold at once in the whole process.
    pub max_active: Option<ActiveFaults>,
    /// Requests that have to wait.
    pub delay: Option<DelayFault>,
    /// Requests that are ended.
    pub abort: Option<AbortFault>,
}

/// Requests that have to wait.
#[derive(Debug)]
pub struct DelayFault {
    /// How many of a million.
    pub parts_per_million: u32,
    /// How long.
    pub delay: Delay,
}

/// Requests that are ended.
#[derive(Debug)]
pub struct AbortFault {
    /// How many of a million.
    pub parts_per_million: u32,
    /// With what.
    pub ending: Ending,
    /// The body of the answer.
    pub body: Vec<u8>,
    /// Headers of the answer, their names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// How a request is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// An HTTP status; for a gRPC request the proxy maps it.
    Http(u16),
    /// 200 and this `grpc-status`.
    Grpc(u32),
    /// What the request's `x-envoy-fault-abort-*` headers say.
    Headers,
    /// No answer: the stream is closed.
    Reset,
}

/// What was injected into one request.
#[derive(Debug, Default)]
pub struct Injected {
    waiting_until: Option<Instant>,
    place: Option<Place>,
    delayed: Option<Duration>,
    aborted: bool,
}

impl Injected {
    /// How long the request had to wait, if it had.
    pub fn delayed(&self) -> Option<Duration> {
        self.delayed
    }

    /// Whether the request was ended.
    pub fn aborted(&self) -> bool {
        self.aborted
    }

    /// Gives back the request's place among the active faults.
    pub fn release(&mut self, host: &dyn Host) {
        if let Some(place) = self.place.take() {
            place.leave(host);
        }
    }
}

impl Fault {
    /// Makes the request wait if it is drawn. Run again after the wait, it lets the request go on.
    pub fn delay(&self, request: &Request, facts: &mut Facts, host: &dyn Host) -> Step {
        if let Some(deadline) = facts.fault.waiting_until {
            if host.now() < deadline {
                return Step::Wait(Wait::Until(deadline));
            }
            facts.fault.waiting_until = None;
            facts.fault.release(host);
            return Step::Continue;
        }
        let Some(fault) = &self.delay else { return Step::Continue };
        if !self.is_in_force(host) {
            return Step::Continue;
        }
        let parts_per_million = match fault.delay {
            Delay::Headers => headers::delay_percentage(request, fault.parts_per_million),
            _ => fault.parts_per_million,
        };
        if !self.is_drawn("delay", parts_per_million, host) {
            return Step::Continue;
        }
        let Some(length) = fault.delay.length(request, host) else { return Step::Continue };
        let nanoseconds = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let deadline = host.now().saturating_add(nanoseconds);
        if self.mode == Mode::Enforce {
            if let Some(active) = &self.max_active {
                let Some(place) = active.enter(host, deadline) else {
                    self.say("skipped", request, format_args!("reason=\"too many are active\""));
                    return Step::Continue;
                };
                facts.fault.place = Some(place);
            }
            facts.fault.waiting_until = Some(deadline);
            facts.fault.delayed = Some(length);
        }
        self.say("delayed", request, format_args!("milliseconds={}", length.as_millis()));
        facts.verdict(&self.name, "delayed", self.mode);
        if self.mode == Mode::Shadow { Step::Continue } else { Step::Wait(Wait::Until(deadline)) }
    }

    /// Ends the request if it is drawn.
    pub fn abort(&self, request: &Request, facts: &mut Facts, host: &dyn Host) -> Step {
        let Some(fault) = &self.abort else { return Step::Continue };
        if !self.is_in_force(host) {
            return Step::Continue;
        }
        let parts_per_million = match fault.ending {
            Ending::Headers => headers::abort_percentage(request, fault.parts_per_million),
            _ => fault.parts_per_million,
        };
        if !self.is_drawn("abort", parts_per_million, host) {
            return Step::Continue;
        }
        let ending = match fault.ending {
            Ending::Headers => match headers::ending(request) {
                Some(ending) => ending,
                None => return Step::Continue,
            },
            ending => ending,
        };
        if self.mode == Mode::Shadow {
            self.say("aborted", request, format_args!("with=\"{ending:?}\""));
            facts.verdict(&self.name, "aborted", self.mode);
            return Step::Continue;
        }
        // A request that was delayed had its place; as in Envoy, its abort is part of the same fault.
        let full = facts.fault.delayed.is_none()
            && self.max_active.as_ref().is_some_and(|active| active.is_full(host));
        if full {
            self.say("skipped", request, format_args!("reason=\"too many are active\""));
            return Step::Continue;
        }
        self.say("aborted", request, format_args!("with=\"{ending:?}\""));
        facts.verdict(&self.name, "aborted", self.mode);
        facts.decision = Decision::FaultAborted;
        facts.fault.aborted = true;
        let (status, grpc_status) = match ending {
            Ending::Http(status) => (status, None),
            Ending::Grpc(status) => (200, Some(status)),
            Ending::Headers | Ending::Reset => return Step::Reset,
        };
        Step::Reply(Box::new(LocalReply {
            status,
            details: "fault_filter_abort".to_owned(),
            body: fault.body.clone(),
            headers: fault.headers.clone(),
            grpc_status,
        }))
    }

    fn is_drawn(&self, kind: &'static str, parts_per_million: u32, host: &dyn Host) -> bool {
        trace::drawing(kind);
        let drawn = draw(parts_per_million, host);
        trace::tell(|| Event::Draw {
            name: self.name.clone(),
            mode: self.mode,
            kind,
            parts_per_million,
            drawn,
        });
        drawn
    }

    fn say(&self, event: &str, request: &Request, more: fmt::Arguments<'_>) {
        if event == "skipped" {
            trace::tell(|| Event::Spared { name: self.name.clone(), reason: "maxActive" });
        }
        line::debug(event, &self.name, self.mode, request, more);
    }

    fn is_in_force(&self, host: &dyn Host) -> bool {
        let holds = self.until.is_none_or(|until| host.wall_clock() < until);
        if !holds {
            trace::tell(|| Event::Spared { name: self.name.clone(), reason: "until" });
        }
        holds
    }
}

/// Whether a request is drawn. The proxy is not asked for a random number where none is needed.
pub(super) fn draw(parts_per_million: u32, host: &dyn Host) -> bool {
    const MILLION: NonZeroU64 = NonZeroU64::new(1_000_000).unwrap();
    match u64::from(parts_per_million) {
        0 => false,
        some if some >= MILLION.get() => true,
        some => host.random() % MILLION < some,
    }
}

#[cfg(test)]
mod tests;
