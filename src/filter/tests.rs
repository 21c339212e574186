use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::host::fake::{self, Fake};
use crate::host::{BufferType, Host};

#[path = "../../cli/src/cases/sign.rs"]
mod signing;

/// A root that has accepted a document.
fn configured(host: &Rc<Fake>, document: &str) -> Rc<Root> {
    host.set_buffer(BufferType::PluginConfiguration, document.as_bytes().to_vec());
    let root = Root::new(host.clone(), 1);
    assert!(root.on_configure(), "{document}");
    host.defines_no_more();
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
    assert_eq!(calls, [("header_map", 1), ("property", 1), ("remove_header", 1)]);
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

const LONG: &str = r#"{"http": [{"fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "60s"}}}],
    "telemetry": {"tags": [{"name": "early", "value": {"header": "x-t"}}]}}"#;

const DELAY: &str = r#"{"http": [
    {"match": [{"headers": {"slow": {"exact": "1"}}}], "fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "50ms"}}},
    {"match": [{"headers": {"slow": {"exact": "2"}}}], "fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "20ms"}}}
]}"#;

/// What the proxy shows half a second after something changed.
fn waiting(host: &Fake, roots: &[Rc<Root>], reason: &str) -> u64 {
    host.advance(Duration::from_millis(500));
    roots.iter().for_each(|root| root.on_tick());
    host.metric_value(&format!("meshfilter_waiting_requests<reason={reason}>"))
}

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
    assert_eq!(host.tick_period(), Duration::from_millis(450), "the gauge is told");
    host.advance(Duration::from_millis(450));
    root.on_tick();
    assert_eq!(host.tick_period(), Duration::ZERO);
}

#[test]
fn a_client_that_leaves_while_it_waits_leaves_nothing_behind_and_is_counted_with_its_tags() {
    let host = Rc::new(Fake::new());
    let roots = [configured(&host, LONG)];
    let root = &roots[0];
    host.open_stream(2, headers(&[("x-t", "a")]));
    let stream = root.open(2);
    assert_eq!(root.on_request_headers(&stream), Flow::Pause);
    assert_eq!(waiting(&host, &roots, "delay"), 1);
    host.set_effective_context(2).unwrap();
    root.on_log(&stream);
    root.close(&stream);
    host.close_stream(2);
    assert_eq!(Rc::strong_count(&stream), 1, "nobody else holds it");
    assert_eq!(waiting(&host, &roots, "delay"), 0);
    let counted = "<route=http[0]><destination=none><decision=allowed><response_code=0><early=a>";
    assert_eq!(host.metric_value(&format!("meshfilter_requests_total{counted}")), 1);
    assert_eq!(host.tick_period(), Duration::ZERO);
    assert!(host.set_effective_context(2).is_err());
}

#[test]
fn a_stream_that_never_became_a_request_is_not_counted() {
    let host = Rc::new(Fake::new());
    let root = configured(&host, LONG);
    let before = host.metrics();
    let stream = root.open(2);
    root.on_log(&stream);
    root.close(&stream);
    assert_eq!(host.metrics(), before);
}

#[test]
fn what_a_dead_vm_has_told_is_taken_back_by_another_one() {
    let host = Rc::new(Fake::new());
    let roots = [configured(&host, LONG), configured(&host, LONG)];
    let streams: Vec<_> = (2..7)
        .map(|id| {
            host.open_stream(id, headers(&[]));
            let root = &roots[usize::from(id == 2)];
            let stream = root.open(id);
            assert_eq!(root.on_request_headers(&stream), Flow::Pause);
            stream
        })
        .collect();
    assert_eq!(waiting(&host, &roots, "delay"), 5);
    // The first one's VM ends with four of them, and says nothing any more.
    let [dead, alive] = roots;
    std::mem::forget(dead);
    let left = [alive];
    assert_eq!(waiting(&host, &left, "delay"), 5);
    host.advance(Duration::from_secs(10));
    assert_eq!(waiting(&host, &left, "delay"), 1);
    left[0].close(&streams[0]);
    assert_eq!(waiting(&host, &left, "delay"), 0);
}

