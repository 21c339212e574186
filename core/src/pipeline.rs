//! The order of the stages, and nothing else.
//!
//! ```text
//! sanitize → preflight → authenticate → authorize → route → limit → ask → delay → abort → forward → check
//! ```
//! A stage that has to wait is run again; a stage that answers ends the request.

use crate::host::Host;
use crate::policy::{Facts, Policy, Step};
use crate::request::Request;
use crate::trace::{self, Event};

/// How far a request has come.
#[derive(Debug, Default)]
pub struct Pipeline {
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Sanitize,
    Preflight,
    Authenticate,
    Authorize,
    Route,
    Limit,
    Ask,
    Delay,
    Abort,
    Forward,
    Check,
    Done,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Sanitize => "sanitize",
            Stage::Preflight => "preflight",
            Stage::Authenticate => "authenticate",
            Stage::Authorize => "authorize",
            Stage::Route => "route",
            Stage::Limit => "limit",
            Stage::Ask => "ask",
            Stage::Delay => "delay",
            Stage::Abort => "abort",
            Stage::Forward => "forward",
            Stage::Check => "check",
            Stage::Done => "done",
        }
    }
}

impl Pipeline {
    /// Runs the stages that are left, until one waits or answers, or until all are done.
    pub fn run(
        &mut self,
        policy: &Policy,
        request: &mut Request,
        facts: &mut Facts,
        host: &dyn Host,
    ) -> Step {
        loop {
            trace::tell(|| Event::Stage(self.stage.name()));
            let (step, next) = match self.stage {
                Stage::Sanitize => (policy.sanitize(request, facts, host), Stage::Preflight),
                Stage::Preflight => (policy.routing.preflight(request, facts), Stage::Authenticate),
                Stage::Authenticate => {
                    (policy.authentication.authenticate(request, facts, host), Stage::Authorize)
                }
                Stage::Authorize => (policy.authorization.authorize(request, facts), Stage::Route),
                Stage::Route => (policy.routing.choose(request, facts), Stage::Limit),
                Stage::Limit => (policy.rate_limits.take(request, facts, host), Stage::Ask),
                Stage::Ask => (policy.rate_limits.ask(request, facts, host), Stage::Delay),
                Stage::Delay => (policy.routing.delay(request, facts, host), Stage::Abort),
                Stage::Abort => (policy.routing.abort(request, facts, host), Stage::Forward),
                Stage::Forward => (policy.routing.forward(request, facts, host), Stage::Check),
                Stage::Check => (policy.authorization.check_rewritten(request, facts), Stage::Done),
                Stage::Done => return Step::Continue,
            };
            match step {
                Step::Continue => self.stage = next,
                Step::Wait(_) => return step,
                Step::Reply(_) | Step::Reset => {
                    if matches!(self.stage, Stage::Authenticate | Stage::Authorize) {
                        policy.routing.let_refusal_be_read(request, facts);
                    }
                    self.stage = Stage::Done;
                    return step;
                }
            }
        }
    }

    /// Gives back what the request holds of what all workers share. Called once, when the stream ends.
    pub fn abandon(&mut self, facts: &mut Facts, host: &dyn Host) {
        self.stage = Stage::Done;
        facts.fault.release(host);
    }
}
