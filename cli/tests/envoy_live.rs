//! `meshfilter top` and `meshfilter tap` beside a real Envoy under known traffic.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use meshfilter_cli::envoy::Address;
use meshfilter_cli::envoy::plan::Options;
use meshfilter_cli::envoy::plugin::Module;
use serde_json::{Value, json};
use support::envoy::{Envoy, module, wait_until};
use support::http::{Client, Upstream, request};

const POLICY: &str = r#"
authorization:
- name: no-admin
  action: DENY
  rules: [{to: [{operation: {paths: ["/admin*"]}}]}]
http:
- name: canary
  match: [{headers: {canary: {exact: "true"}}}]
  route: [{destination: {host: webapp, subset: v2}}]
- name: rest
  route:
  - {destination: {host: webapp, subset: v1}, weight: 50}
  - {destination: {host: webapp, subset: v2}, weight: 50}
rateLimits:
- name: per-user
  key: [{header: x-user}]
  tokenBucket: {maxTokens: 10, tokensPerFill: 10, fillInterval: 3600s}
telemetry:
  tags:
  - {name: tenant, value: {header: x-tenant}, default: none}
  - {name: route, value: {route: true}, in: [logs]}
"#;

/// How often, the path, the headers, and the status that comes of it.
type Asked = (usize, &'static str, &'static [(&'static str, &'static str)], u16);

/// What is asked.
const TRAFFIC: [Asked; 6] = [
    (160, "/", &[("canary", "true"), ("x-tenant", "acme")], 200),
    (40, "/fail", &[("canary", "true"), ("x-tenant", "acme")], 500),
    (170, "/", &[("x-tenant", "globex")], 200),
    (30, "/slow", &[("x-tenant", "globex")], 200),
    (25, "/admin/x", &[], 403),
    (10, "/", &[("x-user", "alice"), ("canary", "true")], 200),
];
/// And those that find the bucket empty.
const LIMITED: usize = 15;
const ALL: usize = 450;

/// What a slow answer takes at least.
const SLOW: Duration = Duration::from_millis(60);

/// Stands before Envoy's admin interface, tells when statistics were asked for, and holds the second answer back until the
/// traffic is over: the window ends then, however long it took.
struct Gate {
    upstream: Upstream,
    asked: Receiver<()>,
    open: Arc<(Mutex<bool>, Condvar)>,
    answered: Arc<Mutex<Vec<Instant>>>,
}

impl Gate {
    fn before(admin: SocketAddr) -> Self {
        let (tell, asked): (Sender<()>, _) = channel();
        let open: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let answered: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let (tell, held, times) = (Mutex::new(tell), open.clone(), answered.clone());
        let upstream = Upstream::start("admin", move |seen| {
            let path = String::from_utf8_lossy(&seen.path).into_owned();
            let is_stats = path.starts_with("/stats?");
            if is_stats && !times.lock().unwrap().is_empty() {
                let (open, changed) = &*held;
                drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
            }
            let answer = request(admin, &path, &[]).unwrap();
            if is_stats {
                times.lock().unwrap().push(Instant::now());
                tell.lock().unwrap().send(()).unwrap();
            }
            (vec![(":status".to_owned(), b"200".to_vec())], answer.body)
        });
        Gate { upstream: upstream.unwrap(), asked, open, answered }
    }

    fn open(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }
}

