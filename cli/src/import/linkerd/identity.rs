//! Who a client is: Linkerd's identities → sources of `authorization`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::settings;
use crate::import::context::Context;
use crate::import::dialect::no_hint;
use crate::import::field::{Field, Object, Reading};
use crate::import::mesh::condition::quoted;

/// What a source calls identities.
const PRINCIPALS: &str = "principals";

/// A source of `authorization`; an empty one is anybody.
pub type Source = Map<String, Value>;

/// The principal of an identity: `SA.NS.serviceaccount.identity.linkerd.TRUSTDOMAIN` is `TRUSTDOMAIN/ns/NS/sa/SA`.
///
/// # Errors
/// What it is not.
pub fn principal(identity: &str) -> Result<String, String> {
    if identity == "*" {
        return Ok("*".to_owned());
    }
    if identity.trim_start_matches("*.").contains('*') {
        return Err(format!("{identity}: Linkerd knows * alone, and *. in front of names"));
    }
    if let Some(uri) = identity.strip_prefix("spiffe://") {
        return Ok(uri.to_owned());
    }
    let wrong = || {
        format!(
            "{identity} is no identity of a service account; use SA.NS.serviceaccount.identity.linkerd.TRUSTDOMAIN, \
             spiffe://… or *"
        )
    };
    let any = identity.starts_with("*.");
    let (account, rest) = match identity.split_once("serviceaccount.identity.") {
        Some((account, rest)) => (account.trim_end_matches('.'), rest),
        None => ("*", identity.strip_prefix("*.identity.").ok_or_else(wrong)?),
    };
    // The namespace of the control plane, and the trust domain.
    let (_, domain) = rest.split_once('.').filter(|(_, domain)| !domain.is_empty()).ok_or_else(wrong)?;
    match account.split('.').collect::<Vec<_>>().as_slice() {
        ["*"] if any => Ok(format!("{domain}/*")),
        ["*", namespace] if plain(namespace) => Ok(format!("{domain}/ns/{namespace}/sa/*")),
        [name, namespace] if plain(name) && plain(namespace) => {
            Ok(format!("{domain}/ns/{namespace}/sa/{name}"))
        }
        _ => Err(wrong()),
    }
}

/// Whether a name is nothing but that.
fn plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(['*', '/'])
}

/// An expression for what Envoy writes into `x-forwarded-client-cert` of a client with one of these principals.
pub fn forwarded<'p>(principals: impl IntoIterator<Item = &'p String>) -> String {
    let principals: BTreeSet<&str> = principals.into_iter().map(String::as_str).collect();
    let principals: Vec<&str> = principals.into_iter().collect();
    format!("(?:.*;)?URI=spiffe://{}(?:[;,].*)?", any_of(&principals))
}

/// An expression for any of several texts, in their order and each once. What they begin with alike stands once, so that
/// few of them are looked at for one byte, however many there are.
fn any_of(texts: &[&str]) -> String {
    let (Some(first), Some(last)) = (texts.first(), texts.last()) else { return String::new() };
    let same = first.char_indices().zip(last.chars()).find(|((_, one), other)| one != other);
    let end = same.map_or(first.len().min(last.len()), |((end, _), _)| end);
    let (start, _) = first.split_at_checked(end).unwrap_or_default();
    let rests: Vec<&str> = texts.iter().filter_map(|text| text.strip_prefix(start)).collect();
    let longer: Vec<&str> = rests.iter().copied().filter(|rest| !rest.is_empty()).collect();
    let ways: Vec<String> =
        longer.chunk_by(|one, other| one.chars().next() == other.chars().next()).map(any_of).collect();
    let optional = if longer.len() < rests.len() { "?" } else { "" };
    match ways.is_empty() {
        true => quoted(start),
        false => format!("{}(?:{}){optional}", quoted(start), ways.join("|")),
    }
}

/// One source of several that may be.
pub fn source(name: &str, values: Vec<String>) -> Source {
    Source::from_iter([(name.to_owned(), json!(values))])
}

/// The source that a principal is.
pub fn account(principal: String) -> Source {
    source(PRINCIPALS, vec![principal])
}

/// Principals out of a list of identities.
pub fn identities(field: &Field<'_>, to: &str) -> Vec<Source> {
    let mut principals = Vec::new();
    for item in field.items() {
        let Some(text) = item.text() else { continue };
        match principal(text) {
            Ok(principal) => {
                item.taken(format!("{to}.principals: {principal}"));
                principals.push(principal);
            }
            Err(error) => item.forbid(error, ""),
        }
    }
    if principals.is_empty() { Vec::new() } else { vec![source(PRINCIPALS, principals)] }
}

