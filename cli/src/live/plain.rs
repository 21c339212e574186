//! The picture as plain text, for `--once`.

use std::fmt::Write;

use unicode_width::UnicodeWidthStr;

use super::picture::{Picture, span};
use super::table::{self, Cell, Mark, Table};

/// The table first, then what is below it on the screen. No colours: it is for scripts, too.
pub fn text(picture: &Picture, table: &Table) -> String {
    let mut out = String::new();
    let cells: Vec<Vec<String>> =
        std::iter::once(table.columns.iter().map(|it| it.title.to_owned()).collect())
            .chain(table.rows.iter().map(|row| row.cells.iter().map(cell).collect()))
            .collect();
    let width = |column: usize| {
        cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
    for row in &cells {
        let mut line = String::new();
        for ((cell, width), column) in row.iter().zip(&widths).zip(&table.columns) {
            let pad = " ".repeat(width.saturating_sub(cell.width()));
            let cell = if column.is_name { format!("{cell}{pad}") } else { format!("{pad}{cell}") };
            let _ = write!(line, "{}{cell}", if line.is_empty() { "" } else { "  " });
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    if table.rows.is_empty() {
        let _ = writeln!(out, "no requests in {:.0} s", picture.window_seconds);
    }
    for comparison in &picture.comparisons {
        let mut parts = table::compared(comparison).into_iter();
        let _ = writeln!(out, "\ncanary   {}", parts.next().map(|(who, _)| who).unwrap_or_default());
        for (text, mark) in parts {
            let _ = writeln!(out, "       {} {text}", sign(mark));
        }
    }
    let (decisions, policies) = table::refusals(picture);
    let parts = [
        ("refused", decisions),
        ("by", policies),
        ("limits", table::limits(picture)),
        ("keys", table::key_sets(picture)),
    ];
    for (title, lines) in parts {
        let mut title = title;
        if !lines.is_empty() && title != "by" {
            out.push('\n');
        }
        for line in lines {
            let _ = writeln!(out, "{title:8} {line}");
            title = "";
        }
    }
    let said = |envoy: &super::picture::Admin| match (&envoy.version, envoy.uptime_seconds) {
        (Some(version), Some(uptime)) => format!("{} {version} up {}", envoy.address, span(uptime)),
        _ => envoy.address.clone(),
    };
    let envoys: Vec<String> = picture.envoys.iter().map(said).collect();
    let _ = writeln!(out, "\nenvoys   {}", envoys.join(", "));
    for warning in &picture.warnings {
        let _ = writeln!(out, "! {warning}");
    }
    out
}

fn cell((cell, mark): &(Cell, Option<Mark>)) -> String {
    format!("{}{}", sign(*mark).trim(), cell.text())
}

fn sign(mark: Option<Mark>) -> &'static str {
    match mark {
        Some(Mark::Worse) => "▼",
        Some(Mark::Better) => "▲",
        None => " ",
    }
}
