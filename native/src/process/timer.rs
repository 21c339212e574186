//! The ABI has no timers: one thread of the module's own sleeps until the next thing is due, and wakes Envoy's thread by
//! a scheduler.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use super::{lock, now};
use crate::abi::Scheduler;

/// What is woken. Once silenced, it never is again: after that its object may go.
#[derive(Debug)]
pub struct Alarm(Mutex<Option<Scheduler>>);

impl Alarm {
    pub fn new(scheduler: Scheduler) -> Arc<Self> {
        Arc::new(Alarm(Mutex::new(Some(scheduler))))
    }

    /// Wakes it now.
    pub fn ring(&self) {
        if let Some(scheduler) = &*lock(&self.0) {
            scheduler.commit();
        }
    }

    /// Comes back when no ringing is under way, and lets none begin.
    pub fn silence(&self) {
        let scheduler = lock(&self.0).take();
        drop(scheduler);
    }
}

#[derive(Default)]
struct Timer {
    due: Mutex<BinaryHeap<Reverse<Due>>>,
    earlier: Condvar,
}

struct Due {
    at: u64,
    alarm: Arc<Alarm>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

/// Rings an alarm at a point in time, or soon after. `false` if there can be no thread for it.
pub fn wake_at(at: u64, alarm: &Arc<Alarm>) -> bool {
    static TIMER: OnceLock<Option<Arc<Timer>>> = OnceLock::new();
    let Some(timer) = TIMER.get_or_init(start) else { return false };
    let mut due = lock(&timer.due);
    let is_next = due.peek().is_none_or(|Reverse(next)| at < next.at);
    due.push(Reverse(Due { at, alarm: alarm.clone() }));
    drop(due);
    if is_next {
        timer.earlier.notify_one();
    }
    true
}

fn start() -> Option<Arc<Timer>> {
    let timer = Arc::new(Timer::default());
    let own = timer.clone();
    let thread = thread::Builder::new().name("meshfilter-timer".to_owned()).spawn(move || own.run());
    match thread {
        Ok(_) => Some(timer),
        Err(error) => {
            log::error!("meshfilter: no thread for the timer: {error}");
            None
        }
    }
}

impl Timer {
    fn run(&self) {
        let mut due = lock(&self.due);
        loop {
            let now = now();
            let next = due.peek().map(|Reverse(next)| next.at);
            due = match next {
                Some(at) if at <= now => {
                    let first = due.pop();
                    // Whoever is woken may want to be woken again, and never waits for this thread.
                    drop(due);
                    if let Some(Reverse(first)) = first {
                        first.alarm.ring();
                    }
                    lock(&self.due)
                }
                Some(at) => {
                    let left = Duration::from_nanos(at.saturating_sub(now));
                    self.earlier.wait_timeout(due, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.earlier.wait(due).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}
