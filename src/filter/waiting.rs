use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::Stream;
use crate::host::Instant;
use crate::policy::Wait;

/// The streams that wait, by the point in time at which each has to go on at the latest.
#[derive(Default)]
pub(super) struct Waiting {
    by_deadline: BTreeMap<(Instant, u32), Rc<RefCell<Stream>>>,
    waits: HashMap<u32, Wait>,
}

impl Waiting {
    pub fn add(&mut self, id: u32, wait: Wait, stream: Rc<RefCell<Stream>>) {
        self.remove(id);
        self.waits.insert(id, wait);
        self.by_deadline.insert((deadline(wait), id), stream);
    }

    pub fn remove(&mut self, id: u32) -> Option<Rc<RefCell<Stream>>> {
        let wait = self.waits.remove(&id)?;
        self.by_deadline.remove(&(deadline(wait), id))
    }

    /// When the next stream has to go on.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Takes every stream whose time has come, in the order of their times.
    pub fn take_due(&mut self, now: Instant) -> Vec<(u32, Rc<RefCell<Stream>>)> {
        let mut due = Vec::new();
        while let Some(entry) = self.by_deadline.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((_, id), stream) = entry.remove_entry();
            self.waits.remove(&id);
            due.push((id, stream));
        }
        due
    }

    /// Takes every stream that waits for a key set.
    pub fn take_waiting_for_keys(&mut self) -> Vec<(u32, Rc<RefCell<Stream>>)> {
        let waits_for_keys = |(id, wait): (&u32, &Wait)| matches!(wait, Wait::Keys(_)).then_some(*id);
        let ids: Vec<u32> = self.waits.iter().filter_map(waits_for_keys).collect();
        ids.into_iter().filter_map(|id| Some((id, self.remove(id)?))).collect()
    }
}

fn deadline(wait: Wait) -> Instant {
    match wait {
        Wait::Until(deadline) | Wait::Keys(deadline) => deadline,
    }
}
