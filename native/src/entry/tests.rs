//! The hooks, called in every order that a proxy may call them in.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::abi::fake::FakeFilter;
use crate::abi::fake::callbacks::COMMITS;

/// A configuration that a proxy has; it is destroyed with the value.
struct Configured(ConfigModule);

impl Configured {
    fn new(document: &str) -> Self {
        assert!(!envoy_dynamic_module_on_program_init().is_null());
        let module = configure(document);
        assert!(!module.is_null());
        Configured(module)
    }
}

/// Any address will do for the proxy's side.
static PROXY: AtomicBool = AtomicBool::new(false);

fn configure(document: &str) -> ConfigModule {
    let (name, document) = (EnvoyBuffer::of(b"m"), EnvoyBuffer::of(document.as_bytes()));
    envoy_dynamic_module_on_http_filter_config_new(PROXY.as_ptr().cast(), name, document)
}

impl Drop for Configured {
    fn drop(&mut self) {
        envoy_dynamic_module_on_http_filter_config_destroy(self.0);
    }
}

/// A stream that a proxy has. It is not destroyed with the value.
struct Streaming {
    filter: Box<FakeFilter>,
    module: FilterModule,
}

impl Streaming {
    fn new(configured: &Configured, path: &str) -> Self {
        let filter = FakeFilter::get(path);
        let module = envoy_dynamic_module_on_http_filter_new(configured.0, filter.pointer());
        assert!(!module.is_null());
        Streaming { filter, module }
    }

    fn headers(&self) -> HeadersStatus {
        envoy_dynamic_module_on_http_filter_request_headers(self.filter.pointer(), self.module, true)
    }

    fn response(&self) -> HeadersStatus {
        envoy_dynamic_module_on_http_filter_response_headers(self.filter.pointer(), self.module, true)
    }

    fn scheduled(&self) {
        envoy_dynamic_module_on_http_filter_scheduled(self.filter.pointer(), self.module, 0);
    }

    fn end(self) {
        envoy_dynamic_module_on_http_filter_stream_complete(self.filter.pointer(), self.module);
        envoy_dynamic_module_on_http_filter_destroy(self.module);
    }

    fn reply(&self) -> (u32, String) {
        let reply = self.filter.reply.borrow();
        let (status, _, _, details) = reply.as_ref().unwrap();
        (*status, String::from_utf8(details.clone()).unwrap())
    }
}

const CONTINUES: HeadersStatus = HeadersStatus::Continue;
const STOPS: HeadersStatus = HeadersStatus::StopAllAndWatermark;

const SLOW: &str = r#"{"http": [{"name": "slow", "fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "20ms"}}}], "telemetry": {}}"#;
const VERY_SLOW: &str =
    r#"{"http": [{"name": "slow", "fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "1h"}}}]}"#;
const CLOSED: &str = r#"{"http": [{"name": "closed", "fault": {"abort": {"percentage": {"value": 100}, "httpStatus": 503}}}], "telemetry": {}}"#;

#[test]
fn a_document_that_asks_nothing_still_takes_away_what_only_the_filter_may_set() {
    let configured = Configured::new("{}");
    for (name, stays) in [
        ("x-meshfilter-cluster", false),
        ("x_meshfilter_cluster", false),
        ("x-meshfilter-clustex", true),
        ("x-other", true),
    ] {
        let stream = Streaming::new(&configured, "/");
        stream.filter.request.borrow_mut().push((name.into(), "a".into()));
        assert_eq!(stream.headers(), CONTINUES);
        let is_there = |(known, _): &(Vec<u8>, Vec<u8>)| known == name.as_bytes();
        assert_eq!(stream.filter.request.borrow().iter().any(is_there), stays, "{name}");
        stream.end();
    }
}

