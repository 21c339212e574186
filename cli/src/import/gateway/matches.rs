//! What rules ask of requests, and which of them comes first.

use serde_json::{Map, Value, json};

use crate::import::field::{Field, Object};
use crate::import::read::Resource;

/// What one match asks for.
#[derive(Debug, Default)]
pub struct Match {
    /// In the policy's words.
    pub value: Map<String, Value>,
    /// Its place among all matches, in the specification's order.
    pub precedence: Vec<i64>,
    /// Where it stands.
    pub path: String,
    /// Whether a prefix of the path can be replaced.
    pub has_prefix: bool,
}

/// How a path is matched, the first kind first. Where a regular expression stands is left to implementations; this is Envoy
/// Gateway's place for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    Exact,
    Regex,
    Prefix,
}

/// How specific a match is.
#[derive(Clone, Copy, Debug)]
struct Specificity {
    rank: Rank,
    length: usize,
    method: bool,
    headers: usize,
    parameters: usize,
}

/// The matches of a rule of an HTTPRoute or a GRPCRoute. Without any, every request.
pub fn read(rule: &Object<'_>, to: &str, resource: &Resource, index: usize) -> Vec<Match> {
    let reader = if is_grpc(resource) { grpc_match } else { http_match };
    let items = rule.field("matches").map(|field| field.items()).unwrap_or_default();
    let mut matches = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let Some(object) = item.object() else { continue };
        let mut found = Match { path: item.path().to_owned(), ..Match::default() };
        if let Some(specificity) = reader(&object, &format!("{to}.match"), &mut found) {
            found.precedence = specificity.precedence(resource, index, place);
            matches.push(found);
        }
    }
    if items.is_empty() {
        let every = Specificity { rank: Rank::Prefix, length: 1, method: false, headers: 0, parameters: 0 };
        let precedence = every.precedence(resource, index, 0);
        matches.push(Match {
            precedence,
            has_prefix: true,
            path: rule.path().to_owned(),
            ..Match::default()
        });
    }
    matches
}

/// Whether a route is for calls of gRPC.
pub fn is_grpc(route: &Resource) -> bool {
    route.kind == "GRPCRoute"
}

impl Specificity {
    /// Exact paths, then the longest prefix, a method, the most headers, the most parameters; the older route, then by the
    /// alphabet; in one route by its own order.
    fn precedence(self, resource: &Resource, rule: usize, place: usize) -> Vec<i64> {
        let few = |count: usize| i64::try_from(count).unwrap_or(i64::MAX).saturating_neg();
        let rank = match self.rank {
            Rank::Exact => 0,
            Rank::Regex => 1,
            Rank::Prefix => 2,
        };
        let mut precedence = vec![
            rank,
            few(self.length),
            i64::from(!self.method),
            few(self.headers),
            few(self.parameters),
            resource.created(),
        ];
        let name = format!("{}/{}", resource.namespace.as_deref().unwrap_or_default(), resource.name);
        precedence.extend(name.bytes().map(i64::from));
        precedence.push(-1);
        precedence.extend([rule, place].map(|place| few(place).saturating_neg()));
        precedence
    }
}

/// How a value is matched: `Exact` or `RegularExpression`.
enum Kind {
    Exact,
    Regex,
}

fn kind(object: &Object<'_>, to: &str) -> Option<Kind> {
    let Some(field) = object.field("type") else { return Some(Kind::Exact) };
    let kind = match field.text()? {
        "Exact" => Kind::Exact,
        "RegularExpression" => Kind::Regex,
        other => {
            return field.wrong(format!("\"{other}\" is no kind of match; use Exact or RegularExpression"));
        }
    };
    field.taken(to);
    Some(kind)
}

fn http_match(object: &Object<'_>, to: &str, found: &mut Match) -> Option<Specificity> {
    let mut specificity =
        Specificity { rank: Rank::Prefix, length: 1, method: false, headers: 0, parameters: 0 };
    let mut good = true;
    match object.field("path") {
        Some(field) => match path(&field, &format!("{to}.uri"), found) {
            Some((rank, length)) => (specificity.rank, specificity.length) = (rank, length),
            None => good = false,
        },
        None => found.has_prefix = true,
    }
    if let Some(field) = object.field("method") {
        match field.text() {
            Some(method) => {
                field.taken(format!("{to}.method"));
                found.value.insert("method".to_owned(), json!({ "exact": method }));
                specificity.method = true;
            }
            None => good = false,
        }
    }
    for (name, to_name, case) in [("headers", "headers", false), ("queryParams", "queryParams", true)] {
        let Some(field) = object.field(name) else { continue };
        let Some(values) = values(&field, &format!("{to}.{to_name}"), case) else {
            good = false;
            continue;
        };
        match name {
            "headers" => specificity.headers = values.len(),
            _ => specificity.parameters = values.len(),
        }
        if !values.is_empty() {
            found.value.insert(to_name.to_owned(), Value::Object(values));
        }
    }
    good.then_some(specificity)
}

