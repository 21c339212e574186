//! What often stands where it does not belong, and where it does: found always, put right with `--repair`.

use meshfilter::config::source::{Language, Place, Source};
use serde_json::Value;

use super::report::{Entry, Log, Problem, Severity, Verdict, leaves};

/// What is done about things that stand in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repairs {
    /// They are errors.
    Told,
    /// They are put where they belong, and that is told.
    Made,
}

/// What was moved within a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Where it stands.
    pub from: String,
    /// Where it belongs.
    pub to: String,
    /// What stood there.
    pub value: Value,
    /// Why it does not belong where it stands; empty where it only made room for another.
    pub reason: String,
}

/// Says of everything that was moved that it was, or that it has to be.
pub fn tell(moves: Vec<Move>, log: &Log, repairs: Repairs) {
    for Move { from, to, value, reason } in moves {
        if reason.is_empty() {
            leaves(&value, from, &mut |path, _| {
                log.entry(Entry {
                    path: path.to_owned(),
                    verdict: Verdict::Taken,
                    to: format!("{to}, which it is now"),
                    reason: String::new(),
                    remedy: String::new(),
                });
            });
            continue;
        }
        let remedy = format!("it belongs in {to}; --repair puts it there");
        leaves(&value, from.clone(), &mut |path, _| {
            let entry = match repairs {
                Repairs::Told => Entry {
                    path: path.to_owned(),
                    verdict: Verdict::Refused,
                    to: String::new(),
                    reason: reason.clone(),
                    remedy: remedy.clone(),
                },
                Repairs::Made => Entry {
                    path: path.to_owned(),
                    verdict: Verdict::Taken,
                    to: format!("{to}, where it was moved to"),
                    reason: reason.clone(),
                    remedy: String::new(),
                },
            };
            log.entry(entry);
        });
        let (severity, message, remedy) = match repairs {
            Repairs::Told => (Severity::Error, reason, remedy),
            Repairs::Made => (Severity::Warning, format!("{reason}: moved to {to}"), String::new()),
        };
        log.problem(Problem { severity, path: from, message, remedy, at_name: true });
    }
}

/// A line that was moved to where it makes the text valid.
#[derive(Debug)]
pub struct Indented {
    /// What is wrong with it.
    pub message: String,
    /// What would be right.
    pub remedy: String,
    /// What was done.
    pub done: String,
    /// Where it stands.
    pub place: Place,
}

/// So many lines are moved in one text at most.
const MOST: usize = 50;

/// A text that is no YAML because keys stand among the items of a list, and what it becomes when they stand beside the key of
/// that list: `from` and `to`, `match` and `route`.
pub fn indentation(language: Language, text: &str) -> Option<(String, Vec<Indented>)> {
    let mut text = text.to_owned();
    let mut moved = Vec::new();
    for _ in 0..MOST {
        let Err(error) = Source::read_all(language, &text) else { break };
        let (better, told) = outdent(&text, error.place.line)?;
        text = better;
        moved.push(told);
    }
    Source::read_all(language, &text).is_ok().then_some((text, moved)).filter(|(_, moved)| !moved.is_empty())
}

/// Moves the first key near a line that stands among the items of a list, and all below it.
fn outdent(text: &str, near: usize) -> Option<(String, Indented)> {
    let lines: Vec<&str> = text.lines().collect();
    let candidates = [near, near.saturating_add(1), near.saturating_sub(1)];
    for number in candidates.into_iter().filter(|number| *number > 0) {
        let index = number.saturating_sub(1);
        let Some(line) = lines.get(index) else { continue };
        let Some(name) = key(line) else { continue };
        let indent = blanks(line);
        let Some((list, column, list_line)) = list_around(&lines, index, indent) else { continue };
        let less = indent.checked_sub(column)?;
        let mut better: Vec<String> = Vec::with_capacity(lines.len());
        let mut inside = false;
        for (at, line) in lines.iter().enumerate() {
            inside = (at == index) || (inside && (line.trim().is_empty() || blanks(line) >= indent));
            let cut = if inside { less.min(blanks(line)) } else { 0 };
            better.push(line.get(cut..).unwrap_or(line).to_owned());
        }
        let place = Place { line: number, column: indent.saturating_add(1), length: name.chars().count() };
        let told = Indented {
            message: format!("{name} stands among the items of {list} (line {list_line}), which is no YAML"),
            remedy: format!("indent it as {list} is, {less} less; --repair does"),
            done: format!("{name} stood among the items of {list} (line {list_line}): indented as {list} is"),
            place,
        };
        return Some((better.join("\n") + "\n", told));
    }
    None
}

/// The list among whose items, at this indentation, a line stands: its key, the column of that, and its line.
fn list_around<'t>(lines: &[&'t str], index: usize, indent: usize) -> Option<(&'t str, usize, usize)> {
    let mut items = 0_usize;
    for (at, line) in lines.iter().enumerate().take(index).rev() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') || blanks(line) > indent {
            continue;
        }
        if blanks(line) == indent {
            if !line.trim_start().starts_with("- ") {
                return None;
            }
            items = items.saturating_add(1);
            continue;
        }
        let dashes = line.len().saturating_sub(line.trim_start_matches([' ', '-']).len());
        let name = key(line.get(dashes..)?)?;
        return (items > 0 && dashes < indent).then_some((name, dashes, at.saturating_add(1)));
    }
    None
}

fn blanks(line: &str) -> usize {
    line.len().saturating_sub(line.trim_start_matches(' ').len())
}

/// The name that a line begins with.
fn key(line: &str) -> Option<&str> {
    let (name, rest) = line.trim_start().split_once(':')?;
    let named = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (named && (rest.is_empty() || rest.starts_with([' ', '\r']))).then_some(name)
}
