//! What the tests of the dialects have in common.

use std::collections::BTreeSet;

use serde_json::Value;

use super::read::Inputs;
use super::repair::Repairs;
use super::report::{Report, leaves};
use super::scope::Wanted;
use super::{Imported, import};

/// What comes of a text, with nothing said of the proxy.
pub fn imported(text: &str) -> Imported {
    imported_for(text, &Wanted::default(), Repairs::Told)
}

/// What comes of a text.
pub fn imported_for(text: &str, wanted: &Wanted, repairs: Repairs) -> Imported {
    let mut inputs = Inputs::default();
    inputs.add("mesh.yaml", text.as_bytes(), repairs);
    let before: Vec<Value> = inputs.resources.iter().map(|resource| resource.value.clone()).collect();
    let imported = import(&mut inputs, wanted, repairs);
    complete(&before, &imported.report);
    imported
}

/// The policy of a text without an error.
pub fn policy(text: &str) -> Value {
    let imported = imported(text);
    assert_eq!(errors(&imported.report), Vec::<String>::new(), "{text}");
    imported.policy.value
}

/// `line: path: message; remedy`.
pub fn errors(report: &Report) -> Vec<String> {
    report.errors.iter().map(said).collect()
}

/// The same of warnings.
pub fn warnings(report: &Report) -> Vec<String> {
    report.warnings.iter().map(said).collect()
}

fn said(placed: &super::report::Placed) -> String {
    let line = placed.place.line;
    let remedy = if placed.remedy.is_empty() { String::new() } else { format!("; {}", placed.remedy) };
    format!("{line}: {}: {}{remedy}", placed.path, placed.message)
}

/// Every leaf of every resource, as it was read, is in the report, by itself or within something that has one entry.
pub fn complete(resources: &[Value], report: &Report) {
    assert_eq!(resources.len(), report.resources.len());
    for (value, told) in resources.iter().zip(&report.resources) {
        let known: BTreeSet<&str> = told.fields.iter().map(|field| field.path.as_str()).collect();
        leaves(value, String::new(), &mut |path, _| {
            let ends = path.char_indices().filter(|(_, c)| matches!(c, '.' | '['));
            let within = ends.map(|(end, _)| &path[..end]).any(|part| known.contains(part));
            assert!(known.contains(path) || within, "{} {}: {path}", told.kind, told.name);
        });
    }
}
