//! New policies and new modules under load, by LDS and by ECDS: no request is lost, no limit begins anew, what waits ends
//! as it began, and a wrong policy changes nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::module::other_version;
use crate::support::check::Series;
use crate::support::envoy::native::is_native;
use crate::support::envoy::{Bootstrap, Configuration, Envoy, Upstreams, module, wait_until};
use crate::support::http::{self, Keeping, Response, request};
use crate::support::load::under_load;

const CLIENTS: usize = 16;
/// Some are taken between any two pushes, and the last one after them all.
const TOKENS: u64 = 6_000;
const DELAY: Duration = Duration::from_millis(1500);
/// So many are delayed at every push, and so many wait for their upstream.
const WAITING: usize = 4;
/// After so many requests a client has counted in every series that the load has.
const ROUND: u32 = 8;
/// Much longer than a delay: an old listener's connections are cut after it, whatever they wait for. Envoy counts it from
/// before it compiles a new module.
const DRAIN: Duration = Duration::from_secs(60);

/// A policy that says its version in every answer.
fn policy(version: u32) -> Value {
    let headers = json!({"response": {"set": {"x-version": version.to_string()}}});
    json!({
        "http": [
            {
                "name": "slow",
                "match": [{"uri": {"exact": "/slow"}}],
                "fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": format!("{}ms", DELAY.as_millis())}},
                "headers": headers,
                "route": [{"destination": {"host": "v1"}}],
            },
            {
                "name": "held",
                "match": [{"uri": {"exact": "/held"}}],
                "headers": headers,
                "route": [{"destination": {"host": "v2"}}],
            },
            {"name": "fast", "headers": headers, "route": [{"destination": {"host": "v1"}}]},
        ],
        "rateLimits": [{
            "name": "all",
            "match": [{"uri": {"exact": "/limited"}}],
            "tokenBucket": {"maxTokens": TOKENS, "tokensPerFill": 1, "fillInterval": "8760h"},
        }],
        "telemetry": {},
    })
}

fn version(address: SocketAddr, path: &str) -> u32 {
    version_of(&request(address, path, &[]).unwrap())
}

fn version_of(response: &Response) -> u32 {
    assert_eq!(response.status, 200);
    response.header("x-version").and_then(|version| version.parse().ok()).unwrap()
}

/// A request whose body is still to come: whatever it waited for, it is not over before [`Open::end`].
struct Open {
    connection: http::Client,
    began: Instant,
}

impl Open {
    fn begin(address: SocketAddr, path: &str) -> Self {
        let mut connection = http::Client::connect(address).unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: example.com\r\ncontent-length: 1\r\n\r\n");
        let began = Instant::now();
        connection.send(head.as_bytes()).unwrap();
        Open { connection, began }
    }

    fn end(mut self) -> (u32, Duration) {
        self.connection.send(b".").unwrap();
        let version = version_of(&self.connection.receive("POST").unwrap());
        (version, self.began.elapsed())
    }
}

/// What one client of the load saw.
struct Client<'a> {
    connection: Keeping,
    sent: u32,
    statuses: BTreeMap<(&'static str, u16), u64>,
    version: u32,
    /// How many requests since it saw the version first.
    since: u32,
    /// The last version that it has sent a whole round to.
    settled: &'a AtomicU32,
}

impl Client<'_> {
    fn ask(&mut self) {
        let path = if self.sent.is_multiple_of(4) { "/" } else { "/limited" };
        let response = self.connection.request("GET", path, &[]).expect("an answer");
        *self.statuses.entry((path, response.status)).or_default() += 1;
        self.sent += 1;
        self.since += 1;
        if path == "/" && version_of(&response) != self.version {
            (self.version, self.since) = (version_of(&response), 0);
        }
        if self.since == ROUND {
            self.settled.store(self.version, Ordering::Relaxed);
        }
    }
}

/// How a policy reaches Envoy.
struct Way {
    /// The filter by ECDS; else the whole listener by LDS.
    dynamic_filter: bool,
    /// The module of each version of the policy.
    module: fn(u32) -> PathBuf,
    pushes: u32,
    /// Counts updates that were taken, and such that were refused.
    taken: &'static str,
    refused: &'static str,
}

