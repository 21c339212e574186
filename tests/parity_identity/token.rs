//! Tokens: good ones, and ones with anything wrong that can be.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::setup::{ISSUER, OTHER_ISSUER};
use crate::support::random::Random;
use crate::support::sign;

#[derive(Clone, Debug)]
pub struct Token {
    pub text: String,
    /// What was done to it.
    pub what: Vec<&'static str>,
}

const KEYS: &[(&str, &[&str])] = &[
    ("rsa1", &["RS256", "RS256", "RS256", "RS384", "RS512", "PS256"]),
    ("rsa1", &["RS256"]),
    ("rsa2", &["RS256", "PS384", "PS512"]),
    ("ec256", &["ES256"]),
    ("ec384", &["ES384"]),
    ("ec521", &["ES512"]),
    ("ed25519", &["EdDSA"]),
    ("hmac1", &["HS256", "HS384", "HS512"]),
];

/// Everything that is done to a token, more often where it matters more.
const CHANGES: &[&str] = &[
    "expired",
    "expired",
    "expired within the skew",
    "not yet valid",
    "not yet valid",
    "nbf within the skew",
    "wrong audience",
    "wrong audience",
    "no audience",
    "audiences",
    "audience as a URL",
    "audience is a number",
    "wrong issuer",
    "wrong issuer",
    "no issuer",
    "wrong key",
    "wrong key",
    "unknown kid",
    "unknown kid",
    "no kid",
    "kid of another key",
    "kid is a number",
    "alg none",
    "alg none",
    "another alg",
    "unknown alg",
    "alg is a number",
    "no alg",
    "exp is a text",
    "exp 0",
    "exp is negative",
    "exp is a fraction",
    "exp is huge",
    "no exp",
    "sub is a number",
    "no sub",
    "jti is a number",
    "iat of a wrong type",
    "iss is a number",
    "nbf is negative",
    "crit",
    "duplicate",
    "mangled header",
    "mangled payload",
    "mangled signature",
    "mangled signature",
    "cut",
    "two sections",
    "four sections",
    "trailing dot",
    "leading dot",
    "padding",
    "header is no JSON",
    "payload is no JSON",
    "payload is a list",
    "header is no base64",
    "payload is no base64",
    "signature is no base64",
    "no signature",
    "junk behind",
    "spare bits",
    "control character",
    "huge number",
    "empty sub",
];

