//! [`Host`] by the handles of the ABI, for one configuration on one thread.
//!
//! What ends or resumes a request waits until the callback that asked for it is over ([`NativeHost::take_actions`]): Envoy
//! carries it out at once, and calls the filter's other hooks from within.

mod callouts;
mod random;
mod reply;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use meshfilter::host::{
    BufferType, Counters, HeaderMap, Host, HttpCall, Instant, LocalReply, MapType, MetricId, MetricType,
    NumberHash, Result, SharedCell, Status,
};

use crate::abi::{self, Attribute, Filter, HeaderMapKind, Pairs};
use crate::process::{
    Alarm, Answer, CELLS, Configuration, Errand, LateMetrics, Mailbox, Metric, SHARED_DATA, Teller, now,
    wake_at,
};
use crate::{crypto, panics};
use callouts::Callouts;
use random::Random;

/// The proxy, as one thread sees it for one configuration.
pub struct NativeHost {
    configuration: Arc<Configuration>,
    current: Cell<Current>,
    culprit: Cell<u32>,
    /// The monotonic clock in this hook; `None` until somebody asks.
    now: Cell<Option<Instant>>,
    random: RefCell<Random>,
    /// The streams that wait, by their numbers.
    waiting: RefCell<HashMap<u32, Waiting, NumberHash>>,
    actions: RefCell<Vec<(u32, Action)>>,
    tick: Cell<Option<Instant>>,
    /// The tick that the timer knows of, and the stream that it wakes; 0 for the configuration.
    armed: Cell<Option<(Instant, u32)>>,
    callouts: RefCell<Callouts>,
    mailbox: Arc<Mailbox>,
    /// The answer that a callback is about.
    answer: RefCell<Option<Answer>>,
    /// The filters whose headers are lent: nobody may edit them then.
    lent: RefCell<Vec<Filter>>,
    /// The response headers of a reply of the filter's own, while they are edited.
    reply: RefCell<Option<HeaderMap<'static>>>,
    metrics: RefCell<Vec<Option<Arc<Metric>>>>,
    /// What the document's attributes are called by the ABI; there are few.
    attributes: RefCell<Vec<(Vec<String>, Option<Attribute>)>>,
    /// Room for a name that is put together.
    name: RefCell<String>,
    /// Always empty: what is counted is added up for the whole process.
    counters: Counters,
}

/// What a hook is about.
#[derive(Clone, Copy, Default)]
struct Current {
    /// The stream that the calls are about; 0 for none.
    stream: u32,
    filter: Option<Filter>,
    /// The stream that the hook is about, and its filter.
    hook: (u32, Option<Filter>),
    /// When that stream's request came, once it is over: Envoy itself says how long it took only afterwards.
    over_since: Option<Instant>,
    /// The configuration, in the main thread's hooks.
    configuration: Option<abi::Configuration>,
    /// Whether metrics can be defined.
    defining: bool,
}

/// A stream that waits.
struct Waiting {
    filter: Filter,
    alarm: Arc<Alarm>,
}

/// What a callback asked for that ends or resumes a request.
pub enum Action {
    Continue,
    Reply(Box<LocalReply>),
    Reset,
    /// A callout was answered before its number was known.
    Answered(u32, Option<Box<Answer>>),
}

/// What a hook is about, until it ends; hooks may come within each other.
pub struct Hook<'a> {
    host: &'a NativeHost,
    outer: Current,
}

impl Drop for Hook<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.host.note_panic();
        }
        self.host.current.set(self.outer);
    }
}

/// What was asked for, one after the other. What is left of it when it goes, in a panic, is there the next time.
pub struct Actions<'a> {
    host: &'a NativeHost,
    left: std::vec::IntoIter<(u32, Action)>,
}

impl Actions<'_> {
    pub fn is_empty(&self) -> bool {
        self.left.as_slice().is_empty()
    }
}

impl Iterator for Actions<'_> {
    type Item = (u32, Action);

    fn next(&mut self) -> Option<Self::Item> {
        self.left.next()
    }
}

