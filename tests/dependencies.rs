//! What this is built from: under which licences, from where, and in how many versions.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Licences under which a dependency may come: all of them permissive.
const ALLOWED: [&str; 10] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn cargo(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn packages() -> Vec<Value> {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--locked", "--format-version", "1"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap().clone();
    assert!(packages.len() > 50, "{}", packages.len());
    packages
}

/// Whether an SPDX expression leaves a choice that is allowed; a slash is an old way to write `OR`.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], "");
    let each = |part: &str| part.split(" OR ").any(|licence| ALLOWED.contains(&licence.trim()));
    expression.split(" AND ").all(each)
}

#[test]
fn every_licence_is_permissive() {
    for (expression, expected) in [
        ("MIT OR Apache-2.0", true),
        ("MIT/GPL-3.0", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("Apache-2.0 AND GPL-3.0", false),
        ("LGPL-2.1-or-later", false),
        ("", false),
    ] {
        assert_eq!(allowed(expression), expected, "{expression}");
    }
    for package in packages() {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(allowed(licence), "{} {} comes under {licence:?}", package["name"], package["version"]);
    }
}

#[test]
fn everything_comes_from_the_registry_and_is_locked() {
    for package in packages() {
        let source = package["source"].as_str();
        let ours = package["name"].as_str().is_some_and(|name| name.starts_with("meshfilter"));
        assert_eq!(source, if ours { None } else { Some(REGISTRY) }, "{}", package["name"]);
    }
}

#[test]
fn nothing_is_in_the_module_twice() {
    let tree = cargo(&[
        "tree",
        "--locked",
        "--package",
        "meshfilter",
        "--target",
        "wasm32-wasip1",
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in tree.lines() {
        let mut words = line.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions.entry(name).or_default().insert(version);
        }
    }
    assert!(versions.len() > 20, "{versions:#?}");
    versions.retain(|_, versions| versions.len() > 1);
    println!("{versions:?}");
    assert!(versions.is_empty(), "{versions:#?}");
}
