//! What requests match, in the words of `authorization`: what some matches have, without what others have before them.

use serde_json::{Map, Value, json};

use super::condition::quoted;
use super::hosts;

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
    /// Lower ones come first, where hosts are equally specific.
    pub precedence: Vec<i64>,
}

/// What is allowed: an operation, and conditions beside it.
pub type Operation = (Map<String, Value>, Vec<Value>);

/// So many operations may come of one match.
const MOST: usize = 64;

impl Match {
    /// What a match of `http` asks for that a route of the Gateway API became.
    pub fn of(value: &Map<String, Value>, precedence: Vec<i64>) -> Self {
        let members = |name: &str| value.get(name).and_then(Value::as_object).into_iter().flatten();
        let pairs = |name: &str| members(name).map(|(name, value)| (name.clone(), value.clone())).collect();
        let path = members("uri").find_map(|(how, text)| {
            let text = text.as_str()?;
            Some(match how.as_str() {
                "exact" => Path::Exact(text.to_owned()),
                "pathPrefix" => Path::Prefix(text.trim_end_matches('/').to_owned()),
                "suffix" => Path::Regex(format!(".*{}", quoted(text))),
                _ => Path::Regex(text.to_owned()),
            })
        });
        let method = members("method").find_map(|(_, text)| text.as_str()).map(str::to_owned);
        Match { host: None, path, method, headers: pairs("headers"), query: pairs("queryParams"), precedence }
    }

    /// Hosts come first, then the rest.
    fn order(&self) -> (u8, usize, &[i64]) {
        let (kind, length) = match self.host.as_deref() {
            Some(host) => (u8::from(host.starts_with('*')), host.len()),
            None => (2, 0),
        };
        (kind, usize::MAX.saturating_sub(length), &self.precedence)
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
            operation.insert("hosts".to_owned(), json!(with_port(host)));
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
        left.push(more("notHosts", json!(with_port(host))));
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

/// A host as authorization has it: a port beside it does not count.
pub fn with_port(host: &str) -> [Value; 2] {
    let (any, name) = match host.strip_prefix('*') {
        Some(end) => (".+", end),
        None => ("", host),
    };
    [json!(host), json!({"regex": format!("(?i){any}{}:[0-9]+", quoted(name))})]
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
