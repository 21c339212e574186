//! Third-party YAML through `meshfilter import`: what the guides print, Istio's samples, Linkerd's and SMI's pages. Each file
//! becomes a policy, or is refused with a field and a reason.

#![cfg(not(target_family = "wasm"))]

#[path = "shared/seeds.rs"]
mod seeds;
// Nothing here is JSON.
#[allow(dead_code)]
mod shared;

use std::collections::BTreeMap;

use meshfilter_cli::import::dialects;
use meshfilter_cli::import::read::Inputs;
use meshfilter_cli::import::repair::Repairs;
use meshfilter_cli::import::report::{Report, leaves};
use meshfilter_cli::import::scope::Wanted;
use meshfilter_cli::import::{Imported, import};
use serde_json::Value;

fn imported(name: &str, text: &str, repairs: Repairs) -> (Imported, Vec<Value>) {
    imported_for(name, text, repairs, &Wanted::default())
}

fn imported_for(name: &str, text: &str, repairs: Repairs, wanted: &Wanted) -> (Imported, Vec<Value>) {
    let mut inputs = Inputs::default();
    inputs.add(name, text.as_bytes(), repairs);
    let values = inputs.resources.iter().map(|resource| resource.value.clone()).collect();
    (import(&mut inputs, wanted, repairs), values)
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
        let is_policy =
            imported.report.resources.iter().any(|told| !told.unknown && told.kind != "Namespace");
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
        // Elsewhere, a profile in a client's namespace would be left out before it is read.
        let wanted = Wanted { namespace: Some("linkerd-ns".to_owned()), ..Wanted::default() };
        let (imported, values) = imported_for("profile.yaml", text, Repairs::Told, &wanted);
        complete("profile.yaml", &values, &imported.report);
        let taken = imported.report.errors.is_empty();
        assert_eq!(Some(taken), case["valid"].as_bool(), "{text}\n{:#?}", imported.report.errors);
    }
    println!("{} profiles as Linkerd takes them", cases.len());
    assert!(cases.len() > 20, "{}", cases.len());
}

/// A value that has everything a schema knows, each enumeration's first word.
fn sample(schema: &Value) -> Value {
    sample_of(schema, "x")
}

