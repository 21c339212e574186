//! `envoy/envoy.yaml`, the bootstrap that users start from: its parts fit together, and fit the filter.

use meshfilter::config::source::{Language, Source};
use meshfilter::config::{Errors, compile};
use meshfilter::policy::metric::{ISTIO_LABELS, LABELS, label_expression};
use serde_json::{Value, json};

fn read(text: &str) -> Value {
    let errors = Errors::default();
    let value = Source::read(Language::Yaml, text, &errors).unwrap().value;
    assert!(errors.into_vec().is_empty());
    value
}

fn bootstrap() -> Value {
    read(include_str!("../envoy/envoy.yaml"))
}

fn connection_manager(bootstrap: &Value) -> &Value {
    &bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
}

fn policy(bootstrap: &Value) -> &Value {
    let filters = connection_manager(bootstrap)["http_filters"].as_array().unwrap();
    let wasm = filters.iter().find(|filter| filter["name"] == "meshfilter").unwrap();
    &wasm["typed_config"]["config"]["configuration"]["value"]
}

/// The names of the policy's tags that go to this place.
fn tags<'a>(policy: &'a Value, place: &str) -> Vec<&'a str> {
    let tags = policy["telemetry"]["tags"].as_array().unwrap().iter();
    let goes = |tag: &&Value| tag["in"].as_array().is_none_or(|places| places.contains(&json!(place)));
    tags.filter(goes).map(|tag| tag["name"].as_str().unwrap()).collect()
}

#[test]
fn the_policy_is_good_and_has_nothing_to_warn_of() {
    let compiled = compile(policy(&bootstrap()), &|_| None, Errors::default());
    let compiled = compiled.map_err(|errors| format!("{errors:#?}")).unwrap();
    assert!(compiled.warnings.is_empty(), "{:?}", compiled.warnings);
}

#[test]
fn every_label_has_its_expression_and_none_is_left_over() {
    let bootstrap = bootstrap();
    let expected: Vec<Value> = LABELS
        .iter()
        .chain(&ISTIO_LABELS)
        .chain(&tags(policy(&bootstrap), "metrics"))
        .map(|label| json!({"tag_name": label, "regex": label_expression(label)}))
        .collect();
    assert_eq!(bootstrap["stats_config"]["stats_tags"], Value::Array(expected));
}

#[test]
fn every_logged_tag_is_in_both_logs_and_in_spans() {
    let bootstrap = bootstrap();
    let manager = connection_manager(&bootstrap);
    for tag in tags(policy(&bootstrap), "logs") {
        let state = format!("%FILTER_STATE(wasm.{tag}:PLAIN)");
        let format = |log: usize| manager["access_log"][log]["typed_config"]["log_format"].to_string();
        assert!(format(0).contains(&format!(r#"{tag}=\"{state}"#)), "{tag}");
        assert!(format(1).contains(&format!("\"{tag}\":\"{state}")), "{tag}");
        let spans = manager["tracing"]["custom_tags"].as_array().unwrap();
        assert!(spans.contains(&json!({"tag": tag, "value": format!("{state}%")})), "{tag}");
    }
}

#[test]
fn every_destination_of_the_policy_is_a_cluster() {
    let bootstrap = bootstrap();
    let clusters = bootstrap["static_resources"]["clusters"].as_array().unwrap();
    let names: Vec<&str> = clusters.iter().map(|cluster| cluster["name"].as_str().unwrap()).collect();
    for entry in policy(&bootstrap)["http"].as_array().unwrap() {
        for route in entry["route"].as_array().unwrap() {
            let part = |name: &str| route["destination"][name].as_str().unwrap();
            let cluster = format!("{}|{}", part("host"), part("subset"));
            assert!(names.contains(&cluster.as_str()), "{cluster}");
        }
    }
}

#[test]
fn every_sample_with_a_route_for_the_choice_has_one_for_the_rewritten_host() {
    for (name, text) in [
        ("envoy.yaml", include_str!("../envoy/envoy.yaml")),
        ("from-registry.yaml", include_str!("../envoy/from-registry.yaml")),
        ("push/listeners.yaml", include_str!("../envoy/push/listeners.yaml")),
        ("k8s/istio/envoyfilter.yaml", include_str!("../envoy/k8s/istio/envoyfilter.yaml")),
    ] {
        let (mut routes, mut told) = (0, 0);
        walk(&read(text), &mut |value| {
            if value["cluster_header"] == "x-meshfilter-cluster" {
                assert_eq!(value["host_rewrite_header"], "x-meshfilter-authority", "{name}");
                routes += 1;
            }
            if value["object_key"] == "meshfilter.rewrites" {
                assert_eq!(value["format_string"]["text_format_source"]["inline_string"], "route", "{name}");
                told += 1;
            }
        });
        assert_eq!((routes, told), (1, 1), "{name}");
    }
}

fn walk(value: &Value, look: &mut dyn FnMut(&Value)) {
    look(value);
    match value {
        Value::Object(members) => members.values().for_each(|member| walk(member, look)),
        Value::Array(elements) => elements.iter().for_each(|element| walk(element, look)),
        _ => {}
    }
}
