use serde_json::{Value, json};

use crate::{self as config, Compiled, Errors};

fn compile(document: Value) -> Result<Compiled, Vec<String>> {
    config::compile(&document, &|_| None, Errors::default())
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn errors(document: Value) -> Vec<String> {
    compile(document).err().unwrap_or_default()
}

/// The errors of one rule, without the path to it.
fn rule_errors(rule: Value) -> Vec<String> {
    let errors = errors(json!({"authorization": [{"rules": [rule]}]}));
    errors.iter().map(|error| error.strip_prefix("authorization[0].rules[0]").unwrap().to_owned()).collect()
}

fn warnings(document: Value) -> Vec<String> {
    let warnings = compile(document).map(|compiled| compiled.warnings);
    warnings.unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn the_policies_of_the_guides_compile_as_they_stand() {
    let compiled = compile(json!({"authorization": [
        {"name": "webapp-authz", "rules": [{
            "from": [{"source": {"principals": ["cluster.local/ns/default/sa/frontend"]}}],
            "to": [{"operation": {"methods": ["GET", "POST"], "paths": ["/api/*"]}}],
            "when": [{"key": "request.headers[user-role]", "values": ["admin", "user"]}],
        }]},
        {"name": "allow-frontend", "action": "ALLOW", "rules": [{
            "from": [{"source": {"principals": ["cluster.local/ns/default/sa/frontend"]}}],
            "to": [{"operation": {"methods": ["GET", "POST"]}}],
        }]},
    ]}))
    .unwrap();
    assert_eq!(compiled.policy.authorization.len(), 2);
    assert!(compiled.warnings.is_empty());
    let paths: Vec<String> = compiled.policy.attributes.paths().iter().map(|path| path.join(".")).collect();
    assert_eq!(paths, ["connection.uri_san_peer_certificate"], "each once, and only what is needed");
}

#[test]
fn everything_that_istio_has_compiles() {
    let words = json!(["a", "a*", "*a", "*", {"regex": "a|b"}]);
    let blocks = json!(["1.2.3.4", "5.6.0.0/16", "2001:db8::/32"]);
    let keys = [
        "request.headers[X-header]",
        "source.principal",
        "source.namespace",
        "source.trustDomain",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "request.auth.claims[iss]",
        "request.auth.claims[nested1][nested2]",
        "connection.sni",
        "experimental.envoy.filters.a.b[c]",
        "request.query[q]",
        "request.cookies[c]",
    ];
    let when: Vec<Value> =
        keys.iter().map(|key| json!({"key": key, "values": words, "notValues": words})).collect();
    let mut when = when;
    for key in ["source.ip", "remote.ip", "destination.ip"] {
        when.push(json!({"key": key, "values": blocks, "notValues": blocks}));
    }
    when.push(json!({"key": "destination.port", "values": ["91", "92"], "notValues": ["9001"]}));
    when.push(json!({"key": "source.serviceAccount", "values": ["a/b", "c"], "notValues": ["d"]}));
    let paths = json!(["/exact", "/prefix/*", "*/suffix", "*", "/path/template/{*}", "/{**}/path/template"]);
    let compiled = compile(json!({"namespace": "default", "authorization": [{
        "name": "all", "action": "AUDIT", "mode": "shadow",
        "rules": [
            {"from": [{"source": {"serviceAccounts": ["my-ns/my-sa", "sa-only"], "notServiceAccounts": ["a/b"]}}]},
            {
                "from": [{"source": {
                    "principals": words, "notPrincipals": words, "requestPrincipals": words,
                    "notRequestPrincipals": words, "namespaces": words, "notNamespaces": words, "ipBlocks": blocks,
                    "notIpBlocks": blocks, "remoteIpBlocks": blocks, "notRemoteIpBlocks": blocks,
                    "trustDomains": words, "notTrustDomains": words,
                }}],
                "to": [{"operation": {
                    "methods": words, "notMethods": words, "hosts": ["exact.com", "*.suffix.com", "prefix.*", "*"],
                    "notHosts": words, "ports": ["80", "90"], "notPorts": ["8000"], "paths": paths, "notPaths": paths,
                }}],
                "when": when,
            },
        ],
    }]}));
    let compiled = compiled.map_err(|errors| errors.join("\n")).unwrap();
    // `a` is neither a method nor who a token is of.
    let other = |warning: &&config::ConfigError| !warning.message.contains("never matches: ");
    assert_eq!(compiled.warnings.iter().filter(other).count(), 0, "{:?}", compiled.warnings);
    let mut paths: Vec<String> =
        compiled.policy.attributes.paths().iter().map(|path| path.join(".")).collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            "connection.requested_server_name",
            "connection.uri_san_peer_certificate",
            "destination.address",
            "destination.port",
            "filter_state.meshfilter.direct_remote_address",
            "metadata.filter_metadata.envoy.filters.a.b.c",
            "source.address",
        ]
    );
}

