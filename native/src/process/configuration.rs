use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use meshfilter::host::{HeaderMap, HttpCall};

use super::{Alarm, LateMetrics, MetricTable, Teller, lock, now, wake_at};
use crate::abi;

/// What all threads share of one configuration: Envoy makes one of it, and every worker compiles its policy for itself.
pub struct Configuration {
    envoy: abi::Configuration,
    /// No other has it, in this process.
    pub number: u64,
    /// `filter_name`, by which listeners share what they count.
    pub name: Vec<u8>,
    /// The policy document, as JSON or as text.
    pub document: Vec<u8>,
    pub metrics: MetricTable,
    /// Wakes the main thread.
    alarm: Arc<Alarm>,
    gone: AtomicBool,
    errands: Mutex<Vec<Errand>>,
}

/// A callout that belongs to no stream: a worker has none of these, so the main thread makes it.
pub struct Errand {
    pub call: HttpCall,
    pub token: u32,
    pub mailbox: Arc<Mailbox>,
}

/// Where a worker finds the answers to its errands.
#[derive(Default)]
pub struct Mailbox {
    replies: Mutex<Vec<Reply>>,
    full: AtomicBool,
}

/// An answer; none where there was none.
pub struct Reply {
    pub token: u32,
    pub answer: Option<Answer>,
}

/// What a callout was answered.
#[derive(Default)]
pub struct Answer {
    pub headers: HeaderMap<'static>,
    pub body: Vec<u8>,
    pub trailers: HeaderMap<'static>,
}

/// How long counters are added up before Envoy hears of them, in nanoseconds.
const TELL_AFTER: u64 = 500_000_000;

/// Those that Envoy has accepted and not destroyed.
static ACCEPTED: Mutex<Vec<Weak<Configuration>>> = Mutex::new(Vec::new());

/// How many there are in this process. Each filter of a chain has one of its own.
static LIVING: AtomicUsize = AtomicUsize::new(0);

impl Configuration {
    /// Whether there is more than one, so that a request may come to another one after this.
    pub fn are_several() -> bool {
        LIVING.load(Ordering::Relaxed) > 1
    }

    pub fn new(name: &[u8], document: &[u8], envoy: abi::Configuration) -> Option<Arc<Self>> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let alarm = Alarm::new(envoy.scheduler()?);
        LIVING.fetch_add(1, Ordering::Relaxed);
        Some(Arc::new(Configuration {
            envoy,
            number: LAST.fetch_add(1, Ordering::Relaxed),
            name: name.to_vec(),
            document: document.to_vec(),
            metrics: MetricTable::default(),
            alarm,
            gone: AtomicBool::new(false),
            errands: Mutex::default(),
        }))
    }

    /// Envoy will use it: it goes on with what those of its name have counted.
    pub fn accept(self: &Arc<Self>) {
        let mut accepted = lock(&ACCEPTED);
        accepted.retain(|other| other.strong_count() > 0);
        for other in self.others(&accepted) {
            self.metrics.inherit(&other.metrics, self.envoy);
        }
        accepted.push(Arc::downgrade(self));
    }

    /// Those of the same name. None of them goes away while the list is locked.
    fn others(&self, accepted: &[Weak<Configuration>]) -> Vec<Arc<Configuration>> {
        let living = accepted.iter().filter_map(Weak::upgrade);
        living.filter(|other| other.number != self.number && other.name == self.name).collect()
    }

    /// Wakes the main thread at a point in time.
    pub fn wake_at(&self, at: u64) {
        wake_at(at, &self.alarm);
    }

    /// Something was counted: sees to it that Envoy hears of it soon, where its configurations can be told. Where they
    /// cannot, the next hook with a filter does it.
    pub fn note_metrics(&self) {
        if self.metrics.note() && LateMetrics::get().is_some() {
            self.wake_at(now().saturating_add(TELL_AFTER));
        }
    }

    /// Envoy is about to destroy its side: tells it what was counted, and those that stay.
    pub fn say_goodbye(&self) {
        let accepted = lock(&ACCEPTED);
        if LateMetrics::get().is_some() {
            self.metrics.tell(Teller::Configuration(self.envoy));
            for other in self.others(&accepted) {
                other.metrics.inherit(&self.metrics, other.envoy);
            }
        }
    }

    /// Nothing is asked of Envoy's side afterwards.
    pub fn abandon(&self) {
        lock(&ACCEPTED).retain(|other| !std::ptr::eq(other.as_ptr(), self));
        self.let_go();
    }

    fn let_go(&self) {
        if !self.gone.swap(true, Ordering::AcqRel) {
            LIVING.fetch_sub(1, Ordering::Relaxed);
        }
        self.alarm.silence();
    }

    /// Whether Envoy has destroyed its side.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Has the main thread send a request.
    pub fn send(&self, errand: Errand) {
        lock(&self.errands).push(errand);
        self.alarm.ring();
    }

    /// What the main thread has to send.
    pub fn take_errands(&self) -> Vec<Errand> {
        std::mem::take(&mut *lock(&self.errands))
    }
}

impl Drop for Configuration {
    /// Perhaps it was refused, and Envoy destroys nothing.
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Mailbox {
    pub fn put(&self, reply: Reply) {
        lock(&self.replies).push(reply);
        self.full.store(true, Ordering::Release);
    }

    pub fn take(&self) -> Vec<Reply> {
        if !self.full.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *lock(&self.replies))
    }

    /// Whether there is something in it.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }
}
