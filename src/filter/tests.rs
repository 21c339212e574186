use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::host::fake::{self, Fake};
use crate::host::{BufferType, Host};

/// A root that has accepted a document.
fn configured(host: &Rc<Fake>, document: &str) -> Rc<Root> {
    host.set_buffer(BufferType::PluginConfiguration, document.as_bytes().to_vec());
    let root = Root::new(host.clone(), 1);
    assert!(root.on_configure(), "{document}");
    root
}

fn headers(pairs: &[(&str, &str)]) -> fake::Stream {
    let pseudo = [(":method", "GET"), (":path", "/"), (":authority", "example.com"), (":scheme", "http")];
    fake::Stream { request: pseudo.iter().chain(pairs).copied().collect(), ..fake::Stream::default() }
}

#[test]
fn the_empty_document_reads_the_headers_once_and_only_takes_away_what_is_the_filters() {
    let host = Rc::new(Fake::new());
    let root = configured(&host, "{}");
    host.open_stream(2, headers(&[("x-meshfilter-cluster", "forged"), ("a", "b")]));
    host.take_hostcalls();
    let stream = root.open(2);
    assert_eq!(root.on_request_headers(&stream), Flow::Continue);
    root.on_response_headers(&stream);
    root.on_log(&stream);
    root.close(&stream);
    let calls: Vec<_> = host.take_hostcalls().into_iter().collect();
    assert_eq!(calls, [("header_map", 1), ("now", 1), ("remove_header", 1)]);
    let left = host.with_stream(2, |stream| stream.request.clone()).unwrap();
    assert_eq!((left.get(b"x-meshfilter-cluster"), left.get(b"a")), (None, Some(b"b".as_slice())));
}

#[test]
fn a_bad_document_is_refused_and_the_good_one_stays_in_force() {
    let host = Rc::new(Fake::new());
    let root = configured(&host, r#"{"http": [{"directResponse": {"status": 204}}]}"#);
    host.set_buffer(BufferType::PluginConfiguration, br#"{"http": 7}"#.to_vec());
    assert!(!root.on_configure());
    host.open_stream(2, headers(&[]));
    assert_eq!(root.on_request_headers(&root.open(2)), Flow::Pause);
    assert_eq!(host.with_stream(2, |stream| stream.reply.clone()).flatten().unwrap().status, 204);
}

#[test]
fn a_request_that_cannot_be_read_is_refused_as_our_own_fault() {
    let host = Rc::new(Fake::new());
    let root = configured(&host, r#"{"http": [{"directResponse": {"status": 204}}]}"#);
    // No stream is open, so the proxy gives no headers.
    let stream = root.open(9);
    assert_eq!(root.on_request_headers(&stream), Flow::Pause);
    // Nothing was let through, and the next request works.
    host.open_stream(10, headers(&[]));
    assert_eq!(root.on_request_headers(&root.open(10)), Flow::Pause);
}

const DELAY: &str = r#"{"http": [
    {"match": [{"headers": {"slow": {"exact": "1"}}}], "fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "50ms"}}},
    {"match": [{"headers": {"slow": {"exact": "2"}}}], "fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "20ms"}}}
]}"#;

fn resumed(host: &Fake, id: u32) -> Option<bool> {
    host.with_stream(id, |stream| stream.resumed)
}

#[test]
fn delayed_requests_share_one_timer_that_runs_only_while_one_waits() {
    let host = Rc::new(Fake::new());
    let root = configured(&host, DELAY);
    assert_eq!(host.tick_period(), Duration::ZERO);
    let open = |id, slow| {
        host.open_stream(id, headers(&[("slow", slow)]));
        let stream = root.open(id);
        assert_eq!(root.on_request_headers(&stream), Flow::Pause);
        stream
    };
    let _first = open(2, "1");
    assert_eq!(host.tick_period(), Duration::from_millis(50));
    host.advance(Duration::from_millis(10));
    let _second = open(3, "2");
    assert_eq!(host.tick_period(), Duration::from_millis(20), "the earlier deadline counts");
    host.advance(Duration::from_millis(20));
    root.on_tick();
    assert_eq!((resumed(&host, 2), resumed(&host, 3)), (Some(false), Some(true)));
    assert_eq!(host.tick_period(), Duration::from_millis(20), "the rest of the first one's time");
    host.advance(Duration::from_millis(20));
    root.on_tick();
    assert_eq!(resumed(&host, 2), Some(true));
    assert_eq!(host.tick_period(), Duration::ZERO);
}

#[test]
fn a_client_that_leaves_while_it_waits_leaves_nothing_behind() {
    let host = Rc::new(Fake::new());
    let root = configured(&host, DELAY);
    host.open_stream(2, headers(&[("slow", "1")]));
    let stream = root.open(2);
    assert_eq!(root.on_request_headers(&stream), Flow::Pause);
    host.close_stream(2);
    root.on_log(&stream);
    root.close(&stream);
    assert_eq!(Rc::strong_count(&stream), 1, "nobody else holds it");
    host.advance(Duration::from_millis(50));
    root.on_tick();
    assert_eq!(host.tick_period(), Duration::ZERO);
    assert!(host.set_effective_context(2).is_err());
}
