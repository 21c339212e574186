//! What must hold in a real Envoy and is no case: start-up, updates, workers, load, clients that misbehave or leave.

mod support;

use std::net::{SocketAddr, TcpListener};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::case::yaml;
use support::envoy::{Bootstrap, Configuration, Envoy, Upstreams, wait_until};
use support::http::{Client, Response, request, request_bytes};

/// Envoy with a policy in it.
struct Running {
    envoy: Envoy,
    address: SocketAddr,
    _upstreams: Upstreams,
}

impl Running {
    fn start(policy: Value, workers: u32) -> Self {
        Self::with(Configuration::Struct(policy), |bootstrap| bootstrap.workers = workers)
    }

    fn with(configuration: Configuration, adjust: impl FnOnce(&mut Bootstrap)) -> Self {
        let upstreams = Upstreams::start().unwrap();
        let mut bootstrap = Bootstrap::new(configuration, &upstreams);
        adjust(&mut bootstrap);
        let envoy = Envoy::start(&bootstrap).unwrap();
        let address = envoy.address().unwrap();
        Running { envoy, address, _upstreams: upstreams }
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        request(self.address, path, headers).unwrap()
    }

    /// No VM ended: not one was loaded anew, and none is missing.
    fn assert_unharmed(&self) {
        for stat in ["vm_reload", "vm_reload_success", "vm_reload_failure", "vm_reload_backoff"] {
            assert_eq!(
                self.envoy.stat(&format!("wasm.meshfilter.{stat}")),
                0,
                "{stat}\n{}",
                self.envoy.log()
            );
        }
        let log = self.envoy.log();
        assert!(!log.contains("[critical]"), "{log}");
    }

    /// Requests that Envoy has not answered yet.
    fn active(&self) -> u64 {
        self.envoy.stat("http.http.downstream_rq_active")
    }
}

fn document(text: &str) -> Value {
    yaml(text).unwrap()
}

/// Says `text` to everything.
fn says(text: &str) -> Value {
    json!({"http": [{"directResponse": {"status": 200, "body": {"string": text}}}]})
}

/// Every section that reads what a client sends.
fn curious() -> Value {
    document(
        r#"
http:
- match:
  - {headers: {x-h: {regex: "[a-z]+"}}}
  - {cookies: {c: {exact: x}}}
  - {queryParams: {q: {prefix: x}}}
  route: [{destination: {host: webapp, subset: v1}}]
- sticky: {cookie: {name: arm, ttl: 1h}}
  route:
  - {destination: {host: webapp, subset: v1}, weight: 50}
  - {destination: {host: webapp, subset: v2}, weight: 50}
rateLimits:
- name: per-client
  key: [{header: x-h, default: none}, {cookie: c, default: none}, {queryParam: q, default: none}]
  tokenBucket: {maxTokens: 1000, tokensPerFill: 1000, fillInterval: 1s}
telemetry:
  tags:
  - {name: h, value: {header: x-h}, default: none}
  - {name: c, value: {cookie: c}, default: none}
  - {name: q, value: {queryParam: q}, default: none, in: [logs]}
"#,
    )
}

