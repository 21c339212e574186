//! Third-party cases about paths, and Istio's own schema of AuthorizationPolicy.
#![cfg(not(target_family = "wasm"))]

mod shared;

use meshfilter::config::{self, Errors};
use meshfilter::matchers::path::{Readings, is_ambiguous};
use meshfilter::request::split_path;
use serde_json::{Value, json};

/// What Envoy's options make of a path, and what is made of it here where they are off.
#[test]
fn envoys_path_cases() {
    let Some(folder) = shared::folder() else { return };
    let document = shared::json(&folder, "envoy/path_normalization_cases.json");
    let mut ran = 0;
    for case in document["cases"].as_array().unwrap() {
        let input = case["input"].as_str().unwrap();
        let output = case["output"].as_str().map(str::as_bytes);
        let path = split_path(input.as_bytes()).0;
        match case["op"].as_str().unwrap() {
            "remove_query_and_fragment" => assert_eq!(Some(path), output, "{input}"),
            "unescape_slashes" => {
                let escaped = case["result"] == "FoundAndUnescaped";
                // A dot segment is refused for itself.
                assert!(is_ambiguous(path) || !escaped, "{input}");
            }
            "normalize_path" => {
                // What Envoy refuses never comes here; what it changes is refused or read as what it became. That a
                // path begins with a slash is HTTP's rule.
                let Some(output) = output else { continue };
                let same = || Readings::of(path).kept == output;
                assert!(!input.starts_with('/') || is_ambiguous(path) || same(), "{input}");
            }
            // Slashes are merged by the connection manager alone.
            _ => continue,
        }
        ran += 1;
    }
    eprintln!("{ran} cases");
    assert!(ran > 0);
}

/// Every field of Istio's `rules` is one of the document's, with nothing forgotten.
#[test]
fn istios_schema_of_a_rule() {
    let Some(folder) = shared::folder() else { return };
    let schema = shared::json(&folder, "crds/security.istio.io_v1_AuthorizationPolicy.json");
    let rule = &schema["properties"]["spec"]["properties"]["rules"]["items"]["properties"];
    let source = &rule["from"]["items"]["properties"]["source"]["properties"];
    let operation = &rule["to"]["items"]["properties"]["operation"]["properties"];
    let mut ran = 0;
    let mut accepts = |rule: Value| {
        let document = json!({"authorization": [{"rules": [rule]}]});
        let errors = config::compile(&document, &|_| None, Errors::default()).err().unwrap_or_default();
        assert!(errors.is_empty(), "{document}: {errors:?}");
        ran += 1;
    };
    for name in source.as_object().unwrap().keys() {
        let value = match name.to_lowercase() {
            name if name.ends_with("ipblocks") => "10.0.0.0/8",
            name if name.ends_with("serviceaccounts") => "default/frontend",
            _ => "a",
        };
        accepts(json!({"from": [{"source": {name: [value]}}]}));
    }
    for name in operation.as_object().unwrap().keys() {
        let value = match name.to_lowercase() {
            name if name.ends_with("ports") => "80",
            name if name.ends_with("paths") => "/a",
            _ => "a",
        };
        accepts(json!({"to": [{"operation": {name: [value]}}]}));
    }
    for name in rule["when"]["items"]["properties"].as_object().unwrap().keys() {
        let mut condition = json!({"key": "request.headers[a]", "values": ["a"]});
        condition[name] = if name == "key" { json!("source.principal") } else { json!(["b"]) };
        accepts(json!({"when": [condition]}));
    }
    eprintln!("{ran} cases");
    assert!(ran > 0);
}
