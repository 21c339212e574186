//! `policy.schema.json`: as the document's types have it, and every policy that is shown anywhere fits it.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{case, repository};

fn committed() -> String {
    std::fs::read_to_string(repository("policy.schema.json")).unwrap()
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft7::new(&serde_json::from_str(&committed()).unwrap()).unwrap()
}

/// Everything that the schema has against a policy.
fn complaints(validator: &jsonschema::Validator, policy: &Value) -> Vec<String> {
    validator.iter_errors(policy).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The files of a folder and of those in it, with one of these endings.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if path
            .extension()
            .and_then(|ending| ending.to_str())
            .is_some_and(|ending| endings.contains(&ending))
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The documents of a text.
fn documents(text: &str) -> Result<Vec<Value>, String> {
    text.split("\n---").map(case::yaml).collect()
}

/// The policies in a document, whatever they are wrapped in: objects that have a policy's sections and nothing else.
fn policies(value: &Value, found: &mut Vec<Value>) {
    let schema: Value = serde_json::from_str(&committed()).unwrap();
    let known = |name: &String| schema["properties"].get(name).is_some();
    let sections = ["authentication", "authorization", "destinations", "http", "rateLimits", "telemetry"];
    // A header or a cookie of a request may have a section's name; its value is no section.
    let section = |object: &serde_json::Map<String, Value>| {
        sections.iter().any(|name| object.get(*name).is_some_and(|value| !value.is_string()))
    };
    match value {
        Value::Object(object) if object.keys().all(known) && section(object) => {
            found.push(value.clone());
        }
        Value::Object(object) => object.values().for_each(|value| policies(value, found)),
        Value::Array(list) => list.iter().for_each(|value| policies(value, found)),
        // As a StringValue or a member of a ConfigMap has it.
        Value::String(text) if text.contains(['\n', '{']) => {
            let read = documents(text).unwrap_or_default();
            read.iter().filter(|value| value.is_object()).for_each(|value| policies(value, found));
        }
        _ => {}
    }
}

/// The fenced pieces of YAML and JSON of a page.
fn fenced(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else { continue };
        let text: Vec<&str> = lines.by_ref().take_while(|line| line.trim_start() != "```").collect();
        if ["yaml", "json"].contains(&language) {
            found.push(text.join("\n"));
        }
    }
    found
}

#[test]
fn the_committed_schema_is_what_the_command_prints() {
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_meshfilter")).arg("schema").output().unwrap();
    assert!(ran.status.success() && ran.stderr.is_empty());
    let same = String::from_utf8(ran.stdout).unwrap() == committed();
    assert!(same, "policy.schema.json is out of date: cargo run -- schema > policy.schema.json");
}

#[test]
fn every_case_fits() {
    let validator = validator();
    let cases = case::read_all(&repository("tests/cases")).unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        assert_eq!(complaints(&validator, &case.policy), Vec::<String>::new(), "{}", case.id);
    }
}

#[test]
fn every_policy_that_is_shown_fits() {
    let validator = validator();
    let mut shown: BTreeMap<String, usize> = BTreeMap::new();
    let mut hold = |file: &Path, text: &str| {
        let mut found = Vec::new();
        let read = documents(text).unwrap_or_else(|error| panic!("{}: {error}\n{text}", file.display()));
        read.iter().for_each(|value| policies(value, &mut found));
        for policy in &found {
            let complaints = complaints(&validator, policy);
            assert_eq!(complaints, Vec::<String>::new(), "{}: {policy:#}", file.display());
        }
        let name = file.strip_prefix(repository("")).unwrap().display().to_string();
        if found.iter().any(|policy| read.contains(policy)) && name.starts_with("envoy/") {
            let line = text.lines().next().unwrap_or_default();
            let schema = line.strip_prefix("# yaml-language-server: $schema=");
            let schema = schema.unwrap_or_else(|| panic!("{name}: the first line names no schema"));
            let schema = file.parent().unwrap().join(schema).canonicalize().unwrap();
            assert_eq!(schema, repository("policy.schema.json").canonicalize().unwrap(), "{name}");
        }
        *shown.entry(name).or_default() += found.len();
    };
    for folder in ["envoy", "examples"] {
        for file in files(&repository(folder), &["yaml", "yml", "json"]) {
            hold(&file, &std::fs::read_to_string(&file).unwrap());
        }
    }
    let mut pages = files(&repository("docs"), &["md"]);
    pages.push(repository("README.md"));
    for page in pages {
        for text in fenced(&std::fs::read_to_string(&page).unwrap()) {
            hold(&page, &text);
        }
    }
    for (file, least) in [
        ("README.md", 1),
        ("docs/authentication.md", 1),
        ("docs/authorization.md", 1),
        ("docs/faults.md", 1),
        ("docs/rate-limits.md", 1),
        ("docs/routing.md", 2),
        ("docs/telemetry.md", 1),
        ("envoy/envoy.yaml", 1),
    ] {
        assert!(shown.get(file).is_some_and(|found| *found >= least), "{file}: {shown:#?}");
    }
}
