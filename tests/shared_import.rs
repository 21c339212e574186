//! Third-party YAML through `meshfilter import`: what the guides print, Istio's samples, Linkerd's and SMI's pages. Each file
//! becomes a policy, or is refused with a field and a reason.

#![cfg(not(target_family = "wasm"))]

#[path = "shared/seeds.rs"]
mod seeds;
// Nothing here is JSON.
#[allow(dead_code)]
mod shared;

use std::collections::BTreeMap;

use meshfilter_cli::import::read::Inputs;
use meshfilter_cli::import::repair::Repairs;
use meshfilter_cli::import::report::{Report, leaves};
use meshfilter_cli::import::scope::Wanted;
use meshfilter_cli::import::{Imported, import};
use serde_json::Value;

fn imported(name: &str, text: &str, repairs: Repairs) -> (Imported, Vec<Value>) {
    let mut inputs = Inputs::default();
    inputs.add(name, text.as_bytes(), repairs);
    let values = inputs.resources.iter().map(|resource| resource.value.clone()).collect();
    (import(&mut inputs, &Wanted::default(), repairs), values)
}

/// Every leaf is in the report, by itself or within something that has one entry.
fn complete(name: &str, values: &[Value], report: &Report) -> usize {
    assert_eq!(values.len(), report.resources.len(), "{name}");
    let mut count = 0;
    for (value, told) in values.iter().zip(&report.resources) {
        let known: std::collections::BTreeSet<&str> =
            told.fields.iter().map(|field| field.path.as_str()).collect();
        leaves(value, String::new(), &mut |path, _| {
            let ends = path.char_indices().filter(|(_, c)| matches!(c, '.' | '['));
            let within = ends.map(|(end, _)| &path[..end]).any(|part| known.contains(part));
            assert!(known.contains(path) || within, "{name}: {} {}: {path}", told.kind, told.name);
            count += 1;
        });
    }
    count
}

/// What became of a file: nothing is wrong, or the first thing that is.
fn outcome(imported: &Imported) -> Result<(), String> {
    match imported.report.errors.first() {
        None => Ok(()),
        Some(error) => {
            assert!(!error.message.is_empty());
            Err(format!("{}: {}", error.path, error.message))
        }
    }
}

#[test]
fn every_file_is_imported_or_refused_with_a_reason_and_no_leaf_is_forgotten() {
    let Some(folder) = shared::folder() else { return };
    let mut table: Vec<(String, Result<(), String>)> = Vec::new();
    let mut count = 0;
    let mut inputs = seeds::printed(&folder);
    inputs.extend(seeds::files(&folder.join("istio/samples")));
    inputs.extend(seeds::files(&folder.join("linkerd_smi")));
    for (name, text) in &inputs {
        // Files are repaired, so that what is left are reasons and no slips.
        let (first, values) = imported(name, text, Repairs::Made);
        count += complete(name, &values, &first.report);
        let (again, _) = imported(name, text, Repairs::Made);
        assert_eq!(first.policy.yaml(), again.policy.yaml(), "{name}");
        let (told, values) = imported(name, text, Repairs::Told);
        complete(name, &values, &told.report);
        // What was put right is an error where it is not.
        if first.report.errors.is_empty() && !told.report.errors.is_empty() {
            assert!(
                told.report.errors.iter().all(|error| error.remedy.contains("--repair")),
                "{name}: {:#?}",
                told.report.errors
            );
        }
        table.push((name.clone(), outcome(&first)));
    }
    let refused: BTreeMap<&str, &str> = table
        .iter()
        .filter_map(|(name, outcome)| Some((name.as_str(), outcome.as_ref().err()?.as_str())))
        .collect();
    for (name, reason) in &refused {
        println!("refused   {name}\n          {reason}");
    }
    println!(
        "{} files, {count} leaves: {} imported, {} refused",
        table.len(),
        table.len() - refused.len(),
        refused.len()
    );
    assert!(table.len() > 100, "{}", table.len());
}

#[test]
fn every_policy_that_the_guides_print_becomes_one() {
    let Some(folder) = shared::folder() else { return };
    let printed = seeds::printed(&folder);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut refused = Vec::new();
    let mut files: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, text) in &printed {
        *files.entry(name.split('#').next().unwrap_or_default()).or_default() += 1;
        let (imported, _) = imported(name, text, Repairs::Made);
        for told in &imported.report.resources {
            *kinds.entry(told.kind.clone()).or_default() += 1;
        }
        // A namespace alone asks for nothing, and an input of nothing is refused.
        let is_policy = imported.report.resources.iter().any(|told| !told.unknown);
        match outcome(&imported) {
            Err(reason) if is_policy => refused.push(format!("{name}: {reason}\n{text}")),
            Err(reason) => assert!(reason.contains("nothing in the input"), "{name}: {reason}"),
            Ok(_) => assert!(is_policy, "{name} is nothing, and is imported"),
        }
    }
    println!("{} texts of the guides: {files:?}: {kinds:?}", printed.len());
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    assert!(printed.len() > 40, "{}", printed.len());
}

#[test]
fn profiles_are_taken_and_refused_as_linkerd_does() {
    let Some(folder) = shared::folder() else { return };
    let cases = shared::json(&folder, "linkerd_smi/serviceprofile_validate_cases.json");
    let cases = cases["cases"].as_array().unwrap();
    for case in cases {
        let text = case["yaml"].as_str().unwrap();
        let (imported, values) = imported("profile.yaml", text, Repairs::Told);
        complete("profile.yaml", &values, &imported.report);
        let taken = imported.report.errors.is_empty();
        assert_eq!(Some(taken), case["valid"].as_bool(), "{text}\n{:#?}", imported.report.errors);
    }
    println!("{} profiles as Linkerd takes them", cases.len());
    assert!(cases.len() > 20, "{}", cases.len());
}

