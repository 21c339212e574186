//! The hooks that Envoy calls. Each makes handles of Envoy's pointers, finds what the module's own stand for, and catches
//! panics: one that crossed the boundary would end the process.

use std::ffi::{c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use meshfilter::filter::Flow;

use crate::abi::raw::{CONTINUE, ConfigPointer, EnvoyBuffer, FilterPointer, SUCCESS};
use crate::abi::{self, EnvoyHeader, Filter, HeadersStatus};
use crate::host::Part;
use crate::process::Configuration;
use crate::worker::{HookKind, Open, Worker};
use crate::{logger, panics};

/// What Envoy knows of a configuration of ours: a boxed `Arc`.
type ConfigModule = *const Arc<Configuration>;
/// What Envoy knows of a stream of ours: an `Rc`, made raw.
type FilterModule = *const Open;

/// What this module uses is the same in every version of the ABI, and a proxy warns of another one's name: so it hears its
/// own, which 1.40 changed.
fn version() -> &'static std::ffi::CStr {
    if abi::raw::has(c"envoy_dynamic_module_callback_log_v2") { c"v0.2.0" } else { c"v0.1.0" }
}

/// # Safety
/// `module` has to come from [`envoy_dynamic_module_on_http_filter_config_new`], not be destroyed, and live for `'a`.
unsafe fn configuration<'a>(module: ConfigModule) -> Option<&'a Arc<Configuration>> {
    // SAFETY: the caller vouches for it.
    unsafe { module.as_ref() }
}

/// A share of the stream, so that a hook may destroy it from within another.
///
/// # Safety
/// `module` has to come from [`envoy_dynamic_module_on_http_filter_new`], and not be destroyed.
unsafe fn open(module: FilterModule) -> Option<Rc<Open>> {
    if module.is_null() {
        return None;
    }
    // SAFETY: it was made by `Rc::into_raw`, and Envoy's own share is there until `destroy`; on this thread, too.
    unsafe {
        Rc::increment_strong_count(module);
        Some(Rc::from_raw(module))
    }
}

/// Runs what a hook does about a stream. Should it panic, whom it was about is answered with 500 if that can be, and left
/// alone.
///
/// # Safety
/// Both pointers have to be those that Envoy gave the hook.
unsafe fn about<T>(
    envoy: FilterPointer,
    module: FilterModule,
    hook: HookKind,
    otherwise: T,
    act: impl FnOnce(&Open, Filter) -> T,
) -> T {
    // SAFETY: Envoy calls hooks only while both live.
    let (Some(filter), Some(open)) = (unsafe { Filter::new(envoy) }, unsafe { open(module) }) else {
        return otherwise;
    };
    if open.broken.get() {
        return otherwise;
    }
    let run = AssertUnwindSafe(|| {
        panics::of_stream(filter, hook.name());
        act(&open, filter)
    });
    catch_unwind(run).unwrap_or_else(|_| {
        guarded((), || open.recover(filter, hook));
        otherwise
    })
}

/// Runs what a hook does about a configuration.
fn guarded<T>(otherwise: T, act: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or(otherwise)
}

/// The module is loaded; null refuses that.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    guarded(std::ptr::null(), || {
        logger::install();
        panics::of_process("program_init");
        version().as_ptr()
    })
}

/// A configuration is there; null refuses it.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    envoy: ConfigPointer,
    name: EnvoyBuffer,
    document: EnvoyBuffer,
) -> ConfigModule {
    guarded(std::ptr::null(), || {
        // SAFETY: it lives until `destroy` has ended, or until this has refused it.
        let Some(envoy) = (unsafe { abi::Configuration::new(envoy) }) else { return std::ptr::null() };
        // SAFETY: both live until the end of the hook, and are copied.
        let (name, document) = unsafe { (name.bytes(), document.bytes()) };
        let Some(configuration) = Configuration::new(name, document, envoy) else { return std::ptr::null() };
        panics::of_configuration(&configuration, "config_new");
        if Worker::configure(&configuration, envoy).is_none() {
            return std::ptr::null();
        }
        Box::into_raw(Box::new(configuration))
    })
}

/// A configuration goes away, on whichever thread let go of it last.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(module: ConfigModule) {
    if module.is_null() {
        return;
    }
    // SAFETY: `config_new` made it so, and Envoy destroys it once.
    let configuration = unsafe { Box::from_raw(module.cast_mut()) };
    guarded((), || {
        panics::of_configuration(&configuration, "config_destroy");
        configuration.say_goodbye();
    });
    // Whatever came of that, nothing may be asked of Envoy's side afterwards.
    guarded((), || configuration.abandon());
    guarded((), || drop(configuration));
}

