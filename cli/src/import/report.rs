//! What became of every field.
//!
//! While a resource is read, a [`Log`] takes down what is said of its fields; the [`Report`] is made of the logs. The places
//! are looked up at the end, and only for what is wrong.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use serde_json::Value;

/// What became of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the policy.
    Taken,
    /// It is in Envoy's own configuration.
    LeftToEnvoy,
    /// It says nothing about what one proxy does.
    NoMeaning,
    /// It is not done.
    Refused,
}

impl Verdict {
    /// As machines read it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Taken => "taken",
            Verdict::LeftToEnvoy => "left_to_envoy",
            Verdict::NoMeaning => "no_meaning",
            Verdict::Refused => "refused",
        }
    }
}

/// A field, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// In the resource, as in `spec.http[0].timeout`; names that the user chose stand in brackets.
    pub path: String,
    /// What became of it.
    pub verdict: Verdict,
    /// As what it was taken, or where it stands in Envoy's configuration; else empty.
    pub to: String,
    /// Why; else empty.
    pub reason: String,
    /// What to do; else empty.
    pub remedy: String,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is written.
    Error,
    /// It is told.
    Warning,
}

/// Something that is wrong, or not as it might have been meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// In the resource; empty for the whole of it.
    pub path: String,
    /// What, and why.
    pub message: String,
    /// What would be right; empty where the message says it.
    pub remedy: String,
    /// Whether the name of the field is what is wrong.
    pub at_name: bool,
}

/// What is said of one resource while it is read. It is shared by everything that reads it.
#[derive(Debug, Default)]
pub struct Log {
    entries: RefCell<Vec<Entry>>,
    problems: RefCell<Vec<Problem>>,
    /// A reading whose verdicts do not count, see [`Log::silently`].
    silent: Cell<bool>,
}

impl Log {
    /// Takes down what became of a field.
    pub fn entry(&self, entry: Entry) {
        if !self.silent.get() {
            self.entries.borrow_mut().push(entry);
        }
    }

    /// Takes down a problem; the same one counts once.
    pub fn problem(&self, problem: Problem) {
        let mut problems = self.problems.borrow_mut();
        if !self.silent.get() && !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// An error about a field, or about the whole resource where the path is empty.
    pub fn error(&self, path: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.problem(Problem {
            severity: Severity::Error,
            path: path.to_owned(),
            message: message.into(),
            remedy: remedy.into(),
            at_name: false,
        });
    }

    /// A warning about a field, or about the whole resource where the path is empty.
    pub fn warn(&self, path: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.problem(Problem {
            severity: Severity::Warning,
            path: path.to_owned(),
            message: message.into(),
            remedy: remedy.into(),
            at_name: false,
        });
    }

    /// Reads without a word, for whoever looks into another resource.
    pub fn silently<T>(&self, read: impl FnOnce() -> T) -> T {
        let before = self.silent.replace(true);
        let result = read();
        self.silent.set(before);
        result
    }

    /// Whether anything is wrong.
    pub fn has_errors(&self) -> bool {
        self.problems.borrow().iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Says of every leaf of a resource that nobody spoke of that it is refused: a field that is not known is an error.
    pub fn close(&self, value: &Value) {
        let mut open = Vec::new();
        {
            let entries = self.entries.borrow();
            let known: HashSet<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
            leaves(value, String::new(), &mut |path, _| {
                if !covered(path, &known) {
                    open.push(path.to_owned());
                }
            });
        }
        // Where something is wrong, what stands beside it may not have been read.
        let wrong = self.problems.borrow().iter().any(|problem| problem.severity == Severity::Error);
        let (reason, remedy) = match wrong {
            true => ("something else here is wrong", "put that right"),
            false => ("nothing is known of this field", "leave it out"),
        };
        for path in open {
            if !wrong {
                self.error(&path, reason, remedy);
            }
            self.entry(Entry {
                path,
                verdict: Verdict::Refused,
                to: String::new(),
                reason: reason.to_owned(),
                remedy: remedy.to_owned(),
            });
        }
    }

    /// What became of the fields, in the order of their paths, and what is wrong.
    pub fn finish(self) -> (Vec<Entry>, Vec<Problem>) {
        let mut entries = self.entries.into_inner();
        entries.sort_by(|a, b| natural(&a.path).cmp(&natural(&b.path)));
        entries.dedup();
        // A field that two readings spoke of has the stronger word: what was taken was taken.
        entries.dedup_by(|later, first| {
            let same = later.path == first.path;
            if same && rank(later.verdict) < rank(first.verdict) {
                std::mem::swap(later, first);
            }
            same
        });
        (entries, self.problems.into_inner())
    }
}

fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Refused => 0,
        Verdict::Taken => 1,
        Verdict::LeftToEnvoy => 2,
        Verdict::NoMeaning => 3,
    }
}

/// Paths in the order in which one reads them: `[2]` before `[10]`.
fn natural(path: &str) -> Vec<(u64, &str)> {
    path.split(['.', '[']).map(|part| (part.trim_end_matches(']').parse().unwrap_or(0), part)).collect()
}

/// Whether a path, or one that it is within, has an entry.
fn covered(path: &str, known: &HashSet<&str>) -> bool {
    let same_name = |path: &str| known.contains(path);
    if same_name(path) {
        return true;
    }
    let ends = path.char_indices().filter(|(_, c)| matches!(c, '.' | '['));
    ends.map(|(end, _)| path.get(..end).unwrap_or_default()).any(same_name)
}

/// Every leaf of a value with its path: scalars, and lists and objects that are empty. Names that could be read as more than a
/// name stand in brackets.
pub fn leaves(value: &Value, path: String, found: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                leaves(value, member(&path, name), found);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (index, value) in list.iter().enumerate() {
                leaves(value, format!("{path}[{index}]"), found);
            }
        }
        _ => found(&path, value),
    }
}

/// The path of a member.
pub fn member(path: &str, name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'@' | b'$'))
        && name.bytes().any(|byte| !byte.is_ascii_digit());
    match plain {
        true if path.is_empty() => name.to_owned(),
        true => format!("{path}.{name}"),
        false => format!("{path}[{name}]"),
    }
}

/// The whole report.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every resource, in the order of the input.
    pub resources: Vec<Told>,
    /// What keeps everything from being written.
    pub errors: Vec<Placed>,
    /// What else there is to say.
    pub warnings: Vec<Placed>,
}

/// What is told of one resource.
#[derive(Clone, Debug)]
pub struct Told {
    /// Such as `VirtualService`.
    pub kind: String,
    /// Its own.
    pub name: String,
    /// Its own, or the one that it is in by default.
    pub namespace: String,
    /// As it was given.
    pub file: String,
    /// Where it begins.
    pub line: usize,
    /// Every field.
    pub fields: Vec<Entry>,
    /// Its kind is not known: it was left alone.
    pub unknown: bool,
}

/// A problem, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// As it was given; empty where the problem is in no file.
    pub file: String,
    /// In the text.
    pub place: meshfilter::config::source::Place,
    /// `VirtualService default/reviews`; empty where the problem is in no resource.
    pub resource: String,
    /// In the resource.
    pub path: String,
    /// What, and why.
    pub message: String,
    /// What would be right.
    pub remedy: String,
}
