//! Very many open requests with large headers, from a client that sends little: the VM keeps none of their headers.

use std::net::TcpListener;

use serde_json::json;

use crate::http2::open_large;
use crate::support::envoy::{Envoy, Sample, cluster, wait_until};
use crate::support::http::{Upstream, request};
use crate::support::memory::Memory;

const OPEN: usize = 20_000;

/// What one open request may cost in the module, in bytes. It was 56 000 before, and the VM's 1 GiB full.
const MOST: u64 = 2_000;

/// What the memories of the VMs have grown to. They never shrink.
fn linear(envoy: &Envoy) -> u64 {
    Memory::of(envoy.id()).unwrap().linear
}

/// Opens so many requests of a path, twice over: each time all of them are open at once, and others are answered.
fn open_twice(envoy: &Envoy, path: &str, before: u64) {
    let address = envoy.address().unwrap();
    let active = || envoy.stat("http.http.downstream_rq_active");
    for round in 1..=2 {
        let client = open_large(address, path, OPEN).unwrap();
        let all = || (active() == OPEN as u64).then_some(());
        wait_until("all are open", all)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", active(), envoy.log()));
        for _ in 0..20 {
            let good = request(address, "/", &[]).unwrap();
            assert_eq!((good.status, good.header("x-upstream").as_deref()), (200, Some("v1")));
        }
        let cost = (linear(envoy) - before) / OPEN as u64;
        println!("{path}, round {round}: an open request costs {cost} bytes in the module");
        assert!(cost <= MOST, "{cost}");
        drop(client);
        wait_until("none is open", || (active() == 0).then_some(())).unwrap();
    }
    for stat in ["vm_reload", "vm_reload_success", "vm_reload_failure", "vm_reload_backoff"] {
        assert_eq!(envoy.stat(&format!("wasm.meshfilter.{stat}")), 0, "{stat}\n{}", envoy.log());
    }
    let waiting = || envoy.stat("wasmcustom.meshfilter_waiting_requests<reason=delay>");
    wait_until("nobody waits", || (waiting() == 0).then_some(())).unwrap();
}

#[test]
fn twenty_thousand_open_requests_with_large_headers_end_no_worker() {
    let good = Upstream::echo("v1").unwrap();
    // It takes connections, and answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut sample = Sample::new(&[("webapp|v1", good.address())]).unwrap();
    let mut slow = cluster("slow", silent.local_addr().unwrap());
    slow["circuit_breakers"] = json!({"thresholds": [
        {"max_connections": 1, "max_pending_requests": 1_000_000, "max_requests": 1_000_000},
    ]});
    sample.cluster(slow).unwrap();
    sample.cluster(cluster("default", good.address())).unwrap();
    let manager = sample.manager().unwrap();
    // Without the bounds of the sample.
    manager["http2_protocol_options"] = json!({"max_concurrent_streams": 1_000_000});
    manager["stream_idle_timeout"] = "600s".into();
    *sample.policy().unwrap() = json!({
        "http": [
            {"match": [{"uri": {"exact": "/slow"}}], "route": [{"destination": {"cluster": "slow"}}], "timeout": "0s"},
            {
                "match": [{"uri": {"exact": "/delayed"}}],
                "fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "1h"}},
            },
            {"route": [{"destination": {"host": "webapp", "subset": "v1"}}]},
        ],
        "telemetry": {"tags": [{"name": "tenant", "value": {"header": "x-tenant"}, "in": ["metrics", "logs"]}]},
    });
    let envoy = sample.start(1).unwrap();
    let before = linear(&envoy);
    open_twice(&envoy, "/slow", before);
    open_twice(&envoy, "/delayed", before);
}