#[test]
fn a_vm_that_comes_after_one_that_died_looks_until_it_can_take_back_what_was_told() {
    let host = Rc::new(Fake::new());
    let dead = configured(&host, LONG);
    host.open_stream(2, headers(&[]));
    let stream = dead.open(2);
    assert_eq!(dead.on_request_headers(&stream), Flow::Pause);
    let roots = [dead];
    assert_eq!(waiting(&host, &roots, "delay"), 1);
    std::mem::forget((roots, stream));
    let next = configured(&host, LONG);
    // No request comes any more, and still it asks for a tick.
    assert_eq!(host.advance_to_tick(), Some(Duration::from_secs(10)));
    next.on_tick();
    assert_eq!(host.metric_value("meshfilter_waiting_requests<reason=delay>"), 0);
    assert_eq!(host.tick_period(), Duration::ZERO);
}

const REMOTE: &str = r#"{"authentication": {"jwtRules": [
    {"issuer": "i", "jwksUri": "https://auth.example.com/keys", "jwksCluster": "auth"}
]}}"#;

fn bearer(key: &str) -> fake::Stream {
    let header = format!(r#"{{"alg":"ES256","kid":"{key}"}}"#);
    let token = signing::token(key, "ES256", header, r#"{"iss":"i","exp":9999999999}"#).unwrap();
    headers(&[("authorization", &format!("Bearer {token}"))])
}

fn answer(host: &Fake, root: &Root, names: &[&str]) {
    let calls = host.take_calls();
    assert_eq!(calls.len(), 1, "one call for all: {calls:?}");
    let headers = [(":status", "200")].into_iter().collect();
    host.set_call_response(headers, signing::jwks(names).to_string().into_bytes());
    root.on_http_call_response(calls[0].0);
}

/// Lets every root's tick come once.
fn tick(host: &Fake, roots: &[Rc<Root>]) {
    host.advance(Duration::from_millis(20));
    roots.iter().for_each(|root| root.on_tick());
}

#[test]
fn requests_in_every_worker_wait_for_one_key_set_and_go_on_when_it_is_there() {
    let host = Rc::new(Fake::new());
    let roots: Vec<Rc<Root>> = (0..4).map(|_| configured(&host, REMOTE)).collect();
    assert!(host.tick_period() <= Duration::from_millis(1), "it is fetched before anybody asks");
    let streams: Vec<_> = (0..1_000_u32)
        .map(|id| {
            let id = id.saturating_add(10);
            host.open_stream(id, bearer("ec256"));
            let root = &roots[id as usize % roots.len()];
            let stream = root.open(id);
            assert_eq!(root.on_request_headers(&stream), Flow::Pause);
            stream
        })
        .collect();
    tick(&host, &roots);
    answer(&host, &roots[0], &["ec256"]);
    // Each callback lets a few go on.
    (0..8).for_each(|_| tick(&host, &roots));
    for stream in &streams {
        assert_eq!(resumed(&host, stream.borrow().id()), Some(true));
    }
    assert!(host.tick_period() >= Duration::from_millis(300), "nobody waits any more");
    assert_eq!(waiting(&host, &roots, "keys"), 0);
    assert_eq!(host.take_calls(), []);
}

#[test]
fn without_a_key_set_the_answer_is_503_in_time_and_a_missing_token_is_401_at_once() {
    let host = Rc::new(Fake::new());
    let roots = [configured(&host, REMOTE)];
    host.refuse_http_calls(true);
    host.open_stream(2, bearer("ec256"));
    let stream = roots[0].open(2);
    assert_eq!(roots[0].on_request_headers(&stream), Flow::Pause);
    let status =
        |id| host.with_stream(id, |stream| stream.reply.as_ref().map(|reply| reply.status)).flatten();
    for _ in 0..249 {
        tick(&host, &roots);
    }
    assert_eq!(status(2), None);
    tick(&host, &roots);
    assert_eq!(status(2), Some(503));
    host.open_stream(3, headers(&[]));
    assert_eq!(roots[0].on_request_headers(&roots[0].open(3)), Flow::Pause);
    assert_eq!(status(3), Some(401));
}

#[test]
fn a_key_that_is_new_and_one_that_does_not_exist_cost_one_fetch() {
    let host = Rc::new(Fake::new());
    let roots = [configured(&host, REMOTE), configured(&host, REMOTE)];
    tick(&host, &roots);
    answer(&host, &roots[0], &["rsa1"]);
    tick(&host, &roots);
    let mut id = 10;
    let mut ask = |kid: &str| {
        id += 1;
        let token = if kid == "ec256" { bearer(kid) } else { bearer_named(kid) };
        host.open_stream(id, token);
        let root = &roots[id as usize % 2];
        let stream = root.open(id);
        root.on_request_headers(&stream);
        (id, stream)
    };
    let kids = ["ec256", "forged"].into_iter().flat_map(|kid| [kid; 20]);
    let asked: Vec<_> = kids.map(&mut ask).collect();
    tick(&host, &roots);
    answer(&host, &roots[0], &["rsa1", "ec256"]);
    tick(&host, &roots);
    for (number, (id, _)) in asked.iter().enumerate() {
        let (resumed, reply) =
            host.with_stream(*id, |stream| (stream.resumed, stream.reply.clone())).unwrap();
        let body = reply.map(|reply| String::from_utf8(reply.body).unwrap());
        match number {
            0..20 => assert_eq!((resumed, body), (true, None)),
            _ => assert_eq!(body.as_deref(), Some("Jwks doesn't have key to match kid or alg from Jwt")),
        }
    }
    // The next one that does not exist is refused at once.
    let (id, _stream) = ask("forged");
    assert!(host.with_stream(id, |stream| stream.reply.is_some()).unwrap());
    assert_eq!(host.take_calls(), []);
}

/// A token of a key of this name that nobody has published.
fn bearer_named(kid: &str) -> fake::Stream {
    let header = format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#);
    let token = signing::token("ec256", "ES256", header, r#"{"iss":"i"}"#).unwrap();
    headers(&[("authorization", &format!("Bearer {token}"))])
}

const LIMITED: &str = r#"{"rateLimits": [{"name": "l", "tokenBucket": {"maxTokens": 9, "tokensPerFill": 9, "fillInterval": "1s"}}]}"#;
const PASSED: &str = "meshfilter_policy_decisions_total<policy=l><decision=allowed><mode=enforce>";

/// One request through contexts that a VM has, from the first callback to the last.
fn request(contexts: &Contexts, host: &Fake, root: u32, stream: u32) {
    host.open_stream(stream, headers(&[]));
    contexts.create(stream, root);
    assert_eq!(contexts.on_request_headers(stream), Flow::Continue);
    contexts.on_response_headers(stream);
    contexts.on_log(stream);
    contexts.delete(stream);
    host.close_stream(stream);
}

fn told(host: &Fake) -> u64 {
    host.metrics().get(PASSED).map_or(0, |metric| metric.value)
}

#[test]
fn counters_are_told_by_a_tick_that_runs_only_while_something_was_counted() {
    let host = Rc::new(Fake::new());
    host.set_buffer(BufferType::PluginConfiguration, LIMITED.as_bytes().to_vec());
    let contexts = Contexts::new(host.clone());
    contexts.create(1, 0);
    assert!(contexts.on_configure(1));
    (2..5).for_each(|stream| request(&contexts, &host, 1, stream));
    assert_eq!((told(&host), host.tick_period()), (0, Duration::from_millis(500)));
    host.take_hostcalls();
    host.advance_to_tick();
    contexts.on_tick(1);
    assert_eq!((told(&host), host.tick_period()), (3, Duration::ZERO));
    assert_eq!(host.take_hostcalls().get("increment"), Some(&1), "one call for all of them");
}

#[test]
fn a_root_that_goes_tells_what_was_counted_and_the_next_one_counts_on() {
    let host = Rc::new(Fake::new());
    host.set_buffer(BufferType::PluginConfiguration, LIMITED.as_bytes().to_vec());
    let contexts = Contexts::new(host.clone());
    for root in [1, 10] {
        contexts.create(root, 0);
        assert!(contexts.on_configure(root));
    }
    request(&contexts, &host, 1, 2);
    contexts.delete(1);
    assert_eq!(told(&host), 1);
    request(&contexts, &host, 10, 11);
    contexts.delete(10);
    assert_eq!(told(&host), 2);
}

#[test]
fn callbacks_about_nobody_do_nothing_and_let_nothing_pass() {
    let host = Rc::new(Fake::new());
    let contexts = Contexts::new(host.clone());
    host.open_stream(7, headers(&[]));
    contexts.create(7, 1);
    assert_eq!(contexts.on_request_headers(7), Flow::Pause);
    assert_eq!(host.with_stream(7, |stream| stream.reply.clone()).flatten().unwrap().status, 500);
    assert!(!contexts.on_configure(1));
    contexts.on_response_headers(7);
    contexts.on_log(7);
    contexts.on_tick(1);
    contexts.on_http_call_response(1, 1);
    contexts.delete(7);
    contexts.delete(1);
}

const FLEET: &str = r#"{"rateLimits": [{"global": {"cluster": "rls", "domain": "web", "failureMode": "deny",
    "descriptors": [{"entries": [{"key": "path", "value": {"path": true}}]}]}}]}"#;

