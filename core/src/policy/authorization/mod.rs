//! Whether they may: Istio's AuthorizationPolicy.
//!
//! Everything that refuses is asked whether it *might* match, and everything that lets pass whether it *surely*
//! does: what cannot be told, an address that the proxy keeps to itself or a byte that is no text, is never a way
//! through.

mod attribute;
mod evaluation;
mod identity;
mod index;
mod rule;
mod seen;

use std::cell::Cell;
use std::rc::Rc;

pub use attribute::Attribute;
pub use evaluation::Sources;
pub use index::Rules;
pub use rule::{Condition, PathSet, RequestPrincipal, Rule, Test, Values};

use self::evaluation::Evaluation;
use self::rule::Reading;
use super::{Decision, Facts, Mode, Step, ambiguous_path, line};
use crate::host::LocalReply;
use crate::matchers::Truth;
use crate::matchers::path::is_ambiguous;
use crate::request::Request;

/// The compiled section.
#[derive(Debug, Default)]
pub struct Authorization {
    /// In the document's order.
    pub policies: Box<[AuthorizationPolicy]>,
    /// What its rules ask of a request.
    pub sources: Sources,
    /// Rules of AUDIT policies.
    pub audit: Rules,
    /// DENY and ALLOW policies in force.
    pub enforced: Stage,
    /// DENY and ALLOW policies in shadow mode.
    pub shadow: Stage,
    /// The refusal of what no ALLOW policy matches.
    pub unmatched: LocalReply,
    /// Whether a path that servers differ on is refused.
    pub refuses_ambiguous_paths: bool,
    /// Whether it was said that the direct peer is missing.
    pub said_peer_is_missing: Cell<bool>,
}

/// What counts together: DENY before ALLOW.
#[derive(Debug, Default)]
pub struct Stage {
    /// Rules of DENY policies.
    pub deny: Rules,
    /// Rules of ALLOW policies.
    pub allow: Rules,
    /// The places of the ALLOW policies, those without rules too.
    pub allowing: Box<[usize]>,
}

/// What is known of a policy besides its rules.
#[derive(Debug)]
pub struct AuthorizationPolicy {
    /// Its name.
    pub name: Rc<str>,
    /// Whether it counts.
    pub mode: Mode,
    /// The answer when it refuses.
    pub reply: LocalReply,
}

/// What an operator has to put in front of the filter for rules about the direct peer.
pub const DIRECT_PEER_SNIPPET: &str = r#"
- name: envoy.filters.http.set_filter_state
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config
    on_request_headers:
    - object_key: meshfilter.direct_remote_address
      factory_key: envoy.string
      format_string:
        text_format_source: {inline_string: "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"}"#;

