//! What is said about a token: who, for how long, and what is wrong with it. Never the token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use meshfilter::policy::authentication::{Failure, Place, Status};
use serde_json::Value;

use super::document::{Document, wanted};
use super::shown;
use crate::member::member;

/// The parts of a token that can be read, good or not.
pub struct Read {
    header: Value,
    claims: Value,
}

impl Read {
    pub fn of(token: &[u8]) -> Self {
        let mut parts = token.split(|byte| *byte == b'.');
        let mut next = || {
            let bytes = URL_SAFE_NO_PAD.decode(parts.next().unwrap_or_default()).unwrap_or_default();
            serde_json::from_slice(&bytes).unwrap_or_default()
        };
        Read { header: next(), claims: next() }
    }

    /// `kid rsa1, sub alice`
    pub fn summary(&self) -> String {
        let mut all = Vec::new();
        for (name, value) in [("kid", member(&self.header, "kid")), ("sub", member(&self.claims, "sub"))] {
            if !value.is_null() {
                all.push(format!("{name} {}", said(value)));
            }
        }
        all.join(", ")
    }

    /// Until when it is good.
    pub fn left(&self, now: u64) -> Option<String> {
        let until = member(&self.claims, "exp").as_f64()? as u64;
        Some(match until.checked_sub(now) {
            Some(left) => format!("good for {}", span(left)),
            None => format!("expired {} ago", span(now.saturating_sub(until))),
        })
    }

    /// What a failure means for this token: what it has, and what the rule wants.
    pub fn reason(&self, failure: Failure, rule: &str, document: &Document, now: u64) -> Option<String> {
        let Failure::Token(status) = failure else { return None };
        let wants = |members: &[&str]| {
            let found = members.iter().find_map(|member| document.find(&format!("{rule}.{member}")).value);
            found.map_or_else(|| "nothing".to_owned(), |value| wanted("claim", value))
        };
        let claim = |name: &str, members: &[&str]| {
            let value = member(&self.claims, name);
            let has = if value.is_null() {
                format!("{name} is absent")
            } else {
                format!("{name} is {}", said(value))
            };
            format!("{has}, wanted {}", wants(members))
        };
        match status {
            Status::JwtUnknownIssuer => Some(claim("iss", &["issuer", "issuers"])),
            Status::JwtAudienceNotAllowed => Some(claim("aud", &["audiences"])),
            Status::JwtExpired => {
                let until = member(&self.claims, "exp").as_f64().map(|until| until as u64)?;
                Some(format!("exp was {} ago", span(now.saturating_sub(until))))
            }
            Status::JwtNotYetValid => {
                let from = member(&self.claims, "nbf")
                    .as_f64()
                    .or(member(&self.claims, "iat").as_f64())
                    .map(|from| from as u64)?;
                Some(format!("it begins in {}", span(from.saturating_sub(now))))
            }
            Status::JwksKidAlgMismatch => Some(format!(
                "kid is {}, alg is {}",
                said(member(&self.header, "kid")),
                said(member(&self.header, "alg"))
            )),
            Status::JwksFetchFail => {
                let from = document.text(&format!("{rule}.jwksUri")).unwrap_or("the issuer's discovery");
                Some(format!("nothing is fetched here: give the key set of {from} with --jwks FILE"))
            }
            _ => None,
        }
    }
}

/// Where a token stands.
pub fn place(place: Place, rule: &str, document: &Document) -> String {
    let at = |list: &str, index: usize, member: &str| {
        let found = document.find(&format!("{rule}.{list}")).value.and_then(Value::as_array).cloned();
        let mut names: Vec<String> = found
            .unwrap_or_default()
            .iter()
            .filter_map(|value| if member.is_empty() { value.as_str() } else { value[member].as_str() })
            .map(str::to_owned)
            .collect();
        if !member.is_empty() {
            // The filter looks at headers in the order of their names.
            names.iter_mut().for_each(|name| *name = name.to_ascii_lowercase());
            names.sort();
        }
        names.get(index).cloned()
    };
    match place {
        Place::Header(index) => {
            at("fromHeaders", index, "name").unwrap_or_else(|| "authorization".to_owned())
        }
        Place::Param(index) => {
            format!("parameter {}", at("fromParams", index, "").unwrap_or_else(|| "access_token".to_owned()))
        }
        Place::Cookie(index) => format!("cookie {}", at("fromCookies", index, "").unwrap_or_default()),
    }
}

fn said(value: &Value) -> String {
    match value {
        Value::Null => "absent".to_owned(),
        Value::String(text) => shown::text(text.as_bytes()),
        other => shown::plain(other.to_string().as_bytes()),
    }
}

/// A span of time in its greatest unit.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