#[test]
fn what_istio_has_and_a_plugin_cannot_do_is_refused_with_the_reason() {
    assert_eq!(
        errors(json!({"authorization": [{
            "name": "p", "rules": [{}], "selector": {"matchLabels": {"app": "webapp"}},
            "targetRef": {"kind": "Service", "name": "a"}, "targetRefs": [], "provider": {"name": "opa"},
        }]})),
        [
            "authorization[0].selector: this document is for the proxy that it is given to; leave it out",
            "authorization[0].targetRef: this document is for the proxy that it is given to; leave it out",
            "authorization[0].targetRefs: this document is for the proxy that it is given to; leave it out",
            "authorization[0].provider: a plugin has no external authorizer; put Envoy's ext_authz before it",
        ]
    );
    assert_eq!(
        errors(json!({"authorization": [{"action": "CUSTOM"}]})),
        ["authorization[0].action: \"CUSTOM\" is not known here; use \"ALLOW\", \"DENY\" or \"AUDIT\""]
    );
}

#[test]
fn names_modes_and_refusals_are_checked() {
    assert_eq!(
        errors(json!({"authorization": [
            {"name": "a", "rules": [{}]},
            {"name": "a", "mode": "dry", "action": "DENY", "rules": [{}],
             "deny": {"status": 99, "headers": {":status": "x", "x y": "a\nb"}, "code": 1}},
            {"name": "", "action": "AUDIT", "rules": [{}], "deny": {}},
            {"action": "DENY", "rules": [{}], "deny": {"status": 204, "body": "", "headers": {"Content-Length": "1"}}},
        ]})),
        [
            "authorization[1].deny.code: there is no field \"code\" here; use \"status\", \"body\" or \"headers\"",
            "authorization[1].mode: \"dry\" is not known here; use \"enforce\" or \"shadow\"",
            "authorization[1].name: \"a\" is used twice; give each its own",
            "authorization[2].name: an empty name; leave it out or give one",
            "authorization[1].deny.status: 99 is not the status of an answer; use 200 to 599",
            "authorization[1].deny.headers[:status]: a header that begins with a colon belongs to the proxy; leave it out",
            "authorization[1].deny.headers[x y]: a header's value has no line ends and no NUL; take them out",
            "authorization[1].deny.headers[x y]: \"x y\" is not a header's name; use letters, digits and dashes",
            "authorization[2].deny: an AUDIT policy refuses nothing; leave deny out",
            "authorization[3].deny.body: an answer of 204 has no body; leave it out or use 200",
            "authorization[3].deny.headers[Content-Length]: the proxy says how long an answer is; leave it out",
        ]
    );
}