/// A token as of `now`, in seconds since 1970.
pub fn token(random: &mut Random, now: i64) -> Token {
    let mut what = Vec::new();
    if random.percent(60) {
        what.push(random.pick(CHANGES));
        if random.percent(15) {
            what.push(random.pick(CHANGES));
        }
    }
    let (key, algorithms) = random.pick(KEYS);
    let algorithm = random.pick(algorithms);
    let mut header = json!({"alg": algorithm, "kid": key, "typ": "JWT"});
    let mut claims = json!({
        "iss": if random.percent(70) { ISSUER } else { OTHER_ISSUER },
        "sub": random.pick(&["alice", "bob", "carol/x", "ünï", "root"]),
        "aud": "webapp-api",
        "exp": now + 3600,
    });
    let others: [(&str, &[Value]); 8] = [
        ("tenant", &[json!("acme"), json!("acme"), json!("umbrella"), json!(""), json!(7)]),
        (
            "level",
            &[json!(0), json!(7), json!(-3), json!(1.5), json!(1e21), json!(4_294_967_296_u64), json!(0.1)],
        ),
        ("ok", &[json!(true), json!(false), json!(null)]),
        (
            "groups",
            &[json!(["staff", "x"]), json!(["x"]), json!([]), json!("staff"), json!(["a", 1, {"b": [true]}])],
        ),
        (
            "address",
            &[json!({"city": "Bern"}), json!({"city": "Paris", "zip": 75}), json!({"city": {}}), json!({})],
        ),
        ("scope", &[json!("read write"), json!("write"), json!(["write"]), json!("")]),
        ("iat", &[json!(now), json!(now - 100_000), json!(now + 100_000)]),
        ("azp", &[json!("app")]),
    ];
    for (name, values) in others {
        if random.percent(35) {
            claims[name] = values[random.below(values.len())].clone();
        }
    }
    let mut signer = key;
    for what in &what {
        match *what {
            "expired" => claims["exp"] = (now - 7200).into(),
            "expired within the skew" => claims["exp"] = (now - 600).into(),
            "not yet valid" => claims["nbf"] = (now + 7200).into(),
            "nbf within the skew" => claims["nbf"] = (now + 600).into(),
            "wrong audience" => {
                claims["aud"] = random.pick(&["other", "webapp-api2", "Webapp-Api", ""]).into()
            }
            "no audience" => claims["aud"] = Value::Null,
            "audiences" => claims["aud"] = json!(["other", "webapp-api"]),
            "audience as a URL" => {
                claims["aud"] = random
                    .pick(&["https://webapp-api/", "http://webapp-api", "https://api.example.com/"])
                    .into()
            }
            "audience is a number" => claims["aud"] = random.pick(&[1, 0]).into(),
            "wrong issuer" => {
                claims["iss"] =
                    random.pick(&["https://evil.example.com", "https://auth.example.com/", ""]).into()
            }
            "no issuer" => {
                claims.as_object_mut().unwrap().remove("iss");
            }
            "wrong key" => signer = random.pick(KEYS).0,
            "unknown kid" => header["kid"] = "nobody".into(),
            "no kid" => {
                header.as_object_mut().unwrap().remove("kid");
            }
            "kid of another key" => header["kid"] = random.pick(KEYS).0.into(),
            "kid is a number" => header["kid"] = 1.into(),
            "alg none" => header["alg"] = "none".into(),
            "another alg" => {
                header["alg"] = random.pick(&["RS256", "HS256", "ES256", "PS256", "EdDSA", "RS384"]).into()
            }
            "unknown alg" => header["alg"] = random.pick(&["ES256K", "rs256", "NONE", ""]).into(),
            "alg is a number" => header["alg"] = 1.into(),
            "no alg" => {
                header.as_object_mut().unwrap().remove("alg");
            }
            "exp is a text" => claims["exp"] = (now + 3600).to_string().into(),
            "exp 0" => claims["exp"] = 0.into(),
            "exp is negative" => claims["exp"] = (-1).into(),
            "exp is a fraction" => claims["exp"] = json!(now as f64 + 3600.5),
            "exp is huge" => claims["exp"] = json!(random.pick(&[1e18, 1e19, 1e300])),
            "no exp" => {
                claims.as_object_mut().unwrap().remove("exp");
            }
            "sub is a number" => claims["sub"] = 1.into(),
            "no sub" => {
                claims.as_object_mut().unwrap().remove("sub");
            }
            "empty sub" => claims["sub"] = "".into(),
            "jti is a number" => claims["jti"] = 1.into(),
            "iat of a wrong type" => claims["iat"] = "yesterday".into(),
            "iss is a number" => claims["iss"] = 1.into(),
            "nbf is negative" => claims["nbf"] = (-1).into(),
            "crit" => header["crit"] = json!(["exp"]),
            "control character" => claims["tenant"] = "ac\nme".into(),
            "huge number" => claims["level"] = json!(9_007_199_254_740_993_u64),
            _ => {}
        }
    }
    let mut payload = claims.to_string();
    let mut head = header.to_string();
    for what in &what {
        match *what {
            "duplicate" => payload = payload.replacen('{', r#"{"sub":"root","#, 1),
            "header is no JSON" => head = "{".to_owned(),
            "payload is no JSON" => payload = random.pick(&["", "{", "null", "{\"a\":1} x"]).to_owned(),
            "payload is a list" => payload = "[]".to_owned(),
            _ => {}
        }
    }
    let mut text = if signer == key {
        sign::token(key, algorithm, &head, &payload).unwrap()
    } else {
        // The wrong key signs as it can.
        let (_, algorithms) = KEYS.iter().find(|(name, _)| *name == signer).unwrap();
        sign::token(signer, algorithms[0], &head, &payload).unwrap()
    };
    for what in &what {
        change(&mut text, what, random);
    }
    Token { text, what }
}

fn change(text: &mut String, what: &str, random: &mut Random) {
    let mut sections: Vec<String> = text.split('.').map(str::to_owned).collect();
    let mangle = |section: &mut String, random: &mut Random| {
        // Not the last letter: its last bits may mean nothing.
        if let Some(end) = section.len().checked_sub(2).filter(|end| *end > 0) {
            let at = random.below(end);
            let other = if section.as_bytes()[at] == b'A' { "B" } else { "A" };
            // Two changes can meet: what is no base64 any more is odd enough.
            if section.is_ascii() {
                section.replace_range(at..=at, other);
            }
        }
    };
    match (what, sections.as_mut_slice()) {
        ("mangled header", [header, ..]) => mangle(header, random),
        ("mangled payload", [_, payload, ..]) => mangle(payload, random),
        ("mangled signature", [_, _, signature]) => mangle(signature, random),
        ("header is no base64", [header, ..]) => {
            header.insert(header.floor_char_boundary(3), random.pick(&['!', '+', '/']))
        }
        ("payload is no base64", [_, payload, ..]) => {
            payload.insert(payload.floor_char_boundary(3), random.pick(&['!', '+', '/']))
        }
        ("signature is no base64", [_, _, signature]) => signature.insert(0, random.pick(&['!', '+', '/'])),
        ("no signature", [_, _, signature]) => signature.clear(),
        ("two sections", _) => sections.truncate(2),
        ("four sections", _) => sections.push("AAAA".to_owned()),
        ("trailing dot", _) => sections.push(String::new()),
        ("leading dot", _) => sections.insert(0, String::new()),
        ("padding", [.., last]) => last.push('='),
        ("junk behind", [.., last]) => last.push_str(random.pick(&[" x", ",", ";a=b", "%20"])),
        ("alg none", [_, _, signature]) if random.percent(50) => signature.clear(),
        ("spare bits", [_, _, signature]) => {
            // Another text for the same bytes, where the last letter has bits to spare.
            if let Some(bytes) =
                URL_SAFE_NO_PAD.decode(signature.as_bytes()).ok().filter(|bytes| bytes.len() % 3 == 1)
            {
                let last = signature.pop().unwrap();
                let next = match last {
                    'A' => 'B',
                    'Q' => 'R',
                    'g' => 'h',
                    'w' => 'x',
                    other => other,
                };
                let _ = bytes;
                signature.push(next);
            }
        }
        _ => {}
    }
    *text = sections.join(".");
    if what == "cut" {
        text.truncate(text.floor_char_boundary(random.below(text.len().max(1))));
    }
}

/// What a strict reader has against a token (`docs/authentication.md`, "Tokens, strictly") and Envoy has not, or says
/// only later.
pub fn form_fault(text: &str) -> Option<&'static str> {
    let sections: Vec<&str> = text.split('.').collect();
    let [header, payload, signature] = sections.as_slice() else { return Some("not three sections") };
    if sections.iter().any(|section| section.is_empty()) {
        return Some("an empty section");
    }
    if URL_SAFE_NO_PAD.decode(signature).is_err() {
        return Some("signature in no canonical base64url");
    }
    let object = |section: &str| -> Result<Value, &'static str> {
        let bytes = URL_SAFE_NO_PAD.decode(section).map_err(|_| "no canonical base64url")?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| "no strict JSON")?;
        // Members that stand twice are one in the value.
        let quotes = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'"').count();
        let written = value.to_string();
        match value.is_object() {
            true if quotes(written.as_bytes()) < quotes(&bytes) => Err("a member twice"),
            true => Ok(value),
            false => Err("no object"),
        }
    };
    let (header, claims) = match (object(header), object(payload)) {
        (Ok(header), Ok(claims)) => (header, claims),
        (Err(fault), _) | (_, Err(fault)) => return Some(fault),
    };
    if header.get("crit").is_some() {
        return Some("crit");
    }
    ["exp", "nbf", "iat"].into_iter().find_map(|name| match claims.get(name) {
        None => None,
        Some(date) if date.as_u64().is_some_and(|date| date > 0) => None,
        Some(_) => Some("a date that is none"),
    })
}

