//! A thousand requests that wait for a key set in one worker, and then all go on in the same moment: Envoy must not
//! carry out so many answers one inside the other that the stack of the VM overflows.

use serde_json::json;

use crate::http2;
use crate::pair::{Listener, Request, SideBySide, ours, plugin};
use crate::support::envoy::{cluster, wait_until};
use crate::support::http::Upstream;
use crate::support::issuer::{Answer, Issuer, keys};
use crate::support::sign;

const REQUESTS: usize = 1000;

/// One Envoy whose issuer keeps it waiting, and what a bearer needs.
struct Waiting {
    issuer: Issuer,
    running: SideBySide,
    bearer: String,
    _upstream: Upstream,
}

impl Waiting {
    fn start(destination: &str, timeout: &str) -> Self {
        let issuer = Issuer::start(Answer::Later);
        let policy = json!({
            "authentication": {"jwtRules": [{
                "issuer": "https://auth.example.com",
                "jwksUri": "https://auth.example.com/keys",
                "jwksCluster": "auth",
                "timeout": timeout,
            }]},
            "http": [{"route": [{"destination": {"host": destination}}]}],
        });
        let upstream = Upstream::echo("patient").unwrap();
        let mut patient = cluster("patient", upstream.address());
        patient["circuit_breakers"] =
            json!({"thresholds": [{"max_connections": 20, "max_pending_requests": REQUESTS}]});
        let nobody =
            json!({"name": "nobody", "type": "STATIC", "load_assignment": {"cluster_name": "nobody"}});
        let running = SideBySide::start_with(
            &[Listener { name: "ours", filters: vec![plugin("meshfilter", &policy)], virtual_host: ours() }],
            vec![cluster("auth", issuer.address), patient, nobody],
        );
        let header = json!({"alg": "ES256", "kid": "ec256"}).to_string();
        let claims = json!({"iss": "https://auth.example.com", "sub": "alice", "exp": 9_999_999_999_u64});
        let token = sign::token("ec256", "ES256", header, claims.to_string()).unwrap();
        Waiting { issuer, running, bearer: format!("Bearer {token}"), _upstream: upstream }
    }

    /// Sends them, lets the issuer say this when all wait, and demands these `%RESPONSE_CODE_DETAILS%` of every answer.
    fn flood(&self, says: Answer, details: &str) {
        let address = self.running.addresses["ours"];
        std::thread::scope(|scope| {
            let headers = [("authorization", self.bearer.as_str())];
            let answers =
                scope.spawn(move || http2::ask_all(address, "/", &headers, REQUESTS, |_, _, _| Ok(())));
            wait_until("all wait for the keys", || (self.waiting() == REQUESTS as u64).then_some(()))
                .unwrap();
            self.issuer.says(says);
            assert_eq!(answers.join().unwrap().unwrap(), REQUESTS);
        });
        let lines = wait_until("the access log", || {
            let lines = self.running.envoy.access_log();
            (lines.len() == REQUESTS).then_some(lines)
        })
        .unwrap();
        let other = lines.iter().find(|line| line["details"] != details);
        assert_eq!(other, None, "{}", self.running.envoy.log());
    }

    /// No VM ended, nobody waits any more, and the next request with keys gets this answer.
    fn assert_unharmed(&self, status: u16) {
        let client = || self.running.client("ours");
        self.issuer.says(keys(&["ec256"]));
        let good = Request::new("GET", "/", &[("authorization", &self.bearer)]);
        wait_until("the keys", || (client().send(&good, "good").status == status).then_some(())).unwrap();
        for stat in ["vm_reload", "vm_reload_success", "vm_reload_failure", "vm_reload_backoff"] {
            assert_eq!(self.running.envoy.stat(&format!("wasm.meshfilter.{stat}")), 0, "{stat}");
        }
        let log = self.running.envoy.log();
        assert_eq!(log.lines().find(|line| line.contains("Function: proxy_on")), None);
        wait_until("nobody waits", || (self.waiting() == 0).then_some(())).unwrap();
    }

    fn waiting(&self) -> u64 {
        self.running.envoy.stat("wasmcustom.meshfilter_waiting_requests<reason=keys>")
    }
}

#[test]
fn a_thousand_go_on_to_an_upstream_when_the_keys_come() {
    let waiting = Waiting::start("patient", "60s");
    waiting.flood(keys(&["ec256"]), "via_upstream");
    waiting.assert_unharmed(200);
}

/// The router itself answers, as soon as the filter lets a request go on.
#[test]
fn a_thousand_go_on_to_a_cluster_without_endpoints_when_the_keys_come() {
    let waiting = Waiting::start("nobody", "60s");
    waiting.flood(keys(&["ec256"]), "no_healthy_upstream");
    waiting.assert_unharmed(503);
}

#[test]
fn a_thousand_are_refused_when_other_keys_come() {
    let waiting = Waiting::start("patient", "60s");
    waiting.flood(
        keys(&["rsa1"]),
        "jwt_authn_access_denied{Jwks_doesn't_have_key_to_match_kid_or_alg_from_Jwt}",
    );
    waiting.assert_unharmed(200);
}

#[test]
fn a_thousand_are_refused_when_no_keys_come() {
    let waiting = Waiting::start("patient", "2s");
    waiting.flood(Answer::Later, "jwt_authn_access_denied{Jwks_remote_fetch_is_failed}");
    waiting.assert_unharmed(200);
}