#[test]
fn an_empty_list_is_an_error_since_it_would_match_more_than_meant() {
    assert_eq!(
        rule_errors(json!({"from": [], "to": [], "when": []})),
        [
            ".from: an empty list matches nothing; leave it out or say what it matches",
            ".to: an empty list matches nothing; leave it out or say what it matches",
            ".when: an empty list matches nothing; leave it out or say what it matches",
        ]
    );
    assert_eq!(
        rule_errors(json!({"from": [{}, {"source": {}}, {"source": {"principals": []}}],
            "to": [{}, {"operation": {}}, {"operation": {"notPaths": []}}],
            "when": [{}, {"key": "source.ip"}, {"key": "source.ip", "values": []}]})),
        [
            ".from[0]: there is no source in it; add one or leave from out",
            ".from[1].source: there is nothing in it; say who asks, or leave from out",
            ".from[2].source.principals: an empty list matches nothing; leave it out or say what it matches",
            ".to[0]: there is no operation in it; add one or leave to out",
            ".to[1].operation: there is nothing in it; say what is asked for, or leave to out",
            ".to[2].operation.notPaths: an empty list matches nothing; leave it out or say what it matches",
            &format!(".when[0].key: there is no key; use {}", super::rule::KEYS),
            ".when[1]: there are neither values nor notValues; add one of them",
            ".when[2].values: an empty list matches nothing; leave it out or say what it matches",
        ]
    );
}

#[test]
fn a_value_is_a_string_or_an_object_with_one_member_and_of_claims_a_number_or_a_boolean() {
    let wants = "use a string, {regex: …} or {attribute: …}";
    assert_eq!(
        rule_errors(json!({
            "to": [{"operation": {"methods": [7, null, {}, {"regex": "a", "attribute": "b"}, {"regexp": "a"}, ""]}}],
        })),
        [
            ".to[0].operation.methods[1]: null does not belong here; use a string, {regex: …} or {attribute: …}",
            &format!(".to[0].operation.methods[2]: not one value; {wants}"),
            &format!(".to[0].operation.methods[3]: not one value; {wants}"),
            ".to[0].operation.methods[4].regexp: there is no field \"regexp\" here; did you mean \"regex\"?",
            &format!(".to[0].operation.methods[4]: not one value; {wants}"),
            ".to[0].operation.methods[0]: only claims have numbers and booleans; write it as a text, \"7\"",
            ".to[0].operation.methods[5]: an empty string matches nothing; leave it out",
        ]
    );
    let scalars = |key: &str| json!({"when": [{"key": key, "values": [7], "notValues": [true]}]});
    for key in ["request.auth.claims[a]", "request.auth.claims[a][b]"] {
        assert_eq!(rule_errors(scalars(key)), [""; 0], "{key}");
    }
    for key in [
        "request.headers[a]",
        "request.auth.principal",
        "request.query[a]",
        "source.namespace",
        "experimental.envoy.filters.a[b]",
    ] {
        assert_eq!(
            rule_errors(scalars(key)),
            [
                ".when[0].values[0]: only claims have numbers and booleans; write it as a text, \"7\"",
                ".when[0].notValues[0]: only claims have numbers and booleans; write it as a text, \"true\"",
            ],
            "{key}"
        );
    }
}

#[test]
fn what_is_wrong_already_is_not_wrong_twice() {
    assert_eq!(
        rule_errors(
            json!({"from": [7, {"source": "x"}, {"source": {"principals": [null], "ipBlocks": [7]}}], "to": [7, {"operation": {"path": 7}}],
            "when": [7, {"key": 7, "values": ["a"]}]})
        ),
        [
            ".from[0]: 7 does not belong here; use an object",
            ".from[1].source: \"x\" does not belong here; use an object",
            ".from[2].source.ipBlocks[0]: 7 does not belong here; use a string",
            ".from[2].source.principals[0]: null does not belong here; use a string, {regex: …} or {attribute: …}",
            ".to[0]: 7 does not belong here; use an object",
            ".to[1].operation.path: there is no field \"path\" here; did you mean \"paths\"?",
            ".when[0]: 7 does not belong here; use an object",
            ".when[1].key: 7 does not belong here; use a string",
        ]
    );
}

