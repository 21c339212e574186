//! Key sets over HTTP in a real Envoy, from an issuer with a real socket: slow, dead, wrong and changing its keys.

#[path = "support/hostile.rs"]
mod hostile;
mod support;

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use meshfilter::policy::authentication::{Location, Url};
use serde_json::{Value, json};
use support::envoy::{self, Bootstrap, Configuration, Envoy, Upstreams, wait_until};
use support::http::{Response, request};
use support::issuer::{Answer, Issuer, http, keys};
use support::sign;

/// What Envoy says where no key has the name that the token gives.
const MISMATCH: &str = "Jwks doesn't have key to match kid or alg from Jwt";

struct Running {
    envoy: Envoy,
    address: SocketAddr,
    _upstreams: Upstreams,
}

fn start(issuer: &Issuer, workers: u32, more: Value) -> Running {
    start_with(issuer, workers, more, |_| {})
}

fn start_with(issuer: &Issuer, workers: u32, more: Value, change: impl Fn(&mut Bootstrap)) -> Running {
    let mut rule = json!({
        "issuer": "https://auth.example.com",
        "jwksUri": "https://auth.example.com/keys",
        "jwksCluster": "auth",
    });
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => rule.as_object_mut().unwrap().remove(name),
            value => rule.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    let policy = json!({
        "authentication": {"jwtRules": [rule]},
        "http": [{"directResponse": {"status": 200, "body": {"string": "in"}}}],
    });
    let upstreams = Upstreams::start().unwrap();
    let mut bootstrap = Bootstrap::new(Configuration::Struct(policy), &upstreams);
    bootstrap.workers = workers;
    bootstrap.cluster("auth", issuer.address);
    change(&mut bootstrap);
    let envoy = Envoy::start(&bootstrap).unwrap();
    let address = envoy.address().unwrap();
    Running { envoy, address, _upstreams: upstreams }
}

fn token(key: &str) -> String {
    let claims = json!({"iss": "https://auth.example.com", "sub": key, "exp": 9_999_999_999_u64});
    let header = json!({"alg": if key == "ec256" { "ES256" } else { "RS256" }, "kid": key});
    let algorithm = header["alg"].as_str().unwrap().to_owned();
    let token = sign::token(key, &algorithm, header.to_string(), claims.to_string()).unwrap();
    format!("Bearer {token}")
}

impl Running {
    fn ask(&self, token: &str) -> Response {
        request(self.address, "/", &[("authorization", token)]).unwrap()
    }

    fn status(&self, token: &str) -> u16 {
        self.ask(token).status
    }
}

#[test]
fn a_thousand_tokens_on_a_cold_start_cost_one_fetch() {
    let body = http("200 OK", &sign::jwks(&["ec256"]).to_string());
    let issuer = Issuer::start(Answer::Late(Duration::from_millis(500), body));
    let running = start(&issuer, 4, json!({}));
    let good = token("ec256");
    let begin = Barrier::new(50);
    let good_ones = thread::scope(|scope| {
        let ask = || {
            begin.wait();
            (0..20).filter(|_| running.status(&good) == 200).count()
        };
        let clients: Vec<_> = (0..50).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>()
    });
    assert_eq!(good_ones, 1_000, "{}", running.envoy.log());
    assert_eq!(issuer.asked(), 1);
}

#[test]
fn keys_change_without_a_lost_request_and_unknown_ones_are_looked_for_once() {
    let issuer = Issuer::start(keys(&["rsa1"]));
    let running = start(&issuer, 2, json!({}));
    assert_eq!(running.status(&token("rsa1")), 200);
    assert_eq!(issuer.asked(), 1);
    issuer.says(keys(&["rsa1", "rsa2"]));
    assert_eq!(running.status(&token("rsa2")), 200, "the first token of a new key");
    assert_eq!(issuer.asked(), 2);
    for _ in 0..20 {
        let refused = running.ask(&token("ec256"));
        assert_eq!((refused.status, refused.text().as_str()), (401, MISMATCH));
        assert_eq!(running.status(&token("rsa1")), 200);
    }
    assert_eq!(issuer.asked(), 2, "five seconds have not passed");
}