/// Somebody woke the main thread.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_scheduled(
    envoy: ConfigPointer,
    module: ConfigModule,
    _event: u64,
) {
    guarded((), || {
        // SAFETY: both live during the hook.
        let (envoy, configuration) = unsafe { (abi::Configuration::new(envoy), configuration(module)) };
        let Some(configuration) = configuration else { return };
        panics::of_configuration(configuration, "config_scheduled");
        if let (Some(envoy), Some(worker)) = (envoy, Worker::of(configuration)) {
            worker.on_configuration_scheduled(envoy);
        }
    });
}

/// A callout of the configuration's was answered, or not.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_http_callout_done(
    envoy: ConfigPointer,
    module: ConfigModule,
    id: u64,
    result: c_int,
    headers: *const EnvoyHeader,
    headers_count: usize,
    chunks: *const EnvoyBuffer,
    chunks_count: usize,
) {
    guarded((), || {
        // SAFETY: both live during the hook.
        let (envoy, configuration) = unsafe { (abi::Configuration::new(envoy), configuration(module)) };
        let Some(configuration) = configuration else { return };
        panics::of_configuration(configuration, "config_http_callout_done");
        let (Some(envoy), Some(worker)) = (envoy, Worker::of(configuration)) else { return };
        if result != SUCCESS {
            return worker.on_configuration_answer(id, None, envoy);
        }
        // SAFETY: both arrays are Envoy's, with so many elements, until the end of the hook.
        let (pairs, chunks) = unsafe { (pairs(headers, headers_count), buffers(chunks, chunks_count)) };
        let mut parts = vec![Part::Headers(&pairs)];
        parts.extend(chunks.into_iter().map(Part::Body));
        worker.on_configuration_answer(id, Some(&parts), envoy);
    });
}

/// A stream begins; null closes it.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_new(
    module: ConfigModule,
    _envoy: FilterPointer,
) -> FilterModule {
    guarded(std::ptr::null(), || {
        // SAFETY: it lives as long as a stream of it does.
        let Some(configuration) = (unsafe { configuration(module) }) else { return std::ptr::null() };
        panics::of_configuration(configuration, "new");
        let worker = Worker::of(configuration);
        worker.map_or(std::ptr::null(), |worker| Rc::into_raw(Rc::new(worker.open())))
    })
}

/// A stream is gone, perhaps while it waited, perhaps from within another of its hooks.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_destroy(module: FilterModule) {
    if module.is_null() {
        return;
    }
    // SAFETY: `new` made it so, and Envoy destroys it once.
    let open = unsafe { Rc::from_raw(module) };
    // First of all: whatever comes of the rest, nobody finds its filter any more.
    guarded((), || open.forget());
    guarded((), || {
        panics::of_configuration(&open.worker.configuration, "destroy");
        open.close();
    });
    guarded((), || drop(open));
}

/// A request's headers are there.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    envoy: FilterPointer,
    module: FilterModule,
    _end: bool,
) -> HeadersStatus {
    // SAFETY: the pointers are the hook's.
    unsafe {
        about(envoy, module, HookKind::RequestHeaders, HeadersStatus::StopAllAndWatermark, |open, filter| {
            match open.on_request_headers(filter) {
                Flow::Continue => HeadersStatus::Continue,
                Flow::Pause => HeadersStatus::StopAllAndWatermark,
            }
        })
    }
}

/// A response's headers are there, the upstream's or a local reply's.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_response_headers(
    envoy: FilterPointer,
    module: FilterModule,
    _end: bool,
) -> HeadersStatus {
    // SAFETY: the pointers are the hook's.
    unsafe {
        about(envoy, module, HookKind::ResponseHeaders, HeadersStatus::Continue, |open, filter| {
            open.on_response_headers(filter);
            HeadersStatus::Continue
        })
    }
}

/// A stream is over, and not logged yet.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_stream_complete(
    envoy: FilterPointer,
    module: FilterModule,
) {
    // SAFETY: the pointers are the hook's.
    unsafe { about(envoy, module, HookKind::Complete, (), Open::on_stream_complete) };
}