#[test]
fn sources_are_checked() {
    assert_eq!(
        rule_errors(json!({"from": [{"source": {
            "principals": ["spiffe://cluster.local/ns/a/sa/b", {"regex": "("}],
            "requestPrincipals": ["", {"regex": "["}],
            "namespaces": ["a/b", "a*b*c"],
            "trustDomains": ["a/b", "a*b", "*a*"],
            "ipBlocks": ["10.0.0.0/40"],
            "notRemoteIpBlocks": ["localhost"],
        }}]})),
        [
            ".from[0].source.principals[0]: \"spiffe://cluster.local/ns/a/sa/b\" begins with spiffe://; leave that off, as in \
             cluster.local/ns/a/sa/b",
            ".from[0].source.principals[1].regex: \"(\" is not a regular expression (unclosed group); use RE2 syntax",
            ".from[0].source.namespaces[0]: \"a/b\" is not a namespace; use its name alone, such as default",
            ".from[0].source.trustDomains[0]: \"a/b\" is not a trust domain; use one such as cluster.local, prod.*, *.example",
            ".from[0].source.trustDomains[1]: \"a*b\" is not a trust domain; use one such as cluster.local, prod.*, *.example",
            ".from[0].source.trustDomains[2]: \"*a*\" is not a trust domain; use one such as cluster.local, prod.*, *.example",
            ".from[0].source.requestPrincipals[0]: an empty string matches nothing; leave it out",
            ".from[0].source.requestPrincipals[1].regex: \"[\" is not a regular expression (unclosed character class); use RE2 \
             syntax",
            ".from[0].source.ipBlocks[0]: \"10.0.0.0/40\" is no address block; use one such as 10.0.0.0/8, 2001:db8::/32 or \
             10.1.2.3",
            ".from[0].source.notRemoteIpBlocks[0]: \"localhost\" is no address block; use one such as 10.0.0.0/8, \
             2001:db8::/32 or 10.1.2.3",
        ]
    );
    assert_eq!(
        rule_errors(json!({"from": [{"source": {
            "serviceAccounts": ["bare", "a/b/c", "a/*", "/b", "x/y"], "namespaces": ["a"]}}]})),
        [
            ".from[0].source.serviceAccounts[0]: \"bare\" has no namespace; write namespace/bare, or set namespace at the top",
            ".from[0].source.serviceAccounts[1]: \"a/b/c\" is not a service account; use namespace/account or account",
            ".from[0].source.serviceAccounts[2]: \"a/*\" is not a service account; use namespace/account or account",
            ".from[0].source.serviceAccounts[3]: \"/b\" is not a service account; use namespace/account or account",
            ".from[0].source: serviceAccounts cannot stand beside principals or namespaces; write namespace/account instead",
        ]
    );
    let many: Vec<String> = (0..17).map(|n| format!("a/{n}")).collect();
    assert_eq!(
        rule_errors(json!({"from": [{"source": {"notServiceAccounts": many}}]})),
        [".from[0].source.notServiceAccounts: more than 16 service accounts; split the rule"]
    );
}

#[test]
fn operations_are_checked() {
    assert_eq!(
        rule_errors(json!({"to": [{"operation": {
            "paths": ["/users/{id}", "/a/{**}/{*}", {"regex": "*"}, {"attribute": "request.path[0]"}],
            "ports": ["80", "65536", "+80", "http", ""],
            "hosts": [{"attribute": "request.headers[host]"}],
        }}]})),
        [
            ".to[0].operation.paths[0]: \"/users/{id}\" is not a path template: only {*} and {**} are operators, each a whole \
             segment",
            ".to[0].operation.paths[1]: \"/a/{**}/{*}\" is not a path template: {**} is not the last operator; put it last",
            ".to[0].operation.paths[2].regex: \"*\" is not a regular expression (repetition operator missing expression); use \
             RE2 syntax",
            ".to[0].operation.paths[3]: an attribute does not belong here; compare attributes under when, or use a string",
            ".to[0].operation.hosts[0]: an attribute does not belong here; compare attributes under when, or use a string",
            ".to[0].operation.ports[1]: \"65536\" is not a port; use a whole number from 0 to 65535 in quotes",
            ".to[0].operation.ports[2]: \"+80\" is not a port; use a whole number from 0 to 65535 in quotes",
            ".to[0].operation.ports[3]: \"http\" is not a port; use a whole number from 0 to 65535 in quotes",
            ".to[0].operation.ports[4]: \"\" is not a port; use a whole number from 0 to 65535 in quotes",
        ]
    );
}

