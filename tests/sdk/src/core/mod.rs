//! The same core behind the SDK's contexts and calls. Nobody deploys it: the SDK has no response details, and a call that
//! the proxy refuses ends the VM.

mod host;

use std::rc::Rc;

use host::Sdk;
use meshfilter::filter::{Contexts, Flow};
use meshfilter::host::allocator::Allocator;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

/// As the module has it, so that what differs is the SDK.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator::new();

pub fn main() {
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|root| {
        VM.with(|vm| vm.contexts.create(root, 0));
        Box::new(Root(root))
    });
}

thread_local! {
    static VM: Vm = Vm::new();
}

struct Vm {
    host: Rc<Sdk>,
    contexts: Contexts,
}

impl Vm {
    fn new() -> Self {
        let host = Rc::new(Sdk::default());
        Vm { contexts: Contexts::new(host.clone()), host }
    }
}

fn call<T>(callback: impl FnOnce(&Contexts) -> T) -> T {
    VM.with(|vm| {
        vm.host.begin();
        callback(&vm.contexts)
    })
}

struct Root(u32);

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, _headers: usize, _body: usize, _trailers: usize) {
        call(|contexts| contexts.on_http_call_response(self.0, token));
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        call(|contexts| contexts.on_configure(self.0))
    }

    fn on_tick(&mut self) {
        call(|contexts| contexts.on_tick(self.0));
    }

    fn create_http_context(&self, stream: u32) -> Option<Box<dyn HttpContext>> {
        call(|contexts| contexts.create(stream, self.0));
        Some(Box::new(Stream { root: self.0, stream }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    root: u32,
    stream: u32,
}

impl Context for Stream {
    // The SDK gives a callout's answer to the context that was active when it was sent.
    fn on_http_call_response(&mut self, token: u32, _headers: usize, _body: usize, _trailers: usize) {
        call(|contexts| contexts.on_http_call_response(self.root, token));
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        match call(|contexts| contexts.on_request_headers(self.stream)) {
            Flow::Continue => Action::Continue,
            Flow::Pause => Action::Pause,
        }
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        call(|contexts| contexts.on_response_headers(self.stream));
        Action::Continue
    }

    fn on_log(&mut self) {
        call(|contexts| contexts.on_log(self.stream));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        call(|contexts| contexts.delete(self.stream));
    }
}
