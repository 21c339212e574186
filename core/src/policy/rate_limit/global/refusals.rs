//! What services refused, until the time that they named: asking again before would change nothing.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use super::message::RateLimitDescriptor;
use crate::host::{Host, Instant, NumberHash};

/// So many are remembered in one worker, some 100 bytes each. Whoever is forgotten is asked about again.
const MOST: usize = 4096;

/// Names a descriptor, with the limit and the hits that it was asked about.
pub type Fingerprint = (u64, u64);

/// The refusals that one worker remembers. A refusal that comes when there is no room displaces the one that ends soonest.
#[derive(Debug, Default)]
pub struct Refusals {
    /// Random, so that nobody outside can choose values that meet.
    hasher: Option<SipHasher13>,
    kept: RefCell<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_fingerprint: HashMap<Fingerprint, Refused, NumberHash>,
    by_end: BTreeSet<(Instant, Fingerprint)>,
}

/// One refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Until then, on the monotonic clock.
    pub until: Instant,
    /// Requests per unit of the limit.
    pub limit: u32,
}

impl Refusals {
    /// Nothing is remembered before this is called.
    pub fn start(&mut self, host: &dyn Host) {
        self.hasher = Some(SipHasher13::new_with_keys(host.random(), host.random()));
    }

    /// What a descriptor is known by; `None` before the start.
    pub fn fingerprint(
        &self,
        limit: usize,
        hits: u32,
        descriptor: &RateLimitDescriptor,
    ) -> Option<Fingerprint> {
        let mut hasher = self.hasher?;
        hasher.write_usize(limit);
        hasher.write_u32(hits);
        for text in descriptor.entries.iter().flat_map(|entry| [&entry.key, &entry.value]) {
            hasher.write_usize(text.len());
            hasher.write(text.as_bytes());
        }
        let hash = hasher.finish128();
        Some((hash.h1, hash.h2))
    }

    /// The refusal that still holds.
    pub fn get(&self, fingerprint: Fingerprint, now: Instant) -> Option<Refused> {
        let kept = self.kept.borrow();
        kept.by_fingerprint.get(&fingerprint).copied().filter(|refused| now < refused.until)
    }

    /// Remembers a refusal, unless it is over already.
    pub fn remember(&self, fingerprint: Fingerprint, refused: Refused, now: Instant) {
        let kept = &mut *self.kept.borrow_mut();
        while kept.by_end.first().is_some_and(|(until, _)| *until <= now) {
            kept.forget_first();
        }
        if refused.until <= now {
            return;
        }
        if let Some(known) = kept.by_fingerprint.insert(fingerprint, refused) {
            kept.by_end.remove(&(known.until, fingerprint));
        }
        kept.by_end.insert((refused.until, fingerprint));
        if kept.by_end.len() > MOST {
            kept.forget_first();
        }
    }
}

impl Kept {
    fn forget_first(&mut self) {
        if let Some((_, fingerprint)) = self.by_end.pop_first() {
            self.by_fingerprint.remove(&fingerprint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Entry;
    use super::*;
    use crate::host::fake::Fake;

    fn started() -> Refusals {
        let mut refusals = Refusals::default();
        refusals.start(&Fake::new());
        refusals
    }

    fn descriptor(texts: &[(&str, &str)]) -> RateLimitDescriptor {
        let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
        RateLimitDescriptor { entries: texts.iter().map(entry).collect(), limit: None }
    }

    #[test]
    fn what_is_asked_about_has_one_fingerprint_each() {
        let refusals = started();
        let all = [
            (0, 1, descriptor(&[("user", "a")])),
            (1, 1, descriptor(&[("user", "a")])),
            (0, 2, descriptor(&[("user", "a")])),
            (0, 1, descriptor(&[("user", "b")])),
            (0, 1, descriptor(&[("use", "ra")])),
            (0, 1, descriptor(&[("user", ""), ("a", "")])),
            (0, 1, descriptor(&[("user", "a"), ("", "")])),
        ];
        let print = |(limit, hits, descriptor): &(usize, u32, _)| {
            refusals.fingerprint(*limit, *hits, descriptor).unwrap()
        };
        let prints: BTreeSet<_> = all.iter().map(print).collect();
        assert_eq!(prints.len(), all.len());
        assert_eq!(print(&all[0]), print(&all[0]));
        assert_eq!(Refusals::default().fingerprint(0, 1, &all[0].2), None, "not started");
    }

    #[test]
    fn a_refusal_holds_until_its_end_and_a_later_word_replaces_it() {
        let refusals = started();
        let until = |until| Refused { until, limit: 7 };
        refusals.remember((1, 1), until(10), 0);
        assert_eq!(refusals.get((1, 1), 9), Some(until(10)));
        assert_eq!(refusals.get((1, 1), 10), None);
        assert_eq!(refusals.get((1, 2), 0), None);
        refusals.remember((1, 1), until(20), 5);
        assert_eq!(refusals.get((1, 1), 15), Some(until(20)));
        refusals.remember((2, 2), until(15), 15);
        assert_eq!(refusals.get((2, 2), 0), None, "it was over when it came");
        refusals.remember((3, 3), until(40), 30);
        assert_eq!(refusals.kept.borrow().by_end.len(), 1, "what is over makes room");
        assert_eq!(refusals.kept.borrow().by_fingerprint.len(), 1);
    }

    #[test]
    fn memory_is_bounded_and_the_soonest_end_is_forgotten_first() {
        let refusals = started();
        for number in 0..3 * MOST as u64 {
            refusals.remember((number, 0), Refused { until: 1_000_000 + number, limit: 1 }, 0);
        }
        let kept = refusals.kept.borrow();
        assert_eq!((kept.by_end.len(), kept.by_fingerprint.len()), (MOST, MOST));
        assert!(kept.by_fingerprint.contains_key(&(3 * MOST as u64 - 1, 0)));
        assert!(!kept.by_fingerprint.contains_key(&(0, 0)));
    }
}
