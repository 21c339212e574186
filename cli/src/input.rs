//! What commands read: files, standard input, folders, and the documents in them.

use std::io;
use std::path::Path;

use crate::package::{bounded, read_bounded};

/// A document of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The file, as it was given or found; `-` is standard input.
    pub file: String,
    /// Its bytes.
    pub text: Vec<u8>,
    /// So many lines of the file stand before it.
    pub before: usize,
}

/// What a given name stands for: itself, or every YAML and JSON file in the folder.
///
/// # Errors
/// That the folder cannot be read.
pub fn files(given: &str) -> io::Result<Vec<String>> {
    if given == "-" || !Path::new(given).is_dir() {
        return Ok(vec![given.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(given)? {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let is_read = ["yaml", "yml", "json"].iter().any(|known| ending.eq_ignore_ascii_case(known));
        if is_read && !path.is_dir() {
            files.push(path.display().to_string());
        }
    }
    files.sort();
    Ok(files)
}

/// The folders in a folder, hidden ones left out: [`files`] does not look into them.
pub fn folders_within(given: &str) -> Vec<String> {
    let entries = std::fs::read_dir(given).into_iter().flatten().flatten();
    let shown = |name: &std::ffi::OsStr| !name.as_encoded_bytes().starts_with(b".");
    let within = entries.filter(|entry| entry.path().is_dir() && shown(&entry.file_name()));
    let mut folders: Vec<String> = within.map(|entry| entry.path().display().to_string()).collect();
    folders.sort();
    folders
}

/// So many bytes are read of a file or of standard input; a device may have no end.
const MOST_BYTES: u64 = 1 << 30;

/// The bytes of a file, or of standard input.
///
/// # Errors
/// That it cannot be read, or has no end.
pub fn read(file: &str) -> io::Result<Vec<u8>> {
    if file != "-" {
        return read_bounded(Path::new(file), MOST_BYTES);
    }
    bounded(io::stdin().lock(), MOST_BYTES)
}

/// Every document of what is given.
///
/// # Errors
/// What cannot be read, and why.
pub fn documents(given: &str) -> Result<Vec<Document>, String> {
    let files = files(given).map_err(|error| format!("{given}: {error}"))?;
    if files.is_empty() {
        return Err(format!("{given}: there is no .yaml, .yml or .json file in this folder"));
    }
    let mut found = Vec::new();
    for file in files {
        let bytes = read(&file).map_err(|error| format!("{file}: {error}"))?;
        let document = |(before, text)| Document { file: file.clone(), text, before };
        found.extend(split(&bytes).into_iter().map(document));
    }
    Ok(found)
}

/// The one policy of what is given. Lines that belong to no document are empty, so that every place is the file's.
///
/// # Errors
/// What cannot be read, or that there are several.
pub fn one(given: &str) -> Result<Document, String> {
    let mut found = documents(given)?;
    match found.len() {
        1 => {
            let Document { file, text, before } =
                found.pop().ok_or_else(|| format!("{given}: there is no document"))?;
            Ok(Document { file, text: [b"\n".repeat(before), text].concat(), before: 0 })
        }
        several => {
            let mut files: Vec<&str> = found.iter().map(|document| document.file.as_str()).collect();
            files.dedup();
            Err(format!(
                "{given}: there are {several} documents, and a policy is one; give the one that is meant, in a file of its \
                 own{}",
                if files.len() > 1 { format!(": {}", files.join(", ")) } else { String::new() }
            ))
        }
    }
}

/// The documents of a text, and how many lines stand before each. What has nothing but comments is none, unless there is no
/// other.
fn split(bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    // No line of a text within a document begins with it: YAML wants it indented.
    let separates = |line: &[u8]| {
        line.strip_prefix(b"---").is_some_and(|rest| {
            rest.is_empty() || rest.starts_with(b"\n") || rest.starts_with(b"\r") || rest.starts_with(b" ")
        })
    };
    let mut parts: Vec<(usize, Vec<u8>)> = vec![(0, Vec::new())];
    let mut is_good = false;
    let mut good = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        if separates(line) {
            good.push(std::mem::take(&mut is_good));
            // What stands behind it belongs to the document.
            let rest = line.get(3..).unwrap_or_default();
            is_good |= has_content(rest);
            parts.push((number, [b"   ", rest].concat()));
            continue;
        }
        is_good |= has_content(line);
        parts.last_mut().into_iter().for_each(|(_, part)| part.extend_from_slice(line));
    }
    good.push(is_good);
    if !good.contains(&true) {
        return vec![(0, bytes.to_vec())];
    }
    parts.into_iter().zip(good).filter(|(_, good)| *good).map(|(part, _)| part).collect()
}

/// Whether there is anything but comments.
pub fn says_anything(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'\n').any(|line| has_content(line.strip_prefix(b"---").unwrap_or(line)))
}

/// Whether a line says anything.
fn has_content(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii();
    !line.is_empty() && !line.starts_with(b"#") && !line.starts_with(b"%") && line != b"..."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(usize, String)> {
        let text_of = |(before, part)| (before, String::from_utf8(part).unwrap());
        split(text.as_bytes()).into_iter().map(text_of).collect()
    }

    fn part(before: usize, text: &str) -> (usize, String) {
        (before, text.to_owned())
    }

    #[test]
    fn a_document_keeps_its_lines() {
        assert_eq!(texts("a: 1\n---\nb: 2\n"), [part(0, "a: 1\n"), part(1, "   \nb: 2\n")]);
        assert_eq!(
            texts("# first\n---\na: |\n  ---\n--- # c\n\n--- {b: 2}"),
            [part(1, "   \na: |\n  ---\n"), part(6, "    {b: 2}")]
        );
    }

    #[test]
    fn what_says_nothing_is_no_document_unless_it_is_all() {
        assert_eq!(texts(""), [part(0, "")]);
        assert_eq!(texts("# nothing\n---\n"), [part(0, "# nothing\n---\n")]);
        assert_eq!(texts("---\na: 1\n---\n"), [part(0, "   \na: 1\n")]);
        assert_eq!(texts("----\n"), [part(0, "----\n")]);
    }
}
