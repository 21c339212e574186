use std::cell::RefCell;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use prost::Message;
use serde_json::{Value, json};

use super::super::signature::{VerifySignatureArguments, VerifySignatureResult};
use super::super::signing::{self, jwks, public_jwk};
use super::*;
use crate::host;
use crate::host::fake::Fake;

fn key_set(value: &Value) -> KeySet {
    let (keys, warnings) = KeySet::parse(value.to_string().as_bytes()).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    keys
}

fn all() -> Algorithms {
    Algorithm::ALL.into_iter().collect()
}

fn verify(keys: &KeySet, token: &str) -> Result<(), Status> {
    keys.verify(&Parsed::parse(token.as_bytes()).unwrap(), all(), &Checks::default(), &Fake::new())
}

/// A token of a test key; `header` is laid over `alg` and `kid`.
fn token(key: &str, algorithm: &str, header: &Value, claims: &Value) -> String {
    let header = with(json!({"alg": algorithm, "kid": key}), header.clone());
    signing::token(key, algorithm, header.to_string(), claims.to_string()).unwrap()
}

#[test]
fn what_is_null_or_empty_was_not_said() {
    let nulls = json!({"use": null, "alg": null, "key_ops": null, "x5c": null});
    for changes in [nulls, json!({"key_ops": []}), json!({"use": null, "key_ops": [], "alg": "RS256"})] {
        let key = with(public_jwk("rsa1"), changes.clone());
        let keys = key_set(&json!({"keys": [key]}));
        assert_eq!(verify(&keys, &good_token(Algorithm::Rs256)), Ok(()), "{changes}");
    }
    let unnamed = key_set(&json!({"keys": [with(public_jwk("rsa1"), json!({"kid": null}))]}));
    assert!(unnamed.may_have("any"));
    for (changes, reason) in [
        (json!({"kty": null}), "[kty] is missing in [keys]"),
        (json!({"n": null}), "[n] field is missing for a RSA key"),
        (json!({"key_ops": ["sign"]}), "its [key_ops] are [\"sign\"], without \"verify\""),
        (json!({"use": ""}), "its [use] is \"\", not \"sig\""),
    ] {
        let key = with(public_jwk("rsa1"), changes);
        let error = KeySet::from_value(&json!({"keys": [key]})).unwrap_err();
        assert!(error.ends_with(reason), "{error}");
    }
}

#[test]
fn what_is_taken_for_a_key_set_is_named() {
    for (text, expected) in [
        (
            "\n-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n",
            "this is PEM (PUBLIC KEY), not a JSON Web Key Set; convert it and write {\"keys\": [{\"kty\": \"RSA\", \"n\": ..., \"e\": ...}]}, for an EC key kty, crv, x and y",
        ),
        (
            "-----BEGIN CERTIFICATE-----",
            "this is PEM (CERTIFICATE), not a JSON Web Key Set; convert it and write {\"keys\": [{\"kty\": \"RSA\", \"n\": ..., \"e\": ...}]}, for an EC key kty, crv, x and y",
        ),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIB",
            "this is a private key as PEM; take it out of here, and give the public one as a JSON Web Key Set",
        ),
        (
            "https://a.example/keys",
            "this is an address, not a key set; write it in jwksUri, with its jwksCluster",
        ),
        (r#"{"kty": "RSA"}"#, "this is one key; put it into a set: {\"keys\": [...]}"),
        ("-----BEGIN", "Jwks is an invalid JSON: "),
    ] {
        let error = KeySet::parse(text.as_bytes()).unwrap_err();
        assert!(error == expected || (expected.ends_with(": ") && error.starts_with(expected)), "{error}");
    }
}

/// The test key that an algorithm signs with.
fn key_for(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Es256 => "ec256",
        Algorithm::Es384 => "ec384",
        Algorithm::Es512 => "ec521",
        Algorithm::EdDsa => "ed25519",
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => "hmac1",
        _ => "rsa1",
    }
}

fn good_token(algorithm: Algorithm) -> String {
    token(key_for(algorithm), algorithm.name(), &json!({}), &json!({"sub": "alice"}))
}