/// [`sample`] with this for texts.
fn sample_of(schema: &Value, text: &str) -> Value {
    if let Some(word) = schema["enum"].as_array().and_then(|words| words.first()) {
        return word.clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let members = schema["properties"].as_object().into_iter().flatten();
            let mut object: serde_json::Map<String, Value> =
                members.map(|(name, schema)| (name.clone(), sample_of(schema, text))).collect();
            if schema["additionalProperties"].is_object() {
                object.insert("any".to_owned(), sample_of(&schema["additionalProperties"], text));
            }
            Value::Object(object)
        }
        Some("array") => Value::Array(vec![sample_of(&schema["items"], text)]),
        Some("integer" | "number") => schema["default"].as_u64().unwrap_or(1).into(),
        Some("boolean") => true.into(),
        _ => schema["default"].as_str().unwrap_or(text).into(),
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

/// What becomes of a field, the strongest word of all that were heard; words about a value that a sample made up do not count.
#[derive(Clone, Debug, Default)]
struct Becomes {
    words: BTreeMap<&'static str, String>,
}

impl Becomes {
    fn said(&self) -> String {
        for (verdict, shown) in [
            ("taken", "taken"),
            ("left_to_envoy", "left to Envoy"),
            ("no_meaning", "no meaning"),
            ("refused", "refused"),
        ] {
            if let Some(reason) = self.words.get(verdict) {
                return match verdict {
                    "taken" | "left_to_envoy" => shown.to_owned(),
                    _ => format!("{shown}: {}", reason.replace('|', "\\|")),
                };
            }
        }
        "read".to_owned()
    }
}

/// Samples of the kinds that no shared file has, each with every field of its API.
fn own_samples() -> Vec<(String, String)> {
    seeds::files(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("import_kinds"))
}

#[test]
fn no_field_of_our_samples_is_unknown() {
    let mut leaves_seen = 0;
    for (name, text) in own_samples() {
        for repairs in [Repairs::Told, Repairs::Made] {
            let wanted = Wanted { namespace: Some("shop".to_owned()), ..Wanted::default() };
            let (found, values) = imported_for(&name, &text, repairs, &wanted);
            leaves_seen += complete(&name, &values, &found.report);
            let unknown =
                ["is not a field here", "nothing is known of this field", "something else here is wrong"];
            for told in &found.report.resources {
                let lost =
                    told.fields.iter().filter(|field| unknown.iter().any(|text| field.reason.contains(text)));
                let lost: Vec<&str> = lost.map(|field| field.path.as_str()).collect();
                assert!(lost.is_empty(), "{name}: {} {}: {lost:#?}", told.kind, told.name);
                assert!(!told.unknown, "{name}: {}", told.kind);
            }
        }
    }
    println!("{leaves_seen} leaves of our own samples");
    assert!(leaves_seen > 400, "{leaves_seen}");
}

/// The fields of every kind, as the readers took them from all shared files, our samples and a sample of every schema.
#[test]
fn the_page_of_fields_is_what_the_readers_take() {
    let Some(folder) = shared::folder() else { return };
    let mut texts: Vec<(String, String)> = seeds::printed(&folder);
    texts.extend(seeds::files(&folder.join("istio/samples")));
    texts.extend(seeds::files(&folder.join("linkerd_smi")));
    texts.extend(own_samples());
    for entry in std::fs::read_dir(folder.join("crds")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (group, kind) = (file.split('_').next().unwrap(), file.rsplit('_').next().unwrap());
        let version = file.trim_start_matches(group).trim_end_matches(kind).trim_matches('_');
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let mut spec = sample(&schema["properties"]["spec"]);
        let target =
            serde_json::json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"});
        if group == "gateway.envoyproxy.io" {
            spec["targetRef"] = target;
        }
        if spec.get("parentRefs").is_some() {
            spec["parentRefs"] = serde_json::json!([{"name": "edge"}]);
        }
        let value = serde_json::json!({
            "apiVersion": format!("{group}/{version}"), "kind": kind, "metadata": {"name": "x"}, "spec": spec,
        });
        texts.push((file, format!("{EDGE}---\n{value}\n")));
    }
    texts.sort();
    let names = regex::Regex::new(r"\[[^\]]*\]").unwrap();
    let mut kinds: BTreeMap<(&str, &str), BTreeMap<String, Becomes>> = BTreeMap::new();
    for (name, text) in &texts {
        let mut inputs = Inputs::default();
        inputs.add(name, text.as_bytes(), Repairs::Made);
        // What it says of its kind is gone when it was read.
        let known =
            inputs.resources.iter().map(|resource| dialects::find(resource, resource.group.as_deref()));
        let known: Vec<_> = known.collect();
        let found = import(&mut inputs, &Wanted::default(), Repairs::Made);
        for (known, told) in known.into_iter().zip(&found.report.resources) {
            let Ok(Some((dialect, kind))) = known else { continue };
            let fields = kinds.entry((dialect.name, kind.name)).or_default();
            for field in told.fields.iter().filter(|field| !common(&field.path)) {
                let unknown = ["is not a field here", "nothing is known of this field", "did you mean"];
                if unknown.iter().any(|text| field.reason.contains(text) || field.remedy.contains(text)) {
                    continue;
                }
                let becomes = fields.entry(names.replace_all(&field.path, "[]").into_owned()).or_default();
                // What was said of a value, and not of the field.
                let of_value = [" is not ", " is no ", "\"", "there is no ", "something else here is wrong"];
                if field.verdict.name() == "refused"
                    && of_value.iter().any(|text| field.reason.contains(text))
                {
                    continue;
                }
                let word = becomes.words.entry(field.verdict.name()).or_insert_with(|| field.reason.clone());
                if field.reason < *word {
                    word.clone_from(&field.reason);
                }
            }
        }
    }
    let mut page = "# The fields that import knows\n\nWritten by a test from what the readers took out of third-party YAML, out of \
                    one sample of every schema, and out of our own of the kinds that those do not have: what is *taken* is in the policy, what is *left to Envoy* in `envoy.yaml`. A field \
                    that is *read* was only seen with a value that is refused. A field that is in no table, and that no reader asks for, is an error. What \
                    every resource has (`metadata`, `status`) is left out. [`import.md`](import.md) says the rest.\n"
        .to_owned();
    let mut missing = Vec::new();
    for dialect in dialects::DIALECTS {
        for kind in dialect.kinds {
            let Some(fields) = kinds.get(&(dialect.name, kind.name)).filter(|fields| !fields.is_empty())
            else {
                missing.push(format!("{} {}", dialect.name, kind.name));
                continue;
            };
            page.push_str(&format!(
                "\n## {} {}\n\n| field | what becomes of it |\n|---|---|\n",
                dialect.name, kind.name
            ));
            for (path, said) in rows(fields) {
                page.push_str(&format!("| `{path}` | {said} |\n"));
            }
        }
    }
    assert!(missing.is_empty(), "no sample has these: {}", missing.join(", "));
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/import-fields.md");
    if std::env::var_os("MESHFILTER_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/import-fields.md: MESHFILTER_WRITE_DOCS=1 writes it anew");
    let rows = page.lines().filter(|line| line.starts_with("| `")).count();
    println!("{rows} fields of {} kinds", kinds.len());
    assert!(rows > 500, "{rows}");
}

/// One row for each field; for all that is within another and has no meaning or is refused for one reason, one row.
fn rows(fields: &BTreeMap<String, Becomes>) -> Vec<(String, String)> {
    // What stands in several places of a kind is told in one.
    const AGAIN: [(&str, &str); 3] = [
        ("spec.subsets[].trafficPolicy", "as spec.trafficPolicy"),
        ("spec.trafficPolicy.portLevelSettings[]", "as spec.trafficPolicy"),
        ("spec.prependedRoutes[]", "as spec.http"),
    ];
    let all: Vec<(&str, String)> =
        fields.iter().map(|(path, becomes)| (path.as_str(), becomes.said())).collect();
    let within =
        |path: &str, whole: &str| path.strip_prefix(whole).is_some_and(|rest| rest.starts_with(['.', '[']));
    let mut rows: Vec<(String, String)> = Vec::new();
    for (path, said) in &all {
        let again = AGAIN.iter().find(|(whole, _)| within(path, whole));
        let quiet = said.starts_with("refused") || said.starts_with("no meaning");
        let ends = path.char_indices().filter(|(_, c)| *c == '.').map(|(end, _)| &path[..end]);
        let same =
            |whole: &&str| all.iter().filter(|(path, _)| within(path, whole)).all(|(_, of)| of == said);
        let whole = ends.filter(|whole| *whole != "spec").find(same).filter(|_| quiet);
        let row = match (again, whole) {
            (Some((whole, as_what)), _) => (format!("{whole}.*"), (*as_what).to_owned()),
            (None, Some(whole)) => (format!("{whole}.*"), said.clone()),
            (None, None) => ((*path).to_owned(), said.clone()),
        };
        if rows.last() != Some(&row) {
            rows.push(row);
        }
    }
    rows
}

/// What every resource has.
fn common(path: &str) -> bool {
    let first = path.split(['.', '[']).next().unwrap_or_default();
    matches!(first, "apiVersion" | "kind" | "metadata" | "status")
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
