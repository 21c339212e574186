//! What the request path looked at while it decided: `meshfilter explain` is told, the module tells nobody.
//!
//! A stage tells with one line, `trace::tell(|| Event::…)`, and the line decides nothing. Without the feature `explain`,
//! which only the command turns on, it compiles to nothing: nothing is built, kept or looked up. With it, and without a
//! listener on this thread, it costs one look at a flag.

use std::rc::Rc;
use std::time::Duration;

#[cfg(feature = "explain")]
use std::cell::{Cell, RefCell};

use crate::matchers::Truth;
use crate::policy::authentication::{Failure, Place as TokenPlace};
use crate::policy::{Mode, Token};
use meshfilter_json::Path;

/// Where something stands in the document, such as `http[0].match[0]`. Without the feature it is nothing at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(#[cfg(feature = "explain")] Box<str>);

/// Something that was looked at, in the order in which it was.
#[derive(Clone, Debug)]
pub enum Event {
    /// A stage begins, or begins anew after a wait.
    Stage(&'static str),
    /// One condition was tried. Those that a decision did not need any more were not.
    Condition(Condition),
    /// What the conditions of one `match` came to.
    Match {
        /// The match.
        place: Place,
        /// Whether all of them hold.
        holds: Truth,
    },
    /// What a rule of an authorization policy came to.
    Rule {
        /// The policy's place.
        policy: usize,
        /// The rule's place in it.
        number: usize,
        /// Whether it matches.
        holds: Truth,
    },
    /// Servers differ on what the path names, so it is refused.
    AmbiguousPath,
    /// Which of `authentication.requirements` holds; none: any rule, as where there are no requirements.
    Requirement(Option<usize>),
    /// No token is looked for: there are no rules, or the request is a CORS preflight.
    NotAsked {
        /// Whether it is one.
        preflight: bool,
    },
    /// What a JWT rule said to one token, or to none.
    Token {
        /// The rule's place.
        rule: usize,
        /// Where the token stands, and its bytes. They are a secret.
        found: Option<(TokenPlace, Vec<u8>)>,
        /// What it came to.
        verdict: TokenVerdict,
    },
    /// This `http` entry was chosen.
    Entry(usize),
    /// One of an entry's destinations was chosen.
    Split {
        /// The clusters and their weights, in the document's order.
        shares: Vec<(Rc<str>, u64)>,
        /// Which one.
        chosen: usize,
        /// Whether by a hash of what the request has, else by a random number.
        sticky: bool,
    },
    /// A copy was drawn, or was not.
    Mirror {
        /// The cluster that gets it.
        cluster: String,
        /// How many of a million.
        parts_per_million: u32,
        /// Whether it was.
        drawn: bool,
    },
    /// A token bucket was asked.
    Limit {
        /// The limit's name.
        name: Rc<str>,
        /// Whether it counts.
        mode: Mode,
        /// The values that make the bucket's key.
        key: Vec<Vec<u8>>,
        /// How many tokens the request takes.
        cost: u32,
        /// How many a full bucket has.
        size: u32,
        /// Whether there were enough.
        allowed: bool,
        /// Whole tokens that are there afterwards.
        remaining: u64,
        /// Until there are enough for a request like this one.
        wait: Duration,
    },
    /// A limit does not apply, since this part of its key has no value.
    LimitLacks {
        /// The limit's name.
        name: Rc<str>,
        /// The part's place in the key.
        part: usize,
    },
    /// A rate limit service is asked.
    Asked {
        /// The limit's name.
        name: Rc<str>,
        /// Whether it counts.
        mode: Mode,
        /// The descriptors' keys and values.
        descriptors: Vec<Vec<(String, String)>>,
    },
    /// What a rate limit service said: `allowed`, `limited` or `unavailable`.
    Answered {
        /// The limit's name.
        name: Rc<str>,
        /// Its word.
        word: &'static str,
    },
    /// A fault was drawn, or was not.
    Draw {
        /// The entry's name.
        name: Rc<str>,
        /// Whether it counts.
        mode: Mode,
        /// `delay` or `abort`.
        kind: &'static str,
        /// How many of a million.
        parts_per_million: u32,
        /// Whether it was.
        drawn: bool,
    },
    /// A fault does not happen, for this reason.
    Spared {
        /// The entry's name.
        name: Rc<str>,
        /// `until` or `maxActive`.
        reason: &'static str,
    },
    /// A tag got its value.
    Tag {
        /// Its name.
        name: String,
        /// Its value.
        value: Vec<u8>,
    },
}

/// A condition, and what it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Where what is wanted stands in the document.
    pub place: Place,
    /// Whether it holds. The negated form holds if its values do not.
    pub holds: Truth,
    /// The values that the request has there; none: it has none.
    pub seen: Vec<Vec<u8>>,
    /// How the path was read, where it is about the path.
    pub reading: Option<Vec<u8>>,
    /// Whose token was read, where it is about a token: the rule's name.
    pub token: Option<Rc<str>>,
}

