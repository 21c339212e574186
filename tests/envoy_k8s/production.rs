//! What every sample must say for production: one list, and all of `envoy/` held to it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::kustomize::{build, overlays};
use crate::support::case::yaml;
use crate::support::repository;

/// What a connection manager with the filter in it says, or a patch of one.
fn required() -> [(&'static str, Value); 3] {
    [
        // x_user and x-user are one header to many upstreams.
        ("/common_http_protocol_options/headers_with_underscores_action", json!("REJECT_REQUEST")),
        // What one client can keep in memory.
        ("/http2_protocol_options/max_concurrent_streams", json!(100)),
        ("/max_request_headers_kb", json!(60)),
    ]
}

/// Every sample by its name: files that Envoy reads, and what kustomize makes of the overlays.
fn samples() -> Vec<(String, Value)> {
    let mut samples = Vec::new();
    for path in files(&repository("envoy")) {
        // Parts of overlays, and what is no configuration of Envoy's.
        if !path.components().any(|part| part.as_os_str() == "k8s") {
            let text = fs::read_to_string(&path).unwrap();
            samples.push((path.display().to_string(), yaml(&text).unwrap()));
        }
    }
    for overlay in overlays() {
        for mut object in build(&overlay) {
            // A file in a ConfigMap is a sample of its own.
            for (_, text) in object["data"].as_object_mut().into_iter().flatten() {
                *text = yaml(text.as_str().unwrap()).unwrap();
            }
            samples.push((format!("{overlay}: {}", object["kind"]), object));
        }
    }
    samples
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let yaml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml");
    folders.iter().flat_map(|folder| self::files(folder)).chain(files.into_iter().filter(yaml)).collect()
}

/// Calls `visit` with every object in a document.
fn objects<'a>(value: &'a Value, visit: &mut impl FnMut(&'a Value)) {
    visit(value);
    match value {
        Value::Object(map) => map.values().for_each(|value| objects(value, visit)),
        Value::Array(list) => list.iter().for_each(|value| objects(value, visit)),
        _ => {}
    }
}

fn is_manager(value: &Value) -> bool {
    let kind = value["@type"].as_str().unwrap_or_default();
    // Without filters it is a patch of one that has ours.
    let filters = value["http_filters"].as_array();
    kind.ends_with(".HttpConnectionManager")
        && filters.is_none_or(|filters| filters.iter().any(|filter| filter["name"] == "meshfilter"))
}

#[test]
fn every_connection_manager_has_what_production_needs() {
    let mut seen = Vec::new();
    for (name, sample) in samples() {
        objects(&sample, &mut |manager| {
            if !is_manager(manager) {
                return;
            }
            for (pointer, value) in required() {
                assert_eq!(manager.pointer(pointer), Some(&value), "{name}: {pointer}");
            }
            seen.push(name.clone());
        });
    }
    // Four bootstraps and their like, and the overlays of Istio and of sidecars.
    assert!(seen.len() >= 8, "{seen:?}");
    for word in
        ["envoy/envoy.yaml", "from-registry", "push/", "sidecar: ", "istio-wasmplugin", "istio-inbound"]
    {
        assert!(seen.iter().any(|name| name.contains(word)), "{word}: {seen:?}");
    }
    // Envoy Gateway has an object of its own for it.
    let gateway = build("envoy-gateway");
    let policy = gateway.iter().find(|object| object["kind"] == "ClientTrafficPolicy").unwrap();
    assert_eq!(policy["spec"]["headers"]["withUnderscoresAction"], "RejectRequest");
    assert_eq!(policy["spec"]["http2"]["maxConcurrentStreams"], required()[1].1);
}

/// A value with a space in it would be two fields else.
#[test]
fn every_tag_in_a_text_log_stands_in_quotes() {
    let mut seen = 0;
    for (name, sample) in samples() {
        objects(&sample, &mut |format| {
            let Some(text) = format["text_format_source"]["inline_string"].as_str() else { return };
            for (place, _) in text.match_indices("%FILTER_STATE(") {
                let end = place + 1 + text[place + 1..].find('%').unwrap();
                let around = (text[..place].chars().next_back(), text[end + 1..].chars().next());
                assert_eq!(around, (Some('"'), Some('"')), "{name}: {}", &text[place..=end]);
                seen += 1;
            }
        });
    }
    assert!(seen > 0);
}
