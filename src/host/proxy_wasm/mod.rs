//! The proxy-wasm ABI 0.2.1 as Envoy speaks it: the only hostcalls of the crate.
//!
//! No SDK stands in between: its wrappers panic on a status that they do not expect, and a panic costs the worker its
//! VM; and it exports every callback there is, each of which the proxy then calls.

pub mod logger;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ptr::{null, null_mut};
use std::time::{Duration, SystemTime};

use super::{
    BufferType, Counters, HeaderMap, Host, HttpCall, Instant, LocalReply, MapType, MetricId, MetricType,
    Result, Status, StreamType,
};

/// The proxy that loaded this module. A VM has one of it.
#[derive(Default)]
pub struct Envoy {
    /// Names of metrics to ids: `define_metric` gives a fresh id at every call, and the host keeps them all.
    metrics: RefCell<HashMap<String, MetricId>>,
    counters: Counters,
    clock: Clock,
    random: Cell<Random>,
    /// When to look again which level the log has.
    next_log_level: Cell<Instant>,
}

/// Random bits, so many numbers with one hostcall.
#[derive(Clone, Copy)]
struct Random {
    bits: [u8; 128],
    /// How many numbers were given away.
    used: usize,
}

impl Default for Random {
    fn default() -> Self {
        Random { bits: [0; 128], used: usize::MAX }
    }
}

/// Both clocks, read as seldom as they can be.
#[derive(Default)]
struct Clock {
    /// The monotonic clock in this callback; `None` until somebody asks.
    now: Cell<Option<Instant>>,
    /// What both clocks said when the wall clock was last read.
    read: Cell<Option<(Instant, Duration)>>,
}

/// What may change at any time, and does so hardly ever, is looked at again after so many nanoseconds: the log level,
/// and whether the wall clock has stepped. In between the monotonic clock says how far the other one went.
const HOLDS: u64 = 1_000_000_000;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_log_level(level: *mut u32) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_buffer_bytes(
        kind: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        cas: u32,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_http_call(
        cluster: *const u8,
        cluster_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout: u32,
        token: *mut u32,
    ) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        arguments: *const u8,
        arguments_size: usize,
        results: *mut *mut u8,
        results_size: *mut usize,
    ) -> u32;
}

/// A number that no value of shared data has: the host stores a value under it only where there is none.
const NO_SUCH_CAS: u32 = u32::MAX;

fn check(status: u32) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(reason(status)) }
}

fn reason(status: u32) -> Status {
    match status {
        1 => Status::NotFound,
        2 => Status::BadArgument,
        3 => Status::SerializationFailure,
        4 => Status::ParseFailure,
        7 => Status::Empty,
        8 => Status::CasMismatch,
        _ => Status::InternalFailure,
    }
}

/// So much more than it asks for is given to a proxy that hands data over: whoever takes it may add a little, as a header, and
/// the rest need not move.
const MORE: usize = 64;

/// Room for so many bytes that the proxy is about to hand over; every one of them is written before it is read.
pub fn room_for(size: usize) -> *mut u8 {
    Box::into_raw(Box::<[u8]>::new_uninit_slice(size.saturating_add(MORE))).cast()
}

/// Runs a call that hands a buffer over, and takes the buffer.
fn owned(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>> {
    let mut data: *mut u8 = null_mut();
    let mut size: usize = 0;
    check(call(&mut data, &mut size))?;
    if data.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the host wrote `size` bytes into a block that it asked of `proxy_on_memory_allocate`, which makes it with
    // `room_for` and gives it away.
    Ok(unsafe { Vec::from_raw_parts(data, size, size.saturating_add(MORE)) })
}

/// The parts with a NUL between them, if there is room; the room holds nothing but NULs.
fn joined<'a>(parts: &[&str], room: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut end: usize = 0;
    for part in parts {
        let start = if end == 0 { 0 } else { end.checked_add(1)? };
        end = start.checked_add(part.len())?;
        room.get_mut(start..end)?.copy_from_slice(part.as_bytes());
    }
    room.get(..end)
}

