//! The arithmetic of one token bucket.
//!
//! What is kept is the debt: the tokens that are missing from a full bucket, as a fixed-point number with 64 bits
//! after the point. It does not depend on the bucket's sizes, so that new sizes keep what was taken, and what is not
//! kept at all is a full bucket. What a refill leaves over below the last bit is kept as well, so that nothing is ever
//! rounded: not up, which would give too much, and not down, which would add up.

use crate::host::Instant;

/// A number of tokens, 64 bits of it after the point.
pub type Tokens = u128;

/// So many whole tokens.
pub fn whole(tokens: u32) -> Tokens {
    Tokens::from(tokens) << 64
}

/// How full a bucket was at a point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// What was missing.
    pub debt: Tokens,
    /// What was refilled below the last bit of the debt, as a fraction whose denominator is the fill interval.
    pub rest: u64,
    /// When that was.
    pub stamp: Instant,
}

impl Fill {
    /// As a cell has it.
    pub fn from_words([low, high, rest, stamp]: [u64; 4]) -> Self {
        Fill { debt: Tokens::from(high) << 64 | Tokens::from(low), rest, stamp }
    }

    /// For a cell.
    pub fn to_words(self) -> [u64; 4] {
        [self.debt as u64, (self.debt >> 64) as u64, self.rest, self.stamp]
    }
}

/// The sizes of a bucket. It refills continuously; the interval only says how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// How many tokens a full bucket has.
    pub max_tokens: u32,
    /// So many are added in an interval.
    pub tokens_per_fill: u32,
    /// In nanoseconds; not zero.
    pub fill_interval: u64,
}

impl TokenBucket {
    /// What is refilled in so many nanoseconds, with what was left over before, and what is left over now.
    fn refill(&self, elapsed: u64, rest: u64) -> (Tokens, u64) {
        let interval = Tokens::from(self.fill_interval);
        // At most 2^96.
        let (tokens, part) =
            divide(Tokens::from(elapsed).saturating_mul(self.tokens_per_fill.into()), interval);
        if tokens > u64::MAX.into() {
            return (Tokens::MAX, 0);
        }
        // What is left of a division by the interval is less than 2^64, so this fits.
        let (fraction, rest) =
            divide((part << 64).saturating_add(rest.min(self.fill_interval).into()), interval);
        ((tokens << 64).saturating_add(fraction), u64::try_from(rest).unwrap_or(0))
    }

    /// How many nanoseconds it takes to refill so much, to within one of them.
    pub fn time_to_refill(&self, tokens: Tokens) -> u64 {
        let interval = Tokens::from(self.fill_interval);
        let fraction = tokens & Tokens::from(u64::MAX);
        // Both factors of the second product are less than 2^64.
        let intervals = (tokens >> 64).saturating_mul(interval);
        let intervals = intervals.saturating_add(fraction.saturating_mul(interval) >> 64);
        if self.tokens_per_fill == 0 {
            return u64::MAX;
        }
        let (time, _) = divide(intervals, self.tokens_per_fill.into());
        u64::try_from(time).unwrap_or(u64::MAX)
    }

    /// The bucket as it is now. A clock that is behind counts as standing still. What a greater bucket than this one
    /// lacked at most empties this one.
    pub fn refilled(&self, fill: Fill, now: Instant) -> Fill {
        let (refilled, rest) = self.refill(now.saturating_sub(fill.stamp), fill.rest);
        let debt = fill.debt.min(whole(self.max_tokens)).saturating_sub(refilled);
        Fill { debt, rest: if debt == 0 { 0 } else { rest }, stamp: fill.stamp.max(now) }
    }

    /// A bucket that is full again at a point in time, what is missing rounded up, and at most all of it.
    pub fn full_later(&self, full_at: Instant, now: Instant) -> Fill {
        let debt = match full_at.saturating_sub(now) {
            0 => 0,
            // Farther away than the clock goes.
            _ if full_at == Instant::MAX => whole(self.max_tokens),
            left => self.refill(left, 0).0.saturating_add(1).min(whole(self.max_tokens)),
        };
        Fill { debt, rest: 0, stamp: now }
    }

    /// When a bucket with this debt is full again, rounded up.
    pub fn full_at(&self, now: Instant, debt: Tokens) -> Instant {
        match debt {
            0 => now,
            debt => now.saturating_add(self.time_to_refill(debt)).saturating_add(1),
        }
    }

    /// What is there.
    pub fn available(&self, debt: Tokens) -> Tokens {
        whole(self.max_tokens).saturating_sub(debt)
    }

    /// Whether less than a tenth of it is left.
    pub fn is_nearly_empty(&self, debt: Tokens) -> bool {
        self.available(debt).saturating_mul(10) < whole(self.max_tokens)
    }

    /// The debt after so many more are taken; `None` if they are not there.
    pub fn take(&self, debt: Tokens, cost: u32) -> Option<Tokens> {
        let after = debt.saturating_add(whole(cost));
        (after <= whole(self.max_tokens)).then_some(after)
    }

    /// How many nanoseconds from now so many are there.
    pub fn time_until(&self, debt: Tokens, cost: u32) -> u64 {
        self.time_to_refill(whole(cost).saturating_sub(self.available(debt)))
    }
}

/// Quotient and remainder, 0 of a division by 0. A module divides 64 bits in one step and
/// 128 in hundreds, so these are divided once, and only where they have to be.
fn divide(number: Tokens, by: Tokens) -> (Tokens, Tokens) {
    if let (Ok(number), Ok(by)) = (u64::try_from(number), u64::try_from(by)) {
        return (number.checked_div(by).unwrap_or(0).into(), number.checked_rem(by).unwrap_or(0).into());
    }
    let quotient = number.checked_div(by).unwrap_or(0);
    (quotient, number.wrapping_sub(quotient.wrapping_mul(by)))
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests;
