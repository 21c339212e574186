//! How often: token buckets that all workers of the process share, exactly.

mod bucket;
mod key;
mod reply;
mod set;

use std::rc::Rc;

pub use bucket::TokenBucket;
pub use set::WAYS;

use super::{Facts, Mode, Source, Step, shared};
use crate::host::{Host, Instant, Result, Status};
use crate::matchers::HttpMatch;
use crate::request::Request;
use bucket::Tokens;
use key::{KeyHasher, Place};
use set::{Set, Taken};

/// The compiled section.
#[derive(Debug, Default)]
pub struct RateLimits {
    /// The limits, in the order of the document.
    limits: Vec<Limit>,
    /// How many sets there are.
    sets: u32,
    /// For each limit the hasher that has its name in it; none before the start.
    hashers: Vec<KeyHasher>,
}

/// One entry.
#[derive(Debug)]
pub struct Limit {
    /// Its name.
    pub name: Rc<str>,
    /// Any of them has to hold; none for every request.
    pub matches: Vec<HttpMatch>,
    /// One bucket for each combination of values.
    pub key: Vec<KeyPart>,
    /// The bucket's sizes.
    pub bucket: TokenBucket,
    /// How many tokens a request takes.
    pub cost: u32,
    /// The status of a refusal.
    pub status: u16,
    /// The body of a refusal.
    pub body: Vec<u8>,
    /// What the client is told.
    pub headers: LimitHeaders,
    /// Whether it counts.
    pub mode: Mode,
}

/// One part of a key.
#[derive(Debug)]
pub struct KeyPart {
    /// Where its value comes from.
    pub source: Source,
    /// What stands in for a value that is not there; without it the limit does not apply.
    pub default: Option<Box<[u8]>>,
}

pub use crate::config::document::LimitHeaders;

/// A limit that applies to a request, and its bucket.
struct Applied<'a> {
    limit: &'a Limit,
    place: Place,
    now: Instant,
}

/// A set as it was read, and what the bucket in it said.
struct Read {
    set: Set,
    /// What swapping wants; none if there was no such set.
    cas: Option<u32>,
    taken: Taken,
}

impl RateLimits {
    /// Limits whose buckets stand in so many sets.
    pub fn new(limits: Vec<Limit>, sets: u32) -> Self {
        RateLimits { limits, sets, hashers: Vec::new() }
    }

    /// Whether there is no limit.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// How many limits there are.
    pub fn len(&self) -> usize {
        self.limits.len()
    }

    /// Learns what all workers must agree on. Called once, when the configuration is accepted.
    pub fn start(&mut self, host: &dyn Host) {
        if self.is_empty() {
            return;
        }
        match KeyHasher::new(host) {
            Ok(hasher) => {
                let named = |limit: &Limit| {
                    let mut hasher = hasher;
                    hasher.part(limit.name.as_bytes());
                    hasher
                };
                self.hashers = self.limits.iter().map(named).collect();
            }
            Err(status) => log::error!(
                "meshfilter: the proxy gives no shared data, rate limits refuse everything: {status:?}"
            ),
        }
    }

