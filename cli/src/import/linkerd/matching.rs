//! The matches of HTTPRoute and GRPCRoute: in the words of `http` and of `authorization`.

use serde_json::{Map, Value, json};

use crate::import::field::{Field, Object};
use crate::import::mesh::condition::quoted;
use crate::import::mesh::hosts;

/// What a path has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// This.
    Exact(String),
    /// These whole segments, and whatever follows; without a slash at the end.
    Prefix(String),
    /// What this expression says.
    Regex(String),
}

/// One match: all of it must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    /// `a.example`, `*.example`; any, where it is none.
    pub host: Option<String>,
    /// Any, where it is none or [`Path::Prefix`] of nothing.
    pub path: Option<Path>,
    /// Any, where it is none.
    pub method: Option<String>,
    /// Names and what the policy has for their values.
    pub headers: Vec<(String, Value)>,
    /// The same of query parameters.
    pub query: Vec<(String, Value)>,
}

/// What is allowed: an operation, and conditions beside it.
pub type Operation = (Map<String, Value>, Vec<Value>);

/// So many operations may come of one match.
const MOST: usize = 64;

impl Match {
    /// In the words of `http`.
    pub fn value(&self) -> Value {
        let mut value = Map::new();
        let uri = match &self.path {
            None => None,
            Some(Path::Exact(path)) => Some(json!({ "exact": path })),
            Some(Path::Prefix(path)) if path.is_empty() => None,
            Some(Path::Prefix(path)) => Some(json!({ "pathPrefix": path })),
            Some(Path::Regex(regex)) => Some(json!({ "regex": regex })),
        };
        if let Some(uri) = uri {
            value.insert("uri".to_owned(), uri);
        }
        if let Some(method) = &self.method {
            value.insert("method".to_owned(), json!({ "exact": method }));
        }
        for (name, pairs) in [("headers", &self.headers), ("queryParams", &self.query)] {
            if !pairs.is_empty() {
                value.insert(name.to_owned(), Value::Object(pairs.iter().cloned().collect()));
            }
        }
        Value::Object(value)
    }

    /// Lower ones come first, as the Gateway API has it.
    pub fn precedence(&self) -> Vec<i64> {
        let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX).saturating_neg();
        let (kind, length) = match &self.path {
            Some(Path::Exact(path)) => (0, length(path)),
            Some(Path::Prefix(path)) => (2, length(path)),
            Some(Path::Regex(regex)) => (1, length(regex)),
            None => (2, 0),
        };
        let count = |list: &[(String, Value)]| i64::try_from(list.len()).unwrap_or(i64::MAX).saturating_neg();
        let method = if self.method.is_some() { 0 } else { 1 };
        vec![kind, length, method, count(&self.headers), count(&self.query)]
    }

    /// As [`Self::precedence`], where hosts count, too: those come first.
    fn order(&self) -> (u8, usize, Vec<i64>) {
        let (kind, length) = match self.host.as_deref() {
            Some(host) => (u8::from(host.starts_with('*')), host.len()),
            None => (2, 0),
        };
        (kind, usize::MAX.saturating_sub(length), self.precedence())
    }

    /// Whether no request can be both.
    fn is_apart_from(&self, other: &Self) -> bool {
        if let (Some(own), Some(other)) = (&self.host, &other.host)
            && hosts::common(own, other).is_none()
        {
            return true;
        }
        if let (Some(own), Some(other)) = (&self.method, &other.method)
            && own != other
        {
            return true;
        }
        let below = |path: &str, prefix: &str| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match (&self.path, &other.path) {
            (Some(Path::Exact(a)), Some(Path::Exact(b))) => a != b,
            (Some(Path::Exact(path)), Some(Path::Prefix(prefix)))
            | (Some(Path::Prefix(prefix)), Some(Path::Exact(path))) => !below(path, prefix),
            (Some(Path::Prefix(a)), Some(Path::Prefix(b))) => !below(a, b) && !below(b, a),
            _ => false,
        }
    }

    /// In the words of `authorization`.
    fn operation(&self) -> Operation {
        let mut operation = Map::new();
        if let Some(host) = &self.host {
            // A port beside it does not count.
            let (any, name) = match host.strip_prefix('*') {
                Some(end) => (".+", end),
                None => ("", host.as_str()),
            };
            let with_port = format!("(?i){any}{}:[0-9]+", quoted(name));
            operation.insert("hosts".to_owned(), json!([host, {"regex": with_port}]));
        }
        if let Some(paths) = self.path.as_ref().and_then(paths) {
            operation.insert("paths".to_owned(), paths);
        }
        if let Some(method) = &self.method {
            operation.insert("methods".to_owned(), json!([method]));
        }
        let conditions = self.conditions("values");
        (operation, conditions)
    }

    fn conditions(&self, values: &str) -> Vec<Value> {
        let condition = |key: String, value: &Value| {
            let value =
                value.get("exact").and_then(Value::as_str).filter(|text| plain(text)).map(Value::from);
            let or_regex = |given: &Value| match given.get("exact").and_then(Value::as_str) {
                Some(text) => json!({"regex": quoted(text)}),
                None => given.clone(),
            };
            (key, value, or_regex)
        };
        let headers = self.headers.iter().map(|(name, value)| (format!("request.headers[{name}]"), value));
        let query = self.query.iter().map(|(name, value)| (format!("request.query[{name}]"), value));
        headers
            .chain(query)
            .map(|(key, given)| {
                let (key, value, or_regex) = condition(key, given);
                let value = value.unwrap_or_else(|| or_regex(given));
                let mut when = Map::from_iter([("key".to_owned(), Value::from(key))]);
                when.insert(values.to_owned(), json!([value]));
                Value::Object(when)
            })
            .collect()
    }
}

