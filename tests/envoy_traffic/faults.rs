//! Envoy's fault filter beside ours; and ten thousand requests that wait at once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http2;
use crate::pair::{Listener, Request, SideBySide, details, native, ours, plugin, theirs};
use crate::random::{Random, seed};
use crate::support::case::yaml;

const FAULT: &str = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";

/// The path, Envoy's fault, ours.
const FAULTS: &str = r#"
- path: /http
  native: {abort: {http_status: 503, percentage: {numerator: 100}}}
  ours: {abort: {httpStatus: 503, percentage: {value: 100}}}
- path: /teapot
  native: {abort: {http_status: 418, percentage: {numerator: 100}}}
  ours: {abort: {httpStatus: 418, percentage: {value: 100}}}
- path: /ok
  native: {abort: {http_status: 200, percentage: {numerator: 100}}}
  ours: {abort: {httpStatus: 200, percentage: {value: 100}}}
- path: /unauthorized
  native: {abort: {http_status: 401, percentage: {numerator: 1000000, denominator: MILLION}}}
  ours: {abort: {httpStatus: 401, percentage: {value: 100}}}
- path: /grpc
  native: {abort: {grpc_status: 14, percentage: {numerator: 100}}}
  ours: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}
- path: /grpc-5
  native: {abort: {grpc_status: 5, percentage: {numerator: 100}}}
  ours: {abort: {grpcStatus: NOT_FOUND, percentage: {value: 100}}}
- path: /never
  native: {abort: {http_status: 503, percentage: {numerator: 0}}, delay: {fixed_delay: 5s, percentage: {numerator: 0}}}
  ours: {abort: {httpStatus: 503, percentage: {value: 0}}, delay: {fixedDelay: 5s, percentage: {value: 0}}}
- path: /delay
  native: {delay: {fixed_delay: 0.03s, percentage: {numerator: 100}}}
  ours: {delay: {fixedDelay: 30ms, percentage: {value: 100}}}
- path: /both
  native: {delay: {fixed_delay: 0.03s, percentage: {numerator: 100}}, abort: {http_status: 500, percentage: {numerator: 100}}}
  ours: {delay: {fixedDelay: 30ms, percentage: {value: 100}}, abort: {httpStatus: 500, percentage: {value: 100}}}
- path: /asked
  native: {delay: {header_delay: {}, percentage: {numerator: 100}}, abort: {header_abort: {}, percentage: {numerator: 100}}}
  ours: {headerControlled: true, delay: {percentage: {value: 100}}, abort: {percentage: {value: 100}}}
- path: /capped
  native: {delay: {header_delay: {}, percentage: {numerator: 0}}, abort: {header_abort: {}, percentage: {numerator: 0}}}
  ours: {headerControlled: true, delay: {percentage: {value: 0}}, abort: {percentage: {value: 0}}}
"#;

/// Headers that ask for a fault, and values that are none.
const ASKS: &[(&str, &[&str])] = &[
    ("x-envoy-fault-abort-request", &["503", "200", "599", "199", "600", "x", "", "429"]),
    ("x-envoy-fault-abort-grpc-request", &["14", "0", "5", "16", "-1", "x"]),
    ("x-envoy-fault-abort-request-percentage", &["0", "100", "101", "x"]),
    ("x-envoy-fault-delay-request", &["20", "0", "x", "-5"]),
    ("x-envoy-fault-delay-request-percentage", &["0", "100", "x"]),
];

