//! Bytes → documents.

use meshfilter::config::source::{Place, Source};

use super::language;
use crate::import::repair::{Indented, Repairs, indentation};

/// What a text says, and what is wrong with it.
pub struct Read {
    pub text: String,
    pub documents: Vec<Source>,
    pub errors: Vec<Trouble>,
    pub warnings: Vec<Trouble>,
}

/// Something that is wrong with a text.
#[derive(Debug)]
pub struct Trouble {
    /// In the document; empty for the whole of it.
    pub path: String,
    /// What, and why.
    pub message: String,
    /// What would be right; empty where the message says it.
    pub remedy: String,
    /// In the text.
    pub place: Place,
}

/// Of a text that `helm template` has not made yet.
pub const TEMPLATE: &str = "this is the text of a Helm template, not YAML yet";
/// What to do then.
pub const RENDER: &str = "import what it becomes: helm template CHART | meshfilter import -";

/// Reads a text. One that cannot be read has an error and no documents.
pub fn read(file: &str, bytes: &[u8], repairs: Repairs) -> Read {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut read = Read {
        text: String::from_utf8_lossy(bytes).into_owned(),
        documents: Vec::new(),
        errors: Vec::new(),
        warnings: Vec::new(),
    };
    if let Err(error) = std::str::from_utf8(bytes) {
        read.errors.push(not_text(bytes, error.valid_up_to()));
        return read;
    }
    let language = language(file, &read.text);
    let mut found = Source::read_all(language, &read.text);
    if found.is_err() {
        if let Some(place) = template(&read.text) {
            read.errors.push(trouble("", TEMPLATE, RENDER, place));
            return read;
        }
        if let Some((text, lines)) = indentation(language, &read.text) {
            let told = |line: Indented| match repairs {
                Repairs::Told => trouble("", &line.message, &line.remedy, line.place),
                Repairs::Made => trouble("", &line.done, "", line.place),
            };
            let told = lines.into_iter().map(told);
            if repairs == Repairs::Told {
                read.errors.extend(told);
                return read;
            }
            read.warnings.extend(told);
            found = Source::read_all(language, &text);
            read.text = text;
        }
    }
    let documents = match found {
        Ok(documents) => documents,
        Err(error) => {
            read.errors.push(trouble("", &error.message, "", error.place));
            return read;
        }
    };
    for (source, errors) in documents {
        for error in errors.into_vec() {
            let place = source.place(&error.path, error.at_name);
            read.errors.push(trouble(&error.path, &error.message, "", place));
        }
        read.documents.push(source);
    }
    read
}

fn trouble(path: &str, message: &str, remedy: &str, place: Place) -> Trouble {
    Trouble { path: path.to_owned(), message: message.to_owned(), remedy: remedy.to_owned(), place }
}

/// The first thing in a text that only a template has.
fn template(text: &str) -> Option<Place> {
    let lines = text.lines().zip(1_usize..);
    let mut marked = lines.filter(|(line, _)| !line.trim_start().starts_with('#'));
    marked.find_map(|(line, number)| {
        let start = line.find("{{").filter(|_| is_template(line))?;
        let before = line.get(..start).unwrap_or_default().chars().count();
        let length = line.get(start..).unwrap_or_default().trim_end().chars().count();
        Some(Place { line: number, column: before.saturating_add(1), length })
    })
}

/// Whether a text has what Go's templates have: `{{ .Values.name }}`, `{{- if …`.
pub fn is_template(text: &str) -> bool {
    let words = [
        "if ",
        "if(",
        "else",
        "end",
        "range ",
        "with ",
        "include ",
        "template ",
        "define ",
        "toYaml ",
        "tpl ",
        "/*",
    ];
    actions(text)
        .any(|inner| inner.starts_with(['.', '$', '(']) || words.iter().any(|word| inner.starts_with(word)))
}

/// Whether a text has anything that Go's templates may make something of, `{{ default "a" .b }}`: for texts that decide.
pub fn may_be_template(text: &str) -> bool {
    actions(text).any(|inner| inner.starts_with(|c: char| c.is_ascii_alphabetic() || ".$(\"`/".contains(c)))
}

/// What stands behind each `{{` of a text.
fn actions(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{").skip(1).map(|rest| rest.trim_start_matches('-').trim_start())
}

fn not_text(bytes: &[u8], valid: usize) -> Trouble {
    let before = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default()).into_owned();
    let line = before.matches('\n').count().saturating_add(1);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
    let place = Place { line, column, length: 1 };
    trouble("", "this byte is not part of UTF-8 text", "save the file as UTF-8", place)
}