/// What these matches have of requests, without those that others have before them.
///
/// # Errors
/// Too many others.
pub fn operations(matches: &[Match], others: &[Match]) -> Result<Vec<Operation>, String> {
    left_of(matches, others, |own, other| other.order() < own.order())
}

/// What these matches have of requests, without those that others have, all of which come before them.
///
/// # Errors
/// Too many others.
pub fn after(matches: &[Match], others: &[Match]) -> Result<Vec<Operation>, String> {
    left_of(matches, others, |_, _| true)
}

fn left_of(
    matches: &[Match],
    others: &[Match],
    is_before: impl Fn(&Match, &Match) -> bool,
) -> Result<Vec<Operation>, String> {
    let mut operations = Vec::new();
    for own in matches {
        let mut left = vec![own.operation()];
        let first = others.iter().filter(|other| is_before(own, other) && !own.is_apart_from(other));
        for other in first {
            left = left.iter().flat_map(|operation| without(operation, other)).collect();
            if left.len() > MOST {
                return Err("too many routes of others lie within this one".to_owned());
            }
        }
        operations.extend(left);
    }
    Ok(operations)
}

/// An operation without what another match has: one of the things that it asks for does not hold.
fn without((operation, when): &Operation, other: &Match) -> Vec<Operation> {
    let mut left = Vec::new();
    let more = |name: &str, values: Value| {
        let mut operation = operation.clone();
        let list = operation.entry(name.to_owned()).or_insert_with(|| json!([]));
        if let (Value::Array(list), Value::Array(values)) = (list, values) {
            list.extend(values);
        }
        (operation, when.clone())
    };
    if let Some(host) = &other.host
        && operation.get("hosts").and_then(|hosts| hosts.get(0)) != Some(&json!(host))
    {
        left.push(more("notHosts", json!([host])));
    }
    if let Some(paths) = other.path.as_ref().and_then(paths) {
        left.push(more("notPaths", paths));
    }
    if let Some(method) = &other.method
        && operation.get("methods") != Some(&json!([method]))
    {
        left.push(more("notMethods", json!([method])));
    }
    for condition in other.conditions("notValues") {
        let mut when = when.clone();
        when.push(condition);
        left.push((operation.clone(), when));
    }
    left
}

/// Texts that mean nothing but themselves in `authorization`.
fn plain(text: &str) -> bool {
    !text.is_empty() && !text.contains(['*', '{', '}'])
}

fn paths(path: &Path) -> Option<Value> {
    match path {
        Path::Prefix(path) if path.is_empty() => None,
        Path::Exact(path) if plain(path) => Some(json!([path])),
        Path::Exact(path) => Some(json!([{"regex": quoted(path)}])),
        Path::Prefix(path) if plain(path) => Some(json!([path, format!("{path}/*")])),
        Path::Prefix(path) => Some(json!([{"regex": format!("{}(?:/.*)?", quoted(path))}])),
        Path::Regex(regex) => Some(json!([{ "regex": regex }])),
    }
}

