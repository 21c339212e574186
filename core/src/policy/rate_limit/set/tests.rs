use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_000_000 * SECOND;

fn sizes(max_tokens: u32, seconds: u64) -> TokenBucket {
    TokenBucket { max_tokens, tokens_per_fill: max_tokens, fill_interval: seconds * SECOND }
}

/// Two limits of very different speed share a set.
fn limit(fingerprint: u64) -> TokenBucket {
    if fingerprint.is_multiple_of(2) { sizes(5, 1) } else { sizes(3, 3600) }
}

/// A key's own bucket, that nobody displaces.
#[derive(Default)]
struct Own(HashMap<u64, Fill>);

impl Own {
    fn fill(&self, fingerprint: u64, now: Instant) -> Fill {
        limit(fingerprint).refilled(self.0.get(&fingerprint).copied().unwrap_or_default(), now)
    }
}

/// Few enough keys that they come back, few enough cells that they meet.
fn key() -> impl Strategy<Value = u64> {
    (0..24u64, 0..3u64).prop_map(|(key, cell)| key | cell << CELL_SHIFT)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        keys in prop::collection::vec((any::<u64>(), 0..SECOND), 0..40),
    ) {
        let mut set = Set::default();
        let mut now = START;
        for (fingerprint, elapsed) in keys {
            now += elapsed;
            set.take(fingerprint, &limit(fingerprint), 1, now);
            prop_assert_eq!(&Set::decode(&set.encode()), &set);
            prop_assert!(set.encode().len() <= 9 + WAYS * BUCKET_SIZE + CELLS * 4);
        }
    }

    #[test]
    fn bytes_of_any_kind_are_a_set_or_none(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut set = Set::decode(&bytes);
        set.take(1, &limit(1), 1, START);
        prop_assert!(set.buckets.len() <= WAYS);
    }

    #[test]
    fn a_displaced_key_never_has_more_than_its_own_bucket(
        steps in prop::collection::vec((key(), 1..3u32, prop_oneof![0..SECOND / 10, 0..SECOND * 60]), 1..400),
    ) {
        let mut set = Set::default();
        let mut own = Own::default();
        let mut now = START;
        for (fingerprint, cost, elapsed) in steps {
            now += elapsed;
            let before = own.fill(fingerprint, now);
            let taken = set.take(fingerprint, &limit(fingerprint), cost, now);
            if taken.allowed {
                let after = limit(fingerprint).take(before.debt, cost);
                prop_assert!(after.is_some(), "more than its own bucket had");
                let after = after.unwrap();
                prop_assert!(taken.debt >= after);
                own.0.insert(fingerprint, Fill { debt: after, ..before });
            }
        }
    }

    #[test]
    fn no_key_waits_for_longer_than_an_empty_bucket_takes_to_fill(
        steps in prop::collection::vec((key(), 1..3u32, 0..SECOND / 10), 1..200), late in key(),
    ) {
        let mut set = Set::default();
        let mut now = START;
        for (fingerprint, cost, elapsed) in steps {
            now += elapsed;
            set.take(fingerprint, &limit(fingerprint), cost, now);
        }
        set.take(late, &limit(late), 1, now);
        now += 3600 * SECOND + (2 << UNIT_SHIFT);
        let wait = limit(late).time_to_refill(whole(limit(late).max_tokens)) + 1;
        set.take(late, &limit(late), 1, now);
        prop_assert!(set.take(late, &limit(late), 1, now + wait).allowed);
    }
}

/// Five keys in one cell, one more than a set has room for.
fn crowd(set: &mut Set, cost: u32, now: Instant) {
    for key in 0..=u64::try_from(WAYS).unwrap() {
        assert!(set.take(key * 2, &sizes(5, 1), cost, now).allowed, "{key}");
    }
}

#[test]
fn a_full_bucket_costs_nothing_to_forget() {
    let mut set = Set::default();
    crowd(&mut set, 1, START);
    assert_eq!(set.cells.len(), CELLS);
    crowd(&mut set, 1, START + 2 * SECOND);
    // By then all was full again, and the cells with it.
    let mut later = Set::default();
    crowd(&mut later, 1, START + 2 * SECOND);
    assert_eq!(set.cells, later.cells);
}

#[test]
fn the_bucket_that_is_full_soonest_makes_room() {
    let mut set = Set::default();
    let slow = [1, 3, 5];
    for key in slow {
        set.take(key, &limit(key), 1, START);
    }
    for key in 0..20 {
        set.take(key * 2, &limit(key * 2), 1, START);
    }
    for key in slow {
        assert!(set.buckets.iter().any(|bucket| bucket.fingerprint == key), "{key}");
    }
}

#[test]
fn a_slow_limits_debt_holds_a_fast_one_back_no_longer_than_an_empty_bucket() {
    let mut set = Set::default();
    // Five keys of the slow limit, in the cell of the fast key.
    for key in [1, 3, 5, 7, 9] {
        assert!(set.take(key, &limit(key), 3, START).allowed);
    }
    let fast = 100;
    let first = set.take(fast, &limit(fast), 1, START);
    assert_eq!((first.allowed, first.outlasted), (false, true));
    assert!(set.take(fast, &limit(fast), 5, START + SECOND).allowed);
}

#[test]
fn cells_run_down_however_often_the_set_is_written() {
    let mut set = Set::default();
    crowd(&mut set, 5, START);
    let displaced = 0;
    assert!(!set.take(displaced, &sizes(5, 1), 1, START).allowed);
    // A flood in other cells, every 10 µs for two seconds.
    for step in 1..200_000u64 {
        set.take(step | 7 << CELL_SHIFT, &sizes(5, 1), 1, START + step * 10_000);
    }
    assert!(set.take(displaced, &sizes(5, 1), 5, START + 2 * SECOND).allowed);
}

#[test]
fn tokens_are_given_back_to_who_is_there() {
    let mut set = Set::default();
    set.take(2, &sizes(5, 1), 5, START);
    assert!(!set.take(2, &sizes(5, 1), 1, START).allowed);
    assert!(set.give_back(2, &sizes(5, 1), 5));
    assert!(set.take(2, &sizes(5, 1), 5, START).allowed);
    assert!(!set.give_back(4, &sizes(5, 1), 5));
}

#[test]
fn a_bucket_that_takes_centuries_to_fill_is_remembered_as_well() {
    let mut set = Set::default();
    let slow = TokenBucket { max_tokens: 1000, tokens_per_fill: 1, fill_interval: 86_400 * 365 * SECOND };
    for key in 0..=u64::try_from(WAYS).unwrap() {
        assert!(set.take(key, &slow, 1000, START).allowed);
    }
    let years = 3 * 365 * 86_400 * SECOND;
    set.take(100 | 1 << CELL_SHIFT, &slow, 1, START + years);
    assert!(!set.take(0, &slow, 4, START + years).allowed);
}
