//! What one request costs, in hostcalls and in allocations: pinned, so that it cannot creep.
//!
//! `cargo test --test request_cost -- --nocapture` prints the table. Hostcalls are what a request in Envoy spends most of
//! its time in; those of the policy in `envoy/envoy.yaml` are listed one by one.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

use meshfilter::filter::{Contexts, Flow};
use meshfilter::host::fake::{Fake, Stream};
use meshfilter::host::{
    BufferType, Counters, HeaderMap, Host, HttpCall, Instant, LocalReply, MapType, MetricId, MetricType,
    Result,
};
use serde_json::{Value, json};
use support::{case, repository, sign};

/// Counts what is allocated while this thread says so, and what of it stays.
struct Counting;

thread_local! {
    static COUNTED: Cell<Option<u64>> = const { Cell::new(None) };
    static KEPT: Cell<i64> = const { Cell::new(0) };
}

fn keep(bytes: i64) {
    let _ = KEPT.try_with(|kept| kept.set(kept.get() + bytes));
}

// SAFETY: every call is handed on as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNTED.try_with(|counted| counted.set(counted.get().map(|count| count + 1)));
        keep(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        keep(-(layout.size() as i64));
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many blocks a piece of work asked for.
fn allocations(work: impl FnOnce()) -> u64 {
    COUNTED.set(Some(0));
    work();
    COUNTED.replace(None).unwrap_or_default()
}

/// A fake proxy whose own allocations are not counted.
struct Quiet(Fake);

macro_rules! quietly {
    ($(fn $name:ident(&self $(, $argument:ident: $type:ty)*) $(-> $result:ty)?;)*) => {
        $(fn $name(&self $(, $argument: $type)*) $(-> $result)? {
            let counted = COUNTED.replace(None);
            let result = self.0.$name($($argument),*);
            COUNTED.set(counted);
            result
        })*
    };
}

impl Host for Quiet {
    fn counters(&self) -> &Counters {
        self.0.counters()
    }

    quietly! {
        fn header_map(&self, map: MapType) -> Result<HeaderMap<'static>>;
        fn set_header(&self, map: MapType, name: &str, value: &[u8]) -> Result<()>;
        fn add_header(&self, map: MapType, name: &str, value: &[u8]) -> Result<()>;
        fn remove_header(&self, map: MapType, name: &str) -> Result<()>;
        fn property(&self, path: &[&str]) -> Option<Vec<u8>>;
        fn set_filter_state(&self, name: &str, value: &[u8]) -> Result<()>;
        fn now(&self) -> Instant;
        fn wall_clock(&self) -> Duration;
        fn random(&self) -> u64;
        fn shared_data(&self, key: &str) -> Result<(Vec<u8>, u32)>;
        fn shared_data_swap(&self, key: &str, value: &[u8], cas: u32) -> Result<()>;
        fn shared_data_create(&self, key: &str, value: &[u8]) -> Result<()>;
        fn metric(&self, kind: MetricType, name: &str) -> Result<MetricId>;
        fn increment_now(&self, counter: MetricId, by: u64) -> Result<()>;
        fn adjust(&self, gauge: MetricId, by: i64) -> Result<()>;
        fn record(&self, metric: MetricId, value: u64) -> Result<()>;
        fn send_local_reply(&self, reply: &LocalReply) -> Result<()>;
        fn resume_request(&self) -> Result<()>;
        fn reset_stream(&self) -> Result<()>;
        fn set_effective_context(&self, context: u32) -> Result<()>;
        fn set_tick_period(&self, period: Duration) -> Result<()>;
        fn http_call(&self, call: &HttpCall) -> Result<u32>;
        fn buffer(&self, kind: BufferType, start: usize, max_size: usize) -> Result<Vec<u8>>;
        fn call_foreign_function(&self, name: &str, arguments: &[u8]) -> Result<Vec<u8>>;
        fn environment(&self, name: &str) -> Option<String>;
    }
}

const ROOT: u32 = 1;

/// What one request came to.
#[derive(Debug, PartialEq)]
struct Cost {
    hostcalls: BTreeMap<&'static str, u64>,
    allocations: u64,
}

struct Bench {
    host: Rc<Quiet>,
    contexts: Contexts,
    streams: Cell<u32>,
}

impl Bench {
    fn new(policy: &Value) -> Self {
        let host = Rc::new(Quiet(Fake::new()));
        host.0.set_buffer(BufferType::PluginConfiguration, policy.to_string().into_bytes());
        // The signature is not what is counted here.
        host.0.set_foreign_function("verify_signature", |_| Ok(vec![0x08, 0x01]));
        let contexts = Contexts::new(host.clone());
        contexts.create(ROOT, 0);
        assert!(contexts.on_configure(ROOT), "{policy}");
        Bench { host, contexts, streams: Cell::new(ROOT) }
    }

    /// One request from the first callback to the last, as Envoy makes them.
    fn request(&self, headers: &[(&str, &str)]) -> Cost {
        let id = self.streams.get() + 1;
        self.streams.set(id);
        let request = headers.iter().copied().collect();
        self.host.0.open_stream(id, Stream { request, ..Stream::default() });
        self.host.0.take_hostcalls();
        let allocations = allocations(|| {
            self.contexts.create(id, ROOT);
            assert_eq!(self.contexts.on_request_headers(id), Flow::Continue);
            self.contexts.on_response_headers(id);
            self.contexts.on_log(id);
            self.contexts.delete(id);
        });
        self.host.0.close_stream(id);
        Cost { hostcalls: self.host.0.take_hostcalls(), allocations }
    }

    /// So many requests that are begun and stay open; what each of them keeps, in bytes.
    fn open(&self, headers: &[(&str, &str)], count: u32, flow: Flow) -> i64 {
        let first = self.streams.get() + 1;
        self.streams.set(self.streams.get() + count);
        let ids = first..first + count;
        for id in ids.clone() {
            let request = headers.iter().copied().collect();
            self.host.0.open_stream(id, Stream { request, ..Stream::default() });
        }
        let before = KEPT.get();
        for id in ids {
            self.host.0.set_effective_context(id).unwrap();
            self.contexts.create(id, ROOT);
            assert_eq!(self.contexts.on_request_headers(id), flow);
        }
        // What the fake remembers of them is not the filter's.
        drop(self.host.0.take_calls());
        (KEPT.get() - before) / i64::from(count)
    }

    /// A request like many before it.
    fn usual(&self, headers: &[(&str, &str)]) -> Cost {
        // As many as it takes until what is guessed is right.
        (0..8).for_each(|_| drop(self.request(headers)));
        self.request(headers)
    }
}

/// The policy of the sample bootstrap.
fn sample() -> Value {
    let text = std::fs::read_to_string(repository("envoy/envoy.yaml")).unwrap();
    let bootstrap = case::yaml(&text).unwrap();
    let manager =
        &bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    let filters = manager["http_filters"].as_array().unwrap();
    let filter = filters.iter().find(|filter| filter["name"] == "meshfilter").unwrap();
    filter["typed_config"]["config"]["configuration"]["value"].clone()
}

fn headers(token: &str) -> Vec<(&'static str, &str)> {
    vec![
        (":method", "GET"),
        (":path", "/api/orders?page=2"),
        (":authority", "example.com"),
        (":scheme", "http"),
        ("authorization", token),
        ("user-agent", "curl/8"),
        ("accept", "*/*"),
        ("user-role", "admin"),
        ("cookie", "canary-arm=1"),
        ("x-request-id", "4711"),
    ]
}

fn bearer() -> String {
    let claims = json!({
        "iss": "https://auth.example.com", "aud": "webapp-api", "sub": "alice", "tenant": "acme", "exp": 9_999_999_999_u64,
    });
    let header = r#"{"alg":"RS256","kid":"rsa1"}"#;
    format!("Bearer {}", sign::token("rsa1", "RS256", header, claims.to_string()).unwrap())
}

#[test]
fn a_request_of_the_sample_policy_makes_these_hostcalls_and_no_others() {
    let token = bearer();
    let cost = Bench::new(&sample()).usual(&headers(&token));
    let expected = [
        // What the request is.
        ("header_map", 1),
        // When it came, which Envoy is asked once, and when it was over.
        ("now", 3),
        // Whether the token is still good; Envoy is asked once a second.
        ("wall_clock", 1),
        // x-user, no token any more, and where to.
        ("add_header", 2),
        ("remove_header", 1),
        // One bucket, which nobody else took from.
        ("shared_data_swap", 1),
        // Five tags, and for a later meshfilter what was chosen here: nothing else is proof against a client.
        ("set_filter_state", 6),
        // The response's code, and how long it took.
        ("property", 1),
        ("record", 1),
    ];
    assert_eq!(cost.hostcalls, BTreeMap::from(expected));
}

/// What `docs/performance.md` compares with Envoy's own filters.
fn filters() -> Value {
    json!({
        "authentication": sample()["authentication"],
        "authorization": [{
            "action": "ALLOW",
            "rules": [{
                "to": [{"operation": {"methods": ["GET", "POST"], "paths": ["/api/*"]}}],
                "when": [{"key": "request.headers[user-role]", "values": ["admin", "user"]}],
            }],
        }],
        "http": [{
            "match": [{"headers": {"test-fault": {"exact": "true"}}}],
            "fault": {"abort": {"percentage": {"value": 100}, "httpStatus": 503}},
        }],
        "rateLimits": [{"name": "all", "tokenBucket": {"maxTokens": 100_000, "tokensPerFill": 1, "fillInterval": "1h"}}],
        "telemetry": {
            "tags": [{"name": "tenant", "value": {"header": "x-tenant"}, "default": "none", "in": ["logs"]}],
            "metrics": {"responseCode": false, "duration": false},
        },
    })
}

/// And an empty document beside it.
#[test]
fn what_envoys_own_filters_do_takes_these_hostcalls_and_no_others() {
    let token = bearer();
    let cost = Bench::new(&filters()).usual(&headers(&token));
    let expected = [
        ("header_map", 1),
        ("now", 2),
        ("wall_clock", 1),
        // The claim, and no token any more.
        ("add_header", 1),
        ("remove_header", 1),
        ("shared_data_swap", 1),
        // The tag.
        ("set_filter_state", 1),
    ];
    assert_eq!(cost.hostcalls, BTreeMap::from(expected));
    let cost = Bench::new(&json!({})).usual(&headers(&token));
    assert_eq!(cost.hostcalls, BTreeMap::from([("header_map", 1)]));
}

#[test]
fn what_is_left_out_of_the_metrics_costs_nothing() {
    let token = bearer();
    let cost = |metrics: Value| {
        Bench::new(&json!({"telemetry": {"metrics": metrics}})).usual(&headers(&token)).hostcalls
    };
    let all = BTreeMap::from([("header_map", 1), ("now", 2), ("property", 1), ("record", 1)]);
    assert_eq!(cost(json!({})), all);
    let untimed = BTreeMap::from([("header_map", 1), ("now", 1), ("property", 1)]);
    assert_eq!(cost(json!({"duration": false})), untimed);
    assert_eq!(
        cost(json!({"responseCode": false, "duration": false})),
        BTreeMap::from([("header_map", 1), ("now", 1)])
    );
    // Which way, from whom, how; what Envoy's own route chose; the code.
    let istio = BTreeMap::from([("header_map", 1), ("now", 2), ("property", 5), ("record", 1)]);
    assert_eq!(cost(json!({"istio": true})), istio);
}

#[test]
fn the_first_request_after_a_pause_asks_for_the_tick_that_tells_the_counters() {
    let token = bearer();
    let bench = Bench::new(&sample());
    bench.usual(&headers(&token));
    bench.host.0.advance_to_tick();
    bench.contexts.on_tick(ROOT);
    let cost = bench.request(&headers(&token));
    assert_eq!(cost.hostcalls.get("set_tick_period"), Some(&1));
    assert_eq!(cost.hostcalls.get("increment"), None);
}

#[test]
fn allocations_of_a_request_stay_few() {
    let token = bearer();
    let sample = sample();
    let only = |section: &str| json!({section: sample[section]});
    let mut table = "| policy | hostcalls | allocations |\n|---|---|---|\n".to_owned();
    let mut too_many = Vec::new();
    for (name, policy, most) in [
        ("none", json!({}), 1),
        ("authentication", only("authentication"), 10),
        ("http", only("http"), 5),
        ("telemetry", only("telemetry"), 2),
        ("what Envoy's filters do", filters(), 13),
        ("envoy/envoy.yaml", sample.clone(), 19),
    ] {
        let cost = Bench::new(&policy).usual(&headers(&token));
        let hostcalls: u64 = cost.hostcalls.values().sum();
        let _ = writeln!(table, "| {name} | {hostcalls} | {} |", cost.allocations);
        if cost.allocations > most {
            too_many.push(format!("{name}: {} allocations, {most} at most", cost.allocations));
        }
    }
    println!("{table}");
    assert!(too_many.is_empty(), "{too_many:#?}");
}

/// Open requests are what a client can have most of, and the memory of a VM ends at 1 GiB.
#[test]
fn an_open_request_keeps_none_of_its_headers() {
    let large = "a".repeat(3900);
    let mut headers =
        vec![(":method", "GET"), (":path", "/"), (":authority", "example.com"), (":scheme", "http")];
    headers.extend([("x-large", large.as_str()); 14]);
    let unknown =
        format!("Bearer {}", sign::token("rsa1", "RS256", r#"{"alg":"RS256"}"#, r#"{"iss":"i"}"#).unwrap());
    headers.push(("authorization", &unknown));
    let keys = json!({"jwtRules": [{"issuer": "i", "jwksUri": "https://i/keys", "jwksCluster": "keys"}]});
    let delay = json!({"delay": {"percentage": {"value": 100}, "fixedDelay": "60s"}});
    let descriptors = json!([{"entries": [{"key": "k", "value": {"header": "x-large"}}]}]);
    let global = json!({"cluster": "rls", "domain": "d", "descriptors": descriptors});
    let tags = json!([{"name": "t", "value": {"header": "x-large"}, "in": ["metrics", "downstream"], "header": "x-t"}]);
    for (name, policy, flow) in [
        ("decided", json!({}), Flow::Continue),
        ("decided, with a tag for the response", json!({"telemetry": {"tags": tags}}), Flow::Continue),
        ("waits for keys", json!({"authentication": keys}), Flow::Pause),
        ("waits for a delay", json!({"http": [{"fault": delay}]}), Flow::Pause),
        ("waits for answers", json!({"rateLimits": [{"global": global}]}), Flow::Pause),
    ] {
        let kept = Bench::new(&policy).open(&headers, 1000, flow);
        println!("{name}: {kept} bytes");
        let most = if name.contains("tag") { 3000 } else { 1500 };
        assert!((100..most).contains(&kept), "{name}: {kept} bytes");
    }
}
