//! `envoy/from-registry.yaml`, moved to loopback.

use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::server::{Folder, Registry, meshfilter};
use crate::support::case::yaml;
use crate::support::envoy::{Envoy, any_port, cluster, wait_until};
use crate::support::http::{Upstream, request};
use crate::support::repository;

/// The bootstrap as a user fills it in: with what `meshfilter push` printed, and the addresses of here.
fn bootstrap(registry: SocketAddr, sha256: &str, upstreams: &[Upstream; 2]) -> Value {
    let text = fs::read_to_string(repository("envoy/from-registry.yaml")).unwrap();
    let mut bootstrap = yaml(&text.replace("MODULE_SHA256", sha256)).unwrap();
    bootstrap["admin"]["address"] = any_port();
    let resources = &mut bootstrap["static_resources"];
    resources["listeners"][0]["address"] = any_port();
    let [v1, v2] = upstreams;
    for known in resources["clusters"].as_array_mut().unwrap() {
        let address = match known["name"].as_str().unwrap() {
            "registry" => registry,
            "webapp|v1" => v1.address(),
            "webapp|v2" => v2.address(),
            other => panic!("{other}"),
        };
        *known = cluster(known["name"].as_str().unwrap(), address);
    }
    bootstrap
}

fn upstreams() -> [Upstream; 2] {
    ["v1", "v2"].map(|name| Upstream::echo(name).unwrap())
}

/// Pushes the module, and gives its sha256.
fn push(registry: &Registry) -> String {
    let folder = Folder::new();
    let arguments = ["push", "--format", "json", &registry.reference("meshfilter:1.0"), &super::module()];
    let pushed = super::parsed(&meshfilter(&folder.path("none"), &arguments).good());
    pushed["module"]["sha256"].as_str().unwrap().to_owned()
}

pub fn loads_the_module_from_the_registry() {
    let (registry, upstreams) = (Registry::open(), upstreams());
    let bootstrap = bootstrap(registry.address(), &push(&registry), &upstreams);
    let envoy = Envoy::start_with(&bootstrap).unwrap();
    let address = envoy.address().unwrap();
    let ask = |path: &str, headers: &[(&str, &str)]| request(address, path, headers).unwrap();
    for (headers, upstream) in [(&[("canary", "true")][..], "v2"), (&[], "v1")] {
        let answer = ask("/", headers);
        assert_eq!(
            (answer.status, answer.header("x-upstream").as_deref()),
            (200, Some(upstream)),
            "{}",
            envoy.log()
        );
    }
    let answer = ask("/internal/x", &[]);
    assert_eq!((answer.status, answer.text().as_str()), (403, "RBAC: access denied"), "{}", envoy.log());
}

pub fn loads_nothing_else() {
    let upstreams = upstreams();
    let (open, closed) = (Registry::open(), Registry::with_password());
    let sha256 = push(&open);
    let elsewhere = Upstream::start("elsewhere", {
        let location =
            open.reference("v2/meshfilter/blobs/sha256:").replacen("localhost", "http://127.0.0.1", 1)
                + &sha256;
        move |_| {
            let headers = [(":status", "307"), ("location", location.as_str())];
            (headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).to_vec(), Vec::new())
        }
    });
    for (what, address, pinned) in [
        ("another sum", open.address(), "0".repeat(64)),
        ("a redirect", elsewhere.unwrap().address(), sha256.clone()),
        ("a password", closed.address(), sha256.clone()),
    ] {
        let mut bootstrap = bootstrap(address, &sha256, &upstreams);
        let filter = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/1";
        let remote =
            bootstrap.pointer_mut(&format!("{filter}/typed_config/config/vm_config/code/remote")).unwrap();
        remote["sha256"] = pinned.into();
        remote["retry_policy"] = json!({"num_retries": 1, "retry_back_off": {"base_interval": "0.01s"}});
        let envoy = Envoy::start_with(&bootstrap).unwrap();
        let failed = || (envoy.stat("wasm.remote_load_fetch_failures") > 0).then_some(());
        wait_until("Envoy refuses what it got", failed)
            .unwrap_or_else(|error| panic!("{what}: {error}: {}", envoy.log()));
        for path in ["/", "/internal/x"] {
            let answer = envoy
                .address()
                .and_then(|address| request(address, path, &[]).map_err(|error| error.to_string()));
            assert!(
                !answer.as_ref().is_ok_and(|answer| answer.status != 503),
                "{what}: {answer:?}\n{}",
                envoy.log()
            );
        }
    }
}