fn meshfilter(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshfilter"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

/// A whole Envoy as `meshfilter bootstrap` writes it, but for where it logs, and how often it publishes.
fn envoy(upstreams: &[(&str, SocketAddr)]) -> Envoy {
    let policy = support::case::yaml(POLICY).unwrap();
    let any = Address::new("127.0.0.1", 0);
    let mut options = Options::new(Module::of(module().unwrap()).unwrap());
    (options.listen, options.admin) = (any.clone(), any.clone());
    let endpoints =
        upstreams.iter().map(|(name, address)| ((*name).to_owned(), vec![Address::from(*address)]));
    options.endpoints = endpoints.collect();
    let mut bootstrap = options.plan(&policy).unwrap().bootstrap;
    (bootstrap.text_log, bootstrap.json_log) = (0, 100);
    bootstrap.fields.insert("stats_flush_interval".to_owned(), "0.5s".into());
    Envoy::start_in(2, |folder| {
        let mut value = bootstrap.value();
        for log in value
            .pointer_mut("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/access_log")
            .and_then(Value::as_array_mut)
            .unwrap()
        {
            let config = &mut log["typed_config"];
            config["@type"] =
                "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog".into();
            config["path"] = json!(folder.join("access"));
        }
        value
    })
    .unwrap()
}

fn upstream(name: &str) -> Upstream {
    let upstream = Upstream::start(name, |seen| {
        let status = match seen.path.as_slice() {
            b"/fail" => "500",
            _ => "200",
        };
        if seen.path == b"/slow" {
            std::thread::sleep(SLOW);
        }
        (vec![(":status".to_owned(), status.as_bytes().to_vec())], Vec::new())
    });
    upstream.unwrap()
}

/// Sends all of it; how long each request took whose status is 200 and that is no canary's.
fn traffic(address: SocketAddr) -> Vec<Duration> {
    let mut client = Client::connect(address).unwrap();
    let mut took = Vec::new();
    let limited: Asked = (LIMITED, "/", &[("x-user", "alice"), ("canary", "true")], 429);
    for (count, path, headers, status) in TRAFFIC.into_iter().chain([limited]) {
        for _ in 0..count {
            let began = Instant::now();
            let answer = client.request("GET", path, headers).unwrap();
            assert_eq!(answer.status, status, "{path}");
            if headers.contains(&("x-tenant", "globex")) {
                took.push(began.elapsed());
            }
        }
    }
    took.sort();
    took
}

fn row<'a>(picture: &'a Value, labels: &Value) -> &'a Value {
    let rows = picture["rows"].as_array().unwrap();
    let row = rows
        .iter()
        .find(|row| labels.as_object().unwrap().iter().all(|(name, value)| row["labels"][name] == *value));
    row.unwrap_or_else(|| panic!("no {labels} in {rows:#?}"))
}

