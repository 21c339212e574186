//! SecurityPolicy: CORS, tokens, authorization.

use super::{SECURITY, authorization, reach, tokens};
use crate::import::context::Context;
use crate::import::field::Object;
use crate::import::gateway::cors;
use crate::import::read::Resource;

/// What asks others who a client is.
const OTHERS: [(&str, &str, &str); 5] = [
    (
        "apiKeyAuth",
        "keys of clients are not kept here",
        "use jwt, or a header in authorization.rules[].principal.headers behind a proxy that sets it",
    ),
    (
        "basicAuth",
        "passwords are not checked here",
        "use jwt, or put Envoy's basic_auth filter before the module in envoy.yaml",
    ),
    (
        "csrf",
        "where a request comes from is not compared with where it goes",
        "put Envoy's csrf filter before the module in envoy.yaml",
    ),
    (
        "extAuth",
        "it asks a server of its own, which this policy cannot",
        "put Envoy's ext_authz filter before the module in envoy.yaml",
    ),
    (
        "oidc",
        "nobody is sent to log in from here",
        "put Envoy's oauth2 filter before the module in envoy.yaml, and read its token with jwt",
    ),
];

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    let reached = reach::read(SECURITY, &spec, resource, cx);
    if reached.is_empty() {
        return;
    }
    for (name, reason, remedy) in OTHERS {
        if let Some(field) = spec.field(name) {
            field.forbid(reason, remedy);
        }
    }
    if let Some(field) = spec.field("cors")
        && let Some(policy) = cors(&field, "http[].corsPolicy")
    {
        for index in &reached {
            if let Some(entry) = cx.mesh.entries.get_mut(*index) {
                // A filter of the route says it nearer.
                entry.value.entry("corsPolicy").or_insert_with(|| policy.clone());
            }
        }
    }
    let mut providers = Vec::new();
    if let Some(field) = spec.field("jwt") {
        providers = tokens::read(&field, &reached, resource, cx);
    }
    if let Some(field) = spec.field("authorization") {
        authorization::read(&field, &reached, &providers, resource, cx);
    }
}