#[test]
fn every_algorithm_verifies_its_own_signatures_and_no_others() {
    for algorithm in Algorithm::ALL {
        let key = key_for(algorithm);
        let good = good_token(algorithm);
        assert_eq!(verify(&key_set(&jwks(&[key])), &good), Ok(()), "{algorithm:?}");
        let named =
            json!({"keys": [with(public_jwk(key), json!({"alg": algorithm.name(), "key_ops": ["verify"]}))]});
        assert_eq!(verify(&key_set(&named), &good), Ok(()), "{algorithm:?}");
        let wrong = if key == "rsa1" { "rsa2" } else { "rsa1" };
        let other = json!({"keys": [with(public_jwk(wrong), json!({"kid": key}))]});
        assert_eq!(verify(&key_set(&other), &good), Err(Status::JwtVerificationFail), "{algorithm:?}");
        // The same bytes under the name of another algorithm.
        for claimed in Algorithm::ALL.into_iter().filter(|claimed| *claimed != algorithm) {
            let input = good.rsplit_once('.').unwrap().0.as_bytes();
            let signature = Parsed::parse(good.as_bytes()).unwrap().signature;
            let keys = key_set(&jwks(&[key]));
            let verified = keys.verify_signature(
                claimed,
                None,
                input,
                &signature,
                all(),
                (&Checks::default(), &Fake::new()),
            );
            assert_eq!(verified, Err(Status::JwtVerificationFail), "{algorithm:?} as {claimed:?}");
        }
    }
}

#[test]
fn a_public_key_is_no_secret_and_a_secret_no_public_key() {
    let keys = key_set(&jwks(&["rsa1"]));
    let n = URL_SAFE_NO_PAD.decode(public_jwk("rsa1")["n"].as_str().unwrap()).unwrap();
    for secret in [n, public_jwk("rsa1").to_string().into_bytes()] {
        let jwk = json!({"k": URL_SAFE_NO_PAD.encode(secret)});
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"rsa1"}"#);
        let input = format!("{header}.e30");
        let signature = signing::signature(&jwk, "HS256", input.as_bytes()).unwrap();
        let forged = format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature));
        assert_eq!(verify(&keys, &forged), Err(Status::JwtVerificationFail));
    }
}

#[test]
fn keys_that_the_token_brings_along_are_not_looked_at() {
    for header in [
        json!({"kid": null, "jwk": public_jwk("rsa2")}),
        json!({"kid": null, "jku": "https://evil.example/jwks.json"}),
        json!({"kid": null, "x5u": "https://evil.example/chain.pem", "x5c": ["MIIB"]}),
    ] {
        let forged = token("rsa2", "RS256", &header, &json!({}));
        assert_eq!(verify(&key_set(&jwks(&["rsa1"])), &forged), Err(Status::JwtVerificationFail), "{header}");
    }
}

#[test]
fn signatures_that_are_none_verify_nothing() {
    for algorithm in Algorithm::ALL {
        let keys = key_set(&jwks(&[key_for(algorithm)]));
        let signature = Parsed::parse(good_token(algorithm).as_bytes()).unwrap().signature;
        let zeros = vec![0; signature.len()];
        let ones = vec![0xff; signature.len()];
        let longer = [signature.as_slice(), &[0]].concat();
        let shorter = &signature[1..];
        for forged in [&[], zeros.as_slice(), &ones, &longer, shorter] {
            let verified = keys.verify_signature(
                algorithm,
                None,
                b"a.b",
                forged,
                all(),
                (&Checks::default(), &Fake::new()),
            );
            let expected = match algorithm {
                Algorithm::EdDsa if forged.len() != 64 => Status::JwtEd25519SignatureWrongLength,
                _ => Status::JwtVerificationFail,
            };
            assert_eq!(verified, Err(expected), "{algorithm:?} {forged:?}");
        }
    }
}

