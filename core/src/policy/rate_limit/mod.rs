//! How often: token buckets that all workers of the process share, exactly.

mod bucket;
pub mod global;
mod key;
mod last_write;
mod metrics;
mod reply;
mod set;

use std::borrow::Cow;
use std::rc::Rc;
use std::slice;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

pub use bucket::TokenBucket;
pub use global::GlobalLimit;
pub use reply::{LimitHeaders, Refusal};
pub use set::WAYS;

use super::metric::Counter;
use super::{Facts, Mode, Source, Step, shared};
use crate::host::{Host, Instant, Result, SharedCell, Status};
use crate::matchers::host;
use crate::policy::{Guard, Sight};
use crate::request::Request;
use crate::trace::{self, Event};
use bucket::{Fill, Tokens, whole};
use global::{Question, Refusals};
use key::{KeyHasher, Place};
use last_write::LastWrite;
use metrics::TableMetrics;
use set::{Set, Taken};

/// The compiled section.
#[derive(Debug, Default)]
pub struct RateLimits {
    /// The limits, in the order of the document.
    limits: Vec<Limit>,
    /// The limits that a service keeps.
    globals: Vec<GlobalLimit>,
    /// What those services refused.
    refusals: Refusals,
    /// How many sets there are.
    sets: u32,
    /// What each limit has from the start on; none before it.
    started: Vec<Started>,
    table: TableMetrics,
    last: LastWrite,
}

/// What a limit has from the start on.
#[derive(Debug)]
struct Started {
    /// Has the limit's name in it.
    hasher: KeyHasher,
    /// Where its bucket stands, if it is only one.
    only: Option<Place>,
    /// That bucket, where the workers have memory in common: then it stands in no set.
    cell: Option<Arc<SharedCell>>,
    nearly_empty: Counter,
}

/// One entry.
#[derive(Debug)]
pub struct Limit {
    /// Its name.
    pub name: Rc<str>,
    /// Which requests it is for.
    pub guard: Guard,
    /// One bucket for each combination of values.
    pub key: Vec<KeyPart>,
    /// The bucket's sizes.
    pub bucket: TokenBucket,
    /// How many tokens a request takes.
    pub cost: u32,
    /// How a request is refused.
    pub refusal: Refusal,
    /// Whether it counts.
    pub mode: Mode,
    /// It stands in front of a service, and what is taken from it is spent by asking.
    pub before_service: bool,
}

/// One part of a key.
#[derive(Debug)]
pub struct KeyPart {
    /// Where its value comes from.
    pub source: Source,
    /// What stands in for a value that is not there; without it the limit does not apply.
    pub default: Option<Box<[u8]>>,
}

/// What is remembered of a request while limits decide about it.
#[derive(Debug, Default)]
pub struct Asked {
    /// Whether the services were asked.
    begun: bool,
    /// What they were asked, and what they said.
    questions: Vec<Question>,
    /// When their answers are not waited for any more.
    deadline: Instant,
    /// What the client will be told.
    tightest: Option<Level>,
    /// From which buckets of which limits tokens were taken; a service that refuses gives them back.
    taken: Vec<(usize, Place)>,
}

/// A limit that applies to a request, and its bucket.
struct Applied<'a> {
    limit: &'a Limit,
    started: &'a Started,
    table: &'a TableMetrics,
    last: &'a LastWrite,
    place: Place,
    now: Instant,
}

/// A set as it was read, and what the bucket in it said.
struct Read {
    set: Set,
    /// What swapping wants; none if there was no such set.
    cas: Option<u32>,
    /// Nobody asked the proxy: it is what this worker wrote last.
    expected: bool,
    /// How many sets this worker had written by then.
    writes: u64,
    taken: Taken,
}

impl RateLimits {
    /// Limits whose buckets stand in so many sets, and those that a service keeps.
    pub fn new(limits: Vec<Limit>, sets: u32, globals: Vec<GlobalLimit>) -> Self {
        RateLimits { limits, globals, sets, ..RateLimits::default() }
    }