/// Somebody woke this stream's worker.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_scheduled(
    envoy: FilterPointer,
    module: FilterModule,
    _event: u64,
) {
    // SAFETY: the pointers are the hook's.
    unsafe { about(envoy, module, HookKind::Scheduled, (), Open::on_scheduled) };
}

/// A callout's response headers are there.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_http_stream_headers(
    envoy: FilterPointer,
    module: FilterModule,
    id: u64,
    headers: *const EnvoyHeader,
    count: usize,
    _end: bool,
) {
    // SAFETY: the pointers are the hook's, the array included.
    unsafe {
        let pairs = pairs(headers, count);
        about(envoy, module, HookKind::Callout, (), |open, _| open.on_part(id, &Part::Headers(&pairs)));
    }
}

/// A part of a callout's response is there.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_http_stream_data(
    envoy: FilterPointer,
    module: FilterModule,
    id: u64,
    chunks: *const EnvoyBuffer,
    count: usize,
    _end: bool,
) {
    // SAFETY: the pointers are the hook's, the array included.
    unsafe {
        let chunks = buffers(chunks, count);
        about(envoy, module, HookKind::Callout, (), |open, _| {
            chunks.into_iter().for_each(|chunk| open.on_part(id, &Part::Body(chunk)));
        });
    }
}

/// A callout's response trailers are there.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_http_stream_trailers(
    envoy: FilterPointer,
    module: FilterModule,
    id: u64,
    trailers: *const EnvoyHeader,
    count: usize,
) {
    // SAFETY: the pointers are the hook's, the array included.
    unsafe {
        let pairs = pairs(trailers, count);
        about(envoy, module, HookKind::Callout, (), |open, _| open.on_part(id, &Part::Trailers(&pairs)));
    }
}

/// A callout's response is complete.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_http_stream_complete(
    envoy: FilterPointer,
    module: FilterModule,
    id: u64,
) {
    // SAFETY: the pointers are the hook's.
    unsafe { about(envoy, module, HookKind::Callout, (), |open, filter| open.on_answer(id, true, filter)) };
}

/// A callout came to nothing.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_http_stream_reset(
    envoy: FilterPointer,
    module: FilterModule,
    id: u64,
    _reason: c_int,
) {
    // SAFETY: the pointers are the hook's.
    unsafe { about(envoy, module, HookKind::Callout, (), |open, filter| open.on_answer(id, false, filter)) };
}

/// What a request carries besides its headers is nobody's business here; but Envoy wants the hooks.
macro_rules! passes_on {
    ($($(#[$doc:meta])* $name:ident($($argument:ty),*);)*) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        extern "C" fn $name(_: FilterPointer, _: FilterModule, $(_: $argument),*) -> c_int {
            CONTINUE
        }
    )*};
}

passes_on! {
    /// A part of a request's body.
    envoy_dynamic_module_on_http_filter_request_body(bool);
    /// A part of a response's body.
    envoy_dynamic_module_on_http_filter_response_body(bool);
    /// A request's trailers.
    envoy_dynamic_module_on_http_filter_request_trailers();
    /// A response's trailers.
    envoy_dynamic_module_on_http_filter_response_trailers();
}

/// A one-shot callout of a stream, of which there are none.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_http_callout_done(
    _: FilterPointer,
    _: FilterModule,
    _: u64,
    _: c_int,
    _: *const EnvoyHeader,
    _: usize,
    _: *const EnvoyBuffer,
    _: usize,
) {
}

/// The client reads too slowly, which the filter does not heed.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(
    _: FilterPointer,
    _: FilterModule,
) {
}

/// The client reads again.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(
    _: FilterPointer,
    _: FilterModule,
) {
}

/// # Safety
/// There have to be so many headers there, filled in by Envoy, for `'a`.
unsafe fn pairs<'a>(headers: *const EnvoyHeader, count: usize) -> Vec<(&'a [u8], &'a [u8])> {
    if headers.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller vouches for the array and for what is in it.
    unsafe { std::slice::from_raw_parts(headers, count).iter().map(|header| header.pair()).collect() }
}

/// # Safety
/// There have to be so many buffers there, filled in by Envoy, for `'a`.
unsafe fn buffers<'a>(chunks: *const EnvoyBuffer, count: usize) -> Vec<&'a [u8]> {
    if chunks.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller vouches for the array and for what is in it.
    unsafe { std::slice::from_raw_parts(chunks, count).iter().map(|chunk| chunk.bytes()).collect() }
}

#[cfg(test)]
mod tests;
