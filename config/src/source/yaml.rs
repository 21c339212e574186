//! YAML 1.2 → value and places, from the parser's events.
//!
//! Only what JSON can say is let through: no tags but those of the core schema, no keys but scalars, one document.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use serde_json::{Map, Number, Value};

use super::{Children, MAX_DEPTH, Member, Node, Place, SyntaxError};
use crate::{Errors, Path};

/// How many values aliases may stand for in a document once they are written out. What is no alias is as much as the text.
const MAX_VALUES: usize = 1_000_000;

pub fn read(text: &str, errors: &Errors) -> Result<(Value, Node), SyntaxError> {
    let mut reader = Reader::new(text, errors);
    let mut document = None;
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => break,
            (Event::DocumentStart(_), span) if document.is_some() => {
                return Err(at(span, "a second document begins here; a file has one policy, so split it"));
            }
            (Event::DocumentStart(_), _) => {
                let (event, span) = reader.next()?;
                document = Some(reader.node(event, span, &Path::ROOT, 0)?);
            }
            _ => {}
        }
    }
    // A text of nothing but comments is the empty document.
    let empty = (Value::Object(Map::new()), Node { place: Place::START, children: Children::None });
    Ok(document.unwrap_or(empty))
}

/// Every document of a stream, in its order; those that say nothing are left out.
pub fn read_all(text: &str) -> Result<Vec<(Value, Node, Errors)>, SyntaxError> {
    let nothing = Errors::default();
    let mut reader = Reader::new(text, &nothing);
    let mut documents = Vec::new();
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::DocumentStart(_), _) => {
                let errors = Errors::default();
                let (event, span) = reader.next()?;
                let mut document = Reader {
                    text,
                    parser: reader.parser,
                    end: reader.end,
                    anchors: HashMap::new(),
                    values: 0,
                    aliased: 0,
                    errors: &errors,
                };
                let (value, node) = document.node(event, span, &Path::ROOT, 0)?;
                (reader.parser, reader.end) = (document.parser, document.end);
                if !value.is_null() || errors.count() > 0 {
                    documents.push((value, node, errors));
                }
            }
            _ => {}
        }
    }
}

struct Reader<'a, 'e> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    /// Where the last event ended.
    end: Marker,
    /// What has a name for aliases, and how many values it is.
    anchors: HashMap<usize, (Value, Node, usize)>,
    values: usize,
    /// How many of them stand in the place of aliases.
    aliased: usize,
    errors: &'e Errors,
}

type Read = Result<(Value, Node), SyntaxError>;

