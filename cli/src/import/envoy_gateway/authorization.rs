//! `authorization` of a SecurityPolicy: rules of which the first that holds decides. The policy document has no such order, so
//! that what is refused is said: one DENY policy, whose rules are the alternatives of all that nobody allowed before.

use serde_json::{Value, json};

use super::literal::{All, Asked, Kind, Literal, contrary, holds, path_literal, product, rule};
use super::reach::{requests, set};
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::read::Resource;

/// Whose tokens there are: the names of providers with their issuers.
pub type Providers = Vec<(String, Option<String>)>;

/// Reads it.
pub fn read(
    field: &Field<'_>,
    reached: &[usize],
    providers: &Providers,
    resource: &Resource,
    cx: &mut Context<'_>,
) {
    let name = super::name(resource, cx);
    let Some(refused) = refused(field, &format!("authorization[{name}].rules"), providers) else { return };
    let written = refused.and_then(|refused| scoped(&refused, reached, cx));
    let rules =
        written.and_then(|all| all.iter().map(|all| rule(all)).collect::<Result<Vec<Value>, String>>());
    match rules {
        Ok(rules) if rules.is_empty() => {}
        Ok(rules) => {
            let policy = json!({"name": name, "action": "DENY", "rules": rules});
            cx.mesh.authorization.push((policy, cx.origin(resource, "spec.authorization")));
        }
        Err(reason) => field.problem_here(
            format!("what it refuses cannot be written down: {reason}"),
            "write fewer rules, or write it into the policy's authorization",
        ),
    }
}

/// Only for requests of these entries.
fn scoped(refused: &[All], reached: &[usize], cx: &Context<'_>) -> Result<Vec<All>, String> {
    let entries = &cx.mesh.entries;
    let own = set(reached);
    if own.len() == entries.len() {
        return Ok(refused.to_vec());
    }
    let mut scoped: Vec<All> = Vec::new();
    for index in reached {
        let of = requests(*index, |other| !own.contains(&other), entries)?;
        for all in product(&of, refused)? {
            if !scoped.contains(&all) {
                scoped.push(all);
            }
        }
    }
    Ok(scoped)
}

/// What is refused, in alternatives; `None` where a field is wrong, which was said.
fn refused(field: &Field<'_>, to: &str, providers: &Providers) -> Option<Result<Vec<All>, String>> {
    let object = field.object()?;
    object.may_have(&["defaultAction", "rules"]);
    let allows = |field: Field<'_>| -> Option<bool> {
        let allows = match field.text()? {
            "Allow" => true,
            "Deny" => false,
            other => return field.wrong(format!("{other} is no action; use Allow or Deny")),
        };
        field.taken(to);
        Some(allows)
    };
    let default = match object.field("defaultAction") {
        Some(field) => allows(field)?,
        None => false,
    };
    let items = object.field("rules").map(|field| field.items()).unwrap_or_default();
    let (mut refused, mut left, mut wrong) = (Vec::new(), Ok(vec![All::new()]), false);
    for item in &items {
        let Some(object) = item.object() else {
            wrong = true;
            continue;
        };
        if let Some(field) = object.field("name") {
            field.no_meaning("rules have no names in the policy");
        }
        let action = object.field("action").and_then(allows);
        let asked = asked(&object, to, providers);
        let (Some(allows), Some(asked)) = (action, asked) else {
            wrong = true;
            continue;
        };
        left = left.and_then(|left: Vec<All>| {
            if allows {
                return product(&left, &contrary(&asked));
            }
            refused.extend(product(&left, &[asked])?);
            Ok(left)
        });
    }
    if wrong {
        return None;
    }
    Some(left.map(|left| {
        if !default {
            refused.extend(left);
        }
        refused
    }))
}

