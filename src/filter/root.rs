use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::stream::Progress;
use super::waiting::Waiting;
use super::{Flow, Stream};
use crate::config;
use crate::host::{BufferType, Host, Instant};
use crate::policy::{Policy, authentication, shared, telemetry};

/// One loaded configuration: its policy, and the streams that wait under it.
///
/// A new configuration is a new root in the same VM; the old one lives on until its streams are done.
pub struct Root {
    host: Rc<dyn Host>,
    /// The proxy's id of this root, for the calls that are not about a stream.
    context: u32,
    policy: RefCell<Rc<Policy>>,
    waiting: RefCell<Waiting>,
    /// When the tick that was asked for comes.
    armed: Cell<Option<Instant>>,
    /// When the proxy hears of what was counted and of how many wait; `None` while nothing changed.
    flush_at: Cell<Option<Instant>>,
}

/// So many streams go on in one callback at most. Envoy carries out what a callback asks for when it is over. Where that
/// answers a request at once, the filter hears of it and the next one is carried out from within, on the same stack:
/// some 270 overflow it, and that is the end of the VM. It need not be a reply of ours: the router answers, too, where
/// it has no route, no healthy upstream or no connection left.
const MOST_AT_ONCE: usize = 100;

const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;

/// The variable of the plugin's environment that goes, beside the document, into what other plugins cannot know.
const SECRET: &str = "MESHFILTER_SECRET";

/// How long counters are added up before the proxy hears of them, in nanoseconds.
const FLUSH_AFTER: u64 = 500 * NANOSECONDS_PER_MILLISECOND;

impl Root {
    /// A root without a configuration yet.
    pub fn new(host: Rc<dyn Host>, context: u32) -> Rc<Self> {
        Rc::new(Root {
            host,
            context,
            policy: RefCell::default(),
            waiting: RefCell::default(),
            armed: Cell::new(None),
            flush_at: Cell::new(None),
        })
    }

    /// Reads, checks and compiles the plugin's configuration; `false` makes the proxy refuse it. Every error is
    /// logged.
    pub fn on_configure(&self) -> bool {
        let bytes = self.host.buffer(BufferType::PluginConfiguration, 0, usize::MAX).unwrap_or_default();
        match config::load(&bytes, &|name| self.host.environment(name)) {
            Ok(compiled) => {
                for warning in &compiled.warnings {
                    log::warn!("meshfilter: {warning}");
                }
                let secret = self.host.environment(SECRET).unwrap_or_default();
                authentication::take_secret(&bytes, secret.as_bytes());
                let mut policy = compiled.policy;
                policy.start(&*self.host);
                telemetry::record_version(compiled.version, &*self.host);
                shared::define(&*self.host);
                self.waiting.borrow_mut().start(&*self.host);
                log::info!("meshfilter: policy loaded: {policy}");
                self.policy.replace(Rc::new(policy));
                self.arm();
                true
            }
            Err(errors) => {
                for error in &errors {
                    log::error!("meshfilter: {error}");
                }
                log::error!(
                    "meshfilter: policy refused, {} error(s); the old one stays in force",
                    errors.len()
                );
                false
            }
        }
    }

    /// Begins a stream under the current policy.
    pub fn open(&self, id: u32) -> Rc<RefCell<Stream>> {
        Rc::new(RefCell::new(Stream::new(id, self.policy.borrow().clone(), self.host.clone())))
    }

    /// A request's headers are there.
    pub fn on_request_headers(&self, stream: &Rc<RefCell<Stream>>) -> Flow {
        let Ok(mut borrowed) = stream.try_borrow_mut() else { return Flow::Pause };
        match borrowed.on_request_headers() {
            Progress::Continue => Flow::Continue,
            Progress::Ended => Flow::Pause,
            Progress::Wait(wait) => {
                let id = borrowed.id();
                drop(borrowed);
                self.waiting.borrow_mut().add(id, wait, stream.clone());
                self.arm();
                Flow::Pause
            }
        }
    }

    /// A response's headers are there, the upstream's or a local reply's.
    pub fn on_response_headers(&self, stream: &Rc<RefCell<Stream>>) {
        if let Ok(mut stream) = stream.try_borrow_mut() {
            stream.on_response_headers();
        }
    }

    /// A stream is over.
    pub fn on_log(&self, stream: &Rc<RefCell<Stream>>) {
        if let Ok(mut stream) = stream.try_borrow_mut() {
            stream.on_log();
        }
        if self.must_flush() {
            self.arm();
        }
    }

