//! The policies that samples, examples and pages show.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;

use super::{case, repository};

/// All of them, each with its file's name.
pub fn all() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut hold = |file: &Path, text: &str| {
        let mut some = Vec::new();
        let read = documents(text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        read.iter().for_each(|value| policies(value, &mut some));
        let name = file.strip_prefix(repository("")).unwrap().display().to_string();
        found.extend(some.into_iter().map(|policy| (name.clone(), policy)));
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
    found
}

/// The files of a folder and of those in it, with one of these endings.
pub fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
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
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    text.split("\n---").map(case::yaml).collect()
}

/// The policies in a document, whatever they are wrapped in: objects that have a policy's sections and nothing else.
pub fn policies(value: &Value, found: &mut Vec<Value>) {
    static KNOWN: LazyLock<Value> = LazyLock::new(|| {
        let schema = std::fs::read_to_string(repository("policy.schema.json")).unwrap();
        serde_json::from_str::<Value>(&schema).unwrap()["properties"].take()
    });
    let known = |name: &String| KNOWN.get(name).is_some();
    let sections = ["authentication", "authorization", "destinations", "http", "rateLimits", "telemetry"];
    // What has a section's name elsewhere, such as a cookie or a member of another resource, has another kind of value.
    let section = |object: &serde_json::Map<String, Value>| {
        let is_own = |name: &str, value: &Value| match KNOWN[name]["type"].as_str() {
            Some("array") => value.is_array(),
            _ => value.is_object(),
        };
        sections.iter().any(|name| object.get(*name).is_some_and(|value| is_own(name, value)))
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
pub fn fenced(page: &str) -> Vec<String> {
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