/// What a rule asks for.
fn asked(object: &Object<'_>, to: &str, providers: &Providers) -> Option<All> {
    let mut all = Vec::new();
    let mut good = true;
    if let Some(field) = object.field("cel") {
        field.forbid("expressions are not read", "say it with principal and operation");
        good = false;
    }
    if let Some(operation) = object.field("operation").and_then(|field| field.object()) {
        if let Some(field) = operation.field("methods") {
            let methods: Vec<String> = field.texts().into_iter().map(str::to_owned).collect();
            field.taken(to);
            all.push(holds(Asked::Methods(methods)));
        }
        if let Some(field) = operation.field("path") {
            match path(&field, to) {
                Some(literal) => all.extend(literal),
                None => good = false,
            }
        }
    }
    if let Some(principal) = object.field("principal").and_then(|field| field.object()) {
        if let Some(field) = principal.field("clientCIDRs") {
            let blocks: Vec<String> = field.texts().into_iter().map(str::to_owned).collect();
            field.taken(to);
            all.push(holds(Asked::Client(blocks)));
        }
        if let Some(field) = principal.field("clientIPGeoLocations") {
            field.forbid("nothing is known of where addresses are", "name networks in clientCIDRs");
            good = false;
        }
        for item in principal.field("headers").into_iter().flat_map(|field| field.items()) {
            let Some(object) = item.object() else { continue };
            let (name, values) = (object.field("name"), object.field("values"));
            let Some((name, values)) = name.zip(values) else {
                item.problem_here("it has no name or no values", "give it both");
                good = false;
                continue;
            };
            let texts: Vec<Value> = values.texts().into_iter().map(|text| json!({ "exact": text })).collect();
            let Some(header) = name.text() else {
                good = false;
                continue;
            };
            name.taken(to);
            values.taken(to);
            all.push(holds(Asked::Header(header.to_ascii_lowercase(), texts)));
        }
        if let Some(field) = principal.field("jwt") {
            match token(&field, to, providers) {
                Some(asked) => all.extend(asked),
                None => good = false,
            }
        }
    }
    good.then_some(all)
}

/// A path, which is no literal where it is every path.
pub fn path(field: &Field<'_>, to: &str) -> Option<Option<Literal>> {
    let object = field.object()?;
    object.may_have(&["type", "value", "invert"]);
    let kind = match object.field("type") {
        None => Kind::Prefix,
        Some(field) => {
            let kind = match field.text()? {
                "Exact" => Kind::Exact,
                "PathPrefix" => Kind::Prefix,
                "RegularExpression" => Kind::Regex,
                other => {
                    return field
                        .wrong(format!("{other} is no kind; use Exact, PathPrefix or RegularExpression"));
                }
            };
            field.taken(to);
            kind
        }
    };
    let value = match object.field("value") {
        Some(field) => {
            field.taken(to);
            field.text()?
        }
        None => "/",
    };
    let inverted = inverted(&object, to)?;
    Some(path_literal(kind, value, !inverted))
}

/// `invert`.
pub fn inverted(object: &Object<'_>, to: &str) -> Option<bool> {
    let Some(field) = object.field("invert") else { return Some(false) };
    let inverted = field.flag()?;
    field.taken(to);
    Some(inverted)
}

fn token(field: &Field<'_>, to: &str, providers: &Providers) -> Option<All> {
    let object = field.object()?;
    object.may_have(&["provider", "scopes", "claims"]);
    let named = object.field("provider")?;
    let provider = named.text()?;
    let Some((_, issuer)) = providers.iter().find(|(known, _)| known == provider) else {
        return named.wrong(format!("there is no provider {provider} in jwt.providers"));
    };
    if issuer.is_none() && providers.len() > 1 {
        named.forbid(
            "which of several providers a token comes from is known by its issuer alone",
            "give the provider its issuer",
        );
        return None;
    }
    named.taken(to);
    let principal = issuer.as_ref().map_or_else(|| "*".to_owned(), |issuer| format!("{issuer}/*"));
    let mut all = vec![holds(Asked::Token("request.auth.principal".to_owned(), vec![principal]))];
    for item in object.field("scopes").into_iter().flat_map(|field| field.items()) {
        let scope = item.text()?;
        item.taken(to);
        all.push(holds(Asked::Token("request.auth.claims[scope]".to_owned(), vec![scope.to_owned()])));
    }
    for item in object.field("claims").into_iter().flat_map(|field| field.items()) {
        let object = item.object()?;
        object.may_have(&["name", "values", "valueType"]);
        if let Some(field) = object.field("valueType") {
            field.no_meaning("texts and lists of them are both looked at");
        }
        let (name, values) = (object.field("name")?, object.field("values")?);
        let claim: String = name.text()?.split('.').map(|part| format!("[{part}]")).collect();
        let texts = values.texts().into_iter().map(str::to_owned).collect();
        name.taken(to);
        values.taken(to);
        all.push(holds(Asked::Token(format!("request.auth.claims{claim}"), texts)));
    }
    Some(all)
}
