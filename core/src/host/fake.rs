//! A whole proxy in memory: what the policies' tests and the native case runner run against.
//!
//! It is a value that tests fill and read. Time stands still until [`Fake::advance`] moves it, random numbers come
//! from a seed, and every hostcall is counted, so that a test can hold the request path to a budget.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::{
    BufferType, Counters, HeaderMap, Host, HttpCall, Instant, LocalReply, MapType, MetricId, MetricType,
    Result, Status,
};

use crate::policy::metric::split_metric_name;

/// The answer of [`Host::call_foreign_function`] for one name.
type ForeignFunction = Box<dyn Fn(&[u8]) -> Result<Vec<u8>>>;

/// What one stream has seen of the proxy.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// Request headers as they stand.
    pub request: HeaderMap<'static>,
    /// Response headers as they stand.
    pub response: HeaderMap<'static>,
    /// Attributes by their path joined with dots.
    pub properties: BTreeMap<String, Vec<u8>>,
    /// Filter state that the filter wrote.
    pub filter_state: BTreeMap<String, Vec<u8>>,
    /// The first local reply.
    pub reply: Option<LocalReply>,
    /// Whether the request was resumed after a pause.
    pub resumed: bool,
    /// Whether the filter closed the stream.
    pub reset: bool,
}

/// A metric by its name and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metric {
    /// The sum of a counter, the last value of a gauge.
    pub value: u64,
    /// Every sample of a histogram.
    pub samples: Vec<u64>,
}

/// How far the state of [`mixed`] moves.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64: numbers in a row become any numbers.
fn mixed(state: u64) -> u64 {
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The next number that is drawn for a purpose.
fn drawn_for(seed: u64, purpose: &'static str, drawn: &mut Vec<(&'static str, u64)>) -> u64 {
    let times = match drawn.iter_mut().find(|(known, _)| *known == purpose) {
        Some((_, times)) => {
            *times = times.wrapping_add(1);
            *times
        }
        None => {
            drawn.push((purpose, 0));
            0
        }
    };
    let of_purpose = purpose.bytes().fold(seed, |state, byte| mixed(state ^ u64::from(byte)));
    mixed(of_purpose.wrapping_add(times.wrapping_mul(STEP)).wrapping_add(STEP))
}

#[cfg(feature = "explain")]
use crate::trace::purpose;

/// Nobody tells what a number is for.
#[cfg(not(feature = "explain"))]
fn purpose() -> &'static str {
    ""
}