#[test]
fn faults_are_those_of_envoys_filter() {
    let faults = yaml(FAULTS).unwrap();
    let faults = faults.as_array().unwrap();
    let mut routes: Vec<Value> = Vec::new();
    let mut entries: Vec<Value> = Vec::new();
    for fault in faults {
        let mut native = fault["native"].clone();
        native["@type"] = FAULT.into();
        let per_filter = json!({"envoy.filters.http.fault": native});
        let route = json!({"match": {"path": fault["path"]}, "route": {"cluster": "v1"}, "typed_per_filter_config": per_filter});
        routes.push(route);
        entries.push(json!({
            "match": [{"uri": {"exact": fault["path"]}}],
            "fault": fault["ours"],
            "route": [{"destination": {"host": "v1"}}],
        }));
    }
    routes.push(json!({"match": {"prefix": "/"}, "route": {"cluster": "fallback"}}));
    let filter = native("envoy.filters.http.fault", json!({"@type": FAULT}));
    let running = SideBySide::start(&[
        Listener { name: "native", filters: vec![filter], virtual_host: theirs(routes) },
        Listener {
            name: "ours",
            filters: vec![plugin("ours", &json!({"http": entries}))],
            virtual_host: ours(),
        },
    ]);
    let mut random = Random(seed());
    let (mut native, mut ours) = (running.client("native"), running.client("ours"));
    let mut sent = Vec::new();
    for index in 0..600 {
        let fault = &faults[index % faults.len()];
        let path = fault["path"].as_str().unwrap();
        let mut headers = Vec::new();
        if random.percent(30) {
            headers.push((
                "content-type",
                random.pick(&["application/grpc", "application/grpc+proto", "application/json"]),
            ));
        }
        for (name, values) in ASKS {
            if random.percent(40) {
                headers.push((name, random.pick(values)));
            }
        }
        let request = Request::new(random.pick(&["GET", "POST", "HEAD"]), path, &headers);
        let (n, o) = (format!("n{index}"), format!("o{index}"));
        let expected = native.send(&request, &n);
        let began = Instant::now();
        let answer = ours.send(&request, &o);
        if ["/delay", "/both"].contains(&path) {
            assert!(began.elapsed() >= Duration::from_millis(30), "{request:?} took {:?}", began.elapsed());
        }
        sent.push((request, n, expected, o, answer));
    }
    let details = details(&running.envoy, 2 * sent.len());
    let wrong = |(request, n, expected, o, answer): &(Request, String, _, String, _)| {
        let (expected, answer) = ((expected, &details[n]), (answer, &details[o]));
        (expected != answer).then(|| format!("{request:?}\n  native {expected:?}\n  ours   {answer:?}"))
    };
    let wrong: Vec<String> = sent.iter().filter_map(wrong).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(10)].join("\n"));
}

/// Ten connections of a thousand streams each. When an answer is due is Envoy's clock's business, so lateness is what
/// the access log says.
#[test]
fn ten_thousand_delays_at_once_lose_none() {
    const CONNECTIONS: usize = 10;
    const STREAMS: usize = 1000;
    const DELAY: Duration = Duration::from_secs(2);
    let policy = json!({"http": [{
        "fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "2s"}},
        "directResponse": {"status": 200},
    }]});
    let running = SideBySide::start(&[Listener {
        name: "ours",
        filters: vec![plugin("ours", &policy)],
        virtual_host: ours(),
    }]);
    let address = running.addresses["ours"];
    let answered: usize = std::thread::scope(|scope| {
        let one = |_| scope.spawn(move || http2::get_all(address, "/", STREAMS, DELAY).unwrap());
        let threads: Vec<_> = (0..CONNECTIONS).map(one).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(answered, CONNECTIONS * STREAMS);
    let mut late: Vec<u64> = crate::support::envoy::wait_until("the access log", || {
        let lines = running.envoy.access_log();
        (lines.len() == answered).then_some(lines)
    })
    .unwrap()
    .iter()
    .map(|line| line["duration"].as_u64().unwrap())
    .map(|duration| duration.checked_sub(DELAY.as_millis() as u64).expect("no answer is early"))
    .collect();
    late.sort_unstable();
    println!(
        "{answered} delays of {DELAY:?} at once, one worker: late by {} ms (median), {} ms (p99), {} ms (most)",
        late[late.len() / 2],
        late[late.len() * 99 / 100],
        late[late.len() - 1]
    );
    assert_eq!(running.envoy.stat("wasm.meshfilter.vm_reload_success"), 0);
}