#[test]
fn a_request_that_misbehaves_is_answered_and_the_next_one_works() {
    let running = Running::start(curious(), 1);
    let kilobytes = |count: usize| vec![b'x'; count * 1024];
    let any_byte: Vec<u8> = (0x80..=0xff).collect();
    type Header = (&'static str, Vec<u8>);
    let hostile: Vec<(&str, Vec<Header>)> = vec![
        (
            "bytes from 0x80",
            vec![("x-h", any_byte.clone()), ("cookie", any_byte.clone()), ("x-any", any_byte)],
        ),
        ("59 KB in one header", vec![("x-h", kilobytes(59))]),
        ("more than Envoy takes", vec![("x-h", kilobytes(70))]),
        (
            "authorization twice",
            vec![("authorization", b"Bearer a".to_vec()), ("authorization", b"Basic b".to_vec())],
        ),
        (
            "malformed cookies",
            vec![("cookie", b";;=;a;=b;c=\"x;\"c\"=;c".to_vec()), ("cookie", b"".to_vec())],
        ),
        ("an empty token", vec![("authorization", b"Bearer ".to_vec())]),
        ("an empty header", vec![("authorization", b"".to_vec()), ("x-h", b"".to_vec())]),
        ("a huge token", vec![("authorization", [b"Bearer ".to_vec(), kilobytes(50)].concat())]),
        ("a token of dots", vec![("authorization", [b"Bearer ".to_vec(), vec![b'.'; 50_000]].concat())]),
        ("many headers", (0..90).map(|_| ("x-h", b"a".to_vec())).collect()),
        (
            "a port that is none",
            vec![("x-forwarded-host", b"::::".to_vec()), ("x-forwarded-for", b"nobody".to_vec())],
        ),
    ];
    for (what, headers) in hostile {
        let mut client = Client::connect(running.address).unwrap();
        client.send(&request_bytes("GET", b"/?q=%&q=%zz&&=&q", "example.com", &headers)).unwrap();
        let answer = client.receive("GET").unwrap();
        assert!([200, 400, 401, 431].contains(&answer.status), "{what}: {}", answer.status);
        let next = running.get("/", &[("x-h", "abc")]);
        assert_eq!((next.status, next.header("x-upstream").as_deref()), (200, Some("v1")), "after {what}");
    }
    running.assert_unharmed();
}

#[test]
fn a_wrong_document_keeps_envoy_from_starting_and_every_error_is_logged() {
    let wrong = document(
        r#"
http:
- {rote: []}
- route: [{destination: {host: webapp}, weight: -5}]
rateLimits:
- {tokenBucket: {maxTokens: 0}}
nothing: 1
"#,
    );
    let upstreams = Upstreams::start().unwrap();
    for configuration in [Configuration::Struct(wrong.clone()), Configuration::Text(wrong.to_string())] {
        let (code, log) = Envoy::refuse(&Bootstrap::new(configuration, &upstreams)).unwrap();
        assert!(code.is_some_and(|code| code != 0), "exit code {code:?}\n{log}");
        for error in [
            "http[0].rote: there is no field \"rote\"",
            "http[1].route[0].weight: -5 ",
            "rateLimits[0].tokenBucket.maxTokens: 0 ",
            "nothing: there is no field \"nothing\"",
        ] {
            assert!(log.contains(error), "the log does not say: {error}\n{log}");
        }
    }
}

#[test]
fn text_that_is_not_json_is_told_which_two_forms_there_are() {
    let upstreams = Upstreams::start().unwrap();
    let yaml = Configuration::Text("http:\n- name: a\n".to_owned());
    let (code, log) = Envoy::refuse(&Bootstrap::new(yaml, &upstreams)).unwrap();
    assert!(code.is_some_and(|code| code != 0), "exit code {code:?}");
    assert!(log.contains("this is neither JSON nor a Struct; give the policy as JSON text"), "{log}");
}

#[test]
fn a_struct_and_json_text_are_the_same_policy_under_any_name() {
    for (configuration, plugin) in [
        (Configuration::Struct(says("struct")), ["meshfilter", "meshfilter", ""]),
        (Configuration::Text(says("text").to_string()), ["", "", ""]),
        (Configuration::Struct(says("named")), ["default.any name", "some_root", "vm-7"]),
    ] {
        let expected = match &configuration {
            Configuration::Struct(policy) => policy.clone(),
            Configuration::Text(text) => serde_json::from_str(text).unwrap(),
        };
        let running = Running::with(configuration, |bootstrap| bootstrap.plugin = plugin.map(str::to_owned));
        let body = running.get("/", &[]).text();
        assert_eq!(Some(body.as_str()), expected["http"][0]["directResponse"]["body"]["string"].as_str());
    }
}

#[test]
fn a_wrong_update_is_rejected_and_the_old_policy_decides_on() {
    let upstreams = Upstreams::start().unwrap();
    let mut bootstrap = Bootstrap::new(Configuration::Struct(says("one")), &upstreams);
    bootstrap.dynamic = true;
    let envoy = Envoy::start(&bootstrap).unwrap();
    let told = |text: &str| {
        let body = request(envoy.address().ok()?, "/", &[]).ok()?.text();
        (body == text).then_some(())
    };
    wait_until("the first policy", || told("one")).unwrap();

    bootstrap.configuration = Configuration::Struct(json!({"http": [{"rote": []}]}));
    bootstrap.update(envoy.folder()).unwrap();
    wait_until("a rejected update", || {
        (envoy.stat("listener_manager.lds.update_rejected") > 0).then_some(())
    })
    .unwrap();
    // Envoy writes its log a little later.
    wait_until("the reason", || envoy.log().contains("http[0].rote: there is no field").then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", envoy.log()));
    assert_eq!(told("one"), Some(()));

    bootstrap.configuration = Configuration::Struct(says("two"));
    bootstrap.update(envoy.folder()).unwrap();
    wait_until("the next policy", || told("two")).unwrap();
}

#[test]
fn a_bucket_is_exact_over_four_workers() {
    const CONNECTIONS: usize = 64;
    const EACH: usize = 25;
    let policy = document(
        "rateLimits: [{name: all, tokenBucket: {maxTokens: 1000, tokensPerFill: 1, fillInterval: 8760h}}]",
    );
    let running = Running::start(policy, 4);
    let start = Barrier::new(CONNECTIONS);
    let one_connection = || -> Vec<u16> {
        let mut client = Client::connect(running.address).unwrap();
        start.wait();
        (0..EACH).map(|_| client.request("GET", "/", &[]).unwrap().status).collect()
    };
    let statuses: Vec<u16> = thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(one_connection)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let count = |status: u16| statuses.iter().filter(|&&found| found == status).count();
    assert_eq!((count(200), count(429)), (1000, CONNECTIONS * EACH - 1000));
    running.assert_unharmed();
}

#[test]
fn a_hundred_delays_end_in_time() {
    const CLIENTS: usize = 100;
    const DELAY: Duration = Duration::from_millis(50);
    let policy = document(
        "http: [{fault: {delay: {percentage: {value: 100}, fixedDelay: 50ms}}, directResponse: {status: 200}}]",
    );
    let running = Running::start(policy, 2);
    let start = Barrier::new(CLIENTS);
    let one_client = |place: u32| {
        let running = &running;
        let start = &start;
        let mut client = Client::connect(running.address).unwrap();
        // The connection is Envoy's by now, and what is measured is the delay alone.
        assert_eq!(client.request("GET", "/", &[]).unwrap().status, 200);
        start.wait();
        // All are in flight together, but do not begin at once: a hundred at the same moment wait for each other.
        thread::sleep(DELAY * place / 100);
        let began = Instant::now();
        let status = client.request("GET", "/", &[]).unwrap().status;
        (status, began.elapsed())
    };
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let threads: Vec<_> = (0..100).map(|place| scope.spawn(move || one_client(place))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .map(|(status, time)| {
                assert_eq!(status, 200);
                time
            })
            .collect()
    });
    times.sort();
    println!("50 ms asked, {CLIENTS} in flight: median {:.1?}, p99 {:.1?}", times[CLIENTS / 2], times[98]);
    assert!(times[0] >= DELAY, "{:?} is too early", times[0]);
    running.assert_unharmed();
}

#[test]
fn a_client_that_leaves_during_a_delay_leaves_nothing_behind() {
    const DELAY: Duration = Duration::from_secs(2);
    let policy = document(
        "http: [{fault: {maxActive: 1, delay: {percentage: {value: 100}, fixedDelay: 2s}}, route: [{destination: {host: v1}}]}]",
    );
    let running = Running::start(policy, 1);
    let mut leaving = Client::connect(running.address).unwrap();
    leaving.send(&request_bytes::<&str, &str>("GET", b"/", "example.com", &[])).unwrap();
    wait_until("the delay begins", || (running.active() == 1).then_some(())).unwrap();

    // While it waits, the fault has its one request, and others pass.
    let mut next = Client::connect(running.address).unwrap();
    assert_eq!(next.request("GET", "/", &[]).unwrap().status, 200);
    assert_eq!(running.active(), 1);

    drop(leaving);
    wait_until("Envoy sees it leave", || (running.active() == 0).then_some(())).unwrap();

    // Its place is free, so this one is delayed, and all of its time.
    let began = Instant::now();
    assert_eq!(next.request("GET", "/", &[]).unwrap().status, 200);
    assert!(
        began.elapsed() >= DELAY,
        "passed after {:?}: the place of the one that left is still taken",
        began.elapsed()
    );
    running.assert_unharmed();
}

/// A server that takes connections and says nothing.
fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    address
}

