//! New policies and new modules under load, by LDS and by ECDS: no request is lost, no limit begins anew, what waits ends
//! as it began, and a wrong policy changes nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::module::other_version;
use crate::support::check::Series;
use crate::support::envoy::native::is_native;
use crate::support::envoy::{Bootstrap, Configuration, Envoy, Upstreams, module, wait_until};
use crate::support::http::{Keeping, request};
use crate::support::load::under_load;

const CLIENTS: usize = 16;
/// Some are taken between any two pushes, and the last one after them all.
const TOKENS: u64 = 6_000;
const DELAY: Duration = Duration::from_millis(1500);
/// So many wait at every push.
const WAITING: u64 = 4;
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
    let response = request(address, path, &[]).unwrap();
    assert_eq!(response.status, 200);
    response.header("x-version").and_then(|version| version.parse().ok()).unwrap()
}

/// What one client of the load saw.
struct Client {
    connection: Keeping,
    sent: u32,
    statuses: BTreeMap<(&'static str, u16), u64>,
}

impl Client {
    fn ask(&mut self) {
        let path = if self.sent.is_multiple_of(4) { "/" } else { "/limited" };
        let status = self.connection.request("GET", path, &[]).expect("an answer").status;
        *self.statuses.entry((path, status)).or_default() += 1;
        self.sent += 1;
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

    let client = |_| Client { connection: Keeping::new(address), sent: 0, statuses: BTreeMap::new() };
    let (slow, clients) = under_load(CLIENTS, client, Client::ask, || {
        let mut slow: Vec<JoinHandle<_>> = Vec::new();
        for next in 1..=way.pushes {
            slow.extend((0..WAITING).map(|_| {
                thread::spawn(move || {
                    let began = Instant::now();
                    (next - 1, version(address, "/slow"), began.elapsed())
                })
            }));
            wait_until("the slow ones wait", || {
                let active = envoy.stat("http.http.downstream_rq_active");
                (active >= WAITING).then_some(())
            })
            .unwrap();
            bootstrap.module = Some((way.module)(next));
            push(&mut bootstrap, &envoy, policy(next));
            wait_until("the new policy", || {
                probes += 1;
                (version(address, "/") == next).then_some(())
            })
            .unwrap();
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
        slow.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });

    for (expected, version, took) in &slow {
        assert_eq!(version, expected, "it ends under the policy that it began with");
        assert!(*took >= DELAY, "after {took:?}");
    }
    let mut statuses: BTreeMap<(&str, u16), u64> = BTreeMap::new();
    for (answer, count) in clients.iter().flat_map(|client| &client.statuses) {
        *statuses.entry(*answer).or_default() += count;
    }
    let answers: Vec<_> = statuses.keys().copied().collect();
    assert_eq!(answers, [("/", 200), ("/limited", 200), ("/limited", 429)]);
    assert_eq!(statuses[&("/limited", 200)] + passed, TOKENS, "the bucket is one bucket all the time");

    // A module takes the series with it that no other has counted since: those of the requests that ended last.
    let keeps = std::ptr::fn_addr_eq(way.module, same as fn(u32) -> PathBuf);
    let lost = if keeps { "" } else { "slow" };
    let sent = statuses.values().sum::<u64>() + probes + if lost.is_empty() { slow.len() as u64 } else { 0 };
    let counts = |series: &Series| {
        series.name == "meshfilter_requests_total"
            && series.labels.get("route").is_none_or(|route| route != lost)
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
