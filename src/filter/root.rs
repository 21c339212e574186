use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::stream::Progress;
use super::waiting::Waiting;
use super::{Flow, Stream};
use crate::config;
use crate::host::{BufferType, Host, Instant};
use crate::policy::{Policy, telemetry};

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
}

const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;

impl Root {
    /// A root without a configuration yet.
    pub fn new(host: Rc<dyn Host>, context: u32) -> Rc<Self> {
        Rc::new(Root {
            host,
            context,
            policy: RefCell::default(),
            waiting: RefCell::default(),
            armed: Cell::new(None),
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
                let mut policy = compiled.policy;
                policy.start(&*self.host);
                telemetry::record_version(compiled.version, &*self.host);
                log::info!("meshfilter {}: policy loaded: {policy}", env!("CARGO_PKG_VERSION"));
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
    }

    /// A stream is gone, perhaps while it waited.
    pub fn close(&self, stream: &Rc<RefCell<Stream>>) {
        if let Ok(mut stream) = stream.try_borrow_mut() {
            self.waiting.borrow_mut().remove(stream.id());
            stream.abandon();
        }
    }

    /// The time that was asked for has come.
    pub fn on_tick(&self) {
        self.armed.set(None);
        let policy = self.policy.borrow().clone();
        if policy.authentication.poll(&*self.host) {
            self.wake_waiting_for_keys();
        }
        let due = self.waiting.borrow_mut().take_due(self.host.now());
        self.resume(due);
        self.arm();
    }

    /// A callout was answered.
    pub fn on_http_call_response(&self, token: u32) {
        let policy = self.policy.borrow().clone();
        if policy.authentication.on_http_call_response(token, &*self.host) {
            self.wake_waiting_for_keys();
        }
        self.arm();
    }

    fn wake_waiting_for_keys(&self) {
        let waiting = self.waiting.borrow_mut().take_waiting_for_keys();
        self.resume(waiting);
    }

    fn resume(&self, streams: Vec<(u32, Rc<RefCell<Stream>>)>) {
        for (id, stream) in streams {
            // A stream that is gone meanwhile is no error.
            if self.host.set_effective_context(id).is_err() {
                continue;
            }
            let Ok(mut borrowed) = stream.try_borrow_mut() else { continue };
            if let Progress::Wait(wait) = borrowed.resume() {
                drop(borrowed);
                self.waiting.borrow_mut().add(id, wait, stream);
            }
        }
        let _ = self.host.set_effective_context(self.context);
    }

    /// Asks for a tick at the next point in time at which there is something to do, and for none if there is
    /// nothing: waiting costs no polling.
    fn arm(&self) {
        let policy = self.policy.borrow().clone();
        let next = [self.waiting.borrow().next_deadline(), policy.authentication.next_poll()];
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
