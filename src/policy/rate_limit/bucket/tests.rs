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

    /// How far the other debt is above this one, in parts of 2^64 to the token.
    fn excess(&self, debt: Tokens) -> i128 {
        let whole = self.debt / u128::from(self.sizes.fill_interval);
        let rest = self.debt % u128::from(self.sizes.fill_interval);
        let exact = (whole << 64) + (rest << 64) / u128::from(self.sizes.fill_interval);
        i128::try_from(debt).unwrap() - i128::try_from(exact).unwrap()
    }
}

fn sizes() -> impl Strategy<Value = TokenBucket> {
    (1..10_000u32, 1..10_000u32, prop_oneof![50_000_000..10 * SECOND, 50_000_000..90_000 * SECOND])
        .prop_map(|(max, per_fill, interval)| bucket(max, per_fill, interval))
}

proptest! {
    #[test]
    fn never_more_than_exact_arithmetic_gives_and_hardly_less(
        sizes in sizes(),
        steps in prop::collection::vec((0..5 * SECOND, 1..50u32), 1..200),
    ) {
        let mut oracle = Oracle::new(sizes);
        let (mut debt, mut stamp, mut now) = (0, 0, 0);
        for (count, (elapsed, cost)) in steps.into_iter().enumerate() {
            now += elapsed;
            oracle.advance(now);
            let current = sizes.debt_at(now, debt, stamp);
            let excess = oracle.excess(current);
            let steps = i128::try_from(count + 1).unwrap();
            prop_assert!((0..=steps).contains(&excess), "{excess} after {steps} steps");
            match sizes.take(current, cost) {
                Some(after) => {
                    prop_assert!(oracle.has(cost), "over at {now}");
                    oracle.debt += oracle.parts(cost);
                    (debt, stamp) = (after, now);
                }
                // One more nanosecond's refill makes up for all that was rounded.
                None => {
                    let a_nanosecond_later = sizes.take(sizes.debt_at(now + 1, debt, stamp), cost);
                    prop_assert!(!oracle.has(cost) || a_nanosecond_later.is_some(), "under at {}", now);
                }
            }
        }
    }

    #[test]
    fn time_only_fills(sizes in sizes(), debt in 0..10_000u32, a in 0..u64::MAX / 4, b in 0..u64::MAX / 4) {
        let debt = whole(debt);
        let (early, late) = (a.min(b), a.max(b));
        prop_assert!(sizes.debt_at(late, debt, 0) <= sizes.debt_at(early, debt, 0));
        prop_assert_eq!(sizes.debt_at(early, debt, late), debt.min(whole(sizes.max_tokens)));
    }

    #[test]
    fn a_bucket_is_full_when_it_says_so_and_never_fuller_before(
        sizes in sizes(), debt in 1..u64::MAX, now in 0..u64::MAX / 4, ahead in 0..100 * SECOND,
    ) {
        let debt = Tokens::from(debt) * Tokens::from(sizes.max_tokens);
        let full_at = sizes.full_at(now, debt);
        prop_assert_eq!(sizes.debt_at(full_at, debt, now), 0);
        let later = now + ahead;
        prop_assert!(sizes.debt_until(full_at, later) >= sizes.debt_at(later, debt, now));
    }

    #[test]
    fn after_the_time_it_names_the_tokens_are_there(sizes in sizes(), taken in 0..10_000u32, cost in 1..10_000u32) {
        let (taken, cost) = (whole(taken.min(sizes.max_tokens)), cost.min(sizes.max_tokens));
        let wait = sizes.time_until(taken, cost);
        prop_assert!(sizes.take(sizes.debt_at(wait + 1, taken, 0), cost).is_some());
        prop_assert!(wait < 2 || sizes.take(sizes.debt_at(wait - 2, taken, 0), cost).is_none());
    }

    #[test]
    fn nothing_overflows(debt: u128, now: u64, stamp: u64, max: u32, per_fill in 1..u32::MAX, interval in 1..u64::MAX) {
        let sizes = bucket(max, per_fill, interval);
        let debt = sizes.debt_at(now, debt, stamp);
        let _ = (sizes.time_until(debt, max), sizes.full_at(now, debt), sizes.debt_until(now, stamp));
    }
}

#[test]
fn a_million_steps_do_not_drift() {
    // A third of a token each time: no power of two divides it.
    let sizes = bucket(1_000_000, 1, 300_000_000);
    let mut oracle = Oracle::new(sizes);
    oracle.debt = oracle.parts(1_000_000);
    let mut debt = whole(1_000_000);
    let step = 100_000_000;
    for count in 1..=1_000_000u64 {
        debt = sizes.debt_at(count * step, debt, (count - 1) * step);
    }
    oracle.advance(1_000_000 * step);
    let excess = oracle.excess(debt);
    assert!((0..=1_000_000).contains(&excess), "{excess} parts of 2^64 to the token");
}

#[test]
fn sizes_that_shrink_leave_an_empty_bucket_and_not_a_debt_for_days() {
    let small = bucket(10, 1, SECOND);
    let debt = whole(900_000);
    assert_eq!(small.debt_at(0, debt, 0), whole(10));
    assert_eq!(small.debt_at(4 * SECOND, debt, 0), whole(6));
}
