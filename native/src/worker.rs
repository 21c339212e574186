//! What one thread has of a configuration: a host, and a root with the policy, compiled for this thread alone. The
//! policy's caches and counters are cells without locks, so workers share nothing on the request path but what the
//! policies themselves put into the shared data.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use meshfilter::filter::{Flow, Root, Stream};
use meshfilter::host::{Host, NumberHash};

use crate::abi::{self, Filter};
use crate::host::{Action, NativeHost, Part, Reply as LocalReply};
use crate::process::{Configuration, Errand, Mailbox, Reply, Teller};
use crate::{logger, version};

/// How soon a tick that panicked is tried again.
const AFTER_A_PANIC: Duration = Duration::from_millis(20);

thread_local! {
    static WORKERS: RefCell<Vec<Rc<Worker>>> = const { RefCell::new(Vec::new()) };
}

/// One configuration on one thread.
pub struct Worker {
    pub configuration: Arc<Configuration>,
    pub host: Rc<NativeHost>,
    root: Rc<Root>,
    last_stream: Cell<u32>,
    /// The streams that wait.
    waiting: RefCell<HashMap<u32, Rc<RefCell<Stream>>, NumberHash>>,
    /// Whose callouts the main thread has under way, by Envoy's numbers; no entry is its own.
    errands: RefCell<HashMap<u64, (u32, Arc<Mailbox>), NumberHash>>,
}

/// The hooks about a stream in which the policies have a say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    RequestHeaders,
    ResponseHeaders,
    Scheduled,
    Callout,
    /// The stream takes no more calls after it.
    Complete,
}

impl HookKind {
    /// As tests call it.
    pub const fn name(self) -> &'static str {
        match self {
            HookKind::RequestHeaders => "request_headers",
            HookKind::ResponseHeaders => "response_headers",
            HookKind::Scheduled => "scheduled",
            HookKind::Callout => "callout",
            HookKind::Complete => "stream_complete",
        }
    }
}

/// One request, as Envoy's pointer to it knows it.
pub struct Open {
    pub worker: Rc<Worker>,
    pub stream: Rc<RefCell<Stream>>,
    pub id: u32,
    /// A hook of it panicked: nothing more is done about it than to end it.
    pub broken: Cell<bool>,
}

impl Worker {
    /// A configuration's worker on this thread, once it is compiled; `None` if its document is refused.
    pub fn of(configuration: &Arc<Configuration>) -> Option<Rc<Self>> {
        let find = |workers: &Vec<Rc<Worker>>| {
            workers.iter().find(|worker| worker.configuration.number == configuration.number).cloned()
        };
        if let Some(known) = WORKERS.with_borrow(find) {
            return Some(known);
        }
        let worker = Self::new(configuration);
        let hook = worker.host.enter(0, None);
        let accepted = worker.root.on_configure();
        drop(hook);
        accepted.then(|| worker.keep())
    }

    /// Reads a configuration for the first time, on the main thread; `None` refuses it.
    pub fn configure(configuration: &Arc<Configuration>, envoy: abi::Configuration) -> Option<Rc<Self>> {
        log::info!("{}", version::LINE);
        let worker = Self::new(configuration);
        let hook = worker.host.enter_configuration(envoy, true);
        let accepted = worker.root.on_configure();
        if accepted {
            configuration.accept();
        }
        worker.host.settle();
        drop(hook);
        accepted.then(|| worker.keep())
    }

    fn new(configuration: &Arc<Configuration>) -> Self {
        let host = Rc::new(NativeHost::new(configuration.clone()));
        Worker {
            configuration: configuration.clone(),
            root: Root::new(host.clone(), 0),
            host,
            last_stream: Cell::new(0),
            waiting: RefCell::default(),
            errands: RefCell::default(),
        }
    }

    /// Keeps it, and drops those whose configurations are gone: only the thread that has a policy may drop it.
    fn keep(self) -> Rc<Self> {
        let worker = Rc::new(self);
        let gone = WORKERS.with_borrow_mut(|workers| {
            let (gone, kept) = workers.drain(..).partition(|worker| worker.configuration.is_gone());
            *workers = kept;
            workers.push(worker.clone());
            gone
        });
        drop::<Vec<_>>(gone);
        worker
    }

    /// Begins a stream.
    pub fn open(self: Rc<Self>) -> Open {
        let id = self.last_stream.get().wrapping_add(1).max(1);
        self.last_stream.set(id);
        Open { stream: self.root.open(id), worker: self, id, broken: Cell::new(false) }
    }