#[test]
fn the_rule_says_which_algorithms_count() {
    let verify = |keys: &KeySet, allowed: Algorithms, algorithm| {
        keys.verify(
            &Parsed::parse(good_token(algorithm).as_bytes()).unwrap(),
            allowed,
            &Checks::default(),
            &Fake::new(),
        )
    };
    let keys = key_set(&jwks(&["rsa1", "hmac1"]));
    assert_eq!(verify(&keys, Algorithms::default(), Algorithm::Rs256), Ok(()));
    assert_eq!(verify(&keys, Algorithms::default(), Algorithm::Ps256), Err(Status::JwtVerificationFail));
    let marked = with(public_jwk("rsa1"), json!({"alg": "PS256"}));
    let marked = key_set(&json!({"keys": [marked]}));
    assert_eq!(verify(&marked, Algorithms::default(), Algorithm::Ps256), Ok(()), "the key asks for it");
    assert_eq!(
        verify(&keys, [Algorithm::Ps256].into_iter().collect(), Algorithm::Ps256),
        Ok(()),
        "the rule does"
    );
    assert_eq!(verify(&keys, Algorithms::default(), Algorithm::Hs256), Err(Status::JwtVerificationFail));
    let only = [Algorithm::Hs256].into_iter().collect();
    assert_eq!(verify(&keys, only, Algorithm::Hs256), Ok(()));
    assert_eq!(verify(&keys, only, Algorithm::Rs256), Err(Status::JwtVerificationFail));
}

#[test]
fn a_kid_and_an_alg_choose_among_the_keys_as_envoy_has_it() {
    let set = |changes: [Value; 2]| {
        let [one, two] = changes;
        key_set(&json!({"keys": [with(public_jwk("rsa1"), one), with(public_jwk("rsa2"), two)]}))
    };
    let none = json!({"kid": null});
    let by = |header: Value| token("rsa2", "RS256", &header, &json!({}));
    let (named, unnamed) = (by(json!({})), by(none.clone()));
    // Both name one: it must be the same.
    assert_eq!(verify(&set([json!({}), json!({})]), &named), Ok(()));
    assert_eq!(verify(&set([json!({}), json!({"kid": "x"})]), &named), Err(Status::JwksKidAlgMismatch));
    assert_eq!(
        verify(&set([json!({"kid": "rsa2"}), json!({"kid": "x"})]), &named),
        Err(Status::JwtVerificationFail)
    );
    // One names none: every key is tried.
    assert_eq!(verify(&set([json!({}), json!({})]), &unnamed), Ok(()));
    assert_eq!(verify(&set([none.clone(), none.clone()]), &named), Ok(()));
    assert_eq!(verify(&set([json!({"kid": ""}), json!({"kid": ""})]), &named), Ok(()));
    // Two of the same name, as while keys are changed: both are tried.
    assert_eq!(verify(&set([json!({"kid": "rsa2"}), json!({})]), &named), Ok(()));
    // `alg` of the key is the token's or none.
    let algorithms = |one: &str, two: &str| set([json!({"alg": one}), json!({"alg": two})]);
    assert_eq!(verify(&algorithms("RS256", "RS256"), &unnamed), Ok(()));
    assert_eq!(verify(&algorithms("RS256", "PS256"), &unnamed), Err(Status::JwtVerificationFail));
    assert_eq!(verify(&algorithms("RS512", "PS256"), &unnamed), Err(Status::JwksKidAlgMismatch));
}

#[test]
fn knows_the_ids_of_its_keys() {
    let keys = key_set(&jwks(&["rsa1", "ec256"]));
    assert!(keys.may_have("rsa1") && keys.may_have("ec256") && !keys.may_have("rsa2"));
    let nameless = key_set(&json!({"keys": [with(public_jwk("rsa1"), json!({"kid": null}))]}));
    assert!(nameless.may_have("anything"));
}

#[test]
fn the_version_is_that_of_the_text() {
    assert_eq!(key_set(&jwks(&["rsa1"])).version(), key_set(&jwks(&["rsa1"])).version());
    assert_ne!(key_set(&jwks(&["rsa1"])).version(), key_set(&jwks(&["rsa2"])).version());
}

