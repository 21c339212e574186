//! The document that explains: what stands at a path, how the file spells it, and in which line.

use crate::member::member;
use meshfilter::config::source::{Place, Source};
use serde_json::Value;

/// A document with the places of everything in it.
pub struct Document {
    /// As it was given.
    pub file: String,
    /// What stands in it.
    pub source: Source,
}

/// Something of the document.
pub struct Found<'a> {
    /// Its path, as the file spells it.
    pub path: String,
    /// What it is.
    pub value: Option<&'a Value>,
    /// Where it stands.
    pub place: Place,
}

/// How Istio spells a claim among the headers.
const CLAIMS: &str = "@request.auth.claims";

impl Document {
    /// What a path of the compiled policy names: there headers are in lower case, and claims have dots.
    pub fn find(&self, path: &str) -> Found<'_> {
        let among_headers = || {
            let other =
                path.replacen(".claims[", ".headers[", 1).replacen(".withoutClaims[", ".withoutHeaders[", 1);
            (other != path).then(|| find(&self.source.value, &other, true, String::new())).flatten()
        };
        match find(&self.source.value, path, true, String::new()).or_else(among_headers) {
            Some((path, value)) => {
                let place = self.source.place(&path, false);
                Found { path, value: Some(value), place }
            }
            None => Found { path: path.to_owned(), value: None, place: self.source.place(path, false) },
        }
    }

    /// The member of an entry, where it has it.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.find(path).value?.as_str()
    }

    /// The entry of a section that has a name, or whose place is its name.
    pub fn named(&self, section: &str, name: &str) -> String {
        let entries = member(&self.source.value, section).as_array();
        let is_called = |entry: &Value| entry["name"].as_str() == Some(name);
        let place = entries.and_then(|entries| entries.iter().position(is_called));
        place.map_or_else(|| name.to_owned(), |place| format!("{section}[{place}]"))
    }
}

fn find<'a>(value: &'a Value, path: &str, is_root: bool, spelled: String) -> Option<(String, &'a Value)> {
    if path.is_empty() {
        return Some((spelled, value));
    }
    match value {
        Value::Array(items) => {
            let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
            let item = items.get(index.parse::<usize>().ok()?)?;
            find(item, rest, false, format!("{spelled}[{index}]"))
        }
        Value::Object(members) => members.iter().find_map(|(name, child)| {
            if let Some(rest) = field(path, name, is_root) {
                let dot = if is_root { "" } else { "." };
                return find(child, rest, false, format!("{spelled}{dot}{name}"));
            }
            let rest = key(path, name)?;
            find(child, rest, false, format!("{spelled}[{name}]"))
        }),
        _ => None,
    }
}

fn field<'p>(path: &'p str, name: &str, is_root: bool) -> Option<&'p str> {
    let path = if is_root { path } else { path.strip_prefix('.')? };
    path.strip_prefix(name).filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// What follows `[name]`.
fn key<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let inner = path.strip_prefix('[')?;
    let plain = name.to_ascii_lowercase();
    let claim = plain.strip_prefix(CLAIMS).unwrap_or(&plain);
    let dotted = claim.trim_start_matches('.').replace("][", ".").replace(['[', ']'], "");
    let host = if plain == "host" { ":authority" } else { "" };
    [plain.as_str(), dotted.as_str(), host].iter().find_map(|spelling| {
        let start = inner
            .get(..spelling.len())
            .filter(|start| !start.is_empty() && start.eq_ignore_ascii_case(spelling));
        start.and_then(|_| inner.get(spelling.len()..)).and_then(|rest| rest.strip_prefix(']'))
    })
}

/// What a condition asks for of what has this name, in words.
pub fn wanted(name: &str, value: &Value) -> String {
    const SHOWN: usize = 6;
    match value {
        Value::Array(list) => {
            let mut all: Vec<String> = list.iter().take(SHOWN).map(|value| wanted(name, value)).collect();
            if list.len() > SHOWN {
                all.push(format!("{} more", list.len().saturating_sub(SHOWN)));
            }
            match all.split_last() {
                Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
                Some((last, _)) => last.clone(),
                None => "nothing".to_owned(),
            }
        }
        Value::String(text) => super::shown::wanted(name, text),
        Value::Object(members) => match members.iter().next() {
            Some((kind, value)) if members.len() == 1 => match (kind.as_str(), value) {
                ("present", Value::Bool(true)) => "any value".to_owned(),
                ("present", Value::Bool(false)) => "none".to_owned(),
                ("attribute", Value::String(other)) => format!("what {other} is"),
                ("exact", value) => wanted(name, value),
                (kind, value) => format!("{kind} {}", wanted(name, value)),
            },
            Some(_) => value.to_string(),
            None => "any value".to_owned(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshfilter::config::Errors;
    use meshfilter::config::source::Language;
    use serde_json::json;

    #[test]
    fn the_compiled_policys_paths_lead_to_what_the_file_says() {
        let text = "http:\n- match:\n  - headers:\n      X-Canary: {exact: a}\n      '@request.auth.claims[a.b][c]': {exact: d}\n      Host: {exact: h}\n    claims: {'[x][y]': {exact: z}}\n";
        let source = Source::read(Language::Yaml, text, &Errors::default()).unwrap();
        let document = Document { file: "p".to_owned(), source };
        for (path, spelled, line) in [
            ("http[0].match[0].headers[x-canary]", "http[0].match[0].headers[X-Canary]", 4),
            ("http[0].match[0].headers[:authority]", "http[0].match[0].headers[Host]", 6),
            ("http[0].match[0].claims[x.y]", "http[0].match[0].claims[[x][y]]", 7),
            ("http[0].match[0].claims[a.b.c]", "http[0].match[0].headers[@request.auth.claims[a.b][c]]", 5),
        ] {
            let found = document.find(path);
            assert!(found.value.is_some(), "{path}");
            assert_eq!((found.path.as_str(), found.place.line), (spelled, line));
        }
        assert!(document.find("http[1]").value.is_none());
    }

    #[test]
    fn what_is_wanted_is_said_in_words() {
        for (value, words) in [
            (json!(["admin", "user"]), "admin or user"),
            (json!(["a"]), "a"),
            (json!(["a", "b", {"regex": "c+"}]), "a, b or regex c+"),
            (json!({"prefix": "/x"}), "prefix /x"),
            (json!({"exact": ""}), "\"\""),
            (json!({"present": false}), "none"),
            (json!([{"attribute": "request.path[1]"}]), "what request.path[1] is"),
            (json!([1, true]), "1 or true"),
            (json!(["1", "2", "3", "4", "5", "6", "7", "8"]), "1, 2, 3, 4, 5, 6 or 2 more"),
        ] {
            assert_eq!(wanted("x-a", &value), words);
        }
    }
}
