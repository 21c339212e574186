//! What is asked of requests, one thing at a time, so that its contrary can be asked, too; and how `match` and authorization
//! say it.

use serde_json::{Map, Value, json};

use crate::import::mesh::condition::quoted;
use crate::import::mesh::matching::with_port;
use crate::import::mesh::{Entry, hosts};

/// So many alternatives there may be.
const MOST: usize = 100;

/// One thing that is asked of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// One of these hosts, `*.example.com` among them.
    Hosts(Vec<String>),
    /// One of these methods.
    Methods(Vec<String>),
    /// A path.
    Path(Kind, String),
    /// A header with one of these values: `exact` or `regex`.
    Header(String, Vec<Value>),
    /// A query parameter with this value.
    Query(String, Value),
    /// A client of these networks.
    Client(Vec<String>),
    /// The port that the client came to.
    Port(u16),
    /// What a token says, by a key of authorization, one of these values.
    Token(String, Vec<String>),
}

/// How a path is matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is this.
    Exact,
    /// It is this, or below it.
    Prefix,
    /// An expression for all of it.
    Regex,
}

/// It holds, or it does not.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    /// What.
    pub asked: Asked,
    /// Whether it has to hold.
    pub holds: bool,
}

/// What is asked at once.
pub type All = Vec<Literal>;

/// It has to hold.
pub fn holds(asked: Asked) -> Literal {
    Literal { asked, holds: true }
}

/// Alternatives of both; those that can never be are left out.
///
/// # Errors
/// There are too many.
pub fn product(one: &[All], other: &[All]) -> Result<Vec<All>, String> {
    let mut found: Vec<All> = Vec::new();
    for a in one {
        for b in other {
            let mut both = a.clone();
            both.extend(b.iter().filter(|literal| !a.contains(literal)).cloned());
            let never = both.iter().any(|literal| {
                both.contains(&Literal { asked: literal.asked.clone(), holds: !literal.holds })
            });
            if !never && !found.contains(&both) {
                found.push(both);
            }
        }
    }
    match found.len() {
        0..=MOST => Ok(found),
        _ => Err(format!("there are more than {MOST} alternatives")),
    }
}

/// Where something does not hold.
pub fn contrary(all: &[Literal]) -> Vec<All> {
    all.iter().map(|literal| vec![Literal { holds: !literal.holds, ..literal.clone() }]).collect()
}

/// What an entry asks for, in alternatives.
///
/// # Errors
/// What there are no words for.
pub fn of_entry(entry: &Entry) -> Result<Vec<All>, String> {
    let mut common = Vec::new();
    if !entry.hosts.iter().any(|host| host == "*") {
        common.push(holds(Asked::Hosts(entry.hosts.clone())));
    }
    let Some(matches) = entry.value.get("match").and_then(Value::as_array) else { return Ok(vec![common]) };
    let mut alternatives = Vec::new();
    for matching in matches {
        let mut all = common.clone();
        for (name, value) in matching.as_object().into_iter().flatten() {
            let members = || value.as_object().into_iter().flatten();
            match name.as_str() {
                "uri" => all.extend(path(value)?),
                "method" => {
                    let method = value.get("exact").and_then(Value::as_str);
                    let method = method.ok_or_else(|| format!("{name} is no single word"))?;
                    all.push(holds(Asked::Methods(vec![method.to_owned()])));
                }
                "headers" => {
                    let header = |(name, value): (&String, &Value)| {
                        holds(Asked::Header(name.clone(), vec![value.clone()]))
                    };
                    all.extend(members().map(header));
                }
                "queryParams" => {
                    let query =
                        |(name, value): (&String, &Value)| holds(Asked::Query(name.clone(), value.clone()));
                    all.extend(members().map(query));
                }
                // What is another listener's takes nothing away from this one.
                "port" => {
                    let port = value.as_u64().and_then(|port| u16::try_from(port).ok());
                    all.push(holds(Asked::Port(port.ok_or_else(|| format!("{name} is no port"))?)));
                }
                other => return Err(format!("its route asks for {other}")),
            }
        }
        if !alternatives.contains(&all) {
            alternatives.push(all);
        }
    }
    Ok(alternatives)
}

fn path(value: &Value) -> Result<Option<Literal>, String> {
    for (name, kind) in [("exact", Kind::Exact), ("pathPrefix", Kind::Prefix), ("regex", Kind::Regex)] {
        if let Some(text) = value.get(name).and_then(Value::as_str) {
            return Ok(path_literal(kind, text, true));
        }
    }
    Err("its route has a path of another kind".to_owned())
}

/// A path; every path is below `/`, so that this asks for nothing.
pub fn path_literal(kind: Kind, text: &str, holds: bool) -> Option<Literal> {
    let text = if kind == Kind::Prefix { text.trim_end_matches('/') } else { text };
    let nothing = kind == Kind::Prefix && text.is_empty() && holds;
    (!nothing).then(|| Literal { asked: Asked::Path(kind, text.to_owned()), holds })
}

/// Whether no request can be both.
pub fn disjoint(one: &[Literal], other: &[Literal]) -> bool {
    one.iter().any(|a| other.iter().any(|b| a.holds && b.holds && apart(&a.asked, &b.asked)))
}

