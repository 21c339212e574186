//! `envoy/push/`: the files that users start from are loaded by Envoy, agree with `envoy/envoy.yaml`, and can be replaced.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::case::yaml;
use crate::support::envoy::{Envoy, Upstreams, any_port, cluster, module, replace_file, wait_until};
use crate::support::http::request;
use crate::support::repository;

fn sample(name: &str) -> Value {
    yaml(&fs::read_to_string(repository("envoy").join(name)).unwrap()).unwrap()
}

fn plugin(extension: &mut Value) -> &mut Value {
    &mut extension["resources"][0]["typed_config"]["config"]
}

/// The sample's files, with the paths, ports and clusters of a test.
fn write(folder: &Path, upstreams: &Upstreams) -> Value {
    let here = |text: String| text.replace("/etc/envoy/push", folder.to_str().unwrap());
    let mut extension = sample("push/meshfilter.yaml");
    plugin(&mut extension)["vm_config"]["code"]["local"]["filename"] = module().unwrap().to_str().into();
    replace_file(&folder.join("meshfilter.yaml"), &extension.to_string()).unwrap();
    let mut listeners = sample("push/listeners.yaml");
    listeners["resources"][0]["address"] = any_port();
    replace_file(&folder.join("listeners.yaml"), &here(listeners.to_string())).unwrap();
    let mut bootstrap = sample("push/envoy.yaml");
    bootstrap["admin"]["address"] = any_port();
    let clusters = upstreams.clusters().map(|(name, address)| cluster(name, address));
    bootstrap["static_resources"]["clusters"] = clusters.collect();
    serde_json::from_str(&here(bootstrap.to_string())).unwrap()
}

#[test]
fn the_samples_serve_and_each_file_can_be_replaced() {
    let upstreams = Upstreams::start().unwrap();
    let envoy = Envoy::start_in(1, |folder| write(folder, &upstreams)).unwrap();
    let address = envoy.address().unwrap();
    let server = |header: &str| request(address, "/", &[("canary", "true")]).unwrap().header(header);
    assert_eq!(server("x-upstream").as_deref(), Some("v2"));

    let replace = |name: &str, change: &dyn Fn(&mut Value)| {
        let path = envoy.folder().join(name);
        let mut document = yaml(&fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut document);
        replace_file(&path, &document.to_string()).unwrap();
    };
    replace("meshfilter.yaml", &|extension| {
        let entry = &mut plugin(extension)["configuration"]["value"]["http"][0];
        entry["route"][0]["destination"]["subset"] = "v1".into();
    });
    wait_until("the pushed policy", || (server("x-upstream").as_deref() == Some("v1")).then_some(()))
        .unwrap();
    replace("listeners.yaml", &|listeners| {
        let manager = &mut listeners["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"];
        manager["server_name"] = "pushed".into();
    });
    wait_until("the pushed listener", || (server("server").as_deref() == Some("pushed")).then_some(()))
        .unwrap();
    assert_eq!(server("x-upstream").as_deref(), Some("v1"));
}

#[test]
fn without_a_policy_that_is_right_nobody_passes() {
    let upstreams = Upstreams::start().unwrap();
    let broken = |folder: &Path| {
        let bootstrap = write(folder, &upstreams);
        let path = folder.join("meshfilter.yaml");
        let mut extension = yaml(&fs::read_to_string(&path).unwrap()).unwrap();
        plugin(&mut extension)["configuration"]["value"] = json!({"http": [{"rote": []}]});
        fs::write(&path, extension.to_string()).unwrap();
        bootstrap
    };
    let envoy = Envoy::start_in(1, broken).unwrap();
    assert_eq!(request(envoy.address().unwrap(), "/", &[]).unwrap().status, 500);
    let log = envoy.log();
    assert!(log.contains("http[0].rote: there is no field \"rote\""), "{log}");
}

/// What is written in two places says the same in both.
#[test]
fn the_samples_agree_with_the_bootstrap() {
    let bootstrap = sample("envoy.yaml");
    let resources = &bootstrap["static_resources"];
    let listener = &resources["listeners"][0];
    let pushed = &sample("push/listeners.yaml")["resources"][0];
    let manager = |listener: &Value| listener["filter_chains"][0]["filters"][0]["typed_config"].clone();
    let (whole, part) = (manager(listener), manager(pushed));
    for (name, value) in part.as_object().unwrap() {
        match name.as_str() {
            "http_filters" => {
                let names: Vec<_> = value.as_array().unwrap().iter().map(|filter| &filter["name"]).collect();
                let state = "envoy.filters.http.set_filter_state";
                assert_eq!(names, [state, "meshfilter", "envoy.filters.http.router"]);
                assert_eq!(value[0], whole["http_filters"][0], "{state}");
            }
            "route_config" => {
                let routes = |config: &Value| config["virtual_hosts"][0]["routes"].clone();
                assert_eq!(routes(value)[0], routes(&whole["route_config"])[0]);
            }
            _ => assert_eq!(*value, whole[name], "{name}"),
        }
    }
    assert_eq!(pushed["address"], listener["address"]);
    for cluster in sample("push/envoy.yaml")["static_resources"]["clusters"].as_array().unwrap() {
        assert!(resources["clusters"].as_array().unwrap().contains(cluster), "{cluster}");
    }
    let filters = whole["http_filters"].as_array().unwrap();
    let filter = filters.iter().find(|filter| filter["name"] == "meshfilter").unwrap();
    let mut extension = sample("push/meshfilter.yaml");
    let mut part = plugin(&mut extension).clone();
    let mut whole = filter["typed_config"]["config"].clone();
    let policy = |plugin: &mut Value| plugin["configuration"]["value"].take();
    let (some, all) = (policy(&mut part), policy(&mut whole));
    assert_eq!(part, whole);
    for entry in some["http"].as_array().unwrap() {
        assert!(all["http"].as_array().unwrap().contains(entry), "{entry}");
    }
}
