//! Where to, and how: Istio's VirtualService `http` entries.

pub mod answer;
pub mod cors;
pub mod hosts;
pub mod index;
pub mod rewrite;
pub mod split;
pub mod upstream;

use std::rc::Rc;

use super::fault::Fault;
use super::{Decision, Facts, Mode, Step, line};
use crate::host::Host;
use crate::policy::{HttpMatch, Unknown};
use crate::request::{HeaderEdit, Request};
use crate::trace::{self, Event};
use answer::{DirectResponse, Redirect};
use cors::{Cors, Preflight};
pub use hosts::Host as EntryHost;
use hosts::Hosts;
use index::Place;
use upstream::Forward;

/// The compiled section.
#[derive(Debug, Default)]
pub struct Routing {
    entries: Vec<Entry>,
    hosts: Hosts,
    has_cors: bool,
}

/// One entry.
#[derive(Debug)]
pub struct Entry {
    /// Its name in logs, metrics and tags.
    pub name: Rc<str>,
    /// For which hosts it is; none is for all of them.
    pub hosts: Vec<EntryHost>,
    /// Any of these; none is for every request.
    pub matches: Vec<HttpMatch>,
    /// Changes to every answer.
    pub response_headers: Vec<HeaderEdit>,
    /// Which other sites' scripts may ask.
    pub cors: Option<Cors>,
    /// What goes wrong on purpose.
    pub fault: Option<Fault>,
    /// What is done with the request.
    pub action: Action,
}

/// What an entry does with a request.
#[derive(Debug)]
pub enum Action {
    /// Sends it on.
    Forward(Box<Forward>),
    /// Answers with another address.
    Redirect(Redirect),
    /// Answers by itself.
    DirectResponse(DirectResponse),
}

impl Routing {
    /// The section with these entries.
    pub fn new(entries: Vec<Entry>) -> Self {
        Routing {
            hosts: Hosts::new(&entries),
            has_cors: entries.iter().any(|entry| entry.cors.is_some()),
            entries,
        }
    }

    /// The entries, in the order in which they are tried.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Which of them may be a request's.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Every entry's name, with each of its destinations by its name in metrics; none for Envoy's own route.
    pub fn destinations(&self) -> impl Iterator<Item = (&Rc<str>, Option<&Rc<str>>)> {
        let forwarding = self.entries.iter().filter_map(|entry| match &entry.action {
            Action::Forward(forward) => Some((&entry.name, forward)),
            Action::Redirect(_) | Action::DirectResponse(_) => None,
        });
        forwarding.flat_map(|(name, forward)| {
            let split = forward.split.as_ref().map_or(&[][..], |split| split.destinations());
            let own = split.is_empty().then_some((name, None));
            split.iter().map(move |destination| (name, Some(&destination.cluster))).chain(own)
        })
    }

    /// Answers a CORS preflight, before anybody is asked for a token: the browser sends none with it. The first entry that
    /// has a CORS policy and may be the actual request's decides; behind one that has none and takes that request for sure,
    /// nobody is asked: leave that it does not give would let a site change what it guards.
    pub fn preflight(&self, request: &Request, facts: &mut Facts) -> Step {
        let preflight = if self.has_cors { Preflight::of(request) } else { None };
        let Some(preflight) = preflight else { return Step::Continue };
        let asked = Unknown::AllBut { method: preflight.method };
        let decides = |place: Place| {
            let entry = self.entries.get(place.0)?;
            let matched = index::find(&self.entries, place);
            let may = matched.is_none_or(|matched| matched.may_match(request, asked));
            let sure = || matched.is_none_or(HttpMatch::is_of_address);
            (may && (entry.cors.is_some() || sure())).then_some(entry)
        };
        let mut places = self.hosts.places(request);
        let Some(entry) = places.find_map(decides) else { return Step::Continue };
        let Some(cors) = &entry.cors else { return Step::Continue };
        let Some(reply) = cors.answer(&preflight) else { return Step::Continue };
        facts.decision = Decision::DirectResponse;
        facts.route = Some(entry.name.clone());
        facts.response_edits.extend_from_slice(&entry.response_headers);
        Step::Reply(Box::new(reply))
    }