fn apart(one: &Asked, other: &Asked) -> bool {
    let below = |path: &str, prefix: &str| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match (one, other) {
        (Asked::Hosts(one), Asked::Hosts(other)) => {
            !one.iter().any(|a| other.iter().any(|b| hosts::common(a, b).is_some()))
        }
        (Asked::Port(one), Asked::Port(other)) => one != other,
        (Asked::Methods(one), Asked::Methods(other)) => !one.iter().any(|a| other.contains(a)),
        (Asked::Path(Kind::Exact, one), Asked::Path(Kind::Exact, other)) => one != other,
        (Asked::Path(Kind::Exact, path), Asked::Path(Kind::Prefix, prefix))
        | (Asked::Path(Kind::Prefix, prefix), Asked::Path(Kind::Exact, path)) => !below(path, prefix),
        (Asked::Path(Kind::Prefix, one), Asked::Path(Kind::Prefix, other)) => {
            !below(one, other) && !below(other, one)
        }
        (Asked::Header(one, a), Asked::Header(other, b)) => {
            let exact = |values: &[Value]| values.iter().all(|value| value.get("exact").is_some());
            one == other && exact(a) && exact(b) && !a.iter().any(|value| b.contains(value))
        }
        (Asked::Query(one, a), Asked::Query(other, b)) => {
            one == other && a != b && a.get("exact").is_some() && b.get("exact").is_some()
        }
        _ => false,
    }
}

/// A string of the policy as an expression.
fn expression(value: &Value) -> String {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    match (text("exact"), text("regex")) {
        (Some(exact), _) => quoted(exact),
        (_, Some(regex)) => format!("(?:{regex})"),
        _ => "[\\s\\S]*".to_owned(),
    }
}

fn one_of(values: &[Value]) -> Value {
    match values {
        [one] => one.clone(),
        several => json!({"regex": several.iter().map(expression).collect::<Vec<_>>().join("|")}),
    }
}

fn host_expressions(hosts: &[String]) -> Vec<Value> {
    let named = hosts.iter().flat_map(|host| hosts::names(host, true));
    let one = |host: String| match host.strip_prefix('*') {
        Some(end) => json!({"regex": format!(".+{}", quoted(end))}),
        None => json!({ "exact": host }),
    };
    named.map(one).collect()
}

fn path_expression(kind: Kind, text: &str) -> String {
    match kind {
        Kind::Exact => quoted(text),
        Kind::Prefix => format!("{}(?:/.*)?", quoted(text)),
        Kind::Regex => format!("(?:{text})"),
    }
}

/// What is asked at once, as one `match` has it.
///
/// # Errors
/// What there are no words for.
pub fn matching(all: &[Literal]) -> Result<Value, String> {
    let mut value = Map::new();
    let (mut headers, mut without, mut query) = (Map::new(), Vec::<(String, String)>::new(), Map::new());
    for Literal { asked, holds } in all {
        match (asked, holds) {
            (Asked::Hosts(hosts), true) => {
                let name = if value.contains_key("authority") { None } else { Some("authority") };
                let name = name.ok_or("it asks for two hosts at once")?;
                value.insert(name.to_owned(), one_of(&host_expressions(hosts)));
            }
            (Asked::Hosts(hosts), false) => {
                without.extend(
                    host_expressions(hosts).iter().map(|host| (":authority".into(), expression(host))),
                );
            }
            (Asked::Methods(methods), true) => {
                if value.contains_key("method") {
                    return Err("it asks for two methods at once".to_owned());
                }
                let methods: Vec<Value> = methods.iter().map(|method| json!({ "exact": method })).collect();
                value.insert("method".to_owned(), one_of(&methods));
            }
            (Asked::Methods(methods), false) => {
                without.extend(methods.iter().map(|method| (":method".to_owned(), quoted(method))));
            }
            (Asked::Path(kind, text), true) if !value.contains_key("uri") => {
                let name = match kind {
                    Kind::Exact => "exact",
                    Kind::Prefix => "pathPrefix",
                    Kind::Regex => "regex",
                };
                value.insert("uri".to_owned(), json!({ name: text }));
            }
            (Asked::Path(kind, text), holds) => {
                let regex = format!("{}(?:\\?.*)?", path_expression(*kind, text));
                match (holds, headers.contains_key(":path")) {
                    (false, _) => without.push((":path".to_owned(), regex)),
                    (true, false) => drop(headers.insert(":path".to_owned(), json!({ "regex": regex }))),
                    (true, true) => return Err("it asks for three paths at once".to_owned()),
                }
            }
            (Asked::Header(name, values), true) => {
                if headers.insert(name.clone(), one_of(values)).is_some() {
                    return Err(format!("it asks for the header {name} twice"));
                }
            }
            (Asked::Header(name, values), false) => {
                without.extend(values.iter().map(|value| (name.clone(), expression(value))));
            }
            (Asked::Query(name, wanted), true) => {
                if query.insert(name.clone(), wanted.clone()).is_some() {
                    return Err(format!("it asks for the query parameter {name} twice"));
                }
            }
            (Asked::Query(name, _), false) => {
                return Err(format!("there are no words for requests without the query parameter {name}"));
            }
            (Asked::Client(blocks), holds) => {
                let name = if *holds { "remoteIpBlocks" } else { "notRemoteIpBlocks" };
                let known = value.entry(name).or_insert_with(|| json!([]));
                if *holds && known.as_array().is_some_and(|known| !known.is_empty()) {
                    return Err("it asks for two networks at once".to_owned());
                }
                known
                    .as_array_mut()
                    .into_iter()
                    .for_each(|known| known.extend(blocks.iter().map(|b| json!(b))));
            }
            (Asked::Port(port), true) => drop(value.insert("port".to_owned(), json!(port))),
            (Asked::Port(port), false) => {
                return Err(format!(
                    "there are no words for requests of other ports than {port}; give the routes a sectionName"
                ));
            }
            (Asked::Token(..), _) => return Err("it asks what a token says".to_owned()),
        }
    }
    let mut not: Map<String, Value> = Map::new();
    for (name, regex) in without {
        let joined = match not.get(&name).and_then(|known| known.get("regex")).and_then(Value::as_str) {
            Some(known) => format!("{known}|{regex}"),
            None => regex,
        };
        not.insert(name, json!({ "regex": joined }));
    }
    for (name, map) in [("headers", headers), ("withoutHeaders", not), ("queryParams", query)] {
        if !map.is_empty() {
            value.insert(name.to_owned(), Value::Object(map));
        }
    }
    Ok(Value::Object(value))
}