    /// The main thread was woken.
    pub fn on_configuration_scheduled(&self, envoy: abi::Configuration) {
        let _hook = self.host.enter_configuration(envoy, false);
        logger::follow_level(self.host.now());
        self.configuration.metrics.tell(Teller::Configuration(envoy));
        for errand in self.configuration.take_errands() {
            self.send(errand, envoy);
        }
        if self.host.tick_is_due() {
            self.host.take_tick();
            let _ = self.host.set_tick_period(AFTER_A_PANIC);
            self.root.on_tick();
        }
        self.host.settle();
    }

    fn send(&self, errand: Errand, envoy: abi::Configuration) {
        let Errand { call, token, mailbox } = errand;
        let id = envoy.callout(&abi::Callout {
            cluster: &call.cluster,
            headers: &call.headers,
            body: &call.body,
            timeout_milliseconds: u64::try_from(call.timeout.as_millis()).unwrap_or(u64::MAX),
        });
        match (id, self.errands.try_borrow_mut()) {
            (Some(id), Ok(mut errands)) => {
                errands.insert(id, (token, mailbox));
            }
            _ => mailbox.put(Reply { token, answer: None }),
        }
    }

    /// A callout of the main thread's was answered, in one piece.
    pub fn on_configuration_answer(&self, id: u64, parts: Option<&[Part<'_>]>, envoy: abi::Configuration) {
        let _hook = self.host.enter_configuration(envoy, false);
        let errand = self.errands.try_borrow_mut().ok().and_then(|mut errands| errands.remove(&id));
        let reply = self.host.callouts().try_borrow_mut().ok().and_then(|mut callouts| {
            if let Some((token, _)) = &errand {
                callouts.name(0, id, *token);
            }
            for part in parts.unwrap_or_default() {
                callouts.part(0, id, part);
            }
            callouts.over(0, id, parts.is_some())
        });
        match (reply, errand) {
            (Some(reply), Some((_, mailbox))) => mailbox.put(reply),
            (Some(reply), None) => self.deliver(reply),
            (None, _) => {}
        }
        self.host.settle();
    }

    /// Tells the root of an answer.
    fn deliver(&self, reply: Reply) {
        self.host.answer(reply.answer);
        self.root.on_http_call_response(reply.token);
        self.host.answer(None);
    }

    /// Whether something is due, whoever's hook this is.
    fn is_behind(&self) -> bool {
        self.host.mailbox().is_full() || self.host.tick_is_due()
    }

    /// Does what is due.
    fn catch_up(&self) {
        self.host.about_root();
        for reply in self.host.mailbox().take() {
            self.deliver(reply);
        }
        if self.host.tick_is_due() {
            self.host.take_tick();
            // The root asks for its next one, unless it panics.
            let _ = self.host.set_tick_period(AFTER_A_PANIC);
            self.root.on_tick();
        }
    }

    fn stream(&self, id: u32, open: &Open) -> Option<Rc<RefCell<Stream>>> {
        if id == open.id {
            return Some(open.stream.clone());
        }
        self.waiting.try_borrow().ok()?.get(&id).cloned()
    }

    /// Carries out what was asked for in a hook of `open`. Each of these may call other hooks from within, and end any
    /// stream.
    fn carry_out(&self, open: &Open) {
        loop {
            let actions = self.host.take_actions();
            if actions.is_empty() {
                break;
            }
            for (stream, action) in actions {
                // A stream that is gone meanwhile is no error.
                let Some(filter) = self.host.filter_of(stream) else { continue };
                match action {
                    Action::Continue => filter.continue_decoding(),
                    Action::Reply(reply) => {
                        let reply = LocalReply::new(reply, filter);
                        let headers = self.host.with_reply(reply.headers(), || {
                            let _ = self.host.set_effective_context(stream);
                            if let Some(stream) = self.stream(stream, open) {
                                self.root.on_response_headers(&stream);
                            }
                        });
                        reply.send(&headers, filter);
                    }
                    Action::Reset => filter.reset("meshfilter_reset"),
                    Action::Answered(token, answer) => {
                        self.deliver(Reply { token, answer: answer.map(|answer| *answer) });
                    }
                }
            }
        }
        self.host.settle();
        self.host.tell_metrics();
    }
}

impl Open {
    /// Runs a callback of this stream, and then what it and others asked for.
    fn run<T>(&self, filter: Filter, callback: impl FnOnce(&Root) -> T) -> T {
        let worker = &self.worker;
        let _hook = worker.host.enter(self.id, Some(filter));
        let result = callback(&worker.root);
        worker.carry_out(self);
        result
    }

