use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{self as config, Errors};
use meshfilter_core::host::fake::Fake;
use meshfilter_core::host::{Host, LocalReply};
use meshfilter_core::matchers::ClaimPath;
use meshfilter_core::policy::{Decision, Facts, Mode, Policy, Step};
use meshfilter_core::request::{HeaderEdit, Request};

const KEY: &str = include_str!("../../../tests/keys/hmac1.json");

/// A policy with a proxy around it.
struct Bench {
    policy: Policy,
    host: Fake,
}

/// What became of a request.
struct Outcome {
    step: Step,
    request: Request<'static>,
    facts: Facts,
}

impl Bench {
    fn new(section: Value) -> Self {
        let host = Fake::new();
        let compiled = config::compile(&json!({"authentication": section}), &|_| None, Errors::default());
        let mut policy = compiled.unwrap_or_else(|errors| panic!("{errors:?}")).policy;
        policy.start(&host);
        Bench { policy, host }
    }

    fn send(&self, headers: &[(&str, &str)]) -> Outcome {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        self.send_bytes(&headers)
    }

    fn send_bytes(&self, headers: &[(&str, &[u8])]) -> Outcome {
        let defaults: [(&str, &[u8]); 4] =
            [(":method", b"GET"), (":scheme", b"https"), (":authority", b"example.com"), (":path", b"/")];
        let missing = defaults.iter().filter(|(name, _)| headers.iter().all(|(given, _)| given != name));
        let mut request =
            Request::new(missing.chain(headers).copied().collect(), Vec::new(), self.host.now());
        let mut facts = Facts::default();
        let _ = self.policy.sanitize(&mut request, &mut facts, &self.host);
        let step = self.policy.authentication.authenticate(&mut request, &mut facts, &self.host);
        Outcome { step, request, facts }
    }

    /// What a request with this token in its `authorization` is told.
    fn told(&self, token: &str) -> String {
        self.send(&[("authorization", &format!("Bearer {token}"))]).told()
    }

    fn now(&self) -> u64 {
        self.host.wall_clock().as_secs()
    }

    fn counter(&self, name: &str) -> u64 {
        self.host.metric_value(&format!("meshfilter_jwt_cache_{name}_total"))
    }
}

