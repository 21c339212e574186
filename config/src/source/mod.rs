//! A policy document as text: its value, and where in the text everything of it stands.

mod json;
mod yaml;

use serde_json::Value;

use crate::Errors;

/// How deep a document may nest; as deep as the module reads JSON.
const MAX_DEPTH: usize = 128;

/// A range of characters in one line of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// In characters; what goes on in the next line is not counted.
    pub length: usize,
}

impl Place {
    /// Where every text begins.
    pub const START: Place = Place { line: 1, column: 1, length: 1 };
}

/// In which language a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// RFC 8259.
    Json,
    /// YAML 1.2 with its core schema.
    Yaml,
}

impl Language {
    /// Tells by the file's name, or else by the first character.
    pub fn of(file: &str, text: &str) -> Self {
        match file.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).as_deref() {
            Some("json") => Language::Json,
            Some("yaml" | "yml") => Language::Yaml,
            _ if text.trim_start().starts_with('{') => Language::Json,
            _ => Language::Yaml,
        }
    }
}

/// A text that could not be read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where the reader gave up.
    pub place: Place,
    /// Why, and what would be right.
    pub message: String,
}

/// A document and the places of its parts.
#[derive(Debug)]
pub struct Source {
    /// What the text says.
    pub value: Value,
    root: Node,
}

impl Source {
    /// Reads a text. What is wrong with it but does not keep it from being read goes to `errors`.
    ///
    /// # Errors
    /// What keeps it from being read.
    pub fn read(language: Language, text: &str, errors: &Errors) -> Result<Self, SyntaxError> {
        let (value, root) = match language {
            Language::Json => json::read(text, errors)?,
            Language::Yaml => yaml::read(text, errors)?,
        };
        Ok(Source { value, root })
    }

    /// Reads a text that may have several documents, each with what is wrong with it but does not keep it from being read.
    /// Documents that say nothing are left out.
    ///
    /// # Errors
    /// What keeps the text from being read.
    pub fn read_all(language: Language, text: &str) -> Result<Vec<(Self, Errors)>, SyntaxError> {
        match language {
            Language::Json => {
                let errors = Errors::default();
                let source = Source::read(language, text, &errors)?;
                Ok(vec![(source, errors)])
            }
            Language::Yaml => {
                let documents = yaml::read_all(text)?.into_iter();
                Ok(documents.map(|(value, root, errors)| (Source { value, root }, errors)).collect())
            }
        }
    }

    /// Where the thing stands that an error's path names, or what is nearest above it when there is no such thing.
    ///
    /// It is the value where that is short, and the member's name where that is wrong itself or where the value
    /// is an object or a list.
    pub fn place(&self, path: &str, at_name: bool) -> Place {
        let found = self.root.find(path, true, None);
        match found.member {
            Some(name) if at_name || !matches!(found.node.children, Children::None) => name,
            _ => found.node.place,
        }
    }
}

/// One value of the text.
#[derive(Clone, Debug)]
struct Node {
    place: Place,
    children: Children,
}

#[derive(Clone, Debug)]
enum Children {
    None,
    Items(Vec<Node>),
    Members(Vec<Member>),
}

#[derive(Clone, Debug)]
struct Member {
    name: String,
    place: Place,
    node: Node,
}

/// What a path led to.
struct Found<'a> {
    node: &'a Node,
    /// The place of its name, if it is a member.
    member: Option<Place>,
    /// How much of the path it does not explain.
    left: usize,
}

impl Found<'_> {
    /// The one that explains more of the path, the later one if they are equal.
    fn or(self, later: Self) -> Self {
        if later.left <= self.left { later } else { self }
    }
}

impl Node {
    /// Follows a path as far as it leads. Names may have dots and brackets, so every reading of it is tried; of a
    /// member that stands twice the last is meant, for it is the one that is too many.
    fn find(&self, path: &str, is_root: bool, member: Option<Place>) -> Found<'_> {
        let mut best = Found { node: self, member, left: path.len() };
        match &self.children {
            Children::None => {}
            Children::Items(items) => {
                let Some((index, rest)) = path.strip_prefix('[').and_then(|path| path.split_once(']')) else {
                    return best;
                };
                if let Some(item) = index.parse().ok().and_then(|index: usize| items.get(index)) {
                    best = best.or(item.find(rest, false, None));
                }
            }
            Children::Members(members) => {
                for member in members {
                    if let Some(rest) = member.after(path, is_root) {
                        best = best.or(member.node.find(rest, false, Some(member.place)));
                    }
                }
            }
        }
        best
    }
}

impl Member {
    /// What of a path follows this member's name, if it begins with it: `.name` or `[name]`.
    fn after<'p>(&self, path: &'p str, is_root: bool) -> Option<&'p str> {
        let field = if is_root { Some(path) } else { path.strip_prefix('.') };
        let field = field.and_then(|path| path.strip_prefix(self.name.as_str()));
        let key = || path.strip_prefix('[')?.strip_prefix(self.name.as_str())?.strip_prefix(']');
        let ends = |rest: &&str| rest.is_empty() || rest.starts_with(['.', '[']);
        field.filter(ends).or_else(|| key().filter(ends))
    }
}

#[cfg(test)]
mod tests;