/// The principals that a reference to an account or a namespace means: identities of Linkerd's own trust domain alone.
pub fn reference(
    field: &Field<'_>,
    object: &Object<'_>,
    namespace: &str,
    domain: &str,
    to: &str,
) -> Option<String> {
    let text = |name: &'static str| {
        let field = object.field(name)?;
        field.taken(format!("{to}: an identity of {domain}"));
        field.text()
    };
    text("group");
    let kind = text("kind").unwrap_or("ServiceAccount");
    let of = text("namespace").unwrap_or(namespace);
    let name = text("name");
    let principal = match (kind, name) {
        ("ServiceAccount", Some(name)) => (of, name),
        // Without a name it is the namespace of the reference.
        ("Namespace", name) => (name.unwrap_or(of), "*"),
        ("ServiceAccount", None) => {
            field.problem_here("it names nobody", "give it a name");
            return None;
        }
        (kind, _) => {
            field.problem_here(format!("{kind} is not known here"), "use a ServiceAccount");
            return None;
        }
    };
    match principal {
        (of, name) if plain(of) && (plain(name) || kind == "Namespace") => {
            Some(format!("{domain}/ns/{of}/sa/{name}"))
        }
        (of, name) => field.wrong(format!("{of}/{name} is no name of Kubernetes")),
    }
}

/// Networks: addresses of the direct peer.
pub fn networks(field: &Field<'_>, to: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut plain: Vec<String> = Vec::new();
    for item in field.items() {
        let Some(object) = item.object() else { continue };
        let cidr = object.field("cidr").and_then(|field| {
            field.taken(format!("{to}.ipBlocks"));
            field.text().map(str::to_owned)
        });
        let except = object.field("except").map(|field| {
            field.taken(format!("{to}.notIpBlocks"));
            match field.value() {
                Value::Array(_) => field.texts().into_iter().map(str::to_owned).collect(),
                _ => field.text().map(str::to_owned).into_iter().collect::<Vec<String>>(),
            }
        });
        let Some(cidr) = cidr else {
            item.problem_here("it has no cidr", "say which addresses, such as 10.0.0.0/8");
            continue;
        };
        match except.filter(|except| !except.is_empty()) {
            Some(except) => {
                let mut source = source("ipBlocks", vec![cidr]);
                source.insert("notIpBlocks".to_owned(), json!(except));
                sources.push(source);
            }
            None => plain.push(cidr),
        }
    }
    let all = |end: &str| plain.iter().any(|cidr| cidr == end);
    if all("0.0.0.0/0") && all("::/0") {
        return vec![Source::new()];
    }
    if !plain.is_empty() {
        sources.insert(0, source("ipBlocks", plain));
    }
    sources
}

/// What is two sources at once.
///
/// # Errors
/// Both ask for the same, in different words.
pub fn both(one: &Source, other: &Source) -> Result<Option<Source>, String> {
    let mut both = one.clone();
    for (name, values) in other {
        let Some(own) = both.get(name).filter(|own| *own != values) else {
            both.insert(name.clone(), values.clone());
            continue;
        };
        if name != PRINCIPALS {
            return Err(format!("two lists of {name} at once cannot be put into one"));
        }
        let list = |values: &Value| -> Vec<String> {
            values.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let (own, values) = (list(own), list(values));
        let pairs = own.iter().flat_map(|one| values.iter().filter_map(move |other| narrower(one, other)));
        let common: BTreeSet<&str> = pairs.collect();
        if common.is_empty() {
            return Ok(None);
        }
        both.insert(name.clone(), json!(common));
    }
    Ok(Some(both))
}

/// Of two principals, which may end in `*`, the one that is within the other.
fn narrower<'p>(one: &'p str, other: &'p str) -> Option<&'p str> {
    let has = |wide: &str, narrow: &str| match wide.strip_suffix('*') {
        Some(start) => narrow.starts_with(start),
        None => wide == narrow,
    };
    if has(one, other) { Some(other) } else { has(other, one).then_some(one) }
}

/// The sources that a MeshTLSAuthentication or a NetworkAuthentication has; it is read by whoever names it, and by itself.
pub fn authentication(top: &Object<'_>, namespace: &str, domain: &str) -> Vec<Source> {
    let to = "authorization[].rules[].from[].source";
    let mut sources = Vec::new();
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return sources };
    if let Some(field) = spec.field("identities") {
        sources.extend(identities(&field, to));
    }
    if let Some(field) = spec.field("identityRefs") {
        for item in field.items() {
            let Some(object) = item.object() else { continue };
            sources.extend(reference(&item, &object, namespace, domain, to).map(account));
        }
    }
    if let Some(field) = spec.field("networks") {
        sources.extend(networks(&field, to));
    }
    sources
}

/// The sources of an authentication that is named.
pub fn named(kind: &str, namespace: &str, name: &str, cx: &Context<'_>) -> Option<Vec<Source>> {
    let resource = cx.find(kind, namespace, name)?;
    let sources = resource.log.silently(|| {
        let reading = Reading { log: &resource.log, hint: no_hint };
        let top = Field::root(&resource.value, reading).object()?;
        top.rest(|_| {});
        Some(authentication(&top, namespace, settings::trust_domain(cx)))
    });
    Some(sources.unwrap_or_default())
}
