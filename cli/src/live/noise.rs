//! Whether two shares differ by more than noise, and how many requests it takes to tell.
//!
//! A screen is looked at again and again, and a test at 5 % that is repeated with every refresh finds a difference sooner or
//! later where there is none. So a difference counts at 0.1 %, two-sided.

use std::cmp::Ordering;

use serde::Serialize;
use statrs::distribution::{DiscreteCDF, Hypergeometric};

/// How likely a difference may be that is none.
const ALPHA: f64 = 0.001;
/// The standard normal's quantile for that, two-sided.
const Z_ALPHA: f64 = 3.2905;
/// And for a chance of 80 % to see a difference that is there.
const Z_POWER: f64 = 0.8416;
/// The difference that has to be seen before two are called equal: a hundredth of the requests.
pub const POINT: f64 = 0.01;
/// Where fewer are expected the normal distribution is no good.
const FEW: f64 = 5.0;
/// Where there are more to add up, it is.
const MANY: u64 = 20_000;

/// So many of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub some: u64,
    pub all: u64,
}

/// What can be said of a share beside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// It is higher, by more than noise.
    Higher,
    /// It is lower, by more than noise.
    Lower,
    /// A difference of a point would have been seen.
    Same,
    /// Nothing yet.
    Open {
        /// So many requests of the one that is compared are missing.
        missing: u64,
    },
}

impl Share {
    fn rate(self) -> f64 {
        if self.all == 0 { 0.0 } else { self.some as f64 / self.all as f64 }
    }

    /// This share beside a reference.
    ///
    /// A two-proportion z-test with the pooled share; Fisher's exact test where one of the four numbers is expected to be
    /// under 5.
    pub fn beside(self, reference: Share) -> Finding {
        let missing = self.missing(reference);
        if self.all == 0 || reference.all == 0 {
            return Finding::Open { missing: missing.max(1) };
        }
        match (self.p_value(reference) < ALPHA, self.rate().total_cmp(&reference.rate())) {
            (true, Ordering::Greater) => Finding::Higher,
            (true, Ordering::Less) => Finding::Lower,
            _ if missing == 0 => Finding::Same,
            _ => Finding::Open { missing },
        }
    }

    /// How likely a difference as large as this one is if there is none.
    fn p_value(self, reference: Share) -> f64 {
        let (all, some) = (self.all as f64 + reference.all as f64, self.some as f64 + reference.some as f64);
        let pooled = some / all;
        let smaller = self.all.min(reference.all) as f64;
        let few = smaller * pooled.min(1.0 - pooled) < FEW;
        if few && let Some(exact) = self.exact(reference) {
            return exact;
        }
        let error = (pooled * (1.0 - pooled) * (1.0 / self.all as f64 + 1.0 / reference.all as f64)).sqrt();
        if error == 0.0 {
            return 1.0;
        }
        let z = (self.rate() - reference.rate()).abs() / error;
        if z >= Z_ALPHA { 0.0 } else { 1.0 }
    }

    /// Fisher's exact test, two-sided as twice the smaller tail.
    fn exact(self, reference: Share) -> Option<f64> {
        // The rarer of the two outcomes, in the smaller of the two samples: the fewest terms.
        let rare = |share: Share| Share { some: share.all.saturating_sub(share.some), all: share.all };
        let often = self.some.saturating_add(reference.some) > self.all.saturating_add(reference.all) / 2;
        let (one, other) = if often { (rare(self), rare(reference)) } else { (self, reference) };
        let (drawn, rest) = if one.all <= other.all { (one, other) } else { (other, one) };
        let some = drawn.some.saturating_add(rest.some);
        if some.min(drawn.all) > MANY {
            return None;
        }
        let distribution = Hypergeometric::new(drawn.all.saturating_add(rest.all), some, drawn.all).ok()?;
        let above = match drawn.some.checked_sub(1) {
            Some(below) => distribution.sf(below),
            None => 1.0,
        };
        Some((2.0 * above.min(distribution.cdf(drawn.some))).min(1.0))
    }

