use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};

use crate::{self as config, Errors};
use meshfilter_core::host::{HeaderMap, LocalReply};
use meshfilter_core::policy::{Decision, Facts, Mode, Policy, Step, Token, Verdict};
use meshfilter_core::request::Request;

mod paths;
mod peer;
mod values;

/// Compiles a document that is right.
pub fn compile(document: Value) -> Policy {
    config::compile(&document, &|_| None, Errors::default())
        .map_err(|errors| format!("{errors:?}"))
        .unwrap()
        .policy
}

/// A document with one policy that allows, or refuses, by one rule.
pub fn one(action: &str, rule: Value) -> Policy {
    compile(json!({"authorization": [{"name": "p", "action": action, "rules": [rule]}]}))
}

/// A request to be decided.
#[derive(Clone, Default)]
pub struct Asked {
    headers: Vec<(String, Vec<u8>)>,
    attributes: BTreeMap<String, Vec<u8>>,
    token: Option<Value>,
}

/// A GET.
pub fn get(path: &str) -> Asked {
    Asked::default().header(":method", "GET").header(":path", path).header(":authority", "example.com")
}

impl Asked {
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        if name.starts_with(':') {
            self.headers.retain(|(known, _)| known != name);
        }
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub fn attribute(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.attributes.insert(name.to_owned(), value.as_ref().to_vec());
        self
    }

    pub fn peer(self, uri: &str) -> Self {
        self.attribute("connection.uri_san_peer_certificate", uri)
    }

    pub fn token(mut self, claims: Value) -> Self {
        self.token = Some(claims);
        self
    }

    /// What becomes of it.
    pub fn decide(&self, policy: &Policy) -> (Step, Facts) {
        let headers: HeaderMap = self.headers.iter().map(|(name, value)| (name, value)).collect();
        let attribute = |path: &Vec<String>| self.attributes.get(&path.join(".")).cloned();
        let attributes = policy.attributes.paths().iter().map(attribute).collect();
        let request = Request::new(headers, attributes, 0);
        let token = |claims: &Value| {
            Rc::new(Token { rule: "rule".into(), claims: claims.as_object().unwrap().clone() })
        };
        let mut facts = Facts { token: self.token.as_ref().map(token), ..Facts::default() };
        let step = policy.authorization.authorize(&request, &mut facts);
        (step, facts)
    }

    /// The details of its refusal.
    pub fn refusal(&self, policy: &Policy) -> Option<(u16, String)> {
        match self.decide(policy) {
            (Step::Continue, facts) => {
                assert_eq!(facts.decision, Decision::Allowed);
                None
            }
            (Step::Reply(reply), facts) => {
                assert_eq!(facts.decision, Decision::AuthzDenied);
                Some((reply.status, reply.details))
            }
            (step, _) => panic!("{step:?}"),
        }
    }

    pub fn passes(&self, policy: &Policy) -> bool {
        self.refusal(policy).is_none()
    }

    pub fn words(&self, policy: &Policy) -> Vec<(String, &'static str, Mode)> {
        let verdict = |verdict: Verdict| (verdict.policy.to_string(), verdict.decision, verdict.mode);
        self.decide(policy).1.verdicts.into_iter().map(verdict).collect()
    }
}

fn denied(name: &str) -> Option<(u16, String)> {
    Some((403, format!("rbac_access_denied_matched_policy[{name}]")))
}

#[test]
fn without_a_policy_everything_passes() {
    assert!(get("/").passes(&compile(json!({}))));
    assert!(get("/a/../%2f").passes(&compile(json!({"authorization": []}))));
}

#[test]
fn rules_that_are_absent_never_match_and_an_empty_rule_always_does() {
    for (policy, expected) in [
        (json!({"name": "p"}), denied("none")),
        (json!({"name": "p", "action": "ALLOW", "rules": []}), denied("none")),
        (json!({"name": "p", "action": "ALLOW", "rules": [{}]}), None),
        (json!({"name": "p", "action": "DENY"}), None),
        (json!({"name": "p", "action": "DENY", "rules": [{}]}), denied("p")),
        (json!({"name": "p", "action": "AUDIT", "rules": [{}]}), None),
    ] {
        let document = json!({"authorization": [policy]});
        assert_eq!(get("/").refusal(&compile(document.clone())), expected, "{document}");
    }
}

