//! A story as people read it.

use std::fmt::Write;

use unicode_width::UnicodeWidthStr;

use super::story::{Looked, Story, Verdict};

/// The stages stand in a column of this width.
const STAGE: usize = 14;
/// No name is given more room, whatever its length.
const WIDEST: usize = 44;

struct Styles {
    bold: &'static str,
    red: &'static str,
    green: &'static str,
    dim: &'static str,
    reset: &'static str,
}

const PLAIN: Styles = Styles { bold: "", red: "", green: "", dim: "", reset: "" };
const COLOURED: Styles =
    Styles { bold: "\x1b[1m", red: "\x1b[1;31m", green: "\x1b[1;32m", dim: "\x1b[2m", reset: "\x1b[0m" };

/// One block for each stage, then the answer, what the upstream sees, and the tags.
pub fn text(story: &Story, colours: bool) -> String {
    let styles = if colours { &COLOURED } else { &PLAIN };
    let Styles { bold, dim, reset, .. } = styles;
    let mut out = format!("{bold}{} {}{reset}\n", story.request.method, story.request.url);
    let all = || story.stages.iter().flat_map(|stage| &stage.looked);
    let width = |of: &dyn Fn(&Looked) -> String| {
        all().map(|looked| of(looked).width()).max().unwrap_or(0).min(WIDEST)
    };
    let (what, place) = (width(&name), width(&place_of));
    for stage in &story.stages {
        for (index, looked) in stage.looked.iter().enumerate() {
            let stage = if index == 0 { stage.stage } else { "" };
            let (mark, colour) = mark(looked.verdict, styles);
            let _ = writeln!(
                out,
                "{stage:STAGE$} {colour}{mark}{reset} {}  {dim}{}{reset}  {}",
                padded(&name(looked), what),
                padded(&place_of(looked), place),
                looked.why
            );
        }
    }
    answer(&mut out, story, styles);
    out
}

fn answer(out: &mut String, story: &Story, Styles { bold, dim, reset, .. }: &Styles) {
    let answer = &story.answer;
    let mut line = match (answer.status, &story.upstream) {
        (None, _) => "closed without an answer".to_owned(),
        (Some(_), Some(upstream)) => upstream.cluster.clone(),
        (Some(status), None) if answer.body.is_empty() => status.to_string(),
        (Some(status), None) => format!("{status} {}", answer.body),
    };
    if answer.delay_ms > 0 {
        line.push_str(&format!(" after {} ms", answer.delay_ms));
    }
    let details =
        if answer.details.is_empty() { String::new() } else { format!("    details {}", answer.details) };
    let _ = writeln!(out, "{bold}→ {line}{reset}{details}    decision {}", story.decision);
    for (name, value) in &answer.headers {
        let _ = writeln!(out, "  {dim}answer{reset}    {name}: {value}");
    }
    if let Some(upstream) = &story.upstream {
        let _ = writeln!(
            out,
            "  {dim}upstream{reset}  {} {} for {}",
            upstream.method, upstream.path, upstream.authority
        );
        for (name, value) in &upstream.set {
            let _ = writeln!(out, "  {dim}upstream{reset}  + {name}: {value}");
        }
        for name in &upstream.removed {
            let _ = writeln!(out, "  {dim}upstream{reset}  - {name}");
        }
        for mirror in &upstream.mirrors {
            let _ = writeln!(out, "  {dim}mirror{reset}    {mirror}");
        }
    }
    if !story.tags.is_empty() {
        let tags: Vec<String> = story.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let _ = writeln!(out, "  {dim}tags{reset}      {}", tags.join("  "));
    }
}

fn name(looked: &Looked) -> String {
    if looked.shadow { format!("{}, shadow", looked.what) } else { looked.what.clone() }
}

fn place_of(looked: &Looked) -> String {
    format!("{}:{}", looked.file, looked.line)
}

fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

fn mark(verdict: Verdict, styles: &Styles) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Passes | Verdict::Chosen => ("✓", styles.green),
        Verdict::Refuses => ("✗", styles.red),
        Verdict::Skipped => ("·", styles.dim),
        Verdict::Applied => ("!", styles.bold),
    }
}
