//! The samples in `envoy/` say what the builder says of their policies: what is written twice cannot drift.

use std::path::{Path, PathBuf};

use meshfilter::config::Errors;
use meshfilter::config::source::{Language, Source};
use meshfilter_cli::envoy::plan::Options;
use meshfilter_cli::envoy::plugin::{Module, PLUGIN_FILE};
use meshfilter_cli::envoy::{Address, Bootstrap, LISTENERS_FILE, Listener, Plugin, listeners_resource};
use serde_json::{Value, json};

fn sample(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let errors = Errors::default();
    let value = Source::read(Language::Yaml, &text, &errors).unwrap().value;
    assert!(errors.into_vec().is_empty());
    value
}

/// What the builder makes of a policy, for everybody to reach, with upstreams called v1 and v2.
fn built(policy: &Value, default: bool) -> Bootstrap {
    let upstream = |name: &str| Address::new(name, 8080);
    let mut endpoints =
        vec![("webapp|v1".to_owned(), vec![upstream("v1")]), ("webapp|v2".to_owned(), vec![upstream("v2")])];
    if default {
        endpoints.push(("default".to_owned(), vec![upstream("v1"), upstream("v2")]));
    }
    let options = Options {
        listen: Address::new("0.0.0.0", 10_000),
        endpoints,
        ..Options::new(Module::Wasm(PathBuf::from("/etc/envoy/meshfilter.wasm")))
    };
    options.plan(policy).unwrap().bootstrap
}

fn policy(manager: &Value) -> &Value {
    let filters = manager["http_filters"].as_array().unwrap();
    let filter = filters.iter().find(|filter| filter["name"] == "meshfilter").unwrap();
    &filter["typed_config"]["config"]["configuration"]["value"]
}

fn manager(listener: &Value) -> &Value {
    &listener["filter_chains"][0]["filters"][0]["typed_config"]
}

fn plugin(listener: &mut Listener) -> &mut Plugin {
    listener.chains[0].http.plugin.as_mut().unwrap()
}

/// Whether a value says nothing that the other does not say. Lists have as many entries in both.
fn assert_part(part: &Value, whole: &Value, path: &str) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            for (name, member) in part {
                let other = whole.get(name).unwrap_or_else(|| panic!("{path}.{name}: the builder has none"));
                assert_part(member, other, &format!("{path}.{name}"));
            }
        }
        (Value::Array(part), Value::Array(whole)) if part.len() == whole.len() => {
            for (index, (one, other)) in part.iter().zip(whole).enumerate() {
                assert_part(one, other, &format!("{path}[{index}]"));
            }
        }
        _ => assert_eq!(part, whole, "{path}"),
    }
}

#[test]
fn the_bootstrap_is_what_the_builder_makes_of_its_policy() {
    let sample = sample("envoy.yaml");
    let policy = policy(manager(&sample["static_resources"]["listeners"][0]));
    let mut built = built(policy, true);
    // For the container's sake: compose publishes the port on the host's loopback alone.
    built.admin = Some(Address::new("0.0.0.0", 9_901));
    let built = built.value();
    assert_part(&sample, &built, "envoy.yaml");
    assert_part(&built, &sample, "the builder's");
}

#[test]
fn what_loads_from_a_registry_is_part_of_it() {
    let mut sample = sample("from-registry.yaml");
    let listener = &sample["static_resources"]["listeners"][0];
    let mut built = built(policy(manager(listener)), false).value();
    // The module is somewhere else, and that is a cluster more.
    let listener = &mut sample["static_resources"]["listeners"][0];
    let filters = &mut listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"];
    let code = &mut filters[1]["typed_config"]["config"]["vm_config"]["code"];
    assert!(code["remote"]["sha256"].is_string());
    *code = json!({"local": {"filename": "/etc/envoy/meshfilter.wasm"}});
    assert_eq!(sample["static_resources"]["clusters"].as_array_mut().unwrap().remove(0)["name"], "registry");
    by_name(&mut sample);
    by_name(&mut built);
    // It has no mirrors, so nothing has to copy.
    assert_part(&sample, &built, "from-registry.yaml");
}

fn by_name(bootstrap: &mut Value) {
    let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
    clusters.sort_by_key(|cluster| cluster["name"].as_str().unwrap().to_owned());
}

#[test]
fn what_comes_from_files_is_part_of_it() {
    let extension = sample("push/meshfilter.yaml");
    let policy = &extension["resources"][0]["typed_config"]["config"]["configuration"]["value"];
    let mut built = built(policy, false);
    let folder = PathBuf::from("/etc/envoy/push");
    let mut listener = built.listeners.remove(0);
    assert_eq!(extension, plugin(&mut listener).resource());
    plugin(&mut listener).from = Some(folder.clone());
    let named = |value: Value| {
        let text = value.to_string().replace(PLUGIN_FILE, "meshfilter.yaml");
        serde_json::from_str::<Value>(&text.replace(LISTENERS_FILE, "listeners.yaml")).unwrap()
    };
    assert_part(&sample("push/listeners.yaml"), &named(listeners_resource(&[listener])), "listeners.yaml");
    built.listeners_from = Some(folder);
    built.node = Some(("edge-1".to_owned(), "edge".to_owned()));
    let (mut sample, mut built) = (sample("push/envoy.yaml"), named(built.value()));
    by_name(&mut sample);
    by_name(&mut built);
    assert_part(&sample, &built, "push/envoy.yaml");
}

#[test]
fn what_a_sidecar_has_is_part_of_it() {
    let sample = sample("k8s/sidecar/envoy.yaml");
    let whole = self::sample("envoy.yaml");
    let built = built(policy(manager(&whole["static_resources"]["listeners"][0])), true).value();
    let mut own = manager(&sample["static_resources"]["listeners"][0]).clone();
    // Its way is the application, and its log has one form.
    for other in ["http_filters", "route_config", "access_log"] {
        own.as_object_mut().unwrap().remove(other).unwrap();
    }
    assert_part(&own, manager(&built["static_resources"]["listeners"][0]), "sidecar/envoy.yaml");
    assert_part(&sample["admin"], &built["admin"], "sidecar/envoy.yaml: admin");
}