impl Drop for Actions<'_> {
    fn drop(&mut self) {
        if self.left.len() > 0
            && let Ok(mut actions) = self.host.actions.try_borrow_mut()
        {
            actions.extend(&mut self.left);
        }
    }
}

impl NativeHost {
    pub fn new(configuration: Arc<Configuration>) -> Self {
        NativeHost {
            configuration,
            current: Cell::default(),
            culprit: Cell::default(),
            now: Cell::new(None),
            random: RefCell::default(),
            waiting: RefCell::default(),
            actions: RefCell::default(),
            tick: Cell::new(None),
            armed: Cell::new(None),
            callouts: RefCell::default(),
            mailbox: Arc::default(),
            answer: RefCell::default(),
            lent: RefCell::default(),
            reply: RefCell::default(),
            metrics: RefCell::default(),
            attributes: RefCell::default(),
            name: RefCell::default(),
            counters: Counters::default(),
        }
    }

    /// A hook of a stream begins.
    pub fn enter(&self, stream: u32, filter: Option<Filter>) -> Hook<'_> {
        self.begin(Current { stream, filter, hook: (stream, filter), ..Current::default() })
    }

    /// A hook of the configuration begins, on the main thread.
    pub fn enter_configuration(&self, configuration: abi::Configuration, defining: bool) -> Hook<'_> {
        self.begin(Current { configuration: Some(configuration), defining, ..Current::default() })
    }

    fn begin(&self, current: Current) -> Hook<'_> {
        self.now.set(None);
        Hook { host: self, outer: self.current.replace(current) }
    }

    /// The stream of this hook is over; its request came then.
    pub fn is_over(&self, since: Option<Instant>) {
        self.current.set(Current { over_since: since, ..self.current.get() });
    }

    /// Makes the calls that follow be about no stream, though the hook's filter takes what is counted.
    pub fn about_root(&self) {
        let current = self.current.get();
        self.current.set(Current { stream: 0, filter: current.hook.1, ..current });
    }

    /// What was asked for since the last time.
    pub fn take_actions(&self) -> Actions<'_> {
        let actions = self.actions.try_borrow_mut().map(|mut actions| std::mem::take(&mut *actions));
        Actions { host: self, left: actions.unwrap_or_default().into_iter() }
    }

    /// Whatever was asked for about a stream is not done.
    pub fn drop_actions(&self, stream: u32) {
        if let Ok(mut actions) = self.actions.try_borrow_mut() {
            actions.retain(|(of, _)| *of != stream);
        }
    }

    /// A panic ends a hook: nothing of it may colour what comes next.
    fn note_panic(&self) {
        self.culprit.set(self.current.get().stream);
        if let Ok(mut reply) = self.reply.try_borrow_mut() {
            *reply = None;
        }
        if let Ok(mut answer) = self.answer.try_borrow_mut() {
            *answer = None;
        }
    }

    /// The stream that the calls were about when a hook panicked; 0 for none.
    pub fn take_culprit(&self) -> u32 {
        self.culprit.take()
    }

    /// Whether this stream is to be answered or closed.
    pub fn has_action(&self, stream: u32) -> bool {
        self.actions.try_borrow().is_ok_and(|actions| actions.iter().any(|(id, _)| *id == stream))
    }

    /// The filter of a stream, if it is alive: the hook's own, or one that waits.
    pub fn filter_of(&self, stream: u32) -> Option<Filter> {
        let (own, filter) = self.current.get().hook;
        let waits = self.waiting.try_borrow().ok()?.get(&stream).map(|waiting| waiting.filter);
        waits.or(filter.filter(|_| own == stream))
    }

    /// A stream begins to wait: it can be found, and be woken.
    pub fn wait(&self, stream: u32, filter: Filter) {
        let Some(scheduler) = filter.scheduler() else { return };
        let waiting = Waiting { filter, alarm: Alarm::new(scheduler) };
        if let Ok(mut streams) = self.waiting.try_borrow_mut() {
            streams.insert(stream, waiting);
        }
    }

    /// A stream is gone.
    pub fn forget(&self, stream: u32) {
        let gone = self.waiting.try_borrow_mut().ok().and_then(|mut streams| {
            // Mostly nobody waits, and looking at that costs less.
            if streams.is_empty() { None } else { streams.remove(&stream) }
        });
        if let Some(gone) = gone {
            gone.alarm.silence();
        }
        if let Ok(mut callouts) = self.callouts.try_borrow_mut() {
            callouts.forget(stream);
        }
        if self.armed.get().is_some_and(|(_, carrier)| carrier == stream) {
            self.armed.set(None);
        }
    }

    /// Whether the tick that the root asked for is due.
    pub fn tick_is_due(&self) -> bool {
        self.tick.get().is_some_and(|tick| tick <= self.now())
    }

    /// The tick has come.
    pub fn take_tick(&self) {
        self.tick.set(None);
        self.armed.set(None);
    }

    /// Sees to it that somebody wakes this thread for the next tick. A worker is woken through a stream that waits; where none
    /// does nobody is kept waiting, and the next request finds the tick due.
    pub fn settle(&self) {
        let Some(tick) = self.tick.get() else { return };
        if self.armed.get().is_some_and(|(armed, _)| armed <= tick) {
            return;
        }
        if self.current.get().configuration.is_some() {
            self.configuration.wake_at(tick);
            self.armed.set(Some((tick, 0)));
            return;
        }
        let Ok(streams) = self.waiting.try_borrow() else { return };
        if let Some((stream, waiting)) = streams.iter().next()
            && wake_at(tick, &waiting.alarm)
        {
            self.armed.set(Some((tick, *stream)));
        }
    }

    /// Tells Envoy what was counted, where only a filter can.
    pub fn tell_metrics(&self) {
        if LateMetrics::get().is_none()
            && let Some(filter) = self.current.get().hook.1
        {
            self.configuration.metrics.tell(Teller::Filter(filter));
        }
    }

    /// The answers to this thread's errands.
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// The parts of a callout's answer, as they come.
    pub fn callouts(&self) -> &RefCell<Callouts> {
        &self.callouts
    }

    /// Makes the callback that follows be about this answer.
    pub fn answer(&self, answer: Option<Answer>) {
        self.answer.replace(answer);
    }

    /// Makes response headers be these, while `edit` runs; what became of them.
    pub fn with_reply(&self, headers: HeaderMap<'static>, edit: impl FnOnce()) -> HeaderMap<'static> {
        self.reply.replace(Some(headers));
        edit();
        self.reply.take().unwrap_or_default()
    }

    /// Edits the response headers of a reply; `None` where these are not what `map` is about.
    fn edit_reply(&self, map: MapType, edit: impl FnOnce(&mut HeaderMap<'static>)) -> Option<Result<()>> {
        let mut reply = self.reply.try_borrow_mut().ok()?;
        let headers = reply.as_mut().filter(|_| map == MapType::HttpResponseHeaders)?;
        edit(headers);
        Some(Ok(()))
    }

    fn act(&self, action: Action) -> Result<()> {
        let stream = self.current.get().stream;
        if stream == 0 {
            return Err(Status::BadArgument);
        }
        self.actions.try_borrow_mut().map_err(|_| Status::InternalFailure)?.push((stream, action));
        Ok(())
    }

    fn attribute(&self, path: &[&str]) -> Option<Attribute> {
        let Ok(mut known) = self.attributes.try_borrow_mut() else { return Attribute::of(path) };
        if let Some((_, attribute)) = known.iter().find(|(known, _)| known == path) {
            return *attribute;
        }
        let attribute = Attribute::of(path);
        known.push((path.iter().map(|&part| part.to_owned()).collect(), attribute));
        attribute
    }

    fn filter(&self) -> Result<Filter> {
        self.current.get().filter.ok_or(Status::BadArgument)
    }

    /// The filter, if its headers may be edited.
    fn editable(&self) -> Result<Filter> {
        let filter = self.filter()?;
        match self.lent.try_borrow() {
            Ok(lent) if !lent.contains(&filter) => Ok(filter),
            _ => Err(Status::BadArgument),
        }
    }

    fn with_metric<T>(&self, id: MetricId, act: impl FnOnce(&Metric) -> T) -> Result<T> {
        let place = usize::try_from(id).map_err(|_| Status::NotFound)?;
        let mut metrics = self.metrics.try_borrow_mut().map_err(|_| Status::InternalFailure)?;
        if let Some(Some(metric)) = metrics.get(place) {
            return Ok(act(metric));
        }
        let metric = self.configuration.metrics.get(id).ok_or(Status::NotFound)?;
        if metrics.len() <= place {
            metrics.resize(place.saturating_add(1), None);
        }
        let result = act(&metric);
        if let Some(known) = metrics.get_mut(place) {
            *known = Some(metric);
        }
        Ok(result)
    }
}

fn taken(went_well: bool) -> Result<()> {
    if went_well { Ok(()) } else { Err(Status::BadArgument) }
}

/// Marks that a filter's headers are lent, until it goes: an edit would take away what somebody looks at. Loans may come within
/// each other, as hooks may.
struct Loan<'a>(&'a RefCell<Vec<Filter>>);

