//! What Envoy gives and takes: declarations in [`raw`], and handles over its pointers, whose calls are safe as long as the
//! handle is used while its object lives. That is what making one promises.

mod attributes;
#[cfg(test)]
pub mod fake;
pub mod raw;
mod scheduler;

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

pub use attributes::{Attribute, AttributeKind};
pub use raw::{EnvoyHeader, HeaderMapKind, HeadersStatus, ModuleBuffer, ModuleHeader};
pub use scheduler::Scheduler;

use raw::{EnvoyBuffer, SUCCESS};

/// How many headers are read without an allocation.
const USUAL_HEADERS: usize = 32;

/// A stream's filter in Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter(NonNull<std::ffi::c_void>);

/// A configuration in Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configuration(NonNull<std::ffi::c_void>);

// SAFETY: the pointer is only followed in Envoy, in calls that a thread makes while it may: the main thread, the
// worker that destroys the configuration, and where Envoy's own statistics take the call, which any thread may do.
unsafe impl Send for Configuration {}
// SAFETY: as above.
unsafe impl Sync for Configuration {}

/// A callout, as the ABI wants it.
pub struct Callout<'a> {
    pub cluster: &'a str,
    pub headers: &'a [(String, String)],
    pub body: &'a [u8],
    pub timeout_milliseconds: u64,
}

