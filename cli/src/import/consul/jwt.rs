//! JWTProvider → `authentication.jwtRules`; what intentions want of tokens → conditions.

use serde_json::{Map, Value, json};

use crate::import::context::Context;
use crate::import::field::{Field, Member, Object, Shape};
use crate::import::read::Resource;

const TEXTS: Shape = Shape::List(&Shape::Text);

/// Reads one.
pub fn provider(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    let to = format!("authentication.jwtRules[{}]", resource.name);
    const SAME: &[Member] = &[Member("issuer", Shape::Text), Member("audiences", TEXTS)];
    let mut rule = spec.copy(SAME, &to);
    rule.insert("name".to_owned(), resource.name.clone().into());
    if let Some(set) = spec.field("jsonWebKeySet").and_then(|field| field.object()) {
        if let Some(local) = set.field("local").and_then(|field| field.object()) {
            if let Some(field) = local.field("jwks")
                && let Some(text) = field.text()
            {
                use base64::Engine;
                let decoded = base64::engine::general_purpose::STANDARD.decode(text.trim());
                match decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
                    Some(keys) => {
                        field.taken(format!("{to}.jwks"));
                        rule.insert("jwks".to_owned(), keys.into());
                    }
                    None => field.forbid("this is not base64", ""),
                }
            }
            if let Some(field) = local.field("filename") {
                field.forbid("a policy reads no files", "put the keys into jwks");
            }
        }
        if let Some(remote) = set.field("remote").and_then(|field| field.object()) {
            if let Some(field) = remote.field("uri")
                && let Some(uri) = field.text()
            {
                field.taken(format!("{to}.jwksUri"));
                rule.insert("jwksUri".to_owned(), uri.into());
            }
            for (name, member) in [("cacheDuration", "jwksCacheDuration"), ("requestTimeoutMs", "timeout")] {
                let Some(field) = remote.field(name) else { continue };
                let time = match name {
                    "cacheDuration" => field.text().map(str::to_owned),
                    _ => field.whole(1, 3_600_000).map(|time| format!("{time}ms")),
                };
                if let Some(time) = time {
                    field.taken(format!("{to}.{member}"));
                    rule.insert(member.to_owned(), time.into());
                }
            }
            remote.rest(|field| field.refuse("how keys are fetched is the module's own way", "leave it out"));
        }
    }
    let (mut headers, mut params, mut cookies) = (Vec::new(), Vec::new(), Vec::new());
    for item in spec.field("locations").into_iter().flat_map(|field| field.items()) {
        let Some(object) = item.object() else { continue };
        let text = |object: &Object<'_>, name: &'static str| {
            let field = object.field(name)?;
            field.taken(format!("{to}: where tokens are"));
            field.text().map(str::to_owned)
        };
        if let Some(header) = object.field("header").and_then(|field| field.object()) {
            let mut place = Map::new();
            if let Some(name) = text(&header, "name") {
                place.insert("name".to_owned(), name.into());
            }
            if let Some(prefix) = text(&header, "valuePrefix") {
                place.insert("prefix".to_owned(), format!("{} ", prefix.trim_end()).into());
            }
            if let Some(field) = header.field("forward") {
                field.taken(format!("{to}.forwardOriginalToken"));
                if field.flag() == Some(true) {
                    rule.insert("forwardOriginalToken".to_owned(), true.into());
                }
            }
            headers.push(Value::Object(place));
        }
        if let Some(param) = object.field("queryParam").and_then(|field| field.object()) {
            params.extend(text(&param, "name"));
        }
        if let Some(cookie) = object.field("cookie").and_then(|field| field.object()) {
            cookies.extend(text(&cookie, "name"));
        }
    }
    for (name, places) in
        [("fromHeaders", json!(headers)), ("fromParams", json!(params)), ("fromCookies", json!(cookies))]
    {
        if places != json!([]) {
            rule.insert(name.to_owned(), places);
        }
    }
    if let Some(forwarding) = spec.field("forwarding").and_then(|field| field.object()) {
        if let Some(field) = forwarding.field("headerName")
            && let Some(name) = field.text()
        {
            field.taken(format!("{to}.outputPayloadToHeader"));
            rule.insert("outputPayloadToHeader".to_owned(), name.into());
        }
        if let Some(field) = forwarding.field("padForwardPayloadHeader") {
            field.refuse("the payload is written without padding", "leave it out");
        }
    }
    if let Some(field) = spec.field("clockSkewSeconds")
        && let Some(seconds) = field.whole(0, 86_400)
    {
        field.taken(format!("{to}.clockSkew"));
        rule.insert("clockSkew".to_owned(), format!("{seconds}s").into());
    }
    if let Some(field) = spec.field("cacheConfig") {
        field.no_meaning("how many tokens are remembered decides nothing");
    }
    cx.mesh.tokens.push((Value::Object(rule), cx.origin(resource, "spec")));
}

/// The conditions on tokens, one list for each provider: one of them is enough.
pub fn needed(field: &Field<'_>, cx: &Context<'_>) -> Vec<Vec<Value>> {
    let mut needed = Vec::new();
    let Some(object) = field.object() else { return needed };
    for item in object.field("providers").into_iter().flat_map(|field| field.items()) {
        let Some(provider) = item.object() else { continue };
        let to = "authorization[].rules[].when";
        let Some(field) = provider.field("name") else {
            item.problem_here("it has no name", "name a JWTProvider");
            continue;
        };
        let name = field.text().unwrap_or_default();
        // Providers are of the whole mesh.
        let known = cx.all("JWTProvider").find(|known| known.name == name);
        let issuer = known.and_then(|known| known.value.pointer("/spec/issuer")?.as_str());
        let Some(issuer) = issuer else {
            field.forbid(format!("there is no JWTProvider {name} with an issuer"), "put it into the input");
            continue;
        };
        field.taken(to);
        let mut conditions = vec![json!({"key": "request.auth.claims[iss]", "values": [issuer]})];
        for item in provider.field("verifyClaims").into_iter().flat_map(|field| field.items()) {
            let Some(claim) = item.object() else { continue };
            let path = claim.field("path").map(|field| {
                field.taken(to);
                field.texts().into_iter().map(|part| format!("[{part}]")).collect::<String>()
            });
            let value = claim.field("value").and_then(|field| {
                field.taken(to);
                field.text()
            });
            match path.zip(value) {
                Some((path, value)) => {
                    conditions.push(json!({"key": format!("request.auth.claims{path}"), "values": [value]}));
                }
                None => item.problem_here("it needs a path and a value", "give it both"),
            }
        }
        needed.push(conditions);
    }
    needed
}
