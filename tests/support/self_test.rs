//! The runner on itself: a check that cannot fail is worth nothing.

use std::time::Duration;

use libtest_mimic::{Failed, Trial};

use crate::support::{case, native, token};

const NOW: Duration = Duration::from_secs(1_700_000_000);

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("self_test::wrong_expectations_fail", wrong_expectations_fail),
        Trial::test("self_test::wrong_files_are_refused", wrong_files_are_refused),
        Trial::test("self_test::every_algorithm_signs", every_algorithm_signs),
        Trial::test("self_test::values_are_bytes", values_are_bytes),
    ]
}

/// A case without a policy, and one that is right about it.
fn plain(expect: &str) -> String {
    format!(
        "name: plain\npolicy: {{}}\nrequests:\n- {{name: r, path: /a, headers: {{x: [a, b], y: \"a\\xffb\"}}, expect: {expect}}}\n"
    )
}

fn outcome(text: &str) -> Result<(), String> {
    native::run(&case::parse("self", text)?)
}

fn wrong_expectations_fail() -> Result<(), Failed> {
    for (right, wrong, problem) in [
        ("{status: 200}", "{status: 403}", "status is 200, should be [403]"),
        ("{status: [403, 200]}", "{status: [403, 404]}", "should be [403, 404]"),
        ("{upstream: fallback}", "{upstream: v1}", "upstream is Some(\"fallback\"), should be Some(\"v1\")"),
        ("{upstream: fallback}", "{upstream: null}", "should be None"),
        ("{details: via_upstream}", "{details: x}", "details is \"via_upstream\", should be \"x\""),
        ("{headers: {x-upstream: fallback}}", "{headers: {x-upstream: null}}", "should be absent"),
        (
            "{headers: {x-upstream: {regex: \"f.*\"}}}",
            "{headers: {x-upstream: {regex: all}}}",
            "matches \"all\"",
        ),
        ("{headers: {absent: null}}", "{headers: {absent: {regex: \".*\"}}}", "absent is absent, should be"),
        (
            "{headers: {x-upstream: {contains: back}}}",
            "{headers: {x-upstream: {contains: z}}}",
            "contains \"z\"",
        ),
        ("{upstreamPath: /a}", "{upstreamPath: /b}", "should be \"/b\""),
        ("{upstreamHeaders: {x: [a, b]}}", "{upstreamHeaders: {x: [b, a]}}", "each by itself"),
        ("{upstreamHeaders: {x: \"a,b\"}}", "{upstreamHeaders: {x: a}}", "x at the upstream is \"a,b\""),
        ("{upstreamHeaders: {y: \"a\\xffb\"}}", "{upstreamHeaders: {y: \"a\\xfeb\"}}", "\"a\\xffb\", should"),
        ("{upstreamHeaders: {host: example.com}}", "{upstreamHeaders: {host: null}}", "should be absent"),
        ("{mirrors: []}", "{mirrors: [mirror]}", "mirrored to []"),
        ("{delay: 0s}", "{delay: 5s}", "took 0ns, should be 5s"),
        ("{filterState: {t: null}}", "{filterState: {t: x}}", "filter state t is absent"),
        ("{reset: false, status: 200}", "{reset: true}", "should be closed without an answer"),
    ] {
        outcome(&plain(right)).map_err(|error| format!("{right}: {error}"))?;
        let error = outcome(&plain(wrong)).err().ok_or_else(|| format!("{wrong} passed"))?;
        if !error.contains(problem) {
            return Err(format!("{wrong}: {error:?} does not say {problem:?}").into());
        }
    }
    let counter = format!("{}counters: {{'none{{a=\"b\"}}': 1}}\n", plain("{status: 200}"));
    match outcome(&counter) {
        Err(error) if error.contains("is 0, should be 1") => {}
        other => return Err(format!("a wrong counter: {other:?}").into()),
    }
    let request = "{name: r, repeat: 3, expect: {status: 1}}";
    let repeated = format!("name: n\npolicy: {{}}\nrequests:\n- {request}\n- {request}\n");
    match outcome(&repeated) {
        Err(error) if error.lines().count() == 2 && error.contains("(round 1)") => Ok(()),
        other => Err(format!("two wrong requests: {other:?}").into()),
    }
}

fn wrong_files_are_refused() -> Result<(), Failed> {
    let good = plain("{status: 200}");
    for (text, problem) in [
        (good.replace("name: plain", "nmae: plain"), "unknown field `nmae`"),
        (good.replace("path: /a", "pth: /a"), "4:13: requests[0].pth: unknown field `pth`"),
        (good.replace("status: 200", "stauts: 200"), "requests[0].expect.stauts: unknown field `stauts`"),
        (good.replace("status: 200", ""), "nothing is expected"),
        (good.replace("path: /a", "path: \"/${token:x}\""), "there is no token \"x\""),
        (good.replace("path: /a", "path: \"/${jwks}\""), "only ${token:NAME} is known here"),
        (good.replace("path: /a", "path: \"/\\u20ac\""), "is no byte"),
        (good.replace("path: /a", "advance: 1s"), "only a file with only: native"),
        (good.replace("path: /a", "properties: {a: b}"), "only a file with only: native"),
        (good.replace("{status: 200}", "{delay: fast}"), "is no duration"),
        (good.replace("requests:", "tokens: {t: {key: rsa1}}\nrequests:"), "tokens.t: give either raw"),
        (
            good.replace("requests:", "tokens: {t: {key: no, alg: RS256, claims: {}}}\nrequests:"),
            "there is no test key",
        ),
        (
            good.replace("requests:", "tokens: {t: {key: rsa1, alg: RS256, claims: {exp: soon}}}\nrequests:"),
            "\"soon\" is no date",
        ),
        (good.replace("policy: {}", "policy: {http: 1}"), "the policy is refused:\nhttp: 1 does not belong"),
    ] {
        let error = outcome(&text).err().ok_or_else(|| format!("accepted: {text}"))?;
        if !error.contains(problem) {
            return Err(format!("{error:?} does not say {problem:?}").into());
        }
    }
    Ok(())
}

fn every_algorithm_signs() -> Result<(), Failed> {
    let (header, claims) = (serde_json::Map::new(), serde_json::json!({"exp": "+1h", "iat": "-10s"}));
    for (key, algorithm, size) in [
        ("rsa1", "RS256", 256),
        ("rsa2", "PS256", 256),
        ("ec256", "ES256", 64),
        ("ec384", "ES384", 96),
        ("ec521", "ES512", 132),
        ("ed25519", "EdDSA", 64),
        ("hmac1", "HS256", 32),
    ] {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let token = token::sign(key, algorithm, &header, &claims, NOW)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|error| error.to_string());
        let parts = token.split('.').map(decode).collect::<Result<Vec<_>, _>>()?;
        let expected = format!("{{\"alg\":\"{algorithm}\",\"kid\":\"{key}\",\"typ\":\"JWT\"}}");
        if parts[0] != expected.as_bytes() || parts[2].len() != size {
            return Err(format!("{algorithm}: {}", parts[0].escape_ascii()).into());
        }
        if parts[1] != br#"{"exp":1700003600,"iat":1699999990}"# {
            return Err(format!("{algorithm}: {}", parts[1].escape_ascii()).into());
        }
    }
    Ok(())
}

fn values_are_bytes() -> Result<(), Failed> {
    (case::bytes("a\u{ff}b")? == b"a\xffb").then_some(()).ok_or("a\\xffb is not three bytes".into())
}
