//! ServiceIntentions → ALLOW policies of `authorization`: what no source is allowed is refused, Consul's default in a mesh with
//! access control.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::chain::elsewhere;
use super::jwt;
use super::router::named;
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::condition::quoted;
use crate::import::mesh::matching::{self, Match, Path};
use crate::import::mesh::put;
use crate::import::read::Resource;

/// Under this name it is kept which service the proxy stands before.
const SERVICE: &str = "consul.service";

/// Who a source is.
struct Who {
    /// An expression for the principals.
    principal: String,
    /// How much of it is `*`: nothing, the name, or the namespace, too. Who is named more precisely comes first.
    wildcards: u8,
    permissions: Vec<Permission>,
}

/// What a source may do, or may not.
struct Permission {
    allow: bool,
    matches: Vec<Match>,
    /// Conditions on tokens, of which one must hold; none: no token is needed.
    tokens: Vec<Vec<Value>>,
}

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let ours = is_ours(resource, cx);
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    match spec.field("destination") {
        Some(field) => {
            if let Some(object) = field.object() {
                if let Some(name) = object.field("name")
                    && name.text().is_some()
                {
                    match ours {
                        true => name.taken("the service that the proxy stands before"),
                        false => name.no_meaning("the proxy stands before another service"),
                    }
                }
                elsewhere(&object);
            }
        }
        None => resource.log.error("spec.destination", "it does not say whom it is for", "name a service"),
    }
    let all = spec.field("jwt").map(|field| jwt::needed(&field, cx)).unwrap_or_default();
    let items = spec.field("sources").map(|field| field.items()).unwrap_or_default();
    let mut sources: Vec<Who> = items.iter().filter_map(|item| source(item, cx)).collect();
    if !ours || resource.log.has_errors() {
        return;
    }
    sources.sort_by_key(|who| who.wildcards);
    let mut known = BTreeSet::new();
    if let Some(twice) = sources.iter().find(|who| !known.insert(&who.principal)) {
        let message = format!("two sources are {}: one intention alone holds for each", twice.principal);
        resource.log.error("spec.sources", message, "keep one");
        return;
    }
    let mut rules = Vec::new();
    for who in &sources {
        let mut source = json!({"principals": [{"regex": who.principal}]});
        let first = sources.iter().filter(|other| other.wildcards < who.wildcards);
        let first: Vec<Value> = first.map(|other| json!({"regex": other.principal})).collect();
        if !first.is_empty() {
            put(&mut source, "notPrincipals", first);
        }
        let mut denied: Vec<Match> = Vec::new();
        for permission in &who.permissions {
            if !permission.allow {
                denied.extend(permission.matches.iter().cloned());
                continue;
            }
            let operations = match matching::after(&permission.matches, &denied) {
                Ok(operations) => operations,
                Err(error) => {
                    resource.log.error("spec.sources", error, "");
                    return;
                }
            };
            let tokens = both(&all, &permission.tokens);
            for (operation, when) in operations {
                for token in &tokens {
                    let conditions: Vec<&Value> = when.iter().chain(token).collect();
                    let mut rule = Map::from_iter([("from".to_owned(), json!([{ "source": source }]))]);
                    if !operation.is_empty() {
                        rule.insert("to".to_owned(), json!([{ "operation": operation }]));
                    }
                    if !conditions.is_empty() {
                        rule.insert("when".to_owned(), json!(conditions));
                    }
                    rules.push(Value::Object(rule));
                }
            }
        }
    }
    let mut policy =
        Map::from_iter([("name".to_owned(), json!(resource.name)), ("action".to_owned(), json!("ALLOW"))]);
    if !rules.is_empty() {
        policy.insert("rules".to_owned(), Value::Array(rules));
    }
    cx.mesh.authorization.push((Value::Object(policy), cx.origin(resource, "spec")));
}

/// One of each of two lists of alternatives at once; an empty list asks for nothing.
fn both(one: &[Vec<Value>], other: &[Vec<Value>]) -> Vec<Vec<Value>> {
    let nothing = [Vec::new()];
    let one = if one.is_empty() { &nothing } else { one };
    let other = if other.is_empty() { &nothing } else { other };
    let pairs = one.iter().flat_map(|one| other.iter().map(move |other| [one.as_slice(), other].concat()));
    pairs.collect()
}