impl Outcome {
    fn reply(&self) -> &LocalReply {
        match &self.step {
            Step::Reply(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// Status and body, or `passes`.
    fn told(&self) -> String {
        match &self.step {
            Step::Continue => "passes".to_owned(),
            _ => format!("{} {}", self.reply().status, String::from_utf8_lossy(&self.reply().body)),
        }
    }

    fn header<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        self.request.header_values(name).map(|value| std::str::from_utf8(value).unwrap()).collect()
    }
}

fn key_set() -> Value {
    json!({"keys": [serde_json::from_str::<Value>(KEY).unwrap()]})
}

/// A rule for tokens of `issuer`, signed with the test secret.
fn rule(issuer: &str, members: Value) -> Value {
    let mut rule = json!({"name": issuer, "issuer": issuer, "jwks": key_set(), "algorithms": ["HS256"]});
    rule.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    rule
}

fn one_rule(members: Value) -> Bench {
    Bench::new(json!({"jwtRules": [rule("i", members)]}))
}

/// Two rules, each with its own header for tokens and its own for the subject, and one requirement.
fn two_rules(require: Value) -> Bench {
    let of = |name: &str| {
        let claims = json!([{"header": format!("x-user-{name}"), "claim": "sub"}]);
        rule(name, json!({"fromHeaders": [{"name": name}], "outputClaimToHeaders": claims}))
    };
    Bench::new(json!({"jwtRules": [of("a"), of("b")], "requirements": [{"require": require}]}))
}

fn encode(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

fn sign(header: &str, payload: impl AsRef<[u8]>) -> String {
    let key: Value = serde_json::from_str(KEY).unwrap();
    let secret = URL_SAFE_NO_PAD.decode(key["k"].as_str().unwrap()).unwrap();
    let text = format!("{}.{}", encode(header), encode(payload));
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
    mac.update(text.as_bytes());
    format!("{text}.{}", encode(mac.finalize().into_bytes()))
}

fn token(claims: Value) -> String {
    sign(r#"{"alg":"HS256","kid":"hmac1"}"#, claims.to_string())
}

fn good(issuer: &str) -> String {
    token(json!({"iss": issuer, "sub": "alice"}))
}

/// The token with a signature that nobody made.
fn forge(token: &str) -> String {
    let (signed, _) = token.rsplit_once('.').unwrap();
    format!("{signed}.{}", "A".repeat(43))
}

#[test]
fn a_good_token_is_taken_out_and_its_claims_are_told() {
    let bench = one_rule(json!({
        "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}],
        "outputPayloadToHeader": "x-payload",
    }));
    let token = good("i");
    let outcome =
        bench.send(&[("authorization", &format!("Bearer {token}")), ("x-user", "root"), ("x-user", "me")]);
    assert_eq!(outcome.step, Step::Continue);
    assert_eq!(outcome.header("authorization"), Vec::<&str>::new());
    assert_eq!(outcome.header("x-user"), ["alice"]);
    assert_eq!(outcome.header("x-payload"), [token.split('.').nth(1).unwrap()]);
    let token = outcome.facts.token.as_ref().unwrap();
    assert_eq!((&*token.rule, &token.claims["sub"]), ("i", &json!("alice")));
    let verdict = &outcome.facts.verdicts[0];
    assert_eq!(
        (&*verdict.policy, verdict.decision, verdict.mode),
        ("authentication", "allowed", Mode::Enforce)
    );
    assert_eq!(outcome.facts.decision, Decision::Allowed);
}

#[test]
fn what_a_client_says_of_itself_is_removed_even_without_a_token() {
    let output = json!({"outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}]});
    for section in [
        json!({"jwtRules": [rule("i", output.clone())], "requirements": [{"require": "none"}]}),
        json!({"jwtRules": [rule("i", output.clone())], "requirements": [{"require": "permissive"}]}),
        json!({"jwtRules": [rule("i", output.clone())], "mode": "shadow"}),
    ] {
        let outcome = Bench::new(section.clone()).send(&[("x-user", "root")]);
        assert_eq!((outcome.told().as_str(), outcome.header("x-user")), ("passes", vec![]), "{section}");
    }
    let preflight = [
        (":method", "OPTIONS"),
        ("origin", "a"),
        ("access-control-request-method", "GET"),
        ("x-user", "root"),
    ];
    assert_eq!(one_rule(output).send(&preflight).header("x-user"), Vec::<&str>::new());
}

#[test]
fn every_check_has_envoys_words_and_order() {
    let bench = one_rule(json!({"audiences": ["https://api/"], "requireExpiration": true}));
    let now = bench.now();
    let claims = |changes: Value| {
        let mut claims = json!({"iss": "i", "aud": "api", "exp": now + 100});
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        claims
    };
    let with = |changes: Value| token(claims(changes));
    let forged = |changes: Value| forge(&with(changes));
    for (token, expected) in [
        (with(json!({})), "passes"),
        (with(json!({"aud": ["x", "http://api"]})), "passes"),
        (with(json!({"exp": now - 59})), "passes"),
        (forged(json!({"iss": "j", "exp": now - 100, "aud": "x"})), "401 Jwt issuer is not configured"),
        (with(json!({"iss": null})), "401 Jwt issuer is not configured"),
        (forged(json!({"exp": now - 60, "aud": "x"})), "401 Jwt is expired"),
        (with(json!({"nbf": now + 61})), "401 Jwt not yet valid"),
        (forged(json!({"aud": "x", "exp": null})), "403 Audiences in Jwt are not allowed"),
        (with(json!({"aud": null})), "403 Audiences in Jwt are not allowed"),
        (forged(json!({"exp": null})), "401 Jwt verification fails"),
        (with(json!({"exp": null})), "401 Jwt verification fails"),
        (
            sign(r#"{"alg":"HS256","kid":"other"}"#, claims(json!({})).to_string()),
            "401 Jwks doesn't have key to match kid or alg from Jwt",
        ),
        (with(json!({"exp": 0})), "401 Jwt payload [exp] field is not a positive 64 bit integer"),
        (with(json!({"sub": 7})), "401 Jwt payload [sub] field is not a string"),
        (
            "a.b".to_owned(),
            "401 Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
        ),
        (String::new(), "401 Jwt is missing"),
    ] {
        let bearer = format!("Bearer {token}");
        let outcome = bench.send(&[("authorization", bearer.trim_end())]);
        assert_eq!(outcome.told(), expected, "{token}");
        if expected != "passes" {
            assert_eq!(outcome.request.header("authorization"), Some(bearer.trim_end().as_bytes()));
            assert_eq!(outcome.facts.decision, Decision::AuthnDenied);
            assert_eq!(outcome.facts.verdicts[0].decision, "denied");
            assert!(outcome.facts.token.is_none());
        }
    }
    let token = with(json!({}));
    let parts: Vec<&str> = token.split('.').collect();
    let payload = encode(claims(json!({"sub": "root"})).to_string());
    let tampered = [parts[0], &payload, parts[2]].join(".");
    assert_eq!(bench.told(&tampered), "401 Jwt verification fails");
}

#[test]
fn odd_bytes_and_sizes_are_refused_and_the_next_request_works() {
    let bench = one_rule(json!({}));
    let huge = format!("Bearer {}", "a".repeat(70_000));
    for value in [&b"Bearer a\xffb.c.d"[..], b"\x80\x81", b"Bearer ..", huge.as_bytes(), b"", b"Bearer \xff"]
    {
        let outcome = bench.send_bytes(&[("authorization", value)]);
        assert_eq!(outcome.reply().status, 401);
        assert_eq!(bench.told(&good("i")), "passes");
    }
    let no_path = Request::new([(":method", "CONNECT")].into_iter().collect(), Vec::new(), 0);
    let mut request = no_path;
    let step = bench.policy.authentication.authenticate(&mut request, &mut Facts::default(), &bench.host);
    assert!(matches!(step, Step::Reply(reply) if reply.status == 401));
}

#[test]
fn all_tokens_of_a_rule_have_to_be_good() {
    let bench = one_rule(json!({"outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}]}));
    let (alice, bob) = (good("i"), token(json!({"iss": "i", "sub": "bob"})));
    let both = |first: &str, second: &str| {
        bench.send(&[
            ("authorization", &format!("Bearer {first}")),
            ("authorization", &format!("Bearer {second}")),
        ])
    };
    assert_eq!(both(&alice, "a.b.c").told(), "401 Jwt header is an invalid Base64url encoded");
    assert_eq!(both("a.b.c", &alice).told(), "401 Jwt header is an invalid Base64url encoded");
    assert_eq!(both(&alice, &bob).told(), "401 Found multiple Jwt tokens");
    let path = format!("/?access_token={bob}x");
    let in_param = bench.send(&[("authorization", &format!("Bearer {alice}")), (":path", &path)]);
    assert_eq!(in_param.reply().status, 401);
    let flood: Vec<String> = (0..20).map(|_| format!("Bearer {alice}")).collect();
    let flood: Vec<_> = flood.iter().map(|value| ("authorization", value.as_str())).collect();
    assert_eq!(bench.send(&flood).told(), "401 Found multiple Jwt tokens");
}

/// In the header, and in the parameter beside it.
fn two_places(first: &str, second: &str) -> [(&'static str, String); 2] {
    [("authorization", format!("Bearer {first}")), (":path", format!("/?access_token={second}"))]
}

#[test]
fn of_one_rule_there_is_one_identity_in_a_request() {
    let output = json!([{"header": "x-user", "claim": "sub"}, {"header": "x-tenant", "claim": "tenant"}]);
    let enforced = one_rule(json!({"outputClaimToHeaders": output}));
    let permissive = Bench::new(json!({
        "jwtRules": [rule("i", json!({"outputClaimToHeaders": output}))],
        "requirements": [{"require": "permissive"}],
    }));
    let of = |claims: Value| token(claims);
    let alice = of(json!({"iss": "i", "sub": "alice"}));
    let alice_of_acme = of(json!({"iss": "i", "sub": "alice", "tenant": "acme"}));
    let bob = of(json!({"iss": "i", "sub": "bob", "tenant": "umbrella"}));
    let nobody = of(json!({"iss": "i"}));
    let nobody_of_acme = of(json!({"iss": "i", "tenant": "acme"}));
    let send = |bench: &Bench, first: &str, second: &str| {
        let headers = two_places(first, second);
        bench.send(&headers.each_ref().map(|(name, value)| (*name, value.as_str())))
    };
    // The first one's claims, or that they are of two.
    for (first, second, expected) in [
        (&alice, &bob, None),
        (&bob, &alice, None),
        (&alice, &nobody, None),
        (&nobody, &nobody_of_acme, None),
        (&alice, &alice_of_acme, Some((vec!["alice"], vec![]))),
        (&alice_of_acme, &alice, Some((vec!["alice"], vec!["acme"]))),
        (&nobody_of_acme, &nobody_of_acme, Some((vec![], vec!["acme"]))),
    ] {
        let (strict, lenient) = (send(&enforced, first, second), send(&permissive, first, second));
        let told = |outcome: &Outcome| {
            let texts = |name| outcome.header(name).into_iter().map(str::to_owned).collect::<Vec<_>>();
            (texts("x-user"), texts("x-tenant"))
        };
        match expected {
            None => {
                assert_eq!(strict.told(), "401 Found multiple Jwt tokens");
                assert_eq!((lenient.told().as_str(), told(&lenient)), ("passes", (vec![], vec![])));
                assert!(lenient.facts.token.is_none());
            }
            Some(expected) => {
                for outcome in [strict, lenient] {
                    let (user, tenant) = told(&outcome);
                    assert_eq!(
                        (user, tenant),
                        (
                            expected.0.iter().map(|it| it.to_string()).collect(),
                            expected.1.iter().map(|it: &&str| it.to_string()).collect::<Vec<_>>()
                        )
                    );
                    assert_eq!(
                        (outcome.header("authorization"), outcome.header(":path")),
                        (vec![], vec!["/"]),
                        "both are taken out"
                    );
                }
            }
        }
    }
}

#[test]
fn claims_of_two_rules_are_never_put_together() {
    let of = |name: &str| {
        rule(
            name,
            json!({
                "fromHeaders": [{"name": name}],
                "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}, {"header": format!("x-of-{name}"), "claim": "sub"}],
            }),
        )
    };
    let rules = [of("a"), of("b")];
    let (a, b) = (good("a"), token(json!({"iss": "b", "sub": "bob", "role": "admin"})));
    let nameless = token(json!({"iss": "a"}));
    for require in [json!("all"), json!("permissive"), json!({"all": ["b", "a", {"any": ["a", "b"]}]})] {
        let bench = Bench::new(json!({"jwtRules": rules, "requirements": [{"require": require}]}));
        let outcome = bench.send(&[("a", &a), ("b", &b)]);
        assert_eq!(outcome.told(), "passes");
        assert_eq!(outcome.header("x-user"), ["alice"], "the first rule's in the document, {require}");
        assert_eq!((outcome.header("x-of-a"), outcome.header("x-of-b")), (vec!["alice"], vec!["bob"]));
        let claim = |name: &str| outcome.facts.claim(&ClaimPath::parse(name).unwrap());
        assert_eq!((claim("sub"), claim("role")), (Some(&json!("alice")), None));
        let outcome = bench.send(&[("a", &nameless), ("b", &b)]);
        assert_eq!(
            (outcome.told().as_str(), outcome.header("x-user")),
            ("passes", vec![]),
            "it is nobody's else"
        );
    }
}

#[test]
fn a_request_costs_so_many_signatures_and_no_more() {
    let section = |keys: usize, require: &str| {
        let keys: Vec<Value> = (0..keys)
            .map(|at| json!({"kty": "oct", "k": encode([at as u8; 32])}))
            .chain([key_set()["keys"][0].clone()])
            .collect();
        json!({"jwtRules": [rule("i", json!({"jwks": {"keys": keys}}))], "requirements": [{"require": require}]})
    };
    let unnamed = sign(r#"{"alg":"HS256"}"#, json!({"iss": "i"}).to_string());
    assert_eq!(Bench::new(section(3, "any")).told(&unnamed), "passes", "the fourth key");
    assert_eq!(Bench::new(section(4, "any")).told(&unnamed), "401 Jwt verification fails");
    // Sixteen forged tokens, and the good one first: they are looked at from the last to the first.
    let bench = Bench::new(section(0, "permissive"));
    let flood = |forged: usize| {
        let bearers: Vec<String> = std::iter::once(good("i"))
            .chain((0..forged).map(|at| forge(&token(json!({"iss": "i", "sub": at.to_string()})))))
            .map(|token| format!("Bearer {token}"))
            .collect();
        let headers: Vec<_> = bearers.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        bench.send(&headers).facts.token.is_some()
    };
    assert!(!flood(4));
    assert!(flood(3));
    assert!(flood(15), "what is known costs nothing");
}

#[test]
fn the_scheme_has_no_case() {
    let good = good("i");
    for prefix in ["Bearer ", "bearer ", "BEARER ", "bEaReR   ", "Bearer\t", "Basic x, bearer "] {
        for rule in [json!({}), json!({"fromHeaders": [{"name": "authorization", "prefix": "Bearer "}]})] {
            let bench = Bench::new(
                json!({"jwtRules": [self::rule("i", rule)], "requirements": [{"require": "optional"}]}),
            );
            let outcome = bench.send(&[("authorization", &format!("{prefix}{good}"))]);
            assert_eq!(outcome.told(), "passes", "{prefix:?}");
            assert!(outcome.facts.token.is_some(), "{prefix:?}");
            assert_eq!(outcome.header("authorization"), Vec::<&str>::new());
            let forged = bench.send(&[("authorization", &format!("{prefix}{}", forge(&good)))]);
            assert_eq!(forged.told(), "401 Jwt verification fails", "{prefix:?}");
        }
    }
    let other = one_rule(json!({"fromHeaders": [{"name": "x-token", "prefix": "Token "}]}));
    assert_eq!(other.send(&[("x-token", &format!("token {good}"))]).told(), "401 Jwt is missing");
}

#[test]
fn a_token_is_taken_out_of_every_place_unless_it_is_forwarded() {
    let places = json!({"fromHeaders": [{"name": "x-jwt"}], "fromParams": ["t"], "fromCookies": ["t"]});
    let token = good("i");
    let path = format!("/a?x=1&t={token}&y=%20");
    let cookie = format!("a=1; t={token}; b=2");
    let headers = [(":path", path.as_str()), ("x-jwt", &token), ("cookie", &cookie)];
    let outcome = one_rule(places.clone()).send(&headers);
    assert_eq!(outcome.told(), "passes");
    assert_eq!(outcome.header(":path"), ["/a?x=1&y=%20"]);
    assert_eq!(outcome.header("x-jwt"), Vec::<&str>::new());
    assert_eq!(outcome.header("cookie"), ["a=1; b=2"]);
    let mut forwarding = places;
    forwarding["forwardOriginalToken"] = json!(true);
    let mut outcome = one_rule(forwarding).send(&headers);
    assert_eq!(outcome.told(), "passes");
    assert_eq!(outcome.request.take_edits(), []);
}

#[test]
fn requirements_say_which_tokens_are_needed() {
    let (a, b, bad) = (good("a"), good("b"), "a.b.c");
    let missing = "401 Jwt is missing";
    let broken = "401 Jwt header is an invalid Base64url encoded";
    for (require, expected) in [
        // nothing, a, b, both, bad a, bad a and b
        (json!("any"), [missing, "a", "b", "a", broken, "b"]),
        (json!("all"), [missing, missing, missing, "ab", broken, broken]),
        (json!("optional"), ["", "a", "b", "a", broken, "b"]),
        (json!("permissive"), ["", "a", "b", "ab", "", "b"]),
        (json!("none"), ["", "", "", "", "", ""]),
        (json!({"all": ["a", {"optional": "b"}]}), [missing, "a", missing, "ab", broken, broken]),
        (json!({"any": [{"all": ["a", "b"]}, "b"]}), [missing, missing, "b", "ab", broken, "b"]),
        (json!({"optional": {"all": ["a", "b"]}}), ["", missing, missing, "ab", broken, broken]),
        (json!({"all": [{"permissive": "a"}, "b"]}), [missing, missing, "b", "ab", missing, "b"]),
    ] {
        let bench = two_rules(require.clone());
        let requests: [&[(&str, &str)]; 6] = [
            &[],
            &[("a", &a)],
            &[("b", &b)],
            &[("a", &a), ("b", &b)],
            &[("a", bad)],
            &[("a", bad), ("b", &b)],
        ];
        for (headers, expected) in requests.iter().zip(expected) {
            let outcome = bench.send(headers);
            let told = match &outcome.step {
                Step::Continue => {
                    let is_told = |name: &&str| !outcome.header(&format!("x-user-{name}")).is_empty();
                    let names: Vec<&str> = ["a", "b"].into_iter().filter(is_told).collect();
                    for name in &names {
                        assert!(outcome.header(name).is_empty(), "it is taken out");
                    }
                    let first = outcome.facts.token.as_ref().map(|token| &*token.rule);
                    assert_eq!(first, names.first().copied(), "the first rule's speaks for the request");
                    names.concat()
                }
                _ => outcome.told(),
            };
            assert_eq!(told, expected, "{require} {headers:?}");
        }
    }
}

#[test]
fn the_first_requirement_that_matches_decides() {
    let bench = Bench::new(json!({
        "jwtRules": [rule("i", json!({}))],
        "requirements": [
            {"match": [{"uri": {"prefix": "/health"}}, {"uri": {"exact": "/metrics"}}], "require": "none"},
            {"match": [{"method": {"exact": "GET"}}], "require": "optional"},
        ],
    }));
    let told = |method: &str, path: &str| bench.send(&[(":method", method), (":path", path)]).told();
    assert_eq!(told("POST", "/healthz"), "passes");
    assert_eq!(told("POST", "/metrics?x"), "passes");
    assert_eq!(told("GET", "/x"), "passes");
    assert_eq!(told("POST", "/x"), "401 Jwt is missing");
    assert_eq!(told("POST", "/x?/health"), "401 Jwt is missing");
}

#[test]
fn permissive_judges_each_token_by_itself() {
    let section = json!({"jwtRules": [rule("a", json!({})), rule("b", json!({}))], "requirements": [{"require": "permissive"}]});
    let bench = Bench::new(section);
    let (a, b) = (format!("Bearer {}", good("a")), format!("Bearer {}", good("b")));
    let headers = [("authorization", b.as_str()), ("authorization", "Bearer x"), ("authorization", &a)];
    let outcome = bench.send(&headers);
    assert_eq!(outcome.told(), "passes");
    assert_eq!(outcome.header("authorization"), Vec::<&str>::new());
    assert_eq!(&*outcome.facts.token.unwrap().rule, "a", "the first rule's");
    let outcome = bench.send(&[("authorization", "Bearer x")]);
    assert_eq!(outcome.header("authorization"), ["Bearer x"], "a token that does not count is left alone");
}

#[test]
fn shadow_decides_and_changes_nothing() {
    let section = json!({
        "jwtRules": [rule("i", json!({"outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}]}))],
        "mode": "shadow",
    });
    let bench = Bench::new(section);
    for (token, word, counts) in [(good("i"), "allowed", true), ("a.b.c".to_owned(), "denied", false)] {
        let mut outcome = bench.send(&[("authorization", &format!("Bearer {token}")), ("x-user", "root")]);
        assert_eq!(outcome.step, Step::Continue);
        assert_eq!(outcome.request.take_edits(), [HeaderEdit::Remove("x-user".into())]);
        assert_eq!(outcome.facts.token.is_some(), counts);
        assert_eq!(outcome.facts.decision, Decision::Allowed);
        let verdict = &outcome.facts.verdicts[0];
        assert_eq!((verdict.decision, verdict.mode), (word, Mode::Shadow));
    }
}

#[test]
fn a_cors_preflight_passes_unless_told_otherwise() {
    let preflight =
        [(":method", "OPTIONS"), ("origin", "https://a"), ("access-control-request-method", "PUT")];
    let outcome = one_rule(json!({})).send(&preflight);
    assert_eq!(outcome.told(), "passes");
    assert!(outcome.facts.verdicts.is_empty());
    for left_out in 0..3 {
        let headers: Vec<_> =
            preflight.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, pair)| *pair).collect();
        assert_eq!(one_rule(json!({})).send(&headers).reply().status, 401);
    }
    let strict = Bench::new(json!({"jwtRules": [rule("i", json!({}))], "bypassCorsPreflight": false}));
    assert_eq!(strict.send(&preflight).reply().status, 401);
}

#[test]
fn issuers_may_be_patterns_and_an_absent_one_matches_only_its_own() {
    let tokens = [good("https://login/a"), good("other"), token(json!({}))];
    for (issuers, expected) in [
        (json!([{"prefix": "https://login/"}]), [true, false, false]),
        (json!([{"exact": "other"}, {"regex": "https://login/[a-z]"}]), [true, true, false]),
        (json!([{"present": true}]), [true, true, false]),
        (json!([{"present": false}]), [false, false, true]),
        (json!([{"regex": ".*"}]), [true, true, false]),
    ] {
        let rule = json!({"issuers": issuers, "jwks": key_set(), "algorithms": ["HS256"]});
        let bench = Bench::new(json!({"jwtRules": [rule]}));
        for (token, passes) in tokens.iter().zip(expected) {
            assert_eq!(bench.told(token) == "passes", passes, "{issuers}");
        }
    }
}

#[test]
fn required_claims_are_looked_at_last_and_say_403() {
    let bench = one_rule(json!({"requiredClaims": [
        {"claim": "scope", "values": ["api:*"]},
        {"claim": "realm.role", "notValues": ["guest"]},
    ]}));
    let with = |claims: Value| {
        let mut all = json!({"iss": "i"});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        token(all)
    };
    let refused = "403 Claims in Jwt are not allowed";
    for (token, expected) in [
        (with(json!({"scope": "x api:read"})), "passes"),
        (with(json!({"scope": "api:read", "realm": {"role": "admin"}})), "passes"),
        (with(json!({"scope": "xapi:read"})), refused),
        (with(json!({"scope": "api:read", "realm": {"role": ["admin", "guest"]}})), refused),
        (with(json!({})), refused),
        (forge(&with(json!({}))), "401 Jwt verification fails"),
    ] {
        assert_eq!(bench.told(&token), expected);
        assert_eq!(bench.told(&token), expected, "and once more, from the cache");
    }
}

#[test]
fn claims_of_several_values_are_lists_to_policies_and_texts_to_headers() {
    let bench = one_rule(json!({
        "spaceDelimitedClaims": ["groups"],
        "outputClaimToHeaders": [{"header": "x-scope", "claim": "scope"}],
    }));
    let token = token(json!({"iss": "i", "scope": "a b", "groups": "c d", "other": "e f"}));
    let outcome = bench.send(&[("authorization", &format!("Bearer {token}"))]);
    let claims = &outcome.facts.token.as_ref().unwrap().claims;
    assert_eq!(
        [&claims["scope"], &claims["groups"], &claims["other"]],
        [&json!(["a", "b"]), &json!(["c", "d"]), &json!("e f")]
    );
    assert_eq!(outcome.header("x-scope"), ["a b"]);
}

#[test]
fn a_known_token_is_not_verified_again_but_still_looked_at() {
    let bench = one_rule(
        json!({"clockSkew": "0s", "maxTokenAge": "1h", "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}]}),
    );
    let now = bench.now();
    let short = token(json!({"iss": "i", "sub": "alice", "exp": now + 10, "iat": now}));
    let long = token(json!({"iss": "i", "iat": now}));
    assert_eq!(bench.told(&short), "passes");
    assert_eq!((bench.counter("hits"), bench.counter("misses")), (0, 1));
    let outcome = bench.send(&[("authorization", &format!("Bearer {short}"))]);
    assert_eq!((outcome.told().as_str(), outcome.header("x-user")), ("passes", vec!["alice"]));
    assert!(outcome.facts.token.is_some());
    assert_eq!((bench.counter("hits"), bench.counter("misses")), (1, 1));
    assert_eq!(bench.told(&long), "passes");
    bench.host.advance(Duration::from_secs(10));
    assert_eq!(bench.told(&short), "401 Jwt is expired");
    assert_eq!(bench.told(&long), "passes");
    bench.host.advance(Duration::from_secs(3600));
    assert_eq!(bench.told(&long), "401 Jwt is expired", "it grew too old");
    assert_eq!(bench.told(&forge(&long)), "401 Jwt is expired");
}

#[test]
fn a_known_token_costs_no_signature_and_few_hostcalls() {
    let bench = one_rule(json!({}));
    let token = good("i");
    bench.told(&token);
    bench.host.take_hostcalls();
    bench.told(&token);
    let calls = bench.host.take_hostcalls();
    assert_eq!(calls.into_iter().collect::<Vec<_>>(), [("now", 1), ("wall_clock", 1)]);
}

#[test]
fn grpc_callers_get_the_same_and_the_proxy_maps_it() {
    let outcome = one_rule(json!({})).send(&[("content-type", "application/grpc"), (":method", "POST")]);
    let reply = outcome.reply();
    assert_eq!((reply.status, reply.grpc_status), (401, None));
    assert!(reply.body.is_ascii() && reply.body.len() < 100);
}