#[test]
fn an_issuer_that_says_nothing_good_is_503_in_time_and_is_asked_again() {
    for answer in [
        Answer::Nothing,
        Answer::Late(Duration::from_secs(60), Vec::new()),
        Answer::Bytes(b"garbage\r\n\r\n".to_vec()),
        Answer::Bytes(http("302 Found\r\nlocation: /elsewhere", "")),
        Answer::Bytes(http("500 Internal Server Error", &sign::jwks(&["rsa1"]).to_string())),
        Answer::Bytes(http("200 OK", "<html>")),
        Answer::Bytes(http("200 OK", r#"{"keys": []}"#)),
        Answer::Endless(2 * 1024 * 1024),
        Answer::Endless(100 * 1024 * 1024),
    ] {
        let issuer = Issuer::start(answer);
        let running = start(&issuer, 1, json!({"timeout": "1s"}));
        let begin = Instant::now();
        let refused = running.ask(&token("rsa1"));
        assert_eq!((refused.status, refused.text().as_str()), (503, "Jwks remote fetch is failed"));
        assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
        assert_eq!(request(running.address, "/", &[]).unwrap().status, 401, "no token at all");
        issuer.says(keys(&["rsa1"]));
        let good = token("rsa1");
        wait_until("the keys", || (running.status(&good) == 200).then_some(())).unwrap();
        assert!(running.envoy.stat("wasm.meshfilter.vm_reload") == 0, "{}", running.envoy.log());
    }
}

#[test]
fn known_keys_go_on_while_the_issuer_is_down() {
    let issuer = Issuer::start(keys(&["rsa1"]));
    let running = start(&issuer, 2, json!({"jwksCacheDuration": "1s"}));
    let good = token("rsa1");
    assert_eq!(running.status(&good), 200);
    issuer.says(Answer::Nothing);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(4) {
        assert_eq!(running.status(&good), 200);
        thread::sleep(Duration::from_millis(20));
    }
    assert!(issuer.asked() >= 2, "it was asked again");
    assert!(issuer.asked() <= 6, "and not in a storm: {}", issuer.asked());
}

#[test]
fn discovery_finds_the_keys() {
    let issuer = Issuer::start(Answer::Nothing);
    let configuration = json!({
        "issuer": "https://auth.example.com",
        "jwks_uri": "https://auth.example.com/found",
        // One answer for both questions.
        "keys": sign::jwks(&["rsa1"])["keys"],
    });
    issuer.says(Answer::Bytes(http("200 OK", &configuration.to_string())));
    let running = start(&issuer, 1, json!({"jwksUri": null}));
    assert_eq!(running.status(&token("rsa1")), 200);
    let asked = issuer.requests();
    let paths: Vec<_> = asked.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(paths, ["/.well-known/openid-configuration", "/found"]);
}

/// Another plugin puts its own keys in place of the issuer's, two hundred times a second.
#[test]
fn another_plugin_cannot_replace_a_key_set() {
    let url = Url::parse("https://auth.example.com/keys").unwrap();
    let place = Location::KeySet(url).shared_key("auth");
    let module = hostile::write(&place, &sign::jwks(&["rsa2"]));
    // What the rule says, the plugin's `vm_id`, and how often two workers and the main thread ask the issuer, at least and at
    // most.
    for (more, vm_id, least, most) in
        [(json!({}), "", 1, 30), (json!({"jwksShared": false}), "", 3, 3), (json!({}), "meshfilter", 1, 1)]
    {
        let issuer = Issuer::start(keys(&["rsa1"]));
        let running = start_with(&issuer, 2, more.clone(), |bootstrap| {
            bootstrap.other_module = Some(module.clone());
            bootstrap.plugin[2] = vm_id.to_owned();
        });
        let (good, forged) = (token("rsa1"), token("rsa2"));
        assert_eq!(running.status(&good), 200, "{more} {vm_id}");
        let written = || running.envoy.log().matches(hostile::WRITTEN).count();
        let before = written();
        // Three seconds of writing: every worker looks each second.
        wait_until("the other plugin", || {
            let answer = running.ask(&good);
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, "in"),
                "{more} {vm_id} {}",
                issuer.asked()
            );
            (written() > before + 600).then_some(())
        })
        .unwrap();
        let asked = issuer.asked();
        // The native module shares its own memory, and no other plugin's.
        let least = if envoy::native::is_native() { 1 } else { least };
        assert!((least..=most).contains(&asked), "{more} {vm_id}: {asked}");
        for _ in 0..20 {
            assert_eq!(running.status(&forged), 401, "{more} {vm_id}");
            assert_eq!(running.status(&good), 200, "{more} {vm_id}");
        }
    }
}
