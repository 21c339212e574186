//! Which tokens a request needs, and what several answers come to together.

use super::Failure;
use crate::host::Instant;
use crate::policy::Guard;

/// Which tokens some requests need.
#[derive(Clone, Debug)]
pub struct Requirement {
    /// Which requests are meant.
    pub guard: Guard,
    /// What they need.
    pub require: Require,
}

/// Which tokens are needed. Rules go by their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Require {
    /// Nothing.
    None,
    /// A good token of this rule.
    Rule(usize),
    /// At least one of these holds.
    Any(Vec<Require>),
    /// Each of these holds.
    All(Vec<Require>),
    /// This holds, or there is no token at all.
    Optional(Box<Require>),
    /// Nothing, but good tokens of these rules count.
    Permissive(Vec<usize>),
}

/// How tokens were judged; `T` is an accepted one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It holds, with these tokens.
    Good(Vec<T>),
    /// It does not hold.
    Failed {
        /// Why.
        failure: Failure,
        /// The rule that says so.
        rule: Option<usize>,
        /// Whether there was a token at all, good or bad.
        found: bool,
    },
    /// A key set is on its way; this is when to ask again at the latest.
    Wait(Instant),
}

/// Whether one bad token among several spoils the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// All tokens of a rule have to be good: the upstream might take the bad one for the good one.
    Together,
    /// Each by itself.
    Each,
}

/// All that one request needs; mostly it is one requirement.
#[derive(Debug, Default)]
pub struct Required<'a> {
    first: Option<&'a Require>,
    others: Vec<&'a Require>,
}

impl<'a> Required<'a> {
    /// Adds one that is not there yet.
    pub fn add(&mut self, require: &'a Require) {
        if self.iter().any(|known| std::ptr::eq(known, require)) {
            return;
        }
        match self.first {
            None => self.first = Some(require),
            Some(_) => self.others.push(require),
        }
    }

    /// Whether no token is needed, and none is looked at.
    pub fn is_nothing(&self) -> bool {
        self.iter().all(|require| *require == Require::None)
    }

    /// Combines what `verify` says about each rule; see [`Require::evaluate`].
    pub fn evaluate<T>(&self, verify: &mut dyn FnMut(usize, Judge) -> Outcome<T>) -> Outcome<T> {
        match (self.first, self.others.is_empty()) {
            (Some(only), true) => only.evaluate(verify),
            _ => all(self.iter(), verify),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &'a Require> {
        self.first.into_iter().chain(self.others.iter().copied())
    }
}

impl Require {
    /// Combines what `verify` says about each rule. Nothing is combined before all that counts is known: as long
    /// as a key set is awaited, a request is neither let through nor refused.
    pub fn evaluate<T>(&self, verify: &mut dyn FnMut(usize, Judge) -> Outcome<T>) -> Outcome<T> {
        match self {
            Require::None => Outcome::Good(Vec::new()),
            Require::Rule(rule) => verify(*rule, Judge::Together),
            Require::Any(children) => any(children, verify),
            Require::All(children) => all(children.iter(), verify),
            Require::Optional(child) => match child.evaluate(verify) {
                Outcome::Failed { found: false, .. } => Outcome::Good(Vec::new()),
                outcome => outcome,
            },
            Require::Permissive(rules) => {
                let mut accepted = Vec::new();
                let mut waits = Waits::default();
                for rule in rules {
                    match verify(*rule, Judge::Each) {
                        Outcome::Good(tokens) => accepted.extend(tokens),
                        Outcome::Failed { .. } => {}
                        Outcome::Wait(deadline) => waits.add(deadline),
                    }
                }
                waits.or(Outcome::Good(accepted))
            }
        }
    }
}

/// The first that holds. Where none does, the error is chosen as Envoy's jwt_authn filter chooses it: the last that
/// says more than that a token is missing or of another issuer, and of these two the latter. Missing keys come
/// before all: with them the request might have passed.
fn any<T>(children: &[Require], verify: &mut dyn FnMut(usize, Judge) -> Outcome<T>) -> Outcome<T> {
    let mut last = (Failure::MISSING, None);
    let mut any_found = false;
    let mut waits = Waits::default();
    for child in children {
        match child.evaluate(verify) {
            Outcome::Good(tokens) if waits.none() => return Outcome::Good(tokens),
            Outcome::Good(_) => {}
            Outcome::Failed { failure, rule, found } => {
                any_found |= found;
                let says_more = !failure.is_missing() && !failure.is_unknown_issuer();
                if last.0 != Failure::KEYS && (says_more || last.0.is_missing()) {
                    last = (failure, rule);
                }
            }
            Outcome::Wait(deadline) => waits.add(deadline),
        }
    }
    waits.or(Outcome::Failed { failure: last.0, rule: last.1, found: any_found })
}

/// The first failure, if there is one.
fn all<'a, T>(
    children: impl Iterator<Item = &'a Require>,
    verify: &mut dyn FnMut(usize, Judge) -> Outcome<T>,
) -> Outcome<T> {
    let mut accepted = Vec::new();
    let mut first = None;
    let mut any_found = false;
    let mut waits = Waits::default();
    for child in children {
        match child.evaluate(verify) {
            Outcome::Good(tokens) => {
                any_found |= !tokens.is_empty();
                accepted.extend(tokens);
            }
            Outcome::Failed { failure, rule, found } => {
                any_found |= found;
                first.get_or_insert((failure, rule));
            }
            Outcome::Wait(deadline) => waits.add(deadline),
        }
    }
    waits.or(match first {
        Some((failure, rule)) => Outcome::Failed { failure, rule, found: any_found },
        None => Outcome::Good(accepted),
    })
}

/// The soonest of the points in time until which something is awaited.
#[derive(Default)]
struct Waits(Option<Instant>);

impl Waits {
    fn add(&mut self, deadline: Instant) {
        self.0 = Some(self.0.map_or(deadline, |soonest| soonest.min(deadline)));
    }

    fn none(&self) -> bool {
        self.0.is_none()
    }

    fn or<T>(self, outcome: Outcome<T>) -> Outcome<T> {
        self.0.map_or(outcome, Outcome::Wait)
    }
}

#[cfg(test)]
mod tests;
