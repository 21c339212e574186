use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::Stream;
use super::shares::{self, Counts};
use crate::host::{Host, Instant, NumberHash};
use crate::policy::Wait;
use crate::policy::metric::Gauge;

type Waiter = (u32, Rc<RefCell<Stream>>);

/// The streams that wait, by the point in time at which each has to go on at the latest.
pub(super) struct Waiting {
    by_deadline: BTreeMap<(Instant, u32), Rc<RefCell<Stream>>>,
    waits: HashMap<u32, Waited, NumberHash>,
    /// The streams that wait for answers, by the tokens of their callouts.
    by_call: HashMap<u32, u32, NumberHash>,
    /// How many wait for a delay's end, for keys, for answers.
    counts: Counts,
    /// How many the proxy knows of.
    told: Counts,
    gauges: [Gauge; 3],
    /// By which the other workers know it; none before it has told them anything.
    id: Option<u64>,
    /// When to tell again, or to look after the others.
    again: Option<Instant>,
}

struct Waited {
    wait: Wait,
    calls: Vec<u32>,
}

impl Default for Waiting {
    fn default() -> Self {
        let gauge = |reason| Gauge::new("meshfilter_waiting_requests", &[("reason", reason)]);
        Waiting {
            by_deadline: BTreeMap::new(),
            waits: HashMap::default(),
            by_call: HashMap::default(),
            counts: Counts::default(),
            told: Counts::default(),
            gauges: ["delay", "keys", "answers"].map(gauge),
            id: None,
            again: None,
        }
    }
}

impl Waiting {
    /// Makes the proxy show how many wait, and looks after VMs that may be dead.
    pub fn start(&mut self, host: &dyn Host) {
        self.gauges.iter().for_each(|gauge| gauge.adjust(0, host));
        self.tell(host.now(), host);
    }

    /// Whether the proxy knows of other numbers than these.
    pub fn must_tell(&self) -> bool {
        self.counts != self.told
    }

    /// When [`Waiting::tell`] wants to be called, changed or not.
    pub fn tell_again(&self) -> Option<Instant> {
        self.again
    }

    /// Tells the proxy how many wait, and takes back what dead VMs have told.
    pub fn tell(&mut self, now: Instant, host: &dyn Host) {
        if !host.may_die() {
            for ((gauge, count), told) in self.gauges.iter().zip(self.counts).zip(self.told) {
                if count != told {
                    gauge.adjust(i64::from(count).saturating_sub(told.into()), host);
                }
            }
            self.told = self.counts;
            return;
        }
        // One that never waited needs none.
        let id = match self.id {
            None if self.must_tell() => *self.id.insert(host.random()),
            id => id.unwrap_or_default(),
        };
        self.told = self.counts;
        match shares::tell(id, self.counts, now, host) {
            Ok(told) => {
                self.again = told.again;
                let changed = self.gauges.iter().zip(told.changes).filter(|(_, change)| *change != 0);
                changed.for_each(|(gauge, change)| gauge.adjust(change, host));
            }
            Err(status) => {
                self.again = None;
                log::debug!("meshfilter: waiting requests cannot be counted: {status:?}");
            }
        }
    }

    fn count(&mut self, wait: Wait) -> &mut u32 {
        let [delay, keys, answers] = &mut self.counts;
        match wait {
            Wait::Until(_) => delay,
            Wait::Keys(_) => keys,
            Wait::Answers(_) => answers,
        }
    }

    pub fn add(&mut self, id: u32, wait: Wait, stream: Rc<RefCell<Stream>>) {
        self.remove(id);
        let count = self.count(wait);
        *count = count.saturating_add(1);
        let calls = match wait {
            Wait::Answers(_) => stream.try_borrow().map(|stream| stream.calls()).unwrap_or_default(),
            Wait::Until(_) | Wait::Keys(_) => Vec::new(),
        };
        self.by_call.extend(calls.iter().map(|call| (*call, id)));
        self.waits.insert(id, Waited { wait, calls });
        self.by_deadline.insert((deadline(wait), id), stream);
    }

    pub fn remove(&mut self, id: u32) -> Option<Rc<RefCell<Stream>>> {
        // Mostly nobody waits, and looking at that costs less.
        if self.waits.is_empty() {
            return None;
        }
        let wait = self.forget(id)?;
        self.by_deadline.remove(&(deadline(wait), id))
    }

    fn forget(&mut self, id: u32) -> Option<Wait> {
        let Waited { wait, calls } = self.waits.remove(&id)?;
        for call in calls {
            self.by_call.remove(&call);
        }
        let count = self.count(wait);
        *count = count.saturating_sub(1);
        Some(wait)
    }

    /// When the next stream has to go on.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Takes the stream whose time has come first.
    pub fn take_due(&mut self, now: Instant) -> Option<Waiter> {
        let entry = self.by_deadline.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((_, id), stream) = entry.remove_entry();
        self.forget(id);
        Some((id, stream))
    }

    /// Makes the time of every stream that waits for a key set come now.
    pub fn hasten_waiting_for_keys(&mut self, now: Instant) {
        let waits_for_keys =
            |(id, waited): (&u32, &Waited)| matches!(waited.wait, Wait::Keys(_)).then_some(*id);
        let ids: Vec<u32> = self.waits.iter().filter_map(waits_for_keys).collect();
        for id in ids {
            if let Some(stream) = self.remove(id) {
                self.add(id, Wait::Keys(now), stream);
            }
        }
    }

    /// The stream that waits for the answer to this callout.
    pub fn by_call(&self, token: u32) -> Option<Waiter> {
        let id = *self.by_call.get(&token)?;
        let deadline = deadline(self.waits.get(&id)?.wait);
        Some((id, self.by_deadline.get(&(deadline, id))?.clone()))
    }
}

fn deadline(wait: Wait) -> Instant {
    match wait {
        Wait::Until(deadline) | Wait::Keys(deadline) | Wait::Answers(deadline) => deadline,
    }
}