impl<'a> Loan<'a> {
    fn new(lent: &'a RefCell<Vec<Filter>>, filter: Filter) -> Result<Self> {
        lent.try_borrow_mut().map_err(|_| Status::InternalFailure)?.push(filter);
        Ok(Loan(lent))
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        // Nobody holds it for longer than a look.
        if let Ok(mut lent) = self.0.try_borrow_mut() {
            lent.pop();
        }
    }
}

fn kind_of(map: MapType) -> Result<HeaderMapKind> {
    match map {
        MapType::HttpRequestHeaders => Ok(HeaderMapKind::Request),
        MapType::HttpResponseHeaders => Ok(HeaderMapKind::Response),
        MapType::HttpCallResponseHeaders | MapType::HttpCallResponseTrailers => Err(Status::BadArgument),
    }
}

impl Host for NativeHost {
    fn header_map(&self, map: MapType) -> Result<HeaderMap<'static>> {
        let of_answer = |read: fn(&Answer) -> &HeaderMap<'static>| {
            let answer = self.answer.try_borrow().map_err(|_| Status::InternalFailure)?;
            answer.as_ref().map(|answer| read(answer).clone()).ok_or(Status::NotFound)
        };
        match map {
            MapType::HttpCallResponseHeaders => of_answer(|answer| &answer.headers),
            MapType::HttpCallResponseTrailers => of_answer(|answer| &answer.trailers),
            MapType::HttpRequestHeaders | MapType::HttpResponseHeaders => {
                let reply = self.reply.try_borrow().map_err(|_| Status::InternalFailure)?;
                if let Some(headers) = reply.as_ref().filter(|_| map == MapType::HttpResponseHeaders) {
                    return Ok(headers.clone());
                }
                let headers = self.filter()?.with_headers(kind_of(map)?, |pairs| pairs.collect());
                headers.ok_or(Status::BadArgument)
            }
        }
    }

    fn lend_header_map(&self, map: MapType, read: &mut dyn FnMut(HeaderMap<'_>)) -> Result<()> {
        if map != MapType::HttpRequestHeaders {
            read(self.header_map(map)?);
            return Ok(());
        }
        let filter = self.filter()?;
        let _loan = Loan::new(&self.lent, filter)?;
        let there = filter.with_headers(HeaderMapKind::Request, |pairs| read(HeaderMap::lent(pairs)));
        there.ok_or(Status::BadArgument)
    }

    fn lacks_lengths(&self, map: MapType, lengths: u64) -> bool {
        let (Ok(filter), Ok(kind)) = (self.filter(), kind_of(map)) else { return false };
        let lacks = |pairs: Pairs<'_>| {
            pairs.fold(0, |set, (name, _)| set | HeaderMap::length(name.len())) & lengths == 0
        };
        filter.with_headers(kind, lacks).unwrap_or(false)
    }

    fn set_header(&self, map: MapType, name: &str, value: &[u8]) -> Result<()> {
        let in_reply = self.edit_reply(map, |headers| {
            headers.remove(name.as_bytes());
            headers.add(name.as_bytes(), value);
        });
        in_reply.unwrap_or_else(|| taken(self.editable()?.set_header(kind_of(map)?, name, value)))
    }

    fn add_header(&self, map: MapType, name: &str, value: &[u8]) -> Result<()> {
        let in_reply = self.edit_reply(map, |headers| headers.add(name.as_bytes(), value));
        in_reply.unwrap_or_else(|| taken(self.editable()?.add_header(kind_of(map)?, name, value)))
    }

    fn remove_header(&self, map: MapType, name: &str) -> Result<()> {
        let in_reply = self.edit_reply(map, |headers| {
            headers.remove(name.as_bytes());
        });
        in_reply.unwrap_or_else(|| taken(self.editable()?.remove_header(kind_of(map)?, name)))
    }

    fn choose_route(&self, rewritten: bool) {
        let Ok(filter) = self.filter() else { return };
        filter.clear_route_cache();
        // The router asks for the route anyway; but when it does, a rewrite has been made.
        if rewritten {
            filter.choose_route();
        }
    }

    fn keeps_route(&self) -> bool {
        true
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        match path {
            ["plugin_name"] => Some(self.configuration.name.clone()),
            ["filter_state", name] => self.filter().ok()?.filter_state(name),
            _ => {
                let known = self.filter().ok()?.attribute(self.attribute(path)?);
                known.or_else(|| {
                    let took = self.now().saturating_sub(self.current.get().over_since?);
                    (path == ["request", "duration"]).then(|| took.to_le_bytes().to_vec())
                })
            }
        }
    }

    fn may_be_followed(&self) -> bool {
        Configuration::are_several()
    }

    fn set_filter_state(&self, name: &str, value: &[u8]) -> Result<()> {
        // Under the name that it has in wasm: access logs and tracing read either.
        let mut full = self.name.try_borrow_mut().map_err(|_| Status::InternalFailure)?;
        full.clear();
        full.push_str("wasm.");
        full.push_str(name);
        taken(self.filter()?.set_filter_state(&full, value))
    }

    fn now(&self) -> Instant {
        self.now.get().unwrap_or_else(|| {
            let now = now();
            self.now.set(Some(now));
            now
        })
    }

    fn wall_clock(&self) -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    fn random(&self) -> u64 {
        self.random.try_borrow_mut().map(|mut random| random.next()).unwrap_or_default()
    }

    fn shared_data(&self, key: &str) -> Result<(Vec<u8>, u32)> {
        SHARED_DATA.get(key)
    }

    fn shared_data_swap(&self, key: &str, value: &[u8], cas: u32) -> Result<()> {
        SHARED_DATA.swap(key, value, cas)
    }

    fn shared_data_create(&self, key: &str, value: &[u8]) -> Result<()> {
        SHARED_DATA.create(key, value)
    }

    fn shared_cell(&self, name: &str) -> Option<Arc<SharedCell>> {
        Some(CELLS.cell(name))
    }

    fn metric(&self, kind: MetricType, name: &str) -> Result<MetricId> {
        let current = self.current.get();
        let define = current.configuration.filter(|_| current.defining);
        self.configuration.metrics.metric(kind, name, define)
    }

    fn may_die(&self) -> bool {
        false
    }

    fn defines_late(&self) -> bool {
        false
    }

    fn announce(&self, kind: MetricType, name: &str, labels: &[&str]) {
        let current = self.current.get();
        let Some(configuration) = current.configuration.filter(|_| current.defining) else { return };
        if let Err(status) = self.configuration.metrics.define_family(kind, name, labels, configuration) {
            log::error!("meshfilter: the proxy does not define {name}: {status:?}");
        }
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn increment(&self, counter: MetricId, by: u64) {
        let _ = self.increment_now(counter, by);
    }

    fn increment_now(&self, counter: MetricId, by: u64) -> Result<()> {
        self.with_metric(counter, |metric| metric.add(by))?;
        self.configuration.note_metrics();
        Ok(())
    }

    fn adjust(&self, gauge: MetricId, by: i64) -> Result<()> {
        self.with_metric(gauge, |metric| metric.adjust(by))?;
        self.configuration.note_metrics();
        Ok(())
    }

    fn record(&self, metric: MetricId, value: u64) -> Result<()> {
        let filter = self.current.get().hook.1;
        let set = self.with_metric(metric, |metric| match (metric.is_histogram(), filter) {
            (true, Some(filter)) => {
                metric.record(value, filter);
                Ok(false)
            }
            (true, None) => Err(Status::BadArgument),
            (false, _) => {
                metric.set(value);
                Ok(true)
            }
        })??;
        if set {
            self.configuration.note_metrics();
        }
        Ok(())
    }

    fn send_local_reply(&self, reply: &LocalReply) -> Result<()> {
        self.act(Action::Reply(Box::new(reply.clone())))
    }

    fn resume_request(&self) -> Result<()> {
        self.act(Action::Continue)
    }

    fn reset_stream(&self) -> Result<()> {
        self.act(Action::Reset)
    }

    fn set_effective_context(&self, context: u32) -> Result<()> {
        if context == 0 {
            self.about_root();
            return Ok(());
        }
        let filter = self.filter_of(context).ok_or(Status::BadArgument)?;
        let current = self.current.get();
        self.current.set(Current { stream: context, filter: Some(filter), ..current });
        if current.hook.0 != context {
            panics::of_stream(filter, "another_hook");
        }
        Ok(())
    }

    fn set_tick_period(&self, period: Duration) -> Result<()> {
        let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        self.tick.set((period > 0).then(|| self.now().saturating_add(period)));
        Ok(())
    }

    fn http_call(&self, call: &HttpCall) -> Result<u32> {
        let callout = abi::Callout {
            cluster: &call.cluster,
            headers: &call.headers,
            body: &call.body,
            timeout_milliseconds: u64::try_from(call.timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let current = self.current.get();
        let token = self.callouts.try_borrow_mut().map_err(|_| Status::InternalFailure)?.token();
        let (stream, id) = match (current.stream, current.configuration) {
            // Of no stream: the main thread sends it itself, a worker has it sent.
            (0, Some(configuration)) => (0, configuration.callout(&callout)),
            (0, None) => {
                let errand = Errand { call: call.clone(), token, mailbox: self.mailbox.clone() };
                self.configuration.send(errand);
                return Ok(token);
            }
            (stream, _) => (stream, self.filter()?.callout(&callout)),
        };
        let id = id.ok_or(Status::InternalFailure)?;
        let mut callouts = self.callouts.try_borrow_mut().map_err(|_| Status::InternalFailure)?;
        if let Some(answer) = callouts.name(stream, id, token) {
            drop(callouts);
            self.act(Action::Answered(token, answer.map(Box::new)))?;
        }
        Ok(token)
    }

    fn buffer(&self, kind: BufferType, start: usize, max_size: usize) -> Result<Vec<u8>> {
        let part = |bytes: &[u8]| {
            let bytes = bytes.get(start..).unwrap_or_default();
            bytes.get(..max_size).unwrap_or(bytes).to_vec()
        };
        match kind {
            BufferType::PluginConfiguration => Ok(part(&self.configuration.document)),
            BufferType::HttpCallResponseBody => {
                let answer = self.answer.try_borrow().map_err(|_| Status::InternalFailure)?;
                answer.as_ref().map(|answer| part(&answer.body)).ok_or(Status::NotFound)
            }
        }
    }

    fn call_foreign_function(&self, name: &str, arguments: &[u8]) -> Result<Vec<u8>> {
        match name {
            "verify_signature" => crypto::verify_signature(arguments),
            _ => Err(Status::NotFound),
        }
    }

    fn environment(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

pub use callouts::Part;
pub use reply::Reply;