/// A value that has everything a schema knows, each enumeration's first word.
fn sample(schema: &Value) -> Value {
    if let Some(word) = schema["enum"].as_array().and_then(|words| words.first()) {
        return word.clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let members = schema["properties"].as_object().into_iter().flatten();
            let mut object: serde_json::Map<String, Value> =
                members.map(|(name, schema)| (name.clone(), sample(schema))).collect();
            if schema["additionalProperties"].is_object() {
                object.insert("any".to_owned(), sample(&schema["additionalProperties"]));
            }
            Value::Object(object)
        }
        Some("array") => Value::Array(vec![sample(&schema["items"])]),
        Some("integer" | "number") => schema["default"].as_u64().unwrap_or(1).into(),
        Some("boolean") => true.into(),
        _ => schema["default"].as_str().unwrap_or("x").into(),
    }
}

#[test]
fn no_field_of_the_gateway_api_is_unknown() {
    let Some(folder) = shared::folder() else { return };
    let mut leaves_seen = 0;
    for (file, kind) in [
        ("gateway.networking.k8s.io_v1_Gateway", "Gateway"),
        ("gateway.networking.k8s.io_v1beta1_Gateway", "Gateway"),
        ("gateway.networking.k8s.io_v1_HTTPRoute", "HTTPRoute"),
        ("gateway.networking.k8s.io_v1beta1_HTTPRoute", "HTTPRoute"),
        ("gateway.networking.k8s.io_v1_GRPCRoute", "GRPCRoute"),
    ] {
        let text = std::fs::read_to_string(folder.join(format!("crds/{file}.json"))).unwrap();
        let schema: Value = serde_json::from_str(&text).unwrap();
        let spec = sample(&schema["properties"]["spec"]);
        // A filter has one type: one route for each of them. A rule that redirects has no backends.
        let types = &schema["properties"]["spec"]["properties"]["rules"]["items"]["properties"]["filters"]["items"]
            ["properties"]["type"]["enum"];
        let types = types.as_array().cloned().unwrap_or_else(|| vec![Value::Null]);
        for of in types {
            let mut spec = spec.clone();
            let Some(rule) = spec.pointer_mut("/rules/0") else {
                leaves_seen += known(file, kind, &spec);
                continue;
            };
            for pointer in ["/filters/0", "/backendRefs/0/filters/0"] {
                let filter = rule.pointer_mut(pointer).and_then(Value::as_object_mut).unwrap();
                let member = of.as_str().unwrap().to_ascii_lowercase();
                filter.retain(|name, _| name.to_ascii_lowercase() == member);
                filter.insert("type".to_owned(), of.clone());
            }
            spec["parentRefs"] =
                serde_json::json!([{"name": "edge", "kind": "Service", "group": "core", "port": 80}]);
            leaves_seen += known(file, kind, &spec);
        }
    }
    println!("{leaves_seen} leaves of the Gateway API's schemas");
    assert!(leaves_seen > 500, "{leaves_seen}");
}

#[test]
fn no_field_of_envoy_gateway_s_policies_is_unknown() {
    let Some(folder) = shared::folder() else { return };
    let mut leaves_seen = 0;
    for kind in ["SecurityPolicy", "BackendTrafficPolicy"] {
        let file = format!("gateway.envoyproxy.io_v1alpha1_{kind}");
        let text = std::fs::read_to_string(folder.join(format!("crds/{file}.json"))).unwrap();
        let schema: Value = serde_json::from_str(&text).unwrap();
        let mut spec = sample(&schema["properties"]["spec"]);
        let target =
            serde_json::json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"});
        spec["targetRef"] = target.clone();
        spec["targetRefs"] = serde_json::json!([target]);
        leaves_seen += known(&file, kind, &spec);
    }
    println!("{leaves_seen} leaves of Envoy Gateway's schemas");
    assert!(leaves_seen > 250, "{leaves_seen}");
}

/// What policies are attached to.
const EDGE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: any, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: a, port: 80}]}]}
";

/// Fails if a field is told to be unknown; gives the number of leaves.
fn known(file: &str, kind: &str, spec: &Value) -> usize {
    let is_attached = file.starts_with("gateway.envoyproxy.io");
    let group = if is_attached { "gateway.envoyproxy.io/v1alpha1" } else { "gateway.networking.k8s.io/v1" };
    let resource = serde_json::json!({
        "apiVersion": group, "kind": kind, "metadata": {"name": "x"}, "spec": spec,
    });
    for gateway in [None, Some(("default".to_owned(), "x".to_owned()))] {
        // A route of a Service is no Gateway's.
        if gateway.is_some() && kind != "Gateway" {
            continue;
        }
        let mut inputs = Inputs::default();
        if is_attached {
            inputs.add("edge.yaml", EDGE.as_bytes(), Repairs::Told);
        }
        inputs.add("x.json", resource.to_string().as_bytes(), Repairs::Told);
        let values: Vec<Value> = inputs.resources.iter().map(|resource| resource.value.clone()).collect();
        let found = import(&mut inputs, &Wanted { gateway, ..Wanted::default() }, Repairs::Told);
        for error in &found.report.errors {
            let unknown = ["is not a field here", "nothing is known of this field"];
            assert!(
                !unknown.iter().any(|text| error.message.contains(text)),
                "{file}: {}: {}",
                error.path,
                error.message
            );
        }
        complete(file, &values, &found.report);
    }
    let mut count = 0;
    leaves(spec, String::new(), &mut |_, _| count += 1);
    count
}