    /// How many more of these it takes to see a difference of a point, at the reference's share and the present proportion of
    /// the two samples.
    fn missing(self, reference: Share) -> u64 {
        let proportion = match (self.all, reference.all) {
            (0, _) | (_, 0) => 1.0,
            (own, reference) => reference as f64 / own as f64,
        };
        let expected = reference.rate().min(1.0 - POINT);
        let other = expected + POINT;
        let variance = expected * (1.0 - expected) / proportion + other * (1.0 - other);
        let wanted = (Z_ALPHA + Z_POWER).powi(2) * variance / POINT.powi(2);
        // Saturates.
        (wanted.ceil() as u64).saturating_sub(self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(some: u64, all: u64) -> Share {
        Share { some, all }
    }

    #[test]
    fn only_what_is_more_than_noise_is_a_difference() {
        for (one, reference, expected) in [
            // 97.1 % beside 99.9 %.
            (share(29, 1000), share(9, 9000), Finding::Higher),
            (share(9, 9000), share(29, 1000), Finding::Lower),
            // Twice as many, which chance does.
            (share(2, 1000), share(9, 9000), Finding::Open { missing: 877 }),
            (share(20, 100_000), share(20, 100_000), Finding::Same),
            (share(0, 100_000), share(0, 900_000), Finding::Same),
            // A handful that all fail beside many that do not: Fisher's test.
            (share(4, 4), share(1, 10_000), Finding::Higher),
            (share(2, 4), share(1, 10_000), Finding::Higher),
            (share(1, 4), share(1, 10_000), Finding::Open { missing: 1704 }),
            (share(1, 40), share(10, 10_000), Finding::Open { missing: 1818 }),
            (share(996, 1000), share(1000, 1000), Finding::Open { missing: 0 }),
            (share(0, 0), share(1, 10_000), Finding::Open { missing: 0 }),
            (share(0, 0), share(0, 0), Finding::Open { missing: 1690 }),
        ] {
            let found = one.beside(reference);
            match (found, expected) {
                (Finding::Open { missing }, Finding::Open { missing: about }) => {
                    assert!(about == 0 || missing.abs_diff(about) < 60, "{one:?} {reference:?}: {missing}");
                }
                _ => assert_eq!(found, expected, "{one:?} {reference:?}"),
            }
        }
        let huge = share(u64::MAX / 4, u64::MAX / 2);
        assert_eq!(huge.beside(huge), Finding::Same);
        assert_eq!(share(u64::MAX, u64::MAX).beside(share(0, u64::MAX)), Finding::Higher);
    }

    /// The values are R's `fisher.test(…, alternative=…)`, the smaller tail doubled.
    #[test]
    fn the_exact_test_is_fishers() {
        for (one, other, expected) in [
            (share(3, 4), share(1, 4), 0.485_714),
            (share(4, 4), share(0, 4), 0.028_571),
            (share(1, 10), share(1, 10), 1.0),
        ] {
            let found = one.exact(other).unwrap();
            assert!((found - expected).abs() < 1e-5, "{one:?} {other:?}: {found}");
        }
    }

    /// Two that are the same, looked at two hundred times while they grow: hardly ever is one called different. And a
    /// difference of two points is found.
    #[test]
    fn looking_again_and_again_finds_no_difference_where_there_is_none() {
        let mut state = 1u64;
        let mut draw = |share: f64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u64::from(((state >> 11) as f64 / (1u64 << 53) as f64) < share)
        };
        let mut run = |canary: f64| {
            let (mut one, mut reference) = (share(0, 0), share(0, 0));
            let mut different = false;
            for _ in 0..200 {
                for _ in 0..20 {
                    one = share(one.some + draw(canary), one.all + 1);
                }
                for _ in 0..180 {
                    reference = share(reference.some + draw(0.01), reference.all + 1);
                }
                different |= matches!(one.beside(reference), Finding::Higher | Finding::Lower);
            }
            different
        };
        let wrong = (0..100).filter(|_| run(0.01)).count();
        assert!(wrong <= 6, "{wrong} of 100 runs");
        let right = (0..20).filter(|_| run(0.03)).count();
        assert!(right >= 18, "{right} of 20 runs");
    }
}
