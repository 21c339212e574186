//! What the filter writes into Envoy's own log: why it refused, and nothing of a secret.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::sample::{Proxy, Upstreams, bearer, bearer_until};
use crate::support::envoy::native::is_native;
use crate::support::envoy::wait_until;
use crate::support::{sign, token};

/// The claims of the tokens, which nobody needs to read in a log.
const USER: &str = "user-8d1f";
const TENANT: &str = "tenant-77aa";

struct Scene {
    proxy: Proxy,
    /// What must never stand in a log, whatever its level.
    secrets: Vec<String>,
    _upstreams: Upstreams,
}

/// Whose log level it is.
fn component() -> &'static str {
    if is_native() { "dynamic_modules" } else { "wasm" }
}

/// The sample with a secret in its environment, a DENY policy in shadow mode and a limit of one request.
fn scene(level: &str) -> Scene {
    let upstreams = Upstreams::start();
    let mut sample = upstreams.sample();
    let secret = sign::public_jwk("hmac1");
    let policy = sample.policy().unwrap();
    let rules = policy["authentication"]["jwtRules"].as_array_mut().unwrap();
    rules.push(json!({"issuer": "hmac", "jwksFromEnvironment": "KEYS", "algorithms": ["HS256"]}));
    let policies = policy["authorization"].as_array_mut().unwrap();
    policies.push(json!({
        "name": "planned", "mode": "shadow", "action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/api/*"]}}]}],
    }));
    policy["rateLimits"][0]["tokenBucket"] =
        json!({"maxTokens": 1, "tokensPerFill": 1, "fillInterval": "3600s"});
    policy["http"][0]["fault"] = json!({"abort": {"percentage": {"value": 100}, "httpStatus": 500}});
    sample.plugin().unwrap()["vm_config"]["environment_variables"] =
        json!({"key_values": {"KEYS": json!({"keys": [secret]}).to_string()}});
    sample.bootstrap()["application_log_config"] = json!({"log_format": {"json_format": {
        "time": "%Y-%m-%dT%T.%e%z", "level": "%l", "logger": "%n", "message": "%j",
    }}});
    let proxy = Proxy::new(sample.start(1).unwrap());
    let set = proxy.envoy.admin_post(&format!("/logging?{}={level}", component())).unwrap();
    assert_eq!(set.status, 200, "{}", set.text());
    Scene { proxy, secrets: vec![secret["k"].as_str().unwrap().to_owned()], _upstreams: upstreams }
}

impl Scene {
    /// One request for each way to be refused, with tokens in every place.
    fn send_everything(&mut self) {
        let (good, late) = (bearer(USER, TENANT), bearer_until(USER, TENANT, "-1h"));
        let (begin, end) = good.split_at(good.len() - 10);
        let tampered = format!("{begin}{}{}", if end.starts_with('A') { 'B' } else { 'A' }, &end[1..]);
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let claims = json!({"iss": "hmac", "sub": USER, "exp": "+1h"});
        let by_secret = token::sign("hmac1", "HS256", &serde_json::Map::new(), &claims, now).unwrap();
        for token in [&good, &late, &tampered, &by_secret] {
            self.secrets.extend(token.trim_start_matches("Bearer ").split('.').skip(1).map(str::to_owned));
        }
        let parameter = format!("/api/a?access_token={}", late.trim_start_matches("Bearer "));
        let by_secret = format!("Bearer {by_secret}");
        let role = ("user-role", "user");
        for (id, path, headers, status) in [
            ("missing", "/api/a", vec![], 401),
            ("late", "/api/a", vec![("authorization", late.as_str())], 401),
            ("parameter", &parameter, vec![], 401),
            ("tampered", "/api/a", vec![("authorization", &tampered)], 401),
            ("hmac", "/", vec![("authorization", &by_secret)], 200),
            ("no-role", "/api/a", vec![("authorization", &good)], 403),
            ("limited", "/api/a", vec![("authorization", &good), role], 429),
            ("aborted", "/", vec![("test-fault", "true")], 500),
            ("odd", "/api/%2e%2e%2fa", vec![], 400),
            ("quote\" event=x", "/api/a", vec![], 401),
        ] {
            let headers = [headers.as_slice(), &[("x-request-id", id)]].concat();
            assert_eq!(self.proxy.get(path, &headers).status, status, "{id}");
        }
    }