fn path(field: &Field<'_>, to: &str, found: &mut Match) -> Option<(Rank, usize)> {
    let object = field.object()?;
    let kind = match object.field("type") {
        Some(field) => {
            let kind = field.text()?;
            field.taken(to);
            Some((field, kind))
        }
        None => None,
    };
    let value = match object.field("value") {
        Some(field) => {
            let value = field.text()?;
            field.taken(to);
            value
        }
        None => "/",
    };
    let (name, rank) = match kind.as_ref().map_or("PathPrefix", |(_, kind)| kind) {
        "PathPrefix" => {
            found.has_prefix = true;
            ("pathPrefix", Rank::Prefix)
        }
        "Exact" => ("exact", Rank::Exact),
        "RegularExpression" => ("regex", Rank::Regex),
        other => {
            let (field, _) = kind.as_ref()?;
            return field.wrong(format!(
                "\"{other}\" is no kind of path match; use Exact, PathPrefix or RegularExpression"
            ));
        }
    };
    // A slash at its end says nothing, and is no character that counts.
    let length = if rank == Rank::Prefix { value.trim_end_matches('/').len().max(1) } else { value.len() };
    found.value.insert("uri".to_owned(), json!({ name: value }));
    Some((rank, length))
}

/// Headers or parameters by name; of several for one name the first counts.
fn values(field: &Field<'_>, to: &str, case: bool) -> Option<Map<String, Value>> {
    let mut values = Map::new();
    let mut good = true;
    for item in field.items() {
        let value = item.object().and_then(|object| {
            let named = object.field("name");
            let value = object.field("value");
            let kind = kind(&object, to)?;
            let (Some(named), Some(value)) = (named, value) else {
                item.problem_here("it has no name or no value", "give it both");
                return None;
            };
            let name = named.text()?;
            let text = value.text()?;
            let name = if case { name.to_owned() } else { name.to_ascii_lowercase() };
            if values.contains_key(&name) {
                item.no_meaning("of several for one name the first counts");
                return Some(());
            }
            named.taken(format!("{to}[{name}]"));
            value.taken(format!("{to}[{name}]"));
            let how = match kind {
                Kind::Exact => json!({ "exact": text }),
                Kind::Regex => json!({ "regex": text }),
            };
            values.insert(name, how);
            Some(())
        });
        good &= value.is_some();
    }
    good.then_some(values)
}

fn grpc_match(object: &Object<'_>, to: &str, found: &mut Match) -> Option<Specificity> {
    let mut specificity =
        Specificity { rank: Rank::Prefix, length: 1, method: false, headers: 0, parameters: 0 };
    let mut good = true;
    if let Some(field) = object.field("method") {
        match grpc_method(&field, &format!("{to}.uri")) {
            Some((uri, rank, length)) => {
                (specificity.rank, specificity.length) = (rank, length);
                if let Some(uri) = uri {
                    found.value.insert("uri".to_owned(), uri);
                }
            }
            None => good = false,
        }
    }
    if let Some(field) = object.field("headers") {
        match values(&field, &format!("{to}.headers"), false) {
            Some(values) => {
                specificity.headers = values.len();
                if !values.is_empty() {
                    found.value.insert("headers".to_owned(), Value::Object(values));
                }
            }
            None => good = false,
        }
    }
    good.then_some(specificity)
}

/// A call's path is `/package.Service/Method`.
fn grpc_method(field: &Field<'_>, to: &str) -> Option<(Option<Value>, Rank, usize)> {
    let object = field.object()?;
    let part = |name: &'static str| -> Option<Option<String>> {
        let Some(field) = object.field(name) else { return Some(None) };
        let text = field.text()?;
        field.taken(to);
        Some(Some(text.to_owned()).filter(|text| !text.is_empty()))
    };
    let (service, method, kind) = (part("service"), part("method"), kind(&object, to));
    let (service, method) = (service?, method?);
    Some(match (kind?, service, method) {
        (_, None, None) => (None, Rank::Prefix, 1),
        (Kind::Exact, Some(service), Some(method)) => {
            let path = format!("/{service}/{method}");
            (Some(json!({ "exact": path })), Rank::Exact, path.len())
        }
        (Kind::Exact, Some(service), None) => {
            let path = format!("/{service}");
            (Some(json!({ "pathPrefix": path })), Rank::Prefix, path.len())
        }
        // Behind every service, before what asks for nothing.
        (Kind::Exact, None, Some(method)) => {
            (Some(json!({ "suffix": format!("/{method}") })), Rank::Prefix, 2)
        }
        (Kind::Regex, service, method) => {
            let part = |text: Option<String>| text.map_or("[^/]+".to_owned(), |text| format!("(?:{text})"));
            let path = format!("/{}/{}", part(service), part(method));
            let length = path.len();
            (Some(json!({ "regex": path })), Rank::Regex, length)
        }
    })
}
