//! A token before anything is verified: strict compact JWS, as RFC 7515 and RFC 7519 have it.
//!
//! Stricter than Envoy, on purpose: base64url is canonical and unpadded, sections are never empty, a JSON member
//! that stands twice, `crit` and an `exp` of 0 are refused. The header's `jwk`, `jku`, `x5u` and `x5c` are never
//! looked at.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{Algorithm, Status};
use crate::host::split_once;
use crate::matchers::claim::Claims;
use meshfilter_json::{self as json, Errors};

/// The longest token, in bytes.
pub const MAX_TOKEN_LENGTH: usize = 64 * 1024;

/// A token that was read and not verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// What the header says it is signed with.
    pub algorithm: Algorithm,
    /// Which key the header names. An empty name is none, as for Envoy.
    pub kid: Option<Box<str>>,
    /// Seconds since the Unix epoch.
    pub expires_at: Option<u64>,
    /// Seconds since the Unix epoch.
    pub not_before: Option<u64>,
    /// Seconds since the Unix epoch.
    pub issued_at: Option<u64>,
    /// The payload.
    pub claims: Claims,
    /// The signature.
    pub signature: Vec<u8>,
    text: Box<str>,
    payload: Range<usize>,
}

impl Parsed {
    /// Reads a token.
    ///
    /// # Errors
    /// What is wrong with it, in Envoy's order: header, payload, signature.
    pub fn parse(token: &[u8]) -> Result<Self, Status> {
        // The length bounds all that follows.
        if token.len() > MAX_TOKEN_LENGTH {
            return Err(Status::JwtBadFormat);
        }
        let split = |text| split_once(text, b'.').ok_or(Status::JwtBadFormat);
        let (header, rest) = split(token)?;
        let (payload, signature) = split(rest)?;
        if split(signature).is_ok() {
            return Err(Status::JwtBadFormat);
        }
        if header.is_empty() || payload.is_empty() || signature.is_empty() {
            return Err(Status::JwtBadFormat);
        }
        let (algorithm, kid) = read_header(&decode(header, Status::JwtHeaderParseErrorBadBase64)?)?;
        let claims = object(&decode(payload, Status::JwtPayloadParseErrorBadBase64)?)
            .ok_or(Status::JwtPayloadParseErrorBadJson)?;
        let times = read_claims(&claims)?;
        let payload_start = header.len().saturating_add(1);
        Ok(Parsed {
            algorithm,
            kid,
            expires_at: times.expires_at,
            not_before: times.not_before,
            issued_at: times.issued_at,
            claims,
            signature: decode(signature, Status::JwtSignatureParseErrorBadBase64)?,
            // Base64url throughout, as the decoding has shown.
            text: std::str::from_utf8(token).map_err(|_| Status::JwtBadFormat)?.into(),
            payload: payload_start..payload_start.saturating_add(payload.len()),
        })
    }

    /// `iss`.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// `sub`.
    pub fn subject(&self) -> Option<&str> {
        self.claims.get("sub")?.as_str()
    }

    /// `aud`, be it one or a list.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        let (one, list) = match self.claims.get("aud") {
            Some(Value::Array(list)) => (None, list.as_slice()),
            other => (other, [].as_slice()),
        };
        one.into_iter().chain(list).filter_map(Value::as_str)
    }

    /// The payload as it was received: base64url.
    pub fn payload(&self) -> &str {
        self.text.get(self.payload.clone()).unwrap_or_default()
    }

    /// What is signed: header and payload as they were received, with the dot between them.
    pub fn signing_input(&self) -> &[u8] {
        self.text.as_bytes().get(..self.payload.end).unwrap_or_default()
    }

    /// The whole token as it was received.
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn decode(section: &[u8], otherwise: Status) -> Result<Vec<u8>, Status> {
    URL_SAFE_NO_PAD.decode(section).map_err(|_| otherwise)
}

/// A JSON object in which no member stands twice, at any depth.
fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    let errors = Errors::default();
    match json::parse(bytes, &errors) {
        Ok(Value::Object(members)) if errors.count() == 0 => Some(members),
        _ => None,
    }
}

fn read_header(bytes: &[u8]) -> Result<(Algorithm, Option<Box<str>>), Status> {
    let header = object(bytes).ok_or(Status::JwtHeaderParseErrorBadJson)?;
    let algorithm = header.get("alg").and_then(Value::as_str).ok_or(Status::JwtHeaderBadAlg)?;
    let algorithm = Algorithm::from_name(algorithm).ok_or(Status::JwtHeaderNotImplementedAlg)?;
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.as_str()).filter(|kid| !kid.is_empty()),
        Some(_) => return Err(Status::JwtHeaderBadKid),
    };
    // What a critical extension asks for is not understood here: the token must be refused (RFC 7515, 4.1.11). An
    // unencoded payload (RFC 7797) is such an extension, even where `crit` is forgotten.
    if header.contains_key("crit") || header.get("b64").is_some_and(|b64| b64 != &Value::Bool(true)) {
        return Err(Status::JwtVerificationFail);
    }
    Ok((algorithm, kid.map(Into::into)))
}

struct Times {
    expires_at: Option<u64>,
    not_before: Option<u64>,
    issued_at: Option<u64>,
}

/// The registered claims, each of its type, in Envoy's order.
fn read_claims(claims: &Claims) -> Result<Times, Status> {
    let text = |name: &str, otherwise: Status| match claims.get(name) {
        None | Some(Value::String(_)) => Ok(()),
        Some(_) => Err(otherwise),
    };
    text("iss", Status::JwtPayloadParseErrorIssNotString)?;
    text("sub", Status::JwtPayloadParseErrorSubNotString)?;
    let time = |name: &str, not_integer: Status, out_of_range: Status| match claims.get(name) {
        None => Ok(None),
        Some(value) => seconds(value, not_integer, out_of_range).map(Some),
    };
    let issued_at =
        time("iat", Status::JwtPayloadParseErrorIatNotInteger, Status::JwtPayloadParseErrorIatOutOfRange)?;
    let not_before =
        time("nbf", Status::JwtPayloadParseErrorNbfNotInteger, Status::JwtPayloadParseErrorNbfOutOfRange)?;
    let expires_at =
        time("exp", Status::JwtPayloadParseErrorExpNotInteger, Status::JwtPayloadParseErrorExpOutOfRange)?;
    // To Envoy an `exp` of 0 is none at all; here it is no time.
    if expires_at == Some(0) {
        return Err(Status::JwtPayloadParseErrorExpOutOfRange);
    }
    text("jti", Status::JwtPayloadParseErrorJtiNotString)?;
    match claims.get("aud") {
        None | Some(Value::String(_)) => {}
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {}
        Some(_) => return Err(Status::JwtPayloadParseErrorAudNotString),
    }
    Ok(Times { expires_at, not_before, issued_at })
}

/// A NumericDate of RFC 7519; fractions of a second are cut, as Envoy does.
fn seconds(value: &Value, not_integer: Status, out_of_range: Status) -> Result<u64, Status> {
    if let Some(seconds) = value.as_u64() {
        return Ok(seconds);
    }
    let seconds = value.as_f64().ok_or(not_integer)?;
    // 2^64 is the first that does not fit.
    if !(0.0..18_446_744_073_709_551_616.0).contains(&seconds) {
        return Err(out_of_range);
    }
    Ok(seconds as u64)
}

#[cfg(test)]
mod tests;