/// The seed of what is drawn for each purpose, and how often that was.
type Draws = (u64, Vec<(&'static str, u64)>);

/// The fake. Share it with `Rc`; all its state is behind cells.
#[derive(Default)]
pub struct Fake {
    now: Cell<Instant>,
    wall_clock: Cell<Duration>,
    seed: Cell<u64>,
    fixed_random: Cell<Option<u64>>,
    draws: RefCell<Option<Draws>>,
    context: Cell<u32>,
    tick: Cell<Duration>,
    next_tick: Cell<Instant>,
    streams: RefCell<BTreeMap<u32, Stream>>,
    shared: RefCell<HashMap<String, (Vec<u8>, u32)>>,
    shared_writes: Cell<u32>,
    metrics: RefCell<Vec<(String, Metric)>>,
    /// The labels that names were announced with.
    announced: RefCell<HashMap<String, Vec<String>>>,
    defines_no_more: Cell<bool>,
    counters: Counters,
    calls: RefCell<Vec<(u32, HttpCall)>>,
    refuses_http_calls: Cell<bool>,
    buffers: RefCell<HashMap<u32, Vec<u8>>>,
    call_headers: RefCell<HeaderMap<'static>>,
    call_trailers: RefCell<HeaderMap<'static>>,
    foreign: RefCell<HashMap<String, ForeignFunction>>,
    environment: RefCell<HashMap<String, String>>,
    hostcalls: RefCell<BTreeMap<&'static str, u64>>,
}

impl Fake {
    /// A proxy whose clocks stand at a plausible point.
    pub fn new() -> Self {
        let fake = Fake::default();
        fake.now.set(1_000_000_000_000);
        fake.wall_clock.set(Duration::from_secs(1_700_000_000));
        fake.seed.set(STEP);
        fake
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        self.now.set(self.now.get().saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)));
        self.wall_clock.set(self.wall_clock.get().saturating_add(by));
    }

    /// Sets the wall clock alone, as an operator or NTP would.
    pub fn set_wall_clock(&self, since_epoch: Duration) {
        self.wall_clock.set(since_epoch);
    }

    /// Seeds the random numbers.
    pub fn set_seed(&self, seed: u64) {
        self.seed.set(seed);
    }

    /// Makes every random number this one, where one is given.
    pub fn fix_random(&self, number: Option<u64>) {
        self.fixed_random.set(number);
    }

    /// Makes random numbers depend on this seed, on what they are for, and on how many were drawn for it: two proxies draw
    /// the same for the same, whatever else each of them draws.
    pub fn draw_from(&self, seed: u64) {
        *self.draws.borrow_mut() = Some((seed, Vec::new()));
    }

    /// Begins a stream and makes the calls that follow be about it.
    pub fn open_stream(&self, context: u32, stream: Stream) {
        self.streams.borrow_mut().insert(context, stream);
        self.context.set(context);
    }

    /// Ends a stream: calls about it fail from now on.
    pub fn close_stream(&self, context: u32) -> Option<Stream> {
        self.streams.borrow_mut().remove(&context)
    }

    /// Reads or edits a stream, as the proxy itself would.
    pub fn with_stream<T>(&self, context: u32, f: impl FnOnce(&mut Stream) -> T) -> Option<T> {
        self.streams.borrow_mut().get_mut(&context).map(f)
    }

    /// The tick that the filter asked for; zero for none.
    pub fn tick_period(&self) -> Duration {
        self.tick.get()
    }

    /// Moves both clocks to the next tick, if one was asked for, and arms the one after it; says how far they moved.
    /// Only the caller can tell the filter of it.
    pub fn advance_to_tick(&self) -> Option<Duration> {
        if self.tick.get().is_zero() {
            return None;
        }
        let wait = Duration::from_nanos(self.next_tick.get().saturating_sub(self.now.get()));
        self.advance(wait);
        self.arm_tick();
        Some(wait)
    }

    /// How long it is to the next tick, if one was asked for.
    pub fn until_tick(&self) -> Option<Duration> {
        let left = self.next_tick.get().saturating_sub(self.now.get());
        (!self.tick.get().is_zero()).then(|| Duration::from_nanos(left))
    }

    fn arm_tick(&self) {
        let period = u64::try_from(self.tick.get().as_nanos()).unwrap_or(u64::MAX);
        self.next_tick.set(self.now.get().saturating_add(period));
    }

    /// The value of a counter or gauge, zero where it was never defined. What was counted is told before.
    pub fn metric_value(&self, name: &str) -> u64 {
        self.flush_counters();
        self.metrics.borrow().iter().find(|(key, _)| key == name).map_or(0, |(_, metric)| metric.value)
    }

    /// From now on only what was announced can be defined, as in a proxy that [`Host::defines_late`] is `false` of.
    pub fn defines_no_more(&self) {
        self.defines_no_more.set(true);
    }

    fn may_define(&self, name: &str) -> bool {
        let (family, labels) = split_metric_name(name);
        let announced = |known: &Vec<String>| labels.iter().map(|(label, _)| *label).eq(known);
        !self.defines_no_more.get() || self.announced.borrow().get(family).is_some_and(announced)
    }

    /// Every metric by name, as far as the filter told.
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        self.metrics.borrow().iter().cloned().collect()
    }

    /// The HTTP calls that wait for an answer, with their tokens.
    pub fn take_calls(&self) -> Vec<(u32, HttpCall)> {
        std::mem::take(&mut self.calls.borrow_mut())
    }

    /// Refuses HTTP calls, as the proxy does while it does not know their cluster.
    pub fn refuse_http_calls(&self, refuse: bool) {
        self.refuses_http_calls.set(refuse);
    }

    /// Puts the answer of a callout in place, for the callback that follows.
    pub fn set_call_response(&self, headers: HeaderMap<'static>, body: Vec<u8>) {
        *self.call_headers.borrow_mut() = headers;
        *self.call_trailers.borrow_mut() = HeaderMap::default();
        self.set_buffer(BufferType::HttpCallResponseBody, body);
    }

    /// Puts the trailers of that answer in place.
    pub fn set_call_trailers(&self, trailers: HeaderMap<'static>) {
        *self.call_trailers.borrow_mut() = trailers;
    }

    /// Puts a buffer in place.
    pub fn set_buffer(&self, kind: BufferType, bytes: Vec<u8>) {
        self.buffers.borrow_mut().insert(kind as u32, bytes);
    }

    /// Registers a foreign function.
    pub fn set_foreign_function(&self, name: &str, function: impl Fn(&[u8]) -> Result<Vec<u8>> + 'static) {
        self.foreign.borrow_mut().insert(name.to_owned(), Box::new(function));
    }

    /// Sets a variable of the plugin's environment.
    pub fn set_environment(&self, name: &str, value: &str) {
        self.environment.borrow_mut().insert(name.to_owned(), value.to_owned());
    }

    /// How many values stand in shared data, and how many bytes they and their keys take.
    pub fn shared_data_size(&self) -> (usize, usize) {
        let shared = self.shared.borrow();
        (shared.len(), shared.iter().map(|(key, (value, _))| key.len().saturating_add(value.len())).sum())
    }

    /// Puts these bytes in place of every value in shared data, as another module could.
    pub fn overwrite_shared_data(&self, bytes: &[u8]) {
        for (value, cas) in self.shared.borrow_mut().values_mut() {
            bytes.clone_into(value);
            self.shared_writes.set(self.shared_writes.get().wrapping_add(1).max(1));
            *cas = self.shared_writes.get();
        }
    }

    /// How often each hostcall was made since the last call of this.
    pub fn take_hostcalls(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.hostcalls.borrow_mut())
    }

    fn count(&self, name: &'static str) {
        let mut calls = self.hostcalls.borrow_mut();
        let count = calls.entry(name).or_default();
        *count = count.saturating_add(1);
    }

    fn stream<T>(&self, f: impl FnOnce(&mut Stream) -> T) -> Result<T> {
        self.with_stream(self.context.get(), f).ok_or(Status::BadArgument)
    }

    fn map<T>(&self, map: MapType, f: impl FnOnce(&mut HeaderMap<'static>) -> T) -> Result<T> {
        match map {
            MapType::HttpRequestHeaders => self.stream(|stream| f(&mut stream.request)),
            MapType::HttpResponseHeaders => self.stream(|stream| f(&mut stream.response)),
            MapType::HttpCallResponseHeaders => Ok(f(&mut self.call_headers.borrow_mut())),
            MapType::HttpCallResponseTrailers => Ok(f(&mut self.call_trailers.borrow_mut())),
        }
    }
}