/// Headers that Envoy lends: their names and values.
#[derive(Clone)]
pub struct Pairs<'a>(std::slice::Iter<'a, EnvoyHeader>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: whoever made this vouches for the bytes as long as it lends the headers.
        self.0.next().map(|header| unsafe { header.pair() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Pairs<'_> {}

impl Filter {
    /// # Safety
    /// The filter has to live as long as calls are made: from its hook `new` until `destroy` has ended.
    pub unsafe fn new(pointer: raw::FilterPointer) -> Option<Self> {
        NonNull::new(pointer).map(Filter)
    }

    /// Lends every header of a map, in place; `None` where there is no such map now.
    pub fn with_headers<T>(self, map: HeaderMapKind, read: impl FnOnce(Pairs<'_>) -> T) -> Option<T> {
        // SAFETY: the filter lives; so in every call below.
        let count =
            unsafe { raw::envoy_dynamic_module_callback_http_get_headers_size(self.pointer(), map as c_int) };
        let mut few = [const { MaybeUninit::uninit() }; USUAL_HEADERS];
        let mut many = Vec::new();
        let room: &mut [MaybeUninit<EnvoyHeader>] = match few.get_mut(..count) {
            Some(few) => few,
            None => {
                many.resize_with(count, MaybeUninit::uninit);
                &mut many
            }
        };
        // SAFETY: there is room for as many as Envoy has just said there are.
        let there = unsafe {
            raw::envoy_dynamic_module_callback_http_get_headers(
                self.pointer(),
                map as c_int,
                room.as_mut_ptr().cast(),
            )
        };
        // SAFETY: Envoy has filled in every one, and the bytes live until the map is edited, which nobody can while they are
        // lent.
        there.then(|| {
            read(Pairs(unsafe { std::slice::from_raw_parts(room.as_ptr().cast(), room.len()) }.iter()))
        })
    }

    /// Lends the first value of a header.
    pub fn with_header<T>(self, map: HeaderMapKind, name: &str, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let mut value = EnvoyBuffer::EMPTY;
        // SAFETY: the room is valid for the call; nobody wants the count.
        let there = unsafe {
            raw::envoy_dynamic_module_callback_http_get_header(
                self.pointer(),
                map as c_int,
                name.into(),
                &mut value,
                0,
                std::ptr::null_mut(),
            )
        };
        // SAFETY: as for all headers.
        there.then(|| read(unsafe { value.bytes() }))
    }

    /// One value in place of all; an empty one removes them, as the ABI has it.
    pub fn set_header(self, map: HeaderMapKind, name: &str, value: &[u8]) -> bool {
        // SAFETY: the bytes are lent for the call, in which Envoy copies them.
        unsafe {
            raw::envoy_dynamic_module_callback_http_set_header(
                self.pointer(),
                map as c_int,
                name.into(),
                value.into(),
            )
        }
    }

    /// A value beside the others.
    pub fn add_header(self, map: HeaderMapKind, name: &str, value: &[u8]) -> bool {
        // SAFETY: as above.
        unsafe {
            raw::envoy_dynamic_module_callback_http_add_header(
                self.pointer(),
                map as c_int,
                name.into(),
                value.into(),
            )
        }
    }

    /// No value.
    pub fn remove_header(self, map: HeaderMapKind, name: &str) -> bool {
        // SAFETY: as above; no value at all removes the header.
        unsafe {
            raw::envoy_dynamic_module_callback_http_set_header(
                self.pointer(),
                map as c_int,
                name.into(),
                ModuleBuffer::NONE,
            )
        }
    }

    /// Answers the request here. Envoy may call other hooks of this filter before this comes back.
    pub fn send_response(self, status: u32, headers: &[ModuleHeader], body: &[u8], details: &str) {
        // SAFETY: the bytes are lent for the call, in which Envoy copies them.
        unsafe {
            raw::envoy_dynamic_module_callback_http_send_response(
                self.pointer(),
                status,
                headers.as_ptr(),
                headers.len(),
                body.into(),
                details.into(),
            );
        }
    }

    /// Lets a request go on that was stopped. Envoy may call other hooks of this filter before this comes back.
    pub fn continue_decoding(self) {
        // SAFETY: as above.
        unsafe { raw::envoy_dynamic_module_callback_http_filter_continue_decoding(self.pointer()) };
    }

    /// Closes the stream without an answer. Envoy may call other hooks of this filter before this comes back.
    pub fn reset(self, details: &str) {
        // SAFETY: as above.
        unsafe {
            raw::envoy_dynamic_module_callback_http_filter_reset_stream(
                self.pointer(),
                raw::LOCAL_RESET,
                details.into(),
            );
        }
    }

    /// Makes Envoy choose the route anew when it is next asked for.
    pub fn clear_route_cache(self) {
        // SAFETY: as above.
        unsafe { raw::envoy_dynamic_module_callback_http_clear_route_cache(self.pointer()) };
    }

    /// Makes Envoy choose the route now, by the headers as they stand.
    pub fn choose_route(self) {
        let mut name = EnvoyBuffer::EMPTY;
        // SAFETY: the room is valid for the call. What is in it is not read.
        unsafe { raw::envoy_dynamic_module_callback_http_get_cluster_name(self.pointer(), &mut name) };
    }

    /// An attribute as the `Host` trait gives it: text as bytes, numbers as 8 bytes little endian, truth as one.
    pub fn attribute(self, attribute: Attribute) -> Option<Vec<u8>> {
        match attribute.kind {
            AttributeKind::Text => {
                let mut value = EnvoyBuffer::EMPTY;
                // SAFETY: the room is valid for the call.
                let there = unsafe {
                    raw::envoy_dynamic_module_callback_http_filter_get_attribute_string(
                        self.pointer(),
                        attribute.id,
                        &mut value,
                    )
                };
                // SAFETY: the bytes live until the end of the hook, and are copied here.
                there.then(|| unsafe { value.bytes() }.to_vec())
            }
            AttributeKind::Number => {
                let mut value = 0;
                // SAFETY: the room is valid for the call.
                let there = unsafe {
                    raw::envoy_dynamic_module_callback_http_filter_get_attribute_int(
                        self.pointer(),
                        attribute.id,
                        &mut value,
                    )
                };
                there.then(|| value.to_le_bytes().to_vec())
            }
            AttributeKind::Truth => {
                let mut value = false;
                // SAFETY: the room is valid for the call.
                let there = unsafe {
                    raw::envoy_dynamic_module_callback_http_filter_get_attribute_bool(
                        self.pointer(),
                        attribute.id,
                        &mut value,
                    )
                };
                // Of a connection without TLS the ABI says nothing, and the attribute is false.
                Some(vec![(there && value).into()])
            }
        }
    }

    /// Filter state that is text.
    pub fn filter_state(self, name: &str) -> Option<Vec<u8>> {
        let mut value = EnvoyBuffer::EMPTY;
        // SAFETY: the room is valid for the call.
        let there = unsafe {
            raw::envoy_dynamic_module_callback_http_get_filter_state_bytes(
                self.pointer(),
                name.into(),
                &mut value,
            )
        };
        // SAFETY: the bytes live until the end of the hook, and are copied here.
        there.then(|| unsafe { value.bytes() }.to_vec())
    }

    /// Writes filter state that is read as text.
    pub fn set_filter_state(self, name: &str, value: &[u8]) -> bool {
        // SAFETY: the bytes are lent for the call, in which Envoy copies them.
        unsafe {
            raw::envoy_dynamic_module_callback_http_set_filter_state_bytes(
                self.pointer(),
                name.into(),
                value.into(),
            )
        }
    }

    /// A scheduler that may wake this filter from any thread.
    pub fn scheduler(self) -> Option<Scheduler> {
        // SAFETY: the filter lives.
        let pointer = unsafe { raw::envoy_dynamic_module_callback_http_filter_scheduler_new(self.pointer()) };
        Scheduler::of_filter(pointer)
    }

    /// Sends a request whose answer comes in parts, trailers included; the number by which they come. Some may come before
    /// this does.
    pub fn callout(self, callout: &Callout<'_>) -> Option<u64> {
        let headers = lend(callout.headers);
        let mut id = 0;
        // SAFETY: the bytes are lent for the call, in which Envoy copies them; the room is valid for it.
        let result = unsafe {
            raw::envoy_dynamic_module_callback_http_filter_start_http_stream(
                self.pointer(),
                &mut id,
                callout.cluster.into(),
                headers.as_ptr(),
                headers.len(),
                callout.body.into(),
                true,
                callout.timeout_milliseconds,
            )
        };
        (result == SUCCESS).then_some(id)
    }

    /// Adds to a counter that has these labels.
    pub fn add(self, counter: usize, labels: &[ModuleBuffer], by: u64) {
        // SAFETY: the labels are lent for the call; what Envoy does not know it refuses.
        unsafe {
            raw::envoy_dynamic_module_callback_http_filter_increment_counter(
                self.pointer(),
                counter,
                labels.as_ptr(),
                labels.len(),
                by,
            );
        }
    }

    /// Adds to a gauge, or takes away.
    pub fn adjust(self, gauge: usize, labels: &[ModuleBuffer], by: i64) {
        let call = if by < 0 {
            raw::envoy_dynamic_module_callback_http_filter_decrement_gauge
        } else {
            raw::envoy_dynamic_module_callback_http_filter_increment_gauge
        };
        // SAFETY: as above.
        unsafe { call(self.pointer(), gauge, labels.as_ptr(), labels.len(), by.unsigned_abs()) };
    }

    /// Sets a gauge.
    pub fn set(self, gauge: usize, labels: &[ModuleBuffer], value: u64) {
        // SAFETY: as above.
        unsafe {
            raw::envoy_dynamic_module_callback_http_filter_set_gauge(
                self.pointer(),
                gauge,
                labels.as_ptr(),
                labels.len(),
                value,
            );
        }
    }

    /// Gives a histogram a sample.
    pub fn record(self, histogram: usize, labels: &[ModuleBuffer], value: u64) {
        // SAFETY: as above.
        unsafe {
            raw::envoy_dynamic_module_callback_http_filter_record_histogram_value(
                self.pointer(),
                histogram,
                labels.as_ptr(),
                labels.len(),
                value,
            );
        }
    }

    fn pointer(self) -> raw::FilterPointer {
        self.0.as_ptr()
    }
}

/// What a metric does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

impl Configuration {
    /// # Safety
    /// The configuration has to live as long as calls are made: from its hook `new` until `destroy` has ended.
    pub unsafe fn new(pointer: raw::ConfigPointer) -> Option<Self> {
        NonNull::new(pointer).map(Configuration)
    }

    /// Defines a metric, with labels whose values each call says. Envoy refuses this once `new` has ended.
    pub fn define(self, kind: MetricKind, name: &str, labels: &[&str]) -> Option<usize> {
        let labels: Vec<ModuleBuffer> = labels.iter().map(|label| (*label).into()).collect();
        let define = match kind {
            MetricKind::Counter => raw::envoy_dynamic_module_callback_http_filter_config_define_counter,
            MetricKind::Gauge => raw::envoy_dynamic_module_callback_http_filter_config_define_gauge,
            MetricKind::Histogram => raw::envoy_dynamic_module_callback_http_filter_config_define_histogram,
        };
        let mut id = 0;
        // SAFETY: the bytes are lent for the call, in which Envoy copies them; the room is valid for it.
        let result = unsafe { define(self.pointer(), name.into(), labels.as_ptr(), labels.len(), &mut id) };
        (result == SUCCESS).then_some(id)
    }

    /// A scheduler that may wake the main thread for this configuration from any thread.
    pub fn scheduler(self) -> Option<Scheduler> {
        // SAFETY: the configuration lives.
        let pointer =
            unsafe { raw::envoy_dynamic_module_callback_http_filter_config_scheduler_new(self.pointer()) };
        Scheduler::of_configuration(pointer)
    }

    /// Sends a request that belongs to no stream, from the main thread; the number by which the answer comes.
    pub fn callout(self, callout: &Callout<'_>) -> Option<u64> {
        let headers = lend(callout.headers);
        let mut id = 0;
        // SAFETY: the bytes are lent for the call, in which Envoy copies them.
        let result = unsafe {
            raw::envoy_dynamic_module_callback_http_filter_config_http_callout(
                self.pointer(),
                &mut id,
                callout.cluster.into(),
                headers.as_ptr(),
                headers.len(),
                callout.body.into(),
                callout.timeout_milliseconds,
            )
        };
        (result == SUCCESS).then_some(id)
    }

    /// Calls a metric's function with this configuration.
    pub fn metric(self, function: raw::ConfigMetric, id: usize, labels: &[ModuleBuffer], value: u64) {
        // SAFETY: the labels are lent for the call; what Envoy does not know it refuses.
        unsafe { function(self.pointer(), id, labels.as_ptr(), labels.len(), value) };
    }

    fn pointer(self) -> raw::ConfigPointer {
        self.0.as_ptr()
    }
}

fn lend(headers: &[(String, String)]) -> Vec<ModuleHeader> {
    headers.iter().map(|(name, value)| ModuleHeader::new(name.as_bytes(), value.as_bytes())).collect()
}

/// Whether Envoy's log takes messages of this level.
pub fn log_enabled(level: c_int) -> bool {
    // SAFETY: no pointers.
    unsafe { raw::envoy_dynamic_module_callback_log_enabled(level) }
}

/// Writes to Envoy's log.
pub fn log(level: c_int, message: &str) {
    // SAFETY: the bytes are lent for the call.
    unsafe { raw::envoy_dynamic_module_callback_log(level, message.into()) };
}
