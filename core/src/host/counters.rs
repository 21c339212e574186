use std::cell::RefCell;

use super::MetricId;

/// What was added to counters and the proxy has not been told yet: a hostcall for each of them now and then, rather
/// than for each request.
#[derive(Debug, Default)]
pub struct Counters(RefCell<Pending>);

#[derive(Debug, Default)]
struct Pending {
    /// By their ids, which proxies count up.
    sums: Vec<u64>,
    /// The ids of those that are not 0.
    counted: Vec<MetricId>,
}

/// Ids from here on are not kept: no proxy gives so many.
const MOST: usize = 1 << 20;

impl Counters {
    /// Adds to a counter; `false` if the proxy has to be told at once.
    pub fn add(&self, counter: MetricId, by: u64) -> bool {
        let Ok(mut pending) = self.0.try_borrow_mut() else { return false };
        let place = counter as usize;
        let Pending { sums, counted } = &mut *pending;
        if place >= sums.len() {
            if place >= MOST {
                return false;
            }
            sums.resize(place.saturating_add(1), 0);
        }
        if let Some(sum) = sums.get_mut(place) {
            if *sum == 0 && by != 0 {
                counted.push(counter);
            }
            *sum = sum.saturating_add(by);
        }
        true
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.0.try_borrow().is_ok_and(|pending| pending.counted.is_empty())
    }

    /// Tells every sum once, and forgets it.
    pub(super) fn drain(&self, mut tell: impl FnMut(MetricId, u64)) {
        let Ok(mut pending) = self.0.try_borrow_mut() else { return };
        let Pending { sums, counted } = &mut *pending;
        for counter in counted.drain(..) {
            if let Some(sum) = sums.get_mut(counter as usize) {
                tell(counter, std::mem::take(sum));
            }
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
            assert!(counters.add(counter, by));
        }
        assert!(!counters.add(u32::MAX, 1));
        let mut told = Vec::new();
        counters.drain(|counter, sum| told.push((counter, sum)));
        told.sort_unstable();
        assert_eq!(told, [(4, 4), (8, 2), (16, u64::MAX)]);
        assert!(counters.is_empty());
    }
}