/// The same matches, each for each of these hosts; no hosts: for any.
pub fn of_hosts(matches: Vec<Match>, hosts: &[String]) -> Vec<Match> {
    if hosts.is_empty() {
        return matches;
    }
    let of = |one: &Match| -> Vec<Match> {
        hosts.iter().map(|host| Match { host: Some(host.clone()), ..one.clone() }).collect()
    };
    matches.iter().flat_map(of).collect()
}

/// The matches of one rule; a rule without any has everything.
pub fn read(rule: &Object<'_>, grpc: bool) -> Vec<Match> {
    let Some(field) = rule.field("matches") else { return vec![Match::default()] };
    let items = field.items();
    let matches: Vec<Match> = items.iter().filter_map(|item| one(item, grpc)).collect();
    if items.is_empty() { vec![Match::default()] } else { matches }
}

fn one(field: &Field<'_>, grpc: bool) -> Option<Match> {
    let object = field.object()?;
    let mut read = Match::default();
    if let Some(field) = object.field("path") {
        read.path = path(&field);
    }
    if let Some(field) = object.field("method") {
        if grpc {
            read.path = grpc_method(&field);
        } else {
            read.method = field.text().map(str::to_ascii_uppercase);
            field.taken("the method of requests");
        }
    }
    if let Some(field) = object.field("headers") {
        read.headers = pairs(&field, true);
    }
    if let Some(field) = object.field("queryParams") {
        read.query = pairs(&field, false);
    }
    Some(read)
}

fn path(field: &Field<'_>) -> Option<Path> {
    let object = field.object()?;
    let kind = text(&object, "type").unwrap_or("PathPrefix");
    let value = text(&object, "value").unwrap_or("/");
    match kind {
        "PathPrefix" => Some(Path::Prefix(value.trim_end_matches('/').to_owned())),
        "Exact" => Some(Path::Exact(value.to_owned())),
        "RegularExpression" => Some(Path::Regex(value.to_owned())),
        other => {
            field.problem_here(
                format!("{other} is no type of path"),
                "use Exact, PathPrefix or RegularExpression",
            );
            None
        }
    }
}

fn grpc_method(field: &Field<'_>) -> Option<Path> {
    let object = field.object()?;
    let regex = text(&object, "type") == Some("RegularExpression");
    let (service, method) = (text(&object, "service"), text(&object, "method"));
    match (regex, service, method) {
        (_, None, None) => None,
        (false, Some(service), Some(method)) => Some(Path::Exact(format!("/{service}/{method}"))),
        (false, Some(service), None) => Some(Path::Prefix(format!("/{service}"))),
        (false, None, Some(method)) => Some(Path::Regex(format!("/[^/]+/{}", quoted(method)))),
        (true, service, method) => {
            let any = "[^/]+";
            Some(Path::Regex(format!("/(?:{})/(?:{})", service.unwrap_or(any), method.unwrap_or(any))))
        }
    }
}

fn pairs(field: &Field<'_>, headers: bool) -> Vec<(String, Value)> {
    let mut pairs: Vec<(String, Value)> = Vec::new();
    for item in field.items() {
        let Some(object) = item.object() else { continue };
        let kind = text(&object, "type").unwrap_or("Exact");
        let (name, value) = (text(&object, "name"), text(&object, "value"));
        let Some((name, value)) = name.zip(value) else {
            item.problem_here("it needs a name and a value", "give it both");
            continue;
        };
        let name = if headers { name.to_ascii_lowercase() } else { name.to_owned() };
        let value = match kind {
            "RegularExpression" => json!({ "regex": value }),
            _ => json!({ "exact": value }),
        };
        // Of several of one name the first counts, as the Gateway API has it.
        if !pairs.iter().any(|(known, _)| *known == name) {
            pairs.push((name, value));
        }
    }
    pairs
}

fn text<'a>(object: &Object<'a>, name: &'static str) -> Option<&'a str> {
    let field = object.field(name)?;
    field.taken("which requests it is for");
    field.text()
}
