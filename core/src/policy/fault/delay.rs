use std::time::Duration;

use super::headers;
use crate::host::Host;
use crate::request::Request;
use crate::trace;

/// So many standard deviations above the mean a normal distribution is cut off.
const NORMAL_BOUND: u32 = 6;

/// So many means long is the longest delay of an exponential distribution.
const EXPONENTIAL_BOUND: u32 = 10;

/// How long a request has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// Always so long.
    Fixed(Duration),
    /// Evenly spread.
    Uniform {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// The bell curve, cut off at zero and at six standard deviations above the mean.
    Normal {
        /// The middle.
        mean: Duration,
        /// The standard deviation.
        stddev: Duration,
    },
    /// Many short ones, few long ones; cut off at ten times the mean.
    Exponential {
        /// The average.
        mean: Duration,
    },
    /// What the request's `x-envoy-fault-delay-request` says.
    Headers,
}

impl Delay {
    /// Draws a length. Less than a millisecond is no fault, as in Envoy.
    pub(super) fn length(&self, request: &Request, host: &dyn Host) -> Option<Duration> {
        let length = match *self {
            Delay::Fixed(length) => length,
            Delay::Uniform { min, max } => {
                scaled(max.saturating_sub(min), fraction(host)).saturating_add(min)
            }
            Delay::Normal { mean, stddev } => {
                let deviation = normal(host);
                let distance = scaled(stddev, deviation.abs());
                if deviation < 0.0 { mean.saturating_sub(distance) } else { mean.saturating_add(distance) }
            }
            Delay::Exponential { mean } => scaled(mean, -(1.0 - fraction(host)).ln()),
            Delay::Headers => headers::delay(request)?,
        };
        let length = length.min(self.longest());
        (length >= Duration::from_millis(1)).then_some(length)
    }

    /// No draw is longer.
    pub fn longest(&self) -> Duration {
        match *self {
            Delay::Fixed(length) => length,
            Delay::Uniform { max, .. } => max,
            Delay::Normal { mean, stddev } => mean.saturating_add(stddev.saturating_mul(NORMAL_BOUND)),
            Delay::Exponential { mean } => mean.saturating_mul(EXPONENTIAL_BOUND),
            Delay::Headers => headers::MAX_DELAY,
        }
    }
}

/// A number from 0 to just below 1.
fn fraction(host: &dyn Host) -> f64 {
    trace::drawing("length");
    // 53 bits are what a double holds exactly.
    (host.random() >> 11) as f64 / 9_007_199_254_740_992.0
}

/// A number of the standard normal distribution, by Marsaglia's polar method: of a point in the circle. That none of so
/// many points of the square lies in it happens once in 10^21 times.
fn normal(host: &dyn Host) -> f64 {
    let point = || (2.0 * fraction(host) - 1.0, 2.0 * fraction(host) - 1.0);
    let inside = |(x, y): (f64, f64)| {
        let square = x * x + y * y;
        (0.0 < square && square < 1.0).then(|| x * (-2.0 * square.ln() / square).sqrt())
    };
    (0..32).find_map(|_| inside(point())).unwrap_or(0.0)
}

/// So many times a length; what is too long for a length is the longest there is.
fn scaled(length: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(length.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}