    /// A stream is gone, perhaps while it waited.
    pub fn close(&self, stream: &Rc<RefCell<Stream>>) {
        if let Ok(mut stream) = stream.try_borrow_mut() {
            self.waiting.borrow_mut().remove(stream.id());
            stream.abandon();
        }
        if self.must_flush() {
            self.arm();
        }
    }

    /// The time that was asked for has come.
    pub fn on_tick(&self) {
        self.armed.set(None);
        let policy = self.policy.borrow().clone();
        let now = self.host.now();
        if policy.authentication.poll(&*self.host) {
            self.waiting.borrow_mut().hasten_waiting_for_keys(now);
        }
        self.resume_due(now);
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let flush = due(self.flush_at.get());
        if flush {
            self.flush_at.set(None);
            self.host.flush_counters();
        }
        if flush || due(self.waiting.borrow().tell_again()) {
            self.waiting.borrow_mut().tell(now, &*self.host);
        }
        self.arm();
    }

    /// A callout was answered.
    pub fn on_http_call_response(&self, token: u32) {
        let policy = self.policy.borrow().clone();
        if policy.authentication.on_http_call_response(token, &*self.host) {
            let now = self.host.now();
            self.waiting.borrow_mut().hasten_waiting_for_keys(now);
            self.resume_due(now);
        }
        self.take_answer(token);
        self.arm();
    }

    /// Gives an answer to the stream that waits for it. Callouts are the root's, whoever makes them, so the answer is
    /// read before the calls that follow are about the stream.
    fn take_answer(&self, token: u32) {
        let Some((id, stream)) = self.waiting.borrow().by_call(token) else { return };
        let complete = stream.try_borrow_mut().is_ok_and(|mut stream| stream.on_http_call_response(token));
        if complete {
            self.waiting.borrow_mut().remove(id);
            self.resume(id, stream);
            let _ = self.host.set_effective_context(self.context);
        }
    }

    /// The root is going away: a new configuration has replaced it, or the proxy ends.
    pub fn on_delete(&self) {
        self.host.flush_counters();
        let mut waiting = self.waiting.borrow_mut();
        if waiting.must_tell() {
            waiting.tell(self.host.now(), &*self.host);
        }
    }

    /// Whether something was counted, and no tick is on its way to tell the proxy.
    fn must_flush(&self) -> bool {
        self.flush_at.get().is_none()
            && (!self.host.counters().is_empty() || self.waiting.borrow().must_tell())
    }

    /// Lets those go on whose time has come; what is left over has its turn in the next tick. Nobody is taken off the list
    /// before its turn: where a panic is caught, it takes no other with it.
    fn resume_due(&self, now: Instant) {
        for _ in 0..MOST_AT_ONCE {
            let due = self.waiting.borrow_mut().take_due(now);
            let Some((id, stream)) = due else { break };
            self.resume(id, stream);
        }
        let _ = self.host.set_effective_context(self.context);
    }

    fn resume(&self, id: u32, stream: Rc<RefCell<Stream>>) {
        // A stream that is gone meanwhile is no error.
        if self.host.set_effective_context(id).is_err() {
            return;
        }
        let Ok(mut borrowed) = stream.try_borrow_mut() else { return };
        if let Progress::Wait(wait) = borrowed.resume() {
            drop(borrowed);
            self.waiting.borrow_mut().add(id, wait, stream);
        }
    }

    /// Asks for a tick at the next point in time at which there is something to do, and for none if there is
    /// nothing: waiting costs no polling.
    fn arm(&self) {
        if !self.host.may_die() && self.waiting.borrow().must_tell() {
            self.waiting.borrow_mut().tell(self.host.now(), &*self.host);
        }
        if self.must_flush() {
            self.flush_at.set(Some(self.host.now().saturating_add(FLUSH_AFTER)));
        }
        let policy = self.policy.borrow().clone();
        let (waiting, tell_again) = {
            let waiting = self.waiting.borrow();
            (waiting.next_deadline(), waiting.tell_again())
        };
        let next = [waiting, tell_again, policy.authentication.next_poll(), self.flush_at.get()];
        let next = next.into_iter().flatten().min();
        match (next, self.armed.get()) {
            (Some(next), Some(armed)) if next >= armed => {}
            (Some(next), _) => {
                let left = next.saturating_sub(self.host.now()).div_ceil(NANOSECONDS_PER_MILLISECOND).max(1);
                if self.host.set_tick_period(Duration::from_millis(left)).is_ok() {
                    self.armed.set(Some(next));
                }
            }
            (None, _) => {
                let _ = self.host.set_tick_period(Duration::ZERO);
                self.armed.set(None);
            }
        }
    }
}
