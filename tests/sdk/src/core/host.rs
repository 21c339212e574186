//! What the proxy gives, by the SDK's calls.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{self, Duration, SystemTime};

use meshfilter::host::{
    BufferType, Counters, HeaderMap, Host, HttpCall, Instant, LocalReply, MapType, MetricId, MetricType,
    Result, Status,
};
use proxy_wasm::hostcalls;
use proxy_wasm::types;

/// The same reading of clocks and definition of metrics as the module's own binding has, so that what differs is the SDK.
pub struct Sdk {
    metrics: RefCell<HashMap<String, MetricId>>,
    counters: Counters,
    start: time::Instant,
    now: Cell<Option<Instant>>,
    wall: Cell<Option<(Instant, Duration)>>,
    random: RandomState,
    drawn: Cell<u64>,
}

impl Default for Sdk {
    fn default() -> Self {
        Sdk {
            metrics: RefCell::default(),
            counters: Counters::default(),
            start: time::Instant::now(),
            now: Cell::new(None),
            wall: Cell::new(None),
            random: RandomState::new(),
            drawn: Cell::new(0),
        }
    }
}

impl Sdk {
    pub fn begin(&self) {
        self.now.set(None);
    }
}

fn reason(status: types::Status) -> Status {
    match status {
        types::Status::NotFound => Status::NotFound,
        types::Status::BadArgument => Status::BadArgument,
        types::Status::SerializationFailure => Status::SerializationFailure,
        types::Status::ParseFailure => Status::ParseFailure,
        types::Status::Empty => Status::Empty,
        types::Status::CasMismatch => Status::CasMismatch,
        _ => Status::InternalFailure,
    }
}

fn map_type(map: MapType) -> types::MapType {
    match map {
        MapType::HttpRequestHeaders => types::MapType::HttpRequestHeaders,
        MapType::HttpResponseHeaders => types::MapType::HttpResponseHeaders,
        MapType::HttpCallResponseHeaders => types::MapType::HttpCallResponseHeaders,
        MapType::HttpCallResponseTrailers => types::MapType::HttpCallResponseTrailers,
    }
}

fn pairs<'a, V: AsRef<str>>(headers: &'a [(String, V)]) -> Vec<(&'a str, &'a str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect()
}

impl Host for Sdk {
    fn header_map(&self, map: MapType) -> Result<HeaderMap<'static>> {
        let pairs = hostcalls::get_map_bytes(map_type(map)).map_err(reason)?;
        Ok(pairs.into_iter().collect())
    }

    fn set_header(&self, map: MapType, name: &str, value: &[u8]) -> Result<()> {
        hostcalls::set_map_value_bytes(map_type(map), name, Some(value)).map_err(reason)
    }

    fn add_header(&self, map: MapType, name: &str, value: &[u8]) -> Result<()> {
        hostcalls::add_map_value_bytes(map_type(map), name, value).map_err(reason)
    }

    fn remove_header(&self, map: MapType, name: &str) -> Result<()> {
        hostcalls::remove_map_value(map_type(map), name).map_err(reason)
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        hostcalls::get_property(path.to_vec()).ok().flatten()
    }

    fn set_filter_state(&self, name: &str, value: &[u8]) -> Result<()> {
        hostcalls::set_property(vec![name], Some(value)).map_err(reason)
    }

    fn now(&self) -> Instant {
        let now = self.now.get().unwrap_or_else(|| self.start.elapsed().as_nanos() as Instant);
        self.now.set(Some(now));
        now
    }

    fn wall_clock(&self) -> Duration {
        let now = self.now();
        if let Some((then, wall)) = self.wall.get()
            && now - then < 1_000_000_000
        {
            return wall + Duration::from_nanos(now - then);
        }
        let wall = hostcalls::get_current_time().unwrap_or(SystemTime::UNIX_EPOCH);
        let wall = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.wall.set(Some((now, wall)));
        wall
    }

    // The SDK has none of its own.
    fn random(&self) -> u64 {
        let drawn = self.drawn.get();
        self.drawn.set(drawn.wrapping_add(1));
        self.random.hash_one(drawn)
    }

    fn shared_data(&self, key: &str) -> Result<(Vec<u8>, u32)> {
        let (value, cas) = hostcalls::get_shared_data(key).map_err(reason)?;
        Ok((value.ok_or(Status::NotFound)?, cas.unwrap_or_default()))
    }

    fn shared_data_swap(&self, key: &str, value: &[u8], cas: u32) -> Result<()> {
        hostcalls::set_shared_data(key, Some(value), Some(cas)).map_err(reason)
    }

    fn shared_data_create(&self, key: &str, value: &[u8]) -> Result<()> {
        self.shared_data_swap(key, value, u32::MAX)
    }

    fn metric(&self, kind: MetricType, name: &str) -> Result<MetricId> {
        let mut metrics = self.metrics.borrow_mut();
        if let Some(id) = metrics.get(name) {
            return Ok(*id);
        }
        let kind = match kind {
            MetricType::Counter => types::MetricType::Counter,
            MetricType::Gauge => types::MetricType::Gauge,
            MetricType::Histogram => types::MetricType::Histogram,
        };
        let id = hostcalls::define_metric(kind, name).map_err(reason)?;
        metrics.insert(name.to_owned(), id);
        Ok(id)
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn increment_now(&self, counter: MetricId, by: u64) -> Result<()> {
        self.adjust(counter, i64::try_from(by).map_err(|_| Status::BadArgument)?)
    }

    fn adjust(&self, gauge: MetricId, by: i64) -> Result<()> {
        hostcalls::increment_metric(gauge, by).map_err(reason)
    }

    fn record(&self, metric: MetricId, value: u64) -> Result<()> {
        hostcalls::record_metric(metric, value).map_err(reason)
    }

    fn send_local_reply(&self, reply: &LocalReply) -> Result<()> {
        let headers: Vec<_> = reply
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
            .collect();
        let body = (!reply.body.is_empty()).then_some(reply.body.as_slice());
        hostcalls::send_http_response(u32::from(reply.status), pairs(&headers), body).map_err(reason)
    }

    fn resume_request(&self) -> Result<()> {
        hostcalls::resume_http_request().map_err(reason)
    }

    fn reset_stream(&self) -> Result<()> {
        hostcalls::reset_http_request().map_err(reason)
    }

    fn set_effective_context(&self, context: u32) -> Result<()> {
        hostcalls::set_effective_context(context).map_err(reason)
    }

    fn set_tick_period(&self, period: Duration) -> Result<()> {
        hostcalls::set_tick_period(period).map_err(reason)
    }

    fn http_call(&self, call: &HttpCall) -> Result<u32> {
        let body = (!call.body.is_empty()).then_some(call.body.as_slice());
        hostcalls::dispatch_http_call(&call.cluster, pairs(&call.headers), body, Vec::new(), call.timeout)
            .map_err(reason)
    }

    fn buffer(&self, kind: BufferType, start: usize, max_size: usize) -> Result<Vec<u8>> {
        let kind = match kind {
            BufferType::HttpCallResponseBody => types::BufferType::HttpCallResponseBody,
            BufferType::PluginConfiguration => types::BufferType::PluginConfiguration,
        };
        Ok(hostcalls::get_buffer(kind, start, max_size).map_err(reason)?.unwrap_or_default())
    }

    fn call_foreign_function(&self, name: &str, arguments: &[u8]) -> Result<Vec<u8>> {
        let answer = hostcalls::call_foreign_function(name, Some(arguments)).map_err(reason)?;
        Ok(answer.unwrap_or_default())
    }

    fn environment(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}
