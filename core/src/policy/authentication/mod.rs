//! Who is asking: the request's tokens, verified against the rules' key sets.
//!
//! For each request one requirement holds. Its rules look for tokens where theirs stand, each token is checked, and
//! what the checks come to together lets the request through or refuses it. Nothing is changed before that is
//! known, so a request that has to wait for a key set is simply judged once more.

mod algorithm;
mod cache;
mod claims;
mod decimal;
mod extract;
mod jwk;
mod key_set;
mod key_source;
mod output;
mod refusal;
mod remote;
mod requirement;
mod rule;
mod signature;
#[cfg(test)]
#[path = "../../../../cli/src/cases/sign.rs"]
pub mod signing;
mod status;
mod token;

pub use algorithm::{Algorithm, Algorithms};
pub use claims::RequiredClaims;
pub use extract::{Found, HeaderLocation, Locations, MAX_TOKENS, Place};
pub use key_set::KeySet;
pub use key_source::{KeySource, Keys};
pub use output::Output;
pub use refusal::Failure;
pub use remote::{Location, Remote, Settings, Url, take_secret};
pub use requirement::{Judge, Outcome, Require, Required, Requirement};
pub use rule::{Audiences, Rule, SpaceDelimited, Times, Validity, Verified};
pub use signature::{Checks, VerifySignatureArguments, VerifySignatureResult};
pub use status::Status;
pub use token::{MAX_TOKEN_LENGTH, Parsed};

use std::cell::RefCell;
use std::rc::Rc;

use cache::Cache;

use super::routing::cors::Preflight;
use super::{Decision, Facts, Guard, Mode, Sight, Step, Wait, ambiguous_path, line};
use crate::host::{Host, Instant, MetricId, MetricType};
use crate::matchers::Truth;
use crate::matchers::path::is_ambiguous;
use crate::request::Request;
use crate::trace::{self, Event, TokenVerdict};

/// The compiled section.
#[derive(Debug)]
pub struct Authentication {
    rules: Vec<Rule>,
    /// The first that matches decides.
    requirements: Vec<Requirement>,
    /// What decides where none does.
    otherwise: Require,
    bypass_cors_preflight: bool,
    /// A path that servers differ on chooses no requirement.
    refuses_ambiguous_paths: bool,
    mode: Mode,
    /// What it is called in metrics and logs.
    name: Rc<str>,
    cache: RefCell<Cache>,
    counters: Counters,
}

/// How often the cache knew a token, and how often not.
#[derive(Debug, Default)]
struct Counters {
    hits: Option<MetricId>,
    misses: Option<MetricId>,
}

/// A place where a rule found a good token.
#[derive(Debug)]
struct Accepted {
    rule: usize,
    place: Place,
    /// The token, if it counts: of several of one subject the first does, alone.
    verified: Option<Rc<Verified>>,
}

/// What one token comes to.
enum Verdict {
    Good(Rc<Verified>),
    Bad(Failure),
    Wait(Instant),
}

impl Verdict {
    fn told(&self, rule: usize, token: &[u8], place: Place) -> Event {
        let verdict = match self {
            Verdict::Good(verified) => TokenVerdict::Good(verified.token.clone()),
            Verdict::Bad(failure) => TokenVerdict::Bad(*failure),
            Verdict::Wait(_) => TokenVerdict::Wait,
        };
        Event::Token { rule, found: Some((place, token.to_vec())), verdict }
    }
}

impl Default for Authentication {
    fn default() -> Self {
        Authentication::new(Vec::new(), Vec::new(), true, Mode::Enforce)
    }
}

impl Authentication {
    /// A section of these rules. Where no requirement matches, any of the rules has to hold. `bypass_cors_preflight`
    /// lets those pass without a token.
    pub fn new(
        rules: Vec<Rule>,
        requirements: Vec<Requirement>,
        bypass_cors_preflight: bool,
        mode: Mode,
    ) -> Self {
        Authentication {
            otherwise: Require::Any((0..rules.len()).map(Require::Rule).collect()),
            refuses_ambiguous_paths: mode == Mode::Enforce
                && requirements.iter().any(|requirement| {
                    requirement.guard.refuses_ambiguous_paths && requirement.guard.depends_on_path()
                }),
            rules,
            requirements,
            bypass_cors_preflight,
            mode,
            name: "authentication".into(),
            cache: RefCell::default(),
            counters: Counters::default(),
        }
    }

