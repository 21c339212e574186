//! The functions that Envoy exports and the types that they take: what this module uses of the ABI of 1.38, which no
//! later version changes (<https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/advanced/dynamic_modules>).

#[cfg(not(test))]
use std::ffi::c_char;
use std::ffi::{c_int, c_void};
use std::slice;

/// Of a filter that Envoy has: a stream.
pub type FilterPointer = *mut c_void;
/// Of a configuration that Envoy has.
pub type ConfigPointer = *mut c_void;
/// Of a scheduler that Envoy made for the module, which must delete it.
pub type SchedulerPointer = *mut c_void;

/// Bytes of Envoy's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EnvoyBuffer {
    pointer: *const u8,
    length: usize,
}

impl EnvoyBuffer {
    /// None.
    pub const EMPTY: EnvoyBuffer = EnvoyBuffer { pointer: std::ptr::null(), length: 0 };

    #[cfg(test)]
    pub fn of(bytes: &[u8]) -> Self {
        EnvoyBuffer { pointer: bytes.as_ptr(), length: bytes.len() }
    }

    /// The bytes.
    ///
    /// # Safety
    /// Envoy has to have filled the buffer, and nothing may free the bytes during `'a`: at the latest the end of the
    /// hook does, and so does an edit of the map that they are from.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        // SAFETY: the caller vouches for pointer and length; an empty one may have no pointer at all.
        unsafe { bytes(self.pointer, self.length) }
    }
}

/// A header of Envoy's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EnvoyHeader {
    name: *const u8,
    name_length: usize,
    value: *const u8,
    value_length: usize,
}

impl EnvoyHeader {
    #[cfg(test)]
    pub fn of(name: &[u8], value: &[u8]) -> Self {
        EnvoyHeader {
            name: name.as_ptr(),
            name_length: name.len(),
            value: value.as_ptr(),
            value_length: value.len(),
        }
    }

    /// Name and value.
    ///
    /// # Safety
    /// As for [`EnvoyBuffer::bytes`].
    pub unsafe fn pair<'a>(&self) -> (&'a [u8], &'a [u8]) {
        // SAFETY: the caller vouches for both.
        unsafe { (bytes(self.name, self.name_length), bytes(self.value, self.value_length)) }
    }
}

/// # Safety
/// As for [`slice::from_raw_parts`], but that nothing may have no pointer.
unsafe fn bytes<'a>(pointer: *const u8, length: usize) -> &'a [u8] {
    if pointer.is_null() || length == 0 {
        return &[];
    }
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { slice::from_raw_parts(pointer, length) }
}

/// Bytes of the module's, lent for a call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ModuleBuffer {
    pointer: *const u8,
    length: usize,
}

impl From<&[u8]> for ModuleBuffer {
    fn from(bytes: &[u8]) -> Self {
        ModuleBuffer { pointer: bytes.as_ptr(), length: bytes.len() }
    }
}

impl From<&str> for ModuleBuffer {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl ModuleBuffer {
    #[cfg(test)]
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        unsafe { bytes(self.pointer, self.length) }
    }

    /// None at all, which is something else than an empty one.
    pub const NONE: ModuleBuffer = ModuleBuffer { pointer: std::ptr::null(), length: 0 };
}

/// A header of the module's, lent for a call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ModuleHeader {
    name: *const u8,
    name_length: usize,
    value: *const u8,
    value_length: usize,
}

impl ModuleHeader {
    pub fn new(name: &[u8], value: &[u8]) -> Self {
        ModuleHeader {
            name: name.as_ptr(),
            name_length: name.len(),
            value: value.as_ptr(),
            value_length: value.len(),
        }
    }
}

#[cfg(test)]
impl ModuleHeader {
    pub unsafe fn pair(&self) -> (Vec<u8>, Vec<u8>) {
        unsafe {
            (bytes(self.name, self.name_length).to_vec(), bytes(self.value, self.value_length).to_vec())
        }
    }
}

/// A header map, by the ABI's number.
#[derive(Clone, Copy)]
#[repr(C)]
pub enum HeaderMapKind {
    Request = 0,
    Response = 2,
}

/// What comes of a header hook, by the ABI's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum HeadersStatus {
    Continue = 0,
    /// Nothing goes on, and the connection is read no further than the buffers reach: a request that waits costs no
    /// more memory than that.
    StopAllAndWatermark = 4,
}

