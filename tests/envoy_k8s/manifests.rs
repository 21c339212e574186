//! What kustomize makes of each overlay: whether it is kustomize's, whether it has the shape of its kinds, whether its parts
//! fit together and its policies are good.

use std::fs;
use std::process::Command;

use meshfilter::config::{Errors, compile};
use serde_json::{Value, json};

use super::kustomize::{build, find, overlays};
use crate::shared;
use crate::support::case::yaml;
use crate::support::repository;

fn sorted(mut objects: Vec<Value>) -> Vec<Value> {
    objects.sort_by_key(|object| format!("{}/{}", object["kind"], object["metadata"]["name"]));
    objects
}

/// Where there is a kubectl with kustomize 5, both make the same of every overlay.
#[test]
fn kustomize_makes_the_same() {
    let kubectl = |arguments: &[&str]| Command::new("kubectl").args(arguments).output();
    let version =
        kubectl(&["version", "--client"]).map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    if !version.as_ref().is_ok_and(|version| version.contains("Kustomize Version: v5")) {
        eprintln!("0 overlays: there is no kubectl with kustomize 5: {version:?}");
        return;
    }
    for overlay in overlays() {
        let folder = repository("envoy/k8s").join(&overlay).display().to_string();
        let output = kubectl(&["kustomize", &folder]).unwrap();
        assert!(output.status.success(), "{overlay}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let theirs = text.split("\n---\n").map(|document| yaml(document).unwrap()).collect();
        let (ours, theirs) = (sorted(build(&overlay)), sorted(theirs));
        assert_eq!(ours.len(), theirs.len(), "{overlay}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!(ours == theirs, "{overlay}: we make {ours:#}\nkubectl {theirs:#}");
        }
    }
    eprintln!("{} overlays", overlays().len());
}

/// The schema of an object, and where it is from.
fn schema(object: &Value) -> Option<(Value, &'static str)> {
    let [version, kind] = ["apiVersion", "kind"].map(|field| object[field].as_str().unwrap());
    let ours = yaml(include_str!("kinds.yaml")).unwrap();
    if let Some(schema) = ours["kinds"].get(format!("{version}/{kind}")) {
        let mut schema = schema.clone();
        schema["type"] = "object".into();
        schema["definitions"] = ours["definitions"].clone();
        return Some((schema, "kinds.yaml"));
    }
    let folder = shared::folder()?;
    Some((shared::json(&folder, &format!("crds/{}_{kind}.json", version.replace('/', "_"))), "crds"))
}

#[test]
fn every_object_has_the_shape_of_its_kind() {
    let mut ran = [0, 0];
    for overlay in overlays() {
        for object in build(&overlay) {
            let Some((schema, source)) = schema(&object) else { continue };
            let validator = jsonschema::draft7::new(&schema).unwrap();
            let errors: Vec<String> = validator
                .iter_errors(&object)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(
                errors.is_empty(),
                "{overlay}: {} {}: {errors:#?}",
                object["kind"],
                object["metadata"]["name"]
            );
            // The check sees what is wrong.
            for (field, value) in [("spce", json!({})), ("kind", json!("Other"))] {
                let mut wrong = object.clone();
                wrong[field] = value;
                assert!(
                    source == "kinds.yaml" && field == "kind" || !validator.is_valid(&wrong),
                    "{field}: {wrong}"
                );
            }
            ran[usize::from(source == "crds")] += 1;
        }
    }
    eprintln!("{} cases of third-party schemas, {} of our own", ran[1], ran[0]);
    assert!(ran[0] > 0);
}

/// The policies of an object, wherever it keeps them.
fn policies(object: &Value) -> Vec<Value> {
    let struct_of = |filter: &Value| {
        let filter = &filter["typed_config"];
        let native = filter.pointer("/filter_config/value");
        native.unwrap_or(&filter["config"]["configuration"]["value"]).clone()
    };
    let found = match object["kind"].as_str().unwrap() {
        "WasmPlugin" => vec![object["spec"]["pluginConfig"].clone()],
        "EnvoyExtensionPolicy" => {
            let spec = &object["spec"];
            ["wasm", "dynamicModule"].map(|kind| spec[kind][0]["config"].clone()).to_vec()
        }
        "EnvoyFilter" => {
            let patches = object["spec"]["configPatches"].as_array().unwrap().iter();
            patches.map(|patch| struct_of(&patch["patch"]["value"])).collect()
        }
        "ConfigMap" => {
            let text = object["data"].get("policy.yaml");
            text.map(|text| struct_of(&yaml(text.as_str().unwrap()).unwrap()["resources"][0]))
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    };
    found.into_iter().filter(|policy| policy.is_object()).collect()
}

#[test]
fn every_policy_is_good_and_has_nothing_to_warn_of() {
    for overlay in overlays() {
        let mut ran = 0;
        for policy in build(&overlay).iter().flat_map(policies) {
            let compiled = compile(&policy, &|_| None, Errors::default());
            let compiled = compiled.map_err(|errors| format!("{overlay}: {errors:#?}")).unwrap();
            assert!(compiled.warnings.is_empty(), "{overlay}: {:?}", compiled.warnings);
            ran += 1;
        }
        // What has no filter is for others to build on.
        assert_eq!(ran, usize::from(!["bootstrap", "istio"].contains(&overlay.as_str())), "{overlay}");
    }
}

/// Whoever reads the header must set it.
#[test]
fn routes_and_filter_are_for_the_same_proxies() {
    for overlay in overlays().into_iter().filter(|overlay| overlay.starts_with("istio-")) {
        let objects = build(&overlay);
        let routes = find(&objects, "EnvoyFilter", "meshfilter-routes");
        let labels = &routes["spec"]["workloadSelector"]["labels"];
        let contexts = |filter: &Value| {
            let patches = filter["spec"]["configPatches"].as_array().unwrap();
            let mut contexts: Vec<String> =
                patches.iter().map(|patch| patch["match"]["context"].to_string()).collect();
            contexts.dedup();
            contexts
        };
        assert_eq!(contexts(routes).len(), 1, "{overlay}");
        for object in &objects {
            assert_eq!(object["metadata"]["namespace"], routes["metadata"]["namespace"], "{overlay}");
            match object["kind"].as_str().unwrap() {
                "WasmPlugin" => assert_eq!(&object["spec"]["selector"]["matchLabels"], labels, "{overlay}"),
                "EnvoyFilter" => {
                    assert_eq!(&object["spec"]["workloadSelector"]["labels"], labels, "{overlay}");
                    assert_eq!(contexts(object), contexts(routes), "{overlay}");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn the_labels_are_those_of_the_bootstrap() {
    let read = |path: &str| yaml(&fs::read_to_string(repository(path)).unwrap()).unwrap();
    let labels = read("envoy/k8s/bootstrap/stats.yaml");
    assert_eq!(labels, json!({"stats_config": read("envoy/envoy.yaml")["stats_config"]}));
}