    /// Takes the tokens of every entry that applies, or of none.
    pub fn take(&self, request: &Request, facts: &mut Facts, host: &dyn Host) -> Step {
        if self.is_empty() {
            return Step::Continue;
        }
        if self.hashers.len() != self.limits.len() {
            return reply::unavailable(facts);
        }
        let now = host.now();
        let limits = self.limits.iter().zip(&self.hashers);
        let mut applied = Vec::new();
        for (limit, hasher) in limits {
            if let Some(place) = limit.place(hasher, self.sets, request, facts) {
                applied.push(Applied { limit, place, now });
            }
        }
        let (enforced, shadow): (Vec<_>, Vec<_>) =
            applied.into_iter().partition(|applied| applied.limit.mode == Mode::Enforce);
        let taken = match take_all(&enforced, host) {
            Ok(taken) => taken,
            Err(status) => {
                log::error!("meshfilter: rate limits cannot be decided: {status:?}");
                return reply::unavailable(facts);
            }
        };
        for (applied, taken) in enforced.iter().zip(&taken) {
            facts.verdict(&applied.limit.name, word(taken), Mode::Enforce);
        }
        if taken.iter().any(|taken| !taken.allowed) {
            return reply::refuse(&enforced, &taken, facts);
        }
        for applied in &shadow {
            // What cannot be decided changes nothing here.
            if let Ok(taken) = applied.take(host) {
                if !taken.allowed {
                    log::debug!("meshfilter: rate limit {}: would have refused", applied.limit.name);
                }
                facts.verdict(&applied.limit.name, word(&taken), Mode::Shadow);
            }
        }
        reply::announce(&enforced, &taken, facts);
        Step::Continue
    }
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
        for (applied, read) in applied.iter().zip(&reads).filter(|(_, read)| read.taken.outlasted) {
            // Should another worker come between, the next request does it.
            let _ = applied.write(read, host);
        }
        return Ok(taken);
    }
    for (index, (applied_here, read)) in applied.iter().zip(&reads).enumerate() {
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
    /// Looks what the bucket would say.
    fn read(&self, host: &dyn Host) -> Result<Read> {
        let (mut set, cas) = match host.shared_data(&self.place.set) {
            Ok((bytes, cas)) => (Set::decode(&bytes), Some(cas)),
            Err(Status::NotFound) => (Set::default(), None),
            Err(status) => return Err(status),
        };
        let taken = self.take_from(&mut set);
        Ok(Read { set, cas, taken })
    }

    fn take_from(&self, set: &mut Set) -> Taken {
        set.take(self.place.fingerprint, &self.limit.bucket, self.limit.cost, self.now)
    }

    fn write(&self, read: &Read, host: &dyn Host) -> Result<()> {
        let bytes = read.set.encode();
        match read.cas {
            Some(cas) => host.shared_data_swap(&self.place.set, &bytes, cas),
            None => host.shared_data_create(&self.place.set, &bytes),
        }
    }

    /// Takes what was looked at; if another worker came between, looks again.
    fn commit(&self, read: &Read, host: &dyn Host) -> Result<Taken> {
        match self.write(read, host) {
            Ok(()) => Ok(read.taken),
            Err(Status::CasMismatch) => self.take(host),
            Err(status) => Err(status),
        }
    }

    /// Takes from this bucket alone. If the other workers are faster time and again, the request is refused.
    fn take(&self, host: &dyn Host) -> Result<Taken> {
        let mut seen = Taken { allowed: false, debt: 0, outlasted: false };
        let taken = shared::update(host, &self.place.set, |bytes| {
            let mut set = Set::decode(bytes);
            seen = self.take_from(&mut set);
            ((seen.allowed || seen.outlasted).then(|| set.encode()), seen)
        });
        match taken {
            Err(Status::CasMismatch) => Ok(Taken { allowed: false, ..seen }),
            taken => taken,
        }
    }

    /// Puts back what was taken a moment ago. A bucket that had to make room meanwhile keeps it.
    fn give_back(&self, host: &dyn Host) {
        let given = shared::update(host, &self.place.set, |bytes| {
            let mut set = Set::decode(bytes);
            let there = set.give_back(self.place.fingerprint, &self.limit.bucket, self.limit.cost);
            (there.then(|| set.encode()), ())
        });
        if let Err(status) = given {
            log::debug!("meshfilter: rate limit {}: nothing given back: {status:?}", self.limit.name);
        }
    }
}

impl Limit {
    /// Where the request's bucket stands; `None` if the limit does not apply.
    fn place(&self, hasher: &KeyHasher, sets: u32, request: &Request, facts: &Facts) -> Option<Place> {
        let matches = &self.matches;
        if !matches.is_empty() && !matches.iter().any(|conditions| conditions.is_match(request, facts)) {
            return None;
        }
        let mut hasher = *hasher;
        for part in &self.key {
            match (part.source.value(request, facts), &part.default) {
                (Some(value), _) => hasher.part(&value),
                (None, Some(default)) => hasher.part(default),
                (None, None) => return None,
            }
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

#[cfg(all(test, not(target_family = "wasm")))]
mod tests;