/// Pushes policies while clients send. Gives Envoy back, and says how many connections the clients needed.
fn push_under_load(way: &Way) -> (Envoy, usize) {
    let upstreams = Upstreams::start().unwrap();
    let mut bootstrap = Bootstrap::new(Configuration::Struct(policy(0)), &upstreams);
    bootstrap.workers = 2;
    bootstrap.drain = DRAIN;
    bootstrap.dynamic = true;
    bootstrap.dynamic_filter = way.dynamic_filter;
    bootstrap.module = Some((way.module)(0));
    let envoy = Envoy::start(&bootstrap).unwrap();
    let address = envoy.address().unwrap();
    let taken_at_first = envoy.stat(way.taken);
    let mut probes = 0;
    let mut passed = 0;
    let mut waited = 0;

    let settled: [AtomicU32; CLIENTS] = Default::default();
    let client = |number: usize| Client {
        connection: Keeping::new(address),
        sent: 0,
        statuses: BTreeMap::new(),
        version: 0,
        since: 0,
        settled: &settled[number],
    };
    let ((), clients) = under_load(CLIENTS, client, Client::ask, || {
        for next in 1..=way.pushes {
            let slow: [Open; WAITING] = std::array::from_fn(|_| Open::begin(address, "/slow"));
            let held: [Open; WAITING] = std::array::from_fn(|_| Open::begin(address, "/held"));
            wait_until("they wait", || {
                (envoy.stat("cluster.v2.upstream_rq_active") == WAITING as u64).then_some(())
            })
            .unwrap();
            bootstrap.module = Some((way.module)(next));
            push(&mut bootstrap, &envoy, policy(next));
            wait_until("the new policy", || {
                probes += 1;
                (version(address, "/") == next).then_some(())
            })
            .unwrap();
            // A module takes the series with it that no other has counted since. Those that wait hold the old one.
            wait_until("every client's round under the new policy", || {
                settled.iter().all(|version| version.load(Ordering::Relaxed) == next).then_some(())
            })
            .unwrap();
            for (version, took) in slow.map(Open::end) {
                assert_eq!(version, next - 1, "it ends under the policy that it began with");
                assert!(took >= DELAY, "after {took:?}");
            }
            for (version, _) in held.map(Open::end) {
                assert_eq!(version, next - 1, "it ends under the policy that it began with");
            }
            waited += 2 * WAITING as u64;
            if next == way.pushes / 2 {
                push(&mut bootstrap, &envoy, json!({"http": [{"rote": []}]}));
                wait_until("a refusal", || (envoy.stat(way.refused) > 0).then_some(())).unwrap();
                probes += 1;
                assert_eq!(version(address, "/"), next, "the old policy stays in force");
            }
        }
        wait_until("the bucket's last token is taken", || {
            probes += 1;
            let status = request(address, "/limited", &[]).unwrap().status;
            passed += u64::from(status == 200);
            (status == 429).then_some(())
        })
        .unwrap();
    });

    let mut statuses: BTreeMap<(&str, u16), u64> = BTreeMap::new();
    for (answer, count) in clients.iter().flat_map(|client| &client.statuses) {
        *statuses.entry(*answer).or_default() += count;
    }
    let answers: Vec<_> = statuses.keys().copied().collect();
    assert_eq!(answers, [("/", 200), ("/limited", 200), ("/limited", 429)]);
    assert_eq!(statuses[&("/limited", 200)] + passed, TOKENS, "the bucket is one bucket all the time");

    // What waited is not in the load: its series go with the module that counted them.
    let keeps = std::ptr::fn_addr_eq(way.module, same as fn(u32) -> PathBuf);
    let sent = statuses.values().sum::<u64>() + probes + if keeps { waited } else { 0 };
    let of_the_load = |route: &String| route != "slow" && route != "held";
    let counts = |series: &Series| {
        series.name == "meshfilter_requests_total"
            && (keeps || series.labels.get("route").is_none_or(of_the_load))
    };
    let mut counted = 0;
    wait_until("every request is counted", || {
        let series = envoy.prometheus().into_iter();
        counted = series.filter(|(series, _)| counts(series)).map(|(_, count)| count).sum::<u64>();
        (counted == sent).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {counted} of {sent}"));

    let log = envoy.log();
    assert!(log.contains("http[0].rote: there is no field \"rote\""), "{log}");
    assert_eq!(envoy.stat(way.refused), 1);
    assert!(envoy.stat(way.taken) >= taken_at_first + u64::from(way.pushes));
    assert_eq!(envoy.stat("wasm.meshfilter.vm_reload_success"), 0);
    (envoy, clients.iter().map(|client| client.connection.connections).sum())
}

fn push(bootstrap: &mut Bootstrap, envoy: &Envoy, policy: Value) {
    bootstrap.configuration = Configuration::Struct(policy);
    bootstrap.update(envoy.folder()).unwrap();
}

fn same(_: u32) -> PathBuf {
    module().unwrap()
}

/// An upgrade, and back again.
fn every_other(version: u32) -> PathBuf {
    if version.is_multiple_of(2) { same(version) } else { other_version() }
}

const BY_LDS: Way = Way {
    dynamic_filter: false,
    module: same,
    pushes: 6,
    taken: "listener_manager.listener_in_place_updated",
    refused: "listener_manager.lds.update_rejected",
};
const BY_ECDS: Way = Way {
    dynamic_filter: true,
    taken: "extension_config_discovery.http_filter.meshfilter.config_reload",
    refused: "extension_config_discovery.http_filter.meshfilter.config_fail",
    ..BY_LDS
};

#[test]
fn a_policy_by_lds_drains_connections_and_loses_no_request() {
    let (_, connections) = push_under_load(&BY_LDS);
    assert!(connections > CLIENTS, "the old listener's connections are closed, one after the other");
}

#[test]
fn a_policy_by_ecds_disturbs_no_connection() {
    let (_, connections) = push_under_load(&BY_ECDS);
    assert_eq!(connections, CLIENTS);
}

#[test]
fn another_module_by_lds_and_the_first_again_lose_no_request() {
    let (envoy, _) = push_under_load(&Way { module: every_other, pushes: 2, ..BY_LDS });
    assert!(envoy.stat(VMS) > 2 * VMS_OF_A_MODULE, "two modules at the least were loaded");
}

#[test]
fn another_module_by_ecds_and_the_first_again_lose_no_request() {
    let (envoy, connections) = push_under_load(&Way { module: every_other, pushes: 2, ..BY_ECDS });
    assert_eq!(connections, CLIENTS);
    assert!(envoy.stat(VMS) > 2 * VMS_OF_A_MODULE, "two modules at the least were loaded");
}

/// What Envoy has ever created of them; for a module one for each of the two workers, the main thread and the base.
const VMS: &str = "wasm.envoy.wasm.runtime.v8.created";
const VMS_OF_A_MODULE: u64 = 4;

#[test]
fn no_listener_is_taken_while_the_filter_s_document_is_wrong() {
    let upstreams = Upstreams::start().unwrap();
    let mut bootstrap = Bootstrap::new(Configuration::Struct(policy(0)), &upstreams);
    bootstrap.dynamic = true;
    bootstrap.dynamic_filter = true;
    let envoy = Envoy::start(&bootstrap).unwrap();
    let address = envoy.address().unwrap();
    push(&mut bootstrap, &envoy, json!({"http": [{"rote": []}]}));
    wait_until("a refused policy", || (envoy.stat(BY_ECDS.refused) > 0).then_some(())).unwrap();

    bootstrap.manager_fields.insert("server_name".to_owned(), "new".into());
    bootstrap.update(envoy.folder()).unwrap();
    wait_until("a refused listener", || (envoy.stat(BY_LDS.refused) > 0).then_some(())).unwrap();
    assert_eq!(version(address, "/"), 0, "both old ones stay in force");

    push(&mut bootstrap, &envoy, policy(1));
    wait_until("the new policy", || (version(address, "/") == 1).then_some(())).unwrap();
    // Envoy may have read the listener's file before the filter's.
    bootstrap.update(envoy.folder()).unwrap();
    wait_until("the new listener", || {
        let response = request(address, "/", &[]).unwrap();
        (response.header("server").as_deref() == Some("new")).then_some(())
    })
    .unwrap();
}

#[test]
fn buckets_belong_to_the_vm_id_and_the_plugin_s_name() {
    let upstreams = Upstreams::start().unwrap();
    let limited = json!({
        "http": [{"directResponse": {"status": 200}}],
        "rateLimits": [{"tokenBucket": {"maxTokens": 5, "tokensPerFill": 1, "fillInterval": "8760h"}}],
    });
    let mut bootstrap = Bootstrap::new(Configuration::Struct(limited), &upstreams);
    bootstrap.dynamic = true;
    // With the last VM of an id its buckets are gone.
    bootstrap.drain = DRAIN;
    let envoy = Envoy::start(&bootstrap).unwrap();
    let address = envoy.address().unwrap();
    let passed = || (0..10).filter(|_| request(address, "/", &[]).unwrap().status == 200).count();
    assert_eq!(passed(), 5);
    for (plugin, more) in [
        (["meshfilter", "another root", ""], 0),
        (["another name", "another root", ""], 5),
        (["meshfilter", "meshfilter", "another vm"], 5),
        (["meshfilter", "meshfilter", ""], 0),
    ] {
        bootstrap.plugin = plugin.map(str::to_owned);
        // A native module has no VM: its buckets are the process's.
        let more = if is_native() && plugin[2] == "another vm" { 0 } else { more };
        let name = plugin.join("/");
        bootstrap.manager_fields.insert("server_name".to_owned(), name.as_str().into());
        bootstrap.update(envoy.folder()).unwrap();
        let mut first = 0;
        wait_until("the pushed listener", || {
            let response = request(address, "/", &[]).unwrap();
            let pushed = response.header("server").as_deref() == Some(&name);
            first = usize::from(pushed && response.status == 200);
            pushed.then_some(())
        })
        .unwrap();
        assert_eq!(first + passed(), more, "{plugin:?}");
    }
}