/// The service that intentions are for, wherever it stands.
fn destination(resource: &Resource) -> Option<&str> {
    resource.value.pointer("/spec/destination/name").and_then(Value::as_str)
}

/// Whether they are for the service that the proxy stands before: the one that a label of `--labels` or a Service of the input
/// names; without labels the only one.
fn is_ours(resource: &Resource, cx: &mut Context<'_>) -> bool {
    if let Some(known) = cx.mesh.found.get(SERVICE) {
        return known.as_str() == destination(resource);
    }
    let here = |other: &&Resource| cx.namespace(other) == cx.scope.namespace;
    let mut all: Vec<&str> = cx.all("ServiceIntentions").filter(here).filter_map(destination).collect();
    all.sort_unstable();
    all.dedup();
    let list = || all.join(", ");
    let found = match (&cx.scope.labels, all.as_slice()) {
        (None, [one]) => json!(one),
        (None, _) => {
            resource.log.error(
                "spec.destination.name",
                format!(
                    "there are intentions for several services, and one proxy stands before one of them: {}",
                    list()
                ),
                "say which with --labels app=NAME",
            );
            json!(false)
        }
        (Some(labels), _) => {
            let of_services = cx.scope.own_services();
            let is_named =
                |name: &&&str| of_services.contains(**name) || labels.values().any(|value| value == **name);
            match all.iter().filter(is_named).collect::<Vec<_>>().as_slice() {
                [one] => json!(one),
                [] => {
                    resource.log.warn(
                        "spec.destination.name",
                        format!(
                            "the labels of the proxy name no service that intentions are for, and nobody gets in whom none lets \
                             in; there are intentions for {}",
                            list()
                        ),
                        "say which with --labels app=NAME, or put the Service into the input",
                    );
                    let nobody = json!({"name": "consul/nobody", "action": "ALLOW"});
                    cx.mesh.authorization.push((nobody, cx.origin(resource, "spec")));
                    json!(false)
                }
                several => {
                    let several: Vec<&str> = several.iter().map(|name| **name).collect();
                    resource.log.error(
                        "spec.destination.name",
                        format!(
                            "the labels of the proxy name several services that intentions are for: {}",
                            several.join(", ")
                        ),
                        "say which with --labels app=NAME",
                    );
                    json!(false)
                }
            }
        }
    };
    let ours = found.as_str() == destination(resource);
    cx.mesh.found.insert(SERVICE, found);
    ours
}

fn source(field: &Field<'_>, cx: &Context<'_>) -> Option<Who> {
    let object = field.object()?;
    let name = object.field("name").and_then(|field| {
        let name = field.text()?;
        field.taken("authorization[].rules[].from[].source.principals");
        Some(name)
    });
    if let Some(field) = object.field("description") {
        field.no_meaning("it is for people");
    }
    if let Some(field) = object.field("type") {
        field.taken("a service of Consul's");
    }
    let namespace = object.field("namespace").and_then(|field| {
        field.taken("authorization[].rules[].from[].source.principals");
        field.text()
    });
    for name in ["partition", "peer", "samenessGroup"] {
        let Some(field) = object.field(name) else { continue };
        match field.value().as_str() {
            Some("" | "default") => field.no_meaning("it is the default one"),
            _ => field.forbid("who is in another partition or cluster is not known here", "leave it out"),
        }
    }
    let allow = object.field("action").and_then(|field| allow(&field));
    let permissions = object.field("permissions");
    let permissions = match (allow, permissions) {
        (Some(_), Some(field)) => {
            field.problem_here("action and permissions exclude each other", "keep one");
            return None;
        }
        (Some(allow), None) => {
            vec![Permission { allow, matches: vec![Match::default()], tokens: Vec::new() }]
        }
        (None, Some(field)) => field.items().iter().filter_map(|item| permission(item, cx)).collect(),
        (None, None) => {
            field.problem_here("it has neither action nor permissions", "say whether it gets in");
            return None;
        }
    };
    let Some(name) = name else {
        field.problem_here("it has no name", "name a service, or *");
        return None;
    };
    let part = |text: &str| if text == "*" { "[^/]+".to_owned() } else { quoted(text) };
    let namespace = namespace.filter(|namespace| !namespace.is_empty()).unwrap_or("default");
    if namespace == "*" && name != "*" {
        field.problem_here("a service has one namespace", "name it, or use * for the name, too");
        return None;
    }
    // spiffe://TRUSTDOMAIN/ns/NAMESPACE/dc/DATACENTER/svc/NAME; whoever is in another partition than the default one has
    // /ap/PARTITION in front, and no source names those.
    let principal = format!("[^/]+/ns/{}/dc/[^/]+/svc/{}", part(namespace), part(name));
    let wildcards = u8::from(name == "*").saturating_add(u8::from(namespace == "*"));
    Some(Who { principal, wildcards, permissions })
}

