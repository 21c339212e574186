//! The hooks, called in every order that a proxy may call them in.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use meshfilter::host::{HeaderMap, Host, MapType, Status};

use super::*;
use crate::abi::fake::FakeFilter;
use crate::abi::fake::callbacks::{CALLOUTS, COMMITS};

/// A configuration that a proxy has; it is destroyed with the value.
struct Configured(ConfigModule);

impl Configured {
    fn new(document: &str) -> Self {
        Self::named("m", document)
    }

    fn named(name: &str, document: &str) -> Self {
        assert!(!envoy_dynamic_module_on_program_init().is_null());
        let module = configure(name, document);
        assert!(!module.is_null());
        Configured(module)
    }

    /// The main thread is woken.
    fn scheduled(&self) {
        envoy_dynamic_module_on_http_filter_config_scheduled(PROXY.as_ptr().cast(), self.0, 0);
    }

    /// The callouts that the main thread has under way are answered with 200.
    fn answered(&self, body: &str) {
        let (headers, chunks) = ([EnvoyHeader::of(b":status", b"200")], [EnvoyBuffer::of(body.as_bytes())]);
        for id in CALLOUTS.take() {
            envoy_dynamic_module_on_http_filter_config_http_callout_done(
                PROXY.as_ptr().cast(),
                self.0,
                id,
                SUCCESS,
                headers.as_ptr(),
                1,
                chunks.as_ptr(),
                1,
            );
        }
    }
}

/// Any address will do for the proxy's side.
static PROXY: AtomicBool = AtomicBool::new(false);

fn configure(name: &str, document: &str) -> ConfigModule {
    let (name, document) = (EnvoyBuffer::of(name.as_bytes()), EnvoyBuffer::of(document.as_bytes()));
    envoy_dynamic_module_on_http_filter_config_new(PROXY.as_ptr().cast(), name, document)
}

impl Drop for Configured {
    fn drop(&mut self) {
        envoy_dynamic_module_on_http_filter_config_destroy(self.0);
    }
}

/// A stream that a proxy has. It is not destroyed with the value.
struct Streaming {
    filter: Rc<FakeFilter>,
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

    fn with(self, name: &str, value: &str) -> Self {
        self.filter.request.borrow_mut().push((name.into(), value.into()));
        self
    }

    /// A part of the answer to its callout, which is the first that it made.
    fn answered(&self, part: Answered) {
        let (envoy, module) = (self.filter.pointer(), self.module);
        match part {
            Answered::Headers => {
                let headers = [EnvoyHeader::of(b":status", b"200")];
                envoy_dynamic_module_on_http_filter_http_stream_headers(
                    envoy,
                    module,
                    0,
                    headers.as_ptr(),
                    1,
                    false,
                );
            }
            // `overall_code: OK` in gRPC's frame.
            Answered::Data => {
                let chunks = [EnvoyBuffer::of(b"\0\0\0\0\x02"), EnvoyBuffer::of(b"\x08\x01")];
                envoy_dynamic_module_on_http_filter_http_stream_data(
                    envoy,
                    module,
                    0,
                    chunks.as_ptr(),
                    2,
                    false,
                );
            }
            Answered::Trailers => {
                let trailers = [EnvoyHeader::of(b"grpc-status", b"0")];
                envoy_dynamic_module_on_http_filter_http_stream_trailers(
                    envoy,
                    module,
                    0,
                    trailers.as_ptr(),
                    1,
                );
            }
            Answered::Complete => envoy_dynamic_module_on_http_filter_http_stream_complete(envoy, module, 0),
            Answered::Reset => envoy_dynamic_module_on_http_filter_http_stream_reset(envoy, module, 0, 0),
        }
    }

    fn complete(&self) {
        envoy_dynamic_module_on_http_filter_stream_complete(self.filter.pointer(), self.module);
    }

    fn end(self) {
        self.complete();
        envoy_dynamic_module_on_http_filter_destroy(self.module);
    }

    fn reply(&self) -> (u32, String) {
        let reply = self.filter.reply.borrow();
        let (status, _, _, details) = reply.as_ref().unwrap();
        (*status, String::from_utf8(details.clone()).unwrap())
    }
}

/// What comes of a callout, in this order; or in its place that it broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    Headers,
    Data,
    Trailers,
    Complete,
    Reset,
}

const CONTINUES: HeadersStatus = HeadersStatus::Continue;
const STOPS: HeadersStatus = HeadersStatus::StopAllAndWatermark;

