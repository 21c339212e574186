use std::cell::RefCell;
use std::collections::HashMap;

use super::{MetricId, NumberHash};

/// What was added to counters and the proxy has not been told yet: a hostcall for each of them now and then, rather
/// than for each request.
#[derive(Debug, Default)]
pub struct Counters(RefCell<HashMap<MetricId, u64, NumberHash>>);

impl Counters {
    /// Adds to a counter.
    pub fn add(&self, counter: MetricId, by: u64) {
        if by == 0 {
            return;
        }
        if let Ok(mut pending) = self.0.try_borrow_mut() {
            let sum = pending.entry(counter).or_default();
            *sum = sum.saturating_add(by);
        }
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.0.try_borrow().is_ok_and(|pending| pending.is_empty())
    }

    /// Tells every sum once, and forgets it.
    pub(super) fn drain(&self, mut tell: impl FnMut(MetricId, u64)) {
        if let Ok(mut pending) = self.0.try_borrow_mut() {
            pending.drain().for_each(|(counter, sum)| tell(counter, sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_told_once() {
        let counters = Counters::default();
        assert!(counters.is_empty());
        for (counter, by) in [(4, 1), (8, 2), (4, 3), (12, 0), (16, u64::MAX), (16, 1)] {
            counters.add(counter, by);
        }
        let mut told = Vec::new();
        counters.drain(|counter, sum| told.push((counter, sum)));
        told.sort_unstable();
        assert_eq!(told, [(4, 4), (8, 2), (16, u64::MAX)]);
        assert!(counters.is_empty());
    }
}