    /// Puts CORS headers on a refusal that came before the entry was chosen: without them, a browser hides it from the
    /// script. Of a request without a token nobody knows the claims, so an entry that asks for some may be its own.
    pub fn let_refusal_be_read(&self, request: &Request, facts: &mut Facts) {
        if !self.has_cors || request.header("origin").is_none_or(<[u8]>::is_empty) {
            return;
        }
        let chosen = self.hosts.first(&self.entries, request, facts);
        let may_be = |place: &Place| {
            let has_cors = self.entries.get(place.0).is_some_and(|entry| entry.cors.is_some());
            let matched = index::find(&self.entries, *place).filter(|_| has_cors);
            matched.is_some_and(|matched| matched.may_match(request, Unknown::Claims))
        };
        let mut before = self.hosts.places(request).take_while(|place| Some(*place) != chosen);
        let found = if facts.token.is_none() { before.find(may_be) } else { None };
        let entry = found.or(chosen).and_then(|place| self.entries.get(place.0));
        if let Some(cors) = entry.and_then(|entry| entry.cors.as_ref()) {
            cors.mark(request, facts);
        }
    }

    /// Chooses the first entry that matches.
    pub fn choose(&self, request: &Request, facts: &mut Facts) -> Step {
        let Some((place, matched)) = self.hosts.first(&self.entries, request, facts) else {
            return Step::Continue;
        };
        let Some(entry) = self.entries.get(place) else { return Step::Continue };
        if log::log_enabled!(log::Level::Debug) {
            let by = index::find(&self.entries, (place, matched)).and_then(|matched| matched.name.as_deref());
            let more = format_args!("match={:?}", by.unwrap_or_default());
            line::debug("chosen", &entry.name, Mode::Enforce, request, more);
        }
        trace::tell(|| Event::Entry(place));
        facts.entry = Some(place);
        facts.entry_match = matched;
        facts.route = Some(entry.name.clone());
        facts.response_edits.extend_from_slice(&entry.response_headers);
        if let Some(cors) = &entry.cors {
            cors.mark(request, facts);
        }
        Step::Continue
    }

    /// Delays the request if the chosen entry's fault says so.
    pub fn delay(&self, request: &Request, facts: &mut Facts, host: &dyn Host) -> Step {
        match self.chosen(facts).and_then(|entry| entry.fault.as_ref()) {
            Some(fault) => fault.delay(request, facts, host),
            None => Step::Continue,
        }
    }

    /// Ends the request if the chosen entry's fault says so.
    pub fn abort(&self, request: &Request, facts: &mut Facts, host: &dyn Host) -> Step {
        match self.chosen(facts).and_then(|entry| entry.fault.as_ref()) {
            Some(fault) => fault.abort(request, facts, host),
            None => Step::Continue,
        }
    }

    /// Answers, or sends the request on to the chosen destination.
    pub fn forward(&self, request: &mut Request, facts: &mut Facts, host: &dyn Host) -> Step {
        let Some(entry) = self.chosen(facts) else { return Step::Continue };
        let matched = facts.entry_match.and_then(|matched| entry.matches.get(matched));
        let (decision, reply) = match &entry.action {
            Action::Forward(forward) => {
                facts.edits_before_choice = Some(request.edit_count());
                if forward.apply(request, matched, facts, host).is_some() {
                    return Step::Continue;
                }
                (Decision::AuthzDenied, rewrite::refusal())
            }
            Action::Redirect(redirect) => (Decision::Redirected, redirect.reply(request, matched)),
            Action::DirectResponse(direct) => (Decision::DirectResponse, direct.reply()),
        };
        let more = format_args!("status={} reason={:?}", reply.status, decision.as_str());
        line::debug("answered", &entry.name, Mode::Enforce, request, more);
        facts.decision = decision;
        Step::Reply(Box::new(reply))
    }

    fn chosen(&self, facts: &Facts) -> Option<&Entry> {
        self.entries.get(facts.entry?)
    }
}