    /// Whether there is nothing to verify.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether the path has a say in what is refused: `require: none` under a prefix is a rule about paths, too.
    pub fn depends_on_path(&self) -> bool {
        let mut claims = self.rules.iter().flat_map(|rule| &rule.required_claims);
        let mut guards = self.requirements.iter().map(|requirement| &requirement.guard);
        self.mode == Mode::Enforce
            && (claims.any(RequiredClaims::depend_on_path) || guards.any(Guard::depends_on_path))
    }

    /// Prepares what needs the proxy.
    pub fn start(&mut self, host: &dyn Host) {
        if self.is_empty() {
            return;
        }
        self.rules.iter().for_each(|rule| rule.keys.start(host));
        let counter = |name| host.metric(MetricType::Counter, name).ok();
        self.counters = Counters {
            hits: counter("meshfilter_jwt_cache_hits_total"),
            misses: counter("meshfilter_jwt_cache_misses_total"),
        };
    }

    /// Verifies the request's tokens; the one that counts is in [`Facts::token`] afterwards.
    pub fn authenticate(&self, request: &mut Request, facts: &mut Facts, host: &dyn Host) -> Step {
        if self.is_empty() || (self.bypass_cors_preflight && Preflight::of(request).is_some()) {
            trace::tell(|| Event::NotAsked { preflight: !self.is_empty() });
            return Step::Continue;
        }
        if self.refuses_ambiguous_paths && is_ambiguous(request.path()) {
            return ambiguous_path::refuse(request, facts);
        }
        let required = self.required(request, facts);
        if required.is_nothing() {
            return Step::Continue;
        }
        let checks = &facts.checks;
        let judging = Judging { section: self, request, checks, host, now: host.wall_clock().as_secs() };
        let outcome = required.evaluate(&mut |rule, judge| judging.rule(rule, judge));
        match outcome {
            Outcome::Good(accepted) => {
                if self.mode == Mode::Enforce {
                    self.tell_upstream(&accepted, request);
                }
                let speaks = speakers(&accepted).min_by_key(|(rule, _)| *rule);
                facts.token = speaks.map(|(_, verified)| verified.token.clone());
                facts.verdict(&self.name, "allowed", self.mode);
                Step::Continue
            }
            Outcome::Wait(deadline) if self.mode == Mode::Enforce => Step::Wait(Wait::Keys(deadline)),
            // A request is not held up for what changes nothing.
            Outcome::Wait(_) => {
                facts.verdict(&self.name, "undecided", self.mode);
                Step::Continue
            }
            Outcome::Failed { failure, rule, .. } => {
                let rule = rule.and_then(|rule| self.rules.get(rule)).map_or("-", |rule| &rule.name);
                line::debug(
                    "refused",
                    &self.name,
                    self.mode,
                    request,
                    format_args!("rule={rule:?} reason={:?}", failure.text()),
                );
                facts.verdict(&self.name, "denied", self.mode);
                if self.mode == Mode::Shadow {
                    return Step::Continue;
                }
                facts.decision = Decision::AuthnDenied;
                Step::Reply(Box::new(failure.reply(request)))
            }
        }
    }