    /// Whether there is no limit.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.globals.is_empty()
    }

    /// How many limits there are.
    pub fn len(&self) -> usize {
        self.limits.len().saturating_add(self.globals.len())
    }

    /// Learns what all workers must agree on. Called once, when the configuration is accepted.
    pub fn start(&mut self, host: &dyn Host) {
        if !self.globals.is_empty() {
            self.refusals.start(host);
            self.globals.iter().for_each(|limit| limit.service.define(host));
        }
        if self.limits.is_empty() {
            return;
        }
        match KeyHasher::new(host) {
            Ok(hasher) => {
                let start = |limit: &Limit| {
                    let mut hasher = hasher;
                    hasher.part(limit.name.as_bytes());
                    let nearly_empty = metrics::nearly_empty(&limit.name);
                    nearly_empty.define(host);
                    let only = limit.key.is_empty().then(|| hasher.place(self.sets));
                    let cell = only.as_ref().and_then(|_| host.shared_cell(&hasher.name()));
                    Started { hasher, only, cell, nearly_empty }
                };
                self.started = self.limits.iter().map(start).collect();
                self.table.define(self.sets, host);
            }
            Err(status) => log::error!(
                "meshfilter: the proxy gives no shared data, rate limits refuse everything: {status:?}"
            ),
        }
    }

    /// Takes the tokens of every entry that applies, or of none.
    pub fn take(&self, request: &Request, facts: &mut Facts, host: &dyn Host) -> Step {
        if self.limits.is_empty() {
            return Step::Continue;
        }
        if self.started.len() != self.limits.len() {
            return reply::unavailable(facts);
        }
        let now = host.now();
        let sight = Sight::new(request, facts);
        if let ([limit], [started], []) = (&*self.limits, &*self.started, &*self.globals)
            && limit.mode == Mode::Enforce
        {
            return match limit.place(started, self.sets, &sight) {
                Some(place) => self.applied(limit, started, place, now).decide(request, facts, host),
                None => Step::Continue,
            };
        }
        let applied = |mode| {
            let limits = self.limits.iter().zip(&self.started).filter(move |(limit, _)| limit.mode == mode);
            limits.filter_map(|(limit, started)| {
                let place = limit.place(started, self.sets, &sight)?;
                Some(self.applied(limit, started, place, now))
            })
        };
        let enforced: Vec<Applied<'_>> = applied(Mode::Enforce).collect();
        let shadow: Vec<Applied<'_>> = applied(Mode::Shadow).collect();
        let taken = match take_all(&enforced, host) {
            Ok(taken) => taken,
            Err(status) => return undecided(status, facts),
        };
        for (applied, taken) in enforced.iter().zip(&taken) {
            trace::tell(|| applied.told(taken, request, facts));
            facts.verdict(&applied.limit.name, word(taken), Mode::Enforce);
        }
        if taken.iter().any(|taken| !taken.allowed) {
            return reply::refuse(&enforced, &taken, request, facts);
        }
        enforced.iter().zip(&taken).for_each(|(applied, taken)| applied.note_level(taken, host));
        for applied in &shadow {
            // What cannot be decided changes nothing here.
            if let Ok(taken) = applied.take(host) {
                if !taken.allowed {
                    reply::say(applied.limit, &applied.limit.level(&taken), request);
                }
                trace::tell(|| applied.told(&taken, request, facts));
                applied.note_level(&taken, host);
                facts.verdict(&applied.limit.name, word(&taken), Mode::Shadow);
            }
        }
        enforced.iter().zip(&taken).for_each(|(applied, taken)| applied.tell(taken, facts));
        if !self.globals.is_empty() {
            let place = |applied: &Applied<'_>| {
                let limit = self.limits.iter().position(|limit| std::ptr::eq(limit, applied.limit));
                Some((limit?, applied.place.clone()))
            };
            facts.asked.taken = enforced.iter().filter_map(place).collect();
        }
        Step::Continue
    }

    /// Asks the services, when the buckets let the request pass. Run again, it decides what the answers mean; what was
    /// taken from the buckets is given back if a service refuses, unless a bucket stands before that very service to keep a
    /// flood from it.
    pub fn ask(&self, request: &mut Request, facts: &mut Facts, host: &dyn Host) -> Step {
        if !self.globals.is_empty() {
            match global::ask(&self.globals, &self.refusals, request, facts, host) {
                None => {}
                Some(step @ Step::Wait(_)) => return step,
                Some(refusal) => {
                    self.give_back(&facts.asked.taken, host);
                    return refusal;
                }
            }
        }
        reply::announce(facts);
        Step::Continue
    }

    /// Takes the answer of a callout, if it is one of this request's. Says whether the request can go on.
    pub fn on_http_call_response(&self, token: u32, facts: &mut Facts, host: &dyn Host) -> bool {
        global::on_http_call_response(token, &mut facts.asked, host)
    }

    fn give_back(&self, taken: &[(usize, Place)], host: &dyn Host) {
        for (limit, place) in taken {
            let known = self.limits.get(*limit).zip(self.started.get(*limit));
            if let Some((limit, started)) = known.filter(|(limit, _)| !limit.before_service) {
                self.applied(limit, started, place.clone(), host.now()).give_back(host);
            }
        }
    }

    fn applied<'a>(
        &'a self,
        limit: &'a Limit,
        started: &'a Started,
        place: Place,
        now: Instant,
    ) -> Applied<'a> {
        Applied { limit, started, table: &self.table, last: &self.last, place, now }
    }
}