#[test]
fn nothing_of_a_secret_is_printed() {
    let keys = key_set(&jwks(&["hmac1"]));
    assert!(format!("{keys:?}").starts_with("KeySet(1 keys, version "), "{keys:?}");
}

fn with(mut jwk: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => jwk.as_object_mut().unwrap().remove(name),
            value => jwk.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    jwk
}

/// Reads a key beside a good one, and says why it was left out.
fn reason(jwk: Value) -> String {
    let text = json!({"keys": [public_jwk("rsa1"), jwk]}).to_string();
    let (_, warnings) = KeySet::parse(text.as_bytes()).unwrap();
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    warning.strip_prefix("keys[1] is left out: ").unwrap().to_owned()
}

#[test]
fn a_key_that_cannot_be_used_is_left_out_with_its_place_and_the_reason() {
    let long = |bits: usize| URL_SAFE_NO_PAD.encode(vec![0xff; bits / 8]);
    let status = Status::message;
    for (key, changes, expected) in [
        ("rsa1", json!({"kty": null}), status(Status::JwksMissingKty)),
        ("rsa1", json!({"kty": 1}), status(Status::JwksBadKty)),
        ("rsa1", json!({"kty": "DSA"}), status(Status::JwksNotImplementedKty)),
        ("rsa1", json!({"kid": 7}), "[kid] is not a string"),
        ("rsa1", json!({"use": "enc"}), "its [use] is \"enc\", not \"sig\""),
        ("rsa1", json!({"key_ops": ["sign"]}), "its [key_ops] are [\"sign\"], without \"verify\""),
        ("rsa1", json!({"alg": "RSA-OAEP"}), status(Status::JwksRSAKeyBadAlg)),
        ("rsa1", json!({"alg": "ES256"}), status(Status::JwksRSAKeyBadAlg)),
        ("rsa1", json!({"alg": "HS256"}), status(Status::JwksRSAKeyBadAlg)),
        ("rsa1", json!({"n": null}), status(Status::JwksRSAKeyMissingN)),
        ("rsa1", json!({"n": 1}), status(Status::JwksRSAKeyBadN)),
        ("rsa1", json!({"n": "a+b"}), status(Status::JwksRsaParseError)),
        ("rsa1", json!({"e": null}), status(Status::JwksRSAKeyMissingE)),
        ("rsa1", json!({"e": 65537}), status(Status::JwksRSAKeyBadE)),
        ("rsa1", json!({"n": long(1024)}), "an RSA modulus of 1024 bits; 2048 to 8192 are taken"),
        ("rsa1", json!({"n": ""}), "an RSA modulus of 0 bits; 2048 to 8192 are taken"),
        ("rsa1", json!({"n": long(16384)}), "an RSA modulus of 16384 bits; 2048 to 8192 are taken"),
        ("rsa1", json!({"e": "AQ"}), "an RSA exponent that is even, 1 or longer than 32 bits"),
        ("rsa1", json!({"e": "AQAA"}), "an RSA exponent that is even, 1 or longer than 32 bits"),
        ("rsa1", json!({"e": "AQAAAAE"}), "an RSA exponent that is even, 1 or longer than 32 bits"),
        ("ec256", json!({"crv": null}), "[crv] field is missing for an EC key"),
        ("ec256", json!({"crv": 256}), status(Status::JwksECKeyBadCrv)),
        ("ec256", json!({"crv": "secp256k1"}), status(Status::JwksECKeyAlgOrCrvUnsupported)),
        ("ec256", json!({"crv": "P-384"}), "a point that is not on its curve"),
        ("ec384", json!({"crv": "P-256"}), "a coordinate that is too long"),
        ("ec256", json!({"alg": "RS256"}), status(Status::JwksECKeyBadAlg)),
        ("ec256", json!({"alg": "ES384"}), status(Status::JwksECKeyAlgNotCompatibleWithCrv)),
        ("ec256", json!({"x": null}), status(Status::JwksECKeyMissingX)),
        ("ec256", json!({"x": 1}), status(Status::JwksECKeyBadX)),
        ("ec256", json!({"y": null}), status(Status::JwksECKeyMissingY)),
        ("ec256", json!({"y": []}), status(Status::JwksECKeyBadY)),
        ("ec256", json!({"y": "*"}), status(Status::JwksEcXorYBadBase64)),
        ("ec256", json!({"x": "AA", "y": "AA"}), "a point that is not on its curve"),
        ("ec521", json!({"x": "AQ"}), "a point that is not on its curve"),
        ("ed25519", json!({"crv": null}), status(Status::JwksOKPKeyMissingCrv)),
        ("ed25519", json!({"crv": 1}), status(Status::JwksOKPKeyBadCrv)),
        ("ed25519", json!({"crv": "X25519"}), status(Status::JwksOKPKeyCrvUnsupported)),
        ("ed25519", json!({"crv": "Ed448"}), status(Status::JwksOKPKeyCrvUnsupported)),
        ("ed25519", json!({"x": null}), status(Status::JwksOKPKeyMissingX)),
        ("ed25519", json!({"x": 1}), status(Status::JwksOKPKeyBadX)),
        ("ed25519", json!({"x": "="}), status(Status::JwksOKPXBadBase64)),
        ("ed25519", json!({"x": "AAAA"}), status(Status::JwksOKPXWrongLength)),
        ("ed25519", json!({"alg": "ES256"}), status(Status::JwksOKPKeyBadAlg)),
        (
            "ed25519",
            json!({"x": URL_SAFE_NO_PAD.encode([0; 32])}),
            "a point that is not on its curve, or of small order",
        ),
        ("hmac1", json!({"k": null}), status(Status::JwksHMACKeyMissingK)),
        ("hmac1", json!({"k": 1}), status(Status::JwksHMACKeyBadK)),
        ("hmac1", json!({"k": "+"}), status(Status::JwksOctBadBase64)),
        ("hmac1", json!({"k": "c2VjcmV0"}), "a secret of 6 bytes; 32 are the least"),
        ("hmac1", json!({"alg": "RS256"}), status(Status::JwksHMACKeyBadAlg)),
        (
            "hmac1",
            json!({"alg": "HS512", "k": URL_SAFE_NO_PAD.encode([7; 63])}),
            "a secret of 63 bytes; 64 are the least for HS512",
        ),
    ] {
        assert_eq!(reason(with(public_jwk(key), changes.clone())), expected, "{key} {changes}");
    }
    assert_eq!(reason(json!("rsa1")), "a key is an object");
}