    /// The lines of the plugin, as Envoy writes them in JSON: level and message.
    fn lines(&self) -> Vec<(String, String)> {
        let log = self.proxy.envoy.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        lines
            .filter(|line| line["logger"] == component() && text(&line["message"]).contains("meshfilter: "))
            .map(|line| (text(&line["level"]), text(&line["message"])))
            .collect()
    }

    fn nothing_is_told_of(&self, secrets: &[&str]) {
        for (_, line) in self.lines() {
            for secret in self.secrets.iter().map(String::as_str).chain(secrets.iter().copied()) {
                assert!(!line.contains(secret), "{secret} in {line}");
                for hidden in [STANDARD.encode(secret), URL_SAFE_NO_PAD.encode(secret)] {
                    assert!(!line.contains(&hidden), "{secret} as {hidden} in {line}");
                }
            }
        }
    }
}

#[test]
fn at_trace_every_refusal_is_told_with_policy_rule_and_reason_and_no_secret() {
    let mut scene = scene("trace");
    scene.send_everything();
    let of = |id: &str| -> Vec<String> {
        let end = format!("request_id=\"{id}\"");
        let lines =
            scene.lines().into_iter().filter(|(level, line)| level == "debug" && line.ends_with(&end));
        lines
            .map(|(_, line)| {
                line.split_once("meshfilter: event=").unwrap().1.trim_end_matches(&end).trim().to_owned()
            })
            .collect()
    };
    wait_until("the last line", || (!of(r#"quote\" event=x"#).is_empty()).then_some(())).unwrap();
    let authn = |rule: &str, reason: &str| {
        format!("refused policy=\"authentication\" mode=enforce rule=\"{rule}\" reason=\"{reason}\"")
    };
    let sample = "https://auth.example.com";
    for (id, expected) in [
        ("missing", authn("hmac", "Jwt is missing")),
        ("late", authn(sample, "Jwt is expired")),
        ("parameter", authn(sample, "Jwt is expired")),
        ("tampered", authn(sample, "Jwt verification fails")),
        ("no-role", r#"refused policy="none" mode=enforce reason="no ALLOW policy matches""#.to_owned()),
        ("no-role", r#"refused policy="planned" mode=shadow rule=0 reason="a DENY rule matches""#.to_owned()),
        (
            "limited",
            r#"refused policy="per-user" mode=enforce reason="too few tokens" retry_after_ms="#.to_owned(),
        ),
        ("aborted", r#"aborted policy="fault-test" mode=enforce with="Http(500)""#.to_owned()),
        (r#"quote\" event=x"#, authn("hmac", "Jwt is missing")),
    ] {
        let lines = of(id);
        assert!(
            lines.iter().any(|line| line.starts_with(&expected)),
            "{id}: {expected} is not in {lines:#?}"
        );
    }
    scene.nothing_is_told_of(&[USER, TENANT]);
}

#[test]
fn at_info_requests_leave_no_line() {
    let mut scene = scene("info");
    let loaded = |(level, line): &(String, String)| level == "info" && line.contains("policy loaded");
    // The canary's, the main thread's and the worker's. A native worker loads its own with its first request.
    let expected = if is_native() {
        scene.proxy.get("/", &[]);
        2
    } else {
        3
    };
    wait_until("the policies are loaded", || {
        (scene.lines().iter().filter(|line| loaded(line)).count() >= expected).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", scene.proxy.envoy.log()));
    let before = scene.lines().len();
    scene.send_everything();
    // A change of the level is followed within a second: one more line proves that the others are not under way.
    scene.proxy.envoy.admin_post(&format!("/logging?{}=debug", component())).unwrap();
    wait_until("the last line", || {
        scene.proxy.get("/api/a", &[("x-request-id", "last")]);
        scene.lines().iter().any(|(_, line)| line.ends_with("request_id=\"last\"")).then_some(())
    })
    .unwrap();
    let about_requests: Vec<_> = scene.lines().split_off(before);
    assert!(
        about_requests.iter().all(|(_, line)| line.contains("request_id=\"last\"")),
        "{about_requests:#?}"
    );
    scene.nothing_is_told_of(&[USER, TENANT]);
}
