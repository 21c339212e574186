//! Signed tokens, with the private keys in `tests/keys`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::sign;
pub use super::sign::KEYS;

/// The public key set of all test keys.
pub fn jwks() -> Value {
    sign::jwks(&KEYS)
}

/// Signs a token. `header` is laid over `{"alg", "kid": name of the key, "typ": "JWT"}`, where `null` takes a member
/// out. Where a claim that is a date (`exp`, `nbf`, `iat`) is a text such as `+1h` or `-10s`, it counts from `now`.
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
    let span = super::case::duration(rest).map_err(|_| wrong())?;
    let (now, span) = (now.as_secs() as i64, span.as_secs() as i64);
    match sign {
        "+" => Ok(now + span),
        "-" => Ok(now - span),
        _ => Err(wrong()),
    }
}
