//! HTTPLocalRateLimitPolicy → `rateLimits`: for all together, for each identity, and for some identities others.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::server::{For, is_for, told};
use super::{identity, settings};
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::put;
use crate::import::read::Resource;

/// The header that Envoy writes a client's identity into, and clients cannot.
const FORWARDED: &str = "x-forwarded-client-cert";

/// The same for the module: the SPIFFE URI of the client's certificate.
const IDENTITY: &str = "connection.uri_san_peer_certificate";

/// Under this name it is kept which policy limits the Server that the proxy is.
const LIMITED: &str = "linkerd.limited";

/// A name, how many a second, of which requests, for each of what, and where it stands.
type Limit = (String, u64, Option<Value>, Option<Value>, &'static str);

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let namespace = cx.namespace(resource).to_owned();
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else {
        resource.log.error(
            "spec",
            "an HTTPLocalRateLimitPolicy without a spec limits nothing",
            "give it targetRef",
        );
        return;
    };
    let name = resource.name.clone();
    let total = spec.field("total").and_then(|field| rate(&field, &format!("rateLimits[{name}/total]")));
    let identity =
        spec.field("identity").and_then(|field| rate(&field, &format!("rateLimits[{name}/identity]")));
    let mut overrides = Vec::new();
    for (index, item) in spec.field("overrides").into_iter().flat_map(|field| field.items()).enumerate() {
        let Some(object) = item.object() else { continue };
        let to = format!("rateLimits[{name}/overrides/{index}]");
        let rate = per_second(&item, &object, &to);
        let mut clients = Vec::new();
        for field in object.field("clientRefs").into_iter().flat_map(|field| field.items()) {
            let Some(object) = field.object() else { continue };
            clients.extend(client(&field, &object, &namespace, &format!("{to}.match"), cx));
        }
        if clients.is_empty() {
            item.problem_here("it names no client", "give it clientRefs");
        } else if let Some(rate) = rate {
            overrides.push((index, rate, clients));
        }
    }
    let Some(field) = spec.field("targetRef") else {
        resource.log.error("spec.targetRef", "it does not say what it is for", "name a Server");
        return;
    };
    if !is_ours(&field, resource, cx) {
        return;
    }
    if let Some(other) = cx.mesh.found.get(LIMITED).and_then(Value::as_str) {
        let message = format!("left out: of several for one Server the oldest holds, {other}");
        resource.log.warn("spec.targetRef", message, "keep one");
        return;
    }
    cx.mesh.found.insert(LIMITED, name.as_str().into());
    // Of several that name a client the last holds.
    let mut known = BTreeSet::new();
    for (index, _, clients) in overrides.iter_mut().rev() {
        let before = clients.len();
        clients.retain(|client| known.insert(client.clone()));
        if clients.len() < before {
            let message = "a client that is named again counts where it is named last";
            resource.log.warn(&format!("spec.overrides[{index}]"), message, "name it once");
        }
    }
    overrides.retain(|(_, _, clients)| !clients.is_empty());
    if total.is_none() && identity.is_none() && overrides.is_empty() {
        resource.log.warn("spec", "it limits nothing", "give it total, identity or overrides");
    }
    if !overrides.is_empty() {
        // Envoy writes who a client is into the header by which overrides know them; what a client sent is removed.
        cx.mesh.settings.http.insert("forward_client_cert_details".to_owned(), "SANITIZE_SET".into());
        cx.mesh.settings.http.insert("set_current_client_cert_details".to_owned(), json!({"uri": true}));
    }
    let mut limits: Vec<Limit> = Vec::new();
    if let Some(rate) = total {
        limits.push((format!("{name}/total"), rate, None, None, "spec.total"));
    }
    if let Some(rate) = identity {
        let all = identity::forwarded(overrides.iter().flat_map(|(.., clients)| clients));
        let others =
            (!overrides.is_empty()).then(|| json!([{"withoutHeaders": {FORWARDED: {"regex": all}}}]));
        let each = json!([{"property": IDENTITY, "default": "unauthenticated"}]);
        limits.push((format!("{name}/identity"), rate, others, Some(each), "spec.identity"));
    }
    for (index, rate, clients) in &overrides {
        // All clients of one share a bucket.
        let matches = json!([{"headers": {FORWARDED: {"regex": identity::forwarded(clients)}}}]);
        limits.push((format!("{name}/overrides/{index}"), *rate, Some(matches), None, "spec.overrides"));
    }
    for (name, rate, matches, key, path) in limits {
        let bucket = json!({"maxTokens": rate, "tokensPerFill": rate, "fillInterval": "1s"});
        let mut limit = json!({"name": name, "tokenBucket": bucket});
        for (member, value) in [("match", matches), ("key", key)] {
            if let Some(value) = value {
                put(&mut limit, member, value);
            }
        }
        cx.mesh.rate_limits.push((limit, cx.origin(resource, path)));
    }
}

/// Whether the target is the Server that the proxy is.
fn is_ours(field: &Field<'_>, resource: &Resource, cx: &mut Context<'_>) -> bool {
    let Some(object) = field.object() else { return false };
    let text = |name: &'static str| object.field(name).and_then(|field| field.text());
    text("group");
    text("namespace");
    let (kind, name) = (text("kind").unwrap_or_default(), text("name").unwrap_or_default());
    if kind != "Server" {
        field.forbid(format!("{kind} is nothing that a rate limit can be for"), "name a Server");
        return false;
    }
    let fits = is_for(name, field, resource, cx);
    told(field, fits, "the Server that this limits", name);
    fits == For::Us
}

fn rate(field: &Field<'_>, to: &str) -> Option<u64> {
    let object = field.object()?;
    per_second(field, &object, to)
}

fn per_second(field: &Field<'_>, object: &Object<'_>, to: &str) -> Option<u64> {
    let Some(rate) = object.field("requestsPerSecond") else {
        field.problem_here("it has no requestsPerSecond", "say how many");
        return None;
    };
    let number = rate.whole(1, u64::from(u32::MAX))?;
    rate.taken(format!("{to}.tokenBucket"));
    Some(number)
}

/// The principal of a client.
fn client(
    field: &Field<'_>,
    object: &Object<'_>,
    namespace: &str,
    to: &str,
    cx: &Context<'_>,
) -> Option<String> {
    match object.peek("kind").and_then(|kind| kind.value().as_str()) {
        None | Some("ServiceAccount") => {
            identity::reference(field, object, namespace, settings::trust_domain(cx), to)
        }
        Some(_) => {
            field.forbid("clients of a rate limit are service accounts", "name one");
            None
        }
    }
}
