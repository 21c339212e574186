//! The cases on the fake host once more, in Node: the core owes nothing to the machine that it runs on.
#![cfg(all(target_family = "wasm", target_os = "unknown"))]

mod support;

use support::case::{self, Only};
use support::native;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen_test::{console_log, wasm_bindgen_test};

#[wasm_bindgen(module = "node:fs")]
extern "C" {
    #[wasm_bindgen(js_name = readdirSync)]
    fn read_folder(path: &str) -> Vec<String>;
    #[wasm_bindgen(js_name = readFileSync)]
    fn read_file(path: &str, encoding: &str) -> String;
}

#[wasm_bindgen_test]
fn every_case_passes_in_node() {
    let folder = support::repository("tests/cases").display().to_string();
    let (mut ran, mut failed) = (0, Vec::new());
    for file in read_folder(&folder) {
        let Some(id) = file.strip_suffix(".yaml") else { continue };
        let outcome = case::parse(id, &read_file(&format!("{folder}/{file}"), "utf8")).and_then(|case| {
            match case.only {
                Some(Only::Envoy) => native::start(&case).map(|_| ()),
                _ => native::run(&case),
            }
        });
        ran += 1;
        if let Err(error) = outcome {
            failed.push(format!("{id}: {error}"));
        }
    }
    console_log!("{ran} cases ran in Node");
    assert!(ran > 0, "tests/cases has no case");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// A check that cannot fail is worth nothing.
#[wasm_bindgen_test]
fn a_wrong_expectation_fails_in_node() {
    let text = "name: n\npolicy: {}\nrequests: [{name: r, expect: {status: 403}}]\n";
    let error = native::run(&case::parse("self", text).unwrap()).unwrap_err();
    assert!(error.contains("status is 200, should be [403]"), "{error}");
}