/// Why a request does not pass.
#[derive(Clone, Copy)]
enum Refusal<'a> {
    /// A DENY rule matches, or might.
    Denied(&'a Rule, Truth),
    /// An ALLOW rule might match, and none does.
    Undecided(&'a Rule),
    /// No ALLOW rule matches.
    Unmatched,
}

/// What the rules come to.
struct Outcome<'a> {
    /// Policies by their places, with their words.
    verdicts: Vec<(usize, &'static str)>,
    refusal: Option<Refusal<'a>>,
}

impl Authorization {
    /// Whether there is no policy.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// Evaluates the policies.
    pub fn authorize(&self, request: &Request, facts: &mut Facts) -> Step {
        if self.refuses_ambiguous_paths && is_ambiguous(request.path()) {
            return ambiguous_path::refuse(request, facts);
        }
        if self.is_empty() {
            return Step::Continue;
        }
        let evaluation = Evaluation::new(&self.sources, request, facts.token.as_deref());
        let outcome = self.decide(&evaluation);
        let peer_is_missing = evaluation.peer_is_missing.get();
        for (place, word) in outcome.verdicts {
            if let Some(policy) = self.policies.get(place) {
                facts.verdict(&policy.name, word, policy.mode);
            }
        }
        let Some(refusal) = outcome.refusal else { return Step::Continue };
        if peer_is_missing && !matches!(refusal, Refusal::Unmatched | Refusal::Denied(_, Truth::Yes)) {
            self.say_that_peer_is_missing();
        }
        facts.decision = Decision::AuthzDenied;
        self.say(refusal, Mode::Enforce, request);
        Step::Reply(Box::new(self.reply(refusal)))
    }

    /// Looks at the path that is forwarded, where the policies made another one of it: what a rewrite puts together was
    /// seen by no rule.
    pub fn check_rewritten(&self, request: &Request, facts: &mut Facts) -> Step {
        if self.refuses_ambiguous_paths && request.has_new_path() && is_ambiguous(request.path()) {
            return ambiguous_path::refuse(request, facts);
        }
        Step::Continue
    }

    fn decide<'a>(&'a self, evaluation: &Evaluation<'_>) -> Outcome<'a> {
        let mut verdicts = Vec::with_capacity(1);
        for rule in matching(&self.audit, evaluation) {
            verdicts.push((rule.policy, "audited"));
            line::info(
                "audited",
                self.name(rule.policy),
                Mode::Enforce,
                evaluation.request,
                format_args!(
                    "rule={} method=\"{}\" path=\"{}\"",
                    rule.number,
                    evaluation.request.method().escape_ascii(),
                    evaluation.request.path().escape_ascii()
                ),
            );
        }
        for rule in matching(&self.shadow.deny, evaluation) {
            verdicts.push((rule.policy, "denied"));
            self.say(Refusal::Denied(rule, Truth::Yes), Mode::Shadow, evaluation.request);
        }
        let refusal = self.enforce(evaluation, &mut verdicts);
        self.shadow_allow(evaluation, &mut verdicts);
        Outcome { verdicts, refusal }
    }

    fn enforce<'a>(
        &'a self,
        evaluation: &Evaluation<'_>,
        verdicts: &mut Vec<(usize, &'static str)>,
    ) -> Option<Refusal<'a>> {
        if !self.enforced.deny.is_empty() {
            for rule in self.enforced.deny.candidates(evaluation.readings()) {
                let answer = rule.matches(evaluation, Reading::Any);
                if answer > Truth::No {
                    verdicts.push((rule.policy, "denied"));
                    return Some(Refusal::Denied(rule, answer));
                }
            }
        }
        if self.enforced.allowing.is_empty() {
            return None;
        }
        let mut undecided = None;
        for rule in self.enforced.allow.candidates(evaluation.readings()) {
            match rule.matches(evaluation, Reading::All) {
                Truth::Yes => {
                    verdicts.push((rule.policy, "allowed"));
                    return None;
                }
                Truth::Unknown => undecided = undecided.or(Some(rule)),
                Truth::No => {}
            }
        }
        verdicts.extend(self.enforced.allowing.iter().map(|place| (*place, "denied")));
        Some(undecided.map_or(Refusal::Unmatched, Refusal::Undecided))
    }

    /// What the ALLOW policies in shadow mode would add: they let pass what they match, and refuse what no ALLOW
    /// policy at all matches.
    fn shadow_allow(&self, evaluation: &Evaluation<'_>, verdicts: &mut Vec<(usize, &'static str)>) {
        if self.shadow.allowing.is_empty() {
            return;
        }
        let matched = self
            .shadow
            .allow
            .candidates(evaluation.readings())
            .find(|rule| rule.matches(evaluation, Reading::All) == Truth::Yes);
        let passes = verdicts.iter().any(|(_, word)| *word == "allowed");
        if let Some(rule) = matched {
            verdicts.push((rule.policy, "allowed"));
        } else if !passes {
            self.say(Refusal::Unmatched, Mode::Shadow, evaluation.request);
            verdicts.extend(self.shadow.allowing.iter().map(|place| (*place, "denied")));
        }
    }

    fn reply(&self, refusal: Refusal<'_>) -> LocalReply {
        let policy = match refusal {
            Refusal::Denied(rule, _) | Refusal::Undecided(rule) => self.policies.get(rule.policy),
            Refusal::Unmatched => None,
        };
        policy.map_or_else(|| self.unmatched.clone(), |policy| policy.reply.clone())
    }

    /// Says why a request is refused, or in shadow mode would be.
    fn say(&self, refusal: Refusal<'_>, mode: Mode, request: &Request) {
        let (rule, reason) = match refusal {
            Refusal::Denied(rule, Truth::Yes) => (Some(rule), "a DENY rule matches"),
            Refusal::Denied(rule, _) => (Some(rule), "a DENY rule cannot be told not to match"),
            Refusal::Undecided(rule) => (Some(rule), "an ALLOW rule cannot be told to match"),
            Refusal::Unmatched => (None, "no ALLOW policy matches"),
        };
        let policy = rule.map_or("none", |rule| self.name(rule.policy));
        match rule {
            Some(rule) => {
                let more = format_args!("rule={} reason={reason:?}", rule.number);
                line::debug("refused", policy, mode, request, more);
            }
            None => line::debug("refused", policy, mode, request, format_args!("reason={reason:?}")),
        }
    }

    /// Loud once, then as quiet as any refusal: a client must not fill the log.
    fn say_that_peer_is_missing(&self) {
        let level =
            if self.said_peer_is_missing.replace(true) { log::Level::Debug } else { log::Level::Error };
        log::log!(
            level,
            "meshfilter: a rule asks for the direct peer's address (ipBlocks, source.ip), and the proxy does not hand it \
             over: put this filter in front of meshfilter:{DIRECT_PEER_SNIPPET}"
        );
    }

    fn name(&self, place: usize) -> &str {
        self.policies.get(place).map_or("", |policy| &policy.name)
    }
}

/// The first rule of each policy that matches, or might.
fn matching<'a>(rules: &'a Rules, evaluation: &Evaluation<'_>) -> Vec<&'a Rule> {
    let mut found: Vec<&Rule> = Vec::new();
    if rules.is_empty() {
        return found;
    }
    for rule in rules.candidates(evaluation.readings()) {
        let known = found.last().is_some_and(|before| before.policy == rule.policy);
        if !known && rule.matches(evaluation, Reading::Any) > Truth::No {
            found.push(rule);
        }
    }
    found
}
