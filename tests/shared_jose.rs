//! The examples of RFC 7520, RFC 8037 and RFC 7797, Envoy's status messages, and JSON that is hard to read.

mod shared;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use meshfilter::host::fake::Fake;
use meshfilter::policy::authentication::{Algorithm, Algorithms, Checks, KeySet, Parsed, Status};
use serde_json::{Value, json};

fn every_algorithm() -> Algorithms {
    Algorithm::ALL.into_iter().collect()
}

fn key_set(key: &Value) -> Result<KeySet, String> {
    KeySet::from_value(&json!({"keys": [key]})).map(|(keys, _)| keys)
}

/// Every single signature of an example, each with its key.
fn signatures(example: &Value) -> Vec<(&Value, &Value)> {
    let input = &example["input"];
    let keys = input["key"].as_array().cloned().map_or(1, |keys| keys.len());
    (0..keys)
        .map(|index| {
            let key = input["key"].get(index).unwrap_or(&input["key"]);
            (key, example["signing"].get(index).unwrap_or(&example["signing"]))
        })
        .collect()
}

#[test]
fn the_rfcs_signatures_verify_and_no_bit_of_them_may_change() {
    let Some(folder) = shared::folder() else { return };
    let mut cases = 0;
    let mut positive = |file: &str| {
        let example = shared::json(&folder, &format!("jose/rfc7520_cookbook/{file}"));
        for (key, signing) in signatures(&example) {
            let header = signing["protected"]["alg"].as_str().or(signing["unprotected"]["alg"].as_str());
            let algorithm = Algorithm::from_name(header.unwrap()).unwrap();
            let kid = key["kid"].as_str();
            let input = signing["sig-input"].as_str().unwrap().as_bytes();
            let signature = URL_SAFE_NO_PAD.decode(signing["sig"].as_str().unwrap()).unwrap();
            let keys = key_set(key).unwrap_or_else(|error| panic!("{file}: {error}"));
            let verify = |input: &[u8], signature: &[u8]| {
                keys.verify_signature(
                    algorithm,
                    kid,
                    input,
                    signature,
                    every_algorithm(),
                    (&Checks::default(), &Fake::new()),
                )
            };
            assert_eq!(verify(input, &signature), Ok(()), "{file} {algorithm:?}");
            let refused = Err(Status::JwtVerificationFail);
            for at in 0..signature.len() {
                let mut changed = signature.clone();
                changed[at] ^= 1;
                assert_eq!(verify(input, &changed), refused, "{file} byte {at} of the signature");
            }
            for at in (0..input.len()).step_by(7) {
                let mut changed = input.to_vec();
                changed[at] ^= 1;
                assert_eq!(verify(&changed, &signature), refused, "{file} byte {at} of the text");
            }
            cases += 1;
        }
    };
    for file in [
        "jws/4_1.rsa_v15_signature.json",
        "jws/4_2.rsa-pss_signature.json",
        "jws/4_3.ecdsa_signature.json",
        "jws/4_4.hmac-sha2_integrity_protection.json",
        "jws/4_5.signature_with_detached_content.json",
        "jws/4_6.protecting_specific_header_fields.json",
        "jws/4_7.protecting_content_only.json",
        "jws/4_8.multiple_signatures.json",
        "curve25519/jws.json",
    ] {
        positive(file);
    }
    println!("{cases} signatures of RFC 7520 and RFC 8037");
    assert!(cases >= 11, "{cases}");
}

#[test]
fn keys_of_rfc_7520_are_read_for_what_they_are_for() {
    let Some(folder) = shared::folder() else { return };
    let mut cases = 0;
    for (file, usable) in [
        ("jwk/3_1.ec_public_key.json", true),
        ("jwk/3_2.ec_private_key.json", true),
        ("jwk/3_3.rsa_public_key.json", true),
        ("jwk/3_4.rsa_private_key.json", true),
        ("jwk/3_5.symmetric_key_mac_computation.json", true),
        ("jwk/3_6.symmetric_key_encryption.json", false),
    ] {
        let key = shared::json(&folder, &format!("jose/rfc7520_cookbook/{file}"));
        assert_eq!(key_set(&key).is_ok(), usable, "{file}");
        cases += 1;
    }
    println!("{cases} keys of RFC 7520");
}

#[test]
fn encrypted_and_unencoded_and_detached_tokens_are_refused() {
    let Some(folder) = shared::folder() else { return };
    let mut cases = 0;
    for sub in ["jwe", "rfc7797", "jws"] {
        let files = std::fs::read_dir(folder.join("jose/rfc7520_cookbook").join(sub)).unwrap();
        for file in
            files.map(|entry| entry.unwrap().path()).filter(|path| path.extension() == Some("json".as_ref()))
        {
            let example = shared::json(&folder, file.to_str().unwrap());
            let Some(token) = example["output"]["compact"].as_str() else { continue };
            let refused = Parsed::parse(token.as_bytes()).unwrap_err();
            let expected = match sub {
                "jwe" => Status::JwtBadFormat,
                "rfc7797" => Status::JwtVerificationFail,
                // Their payload is a saying of Frodo's, not a JSON object; a detached one is nothing at all.
                _ if token.contains("..") => Status::JwtBadFormat,
                _ => Status::JwtPayloadParseErrorBadJson,
            };
            assert!(refused == expected || sub == "rfc7797", "{}: {refused:?}", file.display());
            cases += 1;
        }
    }
    println!("{cases} tokens of RFC 7520 and RFC 7797 that are no JWT");
    assert!(cases >= 15, "{cases}");
}

#[test]
fn statuses_say_what_envoys_say() {
    let Some(folder) = shared::folder() else { return };
    let statuses = shared::json(&folder, "envoy/jwt_status_messages.json");
    let statuses = statuses["statuses"].as_object().unwrap();
    for status in Status::ALL {
        assert_eq!(statuses[status.name()]["body"], status.message(), "{status:?}");
    }
    println!("{} statuses of {}", Status::ALL.len(), statuses.len());
}

#[test]
fn json_that_is_hard_to_read_is_read_or_refused() {
    let Some(folder) = shared::folder() else { return };
    let lines = std::fs::read_to_string(folder.join("robustness/json_test_suite.jsonl")).unwrap();
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#);
    let mut cases = 0;
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case["name"].as_str().unwrap();
        let text = STANDARD.decode(case["base64"].as_str().unwrap()).unwrap();
        let as_payload = format!("{header}.{}.AA", URL_SAFE_NO_PAD.encode(&text));
        let as_header = format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(&text));
        let parsed = Parsed::parse(as_payload.as_bytes());
        let _ = Parsed::parse(as_header.as_bytes());
        let _ = KeySet::parse(&text);
        let object = serde_json::from_slice::<serde_json::Map<String, Value>>(&text).is_ok();
        // A member that stands twice is good JSON, but no good token.
        let twice = name.contains("duplicated");
        match case["expect"].as_str().unwrap() {
            "reject" => assert!(parsed.is_err(), "{name}"),
            "accept" if !twice => assert_eq!(parsed.is_ok(), object, "{name}"),
            _ => {}
        }
        cases += 1;
    }
    println!("{cases} texts of JSONTestSuite");
}