fn undecided(status: Status, facts: &mut Facts) -> Step {
    log::error!("meshfilter: rate limits cannot be decided: {status:?}");
    reply::unavailable(facts)
}

fn word(taken: &Taken) -> &'static str {
    if taken.allowed { "allowed" } else { "limited" }
}

/// Takes from all or from none, in the order of the document.
///
/// All buckets are looked at first, so that a refusal takes from none. Should another worker empty one between the
/// look and the taking, what was taken from those before it is given back.
fn take_all(applied: &[Applied<'_>], host: &dyn Host) -> Result<Vec<Taken>> {
    let reads = applied.iter().map(|applied| applied.read(host)).collect::<Result<Vec<_>>>()?;
    let mut taken: Vec<Taken> = reads.iter().map(|read| read.taken).collect();
    if !taken.iter().all(|taken| taken.allowed) {
        applied.iter().zip(&reads).for_each(|(applied, read)| applied.keep_outlasted(read, host));
        return Ok(taken);
    }
    for (index, (applied_here, read)) in applied.iter().zip(reads).enumerate() {
        let outcome = applied_here.commit(read, host);
        if !matches!(outcome, Ok(Taken { allowed: true, .. })) {
            applied.iter().take(index).for_each(|earlier| earlier.give_back(host));
        }
        let outcome = outcome?;
        if let Some(taken) = taken.get_mut(index) {
            *taken = outcome;
        }
        if !outcome.allowed {
            break;
        }
    }
    Ok(taken)
}

impl Applied<'_> {
    /// Decides by this limit alone, as most documents do.
    fn decide(&self, request: &Request, facts: &mut Facts, host: &dyn Host) -> Step {
        let taken = match self.take_alone(host) {
            Ok(taken) => taken,
            Err(status) => return undecided(status, facts),
        };
        trace::tell(|| self.told(&taken, request, facts));
        facts.verdict(&self.limit.name, word(&taken), Mode::Enforce);
        if !taken.allowed {
            return reply::refuse(slice::from_ref(self), &[taken], request, facts);
        }
        self.note_level(&taken, host);
        self.tell(&taken, facts);
        Step::Continue
    }

    /// The bucket, if it stands by itself.
    fn cell(&self) -> Option<Cell<'_>> {
        // Whoever panicked with it has left it as it was, or as it had to be.
        let cell = self.started.cell.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Cell { fill: self.limit.bucket.refilled(Fill::from_words(*cell), self.now), cell })
    }

    /// As [`take_all`], of one.
    fn take_alone(&self, host: &dyn Host) -> Result<Taken> {
        if let Some(mut cell) = self.cell() {
            return Ok(cell.take(self.limit));
        }
        let read = self.read(host)?;
        if read.taken.allowed {
            return self.commit(read, host);
        }
        self.keep_outlasted(&read, host);
        Ok(read.taken)
    }

    /// Keeps the bucket that a key got although nothing was taken. Should another worker come between, the next request does
    /// it.
    fn keep_outlasted(&self, read: &Read, host: &dyn Host) {
        if read.taken.outlasted && self.write(read, host).is_ok() {
            self.last.wrote_something();
        }
    }

    /// Remembers what the client is to be told.
    fn tell(&self, taken: &Taken, facts: &mut Facts) {
        let headers = self.limit.refusal.headers;
        if headers == LimitHeaders::Draft03 {
            reply::tell(headers, Some(self.limit.level(taken)), facts);
        }
    }

    /// Looks what the bucket would say. What it is expected to say is enough to take from it, as the swap proves it, and
    /// not enough to refuse.
    fn read(&self, host: &dyn Host) -> Result<Read> {
        let writes = self.last.writes();
        if let Some(cell) = self.cell() {
            let taken = cell.look(self.limit);
            return Ok(Read { set: Set::default(), cas: None, expected: false, writes, taken });
        }
        if let Some((mut set, cas)) = self.last.expected(&self.place.set) {
            let taken = self.take_from(&mut set);
            if taken.allowed {
                return Ok(Read { set, cas: Some(cas), expected: true, writes, taken });
            }
        }
        let (mut set, cas) = match host.shared_data(&self.place.set) {
            Ok((bytes, cas)) => (Set::decode(&bytes), Some(cas)),
            Err(Status::NotFound) => (Set::default(), None),
            Err(status) => return Err(status),
        };
        let taken = self.take_from(&mut set);
        Ok(Read { set, cas, expected: false, writes, taken })
    }

    fn take_from(&self, set: &mut Set) -> Taken {
        set.take(self.place.fingerprint, &self.limit.bucket, self.limit.cost, self.now)
    }

    fn write(&self, read: &Read, host: &dyn Host) -> Result<()> {
        let bytes = read.set.encode();
        match read.cas {
            Some(cas) => host.shared_data_swap(&self.place.set, &bytes, cas),
            None => host.shared_data_create(&self.place.set, &bytes),
        }?;
        self.table.wrote(&read.taken, host);
        Ok(())
    }

    /// Takes what was looked at; if another worker came between, looks again.
    fn commit(&self, read: Read, host: &dyn Host) -> Result<Taken> {
        if let Some(mut cell) = self.cell() {
            return Ok(cell.take(self.limit));
        }
        let written = self.write(&read, host);
        if read.expected {
            self.last.guessed(written.is_ok());
        }
        match written {
            Ok(()) => {
                match read.cas {
                    Some(cas) => self.last.wrote(&self.place.set, read.set, cas, read.writes),
                    None => self.last.wrote_something(),
                }
                Ok(read.taken)
            }
            Err(Status::CasMismatch) => {
                if !read.expected {
                    shared::count_retry(host);
                }
                self.take(host)
            }
            Err(status) => Err(status),
        }
    }

    /// Takes from this bucket alone. If the other workers are faster time and again, the request is refused.
    fn take(&self, host: &dyn Host) -> Result<Taken> {
        if let Some(mut cell) = self.cell() {
            return Ok(cell.take(self.limit));
        }
        let mut seen = Taken::default();
        let taken = shared::update(host, &self.place.set, |bytes| {
            let mut set = Set::decode(bytes);
            seen = self.take_from(&mut set);
            ((seen.allowed || seen.outlasted).then(|| set.encode()), seen)
        });
        match taken {
            Err(Status::CasMismatch) => Ok(Taken { allowed: false, ..seen }),
            taken => taken.inspect(|taken| {
                self.last.wrote_something();
                self.table.wrote(taken, host);
            }),
        }
    }

    fn told(&self, taken: &Taken, request: &Request, facts: &Facts) -> Event {
        let Limit { name, mode, key, cost, .. } = self.limit;
        let level = self.limit.level(taken);
        let value = |part: &KeyPart| part.value(request, facts).map(Cow::into_owned);
        Event::Limit {
            name: name.clone(),
            mode: *mode,
            key: key.iter().filter_map(value).collect(),
            cost: *cost,
            size: level.limit,
            allowed: taken.allowed,
            remaining: u64::try_from(level.remaining >> 64).unwrap_or(u64::MAX),
            wait: Duration::from_nanos(level.wait),
        }
    }

    /// Counts a request that passes and leaves an almost empty bucket.
    fn note_level(&self, taken: &Taken, host: &dyn Host) {
        if taken.allowed && self.limit.bucket.is_nearly_empty(taken.debt) {
            self.started.nearly_empty.add(1, host);
        }
    }

    /// Puts back what was taken a moment ago. A bucket that had to make room meanwhile keeps it.
    fn give_back(&self, host: &dyn Host) {
        if let Some(mut cell) = self.cell() {
            return cell.give_back(self.limit);
        }
        let given = shared::update(host, &self.place.set, |bytes| {
            let mut set = Set::decode(bytes);
            let there = set.give_back(self.place.fingerprint, &self.limit.bucket, self.limit.cost);
            (there.then(|| set.encode()), ())
        });
        self.last.wrote_something();
        if let Err(status) = given {
            log::debug!("meshfilter: rate limit {}: nothing given back: {status:?}", self.limit.name);
        }
    }
}