fn allow(field: &Field<'_>) -> Option<bool> {
    let action = field.text()?;
    let allow = match action {
        "allow" => true,
        "deny" => false,
        _ => return field.wrong(format!("{action} is no action; use allow or deny")),
    };
    field.taken(if allow { "a rule of an ALLOW policy" } else { "nothing that lets it in" });
    Some(allow)
}

fn permission(field: &Field<'_>, cx: &Context<'_>) -> Option<Permission> {
    let object = field.object()?;
    let action = object.field("action");
    let tokens = object.field("jwt").map(|field| jwt::needed(&field, cx)).unwrap_or_default();
    let matches = object.field("http").and_then(|field| http(&field));
    let allow = match action {
        Some(action) => allow(&action)?,
        None => {
            field.problem_here("it has no action", "use allow or deny");
            return None;
        }
    };
    if !allow && !tokens.is_empty() {
        field.problem_here("a token is what lets in, and keeps nobody out", "use action: allow");
    }
    Some(Permission { allow, matches: matches.unwrap_or_else(|| vec![Match::default()]), tokens })
}

fn http(field: &Field<'_>) -> Option<Vec<Match>> {
    let object = field.object()?;
    let to = "authorization[].rules[].to[].operation";
    let mut one = Match::default();
    for name in ["pathExact", "pathPrefix", "pathRegex"] {
        let Some(field) = object.field(name) else { continue };
        let Some(text) = field.text().filter(|text| !text.is_empty()) else { continue };
        field.taken(format!("{to}.paths"));
        one.path = Some(match name {
            "pathExact" => Path::Exact(text.to_owned()),
            "pathPrefix" if text == "/" => continue,
            // Not by segments: /adm has /admin, too.
            "pathPrefix" => Path::Regex(format!("{}.*", quoted(text))),
            _ => Path::Regex(text.to_owned()),
        });
    }
    for item in object.field("header").into_iter().flat_map(|field| field.items()) {
        let Some((name, value, invert)) = named(&item) else { continue };
        if invert {
            item.problem_here(
                "what a header must not be is not taken here",
                "use an earlier permission with deny",
            );
        }
        let word = |word: &str| value.get(word).and_then(Value::as_str).map(quoted);
        let value = match (word("prefix"), word("suffix"), word("contains")) {
            (Some(text), _, _) => json!({"regex": format!("{text}.*")}),
            (_, Some(text), _) => json!({"regex": format!(".*{text}")}),
            (_, _, Some(text)) => json!({"regex": format!(".*{text}.*")}),
            _ if value.get("present").is_some() => json!({"regex": ".*"}),
            _ => value,
        };
        one.headers.push((name.to_ascii_lowercase(), value));
    }
    let methods: Vec<String> = match object.field("methods") {
        Some(field) => {
            field.taken(format!("{to}.methods"));
            field.texts().into_iter().map(str::to_ascii_uppercase).collect()
        }
        None => Vec::new(),
    };
    if methods.is_empty() {
        return Some(vec![one]);
    }
    Some(methods.into_iter().map(|method| Match { method: Some(method), ..one.clone() }).collect())
}
