//! The SDK's contexts, as thin as they can be: each callback is one call.

use std::cell::RefCell;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

use super::{Flow, Root, Stream};
use crate::host::envoy::{Envoy, follow_log_level};

/// Tells the SDK how to make a root context.
pub fn register() {
    proxy_wasm::set_root_context(|context| Box::new(RootShell(Root::new(Rc::new(Envoy), context))));
}

struct RootShell(Rc<Root>);

impl Context for RootShell {
    fn on_http_call_response(&mut self, token: u32, _headers: usize, _body: usize, _trailers: usize) {
        self.0.on_http_call_response(token);
    }
}

impl RootContext for RootShell {
    fn on_configure(&mut self, _size: usize) -> bool {
        follow_log_level();
        self.0.on_configure()
    }

    fn on_tick(&mut self) {
        follow_log_level();
        self.0.on_tick();
    }

    fn create_http_context(&self, context: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(StreamShell { root: self.0.clone(), stream: self.0.open(context) }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct StreamShell {
    root: Rc<Root>,
    stream: Rc<RefCell<Stream>>,
}

impl Context for StreamShell {}

impl HttpContext for StreamShell {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        follow_log_level();
        match self.root.on_request_headers(&self.stream) {
            Flow::Continue => Action::Continue,
            Flow::Pause => Action::Pause,
        }
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        self.root.on_response_headers(&self.stream);
        Action::Continue
    }

    fn on_log(&mut self) {
        self.root.on_log(&self.stream);
    }
}

impl Drop for StreamShell {
    fn drop(&mut self) {
        self.root.close(&self.stream);
    }
}