#[test]
fn what_is_no_key_set_is_refused() {
    for (text, expected) in [
        (r#"{"keys": []}"#, "Jwks doesn't have any valid public key"),
        (
            r#"{"keys": [{}]}"#,
            "Jwks doesn't have any valid public key; keys[0] is left out: [kty] is missing in [keys]",
        ),
        (r#"{"keys": {}}"#, "[keys] in Jwks is not an array"),
        (r#"{}"#, "Jwks does not have [keys] field"),
        (r#"[]"#, "Jwks is an invalid JSON"),
        (
            r#"{"k1": "-----BEGIN CERTIFICATE-----\n"}"#,
            "certificates by name are not read; give the keys as a JSON Web Key Set",
        ),
        (r#"{"keys": [], "keys": []}"#, "Jwks is an invalid JSON: keys: this member stands twice; keep one"),
        ("", "Jwks is an invalid JSON: EOF while parsing a value at line 1 column 0"),
        ("<html>", "Jwks is an invalid JSON: expected value at line 1 column 1"),
    ] {
        assert_eq!(KeySet::parse(text.as_bytes()).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn leading_zeros_and_padding_are_no_fault() {
    // A key whose x begins with a zero, found by trying.
    let private = (1_u16..).map(|number| {
        let mut scalar = [0; 32];
        scalar[30..].copy_from_slice(&number.to_be_bytes());
        p256::ecdsa::SigningKey::from_slice(&scalar).unwrap()
    });
    let point = |key: &p256::ecdsa::SigningKey| key.verifying_key().to_encoded_point(false);
    let private = private.into_iter().find(|key| point(key).x().unwrap()[0] == 0).unwrap();
    let point = point(&private);
    let jwk = json!({
        "kty": "EC",
        "crv": "P-256",
        "x": URL_SAFE_NO_PAD.encode(&point.x().unwrap()[1..]),
        "y": URL_SAFE.encode(point.y().unwrap()),
        "d": URL_SAFE_NO_PAD.encode(private.to_bytes()),
    });
    let keys = key_set(&json!({"keys": [jwk]}));
    let signature = signing::signature(&jwk, "ES256", b"a.b").unwrap();
    let verified = keys.verify_signature(
        Algorithm::Es256,
        None,
        b"a.b",
        &signature,
        all(),
        (&Checks::default(), &Fake::new()),
    );
    assert_eq!(verified, Ok(()));

    let n = URL_SAFE_NO_PAD.decode(public_jwk("rsa1")["n"].as_str().unwrap()).unwrap();
    let signed = URL_SAFE_NO_PAD.encode([&[0], n.as_slice()].concat());
    let keys = key_set(&json!({"keys": [with(public_jwk("rsa1"), json!({"n": signed}))]}));
    assert_eq!(verify(&keys, &good_token(Algorithm::Rs256)), Ok(()));
}

/// A proxy that lends its cryptography, as Envoy does, and remembers what it was asked.
fn lending(answer: bool) -> (Fake, Rc<RefCell<Vec<VerifySignatureArguments>>>) {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let host = Fake::new();
    let log = asked.clone();
    host.set_foreign_function("verify_signature", move |arguments| {
        log.borrow_mut().push(VerifySignatureArguments::decode(arguments).unwrap());
        let error = if answer { "" } else { "Failed to verify digest." }.to_owned();
        Ok(VerifySignatureResult { result: answer, error }.encode_to_vec())
    });
    (host, asked)
}

#[test]
fn the_proxy_verifies_rs_and_es_where_it_lends_its_cryptography() {
    use rsa::pkcs8::DecodePublicKey;
    use rsa::signature::SignatureEncoding;
    for algorithm in Algorithm::ALL {
        let token = Parsed::parse(good_token(algorithm).as_bytes()).unwrap();
        let keys = key_set(&jwks(&[key_for(algorithm)]));
        let (host, asked) = lending(true);
        assert_eq!(keys.verify(&token, all(), &Checks::default(), &host), Ok(()), "{algorithm:?}");
        let lent = algorithm.name().starts_with("RS") || algorithm.name().starts_with("ES");
        let asked = asked.borrow();
        assert_eq!(asked.len(), usize::from(lent), "{algorithm:?}");
        let Some(asked) = asked.first() else { continue };
        assert_eq!(asked.text, token.signing_input());
        assert_eq!(
            asked.hash_function,
            algorithm.name().replace(|letter: char| letter.is_alphabetic(), "").replacen("", "sha", 1)
        );
        // What others make of the same bytes.
        match algorithm {
            Algorithm::Es256 => {
                p256::PublicKey::from_public_key_der(&asked.public_key).unwrap();
                let signature = p256::ecdsa::Signature::from_der(&asked.signature).unwrap();
                assert_eq!(signature.to_vec(), token.signature);
            }
            Algorithm::Es384 => {
                p384::PublicKey::from_public_key_der(&asked.public_key).unwrap();
                let signature = p384::ecdsa::Signature::from_der(&asked.signature).unwrap();
                assert_eq!(signature.to_vec(), token.signature);
            }
            Algorithm::Es512 => {
                p521::PublicKey::from_public_key_der(&asked.public_key).unwrap();
                let signature = p521::ecdsa::Signature::from_der(&asked.signature).unwrap();
                assert_eq!(signature.to_vec(), token.signature);
            }
            _ => {
                rsa::RsaPublicKey::from_public_key_der(&asked.public_key).unwrap();
                assert_eq!(asked.signature, token.signature);
            }
        }
    }
}

#[test]
fn the_proxys_no_is_final_and_its_refusal_to_answer_is_not() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es512] {
        let token = Parsed::parse(good_token(algorithm).as_bytes()).unwrap();
        let keys = key_set(&jwks(&[key_for(algorithm)]));
        let (host, asked) = lending(false);
        assert_eq!(keys.verify(&token, all(), &Checks::default(), &host), Err(Status::JwtVerificationFail));
        assert_eq!(asked.borrow().len(), 1);
        let restricted = Fake::new();
        restricted.set_foreign_function("verify_signature", |_| Err(host::Status::InternalFailure));
        assert_eq!(keys.verify(&token, all(), &Checks::default(), &restricted), Ok(()));
        let strange = Fake::new();
        strange.set_foreign_function("verify_signature", |_| Ok(vec![0xff]));
        assert_eq!(keys.verify(&token, all(), &Checks::default(), &strange), Ok(()));
    }
}

#[test]
fn the_proxy_is_asked_so_often_and_the_module_is_no_way_round() {
    let token = Parsed::parse(good_token(Algorithm::Rs256).as_bytes()).unwrap();
    let keys = key_set(&jwks(&["rsa1"]));
    let (checks, (host, asked)) = (Checks::default(), lending(false));
    for _ in 0..20 {
        assert_eq!(keys.verify(&token, all(), &checks, &host), Err(Status::JwtVerificationFail));
    }
    assert_eq!(asked.borrow().len(), 16);
    assert_eq!(keys.verify(&token, all(), &checks, &Fake::new()), Err(Status::JwtVerificationFail));
    let (checks, bare) = (Checks::default(), Fake::new());
    let verified: Vec<bool> = (0..6).map(|_| keys.verify(&token, all(), &checks, &bare).is_ok()).collect();
    assert_eq!(verified, [true, true, true, true, false, false], "a proxy that lends none leaves four");
}

#[test]
fn a_psychic_signature_is_not_even_shown_to_the_proxy() {
    for algorithm in [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512] {
        let good = Parsed::parse(good_token(algorithm).as_bytes()).unwrap();
        let keys = key_set(&jwks(&[key_for(algorithm)]));
        let half = good.signature.len() / 2;
        let (r, s) = good.signature.split_at(half);
        let zero = vec![0; half];
        for forged in [[&zero, zero.as_slice()], [r, &zero], [&zero, s]] {
            let (host, asked) = lending(true);
            let verified = keys.verify_signature(
                algorithm,
                None,
                b"a.b",
                &forged.concat(),
                all(),
                (&Checks::default(), &host),
            );
            assert_eq!(verified, Err(Status::JwtVerificationFail));
            assert_eq!(asked.borrow().len(), 0);
        }
    }
}

#[cfg(not(target_family = "wasm"))]
mod properties {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    static TOKENS: LazyLock<Vec<(Algorithm, String)>> = LazyLock::new(|| {
        Algorithm::ALL.into_iter().map(|algorithm| (algorithm, good_token(algorithm))).collect()
    });

    proptest! {
        #[test]
        fn a_token_with_one_bit_flipped_is_refused(which in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
            let (algorithm, token) = which.get(&TOKENS);
            let mut bytes = token.clone().into_bytes();
            let bit = bit.index(bytes.len().saturating_mul(8));
            bytes[bit / 8] ^= 1 << (bit % 8);
            let keys = key_set(&jwks(&[key_for(*algorithm)]));
            let verified = Parsed::parse(&bytes).and_then(|token| keys.verify(&token, all(), &Checks::default(), &Fake::new()));
            prop_assert!(verified.is_err(), "{algorithm:?} bit {bit}");
        }

        #[test]
        fn any_key_is_read_or_left_out(
            kty in "RSA|EC|OKP|oct",
            crv in "P-256|P-384|P-521|Ed25519",
            bytes in proptest::collection::vec(any::<u8>(), 0..140),
            text in "[a-zA-Z0-9_=-]{0,90}",
        ) {
            let first = URL_SAFE_NO_PAD.encode(&bytes);
            let jwk = json!({"kty": kty, "crv": crv, "n": first, "e": text, "x": first, "y": text, "k": first});
            let _ = KeySet::from_value(&json!({"keys": [jwk]}));
            let _ = KeySet::parse(&bytes);
        }
    }
}