impl<'a, 'e> Reader<'a, 'e> {
    fn new(text: &'a str, errors: &'e Errors) -> Self {
        Reader {
            text,
            parser: Parser::new_from_str(text),
            end: Marker::default(),
            anchors: HashMap::new(),
            values: 0,
            aliased: 0,
            errors,
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), SyntaxError> {
        let event = self.parser.next_event().unwrap_or(Ok((Event::StreamEnd, Span::empty(self.end))));
        let (event, span) = event.map_err(|error| syntax(self.text, &error))?;
        self.end = span.end;
        Ok((event, span))
    }

    fn node(&mut self, event: Event<'a>, span: Span, path: &Path<'_>, depth: usize) -> Read {
        if depth > MAX_DEPTH {
            return Err(at(span, format!("this nests too deep; {MAX_DEPTH} levels are the limit")));
        }
        let before = self.values;
        self.values = self.values.saturating_add(1);
        let (anchor, read) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(&text, style, tag.as_deref(), path);
                (anchor, (value, Node { place: place(span), children: Children::None }))
            }
            Event::SequenceStart(anchor, tag) => {
                self.collection_tag(tag.as_deref(), "seq", path);
                (anchor, self.sequence(span, path, depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                self.collection_tag(tag.as_deref(), "map", path);
                (anchor, self.mapping(span, path, depth)?)
            }
            Event::Alias(id) => {
                let Some((value, node, values)) = self.anchors.get(&id).cloned() else {
                    return Err(at(span, "this alias is part of what it stands for; write it out"));
                };
                self.count(values, span)?;
                self.values = self.values.saturating_add(values);
                (0, (value, node))
            }
            _ => return Err(at(span, "a value is missing here")),
        };
        if anchor > 0 {
            let values = self.values.saturating_sub(before);
            self.anchors.insert(anchor, (read.0.clone(), read.1.clone(), values));
        }
        Ok(read)
    }

    fn count(&mut self, values: usize, span: Span) -> Result<(), SyntaxError> {
        self.aliased = self.aliased.saturating_add(values);
        match self.aliased {
            ..=MAX_VALUES => Ok(()),
            _ => Err(at(span, "with its aliases written out this document is too large")),
        }
    }

    fn sequence(&mut self, span: Span, path: &Path<'_>, depth: usize) -> Read {
        let (mut list, mut items) = (Vec::new(), Vec::new());
        loop {
            let (event, item) = self.next()?;
            if event == Event::SequenceEnd {
                break;
            }
            let (value, node) = self.node(event, item, &path.index(list.len()), depth.saturating_add(1))?;
            list.push(value);
            items.push(node);
        }
        Ok((Value::Array(list), Node { place: start(span), children: Children::Items(items) }))
    }

    fn mapping(&mut self, span: Span, path: &Path<'_>, depth: usize) -> Read {
        let (mut map, mut members) = (Map::new(), Vec::new());
        loop {
            let (name, key) = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(name, ..), span) => (name.into_owned(), span),
                (Event::Alias(_), span) => {
                    return Err(at(span, "an alias does not belong in place of a name; write the name"));
                }
                (_, span) => return Err(at(span, "this is no name; the members of an object need names")),
            };
            let member = path.field(&name);
            let (event, span) = self.next()?;
            let (value, node) = self.node(event, span, &member, depth.saturating_add(1))?;
            if name == "<<" {
                self.errors
                    .add_at_name(&member, "merge keys are not part of YAML 1.2; write the members out");
            } else if map.contains_key(&name) {
                self.errors.add_at_name(&member, "this member stands twice; keep one");
            }
            if name != "<<" {
                map.insert(name.clone(), value);
            }
            members.push(Member { name, place: place(key), node });
        }
        Ok((Value::Object(map), Node { place: start(span), children: Children::Members(members) }))
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, path: &Path<'_>) -> Value {
        match tag {
            None if style == ScalarStyle::Plain => self.plain(text, path),
            None => text.into(),
            Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
                "str" => text.into(),
                "null" | "bool" | "int" | "float" => self.plain(text, path),
                _ => self.refuse(tag, path),
            },
            Some(tag) => self.refuse(tag, path),
        }
    }

    fn collection_tag(&self, tag: Option<&Tag>, right: &str, path: &Path<'_>) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema() || tag.suffix != right) {
            self.refuse(tag, path);
        }
    }

    fn refuse(&self, tag: &Tag, path: &Path<'_>) -> Value {
        let tag = match tag.is_yaml_core_schema() {
            true => format!("!!{}", tag.suffix),
            false => tag.to_string(),
        };
        self.errors.add(path, format!("the tag {tag} has no meaning here; leave it out"));
        Value::Null
    }

    /// The core schema of YAML 1.2, section 10.3.2: `yes` and `on` are strings.
    fn plain(&self, text: &str, path: &Path<'_>) -> Value {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
            "true" | "True" | "TRUE" => return true.into(),
            "false" | "False" | "FALSE" => return false.into(),
            _ => {}
        }
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let radix =
            |prefix, radix| text.strip_prefix(prefix).map(|digits| u64::from_str_radix(digits, radix));
        if let Some(Ok(number)) = radix("0x", 16).or_else(|| radix("0o", 8)) {
            return number.into();
        }
        if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'))
        {
            let text = text.strip_prefix('+').unwrap_or(text);
            let whole = text.parse::<u64>().map(Number::from);
            let whole = whole.or_else(|_| text.parse::<i64>().map(Number::from)).ok();
            let number = whole.or_else(|| text.parse().ok().and_then(Number::from_f64));
            return number.map_or_else(|| text.into(), Value::Number);
        }
        if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
            self.errors.add(path, format!("{text} is not a number that a policy can have; use a finite one"));
        }
        text.into()
    }
}

fn place(span: Span) -> Place {
    let length = match span.start.line() == span.end.line() {
        true => span.end.col().saturating_sub(span.start.col()),
        false => usize::MAX,
    };
    Place { length: length.max(1), ..start(span) }
}

fn start(span: Span) -> Place {
    marked(span.start)
}

fn marked(marker: Marker) -> Place {
    Place { line: marker.line(), column: marker.col().saturating_add(1), length: 1 }
}

fn at(span: Span, message: impl Into<String>) -> SyntaxError {
    SyntaxError { place: place(span), message: message.into() }
}

fn syntax(text: &str, error: &ScanError) -> SyntaxError {
    let place = marked(*error.marker());
    // The parser meets a tab at the end of the line before it.
    let indented = |line: &str| line.trim_start_matches(' ').starts_with('\t');
    let mut lines = text.lines().zip(1_usize..).skip(place.line.saturating_sub(1)).take(2);
    match lines.find(|(line, _)| indented(line)) {
        Some((source, line)) if error.info().contains("tab") => {
            let column = source.find('\t').unwrap_or_default().saturating_add(1);
            let message = "a tab indents this line; YAML is indented with spaces".to_owned();
            SyntaxError { place: Place { line, column, length: 1 }, message }
        }
        _ => SyntaxError { place, message: format!("this is not YAML: {}", error.info()) },
    }
}
