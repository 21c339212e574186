//! What is wrong, and where.

use std::cell::{Cell, RefCell};
use std::fmt;

/// A place in the document, kept on the stack and written out only when there is an error to report.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Root,
    Field(&'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    /// The document itself.
    pub const ROOT: Path<'static> = Path { parent: None, segment: Segment::Root };

    /// A member with a name that the schema knows: `.name`.
    pub fn field(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), segment: Segment::Field(name) }
    }

    /// A member with a name that the user chose: `[name]`.
    pub fn key(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), segment: Segment::Key(name) }
    }

    /// An element of a list: `[0]`.
    pub fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), segment: Segment::Index(index) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_root = self.parent.is_none_or(|parent| matches!(parent.segment, Segment::Root));
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Field(name) if at_root => f.write_str(name),
            Segment::Field(name) => write!(f, ".{name}"),
            Segment::Key(name) => write!(f, "[{name}]"),
            Segment::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Where: `http[1].route[0].weight`; empty for the document itself.
    pub path: String,
    /// What, and what would be right.
    pub message: String,
    /// Whether the name of the member is what is wrong, and not its value.
    pub at_name: bool,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.path.is_empty() { "document" } else { &self.path };
        write!(f, "{place}: {}", self.message)
    }
}

/// How many errors are reported: nobody reads more, and a document of nothing but errors is not to cost more.
const MOST: usize = 200;

/// Collects what is wrong, so that all of it is reported at once.
#[derive(Debug, Default)]
pub struct Errors {
    found: RefCell<Vec<Error>>,
    hints: Cell<Option<Hints>>,
}

/// What to do about a name that is not known where it stands, but elsewhere, or in another product's documents.
pub type Hints = fn(&str) -> Option<&'static str>;

impl Errors {
    /// Gives advice on names that are not known.
    pub fn advise(&self, hints: Hints) {
        self.hints.set(Some(hints));
    }

    /// The advice on a name, if there is any.
    pub fn advice(&self, name: &str) -> Option<&'static str> {
        self.hints.get()?(name)
    }

    /// Reports one error. The same one at the same place counts once.
    pub fn add(&self, path: &Path<'_>, message: impl fmt::Display) {
        if self.is_full() {
            return;
        }
        self.push(Error { path: path.to_string(), message: message.to_string(), at_name: false });
    }

    /// Reports that a member should not have the name that it has, whatever its value.
    pub fn add_at_name(&self, path: &Path<'_>, message: impl fmt::Display) {
        self.push(Error { path: path.to_string(), message: message.to_string(), at_name: true });
    }

    fn push(&self, error: Error) {
        let mut errors = self.found.borrow_mut();
        if errors.len() > MOST || errors.contains(&error) {
            return;
        }
        let error = match errors.len() {
            MOST => Error {
                path: String::new(),
                message: "there is more wrong than this; correct it first".to_owned(),
                at_name: false,
            },
            _ => error,
        };
        errors.push(error);
    }

    /// Whether there is one at this place or inside it: what was read there is a placeholder then.
    pub fn any_within(&self, path: &Path<'_>) -> bool {
        let place = path.to_string();
        let inside = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
        self.found.borrow().iter().any(|error| error.path.strip_prefix(&place).is_some_and(inside))
    }

    /// Whether what follows is not reported any more, so that nobody has to look for it.
    pub fn is_full(&self) -> bool {
        self.found.borrow().len() > MOST
    }

    /// How many there are so far.
    pub fn count(&self) -> usize {
        self.found.borrow().len()
    }

    /// All of them so far.
    pub fn all(&self) -> Vec<Error> {
        self.found.borrow().clone()
    }

    /// All of them, in the order they were found.
    pub fn into_vec(self) -> Vec<Error> {
        self.found.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_errors_some_are_reported() {
        let errors = Errors::default();
        (0..1000).for_each(|index| errors.add(&Path::ROOT.index(index), "no"));
        let errors = errors.into_vec();
        assert_eq!(errors.len(), MOST + 1);
        assert_eq!(errors[MOST].to_string(), "document: there is more wrong than this; correct it first");
        assert_eq!(errors[MOST - 1].to_string(), "[199]: no");
    }

    #[test]
    fn paths_read_like_the_contract_writes_them() {
        let http = Path::ROOT.field("http");
        let entry = http.index(0);
        let matches = entry.field("match");
        let first = matches.index(0);
        let headers = first.field("headers");
        assert_eq!(headers.key("x-a").to_string(), "http[0].match[0].headers[x-a]");
        assert_eq!(Path::ROOT.index(3).field("a").to_string(), "[3].a");
        assert_eq!(Path::ROOT.to_string(), "");
    }
}
