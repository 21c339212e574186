//! The report as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::json;

use super::read::Inputs;
use super::report::{Entry, Placed, Report, Told, Verdict};
use crate::report::{self, Checked};

/// How much of a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Length {
    /// Every field of every resource
    Full,
    /// Of every resource how many fields became what, and those that are refused or have no meaning
    Short,
}

/// For people: every field of every resource, then what is wrong, with its place.
pub fn text(report: &Report, inputs: &Inputs, length: Length, colours: bool) -> String {
    let mut out = String::new();
    for told in &report.resources {
        let name = match told.namespace.is_empty() {
            true => told.name.clone(),
            false => format!("{}/{}", told.namespace, told.name),
        };
        let kind = if told.kind.is_empty() { "no kind" } else { &told.kind };
        let counts = match length {
            Length::Short if !told.unknown => format!(": {}", counts(told)),
            _ => String::new(),
        };
        let _ = writeln!(out, "{kind} {name}  {}:{}{counts}", told.file, told.line);
        if told.unknown {
            let _ = writeln!(out, "  left alone: this kind is not known here");
            continue;
        }
        let is_shown = |field: &&Entry| {
            length == Length::Full || matches!(field.verdict, Verdict::Refused | Verdict::NoMeaning)
        };
        let shown: Vec<&Entry> = told.fields.iter().filter(is_shown).collect();
        let widest = shown.iter().map(|field| field.path.chars().count()).max().unwrap_or_default().min(60);
        for field in shown {
            let _ = writeln!(out, "  {:<13} {:<widest$}  {}", words(field.verdict), field.path, said(field));
        }
    }
    out.push_str(&problems(report, inputs, colours));
    out
}

/// How many fields became what: `12 taken, 1 refused`.
fn counts(told: &Told) -> String {
    let all = [Verdict::Taken, Verdict::LeftToEnvoy, Verdict::NoMeaning, Verdict::Refused];
    let count =
        |verdict| (told.fields.iter().filter(|field| field.verdict == verdict).count(), words(verdict));
    let counts = all.into_iter().map(count).filter(|(count, _)| *count > 0);
    counts.map(|(count, words)| format!("{count} {words}")).collect::<Vec<_>>().join(", ")
}

/// What is wrong and what is told, each with its place, and a line for every file.
pub fn problems(report: &Report, inputs: &Inputs, colours: bool) -> String {
    let mut resources: BTreeMap<&str, usize> = BTreeMap::new();
    for told in &report.resources {
        let count = resources.entry(&told.file).or_default();
        *count = count.saturating_add(1);
    }
    let (mut errors, mut warnings) = (by_file(&report.errors), by_file(&report.warnings));
    let mut files: Vec<Checked> = Vec::new();
    for input in &inputs.texts {
        let name = input.name.as_str();
        let errors = errors.remove(name).unwrap_or_default();
        let resources = resources.get(name).copied().unwrap_or_default();
        let summary = errors
            .is_empty()
            .then(|| format!("{resources} resource{}", if resources == 1 { "" } else { "s" }));
        files.push(Checked {
            file: input.name.clone(),
            // The lines of a file that holds secrets are not shown.
            text: if has_secrets(&input.text) { String::new() } else { input.text.clone() },
            errors,
            warnings: warnings.remove(name).unwrap_or_default(),
            summary,
            ..Checked::default()
        });
    }
    let mut out = report::text(&files, colours);
    for (problems, word) in [(&report.errors, ""), (&report.warnings, "warning: ")] {
        for problem in problems.iter().filter(|problem| problem.file.is_empty()) {
            let remedy =
                if problem.remedy.is_empty() { String::new() } else { format!("; {}", problem.remedy) };
            let _ = writeln!(out, "meshfilter: {word}{}{remedy}", problem.message);
        }
    }
    out
}

/// Problems of files, in the order of their lines.
fn by_file(placed: &[Placed]) -> BTreeMap<&str, Vec<report::Problem>> {
    let mut files: BTreeMap<&str, Vec<report::Problem>> = BTreeMap::new();
    for one in placed.iter().filter(|one| !one.file.is_empty()) {
        files.entry(&one.file).or_default().push(problem(one));
    }
    for problems in files.values_mut() {
        problems.sort_by_key(|problem| (problem.place.line, problem.place.column));
    }
    files
}

fn has_secrets(text: &str) -> bool {
    text.contains("kind: Secret")
        || text.contains("\"Secret\"")
        || text.contains("jwks:")
        || text.contains("\"jwks\"")
}

fn problem(placed: &Placed) -> report::Problem {
    let message = match placed.remedy.is_empty() {
        true => placed.message.clone(),
        false => format!("{}; {}", placed.message, placed.remedy),
    };
    let path = match (placed.resource.is_empty(), placed.path.is_empty()) {
        (true, _) => placed.path.clone(),
        (false, true) => placed.resource.clone(),
        (false, false) => format!("{}: {}", placed.resource, placed.path),
    };
    report::Problem { path, message, place: placed.place }
}

fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Taken => "taken",
        Verdict::LeftToEnvoy => "left to Envoy",
        Verdict::NoMeaning => "no meaning",
        Verdict::Refused => "refused",
    }
}

fn said(field: &Entry) -> String {
    let Entry { to, reason, remedy, .. } = field;
    let parts: Vec<&str> =
        [reason, remedy].into_iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    match (to.is_empty(), parts.is_empty()) {
        (true, _) => parts.join("; "),
        (false, true) => format!("→ {to}"),
        (false, false) => format!("→ {to} ({})", parts.join("; ")),
    }
}

/// For machines.
pub fn json(report: &Report) -> String {
    let field = |field: &Entry| {
        json!({
            "path": field.path,
            "verdict": field.verdict.name(),
            "as": field.to,
            "reason": field.reason,
            "remedy": field.remedy,
        })
    };
    let resource = |told: &Told| {
        json!({
            "kind": told.kind,
            "name": told.name,
            "namespace": told.namespace,
            "file": told.file,
            "line": told.line,
            "fields": told.fields.iter().map(field).collect::<Vec<_>>(),
        })
    };
    let problem = |placed: &Placed| {
        json!({
            "file": placed.file,
            "line": placed.place.line,
            "column": placed.place.column,
            "resource": placed.resource,
            "path": placed.path,
            "message": placed.message,
            "remedy": placed.remedy,
        })
    };
    let report = json!({
        "resources": report.resources.iter().map(resource).collect::<Vec<_>>(),
        "errors": report.errors.iter().map(problem).collect::<Vec<_>>(),
        "warnings": report.warnings.iter().map(problem).collect::<Vec<_>>(),
    });
    format!("{report:#}\n")
}
