//! Conditions on requests that nest: all of, any of, not. The policy's `match` is a list of alternatives, each of which asks for
//! several things at once; conditions are brought into that form.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// What a request has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It has one of these methods.
    Method(Vec<String>),
    /// Its whole path without the query is what this expression says.
    Path(String),
    /// It has a header whose whole value is what this expression says.
    Header(String, String),
    /// All of these hold; none: always.
    All(Vec<Condition>),
    /// One of these holds; none: never.
    Any(Vec<Condition>),
    /// This does not hold.
    Not(Box<Condition>),
}

/// So many alternatives a condition may have.
pub const MOST: usize = 100;

/// Things that are asked for at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Both {
    methods: Option<BTreeSet<String>>,
    other_methods: BTreeSet<String>,
    paths: BTreeSet<String>,
    other_paths: BTreeSet<String>,
    headers: BTreeMap<String, BTreeSet<String>>,
    other_headers: BTreeMap<String, BTreeSet<String>>,
}

impl Condition {
    /// The alternatives as the policy's `match` has them: one empty object where it always holds, none where it never does.
    ///
    /// # Errors
    /// What the policy has no words for.
    pub fn matches(&self) -> Result<Vec<Value>, String> {
        let mut matches = Vec::new();
        for both in self.alternatives(true)? {
            if let Some(value) = both.value()?
                && !matches.contains(&value)
            {
                matches.push(value);
            }
        }
        Ok(matches)
    }

    /// The alternatives of this, or where `holds` is not, of its contrary.
    fn alternatives(&self, holds: bool) -> Result<Vec<Both>, String> {
        let mut both = Both::default();
        match (self, holds) {
            (Condition::Not(inner), holds) => return inner.alternatives(!holds),
            (Condition::All(list), true) | (Condition::Any(list), false) => {
                let mut all = vec![Both::default()];
                for condition in list {
                    let more = condition.alternatives(holds)?;
                    let pairs = all.iter().flat_map(|one| more.iter().map(move |other| one.and(other)));
                    all = pairs.collect();
                    bounded(&all)?;
                }
                return Ok(all);
            }
            (Condition::Any(list), true) | (Condition::All(list), false) => {
                let mut any = Vec::new();
                for condition in list {
                    any.extend(condition.alternatives(holds)?);
                    bounded(&any)?;
                }
                return Ok(any);
            }
            (Condition::Method(methods), true) => both.methods = Some(methods.iter().cloned().collect()),
            (Condition::Method(methods), false) => both.other_methods = methods.iter().cloned().collect(),
            (Condition::Path(regex), true) => drop(both.paths.insert(regex.clone())),
            (Condition::Path(regex), false) => drop(both.other_paths.insert(regex.clone())),
            (Condition::Header(name, regex), _) => {
                let headers = if holds { &mut both.headers } else { &mut both.other_headers };
                headers.insert(name.to_ascii_lowercase(), BTreeSet::from([regex.clone()]));
            }
        }
        Ok(vec![both])
    }
}

fn bounded(alternatives: &[Both]) -> Result<(), String> {
    match alternatives.len() {
        0..=MOST => Ok(()),
        _ => Err(format!("this has more than {MOST} alternatives; write fewer into one condition")),
    }
}

impl Both {
    fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.methods = match (both.methods, &other.methods) {
            (Some(own), Some(other)) => Some(own.intersection(other).cloned().collect()),
            (own, other) => own.or_else(|| other.clone()),
        };
        both.other_methods.extend(other.other_methods.iter().cloned());
        both.paths.extend(other.paths.iter().cloned());
        both.other_paths.extend(other.other_paths.iter().cloned());
        for (own, other) in
            [(&mut both.headers, &other.headers), (&mut both.other_headers, &other.other_headers)]
        {
            for (name, regexes) in other {
                own.entry(name.clone()).or_default().extend(regexes.iter().cloned());
            }
        }
        both
    }

    /// In the policy's words; `None` where it never holds.
    fn value(&self) -> Result<Option<Value>, String> {
        let mut value = Map::new();
        let (mut headers, mut without) = (Map::new(), Map::new());
        match &self.methods {
            Some(methods) => {
                let left: Vec<&str> = methods.difference(&self.other_methods).map(String::as_str).collect();
                if left.is_empty() {
                    return Ok(None);
                }
                value.insert("method".to_owned(), one_of(&left));
            }
            None if !self.other_methods.is_empty() => {
                let others: Vec<&str> = self.other_methods.iter().map(String::as_str).collect();
                without.insert(":method".to_owned(), one_of(&others));
            }
            None => {}
        }
        if !self.paths.is_disjoint(&self.other_paths) {
            return Ok(None);
        }
        let mut paths = self.paths.iter();
        if let Some(path) = paths.next() {
            value.insert("uri".to_owned(), json!({ "regex": path }));
        }
        if let Some(path) = paths.next() {
            headers.insert(":path".to_owned(), json!({ "regex": with_query(path) }));
        }
        if paths.next().is_some() {
            return Err(
                "one request has one path: more than two expressions for it at once are too many".to_owned()
            );
        }
        if !self.other_paths.is_empty() {
            let paths: Vec<String> = self.other_paths.iter().map(|path| with_query(path)).collect();
            without.insert(":path".to_owned(), json!({ "regex": paths.join("|") }));
        }
        for (name, regexes) in &self.headers {
            let mut regexes = regexes.iter();
            let regex = regexes.next();
            if regexes.next().is_some() {
                return Err(format!(
                    "the header {name} has two expressions at once; write one that says both"
                ));
            }
            headers.insert(name.clone(), json!({ "regex": regex }));
        }
        for (name, regexes) in &self.other_headers {
            let regexes: Vec<String> = regexes.iter().map(|regex| format!("(?:{regex})")).collect();
            without.insert(name.clone(), json!({ "regex": regexes.join("|") }));
        }
        for (name, map) in [("headers", headers), ("withoutHeaders", without)] {
            if !map.is_empty() {
                value.insert(name.to_owned(), Value::Object(map));
            }
        }
        Ok(Some(Value::Object(value)))
    }
}

