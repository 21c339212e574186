//! The boundary to the proxy: everything that it gives, as one trait.
//!
//! [`fake`] is a whole proxy in memory for tests. No call panics: where the proxy refuses, the [`Status`] comes back.

mod counters;
pub mod fake;
mod header_map;
mod number_hash;
mod same;

use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use counters::Counters;
pub use header_map::HeaderMap;
pub use number_hash::{NumberHash, NumberHasher};
pub use same::{same, split_once};

/// Why the proxy refuses a call. The numbers are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There is no such thing.
    NotFound = 1,
    /// The call makes no sense, or the stream that it is about is gone.
    BadArgument = 2,
    /// The proxy cannot write the value.
    SerializationFailure = 3,
    /// A value cannot be read.
    ParseFailure = 4,
    /// There is nothing in it.
    Empty = 7,
    /// Somebody else was faster.
    CasMismatch = 8,
    /// Anything else.
    InternalFailure = 10,
}

/// A header map. The numbers are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapType {
    /// Of the request.
    HttpRequestHeaders = 0,
    /// Of the response.
    HttpResponseHeaders = 2,
    /// Of a callout's answer.
    HttpCallResponseHeaders = 6,
    /// Of a callout's answer, at its end.
    HttpCallResponseTrailers = 7,
}

/// A buffer. The numbers are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferType {
    /// The body of a callout's answer.
    HttpCallResponseBody = 4,
    /// The plugin's configuration.
    PluginConfiguration = 7,
}

/// What a metric does. The numbers are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricType {
    /// It only grows.
    Counter = 0,
    /// It is set.
    Gauge = 1,
    /// It gathers samples.
    Histogram = 2,
}

/// Which half of a stream a call is about. The numbers are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamType {
    /// From the client to the upstream.
    HttpRequest = 0,
}

/// How grave a line of the proxy's log is. The numbers are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Every step.
    Trace = 0,
    /// For who looks for a fault.
    Debug = 1,
    /// What happens seldom and is good to know.
    Info = 2,
    /// Something may be wrong.
    Warn = 3,
    /// Something is wrong.
    Error = 4,
    /// Nothing works any more.
    Critical = 5,
}

impl LogLevel {
    /// The proxy's level of a record of the `log` crate.
    pub fn of(level: log::Level) -> Self {
        match level {
            log::Level::Trace => LogLevel::Trace,
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        }
    }

    /// What the `log` crate has to let through where the proxy logs from the level with this number on.
    pub fn filter(number: u32) -> log::LevelFilter {
        match number {
            0 => log::LevelFilter::Trace,
            1 => log::LevelFilter::Debug,
            2 => log::LevelFilter::Info,
            3 => log::LevelFilter::Warn,
            4 => log::LevelFilter::Error,
            _ => log::LevelFilter::Off,
        }
    }
}

/// What a hostcall answers: its value, or the proxy's reason to refuse.
pub type Result<T> = std::result::Result<T, Status>;

/// A point on the proxy's monotonic clock, in nanoseconds. It is the same clock in every worker of a process,
/// and never steps.
pub type Instant = u64;

/// An answer that the proxy sends by itself, without asking the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalReply {
    /// HTTP status. For a gRPC request Envoy answers 200 and maps it to `grpc-status`.
    pub status: u16,
    /// Goes into `%RESPONSE_CODE_DETAILS%`; spaces become `_`.
    pub details: String,
    /// Short and ASCII: for a gRPC request it becomes `grpc-message`.
    pub body: Vec<u8>,
    /// Headers beside those that the proxy adds; a `content-type` here replaces its own.
    pub headers: Vec<(String, Vec<u8>)>,
    /// `grpc-status` of the answer; `None` leaves the mapping to the proxy.
    pub grpc_status: Option<u32>,
}

impl LocalReply {
    /// Whether an answer of that status may have a body (RFC 9110): a client takes it for the next answer where it may
    /// not.
    pub fn may_have_body(status: u16) -> bool {
        !matches!(status, 100..=199 | 204 | 205 | 304)
    }
}

/// A callout over HTTP to one of the proxy's clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCall {
    /// Name of an Envoy cluster.
    pub cluster: String,
    /// `:method`, `:path` and `:authority` must be among them.
    pub headers: Vec<(String, String)>,
    /// Empty for none.
    pub body: Vec<u8>,
    /// After it the proxy answers 504 itself.
    pub timeout: Duration,
}

/// Names a metric that was defined.
pub type MetricId = u32;

/// Four numbers that all workers share: whoever reads or changes them has them alone meanwhile.
pub type SharedCell = Mutex<[u64; 4]>;

/// Everything that the proxy gives. One implementation talks to Envoy, one fakes it.
pub trait Host {
    // Headers, of the request or the response that the call is about.

