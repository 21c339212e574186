//! JSON → value, as the module reads it, and places, from a second walk over the text.

use std::iter::Peekable;
use std::str::Chars;

use serde_json::Value;

use super::{Children, Member, Node, Place, SyntaxError};
use meshfilter_json::{self as json, Errors};

pub fn read(text: &str, errors: &Errors) -> Result<(Value, Node), SyntaxError> {
    let value = json::parse(text.as_bytes(), errors).map_err(|error| syntax(text, &error))?;
    let mut walk = Walk { text: text.chars().peekable(), line: 1, column: 1 };
    Ok((value, walk.node()))
}

/// The parser counts bytes where a reader counts characters.
fn syntax(text: &str, error: &serde_json::Error) -> SyntaxError {
    let line = error.line().max(1);
    let before = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let before = before.as_bytes().get(..error.column().saturating_sub(1)).unwrap_or(before.as_bytes());
    let column = String::from_utf8_lossy(before).chars().count().saturating_add(1);
    let said = error.to_string();
    let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
    SyntaxError { place: Place { line, column, length: 1 }, message: format!("this is not JSON: {said}") }
}

/// Walks over JSON that was found to be right.
struct Walk<'a> {
    text: Peekable<Chars<'a>>,
    line: usize,
    column: usize,
}

impl Walk<'_> {
    fn node(&mut self) -> Node {
        let place = self.skip();
        let children = match self.text.peek() {
            Some('{') => Children::Members(self.members()),
            Some('[') => Children::Items(self.items()),
            Some('"') => {
                let (place, _) = self.string(place);
                return Node { place, children: Children::None };
            }
            _ => {
                let word = |c: &char| !c.is_ascii_whitespace() && !matches!(c, ',' | ']' | '}');
                while self.text.peek().is_some_and(word) {
                    self.bump();
                }
                return Node { place: self.since(place), children: Children::None };
            }
        };
        Node { place, children }
    }

    fn members(&mut self) -> Vec<Member> {
        let mut members = Vec::new();
        self.bump();
        loop {
            let place = self.skip();
            match self.text.peek() {
                Some('"') => {
                    let (place, name) = self.string(place);
                    self.skip();
                    self.bump();
                    members.push(Member { name, place, node: self.node() });
                }
                Some(',') => self.bump(),
                _ => break,
            }
        }
        self.bump();
        members
    }

    fn items(&mut self) -> Vec<Node> {
        let mut items = Vec::new();
        self.bump();
        loop {
            self.skip();
            match self.text.peek() {
                Some(',') => self.bump(),
                Some(']') | None => break,
                Some(_) => items.push(self.node()),
            }
        }
        self.bump();
        items
    }

    /// A string with its quotes, and what it says.
    fn string(&mut self, place: Place) -> (Place, String) {
        let mut quoted = String::new();
        let mut escaped = false;
        while let Some(&c) = self.text.peek() {
            self.bump();
            quoted.push(c);
            if c == '"' && !escaped && quoted.len() > 1 {
                break;
            }
            escaped = c == '\\' && !escaped;
        }
        (self.since(place), serde_json::from_str(&quoted).unwrap_or(quoted))
    }

    fn since(&self, place: Place) -> Place {
        Place { length: self.column.saturating_sub(place.column).max(1), ..place }
    }

    /// Goes to what is next, and says where it is.
    fn skip(&mut self) -> Place {
        while self.text.peek().is_some_and(char::is_ascii_whitespace) {
            self.bump();
        }
        Place { line: self.line, column: self.column, length: 1 }
    }

    fn bump(&mut self) {
        match self.text.next() {
            Some('\n') => {
                self.line = self.line.saturating_add(1);
                self.column = 1;
            }
            _ => self.column = self.column.saturating_add(1),
        }
    }
}