#[test]
fn a_key_that_nobody_knows_is_an_error() {
    for key in [
        "request.header[x]",
        "request.headers",
        "request.headers[]",
        "request.headers[x",
        "source.labels[a]",
        "destination.labels[version]",
        "destination.user",
        "source.ips",
        "request.path",
        "request.path[x]",
        "request.path[-1]",
        "experimental.envoy.filters.a",
        "experimental.envoy.filters.[b]",
        "",
        "request.auth.claims",
    ] {
        let found = rule_errors(json!({"when": [{"key": key, "values": ["a"]}]}));
        assert_eq!(
            found,
            [format!(".when[0].key: \"{key}\" is not an attribute; use {}", super::rule::KEYS)]
        );
    }
    assert_eq!(
        rule_errors(json!({"when": [
            {"key": "request.auth.claims[a]b", "values": ["a"]},
            {"key": "request.headers[a b]", "values": ["a"]},
            {"key": "request.path[1]", "values": ["a"]},
            {"key": "request.headers[a]", "values": [{"attribute": "request.path"}]},
            {"key": "source.ip", "values": [{"regex": "1"}, "x"]},
            {"key": "destination.port", "notValues": ["x"]},
        ]})),
        [
            ".when[0].key: \"[a]b\" is not a claim's path; use a.b, or [a][b] for names with dots".to_owned(),
            ".when[1].key: \"a b\" is not a header's name; use letters, digits and dashes".to_owned(),
            ".when[2].key: a part of the path belongs among the values; use to.operation.paths for the path".to_owned(),
            format!(".when[3].values[0].attribute: \"request.path\" is not an attribute; use {}", super::rule::KEYS),
            ".when[4].values[0]: addresses and ports are strings; use one".to_owned(),
            ".when[4].values[1]: \"x\" is no address block; use one such as 10.0.0.0/8, 2001:db8::/32 or 10.1.2.3".to_owned(),
            ".when[5].notValues[0]: \"x\" is not a port; use a whole number from 0 to 65535 in quotes".to_owned(),
        ]
    );
}

#[test]
fn what_never_matches_is_said() {
    assert_eq!(
        warnings(json!({"authorization": [
            {"name": "a", "action": "DENY"},
            {"name": "b", "rules": [{"to": [{"operation": {
                "paths": ["/a/*/b", "api/*", "/x?y"], "methods": ["*E*"]}}]}]},
        ]})),
        [
            "authorization[0].rules: without rules this policy never matches; an empty rule, {}, always does",
            "authorization[1].rules[0].to[0].operation.methods[0]: \"*E*\" has a * that stands for itself; only one at the \
             beginning or the end is a wildcard, {regex: …} takes any pattern",
            "authorization[1].rules[0].to[0].operation.paths[0]: \"/a/*/b\" has a * that stands for itself; only one at the \
             beginning or the end is a wildcard, {regex: …} takes any pattern",
            "authorization[1].rules[0].to[0].operation.paths[1]: \"api/\" never matches: a path begins with a slash; \
             add it",
            "authorization[1].rules[0].to[0].operation.paths[2]: \"/x?y\" never matches: a path has neither query nor \
             fragment here; leave them out",
        ]
    );
}

