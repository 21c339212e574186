//! `jwt` of a SecurityPolicy: providers, and which requests need a token of theirs.

use serde_json::{Map, Value, json};

use super::authorization::Providers;
use super::literal::{matching, of_entry};
use super::reach::order;
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::Entry;
use crate::import::read::Resource;

/// What was read, under this name: entries with what they require.
const REQUIRED: &str = "Envoy Gateway's tokens";

/// Reads it.
pub fn read(field: &Field<'_>, reached: &[usize], resource: &Resource, cx: &mut Context<'_>) -> Providers {
    let mut providers = Vec::new();
    let Some(object) = field.object() else { return providers };
    let flag = |name: &'static str| {
        let field = object.field(name)?;
        let flag = field.flag()?;
        field.taken("authentication.requirements");
        Some(flag)
    };
    let require = match (flag("failOpen"), flag("optional")) {
        (Some(true), _) => "permissive",
        (_, Some(true)) => "optional",
        _ => "any",
    };
    let mut names = Vec::new();
    for item in object.field("providers").into_iter().flat_map(|field| field.items()) {
        let Some((own, rule)) = provider(&item, resource, cx) else { continue };
        let issuer = rule.get("issuer").and_then(Value::as_str).map(str::to_owned);
        names.push(rule.get("name").cloned().unwrap_or_default());
        cx.mesh.tokens.push((Value::Object(rule), cx.origin(resource, item.path())));
        providers.push((own, issuer));
    }
    let wanted = json!({"entries": reached, "require": require, "rules": names, "resource": resource.index});
    let known = cx.mesh.found.entry(REQUIRED).or_insert_with(|| json!([]));
    known.as_array_mut().into_iter().for_each(|known| known.push(wanted.clone()));
    providers
}

fn provider(
    field: &Field<'_>,
    resource: &Resource,
    cx: &Context<'_>,
) -> Option<(String, Map<String, Value>)> {
    let object = field.object()?;
    object.may_have(&[
        "name",
        "issuer",
        "audiences",
        "remoteJWKS",
        "localJWKS",
        "extractFrom",
        "claimToHeaders",
    ]);
    object.may_have(&["recomputeRoute"]);
    let to = format!("authentication.jwtRules[{}]", cx.mesh.tokens.len());
    let mut rule = Map::new();
    let own = object.field("name").and_then(|field| {
        let name = field.text()?;
        field.taken(format!("{to}.name"));
        Some(name.to_owned())
    });
    let own = own.unwrap_or_else(|| cx.mesh.tokens.len().to_string());
    let taken = cx.mesh.tokens.iter().any(|(rule, _)| rule["name"] == own.as_str());
    let name = if taken { format!("{}/{own}", super::name(resource, cx)) } else { own.clone() };
    rule.insert("name".to_owned(), name.into());
    match object.field("issuer") {
        Some(field) => {
            let issuer = field.text()?;
            field.taken(format!("{to}.issuer"));
            rule.insert("issuer".to_owned(), issuer.into());
        }
        // Whoever signed it.
        None => drop(rule.insert("issuers".to_owned(), json!([{"present": true}, {"present": false}]))),
    }
    if let Some(field) = object.field("audiences") {
        let audiences = field.texts();
        field.taken(format!("{to}.audiences"));
        if !audiences.is_empty() {
            rule.insert("audiences".to_owned(), json!(audiences));
        }
    }
    keys(&object, &to, resource, cx, &mut rule);
    if let Some(from) = object.field("extractFrom").and_then(|field| field.object()) {
        for (name, member) in [("cookies", "fromCookies"), ("params", "fromParams")] {
            if let Some(field) = from.field(name) {
                let texts = field.texts();
                field.taken(format!("{to}.{member}"));
                rule.insert(member.to_owned(), json!(texts));
            }
        }
        let mut headers = Vec::new();
        for item in from.field("headers").into_iter().flat_map(|field| field.items()) {
            let object = item.object()?;
            object.may_have(&["name", "valuePrefix"]);
            let text = |name: &'static str| {
                let field = object.field(name)?;
                field.taken(format!("{to}.fromHeaders"));
                field.text()
            };
            let mut header = json!({"name": text("name")?});
            if let Some(prefix) = text("valuePrefix") {
                crate::import::mesh::put(&mut header, "prefix", prefix);
            }
            headers.push(header);
        }
        if !headers.is_empty() {
            rule.insert("fromHeaders".to_owned(), Value::Array(headers));
        }
    }
    let mut claims = Vec::new();
    for item in object.field("claimToHeaders").into_iter().flat_map(|field| field.items()) {
        let object = item.object()?;
        let text = |name: &'static str| {
            let field = object.field(name)?;
            field.taken(format!("{to}.outputClaimToHeaders"));
            field.text()
        };
        let (claim, header) = (text("claim"), text("header"));
        claims.push(json!({"claim": claim?, "header": header?}));
    }
    if !claims.is_empty() {
        rule.insert("outputClaimToHeaders".to_owned(), Value::Array(claims));
    }
    if let Some(field) = object.field("recomputeRoute") {
        field.no_meaning("routes are chosen after tokens are read");
    }
    // As Envoy Gateway: the token goes on to the backend.
    rule.insert("forwardOriginalToken".to_owned(), true.into());
    Some((own, rule))
}