    /// A copy of the whole map, read in one call.
    fn header_map(&self, map: MapType) -> Result<HeaderMap<'static>>;
    /// Lends the whole map, read in one call, where the proxy has it if that can be. An edit of it is refused meanwhile.
    fn lend_header_map(&self, map: MapType, read: &mut dyn FnMut(HeaderMap<'_>)) -> Result<()> {
        read(self.header_map(map)?);
        Ok(())
    }
    /// Whether surely no name in a map has one of these lengths, a set as [`HeaderMap::length`] makes one; false where finding
    /// out would cost as much as the map.
    fn lacks_lengths(&self, _map: MapType, _lengths: u64) -> bool {
        false
    }
    /// Sets a header to one value, in place of all that it had.
    fn set_header(&self, map: MapType, name: &str, value: &[u8]) -> Result<()>;
    /// Adds a value beside those that the header has.
    fn add_header(&self, map: MapType, name: &str, value: &[u8]) -> Result<()>;
    /// Removes every value of a header.
    fn remove_header(&self, map: MapType, name: &str) -> Result<()>;
    /// Request headers were edited, and a path or a host that is to be rewritten is still what the client sent: makes a
    /// proxy choose its route by these, if it does not after every edit. `rewritten` says that a rewrite follows.
    fn choose_route(&self, rewritten: bool) {
        let _ = rewritten;
    }
    /// Whether the proxy keeps its route from [`choose_route`](Self::choose_route) on, whatever is edited then.
    fn keeps_route(&self) -> bool {
        false
    }

    // Attributes and filter state.

    /// An attribute such as `["source", "address"]`; `None` where the proxy has none.
    fn property(&self, path: &[&str]) -> Option<Vec<u8>>;
    /// Whether another meshfilter may stand behind this one, and has to be told what this one chose.
    fn may_be_followed(&self) -> bool {
        true
    }
    /// Writes filter state `wasm.<name>`, which access logs and tracing read.
    fn set_filter_state(&self, name: &str, value: &[u8]) -> Result<()>;

    // Clocks and random.

    /// The monotonic clock. During one callback it may stand still.
    fn now(&self) -> Instant;
    /// The wall clock, since the Unix epoch. It can step: use it for dates alone.
    fn wall_clock(&self) -> Duration;
    /// Uniform random bits.
    fn random(&self) -> u64;

    // Data that all workers of the process share.

    /// A value and the number that [`Host::shared_data_swap`] wants.
    fn shared_data(&self, key: &str) -> Result<(Vec<u8>, u32)>;
    /// Stores a value if nobody has since the read that gave `cas`; else [`Status::CasMismatch`].
    fn shared_data_swap(&self, key: &str, value: &[u8], cas: u32) -> Result<()>;
    /// Stores a value if the key is absent; else [`Status::CasMismatch`].
    fn shared_data_create(&self, key: &str, value: &[u8]) -> Result<()>;
    /// The cell of this name, the same one for whoever asks; at first its numbers are 0. `None` where workers have no memory in
    /// common: there they have shared data alone.
    fn shared_cell(&self, name: &str) -> Option<Arc<SharedCell>> {
        let _ = name;
        None
    }

    // Metrics.

    /// The id of a metric; defining one twice gives the same id.
    fn metric(&self, kind: MetricType, name: &str) -> Result<MetricId>;
    /// Whether this worker can end without a word, as a VM that crashes does: then others have to take back what it has added to
    /// gauges.
    fn may_die(&self) -> bool {
        true
    }
    /// Whether metrics can be defined at any time, and not only while the configuration is new.
    fn defines_late(&self) -> bool {
        true
    }
    /// Says which labels the metrics of a name will have whose values only requests tell: a proxy may want to know while
    /// it is configured.
    fn announce(&self, kind: MetricType, name: &str, labels: &[&str]) {
        let _ = (kind, name, labels);
    }
    /// What was counted, and the proxy does not know yet.
    fn counters(&self) -> &Counters;
    /// Adds to a counter. The proxy hears of it when [`Host::flush_counters`] is called, which the filter's root
    /// does from a tick.
    fn increment(&self, counter: MetricId, by: u64) {
        if !self.counters().add(counter, by) {
            let _ = self.increment_now(counter, by);
        }
    }
    /// Tells the proxy what was counted. A counter that it refuses is no reason to fail.
    fn flush_counters(&self) {
        self.counters().drain(|counter, sum| {
            let _ = self.increment_now(counter, sum);
        });
    }
    /// Adds to the proxy's own counter, in a hostcall.
    fn increment_now(&self, counter: MetricId, by: u64) -> Result<()>;
    /// Adds to a gauge, or takes away. Below zero it would wrap.
    fn adjust(&self, gauge: MetricId, by: i64) -> Result<()>;
    /// Records a histogram's sample, or sets a gauge.
    fn record(&self, metric: MetricId, value: u64) -> Result<()>;

    // The stream.

    /// Answers the request here. The first reply wins; nothing may be resumed afterwards.
    fn send_local_reply(&self, reply: &LocalReply) -> Result<()>;
    /// Lets a paused request go on.
    fn resume_request(&self) -> Result<()>;
    /// Closes the stream without an answer.
    fn reset_stream(&self) -> Result<()>;
    /// Makes the calls that follow be about this stream; [`Status::BadArgument`] when it is gone.
    fn set_effective_context(&self, context: u32) -> Result<()>;
    /// Asks for a tick every so often; zero stops it. The proxy counts whole milliseconds.
    fn set_tick_period(&self, period: Duration) -> Result<()>;

    // Callouts.

    /// Sends a request to a cluster; the answer comes by its token.
    fn http_call(&self, call: &HttpCall) -> Result<u32>;
    /// Bytes that belong to the callback in hand: a callout's answer, the plugin's configuration.
    fn buffer(&self, kind: BufferType, start: usize, max_size: usize) -> Result<Vec<u8>>;
    /// Calls a function that the proxy has registered by name.
    fn call_foreign_function(&self, name: &str, arguments: &[u8]) -> Result<Vec<u8>>;

    /// A variable of the plugin's `environment_variables`.
    fn environment(&self, name: &str) -> Option<String>;
}