#[test]
fn a_request_waits_for_a_rate_limit_services_answer_and_no_longer_than_its_timeout() {
    let host = Rc::new(Fake::new());
    let root = configured(&host, FLEET);
    let ask = |id| {
        host.open_stream(id, headers(&[]));
        let stream = root.open(id);
        assert_eq!(root.on_request_headers(&stream), Flow::Pause);
        stream
    };
    let _streams = (ask(2), ask(3));
    let calls = host.take_calls();
    assert_eq!(calls.len(), 2);
    // `overall_code: OK` in gRPC's frame.
    host.set_call_response([(":status", "200")].into_iter().collect(), b"\0\0\0\0\x02\x08\x01".to_vec());
    host.set_call_trailers([("grpc-status", "0")].into_iter().collect());
    root.on_http_call_response(calls[0].0 + 7);
    assert_eq!(resumed(&host, 2), Some(false), "somebody else's answer");
    root.on_http_call_response(calls[0].0);
    assert_eq!((resumed(&host, 2), resumed(&host, 3)), (Some(true), Some(false)));
    assert_eq!(host.tick_period(), Duration::from_millis(20));
    host.advance(Duration::from_millis(20));
    root.on_tick();
    let status = host.with_stream(3, |stream| stream.reply.as_ref().map(|reply| reply.status)).flatten();
    assert_eq!(status, Some(500));
    host.advance_to_tick();
    root.on_tick();
    assert_eq!(host.tick_period(), Duration::ZERO, "what was counted is told, and nothing waits");
    // It comes too late, and nothing happens.
    root.on_http_call_response(calls[1].0);
    assert_eq!(resumed(&host, 3), Some(false));
}

#[test]
fn of_very_many_that_are_due_a_few_go_on_in_each_callback() {
    let host = Rc::new(Fake::new());
    let root = configured(&host, DELAY);
    let streams: Vec<_> = (10..260_u32)
        .map(|id| {
            host.open_stream(id, headers(&[("slow", "1")]));
            let stream = root.open(id);
            assert_eq!(root.on_request_headers(&stream), Flow::Pause);
            stream
        })
        .collect();
    let gone_on =
        || streams.iter().filter(|stream| resumed(&host, stream.borrow().id()) == Some(true)).count();
    host.advance(Duration::from_millis(50));
    for expected in [100, 200, 250] {
        root.on_tick();
        assert_eq!(gone_on(), expected);
        // Then only the gauge is told.
        let next = Duration::from_millis(if expected < 250 { 1 } else { 448 });
        assert_eq!(host.tick_period(), next);
        host.advance(next);
    }
}
