//! What the upstream gets to hear of a good token.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Number, Value};

use super::decimal::six_decimals;
use crate::matchers::ClaimPath;
use crate::matchers::claim::Claims;

/// Which headers take what.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// The header that takes the payload, in lower case.
    pub payload: Option<String>,
    /// Headers, in lower case, and the claims that they take.
    pub claims: Vec<(String, ClaimPath)>,
}

impl Output {
    /// Whether this is about a header.
    pub fn has(&self, name: &str) -> bool {
        self.payload.as_deref() == Some(name) || self.claims.iter().any(|(header, _)| header == name)
    }

    /// The headers with their values. A claim that is absent, null or an empty string gives none.
    pub fn headers(&self, claims: &Claims, payload: &[u8]) -> Vec<(String, Vec<u8>)> {
        let payload = self.payload.iter().map(|header| (header.clone(), payload.to_vec()));
        let claims = self.claims.iter().filter_map(|(header, path)| {
            let value = header_value(path.find(claims)?)?;
            Some((header.clone(), value.into_bytes()))
        });
        payload.chain(claims).collect()
    }
}

/// A claim as the value of a header, as Envoy's jwt_authn filter writes it: lists and objects as JSON in base64.
fn header_value(claim: &Value) -> Option<String> {
    let text = match claim {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Number(number) => number_text(number),
        Value::Bool(value) => value.to_string(),
        Value::Array(_) | Value::Object(_) => STANDARD.encode(claim.to_string()),
    };
    // Left out rather than changed: "ad\nmin" must not become "admin".
    if text.chars().any(|c| c.is_control() && c != '\t') {
        log::debug!("meshfilter: a claim with control characters is not put into a header");
        return None;
    }
    (!text.is_empty()).then_some(text)
}

/// Whole numbers from 0 as they are, all others with six decimals, as C++ writes a `double`.
fn number_text(number: &Number) -> String {
    match (number.as_u64(), number.as_f64()) {
        (Some(whole), _) => whole.to_string(),
        // `as` saturates, and the value is a whole one below 2^64.
        (_, Some(float)) if float.fract() == 0.0 && (0.0..18_446_744_073_709_551_616.0).contains(&float) => {
            (float as u64).to_string()
        }
        (_, Some(float)) => six_decimals(float),
        (_, None) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_are_written_as_envoy_writes_them() {
        for (claim, expected) in [
            (json!("alice"), Some("alice")),
            (json!("a b"), Some("a b")),
            (json!("ü"), Some("ü")),
            (json!(""), None),
            (json!(null), None),
            (json!(true), Some("true")),
            (json!(false), Some("false")),
            (json!(0), Some("0")),
            (json!(9_007_199_254_740_993_u64), Some("9007199254740993")),
            (json!(18_446_744_073_709_551_615_u64), Some("18446744073709551615")),
            (json!(5.0), Some("5")),
            (json!(1e19), Some("10000000000000000000")),
            (json!(1.5), Some("1.500000")),
            (json!(-5), Some("-5.000000")),
            (json!(["a", 1]), Some("WyJhIiwxXQ==")),
            (json!({"b": [], "a": {}}), Some("eyJhIjp7fSwiYiI6W119")),
            (json!([]), Some("W10=")),
            (json!("a\tb"), Some("a\tb")),
            (json!("ad\r\nmin"), None),
            (json!("ad\u{0}min"), None),
            (json!("ad\u{7f}min"), None),
        ] {
            assert_eq!(header_value(&claim).as_deref(), expected, "{claim}");
        }
    }

    #[test]
    fn every_configured_header_is_filled_where_there_is_something() {
        let output = Output {
            payload: Some("x-payload".to_owned()),
            claims: vec![
                ("x-user".to_owned(), ClaimPath::parse("sub").unwrap()),
                ("x-role".to_owned(), ClaimPath::parse("realm.role").unwrap()),
                ("x-none".to_owned(), ClaimPath::parse("none").unwrap()),
            ],
        };
        let claims = json!({"sub": "alice", "realm": {"role": "admin"}});
        let headers = output.headers(claims.as_object().unwrap(), b"cGF5");
        let expected = [("x-payload", "cGF5"), ("x-user", "alice"), ("x-role", "admin")];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())));
    }
}