/// What became of a token.
#[derive(Clone, Debug)]
pub enum TokenVerdict {
    /// It is good.
    Good(Rc<Token>),
    /// It is not, or there is none.
    Bad(Failure),
    /// The keys are on their way.
    Wait,
}

impl Place {
    /// The place that a path names.
    #[inline(always)]
    pub fn of(path: &Path<'_>) -> Self {
        #[cfg(feature = "explain")]
        return Place(path.to_string().into());
        #[cfg(not(feature = "explain"))]
        {
            let _ = path;
            Place()
        }
    }

    /// As errors write it.
    pub fn as_str(&self) -> &str {
        #[cfg(feature = "explain")]
        return &self.0;
        #[cfg(not(feature = "explain"))]
        ""
    }

    /// A member of what stands there, and in it one with a name that the user chose.
    fn member(&self, name: &str, key: &str) -> Self {
        let key = if key.is_empty() { String::new() } else { format!("[{key}]") };
        let path = format!("{}.{name}{key}", self.as_str());
        #[cfg(feature = "explain")]
        return Place(path.into());
        #[cfg(not(feature = "explain"))]
        {
            let _ = path;
            Place()
        }
    }
}

impl Condition {
    /// A condition that is a member of what stands at a place; `key` is a name that the user chose, or nothing.
    pub fn of(place: &Place, member: &str, key: &str, holds: impl Into<Truth>, seen: Vec<Vec<u8>>) -> Self {
        let place = place.member(member, key);
        Condition { place, holds: holds.into(), seen, reading: None, token: None }
    }
}

#[cfg(feature = "explain")]
thread_local! {
    static LISTENING: Cell<bool> = const { Cell::new(false) };
    static PURPOSE: Cell<&'static str> = const { Cell::new("") };
    static HEARD: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
}

/// Whether somebody listens on this thread. What only saves time may be left out then, so that everything is told.
#[inline(always)]
pub fn is_on() -> bool {
    #[cfg(feature = "explain")]
    return LISTENING.get();
    #[cfg(not(feature = "explain"))]
    false
}

/// Tells what was looked at, if somebody listens.
#[inline(always)]
pub fn tell(event: impl FnOnce() -> Event) {
    if is_on() {
        hear(event());
    }
}

/// Says what the next random number is for, so that two proxies draw the same for the same, whatever else they draw.
#[inline(always)]
pub fn drawing(_purpose: &'static str) {
    #[cfg(feature = "explain")]
    PURPOSE.set(_purpose);
}

/// What the next random number is for.
#[cfg(feature = "explain")]
pub fn purpose() -> &'static str {
    PURPOSE.get()
}

#[cfg(feature = "explain")]
fn hear(event: Event) {
    HEARD.with_borrow_mut(|heard| heard.push(event));
}

#[cfg(not(feature = "explain"))]
#[inline(always)]
fn hear(_: Event) {}

/// Listens while `what` runs on this thread.
#[cfg(feature = "explain")]
pub fn listen<T>(what: impl FnOnce() -> T) -> (T, Vec<Event>) {
    let before = (LISTENING.replace(true), HEARD.take());
    let done = what();
    let heard = HEARD.replace(before.1);
    LISTENING.set(before.0);
    (done, heard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_feature_a_place_is_nothing() {
        let size = if cfg!(feature = "explain") { size_of::<Box<str>>() } else { 0 };
        assert_eq!(size_of::<Place>(), size);
    }

    #[cfg(feature = "explain")]
    #[test]
    fn who_listens_hears_and_nobody_else_does() {
        tell(|| unreachable!("nobody listens"));
        let ((), outer) = listen(|| {
            tell(|| Event::AmbiguousPath);
            let ((), inner) = listen(|| tell(|| Event::Entry(2)));
            assert!(matches!(inner[..], [Event::Entry(2)]), "{inner:?}");
            tell(|| Event::Entry(1));
        });
        assert!(matches!(outer[..], [Event::AmbiguousPath, Event::Entry(1)]), "{outer:?}");
        tell(|| unreachable!("nobody listens any more"));
    }
}
