//! What is counted about buckets, beside what the limits decide.

use super::WAYS;
use super::set::Taken;
use crate::host::Host;
use crate::policy::metric::{Counter, Gauge};

/// How full the table of buckets is. It is one for the whole process.
#[derive(Debug)]
pub(super) struct TableMetrics {
    slots: Gauge,
    used: Gauge,
    displaced: Counter,
}

impl Default for TableMetrics {
    fn default() -> Self {
        TableMetrics {
            slots: Gauge::new::<&str>("meshfilter_rate_limit_slots", &[]),
            used: Gauge::new::<&str>("meshfilter_rate_limit_slots_used", &[]),
            displaced: Counter::new("meshfilter_rate_limit_displaced_total", &[]),
        }
    }
}

impl TableMetrics {
    /// Shows a table of so many sets.
    pub fn define(&self, sets: u32, host: &dyn Host) {
        let ways = u64::try_from(WAYS).unwrap_or(u64::MAX);
        self.slots.set(u64::from(sets).saturating_mul(ways), host);
        self.used.adjust(0, host);
        self.displaced.define(host);
    }

    /// A set was written with what this request took.
    pub fn wrote(&self, taken: &Taken, host: &dyn Host) {
        if taken.claimed {
            self.used.adjust(1, host);
        }
        if taken.displaced {
            self.displaced.add(1, host);
        }
    }
}

/// The counter of a limit's requests that passed and left less than a tenth of the bucket.
pub(super) fn nearly_empty(policy: &str) -> Counter {
    Counter::new("meshfilter_rate_limit_nearly_empty_total", &[("policy", policy)])
}
