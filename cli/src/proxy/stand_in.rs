//! Claims in place of a signed token: the document's rule gets a key that is made here, and the token is signed with it.
//! Everything else about the token is checked as ever.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::super::member::member;
use super::Request;

/// The key means nothing outside of this process: only documents that were rewritten here know it.
const KEY: [u8; 64] = *b"What claims that stand for a token are signed with, in this run.";
const KEY_ID: &str = "claims";
/// What a rule takes that names no algorithms.
const ASYMMETRIC: [&str; 7] = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"];

/// A rule whose tokens are made here.
#[derive(Clone, Debug)]
pub struct StandIn {
    rule: Value,
}

impl StandIn {
    /// Makes the rules of a document take the tokens that are made here, beside those that their own keys signed.
    pub fn prepare(document: &mut Value) {
        for rule in rules_mut(document) {
            let Some(rule) = rule.as_object_mut() else { continue };
            for name in ["jwksUri", "jwksFromEnvironment", "jwksCluster"] {
                rule.remove(name);
            }
            let key = json!({"kty": "oct", "kid": KEY_ID, "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(KEY)});
            let set = match rule.get("jwks") {
                Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
                Some(set) => set.clone(),
                None => Value::Null,
            };
            let mut keys = set.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
            keys.push(key);
            rule.insert("jwks".to_owned(), json!({"keys": keys}));
            let usual = || ASYMMETRIC.iter().map(|&name| name.into()).collect();
            let mut algorithms =
                rule.get("algorithms").and_then(Value::as_array).cloned().unwrap_or_else(usual);
            algorithms.push("HS256".into());
            algorithms.dedup();
            rule.insert("algorithms".to_owned(), Value::Array(algorithms));
        }
    }

    /// The rule of a document that claims are for: the one of this name, or the first that takes their issuer.
    ///
    /// # Errors
    /// That there is none, and which there are.
    pub fn of(document: &Value, name: Option<&str>, claims: &Map<String, Value>) -> Result<Self, String> {
        let rules =
            member(member(document, "authentication"), "jwtRules").as_array().map_or(&[][..], Vec::as_slice);
        let called = |rule: &&Value| {
            let known =
                |name_of: &str| member(rule, name_of).as_str().is_some_and(|known| Some(known) == name);
            known("name") || known("issuer")
        };
        let issued = |rule: &&Value| match (
            claims.get("iss").and_then(Value::as_str),
            member(rule, "issuer").as_str(),
        ) {
            (Some(issuer), Some(known)) => issuer == known,
            _ => true,
        };
        let found = if name.is_some() { rules.iter().find(called) } else { rules.iter().find(issued) };
        let found = found.or_else(|| rules.first().filter(|_| name.is_none()));
        let names = || {
            let name = |(place, rule): (usize, &Value)| {
                let name = member(rule, "name").as_str().or(member(rule, "issuer").as_str());
                name.map_or_else(|| format!("jwtRules[{place}]"), str::to_owned)
            };
            rules.iter().enumerate().map(name).collect::<Vec<_>>().join(", ")
        };
        match found {
            Some(rule) => Ok(StandIn { rule: rule.clone() }),
            None if rules.is_empty() => {
                Err("claims stand for a token, and the policy has no authentication.jwtRules".to_owned())
            }
            None => {
                Err(format!("the policy has no JWT rule {:?}; it has {}", name.unwrap_or_default(), names()))
            }
        }
    }

    /// Puts a token with these claims where the rule looks for it first. Issuer, audience and a date of expiry are added
    /// where they are absent.
    pub fn put(&self, request: &mut Request, claims: &Map<String, Value>, now: Duration) {
        let token = self.token(claims, now);
        let first = |name: &str| member(&self.rule, name).as_array().and_then(|list| list.first());
        if let Some(header) = first("fromHeaders") {
            let name = member(header, "name").as_str().unwrap_or("authorization").to_ascii_lowercase();
            let value = format!("{}{token}", member(header, "prefix").as_str().unwrap_or_default());
            request.headers.push((name, value.into_bytes()));
        } else if let Some(parameter) = first("fromParams").and_then(Value::as_str) {
            let mark = if request.path.contains(&b'?') { '&' } else { '?' };
            request.path.extend_from_slice(format!("{mark}{parameter}={token}").as_bytes());
        } else if let Some(cookie) = first("fromCookies").and_then(Value::as_str) {
            request.headers.push(("cookie".to_owned(), format!("{cookie}={token}").into_bytes()));
        } else {
            request.headers.push(("authorization".to_owned(), format!("Bearer {token}").into_bytes()));
        }
    }

    fn token(&self, claims: &Map<String, Value>, now: Duration) -> String {
        let mut claims = claims.clone();
        if let Some(issuer) = member(&self.rule, "issuer").as_str() {
            claims.entry("iss").or_insert_with(|| issuer.into());
        }
        if let Some(audience) = member(&self.rule, "audiences").get(0) {
            claims.entry("aud").or_insert_with(|| audience.clone());
        }
        claims.entry("exp").or_insert_with(|| now.as_secs().saturating_add(3600).into());
        let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{KEY_ID}\"}}"));
        let text = format!("{header}.{}", URL_SAFE_NO_PAD.encode(Value::Object(claims).to_string()));
        let mut mac = <Hmac<Sha256> as Mac>::new(&KEY.into());
        mac.update(text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }
}

/// Gives the rules that have no keys of their own these.
pub fn put_keys(document: &mut Value, keys: &Value) {
    for rule in rules_mut(document) {
        let Some(rule) = rule.as_object_mut() else { continue };
        if !rule.contains_key("jwks") && !rule.contains_key("jwksFromEnvironment") {
            rule.remove("jwksUri");
            rule.remove("jwksCluster");
            rule.insert("jwks".to_owned(), keys.clone());
        }
    }
}

fn rules_mut(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let rules = document.pointer_mut("/authentication/jwtRules").and_then(Value::as_array_mut);
    rules.into_iter().flatten()
}