/// A bucket that stands by itself, while nobody else has it.
struct Cell<'a> {
    cell: MutexGuard<'a, [u64; 4]>,
    /// As it is now.
    fill: Fill,
}

impl Cell<'_> {
    /// What it says to a request.
    fn look(&self, limit: &Limit) -> Taken {
        let after = limit.bucket.take(self.fill.debt, limit.cost);
        Taken { allowed: after.is_some(), debt: after.unwrap_or(self.fill.debt), ..Taken::default() }
    }

    /// Takes the tokens if they are there.
    fn take(&mut self, limit: &Limit) -> Taken {
        let taken = self.look(limit);
        if taken.allowed {
            *self.cell = Fill { debt: taken.debt, ..self.fill }.to_words();
        }
        taken
    }

    /// Puts back what was taken a moment ago.
    fn give_back(&mut self, limit: &Limit) {
        let debt = self.fill.debt.saturating_sub(whole(limit.cost));
        *self.cell = Fill { debt, ..self.fill }.to_words();
    }
}

impl Limit {
    /// Where the request's bucket stands; `None` if the limit does not apply.
    fn place(&self, started: &Started, sets: u32, sight: &Sight<'_>) -> Option<Place> {
        if !self.guard.may_hold(sight) {
            return None;
        }
        if let Some(only) = &started.only {
            return Some(only.clone());
        }
        let mut hasher = started.hasher;
        for (index, part) in self.key.iter().enumerate() {
            let Some(value) = part.value(sight.request, sight.facts) else {
                trace::tell(|| Event::LimitLacks { name: self.name.clone(), part: index });
                return None;
            };
            hasher.part(&value);
        }
        Some(hasher.place(sets))
    }