#[test]
fn what_can_never_match_is_warned_of() {
    let rule = |action: &str, rule: Value| json!({"authorization": [{"action": action, "rules": [rule]}]});
    let operation = |operation: Value| json!({"to": [{"operation": operation}]});
    let when = |key: &str, value: &str| json!({"when": [{"key": key, "values": [value]}]});
    let parameters =
        "an ALLOW has to match the path without its parameters and with single slashes, too; write it so";
    for (action, given, expected) in [
        (
            "DENY",
            operation(json!({"methods": ["delete"]})),
            "to[0].operation.methods[0]: \"delete\" never matches: methods are in capitals; use \"DELETE\"",
        ),
        (
            "ALLOW",
            operation(json!({"hosts": ["https://a.example/"]})),
            "to[0].operation.hosts[0]: \"https://a.example/\" never matches: a host has no scheme; use \"a.example\"",
        ),
        (
            "DENY",
            operation(json!({"notHosts": ["a.example/*"]})),
            "to[0].operation.notHosts[0]: \"a.example/\" never matches: a host has no path; use the host alone",
        ),
        (
            "DENY",
            operation(json!({"paths": ["admin"]})),
            "to[0].operation.paths[0]: \"admin\" never matches: a path begins with a slash; add it",
        ),
        (
            "DENY",
            operation(json!({"paths": ["/a/../b"]})),
            "to[0].operation.paths[0]: \"/a/../b\" never matches: a path with an escaped slash, a backslash or a dot \
             segment is refused; see ambiguousPaths",
        ),
        (
            "ALLOW",
            operation(json!({"paths": ["/a;v=1*"]})),
            &format!("to[0].operation.paths[0]: \"/a;v=1*\" never matches: {parameters}"),
        ),
        (
            "ALLOW",
            operation(json!({"paths": ["//a"]})),
            &format!("to[0].operation.paths[0]: \"//a\" never matches: {parameters}"),
        ),
        (
            "DENY",
            when("request.headers[:method]", "get"),
            "when[0].values[0]: \"get\" never matches: methods are in capitals; use \"GET\"",
        ),
        (
            "DENY",
            when("request.headers[host]", "http://a"),
            "when[0].values[0]: \"http://a\" never matches: a host has no scheme; use \"a\"",
        ),
        (
            "DENY",
            when("request.headers[x-a]", "a "),
            "when[0].values[0]: \"a \" never matches: spaces around a value are no part of it; take them out",
        ),
        (
            "DENY",
            when("request.cookies[a]", "a;b"),
            "when[0].values[0]: \"a;b\" never matches: a cookie's value ends at a semicolon; take it out",
        ),
    ] {
        let expected = format!("authorization[0].rules[0].{expected}");
        assert_eq!(warnings(rule(action, given.clone())), [expected], "{given}");
    }
    for given in [
        operation(
            json!({"methods": ["GET", "*"], "hosts": ["*.example.com", "a:80"], "paths": ["/a", "*.css", "*"]}),
        ),
        operation(json!({"paths": ["/a%2Db", "/{*}/x", "/a//b", "/a;x"]})),
        when("request.headers[x-a]", "a b"),
    ] {
        assert!(warnings(rule("DENY", given.clone())).is_empty(), "{given}");
    }
    let allowed = json!({"ambiguousPaths": "allow", "authorization": [{"rules": [operation(json!({"paths": ["/a%2Fb"]}))]}]});
    assert!(warnings(allowed).is_empty());
}

#[test]
fn a_request_principal_that_no_rule_can_have_is_warned_of() {
    let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]});
    let rules = json!([
        {"issuer": "https://a.example", "jwks": jwks},
        {"name": "more", "issuers": [{"exact": "https://a.example/deep"}, {"prefix": "https://b."}], "jwks": jwks},
    ]);
    let warned = |value: &str| {
        let rule = json!({"from": [{"source": {"requestPrincipals": [value]}}]});
        let document = json!({"authentication": {"jwtRules": rules}, "authorization": [{"action": "DENY", "rules": [rule]}]});
        warnings(document)
    };
    for value in [
        "*",
        "https://a.example/repo:my-org/some-repo:ref:refs/heads/main",
        "https://a.example/repo:evil-org/*",
        "https://a.example/deep/alice",
        "https://b.example/alice",
        "*example/alice",
        "https://a.example/*",
    ] {
        assert!(warned(value).is_empty(), "{value}: {:?}", warned(value));
    }
    for value in ["https://c.example/alice", "alice", "https://b", "https://c.example/*"] {
        let [warning] = &warned(value)[..] else { panic!("{value}") };
        assert_eq!(
            *warning,
            format!(
                "authorization[0].rules[0].from[0].source.requestPrincipals[0]: \"{value}\" never matches: no jwtRule \
                 accepts tokens of the issuer that it names; it is the issuer of a rule, a slash and the subject"
            )
        );
    }
}
