use std::rc::Rc;

use serde_json::Value;

use super::{Mode, authentication, fault, rate_limit, telemetry};
use crate::matchers::ClaimPath;
use crate::matchers::claim::Claims;
use crate::request::HeaderEdit;

/// What the stages learned about a request. Telemetry reads this and nothing else.
#[derive(Debug, Default)]
pub struct Facts {
    /// The token that speaks for the request: of several rules' tokens, that of the first rule in the document. Claims
    /// of two tokens are never put together.
    pub token: Option<Rc<Token>>,
    /// What verifying has cost so far.
    pub checks: authentication::Checks,
    /// The place of the chosen `http` entry.
    pub entry: Option<usize>,
    /// Which of its matches held; one without any has none.
    pub entry_match: Option<usize>,
    /// The chosen entry's name.
    pub route: Option<Rc<str>>,
    /// The cluster that the request was sent to.
    pub destination: Option<Rc<str>>,
    /// The clusters that get copies, each at the place of its header.
    pub mirrors: [Option<Rc<str>>; 3],
    /// How many edits had been made to the request when the entry was chosen: those after them are the entry's own, and may
    /// not change where it goes.
    pub edits_before_choice: Option<usize>,
    /// Whether Envoy's own choice was made on another request than the policy saw: with headers that the client forged, or
    /// without those that were added before a wait.
    pub not_envoys: bool,
    /// The headers that a meshfilter earlier in the chain chose, each followed by a space; `None` if nobody asked.
    pub earlier: Option<Vec<u8>>,
    /// How it ended.
    pub decision: Decision,
    /// What every policy that had a say decided.
    pub verdicts: Vec<Verdict>,
    /// What limits remember while they decide.
    pub asked: rate_limit::Asked,
    /// What the chosen entry's fault did.
    pub fault: fault::Injected,
    /// Changes to the response's headers, in order. They are made to local replies, too.
    pub response_edits: Vec<HeaderEdit>,
    /// What telemetry remembers until the request is over.
    pub tagged: telemetry::Tagged,
}

/// A verified token.
#[derive(Debug, Default)]
pub struct Token {
    /// The name of the rule that accepted it.
    pub rule: Rc<str>,
    /// Its claims.
    pub claims: Claims,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It went on to the upstream.
    #[default]
    Allowed,
    /// No good token.
    AuthnDenied,
    /// Not permitted.
    AuthzDenied,
    /// Too often.
    RateLimited,
    /// Ended by an injected fault.
    FaultAborted,
    /// Answered by the entry's `directResponse`, or as a CORS preflight.
    DirectResponse,
    /// Redirected by the entry.
    Redirected,
}

/// What one policy decided about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The policy's name.
    pub policy: Rc<str>,
    /// `allowed`, `denied`, `audited`, `limited`, `delayed`, `aborted`: its word in the metrics.
    pub decision: &'static str,
    /// Whether it counted.
    pub mode: Mode,
}

impl Facts {
    /// Lets go of what only the decision needed: a request may be open for long after it.
    pub fn forget(&mut self) {
        self.token = None;
        self.asked = rate_limit::Asked::default();
    }

    /// A claim of the token that speaks for the request.
    pub fn claim(&self, path: &ClaimPath) -> Option<&Value> {
        path.find(&self.token.as_ref()?.claims)
    }

    /// Whether a meshfilter earlier in the chain chose this header.
    pub fn earlier_has(&self, name: &str) -> bool {
        let earlier = self.earlier.as_deref().unwrap_or_default();
        earlier.split(|byte| *byte == b' ').any(|known| known == name.as_bytes())
    }

    /// Notes what a policy decided.
    pub fn verdict(&mut self, policy: &Rc<str>, decision: &'static str, mode: Mode) {
        // To begin with room for what most requests get costs less than to grow.
        if self.verdicts.capacity() == 0 {
            self.verdicts = Vec::with_capacity(4);
        }
        self.verdicts.push(Verdict { policy: policy.clone(), decision, mode });
    }

    /// Notes what a policy decided at last, in place of what it decided before, if it did.
    pub fn revise_verdict(&mut self, policy: &Rc<str>, decision: &'static str, mode: Mode) {
        match self.verdicts.iter_mut().find(|verdict| Rc::ptr_eq(&verdict.policy, policy)) {
            Some(verdict) => verdict.decision = decision,
            None => self.verdict(policy, decision, mode),
        }
    }
}

impl Decision {
    /// Whether somebody was refused: who has no good token, is not permitted, or comes too often.
    pub fn is_refusal(self) -> bool {
        matches!(self, Decision::AuthnDenied | Decision::AuthzDenied | Decision::RateLimited)
    }

    /// Its word in metrics, logs and tags.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Allowed => "allowed",
            Decision::AuthnDenied => "authn_denied",
            Decision::AuthzDenied => "authz_denied",
            Decision::RateLimited => "rate_limited",
            Decision::FaultAborted => "fault_aborted",
            Decision::DirectResponse => "direct_response",
            Decision::Redirected => "redirected",
        }
    }
}