impl Envoy {
    /// A callback begins: time has passed since the last one.
    pub fn begin(&self) {
        self.clock.now.set(None);
    }

    /// Follows the proxy's log level, which its operator may change at any time: asks once a second, when the clock is read.
    fn follow_log_level(&self, now: Instant) {
        if now >= self.next_log_level.get() {
            self.next_log_level.set(now.saturating_add(HOLDS));
            logger::follow_level();
        }
    }
}

impl Host for Envoy {
    fn header_map(&self, map: MapType) -> Result<HeaderMap<'static>> {
        // SAFETY: both pointers are valid for the call.
        HeaderMap::parse(owned(|data, size| unsafe { proxy_get_header_map_pairs(map as u32, data, size) })?)
    }

    fn set_header(&self, map: MapType, name: &str, value: &[u8]) -> Result<()> {
        // SAFETY: pointers and lengths are those of live slices.
        check(unsafe {
            proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
        })
    }

    fn add_header(&self, map: MapType, name: &str, value: &[u8]) -> Result<()> {
        // SAFETY: pointers and lengths are those of live slices.
        check(unsafe {
            proxy_add_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
        })
    }

    fn remove_header(&self, map: MapType, name: &str) -> Result<()> {
        // SAFETY: pointer and length are those of a live slice.
        check(unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        // Those of every request are short.
        let mut short = [0; 64];
        let long;
        let path = match joined(path, &mut short) {
            Some(path) => path,
            None => {
                long = path.join("\0");
                long.as_bytes()
            }
        };
        // SAFETY: pointers and lengths are those of live slices.
        owned(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) }).ok()
    }

    fn set_filter_state(&self, name: &str, value: &[u8]) -> Result<()> {
        // SAFETY: pointers and lengths are those of live slices.
        check(unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
    }

    fn now(&self) -> Instant {
        if let Some(now) = self.clock.now.get() {
            return now;
        }
        // WASI's monotonic clock, which is Envoy's own; the standard library reaches it only as a difference.
        let mut now: u64 = 0;
        // SAFETY: the pointer is valid for the call; clock 1 is the monotonic one.
        let _ = unsafe { clock_time_get(1, 1, &mut now) };
        self.clock.now.set(Some(now));
        self.follow_log_level(now);
        now
    }

    fn wall_clock(&self) -> Duration {
        let now = self.now();
        if let Some((then, wall)) = self.clock.read.get() {
            let passed = now.saturating_sub(then);
            if passed < HOLDS {
                return wall.saturating_add(Duration::from_nanos(passed));
            }
        }
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.clock.read.set(Some((now, wall)));
        wall
    }

    fn random(&self) -> u64 {
        let mut pool = self.random.get();
        let bytes = pool.bits.as_chunks::<8>().0.get(pool.used).copied().unwrap_or_else(|| {
            // SAFETY: the pointer and length are those of the array.
            let _ = unsafe { random_get(pool.bits.as_mut_ptr(), pool.bits.len()) };
            pool.used = 0;
            pool.bits.first_chunk().copied().unwrap_or_default()
        });
        pool.used = pool.used.saturating_add(1);
        self.random.set(pool);
        u64::from_le_bytes(bytes)
    }

    fn shared_data(&self, key: &str) -> Result<(Vec<u8>, u32)> {
        let mut cas = 0;
        // SAFETY: pointers and lengths are those of live slices and values.
        let value = owned(|data, size| unsafe {
            proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &mut cas)
        })?;
        Ok((value, cas))
    }

    fn shared_data_swap(&self, key: &str, value: &[u8], cas: u32) -> Result<()> {
        // SAFETY: pointers and lengths are those of live slices.
        check(unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) })
    }

    fn shared_data_create(&self, key: &str, value: &[u8]) -> Result<()> {
        self.shared_data_swap(key, value, NO_SUCH_CAS)
    }

    fn metric(&self, kind: MetricType, name: &str) -> Result<MetricId> {
        let mut metrics = self.metrics.try_borrow_mut().map_err(|_| Status::InternalFailure)?;
        if let Some(id) = metrics.get(name) {
            return Ok(*id);
        }
        let mut id = 0;
        // SAFETY: pointers and lengths are those of live slices and values.
        check(unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &mut id) })?;
        metrics.insert(name.to_owned(), id);
        Ok(id)
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn increment_now(&self, counter: MetricId, by: u64) -> Result<()> {
        match i64::try_from(by) {
            // SAFETY: no pointers.
            Ok(by) => check(unsafe { proxy_increment_metric(counter, by) }),
            Err(_) => Err(Status::BadArgument),
        }
    }

    fn adjust(&self, gauge: MetricId, by: i64) -> Result<()> {
        // SAFETY: no pointers.
        check(unsafe { proxy_increment_metric(gauge, by) })
    }

    fn record(&self, metric: MetricId, value: u64) -> Result<()> {
        // SAFETY: no pointers.
        check(unsafe { proxy_record_metric(metric, value) })
    }

    fn send_local_reply(&self, reply: &LocalReply) -> Result<()> {
        let headers =
            if reply.headers.is_empty() { Vec::new() } else { HeaderMap::serialize(&reply.headers) };
        let grpc_status = reply.grpc_status.and_then(|status| i32::try_from(status).ok()).unwrap_or(-1);
        // SAFETY: pointers and lengths are those of live slices.
        check(unsafe {
            proxy_send_local_response(
                u32::from(reply.status),
                reply.details.as_ptr(),
                reply.details.len(),
                if reply.body.is_empty() { null() } else { reply.body.as_ptr() },
                reply.body.len(),
                if headers.is_empty() { null() } else { headers.as_ptr() },
                headers.len(),
                grpc_status,
            )
        })
    }

    fn resume_request(&self) -> Result<()> {
        // SAFETY: no pointers.
        check(unsafe { proxy_continue_stream(StreamType::HttpRequest as u32) })
    }

    fn reset_stream(&self) -> Result<()> {
        // SAFETY: no pointers.
        check(unsafe { proxy_close_stream(StreamType::HttpRequest as u32) })
    }

    fn set_effective_context(&self, context: u32) -> Result<()> {
        // SAFETY: no pointers.
        check(unsafe { proxy_set_effective_context(context) })
    }

    fn set_tick_period(&self, period: Duration) -> Result<()> {
        let period = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
        // SAFETY: no pointers.
        check(unsafe { proxy_set_tick_period_milliseconds(period) })
    }

    fn http_call(&self, call: &HttpCall) -> Result<u32> {
        let headers = HeaderMap::serialize(&call.headers);
        let trailers = HeaderMap::serialize::<&str, &str>(&[]);
        let mut token = 0;
        // SAFETY: pointers and lengths are those of live slices and values.
        check(unsafe {
            proxy_http_call(
                call.cluster.as_ptr(),
                call.cluster.len(),
                headers.as_ptr(),
                headers.len(),
                call.body.as_ptr(),
                call.body.len(),
                trailers.as_ptr(),
                trailers.len(),
                u32::try_from(call.timeout.as_millis()).unwrap_or(u32::MAX),
                &mut token,
            )
        })?;
        Ok(token)
    }

    fn buffer(&self, kind: BufferType, start: usize, max_size: usize) -> Result<Vec<u8>> {
        // SAFETY: both pointers are valid for the call.
        owned(|data, size| unsafe { proxy_get_buffer_bytes(kind as u32, start, max_size, data, size) })
    }

    fn call_foreign_function(&self, name: &str, arguments: &[u8]) -> Result<Vec<u8>> {
        // SAFETY: pointers and lengths are those of live slices and values.
        owned(|data, size| unsafe {
            proxy_call_foreign_function(
                name.as_ptr(),
                name.len(),
                arguments.as_ptr(),
                arguments.len(),
                data,
                size,
            )
        })
    }

    fn environment(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u16;
    fn random_get(buffer: *mut u8, size: usize) -> u16;
}