impl Host for Fake {
    fn header_map(&self, map: MapType) -> Result<HeaderMap<'static>> {
        self.count("header_map");
        self.map(map, |headers| headers.clone())
    }

    fn set_header(&self, map: MapType, name: &str, value: &[u8]) -> Result<()> {
        self.count("set_header");
        self.map(map, |headers| {
            headers.remove(name.as_bytes());
            headers.add(name.as_bytes(), value);
        })
    }

    fn add_header(&self, map: MapType, name: &str, value: &[u8]) -> Result<()> {
        self.count("add_header");
        self.map(map, |headers| headers.add(name.as_bytes(), value))
    }

    fn remove_header(&self, map: MapType, name: &str) -> Result<()> {
        self.count("remove_header");
        self.map(map, |headers| {
            headers.remove(name.as_bytes());
        })
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        self.count("property");
        self.stream(|stream| stream.properties.get(&path.join(".")).cloned()).ok().flatten()
    }

    fn set_filter_state(&self, name: &str, value: &[u8]) -> Result<()> {
        self.count("set_filter_state");
        self.stream(|stream| {
            stream.filter_state.insert(name.to_owned(), value.to_vec());
        })
    }

    fn now(&self) -> Instant {
        self.count("now");
        self.now.get()
    }

    fn wall_clock(&self) -> Duration {
        self.count("wall_clock");
        self.wall_clock.get()
    }

    /// Every seed gives a full-period, well mixed sequence.
    fn random(&self) -> u64 {
        self.count("random");
        if let Some(number) = self.fixed_random.get() {
            return number;
        }
        if let Some((seed, drawn)) = &mut *self.draws.borrow_mut() {
            return drawn_for(*seed, purpose(), drawn);
        }
        let state = self.seed.get().wrapping_add(STEP);
        self.seed.set(state);
        mixed(state)
    }

    fn shared_data(&self, key: &str) -> Result<(Vec<u8>, u32)> {
        self.count("shared_data");
        self.shared.borrow().get(key).cloned().ok_or(Status::NotFound)
    }

    fn shared_data_swap(&self, key: &str, value: &[u8], cas: u32) -> Result<()> {
        self.count("shared_data_swap");
        let mut shared = self.shared.borrow_mut();
        if shared.get(key).is_some_and(|(_, current)| *current != cas) {
            return Err(Status::CasMismatch);
        }
        // One sequence for all keys, as in Envoy.
        let next = self.shared_writes.get().wrapping_add(1).max(1);
        self.shared_writes.set(next);
        shared.insert(key.to_owned(), (value.to_vec(), next));
        Ok(())
    }

    fn shared_data_create(&self, key: &str, value: &[u8]) -> Result<()> {
        self.shared_data_swap(key, value, u32::MAX)
    }

    fn metric(&self, _: MetricType, name: &str) -> Result<MetricId> {
        let mut metrics = self.metrics.borrow_mut();
        let known = metrics.iter().position(|(key, _)| key == name);
        if known.is_none() && !self.may_define(name) {
            return Err(Status::NotFound);
        }
        let id = known.unwrap_or_else(|| {
            metrics.push((name.to_owned(), Metric::default()));
            metrics.len().saturating_sub(1)
        });
        MetricId::try_from(id).map_err(|_| Status::InternalFailure)
    }

    fn announce(&self, _: MetricType, name: &str, labels: &[&str]) {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.announced.borrow_mut().insert(name.to_owned(), labels);
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn increment_now(&self, counter: MetricId, by: u64) -> Result<()> {
        self.count("increment");
        let mut metrics = self.metrics.borrow_mut();
        let (_, metric) = metrics.get_mut(counter as usize).ok_or(Status::BadArgument)?;
        metric.value = metric.value.saturating_add(by);
        Ok(())
    }

    fn adjust(&self, gauge: MetricId, by: i64) -> Result<()> {
        self.count("adjust");
        let mut metrics = self.metrics.borrow_mut();
        let (_, metric) = metrics.get_mut(gauge as usize).ok_or(Status::BadArgument)?;
        metric.value = metric.value.checked_add_signed(by).ok_or(Status::BadArgument)?;
        Ok(())
    }

    fn record(&self, metric: MetricId, value: u64) -> Result<()> {
        self.count("record");
        let mut metrics = self.metrics.borrow_mut();
        let (_, metric) = metrics.get_mut(metric as usize).ok_or(Status::BadArgument)?;
        metric.value = value;
        metric.samples.push(value);
        Ok(())
    }

    fn send_local_reply(&self, reply: &LocalReply) -> Result<()> {
        self.count("send_local_reply");
        self.stream(|stream| {
            stream.reply.get_or_insert_with(|| reply.clone());
        })
    }

    fn resume_request(&self) -> Result<()> {
        self.count("resume_request");
        self.stream(|stream| stream.resumed = true)
    }

    fn reset_stream(&self) -> Result<()> {
        self.count("reset_stream");
        self.stream(|stream| stream.reset = true)
    }

    fn set_effective_context(&self, context: u32) -> Result<()> {
        self.count("set_effective_context");
        if !self.streams.borrow().contains_key(&context) {
            return Err(Status::BadArgument);
        }
        self.context.set(context);
        Ok(())
    }

    fn set_tick_period(&self, period: Duration) -> Result<()> {
        self.count("set_tick_period");
        self.tick.set(period);
        self.arm_tick();
        Ok(())
    }

    fn http_call(&self, call: &HttpCall) -> Result<u32> {
        self.count("http_call");
        if self.refuses_http_calls.get() {
            return Err(Status::BadArgument);
        }
        let mut calls = self.calls.borrow_mut();
        let token = calls.iter().map(|(token, _)| *token).max().unwrap_or(0).saturating_add(1);
        calls.push((token, call.clone()));
        Ok(token)
    }

    fn buffer(&self, kind: BufferType, start: usize, max_size: usize) -> Result<Vec<u8>> {
        let buffers = self.buffers.borrow();
        let bytes = buffers.get(&(kind as u32)).ok_or(Status::NotFound)?;
        Ok(bytes.iter().skip(start).take(max_size).copied().collect())
    }

    fn call_foreign_function(&self, name: &str, arguments: &[u8]) -> Result<Vec<u8>> {
        self.count("call_foreign_function");
        self.foreign.borrow().get(name).ok_or(Status::NotFound)?(arguments)
    }

    fn environment(&self, name: &str) -> Option<String> {
        self.environment.borrow().get(name).cloned()
    }
}

#[cfg(all(test, feature = "explain"))]
mod tests {
    use super::*;
    use crate::trace::drawing;

    #[test]
    fn what_is_drawn_depends_on_what_it_is_for_and_on_nothing_else() {
        let fake = Fake::new();
        let draw = |purpose: &'static str| {
            drawing(purpose);
            fake.random()
        };
        fake.draw_from(1);
        let (abort, split, again) = (draw("abort"), draw("split"), draw("abort"));
        assert!(abort != split && abort != again && split != again);
        fake.draw_from(1);
        assert_eq!((draw("split"), draw("abort"), draw("abort")), (split, abort, again));
        fake.draw_from(2);
        assert_ne!(draw("split"), split);
    }
}