#[test]
fn top_and_tap_tell_what_was_sent() {
    let (v1, v2) = (upstream("v1"), upstream("v2"));
    let envoy = envoy(&[("webapp|v1", v1.address()), ("webapp|v2", v2.address())]);
    let address = envoy.address().unwrap();
    let gate = Gate::before(envoy.admin_address());
    let admin = gate.upstream.address().to_string();
    let top = meshfilter(&["top", &admin, "--once", "--window", "5s", "--by", "route", "--format", "json"]);
    gate.asked.recv_timeout(support::envoy::PATIENCE).unwrap();
    let took = traffic(address);
    assert_eq!(took.len(), 200);
    // Counters come in batches, durations when Envoy publishes them.
    wait_until("everything is counted", || {
        let series = envoy.prometheus();
        let sum = |name: &str| -> u64 {
            series.iter().filter(|(series, _)| series.name == name).map(|(_, value)| value).sum()
        };
        let counted = sum("meshfilter_requests_total") == ALL as u64
            && sum("meshfilter_request_duration_milliseconds_count") == ALL as u64;
        counted.then_some(())
    })
    .unwrap();
    gate.open();
    let told = top.wait_with_output().unwrap();
    assert!(told.status.success());
    let picture: Value = serde_json::from_slice(&told.stdout).unwrap();

    // The window as it was seen from outside.
    let answered = gate.answered.lock().unwrap().clone();
    let window = (answered[1] - answered[0]).as_secs_f64();
    let is_about = |value: &Value, expected: f64| {
        let value = value.as_f64().unwrap();
        assert!((value - expected).abs() <= expected * 0.05, "{value}, not {expected}: {picture:#}");
    };
    is_about(&picture["window_seconds"], window);
    assert_eq!(picture["all"]["requests"], ALL);
    is_about(&picture["all"]["rps"], ALL as f64 / window);
    is_about(&picture["all"]["success"], 1.0 - 40.0 / ALL as f64);
    is_about(&picture["all"]["refused"], 40.0 / ALL as f64);
    for (route, requests, success) in
        [("canary", 225, 1.0 - 40.0 / 225.0), ("rest", 200, 1.0), ("none", 25, 1.0)]
    {
        let row = row(&picture, &json!({"route": route}));
        assert_eq!(row["requests"], requests, "{route}");
        is_about(&row["rps"], f64::from(requests) / window);
        is_about(&row["success"], success);
    }
    // A quantile's bucket has what Envoy saw: no less than the upstream took, no more than the client waited.
    let latency = &row(&picture, &json!({"route": "rest"}))["latency"];
    for (quantile, least) in [("p50", Duration::ZERO), ("p95", SLOW), ("p99", SLOW)] {
        let rank = quantile[1..].parse::<usize>().unwrap() * took.len() / 100;
        let most = took[rank.min(took.len() - 1)].as_secs_f64() * 1000.0;
        let [ms, from, to] = ["ms", "from", "to"].map(|name| latency[quantile][name].as_f64().unwrap());
        let least = least.as_secs_f64() * 1000.0;
        assert!(
            from <= most && least <= to && from <= ms && ms <= to,
            "{quantile}: {least} to {most}: {latency:#}"
        );
    }
    let refusals = picture["refusals"].as_array().unwrap();
    let refusal = |decision: &str| refusals.iter().find(|refusal| refusal["decision"] == decision).unwrap();
    assert_eq!(
        (&refusal("authz_denied")["requests"], &refusal("authz_denied")["response_code"]),
        (&json!(25), &json!("403"))
    );
    assert_eq!(refusal("rate_limited")["requests"], LIMITED);
    let limit = &picture["limits"][0];
    assert_eq!((&limit["policy"], &limit["count"]), (&json!("per-user"), &json!(10 + LIMITED)));
    is_about(&limit["limited"], 15.0 / 25.0);
    assert!(limit["nearly_empty"].as_f64().unwrap() > 0.0, "{limit:#}");
    assert_eq!(picture["slots"]["used"], 1);
    assert_eq!(picture["warnings"], json!([]));
    let comparison = &picture["comparisons"][0];
    assert_eq!(comparison["route"], "rest");
    let sides = ["stable", "canary"].map(|side| comparison[side]["requests"].as_u64().unwrap());
    assert_eq!(sides.iter().sum::<u64>(), 200);
    assert!(
        comparison["failures"]["open"]["missing"].as_u64().is_some_and(|missing| missing > 0),
        "{comparison:#}"
    );

    // The same requests in the log, as they ended.
    let log = envoy.folder().join("access").display().to_string();
    wait_until("the log", || (envoy.access_log().len() == ALL).then_some(())).unwrap();
    let policy = envoy.folder().join("policy.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    let policy = policy.display().to_string();
    for (arguments, count, each) in [
        (&["--status", "5xx"][..], 40, ":path=/fail :status=500"),
        (&["--route", "rest", "--tag", "tenant=globex"], 200, "route=rest"),
        (&["--decision", "rate_limited"], LIMITED, ":status=429"),
        (&["--decision", "authz_denied", "--why", "--policy", &policy], 50, ""),
    ] {
        let mut child = meshfilter(&[&["tap", &log], arguments].concat());
        let lines: Vec<String> =
            BufReader::new(child.stdout.take().unwrap()).lines().take(count).map(Result::unwrap).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(lines.iter().all(|line| line.contains(each)), "{arguments:?}: {lines:#?}");
        if arguments.contains(&"--why") {
            let why = &lines[1];
            assert!(why.starts_with("  why: no-admin (DENY) (") && why.contains("policy.yaml:3)"), "{why}");
            assert!(why.contains("operation.paths is \"/admin/x\", matches /admin*"), "{why}");
        }
    }
}
