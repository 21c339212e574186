//! The callbacks of the proxy-wasm ABI 0.2.1. A callback that a module does not export is never called, so what nothing needs (bodies,
//! trailers, TCP, queues, gRPC) is not here: see `tests/module-interface.txt`.

use std::rc::Rc;

use crate::filter::{Contexts, Flow};
use crate::host::proxy_wasm::{Envoy, logger, room_for};
use crate::host::{Allocator, Host};
use crate::version;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator::new();

thread_local! {
    /// Of this VM, which has one thread.
    static VM: Vm = Vm::new();
}

struct Vm {
    envoy: Rc<Envoy>,
    contexts: Contexts,
}

impl Vm {
    fn new() -> Self {
        let envoy = Rc::new(Envoy::default());
        Vm { contexts: Contexts::new(envoy.clone()), envoy }
    }
}

/// Runs a callback.
fn call<T>(callback: impl FnOnce(&Vm) -> T) -> T {
    VM.with(|vm| {
        vm.envoy.begin();
        callback(vm)
    })
}

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// The module's entry. Only logging and WASI are allowed here.
#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    // SAFETY: the host calls this once, before everything else.
    unsafe { __wasm_call_ctors() };
    logger::install();
}

/// Says by its name which version of the ABI this is.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Room for what a hostcall gives; `host::proxy_wasm` takes it over.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    room_for(size)
}

/// A new root where `root` is 0, else a new stream of that root.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, root: u32) {
    call(|vm| vm.contexts.create(context, root));
}

/// The configuration is there; 0 refuses it.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(root: u32, _size: usize) -> u32 {
    call(|vm| {
        // And with it the log's level.
        vm.envoy.now();
        log::info!("{}", version::LINE);
        vm.contexts.on_configure(root)
    })
    .into()
}

/// The time that was asked for has come.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(root: u32) {
    call(|vm| vm.contexts.on_tick(root));
}

/// A callout was answered.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(
    root: u32,
    token: u32,
    _headers: usize,
    _body: usize,
    _trailers: usize,
) {
    call(|vm| vm.contexts.on_http_call_response(root, token));
}

/// A request's headers are there.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(stream: u32, _count: usize, _end_of_stream: u32) -> u32 {
    call(|vm| vm.contexts.on_request_headers(stream)) as u32
}

/// A response's headers are there.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(stream: u32, _count: usize, _end_of_stream: u32) -> u32 {
    call(|vm| vm.contexts.on_response_headers(stream));
    Flow::Continue as u32
}

/// A stream is over.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(stream: u32) {
    call(|vm| vm.contexts.on_log(stream));
}

/// A stream or a root is gone.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(context: u32) {
    call(|vm| vm.contexts.delete(context));
}
