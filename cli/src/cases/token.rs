//! Tokens that a case asks for, signed with the test keys: nobody signs by hand.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use meshfilter::config::document::Duration as DocumentDuration;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::sign;
pub use super::sign::KEYS;

/// A token as a case describes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenSpec {
    /// These bytes, and nothing else.
    raw: Option<String>,
    /// One of the test keys: rsa1 (if nothing is said), rsa2, ec256, ec384, ec521, ed25519, hmac1.
    key: Option<String>,
    /// The algorithm; if nothing is said, the one that the key is for.
    alg: Option<String>,
    /// Laid over `{alg, kid, typ}`; null takes a member out.
    #[serde(default)]
    header: Map<String, Value>,
    /// The claims. `exp`, `nbf` and `iat` count from now when they are a text: `+1h`, `-10s`.
    claims: Option<Map<String, Value>>,
    /// What is wrong with it, if something is to be.
    wrong: Option<Wrong>,
}

/// What can be wrong with a token that is right otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Wrong {
    /// Its `exp` was an hour ago.
    Expired,
    /// Its `nbf` is in an hour.
    NotYetValid,
    /// A bit of its signature is another.
    Signature,
    /// Another key signed it under this one's name.
    Key,
    /// Nobody signed it: `alg: none`.
    Unsigned,
}

/// The public key set of all test keys.
pub fn jwks() -> Value {
    sign::jwks(&KEYS)
}

impl TokenSpec {
    /// Makes the token, with dates from `now` on.
    ///
    /// # Errors
    /// What cannot be made.
    pub fn make(&self, now: Duration) -> Result<String, String> {
        let TokenSpec { raw, key, alg, header, claims, wrong } = self;
        if let Some(raw) = raw {
            let alone =
                key.is_none() && alg.is_none() && header.is_empty() && claims.is_none() && wrong.is_none();
            return match alone {
                true => Ok(raw.clone()),
                false => Err("raw stands alone: leave out the others, or raw".to_owned()),
            };
        }
        let Some(claims) = claims else { return Err("give either raw, or claims".to_owned()) };
        let key = key.as_deref().unwrap_or("rsa1");
        let algorithm = alg.as_deref().unwrap_or_else(|| algorithm(key));
        let mut claims = claims.clone();
        let mut signing = key;
        let mut by = algorithm;
        let mut header = header.clone();
        match wrong {
            Some(Wrong::Expired) => drop(claims.insert("exp".to_owned(), "-1h".into())),
            Some(Wrong::NotYetValid) => drop(claims.insert("nbf".to_owned(), "+1h".into())),
            Some(Wrong::Key) => {
                header.entry("kid").or_insert_with(|| key.into());
                signing = KEYS
                    .into_iter()
                    .find(|other| *other != key && self::algorithm(other) == algorithm)
                    .ok_or_else(|| format!("there is no second key for {algorithm}; use rsa1"))?;
            }
            Some(Wrong::Unsigned) => by = "none",
            Some(Wrong::Signature) | None => {}
        }
        let token = sign(signing, by, &header, &Value::Object(claims), now)?;
        if *wrong != Some(Wrong::Signature) {
            return Ok(token);
        }
        let (signed, signature) = token.rsplit_once('.').unwrap_or((&token, ""));
        let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        if let Some(byte) = signature.get_mut(7) {
            *byte ^= 1;
        }
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// The algorithm that a test key is for.
fn algorithm(key: &str) -> &'static str {
    match key {
        "ec256" => "ES256",
        "ec384" => "ES384",
        "ec521" => "ES512",
        "ed25519" => "EdDSA",
        "hmac1" => "HS256",
        _ => "RS256",
    }
}

/// Signs a token. `header` is laid over `{"alg", "kid": name of the key, "typ": "JWT"}`, where `null` takes a member
/// out. Where a claim that is a date (`exp`, `nbf`, `iat`) is a text such as `+1h` or `-10s`, it counts from `now`.
///
/// # Errors
/// What cannot be signed.
pub fn sign(
    key_name: &str,
    algorithm: &str,
    header: &Map<String, Value>,
    claims: &Value,
    now: Duration,
) -> Result<String, String> {
    let mut whole = Map::from_iter([
        ("alg".to_owned(), algorithm.into()),
        ("kid".to_owned(), key_name.into()),
        ("typ".to_owned(), "JWT".into()),
    ]);
    whole.extend(header.clone());
    whole.retain(|_, value| !value.is_null());
    let mut claims = claims.clone();
    for name in ["exp", "nbf", "iat"] {
        if let Some(claim) = claims.get_mut(name)
            && let Some(text) = claim.as_str()
        {
            *claim = date(text, now)?.into();
        }
    }
    sign::token(key_name, algorithm, Value::Object(whole).to_string(), claims.to_string())
}

fn date(text: &str, now: Duration) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no date; use seconds since 1970, or +1h or -10s from now");
    let (sign, rest) = text.split_at_checked(1).ok_or_else(wrong)?;
    let span = duration(rest).map_err(|_| wrong())?;
    let (now, span) = (now.as_secs() as i64, span.as_secs() as i64);
    match sign {
        "+" => Ok(now.saturating_add(span)),
        "-" => Ok(now.saturating_sub(span)),
        _ => Err(wrong()),
    }
}

/// Reads `5s`, `250ms`, `1m30s`.
///
/// # Errors
/// That it is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed =
        DocumentDuration::parse(text).ok_or_else(|| format!("{text:?} is no duration such as 250ms"));
    Ok(parsed?.0)
}