    /// What the request needs: what the first requirement that matches says. Where that is another one in each reading of
    /// the request, or cannot be told, it is what all of those say together.
    fn required<'a>(&'a self, request: &Request, facts: &Facts) -> Required<'a> {
        let mut required = Required::default();
        let sight = Sight::new(request, facts);
        if self.requirements.is_empty() {
            trace::tell(|| Event::Requirement(None));
            required.add(&self.otherwise);
            return required;
        }
        for path in sight.readings() {
            let mut decided = false;
            for (place, requirement) in self.requirements.iter().enumerate() {
                let answer = requirement.guard.holds(&sight, path);
                if answer > Truth::No {
                    trace::tell(|| Event::Requirement(Some(place)));
                    required.add(&requirement.require);
                }
                decided = answer == Truth::Yes;
                if decided {
                    break;
                }
            }
            if !decided {
                trace::tell(|| Event::Requirement(None));
                required.add(&self.otherwise);
            }
        }
        required
    }

    /// Takes the tokens out and puts into headers what is wanted of them.
    fn tell_upstream(&self, accepted: &[Accepted], request: &mut Request) {
        for (rule, verified) in speakers(accepted) {
            for (name, value) in &verified.headers {
                // A claim that the first rule's token lacks is not another's to tell.
                let is_anothers = |(other, _): (usize, _)| {
                    other < rule && self.rules.get(other).is_some_and(|rule| rule.output.has(name))
                };
                if !speakers(accepted).any(is_anothers) {
                    request.add_header(name.clone(), value);
                }
            }
        }
        for Accepted { rule, place, .. } in accepted {
            if let Some(rule) = self.rules.get(*rule).filter(|rule| !rule.forward_original_token) {
                rule.locations.remove(request, *place);
            }
        }
    }

    /// When [`Authentication::poll`] wants to be called next.
    pub fn next_poll(&self) -> Option<Instant> {
        self.rules.iter().filter_map(|rule| rule.keys.next_poll()).min()
    }

    /// Fetches and reads key sets as their time comes. Says whether one changed.
    pub fn poll(&self, host: &dyn Host) -> bool {
        let mut changed = false;
        for rule in &self.rules {
            changed |= rule.keys.poll(host);
        }
        changed
    }

    /// Reads the answer of a callout that [`Authentication::poll`] made. Says whether a key set changed.
    pub fn on_http_call_response(&self, token: u32, host: &dyn Host) -> bool {
        let mut changed = false;
        for rule in &self.rules {
            changed |= rule.keys.on_http_call_response(token, host);
        }
        changed
    }
}

/// The tokens that count, one of each rule: a requirement may name a rule in several of its branches.
fn speakers(accepted: &[Accepted]) -> impl Iterator<Item = (usize, &Rc<Verified>)> {
    accepted.iter().enumerate().filter_map(|(at, one)| {
        let spoke = |other: &Accepted| other.rule == one.rule && other.verified.is_some();
        let verified = one.verified.as_ref()?;
        (!accepted.iter().take(at).any(spoke)).then_some((one.rule, verified))
    })
}

/// One request being judged.
#[derive(Clone, Copy)]
struct Judging<'a> {
    section: &'a Authentication,
    request: &'a Request<'a>,
    checks: &'a Checks,
    host: &'a dyn Host,
    /// The wall clock, in seconds since the epoch.
    now: u64,
}

