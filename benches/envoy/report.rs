//! The results as Markdown that terminals can show, too.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::configurations::Group;
use crate::instructions::Counts;
use crate::results::{Figure, Machine, Ratio, Results};
use crate::targets::{Found, targets};

/// The reference of what has no counterpart of its own.
const TUNED: &str = "native-tuned";
const BARE: &str = "bare";
const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// All tables.
pub fn report(results: &Results) -> String {
    let Machine { processor, processors, kernel, envoy } = &results.machine;
    let mut text = format!("Envoy {envoy}, the module of {} bytes", results.module);
    if !results.figures.is_empty() {
        let _ = write!(
            text,
            "; time: {} rounds of {} requests for each configuration, {processor}, {processors} processors, Linux {kernel}",
            results.rounds, results.slice
        );
    }
    let _ = write!(text, ".\n\n### Targets\n\n{}\n", target_table(results));
    let mut counted: BTreeMap<Group, Vec<&Counts>> = BTreeMap::new();
    results.instructions.iter().for_each(|counts| counted.entry(counts.group).or_default().push(counts));
    for (group, counts) in counted {
        let _ = write!(
            text,
            "### {}, in instructions\n\n{}\n",
            title(group),
            instruction_table(results, &counts)
        );
    }
    for (group, figures) in results.groups() {
        let _ = write!(text, "### {}, in time\n\n{}\n", title(group), table(results, &figures));
    }
    if !results.starts.is_empty() {
        let _ = write!(text, "### Start and memory\n\n{}\n", start_table(results));
    }
    if let Some(keys) = &results.keys {
        let growth = keys.growth as f64 / MEBIBYTE;
        let _ = write!(
            text,
            "### {} keys of a limit\n\nA request costs {:.1} µs with a thousand keys that come again and again, and {:.1} µs when \
             each is new and all the others came before. Envoy's memory grows by {growth:.1} MiB.\n",
            keys.count, keys.few, keys.many
        );
    }
    text
}

fn title(group: Group) -> &'static str {
    match group {
        Group::Chain => "The whole chain",
        Group::Alone => "Each policy alone",
        Group::Entries => "Many entries",
        Group::Hosts => "Many hosts",
        Group::Rules => "Many authorization rules",
        Group::Workers => "Two workers",
        Group::Headers => "60 request headers",
    }
}

fn target_table(results: &Results) -> String {
    let mut rows = vec![["what", "at most", "found", "holds"].map(str::to_owned)];
    for target in targets(results) {
        let found = match target.found {
            None => "not measured".to_owned(),
            Some(Found::Instructions(instructions)) => thousands(instructions),
            Some(Found::Multiple(multiple)) => format!("{multiple:.2}"),
            Some(Found::Size(size)) => format!("{size:.2}"),
        };
        let holds = match target.holds() {
            None => "",
            Some(true) => "yes",
            Some(false) => "**no**",
        };
        rows.push([
            target.what.to_owned(),
            match target.found {
                Some(Found::Instructions(_)) => thousands(target.most),
                _ => format!("{} {}", target.most, target.unit),
            },
            found,
            holds.to_owned(),
        ]);
    }
    aligned(&rows)
}

fn table(results: &Results, figures: &[&Figure]) -> String {
    // Some have a tuned chain of their own.
    let tuned = figures.iter().all(|figure| figure.bare == BARE).then_some(TUNED);
    let mut rows = vec![["", "µs", "added", "× tuned", "× its counterpart"].map(str::to_owned)];
    for figure in figures {
        let is_bare = figure.name == figure.bare;
        let added = results.added(&figure.name).filter(|_| !is_bare);
        let ratio = |to: Option<&str>| to.filter(|_| !is_bare).and_then(|to| results.ratio(&figure.name, to));
        rows.push([
            figure.title.clone(),
            format!("{:.1}", figure.lowest),
            added.map_or(String::new(), |added| format!("{added:.1}")),
            shown(ratio(tuned)),
            shown(ratio(figure.native.as_deref())),
        ]);
    }
    aligned(&rows)
}

fn instruction_table(results: &Results, counted: &[&Counts]) -> String {
    let mut rows = vec![["", "instructions", "added", "× tuned", "× its counterpart"].map(str::to_owned)];
    for counts in counted {
        let name = &counts.name;
        let is_bare = *name == counts.bare;
        let ratio = |to: Option<&str>| {
            let ratio = results.instruction_ratio(name, to.filter(|_| !is_bare)?);
            ratio.map(|ratio| format!("{ratio:.2}"))
        };
        let added = results.more_instructions(name).filter(|_| !is_bare).map(thousands);
        rows.push([
            counts.title.clone(),
            thousands(counts.instructions),
            added.unwrap_or_default(),
            ratio(Some(TUNED)).unwrap_or_default(),
            ratio(counts.native.as_deref()).unwrap_or_default(),
        ]);
    }
    aligned(&rows)
}

/// A whole number that eyes can read.
fn thousands(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let head = digits.len() % 3;
    let mut parts: Vec<&str> = Vec::from_iter((head > 0).then(|| &digits[..head]));
    parts.extend((head..digits.len()).step_by(3).map(|start| &digits[start..start + 3]));
    format!("{}{}", if number < -0.5 { "-" } else { "" }, parts.join(" "))
}

fn start_table(results: &Results) -> String {
    let mut rows = vec![
        ["", "ready after ms", "MiB with 1 worker", "2", "4", "for each worker more"].map(str::to_owned),
    ];
    for start in results.starts.iter().filter(|start| start.workers == 1) {
        let resident = |workers: u32| Some(results.resident(&start.name, workers)? as f64 / MEBIBYTE);
        let more = resident(4).zip(resident(1)).map(|(four, one)| (four - one) / 3.0);
        let shown = |size: Option<f64>| size.map_or(String::new(), |size| format!("{size:.1}"));
        rows.push([
            start.title.clone(),
            format!("{:.0}", start.ready),
            shown(resident(1)),
            shown(resident(2)),
            shown(resident(4)),
            shown(more),
        ]);
    }
    aligned(&rows)
}

/// A ratio, or both where they disagree.
fn shown(ratio: Option<Ratio>) -> String {
    match ratio {
        None => String::new(),
        Some(ratio) if ratio.is_steady() => format!("{:.2}", ratio.lowest),
        Some(ratio) => format!("{:.2} (tenth percentile: {:.2})", ratio.lowest, ratio.tenth),
    }
}

/// A Markdown table that is one for eyes, too; the first row is its head.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ = match column {
                0 => write!(text, "| {cell:width$} |"),
                _ => write!(text, " {cell:>width$} |"),
            };
        }
        text.push('\n');
        if number == 0 {
            for (column, width) in widths.into_iter().enumerate() {
                let _ = match column {
                    0 => write!(text, "|{:-<1$}|", "", width + 2),
                    _ => write!(text, "{:->1$}|", ":", width + 2),
                };
            }
            text.push('\n');
        }
    }
    text
}
