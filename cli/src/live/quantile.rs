//! Quantiles from cumulative buckets, as Prometheus has them.

use serde::Serialize;

use super::stats::Bucket;

/// A quantile, and the bucket in which it lies. Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantile {
    /// Interpolated within the bucket.
    pub ms: f64,
    /// Above this.
    pub from: f64,
    /// Not above this.
    pub to: f64,
}

impl Quantile {
    /// The value below which the share `q` of the samples lies, as `histogram_quantile` has it: within the bucket samples are
    /// taken to be spread evenly, and the lowest bucket begins at 0. Envoy's answer has no bucket without a bound: what is
    /// slower than the last bound is not in it. `None` without samples.
    pub fn of(q: f64, buckets: &[Bucket]) -> Option<Self> {
        let all = buckets.last()?.count;
        if all == 0 {
            return None;
        }
        let rank = q * all as f64;
        let (mut from, mut before) = (0.0, 0);
        for bucket in buckets {
            if bucket.count as f64 >= rank && bucket.count > before {
                let inside = bucket.count.saturating_sub(before) as f64;
                let share = ((rank - before as f64) / inside).clamp(0.0, 1.0);
                return Some(Quantile { ms: from + (bucket.bound - from) * share, from, to: bucket.bound });
            }
            (from, before) = (bucket.bound, bucket.count);
        }
        None
    }

    /// Whether its bucket leaves open whether it is more than twice as much.
    pub fn is_coarse(self) -> bool {
        self.to > 2.0 * self.from
    }
}

/// p50, p95 and p99.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    pub p50: Quantile,
    pub p95: Quantile,
    pub p99: Quantile,
}

impl Latency {
    /// `None` without samples.
    pub fn of(buckets: &[Bucket]) -> Option<Self> {
        Some(Latency {
            p50: Quantile::of(0.5, buckets)?,
            p95: Quantile::of(0.95, buckets)?,
            p99: Quantile::of(0.99, buckets)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(counts: &[(f64, u64)]) -> Vec<Bucket> {
        counts.iter().map(|&(bound, count)| Bucket { bound, count }).collect()
    }

    /// The values are those of Prometheus' `histogram_quantile` for the same buckets.
    #[test]
    fn quantiles_are_interpolated_within_their_bucket() {
        let some = buckets(&[(1.0, 0), (2.0, 50), (5.0, 90), (10.0, 99), (25.0, 100)]);
        for (q, ms, from, to) in [
            (0.5, 2.0, 1.0, 2.0),
            (0.25, 1.5, 1.0, 2.0),
            (0.9, 5.0, 2.0, 5.0),
            (0.95, 5.0 + 5.0 * 5.0 / 9.0, 5.0, 10.0),
            (0.995, 17.5, 10.0, 25.0),
            (1.0, 25.0, 10.0, 25.0),
        ] {
            let quantile = Quantile::of(q, &some).unwrap();
            assert!((quantile.ms - ms).abs() < 1e-9, "{q}: {quantile:?}");
            assert_eq!((quantile.from, quantile.to), (from, to), "{q}");
        }
        let first = Quantile::of(0.5, &buckets(&[(1.0, 10), (2.0, 10)])).unwrap();
        assert_eq!(first, Quantile { ms: 0.5, from: 0.0, to: 1.0 });
        assert_eq!(Quantile::of(0.5, &[]), None);
        assert_eq!(Quantile::of(0.5, &buckets(&[(1.0, 0)])), None);
    }

    #[test]
    fn a_bucket_over_more_than_a_factor_of_two_is_coarse() {
        for (from, to, coarse) in [(25.0, 50.0, false), (10.0, 25.0, true), (0.0, 1.0, true)] {
            assert_eq!(Quantile { ms: to, from, to }.is_coarse(), coarse, "{from} to {to}");
        }
    }
}