/// A string of the policy that is one of these words.
pub fn one_of(words: &[&str]) -> Value {
    match words {
        [one] => json!({ "exact": one }),
        several => {
            let words: Vec<String> = several.iter().map(|word| quoted(word)).collect();
            json!({ "regex": words.join("|") })
        }
    }
}

/// A text as an expression that says it literally.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_ascii_alphanumeric()
            && c.is_ascii()
            && !matches!(c, '/' | '_' | '%' | '@' | ':' | ',' | '"' | '\'' | '=' | ' ')
        {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

/// An expression for the path alone, as one for `:path`, which has the query, too.
fn with_query(path: &str) -> String {
    format!(r"(?:{path})(?:\?.*)?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(name: &str) -> Condition {
        Condition::Method(vec![name.to_owned()])
    }

    fn path(regex: &str) -> Condition {
        Condition::Path(regex.to_owned())
    }

    #[test]
    fn conditions_become_alternatives() {
        use Condition::{All, Any, Not};
        let not = |condition| Not(Box::new(condition));
        for (condition, expected) in [
            (All(vec![]), json!([{}])),
            (Any(vec![]), json!([])),
            (
                All(vec![method("GET"), path("/a")]),
                json!([{"method": {"exact": "GET"}, "uri": {"regex": "/a"}}]),
            ),
            (
                Any(vec![method("GET"), path("/a")]),
                json!([{"method": {"exact": "GET"}}, {"uri": {"regex": "/a"}}]),
            ),
            (
                not(Any(vec![method("GET"), method("PUT"), path("/a"), path("/b")])),
                json!([{"withoutHeaders": {
                    ":method": {"regex": "GET|PUT"},
                    ":path": {"regex": r"(?:/a)(?:\?.*)?|(?:/b)(?:\?.*)?"},
                }}]),
            ),
            (
                not(All(vec![method("GET"), path("/a")])),
                json!([
                    {"withoutHeaders": {":method": {"exact": "GET"}}},
                    {"withoutHeaders": {":path": {"regex": r"(?:/a)(?:\?.*)?"}}},
                ]),
            ),
            (All(vec![method("GET"), method("PUT")]), json!([])),
            (All(vec![method("GET"), not(method("PUT"))]), json!([{"method": {"exact": "GET"}}])),
            (
                All(vec![path("/a.*"), path(".*b")]),
                json!([{"uri": {"regex": ".*b"}, "headers": {":path": {"regex": r"(?:/a.*)(?:\?.*)?"}}}]),
            ),
            (Condition::Header("X-A".into(), "b|c".into()), json!([{"headers": {"x-a": {"regex": "b|c"}}}])),
        ] {
            assert_eq!(Value::Array(condition.matches().unwrap()), expected, "{condition:?}");
        }
    }

    #[test]
    fn what_has_no_words_is_told() {
        let three = Condition::All(vec![path("a"), path("b"), path("c")]);
        assert!(three.matches().unwrap_err().contains("more than two"), "{three:?}");
        let many = Condition::Any((0..20).map(|n| path(&n.to_string())).collect());
        let product = Condition::All(vec![many.clone(), many]);
        assert!(product.matches().unwrap_err().contains("more than 100 alternatives"), "{product:?}");
    }

    #[test]
    fn words_are_taken_literally() {
        assert_eq!(one_of(&["M-SEARCH", "GET"]), json!({"regex": r"M\-SEARCH|GET"}));
        assert_eq!(quoted("/a.b*é"), r"/a\.b\*é");
    }
}