/// What a stream can wait for, each with its path.
const WAITS: [&str; 3] = ["/delay", "/keys", "/service"];

/// A policy under which a request waits for a delay's end, for keys, or for a service's answer, until somebody ends it.
fn waiting() -> Value {
    document(
        r#"
authentication:
  jwtRules: [{issuer: i, jwksUri: https://silent/keys, jwksCluster: silent}]
  requirements: [{match: [{uri: {prefix: /keys}}], require: {any: [i]}}, {require: none}]
http:
- {match: [{uri: {prefix: /delay}}], fault: {delay: {percentage: {value: 100}, fixedDelay: 30s}}}
- {route: [{destination: {host: v1}}]}
rateLimits:
- match: [{uri: {prefix: /service}}]
  global: {cluster: silent, domain: d, timeout: 30s, descriptors: [{entries: [{key: k, value: {header: x-k}}]}]}
telemetry: {tags: [{name: took, value: {property: request.duration}, in: [logs]}]}
"#,
    )
}

/// Streams that nobody waits for any more: their clients leave, their listener is replaced, the proxy is shut down.
#[test]
fn streams_end_in_every_state_and_take_nobody_with_them() {
    let (silent, upstreams) = (silent(), Upstreams::start().unwrap());
    let mut bootstrap = Bootstrap::new(Configuration::Struct(waiting()), &upstreams);
    bootstrap.workers = 2;
    bootstrap.dynamic = true;
    bootstrap.drain = Duration::from_secs(1);
    bootstrap.cluster("silent", silent);
    let envoy = Envoy::start(&bootstrap).unwrap();
    let address = envoy.address().unwrap();
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJpIiwiZXhwIjo5OTk5OTk5OTk5fQ.c2ln";
    let bearer = format!("Bearer {token}");
    let headers = [("x-k", "v"), ("authorization", bearer.as_str())];
    let open = |clients: &mut Vec<Client>| {
        for path in WAITS.iter().cycle().take(60) {
            let mut client = Client::connect(address).unwrap();
            client.send(&request_bytes("GET", path.as_bytes(), "example.com", &headers)).unwrap();
            clients.push(client);
        }
    };
    let active = || envoy.stat("http.http.downstream_rq_active");
    let waits =
        |reason: &str| envoy.stat(&format!("wasmcustom.meshfilter_waiting_requests<reason={reason}>"));
    let works = || assert_eq!(request(address, "/", &[]).unwrap().status, 200);
    for round in 0..3 {
        let mut clients = Vec::new();
        open(&mut clients);
        wait_until("all wait", || (active() == 60).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", active(), envoy.log()));
        wait_until("for each reason", || {
            ["delay", "keys", "answers"].iter().all(|reason| waits(reason) == 20).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}, round {round}"));
        if round == 1 {
            // A push: the new listener decides, and the old one's streams are cut off when its time is over.
            bootstrap.manager_fields.insert("server_name".to_owned(), "pushed".into());
            bootstrap.update(envoy.folder()).unwrap();
            wait_until("the pushed listener", || {
                let answer = request(address, "/", &[]).unwrap();
                (answer.header("server").as_deref() == Some("pushed")).then_some(())
            })
            .unwrap();
        } else {
            drop(clients);
        }
        wait_until("all are gone", || (active() == 0).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {}", active()));
        wait_until("nobody is counted", || {
            ["delay", "keys", "answers"].iter().all(|reason| waits(reason) == 0).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}, round {round}"));
        works();
    }
    let log = envoy.log();
    assert!(!log.contains("[critical]"), "{log}");
    let mut clients = Vec::new();
    open(&mut clients);
    wait_until("all wait", || (active() == 60).then_some(())).unwrap();
    // A crash would be a signal.
    assert_eq!(envoy.shut_down().unwrap(), Some(0));
}
