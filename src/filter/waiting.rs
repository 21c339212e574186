use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::Stream;
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
    delays: Gauged,
    keys: Gauged,
    answers: Gauged,
}

struct Waited {
    wait: Wait,
    calls: Vec<u32>,
}

/// How many wait for one reason, and how many the proxy knows of.
struct Gauged {
    gauge: Gauge,
    waiting: i64,
    told: i64,
}

impl Default for Waiting {
    fn default() -> Self {
        let gauged = |reason| Gauged {
            gauge: Gauge::new("meshfilter_waiting_requests", &[("reason", reason)]),
            waiting: 0,
            told: 0,
        };
        Waiting {
            by_deadline: BTreeMap::new(),
            waits: HashMap::default(),
            by_call: HashMap::default(),
            delays: gauged("delay"),
            keys: gauged("keys"),
            answers: gauged("answers"),
        }
    }
}

impl Gauged {
    fn tell(&mut self, host: &dyn Host) {
        if self.waiting != self.told {
            self.gauge.adjust(self.waiting.saturating_sub(self.told), host);
            self.told = self.waiting;
        }
    }
}

impl Waiting {
    /// Makes the proxy show how many wait, none as yet.
    pub fn define(&self, host: &dyn Host) {
        self.delays.gauge.adjust(0, host);
        self.keys.gauge.adjust(0, host);
        self.answers.gauge.adjust(0, host);
    }

    /// Tells the proxy how many wait, if that has changed.
    pub fn tell(&mut self, host: &dyn Host) {
        self.delays.tell(host);
        self.keys.tell(host);
        self.answers.tell(host);
    }

    fn count(&mut self, wait: Wait, by: i64) {
        let gauged = match wait {
            Wait::Until(_) => &mut self.delays,
            Wait::Keys(_) => &mut self.keys,
            Wait::Answers(_) => &mut self.answers,
        };
        gauged.waiting = gauged.waiting.saturating_add(by);
    }

    pub fn add(&mut self, id: u32, wait: Wait, stream: Rc<RefCell<Stream>>) {
        self.remove(id);
        self.count(wait, 1);
        let calls = match wait {
            Wait::Answers(_) => stream.try_borrow().map(|stream| stream.calls()).unwrap_or_default(),
            Wait::Until(_) | Wait::Keys(_) => Vec::new(),
        };
        self.by_call.extend(calls.iter().map(|call| (*call, id)));
        self.waits.insert(id, Waited { wait, calls });
        self.by_deadline.insert((deadline(wait), id), stream);
    }

    pub fn remove(&mut self, id: u32) -> Option<Rc<RefCell<Stream>>> {
        let wait = self.forget(id)?;
        self.by_deadline.remove(&(deadline(wait), id))
    }

    fn forget(&mut self, id: u32) -> Option<Wait> {
        let Waited { wait, calls } = self.waits.remove(&id)?;
        for call in calls {
            self.by_call.remove(&call);
        }
        self.count(wait, -1);
        Some(wait)
    }

    /// When the next stream has to go on.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Takes streams whose time has come, in the order of their times, and no more than so many.
    pub fn take_due(&mut self, now: Instant, most: usize) -> Vec<Waiter> {
        let mut due = Vec::new();
        while due.len() < most
            && let Some(entry) = self.by_deadline.first_entry()
        {
            if entry.key().0 > now {
                break;
            }
            let ((_, id), stream) = entry.remove_entry();
            self.forget(id);
            due.push((id, stream));
        }
        due
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
