//! `policy.schema.json`: as the document's types have it, and every policy that is shown anywhere fits it.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use support::shown::{documents, fenced, files, policies};
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
