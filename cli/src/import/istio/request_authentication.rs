//! RequestAuthentication → `authentication`.

use serde_json::Value;

use crate::import::context::Context;
use crate::import::field::{Member, Object, Shape};
use crate::import::read::Resource;

const TEXTS: Shape = Shape::List(&Shape::Text);

const RULE: &[Member] = &[
    Member("issuer", Shape::Text),
    Member("audiences", TEXTS),
    Member("jwksUri", Shape::Text),
    Member("jwks", Shape::Text),
    Member(
        "fromHeaders",
        Shape::List(&Shape::Object(&[Member("name", Shape::Text), Member("prefix", Shape::Text)])),
    ),
    Member("fromParams", TEXTS),
    Member("fromCookies", TEXTS),
    Member("outputPayloadToHeader", Shape::Text),
    Member(
        "outputClaimToHeaders",
        Shape::List(&Shape::Object(&[Member("header", Shape::Text), Member("claim", Shape::Text)])),
    ),
    Member("forwardOriginalToken", Shape::Flag),
    Member("timeout", Shape::Span),
    Member("spaceDelimitedClaims", TEXTS),
];

/// Reads one. All rules of all of them stand beside each other, and none has to be satisfied: requests without a token pass,
/// those with a bad one do not.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    cx.scope.take(&spec, "selector");
    for (index, field) in spec.field("jwtRules").into_iter().flat_map(|rules| rules.items()).enumerate() {
        let Some(object) = field.object() else { continue };
        let to = format!("authentication.jwtRules[{}]", cx.mesh.tokens.len());
        let mut rule = object.copy(RULE, &to);
        // Istio's older name.
        if let Some(field) = object.field("jwks_uri")
            && let Some(uri) = field.copy(&Shape::Text, &format!("{to}.jwksUri"))
        {
            rule.entry("jwksUri").or_insert(uri);
        }
        drop(object);
        let origin = cx.origin(resource, format!("spec.jwtRules[{index}]"));
        cx.mesh.tokens.push((Value::Object(rule), origin));
    }
}
