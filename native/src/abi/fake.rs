//! A proxy in memory that has the ABI's callbacks, for the tests of the hooks: what it is handed it reads, and what it hands
//! over it frees at once when it may, so that Miri and the address sanitizer see what is used too long.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

type Headers = Vec<(Vec<u8>, Vec<u8>)>;
type FakeReply = (u32, Headers, Vec<u8>, Vec<u8>);

/// A filter of this proxy; hooks get its address.
#[derive(Default)]
pub struct FakeFilter {
    pub request: RefCell<Headers>,
    /// Status, headers, body and details of the local reply.
    pub reply: RefCell<Option<FakeReply>>,
    pub continued: Cell<u32>,
    pub resets: Cell<u32>,
    pub routes_cleared: Cell<u32>,
    /// Clusters that were asked something, in order; the place in here is the callout's number.
    pub callouts: RefCell<Vec<String>>,
    /// What `send_response` and `continue_decoding` do before they come back, as Envoy's other hooks would.
    pub on_end: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl FakeFilter {
    pub fn get(path: &str) -> Rc<Self> {
        let filter = FakeFilter::default();
        for (name, value) in [(":method", "GET"), (":path", path), (":authority", "a"), (":scheme", "http")] {
            filter.request.borrow_mut().push((name.into(), value.into()));
        }
        Rc::new(filter)
    }

    pub fn pointer(&self) -> super::raw::FilterPointer {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    fn end(&self) {
        let end = self.on_end.take();
        if let Some(end) = end {
            end();
        }
    }
}

#[allow(clippy::missing_safety_doc)]
pub mod callbacks {
    use std::cell::RefCell;
    use std::ffi::{CStr, c_int};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::raw::{
        ConfigMetric, ConfigPointer, EnvoyBuffer, EnvoyHeader, FilterPointer, ModuleBuffer, ModuleHeader,
        SUCCESS, SchedulerPointer,
    };
    use super::FakeFilter;

    thread_local! {
        /// The callouts of configurations that this thread has under way.
        pub static CALLOUTS: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }

    /// How often a scheduler was used.
    pub static COMMITS: AtomicUsize = AtomicUsize::new(0);

    unsafe fn filter<'a>(pointer: FilterPointer) -> &'a FakeFilter {
        unsafe { &*pointer.cast::<FakeFilter>() }
    }

    unsafe fn taken(buffer: ModuleBuffer) -> Vec<u8> {
        unsafe { buffer.bytes() }.to_vec()
    }

    pub fn config_metric(_: &CStr) -> Option<ConfigMetric> {
        Some(metric)
    }

    pub fn has(_: &CStr) -> bool {
        true
    }

    unsafe extern "C" fn metric(
        _: ConfigPointer,
        _: usize,
        labels: *const ModuleBuffer,
        count: usize,
        _: u64,
    ) -> c_int {
        if count > 0 {
            let labels = unsafe { std::slice::from_raw_parts(labels, count) };
            labels.iter().for_each(|label| assert!(std::str::from_utf8(&unsafe { taken(*label) }).is_ok()));
        }
        SUCCESS
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_log(_: c_int, message: ModuleBuffer) {
        eprintln!("{}", String::from_utf8(unsafe { taken(message) }).unwrap());
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_log_enabled(_: c_int) -> bool {
        true
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_get_headers_size(
        pointer: FilterPointer,
        _: c_int,
    ) -> usize {
        unsafe { filter(pointer) }.request.borrow().len()
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_get_headers(
        pointer: FilterPointer,
        _: c_int,
        headers: *mut EnvoyHeader,
    ) -> bool {
        for (place, (name, value)) in unsafe { filter(pointer) }.request.borrow().iter().enumerate() {
            unsafe { headers.add(place).write(EnvoyHeader::of(name, value)) };
        }
        true
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_get_header(
        pointer: FilterPointer,
        _: c_int,
        name: ModuleBuffer,
        value: *mut EnvoyBuffer,
        _: usize,
        _: *mut usize,
    ) -> bool {
        let name = unsafe { taken(name) };
        let headers = unsafe { filter(pointer) }.request.borrow();
        let found = headers.iter().find(|(known, _)| *known == name);
        if let Some((_, found)) = found {
            unsafe { value.write(EnvoyBuffer::of(found)) };
        }
        found.is_some()
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_add_header(
        pointer: FilterPointer,
        _: c_int,
        name: ModuleBuffer,
        value: ModuleBuffer,
    ) -> bool {
        unsafe { filter(pointer).request.borrow_mut().push((taken(name), taken(value))) };
        true
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_set_header(
        pointer: FilterPointer,
        map: c_int,
        name: ModuleBuffer,
        value: ModuleBuffer,
    ) -> bool {
        let wanted = unsafe { taken(name) };
        unsafe { filter(pointer) }.request.borrow_mut().retain(|(known, _)| *known != wanted);
        let there = !unsafe { taken(value) }.is_empty();
        !there || unsafe { envoy_dynamic_module_callback_http_add_header(pointer, map, name, value) }
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_send_response(
        pointer: FilterPointer,
        status: u32,
        headers: *const ModuleHeader,
        count: usize,
        body: ModuleBuffer,
        details: ModuleBuffer,
    ) {
        let headers = if count == 0 {
            Vec::new()
        } else {
            let headers = unsafe { std::slice::from_raw_parts(headers, count) };
            headers.iter().map(|header| unsafe { header.pair() }).collect()
        };
        let (body, details) = unsafe { (taken(body), taken(details)) };
        let filter = unsafe { filter(pointer) };
        filter.reply.borrow_mut().get_or_insert((status, headers, body, details));
        filter.end();
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_filter_continue_decoding(
        pointer: FilterPointer,
    ) {
        let filter = unsafe { filter(pointer) };
        filter.continued.set(filter.continued.get() + 1);
        filter.end();
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_filter_reset_stream(
        pointer: FilterPointer,
        _: c_int,
        _: ModuleBuffer,
    ) {
        let filter = unsafe { filter(pointer) };
        filter.resets.set(filter.resets.get() + 1);
        filter.end();
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_clear_route_cache(pointer: FilterPointer) {
        let filter = unsafe { filter(pointer) };
        filter.routes_cleared.set(filter.routes_cleared.get() + 1);
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_get_cluster_name(
        _: FilterPointer,
        _: *mut EnvoyBuffer,
    ) -> bool {
        false
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_filter_get_attribute_string(
        _: FilterPointer,
        _: c_int,
        _: *mut EnvoyBuffer,
    ) -> bool {
        false
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_filter_get_attribute_int(
        _: FilterPointer,
        _: c_int,
        value: *mut u64,
    ) -> bool {
        unsafe { value.write(200) };
        true
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_filter_get_attribute_bool(
        _: FilterPointer,
        _: c_int,
        _: *mut bool,
    ) -> bool {
        false
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_get_filter_state_bytes(
        _: FilterPointer,
        _: ModuleBuffer,
        _: *mut EnvoyBuffer,
    ) -> bool {
        false
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_set_filter_state_bytes(
        _: FilterPointer,
        _: ModuleBuffer,
        _: ModuleBuffer,
    ) -> bool {
        true
    }

    macro_rules! metrics {
        (define: $($define:ident),*; use: $($use:ident),*) => {
            $(pub unsafe extern "C" fn $define(
                _: ConfigPointer,
                name: ModuleBuffer,
                _: *const ModuleBuffer,
                _: usize,
                id: *mut usize,
            ) -> c_int {
                assert!(!unsafe { taken(name) }.is_empty());
                unsafe { id.write(1) };
                SUCCESS
            })*
            $(pub unsafe extern "C" fn $use(
                pointer: FilterPointer,
                id: usize,
                labels: *const ModuleBuffer,
                count: usize,
                value: u64,
            ) -> c_int {
                unsafe { metric(pointer, id, labels, count, value) }
            })*
        };
    }

    metrics! {
        define:
            envoy_dynamic_module_callback_http_filter_config_define_counter,
            envoy_dynamic_module_callback_http_filter_config_define_gauge,
            envoy_dynamic_module_callback_http_filter_config_define_histogram;
        use:
            envoy_dynamic_module_callback_http_filter_increment_counter,
            envoy_dynamic_module_callback_http_filter_increment_gauge,
            envoy_dynamic_module_callback_http_filter_decrement_gauge,
            envoy_dynamic_module_callback_http_filter_set_gauge,
            envoy_dynamic_module_callback_http_filter_record_histogram_value
    }

    fn scheduler() -> SchedulerPointer {
        Box::into_raw(Box::new(0_u64)).cast()
    }

    unsafe fn commit(pointer: SchedulerPointer) {
        // One that was deleted would be noticed.
        unsafe { assert_eq!(*pointer.cast::<u64>(), 0) };
        COMMITS.fetch_add(1, Ordering::SeqCst);
    }

    unsafe fn delete(pointer: SchedulerPointer) {
        drop(unsafe { Box::from_raw(pointer.cast::<u64>()) });
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_filter_scheduler_new(
        _: FilterPointer,
    ) -> SchedulerPointer {
        scheduler()
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_filter_scheduler_commit(
        pointer: SchedulerPointer,
        _: u64,
    ) {
        unsafe { commit(pointer) };
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_filter_scheduler_delete(
        pointer: SchedulerPointer,
    ) {
        unsafe { delete(pointer) };
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_filter_config_scheduler_new(
        _: ConfigPointer,
    ) -> SchedulerPointer {
        scheduler()
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_filter_config_scheduler_commit(
        pointer: SchedulerPointer,
        _: u64,
    ) {
        unsafe { commit(pointer) };
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_filter_config_scheduler_delete(
        pointer: SchedulerPointer,
    ) {
        unsafe { delete(pointer) };
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_filter_start_http_stream(
        pointer: FilterPointer,
        id: *mut u64,
        cluster: ModuleBuffer,
        _: *const ModuleHeader,
        _: usize,
        _: ModuleBuffer,
        _: bool,
        _: u64,
    ) -> c_int {
        let mut callouts = unsafe { filter(pointer) }.callouts.borrow_mut();
        unsafe { id.write(callouts.len() as u64) };
        callouts.push(String::from_utf8(unsafe { taken(cluster) }).unwrap());
        SUCCESS
    }

    pub unsafe extern "C" fn envoy_dynamic_module_callback_http_filter_config_http_callout(
        _: ConfigPointer,
        id: *mut u64,
        _: ModuleBuffer,
        _: *const ModuleHeader,
        _: usize,
        _: ModuleBuffer,
        _: u64,
    ) -> c_int {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let number = LAST.fetch_add(1, Ordering::SeqCst) as u64;
        unsafe { id.write(number) };
        CALLOUTS.with_borrow_mut(|callouts| callouts.push(number));
        SUCCESS
    }
}