/// Where keys come from.
fn keys(object: &Object<'_>, to: &str, resource: &Resource, cx: &Context<'_>, rule: &mut Map<String, Value>) {
    if let Some(remote) = object.field("remoteJWKS").and_then(|field| field.object()) {
        if let Some(field) = remote.field("uri")
            && let Some(uri) = field.text()
        {
            field.taken(format!("{to}.jwksUri"));
            rule.insert("jwksUri".to_owned(), uri.into());
        }
        if let Some(field) = remote.field("cacheDuration")
            && let Some(span) = field.span()
        {
            field.taken(format!("{to}.jwksCacheDuration"));
            rule.insert("jwksCacheDuration".to_owned(), crate::import::mesh::span(span).into());
        }
        if let Some(field) = remote.field("failedRefetchDuration") {
            field.refuse("after a failure keys are asked for again in 1 s to 30 s", "leave it out");
        }
        for name in ["backendRef", "backendRefs", "backendSettings"] {
            if let Some(field) = remote.field(name) {
                field.refuse(
                    "keys are asked for at the address in uri, over TLS with the system's authorities",
                    "say --endpoint HOST=ADDRESS:PORT where that is somewhere else, and upstream-ca.pem in --certificates",
                );
            }
        }
    }
    let Some(local) = object.field("localJWKS").and_then(|field| field.object()) else { return };
    if let Some(field) = local.field("type") {
        field.taken(format!("{to}.jwks"));
    }
    if let Some(field) = local.field("inline")
        && let Some(keys) = field.text()
    {
        field.taken_as_a_whole(format!("{to}.jwks"));
        rule.insert("jwks".to_owned(), keys.into());
    }
    if let Some(field) = local.field("valueRef") {
        let named = field.value().get("name").and_then(Value::as_str).unwrap_or_default();
        let namespace = cx.namespace(resource);
        let mut maps = cx.all("ConfigMap").filter(|map| map.name == named && cx.namespace(map) == namespace);
        let data = maps.next().and_then(|map| map.value.get("data")).and_then(Value::as_object);
        let keys = data.and_then(|data| data.get("jwks").or_else(|| data.values().next()));
        match keys.and_then(Value::as_str) {
            Some(keys) => {
                field.taken(format!("{to}.jwks"));
                rule.insert("jwks".to_owned(), keys.into());
            }
            None => field.forbid(
                format!("the input has no ConfigMap {namespace}/{named} with keys"),
                "put the ConfigMap into the input",
            ),
        }
    }
}

/// Says which requests need which tokens: entry by entry in the order in which they are asked, where not all need the same.
pub fn finish(cx: &mut Context<'_>) {
    let Some(Value::Array(found)) = cx.mesh.found.remove(REQUIRED) else { return };
    let required = |wanted: &Value| json!({"require": wanted["require"], "rules": wanted["rules"]});
    let reached = |wanted: &Value| wanted["entries"].as_array().map_or(0, Vec::len);
    if let [one] = found.as_slice()
        && reached(one) == cx.mesh.entries.len()
    {
        cx.mesh.requirements.push(required(one));
        return;
    }
    let mut requirements = Vec::new();
    for (index, hosts) in order(&cx.mesh.entries) {
        let Some(entry) = cx.mesh.entries.get(index) else { continue };
        let wanted = found.iter().find(|wanted| {
            wanted["entries"].as_array().into_iter().flatten().any(|entry| *entry == json!(index))
        });
        let mut requirement = wanted.map_or_else(|| json!({"require": "none"}), required);
        let matches = of_entry(&Entry { hosts, ..entry.clone() })
            .and_then(|all| all.iter().map(|all| matching(all)).collect::<Result<Vec<Value>, String>>());
        match matches {
            Ok(matches) => {
                crate::import::mesh::put(&mut requirement, "match", matches);
                requirements.push(requirement);
            }
            Err(reason) => {
                let policy = found.first().and_then(|wanted| wanted["resource"].as_u64());
                let policy = policy.and_then(|index| cx.resources.get(usize::try_from(index).ok()?));
                if let Some(policy) = policy {
                    policy.log.error(
                        "spec.jwt",
                        format!("which requests need a token cannot be written down: {reason}"),
                        "target the Gateway, or write it into authentication.requirements",
                    );
                }
                return;
            }
        }
    }
    requirements.push(json!({"require": "none"}));
    cx.mesh.requirements.extend(requirements);
}