    /// What the client may be told of a bucket.
    fn level(&self, taken: &Taken) -> Level {
        Level {
            limit: self.bucket.max_tokens,
            remaining: self.bucket.available(taken.debt),
            wait: self.bucket.time_until(taken.debt, self.cost),
        }
    }
}

impl KeyPart {
    /// The value for this request, or what stands in for it.
    fn value<'a>(&'a self, request: &'a Request, facts: &'a Facts) -> Option<Cow<'a, [u8]>> {
        let value = self.source.value(request, facts);
        let value = match &self.source {
            // One host, however it is spelled, as one path is: nobody gets a bucket of his own by its case or its port.
            Source::Header(name) if matches!(name.as_str(), "host" | ":authority") => {
                value.map(|host| Cow::Owned(host::bare(&host).to_ascii_lowercase()))
            }
            _ => value,
        };
        value.or(self.default.as_deref().map(Cow::Borrowed))
    }
}

impl Asked {
    /// The tokens of the callouts that have not been answered yet.
    pub fn calls(&self) -> impl Iterator<Item = u32> {
        self.questions.iter().filter_map(Question::call)
    }
}

/// How full a bucket is.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// What a full one has.
    limit: u32,
    /// What is there.
    remaining: Tokens,
    /// Nanoseconds until there is enough for a request like this one.
    wait: u64,
}