const SLOW: &str = r#"{"http": [{"name": "slow", "fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "20ms"}}}], "telemetry": {}}"#;
const VERY_SLOW: &str =
    r#"{"http": [{"name": "slow", "fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "1h"}}}]}"#;
const CLOSED: &str = r#"{"http": [{"name": "closed", "fault": {"abort": {"percentage": {"value": 100}, "httpStatus": 503}}}], "telemetry": {}}"#;

const FLEET: &str = r#"{"rateLimits": [{"global": {"cluster": "rls", "domain": "web", "failureMode": "deny",
    "descriptors": [{"entries": [{"key": "path", "value": {"path": true}}]}]}}], "telemetry": {}}"#;

/// The key sets of all tests lie in one table, by their addresses.
fn remote(keys: &str) -> String {
    let remote = r#"{"authentication": {"jwtRules": [
        {"issuer": "i", "jwksUri": "https://auth.example.com/KEYS", "jwksCluster": "auth"}]}, "telemetry": {}}"#;
    remote.replace("KEYS", keys)
}

const TOKEN: &str = "Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJpIiwiZXhwIjo5OTk5OTk5OTk5fQ.c2ln";

/// With the key of RFC 7515, appendix A.3.
const KEYS: &str = r#"{"keys": [{"kty": "EC", "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

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
    assert!(configure("m", "{").is_null());
    assert!(configure("m", r#"{"nothing": 1}"#).is_null());
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
fn a_stream_may_end_wherever_its_callout_is() {
    use Answered::{Complete, Data, Headers, Reset, Trailers};
    let configured = Configured::new(FLEET);
    let whole = [Headers, Data, Trailers, Complete];
    for parts in [&[][..], &whole[..1], &whole[..2], &whole[..3], &whole, &[Reset], &[Headers, Reset]] {
        let stream = Streaming::new(&configured, "/");
        assert_eq!(stream.headers(), STOPS);
        assert_eq!(*stream.filter.callouts.borrow(), ["rls"]);
        parts.iter().for_each(|part| stream.answered(*part));
        let continued = u32::from(parts == whole);
        assert_eq!(stream.filter.continued.get(), continued, "{parts:?}");
        assert_eq!(stream.filter.reply.borrow().is_some(), parts.last() == Some(&Reset), "{parts:?}");
        // What comes too late is nobody's.
        stream.complete();
        whole.iter().for_each(|part| stream.answered(*part));
        assert_eq!(stream.filter.continued.get(), continued);
        envoy_dynamic_module_on_http_filter_destroy(stream.module);
    }
}

#[test]
fn a_stream_may_end_while_it_waits_for_keys_and_the_keys_may_come_to_nobody() {
    let configured = Configured::new(&remote("waits"));
    let wait = || {
        let stream = Streaming::new(&configured, "/").with("authorization", TOKEN);
        assert_eq!(stream.headers(), STOPS);
        assert!(stream.filter.reply.borrow().is_none());
        stream
    };
    wait().end();
    let waits = wait();
    let patience = Instant::now();
    while waits.filter.reply.borrow().is_none() {
        assert!(patience.elapsed() < Duration::from_secs(60), "nobody tells it of the keys");
        configured.scheduled();
        configured.answered(KEYS);
        waits.scheduled();
    }
    assert_eq!(waits.reply().0, 401);
    waits.end();
    drop(configured);
}

#[test]
fn a_configuration_may_end_on_another_thread_while_its_successor_has_streams() {
    let (old, new) = (Configured::new(VERY_SLOW), Configured::new(VERY_SLOW));
    let (under_old, under_new) = (Streaming::new(&old, "/"), Streaming::new(&new, "/"));
    assert_eq!((under_old.headers(), under_new.headers()), (STOPS, STOPS));
    under_old.end();
    let old = std::mem::ManuallyDrop::new(old).0.expose_provenance();
    thread::spawn(move || drop(Configured(std::ptr::with_exposed_provenance(old)))).join().unwrap();
    under_new.scheduled();
    under_new.end();
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
    let module = configured.0.expose_provenance();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let configured =
                    std::mem::ManuallyDrop::new(Configured(std::ptr::with_exposed_provenance(module)));
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
    configured.scheduled();
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
mod panics {
    use super::*;

    const HEADER: &str = "x-meshfilter-test-panic";

    #[test]
    fn in_any_hook_of_a_stream_answers_it_with_500() {
        let configured = Configured::new("{}");
        for hook in ["request_headers", "response_headers", "stream_complete", "scheduled", "callout"] {
            let stream = Streaming::new(&configured, "/").with(HEADER, hook);
            let first = stream.headers();
            assert_eq!(first, if hook == "request_headers" { STOPS } else { CONTINUES });
            stream.response();
            stream.scheduled();
            stream.answered(Answered::Complete);
            if hook != "stream_complete" {
                assert_eq!(stream.reply(), (500, "meshfilter_internal_error".to_owned()), "{hook}");
            }
            // What comes afterwards is not even tried.
            assert_eq!(stream.headers(), if hook == "stream_complete" { CONTINUES } else { STOPS });
            stream.end();
        }
    }

    #[test]
    fn about_a_request_in_the_hook_of_another_answers_that_one_and_the_others_go_on() {
        let configured = Configured::new(SLOW);
        let streams: Vec<Streaming> = ["", "another_hook", "", "another_hook", ""]
            .map(|place| Streaming::new(&configured, "/").with(HEADER, place))
            .into();
        for stream in &streams {
            assert_eq!(stream.headers(), STOPS);
        }
        let patience = Instant::now();
        let open = |stream: &&Streaming| {
            stream.filter.continued.get() == 0 && stream.filter.reply.borrow().is_none()
        };
        while streams.iter().any(|stream| open(&stream)) {
            assert!(patience.elapsed() < Duration::from_secs(60), "they do not go on");
            streams[0].scheduled();
        }
        for (place, stream) in streams.into_iter().enumerate() {
            if place % 2 == 1 {
                assert_eq!(stream.reply(), (500, "meshfilter_internal_error".to_owned()));
            } else {
                assert_eq!((stream.filter.continued.get(), stream.filter.reply.take()), (1, None));
            }
            stream.end();
        }
    }

    #[test]
    fn in_the_hooks_of_a_configuration_leaves_the_others_alone() {
        assert!(configure("panics:config_new", "{}").is_null());
        let others = Configured::new(VERY_SLOW);
        let waits = Streaming::new(&others, "/");
        assert_eq!(waits.headers(), STOPS);

        let configured = Configured::named("panics:new", "{}");
        let filter = FakeFilter::get("/");
        assert!(envoy_dynamic_module_on_http_filter_new(configured.0, filter.pointer()).is_null());
        drop(configured);

        for place in ["config_scheduled", "config_http_callout_done", "config_destroy", "destroy"] {
            let configured = Configured::named(&format!("panics:{place}"), &remote(place));
            let stream = Streaming::new(&configured, "/").with("authorization", TOKEN);
            assert_eq!(stream.headers(), STOPS);
            configured.scheduled();
            configured.answered(KEYS);
            stream.end();
            // Nobody finds what is gone.
            let next = Streaming::new(&configured, "/");
            next.headers();
            next.scheduled();
            next.end();
            drop(configured);
            drop(Configured::named(&format!("panics:{place}"), &remote(place)));
        }
        waits.scheduled();
        waits.end();
    }
}

#[test]
fn headers_that_are_lent_cannot_be_edited() {
    let configured = Configured::new("{}");
    // SAFETY: the configuration and the filter live until the end.
    let configuration = unsafe { configuration(configured.0) }.unwrap();
    let filter = FakeFilter::get("/one");
    let envoy = unsafe { Filter::new(filter.pointer()) };
    let worker = Worker::of(configuration).unwrap();
    let host = &worker.host;
    let _hook = host.enter(1, envoy);
    let map = MapType::HttpRequestHeaders;
    let edits = || {
        [
            host.set_header(map, ":path", b"/two"),
            host.add_header(map, "x-one", b"1"),
            host.remove_header(map, ":scheme"),
        ]
    };
    let mut looks = 0;
    let mut look = |headers: HeaderMap<'_>| {
        assert_eq!(edits(), [Err(Status::BadArgument); 3]);
        // Nor when it is lent once more, and that is over.
        host.lend_header_map(map, &mut |again| assert_eq!(again.get(b":path"), Some(&b"/one"[..]))).unwrap();
        assert_eq!(edits(), [Err(Status::BadArgument); 3]);
        assert_eq!(headers.get(b":path"), Some(&b"/one"[..]));
        looks += 1;
    };
    host.lend_header_map(map, &mut look).unwrap();
    assert_eq!(looks, 1);
    assert_eq!(edits(), [Ok(()); 3]);
    // A panic ends the loan, too.
    let panics = AssertUnwindSafe(|| host.lend_header_map(map, &mut |_| panic!("a test wants a panic")));
    assert!(catch_unwind(panics).is_err());
    assert_eq!(edits(), [Ok(()); 3]);
}