/// Whether its `alg` is not one of the key that its `kid` names; without `kid`, of some key.
pub fn is_of_another_family(text: &str) -> bool {
    let header = header(text);
    let Some(alg) = header["alg"].as_str() else { return false };
    match header["kid"].as_str().and_then(|kid| KEYS.iter().find(|(name, _)| *name == kid)) {
        Some((name, _)) => {
            let family = match &name[..2] {
                "rs" => ["RS", "PS"],
                "ec" => ["ES", "ES"],
                "ed" => ["Ed", "Ed"],
                _ => ["HS", "HS"],
            };
            !family.iter().any(|family| alg.starts_with(family))
        }
        None => true,
    }
}

/// Issuer and subject, if it says so.
pub fn subject(text: &str) -> (Option<String>, Option<String>) {
    let bytes = URL_SAFE_NO_PAD.decode(text.split('.').nth(1).unwrap_or_default()).unwrap_or_default();
    let claims: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let claim = |name: &str| claims[name].as_str().map(str::to_owned);
    match claim("sub") {
        None => (None, None),
        sub => (claim("iss"), sub),
    }
}

/// Whether every key is tried on it.
pub fn names_no_key(text: &str) -> bool {
    header(text)["kid"].is_null()
}

fn header(text: &str) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(text.split('.').next().unwrap_or_default()).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