impl Judging<'_> {
    /// Looks at all tokens that stand where those of a rule do.
    fn rule(self, index: usize, judge: Judge) -> Outcome<Accepted> {
        let failed = |failure, found| Outcome::Failed { failure, rule: Some(index), found };
        let Some(rule) = self.section.rules.get(index) else { return failed(Failure::MISSING, false) };
        let found = rule.locations.find(self.request);
        if found.is_empty() {
            trace::tell(|| Event::Token {
                rule: index,
                found: None,
                verdict: TokenVerdict::Bad(Failure::MISSING),
            });
            return failed(Failure::MISSING, false);
        }
        if found.len() > MAX_TOKENS {
            return failed(Failure::Token(Status::JwtMultipleTokens), true);
        }
        let mut accepted = Vec::with_capacity(found.len());
        let mut failures = None;
        let mut wait: Option<Instant> = None;
        // From the last to the first, as Envoy's filter does it.
        for Found { token, place } in found.iter().rev() {
            let verdict = self.token(index, rule, token);
            trace::tell(|| verdict.told(index, token, *place));
            match verdict {
                Verdict::Good(verified) => {
                    accepted.push(Accepted { rule: index, place: *place, verified: Some(verified) })
                }
                Verdict::Bad(failure) => {
                    line::debug(
                        "bad_token",
                        &self.section.name,
                        self.section.mode,
                        self.request,
                        format_args!("rule={:?} reason={:?}", rule.name, failure.text()),
                    );
                    failures.get_or_insert(failure);
                    if judge == Judge::Together {
                        break;
                    }
                }
                Verdict::Wait(deadline) => {
                    wait = Some(wait.map_or(deadline, |soonest| soonest.min(deadline)))
                }
            }
        }
        match (failures, wait) {
            (Some(failure), _) if judge == Judge::Together => failed(failure, true),
            (_, Some(deadline)) => Outcome::Wait(deadline),
            (_, None) => match one_identity(&mut accepted) {
                true => Outcome::Good(accepted),
                false => failed(Failure::Token(Status::JwtMultipleTokens), true),
            },
        }
    }

    fn token(self, index: usize, rule: &Rule, token: &[u8]) -> Verdict {
        let cached = self.section.cache.borrow_mut().get(index, token, self.now);
        if let Some((verified, version)) = cached {
            if let Err(status) = rule.check_again(&verified, self.now) {
                return Verdict::Bad(Failure::Token(status));
            }
            match self.keys(rule, verified.kid.as_deref()) {
                Ok(keys) if keys.version() == version => {
                    count(self.section.counters.hits, self.host);
                    return self.claims(rule, verified);
                }
                // The keys changed: the signature is looked at again.
                Ok(_) => {}
                Err(verdict) => return verdict,
            }
        }
        match self.verify(rule, token) {
            Ok((verified, keys)) => {
                count(self.section.counters.misses, self.host);
                let verified = Rc::new(verified);
                let end = rule.validity.end(&verified.times);
                self.section.cache.borrow_mut().insert(index, token, verified.clone(), keys.version(), end);
                self.claims(rule, verified)
            }
            Err(verdict) => verdict,
        }
    }

    /// Everything that is done with a token that is not known yet.
    fn verify(self, rule: &Rule, token: &[u8]) -> Result<(Verified, Rc<KeySet>), Verdict> {
        let bad = |status| Verdict::Bad(Failure::Token(status));
        let parsed = Parsed::parse(token).map_err(bad)?;
        rule.check(&parsed, self.now).map_err(bad)?;
        let keys = self.keys(rule, parsed.kid.as_deref())?;
        keys.verify(&parsed, rule.algorithms, self.checks, self.host).map_err(bad)?;
        Ok((rule.accept(parsed), keys))
    }

    fn keys(self, rule: &Rule, kid: Option<&str>) -> Result<Rc<KeySet>, Verdict> {
        match rule.keys.keys(kid, self.host, self.request.received_at) {
            Keys::Ready(keys) => Ok(keys),
            Keys::Wait(deadline) => Err(Verdict::Wait(deadline)),
            Keys::Unavailable => Err(Verdict::Bad(Failure::KEYS)),
        }
    }

    fn claims(self, rule: &Rule, verified: Rc<Verified>) -> Verdict {
        match rule.check_claims(self.request, &verified.token) {
            Ok(()) => Verdict::Good(verified),
            Err(failure) => Verdict::Bad(failure),
        }
    }
}

/// Leaves one token of a rule that counts, the first of those that were found; they were looked at from the last to the
/// first. False if they are of different subjects: nobody could say for whom the request is.
fn one_identity(accepted: &mut [Accepted]) -> bool {
    let Some((Accepted { verified: Some(first), .. }, others)) = accepted.split_last_mut() else {
        return true;
    };
    let is_of_same =
        |other: &Accepted| other.verified.as_ref().is_some_and(|it| it.is_of_same_subject(first));
    let same = others.iter().all(is_of_same);
    others.iter_mut().for_each(|other| other.verified = None);
    same
}

fn count(counter: Option<MetricId>, host: &dyn Host) {
    if let Some(counter) = counter {
        host.increment(counter, 1);
    }
}
