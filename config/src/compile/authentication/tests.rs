use serde_json::{Value, json};

use crate::{self as config, Errors};

fn errors(section: Value) -> Vec<String> {
    let environment = |name: &str| (name == "BROKEN").then(|| "{}".to_owned());
    match config::compile(&json!({"authentication": section}), &environment, Errors::default()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn rule_errors(rule: Value) -> Vec<String> {
    errors(json!({"jwtRules": [rule]}))
        .into_iter()
        .map(|error| error.replace("authentication.jwtRules[0]", "rule"))
        .collect()
}

/// A section whose rules are all right, with these requirements.
fn requirement_errors(requirements: Value) -> Vec<String> {
    let rule = |name: &str| json!({"name": name, "issuer": name, "jwks": keys()});
    errors(json!({"jwtRules": [rule("a"), rule("b")], "requirements": requirements}))
        .into_iter()
        .map(|error| error.replace("authentication.requirements", "r"))
        .collect()
}

fn keys() -> Value {
    let key = include_str!("../../../../tests/keys/hmac1.json");
    json!({"keys": [serde_json::from_str::<Value>(key).unwrap()]})
}

/// A rule that is all right, with these members beside or in place of its own.
fn rule(members: Value) -> Value {
    let mut rule = json!({"issuer": "i", "jwks": keys()});
    rule.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    rule
}

#[test]
fn every_member_of_the_contract_is_read() {
    let everything = json!({
        "jwtRules": [rule(json!({
            "name": "main",
            "audiences": ["webapp-api"],
            "fromHeaders": [{"name": "X-Token", "prefix": "Bearer "}, {"name": "x-jwt"}],
            "fromParams": ["token"],
            "fromCookies": ["session"],
            "outputPayloadToHeader": "x-payload",
            "outputClaimToHeaders": [{"header": "X-User", "claim": "sub"}, {"header": "x-tid", "claim": "[a.b][c]"}],
            "forwardOriginalToken": true,
            "timeout": "2s",
            "spaceDelimitedClaims": ["groups"],
            "algorithms": ["HS256", "RS256"],
            "clockSkew": "0s",
            "requireExpiration": true,
            "maxTokenAge": "1h",
            "maxLifetime": "24h",
            "requiredClaims": [
                {"claim": "azp", "values": ["web*", {"regex": "app-[0-9]+"}]},
                {"claim": "role", "notValues": ["guest"]},
                {"claim": "tenant", "values": [{"attribute": "request.path[1]"}]},
            ],
        })),
        {"name": "text", "issuers": [{"prefix": "https://login.example/"}, {"present": false}], "jwks": keys().to_string()}],
        "requirements": [
            {"match": [{"uri": {"prefix": "/health"}}], "require": "none"},
            {"match": [{"method": {"exact": "GET"}}, {"port": 8080}], "require": "optional", "rules": ["main"]},
            {"require": {"any": [{"all": ["main", "text"]}, {"optional": "main"}, {"permissive": {"any": ["text"]}}]}},
            {"require": "permissive"},
            {"require": "all", "rules": ["text", "main"]},
            {},
        ],
        "bypassCorsPreflight": false,
        "mode": "shadow",
    });
    assert_eq!(errors(everything), Vec::<String>::new());
    assert_eq!(errors(json!({})), Vec::<String>::new());
}

#[test]
fn what_is_wrong_with_a_rule_is_said_with_its_remedy() {
    for (members, expected) in [
        (json!({"name": ""}), "rule.name: an empty name; leave it out or give one"),
        (json!({"issuers": [{"exact": "a"}]}), "rule: both issuer and issuers; keep one of them"),
        (json!({"issuer": ""}), "rule.issuer: an empty issuer; use the iss of the tokens"),
        (
            json!({"audiences": []}),
            "rule.audiences: an empty list allows no audience; add one or leave it out",
        ),
        (
            json!({"audience": ["a"]}),
            "rule.audience: there is no field \"audience\" here; did you mean \"audiences\"?",
        ),
        (
            json!({"presence": "REQUIRED"}),
            "rule.presence: there is no field \"presence\" here; authentication.requirements say which tokens must stand: [{require: all}] for one of each rule, [{require: any}] for one of them, [{require: optional}] where none may be",
        ),
        (
            json!({"remote_jwks": {}}),
            "rule.remote_jwks: there is no field \"remote_jwks\" here; use jwksUri and jwksCluster",
        ),
        (
            json!({"spaceDelimitedClaims": ["a", "[a.b.c"]}),
            "rule.spaceDelimitedClaims[1]: \"[a.b.c\" is not a claim's path; use a.b, or [a][b] for names with dots",
        ),
        (json!({"jwks": 7}), "rule.jwks: not a key set; use an object with keys, or its JSON text"),
        (
            json!({"jwksUri": "https://i.example/keys"}),
            "rule: more than one key set; keep one of jwks, jwksUri and jwksFromEnvironment",
        ),
        (
            json!({"fromHeaders": [{"prefix": "a"}]}),
            "rule.fromHeaders[0]: \"name\" is missing; add the header's name",
        ),
        (
            json!({"fromHeaders": [{"name": ":path"}]}),
            "rule.fromHeaders[0].name: \":path\" cannot hold a token; use another header, fromParams or fromCookies",
        ),
        (
            json!({"fromHeaders": [{"name": "Cookie"}]}),
            "rule.fromHeaders[0].name: \"Cookie\" cannot hold a token; use another header, fromParams or fromCookies",
        ),
        (
            json!({"fromHeaders": [{"name": "a b"}]}),
            "rule.fromHeaders[0].name: \"a b\" is not a header's name; use letters, digits and dashes",
        ),
        (json!({"fromParams": [""]}), "rule.fromParams[0]: \"\" is not a name; use one such as token"),
        (
            json!({"fromCookies": ["a=b"]}),
            "rule.fromCookies[0]: \"a=b\" is not a name; use one such as token",
        ),
        (
            json!({"outputClaimToHeaders": [{"claim": "sub"}]}),
            "rule.outputClaimToHeaders[0]: \"header\" is missing; add it",
        ),
        (
            json!({"outputClaimToHeaders": [{"header": "x-user"}]}),
            "rule.outputClaimToHeaders[0]: \"claim\" is missing; add it",
        ),
        (
            json!({"outputClaimToHeaders": [{"header": "x-user", "claim": "a..b"}]}),
            "rule.outputClaimToHeaders[0].claim: \"a..b\" is not a claim's path; use a.b, or [a][b] for names with dots",
        ),
        (
            json!({"outputClaimToHeaders": [{"header": ":path", "claim": "a"}]}),
            "rule.outputClaimToHeaders[0].header: \":path\" is the protocol's own; use a header such as x-user",
        ),
        (
            json!({"outputPayloadToHeader": "Host"}),
            "rule.outputPayloadToHeader: \"host\" is the protocol's own; use a header such as x-user",
        ),
        (
            json!({"outputPayloadToHeader": "Authorization"}),
            "rule.outputPayloadToHeader: \"authorization\" is where a token stands; use another header",
        ),
        (
            json!({"fromCookies": ["t"], "outputPayloadToHeader": "cookie"}),
            "rule.outputPayloadToHeader: \"cookie\" is where a token stands; use another header",
        ),
        (
            json!({"algorithms": []}),
            "rule.algorithms: an empty list allows no token; add one such as RS256, or leave it out",
        ),
        (
            json!({"maxTokenAge": "0s"}),
            "rule.maxTokenAge: 0s is too short; use a time such as 5s, or leave it out",
        ),
        (
            json!({"maxLifetime": "0s"}),
            "rule.maxLifetime: 0s is too short; use a time such as 5s, or leave it out",
        ),
        (
            json!({"clockSkew": "-1s"}),
            "rule.clockSkew: \"-1s\" does not belong here; use a duration such as 5s, 250ms or 1m30s",
        ),
        (
            json!({"requiredClaims": [{"values": ["a"]}]}),
            "rule.requiredClaims[0]: \"claim\" is missing; add it",
        ),
        (
            json!({"requiredClaims": [{"claim": "a"}]}),
            "rule.requiredClaims[0]: there are neither values nor notValues; add one of them",
        ),
        (
            json!({"requiredClaims": [{"claim": "a", "values": []}]}),
            "rule.requiredClaims[0].values: an empty list matches nothing; leave it out or say what it matches",
        ),
        (
            json!({"requiredClaims": [{"claim": "a", "notValues": [{"regex": "("}]}]}),
            "rule.requiredClaims[0].notValues[0].regex: \"(\" is not a regular expression (unclosed group); use RE2 syntax",
        ),
        (
            json!({"requiredClaims": [{"claim": "a", "values": [{"attribute": "request.path"}]}]}),
            "rule.requiredClaims[0].values[0].attribute: \"request.path\" is not an attribute; use request.headers[name], request.query[name], request.cookies[name], request.auth.principal, request.auth.audiences, request.auth.presenter, request.auth.claims[name], source.ip, remote.ip, source.principal, source.namespace, source.serviceAccount, source.trustDomain, destination.ip, destination.port, connection.sni or experimental.envoy.filters.NAME[key]",
        ),
    ] {
        assert_eq!(rule_errors(rule(members.clone())), [expected], "{members}");
    }
}

#[test]
fn a_rule_needs_an_issuer_and_good_keys() {
    assert_eq!(
        rule_errors(json!({"jwks": keys()})),
        ["rule: no issuer; say in issuer whose tokens these are, or in issuers how it looks"]
    );
    assert_eq!(
        rule_errors(json!({"issuers": [], "jwks": keys()})),
        ["rule.issuers: an empty list matches no issuer; add one"]
    );
    assert_eq!(
        rule_errors(json!({"issuer": "i", "jwksFromEnvironment": "ABSENT"})),
        [
            "rule.jwksFromEnvironment: there is no variable \"ABSENT\"; set it in the plugin's environment_variables"
        ]
    );
    for rule in [
        json!({"issuer": "i", "jwks": "nonsense"}),
        json!({"issuer": "i", "jwks": {"keys": []}}),
        json!({"issuer": "i", "jwks": {"keys": [{"kty": "RSA"}]}}),
    ] {
        let errors = rule_errors(rule);
        assert!(errors.len() == 1 && errors[0].starts_with("rule.jwks: "), "{errors:?}");
    }
    let errors = rule_errors(json!({"issuer": "i", "jwksFromEnvironment": "BROKEN"}));
    assert!(errors.len() == 1 && errors[0].starts_with("rule.jwksFromEnvironment: "), "{errors:?}");
    let errors = rule_errors(rule(json!({"algorithms": ["RS256", "none"]})));
    assert!(
        errors[0].starts_with("rule.algorithms[1]: \"none\" is not an algorithm; use one of RS256, "),
        "{errors:?}"
    );
}

#[test]
fn what_is_wrong_with_a_requirement_is_said_with_its_remedy() {
    for (requirement, expected) in [
        (
            json!({"match": []}),
            "r[0].match: an empty list matches nothing; leave it out to match every request",
        ),
        (json!({"rules": []}), "r[0].rules: an empty list; name a rule, or leave it out for all of them"),
        (json!({"rules": ["c"]}), "r[0].rules[0]: \"c\" is not a rule; use \"a\" or \"b\""),
        (
            json!({"require": "none", "rules": ["a"]}),
            "r[0].rules: where nothing is required there are no rules; leave this out",
        ),
        (
            json!({"require": {"any": ["a"]}, "rules": ["a"]}),
            "r[0].rules: a tree names its rules itself; leave this out",
        ),
        (
            json!({"require": "a"}),
            "r[0].require: \"a\" is not a requirement; use any, all, optional, permissive, none or a tree such as {all: [...]}; rules are named in \"rules\"",
        ),
        (
            json!({"require": 7}),
            "r[0].require: 7 does not belong here; use a word, a rule's name, or one of {all: [...]}, {any: [...]}, {optional: ...}, {permissive: ...}",
        ),
        (
            json!({"require": {}}),
            "r[0].require: not one requirement; use one of {all: [...]}, {any: [...]}, {optional: ...}, {permissive: ...}",
        ),
        (
            json!({"require": {"any": ["a"], "all": ["b"]}}),
            "r[0].require: not one requirement; use one of {all: [...]}, {any: [...]}, {optional: ...}, {permissive: ...}",
        ),
        (json!({"require": {"all": []}}), "r[0].require.all: an empty list; name a rule in it"),
        (
            json!({"require": {"all": ["a", {"optional": "c"}]}}),
            "r[0].require.all[1].optional: \"c\" is not a rule; use \"a\" or \"b\"",
        ),
        (
            json!({"require": {"optionl": "b", "any": ["a"]}}),
            "r[0].require.optionl: there is no field \"optionl\" here; did you mean \"optional\"?",
        ),
        (
            json!({"match": [{"claims": {"sub": {"exact": "a"}}}]}),
            "r[0].match[0]: claims are not known before the token is verified; match them in http, or use requiredClaims",
        ),
    ] {
        assert_eq!(requirement_errors(json!([requirement])), [expected], "{requirement}");
    }
    assert_eq!(
        requirement_errors(json!([])),
        ["r: there is nothing to require; add an entry or leave the list out"]
    );
    assert_eq!(
        errors(json!({"requirements": [{}]})),
        ["authentication.requirements: there is nothing to require; add jwtRules"]
    );
}

#[test]
fn a_rules_name_is_its_issuer_unless_that_names_another() {
    let named = |issuer: &str| rule(json!({"issuer": issuer}));
    let rules = json!([
        named("i"),
        named("i"),
        {"issuers": [{"prefix": "j"}], "jwks": keys()},
        rule(json!({"name": "k"})),
        named("k"),
    ]);
    let requirements = |names: &[&str]| json!({"jwtRules": rules, "requirements": [{"rules": names}]});
    let all = ["i", "jwtRules[1]", "jwtRules[2]", "k", "jwtRules[4]"];
    assert_eq!(errors(requirements(&all)), Vec::<String>::new());
    assert_eq!(
        errors(requirements(&["j"])),
        [
            "authentication.requirements[0].rules[0]: \"j\" is not a rule; use \"i\" or \"jwtRules[1]\" or \"jwtRules[2]\" or \"k\" or \"jwtRules[4]\""
        ]
    );
    assert_eq!(
        errors(json!({"jwtRules": [rule(json!({"name": "a"})), rule(json!({"name": "a"}))]})),
        ["authentication.jwtRules[1].name: \"a\" is used twice; give each its own"]
    );
}

#[test]
fn headers_that_say_who_asks_are_reserved() {
    let document = json!({"authentication": {"jwtRules": [rule(json!({
        "outputPayloadToHeader": "X-Payload",
        "outputClaimToHeaders": [{"header": "X-User", "claim": "sub"}, {"header": "x-user", "claim": "name"}],
    }))]}});
    let compiled = config::compile(&document, &|_| None, Errors::default()).ok().unwrap();
    let reserved = &compiled.policy.reserved_headers;
    assert_eq!(reserved.iter().filter(|name| *name == "x-user").count(), 1);
    assert!(reserved.iter().any(|name| name == "x-payload"));
}

#[test]
fn a_key_set_over_http_needs_its_cluster_and_an_address() {
    let cluster =
        "rule.jwksCluster: which Envoy cluster serves the key set? name it, or give the keys in jwks";
    let uri = "https://i.example/keys";
    for rule in [
        json!({"issuer": "i", "jwksUri": uri, "jwksCluster": "c"}),
        json!({"issuer": "https://i.example", "jwksCluster": "c"}),
        json!({"issuers": [{"prefix": "i"}], "jwksUri": uri, "jwksCluster": "c", "jwksMaxStale": "0s"}),
    ] {
        assert_eq!(rule_errors(rule), Vec::<String>::new());
    }
    for (rule, expected) in [
        (json!({"issuer": "i", "jwksUri": uri}), vec![cluster]),
        (json!({"issuer": "https://i.example"}), vec![cluster]),
        (json!({"issuer": "i", "jwksUri": uri, "jwksCluster": ""}), vec![cluster]),
        (
            json!({"issuer": "i", "jwksCluster": "c"}),
            vec!["rule.issuer: the issuer \"i\" is no address to find its keys at; give jwks or jwksUri"],
        ),
        (
            json!({"issuer": "i", "jwksUri": "/keys"}),
            vec![
                "rule.jwksUri: \"/keys\" is not the address of a key set; use one such as https://host/path",
                cluster,
            ],
        ),
        (
            json!({"issuers": [{"prefix": "i"}]}),
            vec!["rule: no keys; add jwks, jwksFromEnvironment, or jwksUri with its jwksCluster"],
        ),
    ] {
        assert_eq!(rule_errors(rule.clone()), expected, "{rule}");
    }
    let zero = json!({
        "issuer": "i", "jwksUri": uri, "jwksCluster": "c", "jwksCacheDuration": "0s", "timeout": "0s",
    });
    let errors = rule_errors(zero);
    assert!(errors.len() == 2 && errors[0].starts_with("rule.jwksCacheDuration: "), "{errors:?}");
    assert!(errors[1].starts_with("rule.timeout: "), "{errors:?}");
}

#[test]
fn keys_that_no_algorithm_is_for_are_warned_of() {
    let warnings = |members: Value| -> Vec<String> {
        let document = json!({"authentication": {"jwtRules": [rule(members)]}});
        let compiled = config::compile(&document, &|_| None, Errors::default());
        compiled.unwrap().warnings.iter().map(ToString::to_string).collect()
    };
    let found = warnings(json!({}));
    let expected = "authentication.jwtRules[0].algorithms: no key of the set is for one of these";
    assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
    assert!(warnings(json!({"algorithms": ["HS256", "RS256"]})).is_empty());
}