/// What comes of a body or trailer hook: on to the next filter.
pub const CONTINUE: c_int = 0;

/// A metric's or a callout's call went well.
pub const SUCCESS: c_int = 0;

/// How a stream is closed without an answer.
pub const LOCAL_RESET: c_int = 0;

/// `adjust` and `set` of a gauge and `add` of a counter, of the configuration: of 1.39 and later.
pub type ConfigMetric = unsafe extern "C" fn(ConfigPointer, usize, *const ModuleBuffer, usize, u64) -> c_int;

#[cfg(test)]
pub use super::fake::callbacks::*;
#[cfg(not(test))]
pub use envoy::*;

#[cfg(not(test))]
mod envoy {
    use super::{
        ConfigPointer, EnvoyBuffer, EnvoyHeader, FilterPointer, ModuleBuffer, ModuleHeader, SchedulerPointer,
        c_char, c_int, c_void,
    };

    unsafe extern "C" {
        pub fn envoy_dynamic_module_callback_log(level: c_int, message: ModuleBuffer);
        pub fn envoy_dynamic_module_callback_log_enabled(level: c_int) -> bool;

        pub fn envoy_dynamic_module_callback_http_get_headers_size(
            filter: FilterPointer,
            map: c_int,
        ) -> usize;
        pub fn envoy_dynamic_module_callback_http_get_headers(
            filter: FilterPointer,
            map: c_int,
            headers: *mut EnvoyHeader,
        ) -> bool;
        pub fn envoy_dynamic_module_callback_http_get_header(
            filter: FilterPointer,
            map: c_int,
            name: ModuleBuffer,
            value: *mut EnvoyBuffer,
            index: usize,
            count: *mut usize,
        ) -> bool;
        pub fn envoy_dynamic_module_callback_http_add_header(
            filter: FilterPointer,
            map: c_int,
            name: ModuleBuffer,
            value: ModuleBuffer,
        ) -> bool;
        pub fn envoy_dynamic_module_callback_http_set_header(
            filter: FilterPointer,
            map: c_int,
            name: ModuleBuffer,
            value: ModuleBuffer,
        ) -> bool;
        pub fn envoy_dynamic_module_callback_http_send_response(
            filter: FilterPointer,
            status: u32,
            headers: *const ModuleHeader,
            headers_count: usize,
            body: ModuleBuffer,
            details: ModuleBuffer,
        );
        pub fn envoy_dynamic_module_callback_http_filter_continue_decoding(filter: FilterPointer);
        pub fn envoy_dynamic_module_callback_http_filter_reset_stream(
            filter: FilterPointer,
            reason: c_int,
            details: ModuleBuffer,
        );
        pub fn envoy_dynamic_module_callback_http_clear_route_cache(filter: FilterPointer);
        pub fn envoy_dynamic_module_callback_http_get_cluster_name(
            filter: FilterPointer,
            name: *mut EnvoyBuffer,
        ) -> bool;

        pub fn envoy_dynamic_module_callback_http_filter_get_attribute_string(
            filter: FilterPointer,
            attribute: c_int,
            value: *mut EnvoyBuffer,
        ) -> bool;
        pub fn envoy_dynamic_module_callback_http_filter_get_attribute_int(
            filter: FilterPointer,
            attribute: c_int,
            value: *mut u64,
        ) -> bool;
        pub fn envoy_dynamic_module_callback_http_filter_get_attribute_bool(
            filter: FilterPointer,
            attribute: c_int,
            value: *mut bool,
        ) -> bool;
        pub fn envoy_dynamic_module_callback_http_get_filter_state_bytes(
            filter: FilterPointer,
            name: ModuleBuffer,
            value: *mut EnvoyBuffer,
        ) -> bool;
        pub fn envoy_dynamic_module_callback_http_set_filter_state_bytes(
            filter: FilterPointer,
            name: ModuleBuffer,
            value: ModuleBuffer,
        ) -> bool;

        pub fn envoy_dynamic_module_callback_http_filter_config_define_counter(
            config: ConfigPointer,
            name: ModuleBuffer,
            labels: *const ModuleBuffer,
            labels_count: usize,
            id: *mut usize,
        ) -> c_int;
        pub fn envoy_dynamic_module_callback_http_filter_config_define_gauge(
            config: ConfigPointer,
            name: ModuleBuffer,
            labels: *const ModuleBuffer,
            labels_count: usize,
            id: *mut usize,
        ) -> c_int;
        pub fn envoy_dynamic_module_callback_http_filter_config_define_histogram(
            config: ConfigPointer,
            name: ModuleBuffer,
            labels: *const ModuleBuffer,
            labels_count: usize,
            id: *mut usize,
        ) -> c_int;
        pub fn envoy_dynamic_module_callback_http_filter_increment_counter(
            filter: FilterPointer,
            id: usize,
            labels: *const ModuleBuffer,
            labels_count: usize,
            by: u64,
        ) -> c_int;
        pub fn envoy_dynamic_module_callback_http_filter_increment_gauge(
            filter: FilterPointer,
            id: usize,
            labels: *const ModuleBuffer,
            labels_count: usize,
            by: u64,
        ) -> c_int;
        pub fn envoy_dynamic_module_callback_http_filter_decrement_gauge(
            filter: FilterPointer,
            id: usize,
            labels: *const ModuleBuffer,
            labels_count: usize,
            by: u64,
        ) -> c_int;
        pub fn envoy_dynamic_module_callback_http_filter_set_gauge(
            filter: FilterPointer,
            id: usize,
            labels: *const ModuleBuffer,
            labels_count: usize,
            value: u64,
        ) -> c_int;
        pub fn envoy_dynamic_module_callback_http_filter_record_histogram_value(
            filter: FilterPointer,
            id: usize,
            labels: *const ModuleBuffer,
            labels_count: usize,
            value: u64,
        ) -> c_int;

        pub fn envoy_dynamic_module_callback_http_filter_scheduler_new(
            filter: FilterPointer,
        ) -> SchedulerPointer;
        pub fn envoy_dynamic_module_callback_http_filter_scheduler_commit(
            scheduler: SchedulerPointer,
            event: u64,
        );
        pub fn envoy_dynamic_module_callback_http_filter_scheduler_delete(scheduler: SchedulerPointer);
        pub fn envoy_dynamic_module_callback_http_filter_config_scheduler_new(
            config: ConfigPointer,
        ) -> SchedulerPointer;
        pub fn envoy_dynamic_module_callback_http_filter_config_scheduler_commit(
            scheduler: SchedulerPointer,
            event: u64,
        );
        pub fn envoy_dynamic_module_callback_http_filter_config_scheduler_delete(scheduler: SchedulerPointer);

        pub fn envoy_dynamic_module_callback_http_filter_start_http_stream(
            filter: FilterPointer,
            id: *mut u64,
            cluster: ModuleBuffer,
            headers: *const ModuleHeader,
            headers_count: usize,
            body: ModuleBuffer,
            end_of_stream: bool,
            timeout_milliseconds: u64,
        ) -> c_int;
        pub fn envoy_dynamic_module_callback_http_filter_config_http_callout(
            config: ConfigPointer,
            id: *mut u64,
            cluster: ModuleBuffer,
            headers: *const ModuleHeader,
            headers_count: usize,
            body: ModuleBuffer,
            timeout_milliseconds: u64,
        ) -> c_int;
    }

    unsafe extern "C" {
        fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    }

    /// Whether this Envoy has a callback of this name.
    pub fn has(name: &std::ffi::CStr) -> bool {
        // SAFETY: no library is the program itself, and the name ends with a NUL.
        !unsafe { dlsym(std::ptr::null_mut(), name.as_ptr()) }.is_null()
    }

    /// A callback that not every supported Envoy has; `None` where it has not.
    pub fn config_metric(name: &std::ffi::CStr) -> Option<super::ConfigMetric> {
        // SAFETY: no library is the program itself, and the name ends with a NUL.
        let symbol = unsafe { dlsym(std::ptr::null_mut(), name.as_ptr()) };
        if symbol.is_null() {
            return None;
        }
        // SAFETY: a function of this name has this signature wherever there is one: the ABI never changes one.
        Some(unsafe { std::mem::transmute::<*mut c_void, super::ConfigMetric>(symbol) })
    }
}
