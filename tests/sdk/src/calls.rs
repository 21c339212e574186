//! Every call that meshfilter makes, so that the module imports them all; and one that a proxy refuses.

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, LogLevel, MapType, MetricType};

pub fn main() {
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root));
}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _stream: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream;

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        // No response is there yet: a status that the wrapper does not expect.
        if self.get_http_request_header("x-refused").is_some() {
            self.set_http_response_header("x-early", Some("yes"));
        }
        Action::Continue
    }
}

/// Nobody calls it; it is exported, so what it imports stays.
#[unsafe(no_mangle)]
extern "C" fn every_call() {
    let map = MapType::HttpRequestHeaders;
    let _ = hostcalls::log(LogLevel::Info, "");
    let _ = hostcalls::get_log_level();
    let _ = hostcalls::set_tick_period(Duration::ZERO);
    let _ = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, 0);
    let _ = hostcalls::get_map_bytes(map);
    let _ = hostcalls::remove_map_value(map, "");
    let _ = hostcalls::set_map_value_bytes(map, "", Some(b""));
    let _ = hostcalls::add_map_value_bytes(map, "", b"");
    let _ = hostcalls::get_property(Vec::new());
    let _ = hostcalls::set_property(Vec::new(), None);
    let _ = hostcalls::get_shared_data("");
    let _ = hostcalls::set_shared_data("", None, None);
    let _ = hostcalls::define_metric(MetricType::Counter, "");
    let _ = hostcalls::increment_metric(0, 0);
    let _ = hostcalls::record_metric(0, 0);
    let _ = hostcalls::send_http_response(200, Vec::new(), None);
    let _ = hostcalls::resume_http_request();
    let _ = hostcalls::reset_http_request();
    let _ = hostcalls::set_effective_context(0);
    let _ = hostcalls::dispatch_http_call("", Vec::new(), None, Vec::new(), Duration::ZERO);
    let _ = hostcalls::call_foreign_function("", None);
}