#[test]
fn deny_comes_first_then_one_allow_has_to_match() {
    let rule = |path: &str| json!([{"to": [{"operation": {"paths": [path]}}]}]);
    let policy = compile(json!({"authorization": [
        {"name": "open", "rules": rule("/open*")},
        {"name": "second", "action": "DENY", "rules": rule("/open/secret*")},
        {"name": "third", "action": "DENY", "rules": rule("/open/secret/very")},
        {"name": "other", "rules": rule("/other")},
    ]}));
    assert!(get("/open").passes(&policy));
    assert!(get("/other").passes(&policy));
    assert_eq!(get("/open/secret/very").refusal(&policy), denied("second"), "the first in the document");
    assert_eq!(get("/closed").refusal(&policy), denied("none"));

    assert_eq!(get("/open").words(&policy), [("open".into(), "allowed", Mode::Enforce)]);
    assert_eq!(get("/open/secret").words(&policy), [("second".into(), "denied", Mode::Enforce)]);
    assert_eq!(
        get("/closed").words(&policy),
        [("open".into(), "denied", Mode::Enforce), ("other".into(), "denied", Mode::Enforce)]
    );
}

#[test]
fn a_policy_without_a_name_is_called_by_its_place() {
    let policy = compile(json!({"authorization": [{"rules": [{}]}, {"action": "DENY", "rules": [{}]}]}));
    assert_eq!(get("/").refusal(&policy), denied("authorization[1]"));
}

#[test]
fn the_parts_of_a_rule_hold_together_and_the_elements_of_a_part_apart() {
    let policy = one(
        "ALLOW",
        json!({
            "from": [{"source": {"remoteIpBlocks": ["10.0.0.0/8"]}}, {"source": {"remoteIpBlocks": ["192.0.2.1"]}}],
            "to": [
                {"operation": {"methods": ["GET"], "paths": ["/a"]}},
                {"operation": {"methods": ["POST", "PUT"], "paths": ["/b"]}},
            ],
            "when": [
                {"key": "request.headers[x-a]", "values": ["1", "2"]},
                {"key": "request.headers[x-b]", "notValues": ["1"]},
            ],
        }),
    );
    let ask = |method: &str, path: &str, from: &str, a: &str, b: &str| {
        get(path)
            .header(":method", method)
            .attribute("source.address", from)
            .header("x-a", a)
            .header("x-b", b)
            .passes(&policy)
    };
    assert!(ask("GET", "/a", "10.9.9.9:1", "1", "2"));
    assert!(ask("PUT", "/b", "192.0.2.1:1", "2", ""));
    assert!(!ask("GET", "/b", "10.9.9.9:1", "1", "2"));
    assert!(!ask("GET", "/a", "11.0.0.1:1", "1", "2"));
    assert!(!ask("GET", "/a", "10.9.9.9:1", "3", "2"));
    assert!(!ask("GET", "/a", "10.9.9.9:1", "1", "1"));
}

#[test]
fn shadow_says_what_it_would_have_done_and_changes_nothing() {
    let deny = json!({"name": "d", "action": "DENY", "mode": "shadow", "rules": [{}]});
    let policy = compile(json!({"authorization": [deny]}));
    assert!(get("/").passes(&policy));
    assert_eq!(get("/").words(&policy), [("d".into(), "denied", Mode::Shadow)]);

    // It does not count as an ALLOW policy, and does not let pass either.
    let none = json!({"name": "s", "mode": "shadow"});
    let policy = compile(json!({"authorization": [none]}));
    assert!(get("/").passes(&policy));
    assert_eq!(get("/").words(&policy), [("s".into(), "denied", Mode::Shadow)]);
    let all = json!({"name": "s", "mode": "shadow", "rules": [{}]});
    let policy = compile(json!({"authorization": [all, {"name": "e"}]}));
    assert_eq!(get("/").refusal(&policy), denied("none"));
    assert_eq!(
        get("/").words(&policy),
        [("e".into(), "denied", Mode::Enforce), ("s".into(), "allowed", Mode::Shadow)]
    );

    // Beside one that lets pass, one that does not match would have changed nothing.
    let policy = compile(json!({"authorization": [none, {"name": "e", "rules": [{}]}]}));
    assert_eq!(get("/").words(&policy), [("e".into(), "allowed", Mode::Enforce)]);
}

#[test]
fn audit_speaks_for_each_policy_that_matches_even_of_what_is_refused() {
    let rules = json!([{"to": [{"operation": {"methods": ["GET"]}}]}, {}]);
    let policy = compile(json!({"authorization": [
        {"name": "a", "action": "AUDIT", "rules": rules},
        {"name": "b", "action": "AUDIT", "rules": [{}], "mode": "shadow"},
        {"name": "c", "action": "AUDIT", "rules": [{"to": [{"operation": {"methods": ["PUT"]}}]}]},
        {"name": "d", "action": "DENY", "rules": [{}]},
    ]}));
    assert_eq!(
        get("/").words(&policy),
        [
            ("a".into(), "audited", Mode::Enforce),
            ("b".into(), "audited", Mode::Shadow),
            ("d".into(), "denied", Mode::Enforce)
        ]
    );
}