    pub fn on_request_headers(&self, filter: Filter) -> Flow {
        self.run(filter, |root| {
            logger::follow_level(self.worker.host.now());
            if self.worker.is_behind() && !self.catches_up(filter) {
                return Flow::Pause;
            }
            let flow = root.on_request_headers(&self.stream);
            if flow == Flow::Pause && !self.worker.host.has_action(self.id) {
                self.worker.host.wait(self.id, filter);
                if let Ok(mut waiting) = self.worker.waiting.try_borrow_mut() {
                    waiting.insert(self.id, self.stream.clone());
                }
            }
            flow
        })
    }

    pub fn on_response_headers(&self, filter: Filter) {
        let heeds = self.stream.try_borrow().is_ok_and(|stream| stream.heeds_response());
        if heeds {
            self.run(filter, |root| root.on_response_headers(&self.stream));
        }
    }

    pub fn on_stream_complete(&self, filter: Filter) {
        // It takes no more calls, should it still wait.
        self.worker.host.forget(self.id);
        self.run(filter, |root| {
            self.worker.host.is_over(self.stream.try_borrow().ok().and_then(|stream| stream.received_at()));
            root.on_log(&self.stream);
        });
    }

    /// Another thread wanted this one woken, through this stream.
    pub fn on_scheduled(&self, filter: Filter) {
        self.run(filter, |_| {
            logger::follow_level(self.worker.host.now());
            self.worker.catch_up();
        });
    }

    /// Does what others have waited for, so that a panic is theirs; `false` if this stream is broken.
    fn catches_up(&self, filter: Filter) -> bool {
        let caught_up = catch_unwind(AssertUnwindSafe(|| {
            let _hook = self.worker.host.enter(self.id, Some(filter));
            self.worker.catch_up();
        }));
        if caught_up.is_err() {
            self.recover(filter, HookKind::Scheduled);
        }
        !self.broken.get()
    }

    /// A part of a callout's answer is there.
    pub fn on_part(&self, id: u64, part: &Part<'_>) {
        if let Ok(mut callouts) = self.worker.host.callouts().try_borrow_mut() {
            callouts.part(self.id, id, part);
        }
    }

    /// A callout's answer is complete, or broke off.
    pub fn on_answer(&self, id: u64, complete: bool, filter: Filter) {
        let callouts = self.worker.host.callouts().try_borrow_mut();
        let reply = callouts.ok().and_then(|mut callouts| callouts.over(self.id, id, complete));
        if let Some(reply) = reply {
            self.run(filter, |_| {
                let _ = self.worker.host.set_effective_context(self.id);
                self.worker.deliver(reply);
            });
        }
    }

    /// A hook has panicked. Whoever it was about is answered with 500; the others go on.
    pub fn recover(&self, filter: Filter, hook: HookKind) {
        let host = &self.worker.host;
        let culprit = host.take_culprit();
        let is_other = culprit != 0 && culprit != self.id;
        // Marked first: answering calls other hooks from within. A stream that only carried the news is in order.
        self.broken.set(!(is_other && hook == HookKind::Scheduled));
        // A stream that is complete has nobody to answer, and Envoy does not survive the attempt.
        if self.broken.get() && hook != HookKind::Complete {
            host.drop_actions(self.id);
            fail(filter);
        }
        if is_other && let Some(filter) = host.filter_of(culprit) {
            host.drop_actions(culprit);
            fail(filter);
        }
        let _hook = host.enter(0, None);
        self.worker.carry_out(self);
    }

    /// Nothing may be asked of its filter any more.
    pub fn forget(&self) {
        let worker = &self.worker;
        worker.host.forget(self.id);
        if let Ok(mut waiting) = worker.waiting.try_borrow_mut()
            && !waiting.is_empty()
        {
            waiting.remove(&self.id);
        }
    }

    /// The stream is gone.
    pub fn close(&self) {
        let worker = &self.worker;
        let _hook = worker.host.enter(0, None);
        worker.root.close(&self.stream);
        worker.host.settle();
    }
}

/// Answers a request about which something has gone wrong.
fn fail(filter: Filter) {
    filter.send_response(500, &[], b"internal error", "meshfilter_internal_error");
}