/// What is asked at once, as one rule of authorization has it.
///
/// # Errors
/// What there are no words for.
pub fn rule(all: &[Literal]) -> Result<Value, String> {
    let mut operation: Map<String, Value> = Map::new();
    let mut when = Vec::new();
    let mut add = |name: &str, values: Vec<Value>| -> Result<(), String> {
        let known = operation.entry(name).or_insert_with(|| json!([]));
        if !name.starts_with("not") && known.as_array().is_some_and(|known| !known.is_empty()) {
            return Err(format!("it asks for {name} twice at once"));
        }
        known.as_array_mut().into_iter().for_each(|known| known.extend(values.clone()));
        Ok(())
    };
    for Literal { asked, holds } in all {
        let named = |yes: &'static str, no: &'static str| if *holds { yes } else { no };
        let mut condition = |key: String, values: Vec<Value>| {
            when.push(json!({"key": key, named("values", "notValues"): values}));
        };
        match asked {
            Asked::Hosts(hosts) => {
                let hosts = hosts.iter().flat_map(|host| hosts::names(host, true));
                add(named("hosts", "notHosts"), hosts.flat_map(|host| with_port(&host)).collect())?;
            }
            Asked::Methods(methods) => {
                add(named("methods", "notMethods"), methods.iter().map(|method| json!(method)).collect())?;
            }
            Asked::Path(kind, text) => {
                let values = match kind {
                    Kind::Exact => vec![literally(text)],
                    Kind::Prefix if text.contains(['*', '{', '}']) => {
                        vec![json!({"regex": path_expression(*kind, text)})]
                    }
                    Kind::Prefix => vec![json!(text), json!(format!("{text}/*"))],
                    Kind::Regex => vec![json!({ "regex": text })],
                };
                add(named("paths", "notPaths"), values)?;
            }
            Asked::Header(name, values) => {
                condition(format!("request.headers[{name}]"), values.iter().map(string).collect());
            }
            Asked::Query(name, value) if *holds => {
                condition(format!("request.query[{name}]"), vec![string(value)]);
            }
            // A rule looks at each value of a parameter, a route at the first: one more would open the route.
            Asked::Query(name, _) => {
                return Err(format!(
                    "another route has the requests with the query parameter {name}, and there are no words for those \
                     without it; let the policy be for that route, too"
                ));
            }
            Asked::Port(port) => add(named("ports", "notPorts"), vec![json!(port.to_string())])?,
            Asked::Client(blocks) => {
                condition("remote.ip".to_owned(), blocks.iter().map(|block| json!(block)).collect());
            }
            Asked::Token(key, values) => {
                let as_it_is = |value: &String| match key.as_str() {
                    "request.auth.principal" => json!(value),
                    _ => literally(value),
                };
                condition(key.clone(), values.iter().map(as_it_is).collect());
            }
        }
    }
    let mut rule = Map::new();
    if !operation.is_empty() {
        rule.insert("to".to_owned(), json!([{ "operation": operation }]));
    }
    if !when.is_empty() {
        rule.insert("when".to_owned(), Value::Array(when));
    }
    Ok(Value::Object(rule))
}

/// A value that is meant as it is written, stars and braces, too.
fn literally(text: &str) -> Value {
    match text.contains(['*', '{', '}']) {
        true => json!({"regex": quoted(text)}),
        false => json!(text),
    }
}

fn string(value: &Value) -> Value {
    match value.get("exact").and_then(Value::as_str) {
        Some(exact) => literally(exact),
        None => value.get("regex").map_or_else(|| json!("*"), |regex| json!({ "regex": regex })),
    }
}
