//! A program that stands in for Envoy before the native module: it has the callbacks of the ABI, and calls the hooks as
//! Envoy does for one request after another. Nothing happens in between, so what is counted while it runs is the module's.
//!
//! `main.rs` compiles it: `proxy MODULE DOCUMENT REQUESTS COUNT`. REQUESTS has a header on each line, name and value with a tab
//! between, and an empty line after each request; they come round again until there were COUNT.

use std::ffi::{CString, OsString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStringExt;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Buffer(*const u8, usize);

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Header(Buffer, Buffer);

/// What a hook gets in place of Envoy's filter.
#[derive(Default)]
struct Filter {
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    answered: Option<u32>,
}

impl Buffer {
    fn of(bytes: &[u8]) -> Self {
        Buffer(bytes.as_ptr(), bytes.len())
    }

    fn bytes<'a>(self) -> &'a [u8] {
        if self.1 == 0 { &[] } else { unsafe { std::slice::from_raw_parts(self.0, self.1) } }
    }
}

fn filter<'a>(pointer: *mut c_void) -> &'a mut Filter {
    unsafe { &mut *pointer.cast() }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_log(_: c_int, message: Buffer) {
    eprintln!("{}", String::from_utf8_lossy(message.bytes()));
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_log_enabled(level: c_int) -> bool {
    level >= 3
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_get_headers_size(pointer: *mut c_void, _: c_int) -> usize {
    filter(pointer).headers.len()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_get_headers(
    pointer: *mut c_void,
    _: c_int,
    headers: *mut Header,
) -> bool {
    for (place, (name, value)) in filter(pointer).headers.iter().enumerate() {
        unsafe { headers.add(place).write(Header(Buffer::of(name), Buffer::of(value))) };
    }
    true
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_add_header(
    pointer: *mut c_void,
    _: c_int,
    name: Buffer,
    value: Buffer,
) -> bool {
    filter(pointer).headers.push((name.bytes().to_vec(), value.bytes().to_vec()));
    true
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_set_header(
    pointer: *mut c_void,
    map: c_int,
    name: Buffer,
    value: Buffer,
) -> bool {
    filter(pointer).headers.retain(|(known, _)| known != name.bytes());
    value.1 == 0 || envoy_dynamic_module_callback_http_add_header(pointer, map, name, value)
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_send_response(
    pointer: *mut c_void,
    status: u32,
    _: *const c_void,
    _: usize,
    _: Buffer,
    _: Buffer,
) {
    filter(pointer).answered = Some(status);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_clear_route_cache(_: *mut c_void) {}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_set_filter_state_bytes(
    _: *mut c_void,
    _: Buffer,
    _: Buffer,
) -> bool {
    true
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_config_scheduler_new(_: *mut c_void) -> *mut c_void {
    std::ptr::dangling_mut::<u8>().cast()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_config_scheduler_commit(_: *mut c_void, _: u64) {}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_config_scheduler_delete(_: *mut c_void) {}

macro_rules! metrics {
    (define: $($define:ident),*; use: $($use:ident),*) => {
        $(#[unsafe(no_mangle)]
        extern "C" fn $define(_: *mut c_void, _: Buffer, _: *const Buffer, _: usize, id: *mut usize) -> c_int {
            unsafe { id.write(1) };
            0
        })*
        $(#[unsafe(no_mangle)]
        extern "C" fn $use(_: *mut c_void, _: usize, _: *const Buffer, _: usize, _: u64) -> c_int {
            0
        })*
    };
}

metrics! {
    define:
        envoy_dynamic_module_callback_http_filter_config_define_counter,
        envoy_dynamic_module_callback_http_filter_config_define_gauge,
        envoy_dynamic_module_callback_http_filter_config_define_histogram;
    use:
        envoy_dynamic_module_callback_http_filter_config_increment_counter,
        envoy_dynamic_module_callback_http_filter_config_set_gauge,
        envoy_dynamic_module_callback_http_filter_config_increment_gauge,
        envoy_dynamic_module_callback_http_filter_config_decrement_gauge
}

/// Those that no request here leads to: the module only wants to find them.
macro_rules! unused {
    ($($name:ident),*) => {
        $(#[unsafe(no_mangle)]
        extern "C" fn $name() {
            panic!("{} was called", stringify!($name));
        })*
    };
}

unused! {
    envoy_dynamic_module_callback_http_filter_config_http_callout,
    envoy_dynamic_module_callback_http_filter_continue_decoding,
    envoy_dynamic_module_callback_http_filter_decrement_gauge,
    envoy_dynamic_module_callback_http_filter_get_attribute_bool,
    envoy_dynamic_module_callback_http_filter_get_attribute_int,
    envoy_dynamic_module_callback_http_filter_get_attribute_string,
    envoy_dynamic_module_callback_http_filter_increment_counter,
    envoy_dynamic_module_callback_http_filter_increment_gauge,
    envoy_dynamic_module_callback_http_filter_record_histogram_value,
    envoy_dynamic_module_callback_http_filter_reset_stream,
    envoy_dynamic_module_callback_http_filter_scheduler_commit,
    envoy_dynamic_module_callback_http_filter_scheduler_delete,
    envoy_dynamic_module_callback_http_filter_scheduler_new,
    envoy_dynamic_module_callback_http_filter_set_gauge,
    envoy_dynamic_module_callback_http_filter_start_http_stream,
    envoy_dynamic_module_callback_http_get_cluster_name,
    envoy_dynamic_module_callback_http_get_filter_state_bytes,
    envoy_dynamic_module_callback_http_get_header
}

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

const RTLD_NOW: c_int = 2;

struct Library(*mut c_void);

impl Library {
    fn open(path: OsString) -> Self {
        let path = CString::new(path.into_vec()).unwrap();
        let library = unsafe { dlopen(path.as_ptr(), RTLD_NOW) };
        if library.is_null() {
            panic!("{}", unsafe { std::ffi::CStr::from_ptr(dlerror()) }.to_string_lossy());
        }
        Library(library)
    }

    /// A hook, by the end of its name.
    ///
    /// # Safety
    /// `F` has to be the type that the ABI says.
    unsafe fn hook<F>(&self, name: &str) -> F {
        let name = CString::new(format!("envoy_dynamic_module_on_{name}")).unwrap();
        let symbol = unsafe { dlsym(self.0, name.as_ptr()) };
        assert!(!symbol.is_null(), "the module has no {name:?}");
        unsafe { std::mem::transmute_copy(&symbol) }
    }
}

type Hook<T> = unsafe extern "C" fn(*mut c_void, *mut c_void, bool) -> T;

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [module, document, requests, count] = &arguments[..] else { panic!("four arguments are wanted") };
    let document = std::fs::read(document).unwrap();
    let requests = std::fs::read_to_string(requests).unwrap();
    let pair = |line: &str| line.split_once('\t').map(|(name, value)| (name.into(), value.into()));
    let requests: Vec<Vec<(Vec<u8>, Vec<u8>)>> = requests
        .split_terminator("\n\n")
        .map(|request| request.lines().map(|line| pair(line).unwrap()).collect())
        .collect();
    let count: usize = count.to_str().unwrap().parse().unwrap();

    let library = Library::open(module.clone());
    // SAFETY: the types are those of the ABI; so is every call below.
    unsafe {
        let init: unsafe extern "C" fn() -> *const c_char = library.hook("program_init");
        assert!(!init().is_null());
        let new_config: unsafe extern "C" fn(*mut c_void, Buffer, Buffer) -> *mut c_void =
            library.hook("http_filter_config_new");
        let config =
            new_config(std::ptr::dangling_mut::<u8>().cast(), Buffer::of(b"cost"), Buffer::of(&document));
        assert!(!config.is_null(), "the module refuses the document");
        let new: unsafe extern "C" fn(*mut c_void, *mut c_void) -> *mut c_void =
            library.hook("http_filter_new");
        let request_headers: Hook<c_int> = library.hook("http_filter_request_headers");
        let response_headers: Hook<c_int> = library.hook("http_filter_response_headers");
        let complete: unsafe extern "C" fn(*mut c_void, *mut c_void) =
            library.hook("http_filter_stream_complete");
        let destroy: unsafe extern "C" fn(*mut c_void) = library.hook("http_filter_destroy");
        for request in requests.iter().cycle().take(count) {
            let mut filter = Filter { headers: request.clone(), answered: None };
            let pointer: *mut c_void = (&raw mut filter).cast();
            let stream = new(config, pointer);
            assert!(!stream.is_null());
            let status = request_headers(pointer, stream, true);
            assert_eq!((status, filter.answered), (0, None), "the request does not go on");
            assert_eq!(response_headers(pointer, stream, true), 0);
            complete(pointer, stream);
            destroy(stream);
        }
    }
    println!("{count} requests went on");
}
