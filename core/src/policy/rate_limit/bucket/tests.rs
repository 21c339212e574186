use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn bucket(max_tokens: u32, tokens_per_fill: u32, fill_interval: u64) -> TokenBucket {
    TokenBucket { max_tokens, tokens_per_fill, fill_interval }
}

/// The same bucket in exact arithmetic: everything is counted in parts of a token that are as small as one nanosecond's
/// refill of one token per interval.
struct Oracle {
    sizes: TokenBucket,
    debt: u128,
    stamp: u64,
}

impl Oracle {
    fn new(sizes: TokenBucket) -> Self {
        Oracle { sizes, debt: 0, stamp: 0 }
    }

    fn parts(&self, tokens: u32) -> u128 {
        u128::from(tokens) * u128::from(self.sizes.fill_interval)
    }

    fn advance(&mut self, now: u64) {
        let refilled = u128::from(now - self.stamp) * u128::from(self.sizes.tokens_per_fill);
        self.debt = self.debt.saturating_sub(refilled);
        self.stamp = now;
    }

    fn has(&self, cost: u32) -> bool {
        self.debt + self.parts(cost) <= self.parts(self.sizes.max_tokens)
    }

    /// Whether a bucket lacks exactly what this one lacks.
    fn is(&self, fill: Fill) -> bool {
        let interval = u128::from(self.sizes.fill_interval);
        // Of the last bit, the rest is refilled already.
        fill.debt == ((self.debt / interval) << 64) + ((self.debt % interval) << 64).div_ceil(interval)
    }
}

fn fill(debt: Tokens, stamp: Instant) -> Fill {
    Fill { debt, rest: 0, stamp }
}

fn sizes() -> impl Strategy<Value = TokenBucket> {
    (1..10_000u32, 1..10_000u32, prop_oneof![50_000_000..10 * SECOND, 50_000_000..90_000 * SECOND])
        .prop_map(|(max, per_fill, interval)| bucket(max, per_fill, interval))
}

proptest! {
    #[test]
    fn it_is_what_exact_arithmetic_says(
        sizes in sizes(),
        steps in prop::collection::vec((0..5 * SECOND, 1..50u32), 1..200),
    ) {
        let mut oracle = Oracle::new(sizes);
        let (mut state, mut now) = (Fill::default(), 0);
        for (elapsed, cost) in steps {
            now += elapsed;
            oracle.advance(now);
            let current = sizes.refilled(state, now);
            prop_assert!(oracle.is(current), "{:?}, but {} parts", current, oracle.debt);
            let taken = sizes.take(current.debt, cost);
            prop_assert_eq!(taken.is_some(), oracle.has(cost));
            if let Some(debt) = taken {
                oracle.debt += oracle.parts(cost);
                state = Fill { debt, ..current };
            }
        }
    }

    #[test]
    fn time_only_fills(sizes in sizes(), debt in 0..10_000u32, a in 0..u64::MAX / 4, b in 0..u64::MAX / 4) {
        let debt = whole(debt);
        let (early, late) = (a.min(b), a.max(b));
        let debt_at = |now| sizes.refilled(fill(debt, 0), now).debt;
        prop_assert!(debt_at(late) <= debt_at(early));
        let behind = sizes.refilled(fill(debt, late), early);
        prop_assert_eq!(behind, fill(debt.min(whole(sizes.max_tokens)), late));
    }

    #[test]
    fn a_bucket_is_full_when_it_says_so_and_never_fuller_before(
        sizes in sizes(), debt in 1..u64::MAX, now in 0..u64::MAX / 4, ahead in 0..100 * SECOND,
    ) {
        let debt = Tokens::from(debt) * Tokens::from(sizes.max_tokens);
        let full_at = sizes.full_at(now, debt);
        prop_assert_eq!(sizes.refilled(fill(debt, now), full_at).debt, 0);
        let later = now + ahead;
        prop_assert!(sizes.full_later(full_at, later).debt >= sizes.refilled(fill(debt, now), later).debt);
    }

    #[test]
    fn after_the_time_it_names_the_tokens_are_there(sizes in sizes(), taken in 0..10_000u32, cost in 1..10_000u32) {
        let (taken, cost) = (whole(taken.min(sizes.max_tokens)), cost.min(sizes.max_tokens));
        let wait = sizes.time_until(taken, cost);
        let take_at = |now| sizes.take(sizes.refilled(fill(taken, 0), now).debt, cost);
        prop_assert!(take_at(wait + 1).is_some());
        prop_assert!(wait < 2 || take_at(wait - 2).is_none());
    }

    #[test]
    fn nothing_overflows(
        debt: u128, rest: u64, now: u64, stamp: u64, max: u32, per_fill in 1..u32::MAX, interval in 1..u64::MAX,
    ) {
        let sizes = bucket(max, per_fill, interval);
        let state = sizes.refilled(Fill { debt, rest, stamp }, now);
        let _ = (sizes.time_until(state.debt, max), sizes.full_at(now, state.debt), sizes.full_later(now, stamp));
    }
}

#[test]
fn a_million_steps_do_not_drift() {
    // A third of a token each time: no power of two divides it.
    let sizes = bucket(1_000_000, 1, 300_000_000);
    let mut oracle = Oracle::new(sizes);
    oracle.debt = oracle.parts(1_000_000);
    let mut state = fill(whole(1_000_000), 0);
    let step = 100_000_000;
    for count in 1..=1_000_000 {
        state = sizes.refilled(state, count * step);
    }
    oracle.advance(1_000_000 * step);
    assert!(oracle.is(state), "{state:?}");
}

#[test]
fn sizes_that_shrink_leave_an_empty_bucket_and_not_a_debt_for_days() {
    let small = bucket(10, 1, SECOND);
    let debt = whole(900_000);
    assert_eq!(small.refilled(fill(debt, 0), 0).debt, whole(10));
    assert_eq!(small.refilled(fill(debt, 0), 4 * SECOND).debt, whole(6));
}