#[test]
fn a_policy_may_have_its_own_refusal() {
    let policy = compile(json!({"authorization": [
        {"name": "d", "action": "DENY", "rules": [{"to": [{"operation": {"methods": ["PUT"]}}]}],
         "deny": {"status": 404, "body": "not found", "headers": {"X-Why": "hidden"}}},
        {"name": "plain", "rules": [{"to": [{"operation": {"methods": ["PUT"]}}]}]},
        {"name": "a", "rules": [{"to": [{"operation": {"methods": ["PUT"]}}]}], "deny": {"body": "ask for access"}},
    ]}));
    let reply = |asked: Asked| match asked.decide(&policy).0 {
        Step::Reply(reply) => *reply,
        step => panic!("{step:?}"),
    };
    assert_eq!(
        reply(get("/").header(":method", "PUT")),
        LocalReply {
            status: 404,
            details: "rbac_access_denied_matched_policy[d]".into(),
            body: b"not found".to_vec(),
            headers: vec![("x-why".into(), b"hidden".to_vec())],
            grpc_status: None,
        }
    );
    // Nobody's rule matched: the first ALLOW policy that has something to say says it.
    assert_eq!(
        reply(get("/")),
        LocalReply {
            status: 403,
            details: "rbac_access_denied_matched_policy[none]".into(),
            body: b"ask for access".to_vec(),
            ..LocalReply::default()
        }
    );
}

#[test]
fn a_request_without_path_method_and_host_is_decided() {
    for rule in [
        json!({"to": [{"operation": {"paths": ["*"]}}]}),
        json!({"to": [{"operation": {"methods": ["*"]}}]}),
        json!({"to": [{"operation": {"hosts": ["*"]}}]}),
        json!({"to": [{"operation": {"paths": ["/{**}"]}}]}),
    ] {
        assert_eq!(Asked::default().refusal(&one("ALLOW", rule.clone())), denied("none"), "{rule}");
        assert_eq!(Asked::default().refusal(&one("DENY", rule.clone())), None, "{rule}");
    }
    let not = json!({"to": [{"operation": {"notPaths": ["/public/*"]}}]});
    assert_eq!(Asked::default().refusal(&one("DENY", not)), denied("p"));
}

#[test]
fn a_thousand_rules_decide_as_one_by_one() {
    let rule = |path: Value| json!({"to": [{"operation": path}]});
    let mut rules: Vec<Value> = (0..1000).map(|n| rule(json!({"paths": [format!("/exact/{n}")]}))).collect();
    rules.push(rule(json!({"paths": ["/prefix/*", "/other/*"], "methods": ["GET"]})));
    rules.push(rule(json!({"paths": ["/t/{*}/x"]})));
    rules.push(rule(json!({"paths": ["*.css"]})));
    rules.push(rule(
        json!({"notPaths": ["/exact/*", "/p*", "/o*", "/t/*", "/z*", "/;*"], "methods": ["DELETE"]}),
    ));
    rules.push(json!({"when": [{"key": "request.headers[x-root]", "values": ["1"]}]}));
    rules.push(json!({"to": [{"operation": {"paths": ["/z/1"]}}, {"operation": {"paths": ["/z/2/*"]}}]}));
    let many = compile(json!({"authorization": [{"rules": rules}]}));
    let single: Vec<Policy> = rules.iter().map(|rule| one("ALLOW", rule.clone())).collect();
    let mut passed = 0;
    for path in [
        "/exact/0",
        "/exact/999",
        "/exact/1000",
        "/exact/7;v=1",
        "/prefix/a",
        "/prefix",
        "/other/",
        "/t/a/x",
        "/t/a/y",
        "/a.css",
        "/q",
        "/z/1",
        "/z/2",
        "/z/2/3",
        "/z/2;a/3",
        "*",
        "",
    ] {
        for method in ["GET", "DELETE"] {
            for root in ["0", "1"] {
                let asked = get(path).header(":method", method).header("x-root", root);
                let expected = single.iter().any(|policy| asked.passes(policy));
                assert_eq!(asked.passes(&many), expected, "{method} {path} {root}");
                passed += usize::from(expected);
            }
        }
    }
    assert!((20..60).contains(&passed), "{passed}");
}
