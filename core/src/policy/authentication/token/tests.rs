use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;

fn token_of(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
}

fn with_header(header: Value) -> Result<Parsed, Status> {
    Parsed::parse(token_of(header.to_string(), "{}").as_bytes())
}

fn with_payload(payload: impl AsRef<[u8]>) -> Result<Parsed, Status> {
    Parsed::parse(token_of(r#"{"alg":"RS256"}"#, payload).as_bytes())
}

#[test]
fn reads_what_a_token_says() {
    let claims =
        json!({"iss": "i", "sub": "s", "aud": ["a", "b"], "exp": 20, "nbf": 10.9, "iat": 1e1, "jti": "j"});
    let token = token_of(
        r#"{"alg":"ES256","kid":"k","typ":"JWT","jku":"https://evil","b64":true}"#,
        claims.to_string(),
    );
    let parsed = Parsed::parse(token.as_bytes()).unwrap();
    assert_eq!((parsed.algorithm, parsed.kid.as_deref()), (Algorithm::Es256, Some("k")));
    assert_eq!((parsed.issuer(), parsed.subject()), (Some("i"), Some("s")));
    assert_eq!(parsed.audiences().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((parsed.expires_at, parsed.not_before, parsed.issued_at), (Some(20), Some(10), Some(10)));
    assert_eq!(parsed.signature, b"sig");
    assert_eq!(parsed.payload(), URL_SAFE_NO_PAD.encode(claims.to_string()));
    assert_eq!(parsed.signing_input(), token.rsplit_once('.').unwrap().0.as_bytes());
    assert_eq!(parsed.text(), token);
}

#[test]
fn one_audience_needs_no_list_and_an_absent_one_is_none() {
    assert_eq!(with_payload(r#"{"aud":"a"}"#).unwrap().audiences().collect::<Vec<_>>(), ["a"]);
    assert_eq!(with_payload("{}").unwrap().audiences().count(), 0);
}

#[test]
fn three_sections_that_are_not_empty() {
    let good = token_of(r#"{"alg":"RS256"}"#, "{}");
    assert!(Parsed::parse(good.as_bytes()).is_ok());
    for token in ["", ".", "..", "...", "a", "a.b", "a.b.c.d", "a.b.c.d.e", "a..c", ".b.c", "a.b."] {
        assert_eq!(Parsed::parse(token.as_bytes()), Err(Status::JwtBadFormat), "{token}");
    }
    for token in [format!(".{good}"), format!("{good}."), good.replacen('.', "..", 1)] {
        assert_eq!(Parsed::parse(token.as_bytes()), Err(Status::JwtBadFormat), "{token}");
    }
    assert_eq!(Parsed::parse(&vec![b'.'; 100_000]), Err(Status::JwtBadFormat));
    assert_eq!(Parsed::parse(&vec![b'.'; 60_000]), Err(Status::JwtBadFormat));
}

#[test]
fn up_to_64_kilobytes() {
    let fixed = token_of(r#"{"alg":"RS256"}"#, "").len();
    let payload = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length.saturating_sub(8)));
    let longest = (MAX_TOKEN_LENGTH - fixed) / 4 * 3;
    assert!(with_payload(payload(longest)).is_ok());
    assert_eq!(with_payload(payload(longest + 3)), Err(Status::JwtBadFormat));
}

#[test]
fn base64url_is_canonical_and_unpadded() {
    let (header, payload) = ("eyJhbGciOiJSUzI1NiJ9", "e30");
    assert!(Parsed::parse(format!("{header}.{payload}.AA").as_bytes()).is_ok());
    for (token, status) in [
        (format!("{header}=.{payload}.AA"), Status::JwtHeaderParseErrorBadBase64),
        (format!("{header}.{payload}=.AA"), Status::JwtPayloadParseErrorBadBase64),
        (format!("{header}.e31.AA"), Status::JwtPayloadParseErrorBadBase64),
        (format!("{header}.{payload}.AA=="), Status::JwtSignatureParseErrorBadBase64),
        (format!("{header}.{payload}.AB"), Status::JwtSignatureParseErrorBadBase64),
        (format!("{header}.{payload}.A"), Status::JwtSignatureParseErrorBadBase64),
        (format!("{header}.{payload}.A+/A"), Status::JwtSignatureParseErrorBadBase64),
        (format!("{header}.{payload}.AA "), Status::JwtSignatureParseErrorBadBase64),
        (format!("{header}.{payload}.AA\n"), Status::JwtSignatureParseErrorBadBase64),
        (format!(" {header}.{payload}.AA"), Status::JwtHeaderParseErrorBadBase64),
    ] {
        assert_eq!(Parsed::parse(token.as_bytes()), Err(status), "{token:?}");
    }
    let mut bytes = format!("{header}.{payload}.AA").into_bytes();
    *bytes.last_mut().unwrap() = 0xff;
    assert_eq!(Parsed::parse(&bytes), Err(Status::JwtSignatureParseErrorBadBase64));
}

#[test]
fn the_header_says_what_it_must_and_nothing_critical() {
    for (header, status) in [
        (json!({}), Status::JwtHeaderBadAlg),
        (json!({"alg": 1}), Status::JwtHeaderBadAlg),
        (json!({"alg": ["RS256"]}), Status::JwtHeaderBadAlg),
        (json!({"alg": null}), Status::JwtHeaderBadAlg),
        (json!({"alg": "none"}), Status::JwtHeaderNotImplementedAlg),
        (json!({"alg": "nOnE"}), Status::JwtHeaderNotImplementedAlg),
        (json!({"alg": "ES256K"}), Status::JwtHeaderNotImplementedAlg),
        (json!({"alg": "RSA-OAEP", "enc": "A256GCM"}), Status::JwtHeaderNotImplementedAlg),
        (json!({"alg": "RS256", "kid": 1}), Status::JwtHeaderBadKid),
        (json!({"alg": "RS256", "kid": null}), Status::JwtHeaderBadKid),
        (json!({"alg": "RS256", "crit": ["exp"]}), Status::JwtVerificationFail),
        (json!({"alg": "RS256", "crit": []}), Status::JwtVerificationFail),
        (json!({"alg": "RS256", "crit": ["b64"], "b64": false}), Status::JwtVerificationFail),
        (json!({"alg": "RS256", "b64": false}), Status::JwtVerificationFail),
        (json!([]), Status::JwtHeaderParseErrorBadJson),
        (json!("RS256"), Status::JwtHeaderParseErrorBadJson),
    ] {
        assert_eq!(with_header(header.clone()), Err(status), "{header}");
    }
    assert_eq!(with_header(json!({"alg": "RS256", "kid": ""})).unwrap().kid, None);
}

#[test]
fn registered_claims_have_their_types() {
    for (payload, status) in [
        (json!({"iss": 1}), Status::JwtPayloadParseErrorIssNotString),
        (json!({"iss": null}), Status::JwtPayloadParseErrorIssNotString),
        (json!({"sub": ["s"]}), Status::JwtPayloadParseErrorSubNotString),
        (json!({"jti": {}}), Status::JwtPayloadParseErrorJtiNotString),
        (json!({"iat": "1"}), Status::JwtPayloadParseErrorIatNotInteger),
        (json!({"iat": -1}), Status::JwtPayloadParseErrorIatOutOfRange),
        (json!({"nbf": true}), Status::JwtPayloadParseErrorNbfNotInteger),
        (json!({"nbf": 1e20}), Status::JwtPayloadParseErrorNbfOutOfRange),
        (json!({"exp": "9999999999"}), Status::JwtPayloadParseErrorExpNotInteger),
        (json!({"exp": null}), Status::JwtPayloadParseErrorExpNotInteger),
        (json!({"exp": -0.5}), Status::JwtPayloadParseErrorExpOutOfRange),
        (json!({"exp": 18_446_744_073_709_551_616.0}), Status::JwtPayloadParseErrorExpOutOfRange),
        (json!({"exp": 0}), Status::JwtPayloadParseErrorExpOutOfRange),
        (json!({"exp": 0.9}), Status::JwtPayloadParseErrorExpOutOfRange),
        (json!({"aud": 1}), Status::JwtPayloadParseErrorAudNotString),
        (json!({"aud": ["a", 1]}), Status::JwtPayloadParseErrorAudNotString),
        (json!({"aud": {"a": "b"}}), Status::JwtPayloadParseErrorAudNotString),
    ] {
        assert_eq!(with_payload(payload.to_string()), Err(status), "{payload}");
    }
    assert_eq!(with_payload(r#"{"exp":18446744073709551615}"#).unwrap().expires_at, Some(u64::MAX));
}

#[test]
fn a_payload_is_one_strict_utf8_object() {
    let deep = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(with_payload(deep(100)).is_ok());
    let bad: [&[u8]; 13] = [
        b"[]",
        b"null",
        b"\"text\"",
        b"1",
        b"{} {}",
        b"{}x",
        b"{\"a\":1,}",
        b"{'a':1}",
        b"{\"a\":NaN}",
        b"\xef\xbb\xbf{}",
        b"{\"a\":\"\xff\"}",
        br#"{"sub":"alice","sub":"bob"}"#,
        br#"{"a":{"b":1,"b":2}}"#,
    ];
    for payload in bad {
        assert_eq!(
            with_payload(payload),
            Err(Status::JwtPayloadParseErrorBadJson),
            "{}",
            payload.escape_ascii()
        );
    }
    assert_eq!(with_payload(deep(10_000)), Err(Status::JwtPayloadParseErrorBadJson));
    let twice = token_of(r#"{"alg":"RS256","alg":"none"}"#, "{}");
    assert_eq!(Parsed::parse(twice.as_bytes()), Err(Status::JwtHeaderParseErrorBadJson));
}

#[cfg(not(target_family = "wasm"))]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Parsed::parse(&bytes);
            let _ = with_payload(&bytes);
            let _ = Parsed::parse(token_of(&bytes, "{}").as_bytes());
        }

        #[test]
        fn tokens_like_text_are_read_or_refused(text in "[a-zA-Z0-9_.=-]{0,200}") {
            if let Ok(parsed) = Parsed::parse(text.as_bytes()) {
                prop_assert_eq!(parsed.text(), text);
            }
        }
    }
}