#[test]
fn a_bad_document_is_refused() {
    assert!(configure("{").is_null());
    assert!(configure(r#"{"nothing": 1}"#).is_null());
}

#[test]
fn an_empty_document_lets_everything_pass() {
    let configured = Configured::new("{}");
    let stream = Streaming::new(&configured, "/");
    assert_eq!(stream.headers(), CONTINUES);
    assert_eq!(stream.response(), CONTINUES);
    assert_eq!(stream.filter.routes_cleared.get(), 0);
    stream.end();
}

#[test]
fn a_reply_may_end_its_stream_before_it_comes_back() {
    let configured = Configured::new(CLOSED);
    let stream = Streaming::new(&configured, "/");
    let (pointer, module) = (stream.filter.pointer(), stream.module);
    *stream.filter.on_end.borrow_mut() = Some(Box::new(move || {
        envoy_dynamic_module_on_http_filter_response_headers(pointer, module, true);
        envoy_dynamic_module_on_http_filter_stream_complete(pointer, module);
        envoy_dynamic_module_on_http_filter_destroy(module);
    }));
    assert_eq!(stream.headers(), STOPS);
    assert_eq!(stream.reply().0, 503);
}

#[test]
fn a_delayed_request_is_woken_and_goes_on() {
    let configured = Configured::new(SLOW);
    let stream = Streaming::new(&configured, "/");
    let before = COMMITS.load(Ordering::SeqCst);
    assert_eq!(stream.headers(), STOPS);
    let patience = Instant::now();
    while COMMITS.load(Ordering::SeqCst) == before {
        assert!(patience.elapsed() < Duration::from_secs(60), "nobody woke it");
        thread::yield_now();
    }
    while stream.filter.continued.get() == 0 {
        assert!(patience.elapsed() < Duration::from_secs(60), "it does not go on");
        stream.scheduled();
    }
    stream.scheduled();
    assert_eq!(stream.filter.continued.get(), 1);
    stream.end();
}

#[test]
fn streams_may_end_while_they_wait_and_so_may_their_configuration() {
    let configured = Configured::new(VERY_SLOW);
    let streams: Vec<Streaming> = (0..3).map(|_| Streaming::new(&configured, "/")).collect();
    for stream in &streams {
        assert_eq!(stream.headers(), STOPS);
    }
    for stream in streams {
        stream.scheduled();
        assert_eq!(stream.filter.continued.get(), 0);
        stream.end();
    }
    drop(configured);
    // The next configuration drops what the last one left on this thread.
    let next = Configured::new("{}");
    let stream = Streaming::new(&next, "/");
    assert_eq!(stream.headers(), CONTINUES);
    stream.end();
}

#[test]
fn a_request_that_goes_on_may_end_another_that_is_due() {
    let configured = Configured::new(SLOW);
    let streams: Vec<Streaming> = (0..2).map(|_| Streaming::new(&configured, "/")).collect();
    for stream in &streams {
        assert_eq!(stream.headers(), STOPS);
    }
    for (stream, other) in [(0, 1), (1, 0)] {
        let other = streams[other].module;
        *streams[stream].filter.on_end.borrow_mut() =
            Some(Box::new(move || envoy_dynamic_module_on_http_filter_destroy(other)));
    }
    let patience = Instant::now();
    let continued = || streams.iter().map(|stream| stream.filter.continued.get()).sum::<u32>();
    // A share of it, so that this hook is one of a stream that is there.
    let own = unsafe { open(streams[0].module) }.unwrap();
    while continued() == 0 {
        assert!(patience.elapsed() < Duration::from_secs(60), "none goes on");
        streams[0].scheduled();
    }
    assert_eq!(continued(), 1, "the other one was gone");
    let survivor = usize::from(streams[0].filter.continued.get() == 0);
    assert_eq!(Rc::strong_count(&own), if survivor == 0 { 2 } else { 1 });
    envoy_dynamic_module_on_http_filter_destroy(streams[survivor].module);
}

#[test]
fn workers_have_policies_of_their_own() {
    let configured = Configured::new(CLOSED);
    let module = configured.0 as usize;
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let configured = std::mem::ManuallyDrop::new(Configured(module as ConfigModule));
                for _ in 0..10 {
                    let stream = Streaming::new(&configured, "/");
                    assert_eq!(stream.headers(), STOPS);
                    assert_eq!(stream.reply(), (503, "fault_filter_abort".to_owned()));
                    stream.end();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    envoy_dynamic_module_on_http_filter_config_scheduled(PROXY.as_ptr().cast(), configured.0, 0);
}

#[test]
fn hooks_without_a_stream_do_nothing() {
    let filter = FakeFilter::get("/");
    let nobody = std::ptr::null();
    assert_eq!(envoy_dynamic_module_on_http_filter_request_headers(filter.pointer(), nobody, true), STOPS);
    assert_eq!(
        envoy_dynamic_module_on_http_filter_response_headers(filter.pointer(), nobody, true),
        CONTINUES
    );
    envoy_dynamic_module_on_http_filter_stream_complete(filter.pointer(), nobody);
    envoy_dynamic_module_on_http_filter_destroy(nobody);
    envoy_dynamic_module_on_http_filter_config_destroy(std::ptr::null());
    assert!(filter.reply.borrow().is_none());
}

#[cfg(feature = "panics")]
#[test]
fn a_panic_in_any_hook_is_caught() {
    let configured = Configured::new("{}");
    for hook in ["request_headers", "response_headers", "stream_complete", "scheduled", "callout"] {
        let stream = Streaming::new(&configured, "/");
        let name = b"x-meshfilter-test-panic".to_vec();
        stream.filter.request.borrow_mut().push((name, hook.into()));
        let first = stream.headers();
        assert_eq!(first, if hook == "request_headers" { STOPS } else { CONTINUES });
        stream.response();
        stream.scheduled();
        envoy_dynamic_module_on_http_filter_http_stream_complete(stream.filter.pointer(), stream.module, 1);
        if hook != "stream_complete" {
            assert_eq!(stream.reply(), (500, "meshfilter_internal_error".to_owned()), "{hook}");
        }
        // What comes afterwards is not even tried.
        assert_eq!(stream.headers(), if hook == "stream_complete" { CONTINUES } else { STOPS });
        stream.end();
    }
}
