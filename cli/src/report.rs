//! How what was found is printed.

use std::fmt::Write;

use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use meshfilter::config::source::Place;

/// The widest piece of a line that is shown.
const WIDTH: usize = 100;

/// What was found in one file.
#[derive(Debug, Default)]
pub struct Checked {
    /// As it was given.
    pub file: String,
    /// What stands in it, or the document of it that was checked.
    pub text: String,
    /// So many lines of the file stand before the text.
    pub before: usize,
    /// Sorted by place.
    pub errors: Vec<Problem>,
    /// Sorted by place.
    pub warnings: Vec<Problem>,
    /// What the policy has, if it is good.
    pub summary: Option<String>,
    /// The document, if it is good.
    pub policy: Value,
}

impl Checked {
    /// Has the places of the file, of which so many lines stand before what was checked.
    pub fn stands_behind(&mut self, before: usize) {
        for problem in self.errors.iter_mut().chain(&mut self.warnings) {
            problem.place.line = problem.place.line.saturating_add(before);
        }
        self.before = self.before.saturating_add(before);
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// In the document; empty for the whole of it.
    pub path: String,
    /// What, and what would be right.
    pub message: String,
    /// In the file.
    pub place: Place,
}

struct Styles {
    bold: &'static str,
    red: &'static str,
    yellow: &'static str,
    green: &'static str,
    dim: &'static str,
    reset: &'static str,
}

const PLAIN: Styles = Styles { bold: "", red: "", yellow: "", green: "", dim: "", reset: "" };
const COLOURED: Styles = Styles {
    bold: "\x1b[1m",
    red: "\x1b[1;31m",
    yellow: "\x1b[1;33m",
    green: "\x1b[1;32m",
    dim: "\x1b[2m",
    reset: "\x1b[0m",
};

/// For people: every problem with its line and a mark under the place, and a last line for each file.
pub fn text(files: &[Checked], colours: bool) -> String {
    let styles = if colours { &COLOURED } else { &PLAIN };
    let Styles { bold, red, yellow, green, reset, .. } = styles;
    let mut out = String::new();
    for checked in files {
        for problem in &checked.errors {
            explain(&mut out, checked, problem, "", red, styles);
        }
        for problem in &checked.warnings {
            explain(&mut out, checked, problem, "warning: ", yellow, styles);
        }
        let file = printable(checked.file.chars());
        let _ = match &checked.summary {
            Some(summary) => writeln!(out, "{bold}{file}{reset}: {green}ok{reset}: {summary}"),
            None => {
                writeln!(out, "{bold}{file}{reset}: {red}{}{reset}", count(checked.errors.len(), "error"))
            }
        };
    }
    out
}

/// For machines.
pub fn json(files: &[Checked]) -> String {
    let problems = |problems: &[Problem]| -> Value {
        let problem = |problem: &Problem| {
            json!({
                "line": problem.place.line,
                "column": problem.place.column,
                "path": problem.path,
                "message": problem.message,
            })
        };
        problems.iter().map(problem).collect()
    };
    let file = |checked: &Checked| {
        json!({
            "file": checked.file,
            "ok": checked.errors.is_empty(),
            "errors": problems(&checked.errors),
            "warnings": problems(&checked.warnings),
            "summary": checked.summary,
        })
    };
    let files: Value = files.iter().map(file).collect();
    format!("{:#}\n", json!({ "files": files }))
}

/// `1 error`, `2 errors`.
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn explain(
    out: &mut String,
    checked: &Checked,
    problem: &Problem,
    kind: &str,
    colour: &str,
    styles: &Styles,
) {
    let Styles { bold, dim, reset, .. } = styles;
    let Place { line, column, .. } = problem.place;
    let path = if problem.path.is_empty() { "document" } else { &problem.path };
    let (file, path, message) =
        (printable(checked.file.chars()), printable(path.chars()), printable(problem.message.chars()));
    let _ = writeln!(out, "{bold}{file}:{line}:{column}:{reset} {colour}{kind}{path}{reset}: {message}");
    let own = line.saturating_sub(1).saturating_sub(checked.before);
    let Some(source) = checked.text.lines().nth(own) else { return };
    if source.trim().is_empty() {
        return;
    }
    let (shown, before, marks) = excerpt(&without_keys(source), problem.place);
    let _ = writeln!(out, "{dim}{line:>5} |{reset} {shown}");
    let _ = writeln!(out, "{dim}      |{reset} {:before$}{colour}{:^>marks$}{reset}", "", "");
}

/// A line without the secret half of a key in it (RFC 7518, 6.3.2 and 6.4.1); every character keeps its place.
fn without_keys(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let begins = |text: &str| {
        let (member, value) = text.split_once(':')?;
        let member = member.trim_end().trim_end_matches(['"', '\'']);
        let name = member.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let value_at = value.len().saturating_sub(value.trim_start_matches([' ', '"', '\'']).len());
        let start = text.len().saturating_sub(value.len()).saturating_add(value_at);
        Some((matches!(name, "k" | "d" | "p" | "q" | "dp" | "dq" | "qi"), start))
    };
    while let Some((secret, start)) = begins(rest) {
        let (before, value) = rest.split_at(start.min(rest.len()));
        out.push_str(before);
        let is_of_it = |c: &char| c.is_ascii_alphanumeric() || "-_+/=".contains(*c);
        let length = value.chars().take_while(is_of_it).count();
        let (value, after) = value.split_at(length);
        match secret {
            true => out.extend(std::iter::repeat_n('*', length)),
            false => out.push_str(value),
        }
        rest = after;
    }
    out + rest
}

/// The piece of a line around a place, how many columns in it the place begins, and how many it takes.
fn excerpt(source: &str, place: Place) -> (String, usize, usize) {
    let source = source.trim_end();
    let characters = source.chars().count();
    let column = place.column.saturating_sub(1).min(characters);
    let start = match characters > WIDTH {
        true => column.saturating_sub(WIDTH / 3).min(characters.saturating_sub(WIDTH)),
        false => 0,
    };
    let inside = column.saturating_sub(start);
    let piece = printable(source.chars().skip(start).take(WIDTH));
    let (ahead, rest): (String, String) =
        (piece.chars().take(inside).collect(), piece.chars().skip(inside).collect());
    let marked: String = rest.chars().take(place.length).collect();
    let mut shown = piece;
    let mut before = ahead.width();
    if start > 0 {
        shown.insert(0, '…');
        before = before.saturating_add(1);
    }
    if start.saturating_add(WIDTH) < characters {
        shown.push('…');
    }
    (shown, before, marked.width().max(1))
}

/// Text from a file, without what would command the terminal or turn the direction of writing; every character keeps
/// its place.
pub fn printable(text: impl Iterator<Item = char>) -> String {
    let safe = |c: char| match c {
        '\t' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: usize, column: usize, length: usize) -> Place {
        Place { line, column, length }
    }

    fn wrong(text: &str, place: Place) -> Checked {
        Checked {
            file: "policy.yaml".to_owned(),
            text: text.to_owned(),
            errors: vec![Problem { path: "a.b".to_owned(), message: "no; use 1".to_owned(), place }],
            ..Checked::default()
        }
    }

    #[test]
    fn a_problem_is_shown_with_its_line_and_a_mark() {
        assert_eq!(
            text(&[wrong("a:\n\tb: -5 # five\n", place(2, 5, 2))], false),
            "policy.yaml:2:5: a.b: no; use 1\n    2 |  b: -5 # five\n      |     ^^\npolicy.yaml: 1 error\n"
        );
    }

    #[test]
    fn a_place_past_the_end_of_the_text_is_no_trouble() {
        assert_eq!(
            text(&[wrong("", place(9, 9, 9))], false),
            "policy.yaml:9:9: a.b: no; use 1\npolicy.yaml: 1 error\n"
        );
        assert!(text(&[wrong("a", place(1, 9, 9))], false).contains("    1 | a\n      |  ^\n"));
    }

    #[test]
    fn a_key_is_not_shown() {
        for (line, shown) in [
            (
                "keys: [{kty: oct, k: dG9wLXNlY3JldA==, alg: 5}]",
                "keys: [{kty: oct, k: ****************, alg: 5}]",
            ),
            (
                r#"{"kty":"RSA","n":"AQ","d" : "abc","e":"AQAB"}"#,
                r#"{"kty":"RSA","n":"AQ","d" : "***","e":"AQAB"}"#,
            ),
            ("- uri: https://a:8443/k:x", "- uri: https://a:8443/k:x"),
            ("k:", "k:"),
            ("é: {k: ab}", "é: {k: **}"),
        ] {
            assert_eq!(without_keys(line), shown);
        }
    }

    #[test]
    fn of_a_long_line_the_piece_around_the_place_is_shown() {
        let line = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));
        let (shown, before, marks) = excerpt(&line, place(1, 501, 4));
        assert_eq!(shown.chars().count(), WIDTH + 2);
        assert_eq!(shown.chars().skip(before).take(marks).collect::<String>(), "HERE");
        let (shown, before, _) = excerpt(&line, place(1, 1004, 1));
        assert_eq!(shown.chars().nth(before), Some('b'));
    }

    #[test]
    fn the_mark_is_as_wide_as_what_it_is_under() {
        // Each of these takes two columns; an accent of its own takes none.
        let (shown, before, marks) = excerpt("名前: 値段 # 説明", place(1, 5, 2));
        assert_eq!((shown.as_str(), before, marks), ("名前: 値段 # 説明", 6, 4));
        let (_, before, marks) = excerpt("e\u{301}: x", place(1, 5, 1));
        assert_eq!((before, marks), (3, 1));
        let line = format!("{}値{}", "名".repeat(500), "前".repeat(500));
        let (shown, before, marks) = excerpt(&line, place(1, 501, 1));
        let ahead: String = shown.chars().take_while(|c| *c != '値').collect();
        assert_eq!((ahead.width(), marks), (before, 2));
    }

    #[test]
    fn nothing_in_a_file_commands_the_terminal() {
        let printed = text(&[wrong("a: \x1b[31m\u{9b}x", place(1, 1, 1))], false);
        assert!(!printed.contains(['\x1b', '\u{9b}']), "{printed:?}");
        let printed = text(&[wrong("a: \u{202e}x\u{2066}", place(1, 1, 1))], false);
        assert!(!printed.contains(['\u{202e}', '\u{2066}']), "{printed:?}");
    }

    #[test]
    fn colours_come_only_when_they_are_wanted() {
        let files = [wrong("a: 1\n", place(1, 4, 1))];
        assert!(text(&files, true).contains("\x1b[1;31m^\x1b[0m"));
        assert!(!text(&files, false).contains('\x1b'));
    }

    #[test]
    fn machines_get_every_place() {
        let good = Checked { file: "b".to_owned(), summary: Some("1 tag".to_owned()), ..Checked::default() };
        let printed: Value = serde_json::from_str(&json(&[wrong("a: 1\n", place(1, 4, 1)), good])).unwrap();
        assert_eq!(
            printed,
            json!({"files": [
                {"file": "policy.yaml", "ok": false, "warnings": [], "summary": null,
                 "errors": [{"line": 1, "column": 4, "path": "a.b", "message": "no; use 1"}]},
                {"file": "b", "ok": true, "errors": [], "warnings": [], "summary": "1 tag"},
            ]})
        );
    }
}
