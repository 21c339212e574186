use std::rc::Rc;

use serde_json::{Value, json};

use super::*;
use crate::document;
use meshfilter_core::policy::{Facts, Token};
use meshfilter_core::request::Request;
use meshfilter_json::{self as json, Errors};

fn compiled(source: &Value) -> Result<HttpMatch, Vec<String>> {
    let errors = Errors::default();
    let matched = {
        let cx = Context::new(&|_| None, &errors);
        let root = Path::ROOT.field("match");
        let source: document::HttpMatch = json::read(source, &root, &errors).unwrap_or_default();
        compile(&source, Purpose::Routing, &root, &cx)
    };
    match errors.count() {
        0 => Ok(matched),
        _ => Err(errors.into_vec().iter().map(ToString::to_string).collect()),
    }
}

fn request(headers: &[(&str, &str)]) -> Request<'static> {
    let defaults = [(":method", "GET"), (":scheme", "https"), (":authority", "example.com"), (":path", "/")];
    let missing = defaults.iter().filter(|(name, _)| headers.iter().all(|(given, _)| given != name));
    Request::new(missing.chain(headers).copied().collect(), vec![Some(8080i64.to_le_bytes().to_vec())], 0)
}

fn claims(claims: Value) -> Facts {
    let claims = claims.as_object().unwrap().clone();
    Facts { token: Some(Rc::new(Token { claims, ..Token::default() })), ..Facts::default() }
}

/// Which of the requests match, as a string of 1 and 0.
fn matches(source: Value, requests: &[&[(&str, &str)]]) -> String {
    let compiled = compiled(&source).unwrap();
    let facts = Facts::default();
    requests
        .iter()
        .map(|headers| if compiled.is_match(&request(headers), &facts) { '1' } else { '0' })
        .collect()
}

#[test]
fn the_path_is_matched_without_its_query_and_a_prefix_is_not_segment_wise() {
    let paths: [&[(&str, &str)]; 6] = [
        &[(":path", "/api")],
        &[(":path", "/api?x=/y")],
        &[(":path", "/apis#f")],
        &[(":path", "/API/x")],
        &[(":path", "/x/api")],
        &[(":path", "")],
    ];
    for (uri, expected) in [
        (json!({"exact": "/api"}), "110000"),
        (json!({"prefix": "/api"}), "111000"),
        (json!({"suffix": "api"}), "110010"),
        (json!({"contains": "pi"}), "111010"),
        (json!({"regex": "/api.?"}), "111000"),
        (json!({"regex": "api"}), "000000"),
    ] {
        assert_eq!(matches(json!({"uri": uri}), &paths), expected, "{uri}");
    }
    for (uri, expected) in [
        (json!({"exact": "/API"}), "110000"),
        (json!({"prefix": "/Api"}), "111100"),
        (json!({"regex": "/api.*"}), "111000"),
    ] {
        assert_eq!(matches(json!({"uri": uri, "ignoreUriCase": true}), &paths), expected, "{uri}");
    }
}

#[test]
fn method_scheme_authority_and_port_are_matched_with_their_case() {
    let requests: [&[(&str, &str)]; 3] = [
        &[],
        &[(":method", "get"), (":scheme", "http"), (":authority", "EXAMPLE.com")],
        &[(":method", "POST")],
    ];
    assert_eq!(matches(json!({"method": {"exact": "GET"}}), &requests), "100");
    assert_eq!(matches(json!({"method": {"regex": "GET|POST"}}), &requests), "101");
    assert_eq!(matches(json!({"scheme": {"exact": "https"}}), &requests), "101");
    assert_eq!(matches(json!({"authority": {"prefix": "example."}}), &requests), "101");
    assert_eq!(matches(json!({"headers": {"Host": {"exact": "EXAMPLE.com"}}}), &requests), "010");
    assert_eq!(matches(json!({"port": 8080}), &requests), "111");
    assert_eq!(matches(json!({"port": 80}), &requests), "000");
    assert_eq!(matches(json!({"name": "all"}), &requests), "111");
}

#[test]
fn headers_are_matched_one_by_one_and_presence_takes_an_empty_value() {
    let requests: [&[(&str, &str)]; 5] =
        [&[], &[("x-a", "")], &[("x-a", "one")], &[("x-a", "two"), ("x-a", "one")], &[("x-a", "two,one")]];
    for (value, expected, without) in [
        (json!({"exact": "one"}), "00110", "11001"),
        (json!({"prefix": "o"}), "00110", "11001"),
        (json!({"exact": ""}), "01000", "10111"),
        (json!({}), "01111", "10000"),
        (json!({"present": true}), "01111", "10000"),
        (json!({"regex": "*"}), "01111", "10000"),
        (json!({"regex": ".*"}), "01111", "10000"),
        (json!({"regex": ".+"}), "00111", "11000"),
    ] {
        assert_eq!(matches(json!({"headers": {"X-A": value}}), &requests), expected, "{value}");
        assert_eq!(matches(json!({"withoutHeaders": {"X-A": value}}), &requests), without, "{value}");
    }
    assert_eq!(matches(json!({"headers": {"x-a": {"present": false}}}), &requests), "10000");
}

#[test]
fn cookies_are_matched_by_any_of_their_values_and_query_parameters_by_the_first() {
    let requests: [&[(&str, &str)]; 4] = [
        &[(":path", "/?a=1&a=2"), ("cookie", "a=1"), ("cookie", "b=; a=2")],
        &[(":path", "/?a=%32"), ("cookie", "a=\"2\"")],
        &[(":path", "/?a"), ("cookie", "a=")],
        &[],
    ];
    for (name, expected) in [("queryParams", "0100"), ("cookies", "1100")] {
        assert_eq!(matches(json!({name: {"a": {"exact": "2"}}}), &requests), expected, "{name}");
        assert_eq!(matches(json!({name: {"a": {}}}), &requests), "1110", "{name}");
        assert_eq!(matches(json!({name: {"a": {"present": false}}}), &requests), "0001", "{name}");
    }
}

#[test]
fn a_claim_is_a_string_or_a_list_that_has_it() {
    let holders = [
        json!({"g": "admin"}),
        json!({"g": ["user", "admin"]}),
        json!({"g": 1}),
        json!({"g": true}),
        json!({"g": null}),
        json!({}),
        json!({"g": [1, "1"]}),
    ];
    let decisions = |source: Value| -> String {
        let compiled = compiled(&source).unwrap();
        let request = request(&[]);
        let decide = |holder: &Value| {
            if compiled.is_match(&request, &claims(holder.clone())) { '1' } else { '0' }
        };
        holders.iter().map(decide).collect()
    };
    assert_eq!(decisions(json!({"claims": {"g": {"exact": "admin"}}})), "1100000");
    assert_eq!(decisions(json!({"claims": {"[g]": {"exact": "1"}}})), "0000001");
    assert_eq!(decisions(json!({"claims": {"g": {"exact": "true"}}})), "0000000");
    assert_eq!(decisions(json!({"claims": {"g": {}}})), "1111001");
    assert_eq!(decisions(json!({"claims": {"g": {"present": false}}})), "0000110");
    assert_eq!(decisions(json!({"headers": {"@request.auth.claims.g": {"prefix": "ad"}}})), "1100000");
    assert_eq!(decisions(json!({"headers": {"@request.auth.claims[g]": {"prefix": "ad"}}})), "1100000");
    assert_eq!(
        decisions(json!({"withoutHeaders": {"@request.auth.claims.g": {"exact": "admin"}}})),
        "0011111"
    );
    let nested = compiled(&json!({"claims": {"[a.b][c]": {"exact": "x"}}})).unwrap();
    assert!(nested.is_match(&request(&[]), &claims(json!({"a.b": {"c": "x"}}))));
    assert!(!nested.is_match(&request(&[]), &Facts::default()));
}

#[test]
fn all_conditions_hold_together_and_none_hold_always() {
    let requests: [&[(&str, &str)]; 3] =
        [&[("x-a", "1"), (":path", "/a")], &[("x-a", "1")], &[(":path", "/a")]];
    let both = json!({"uri": {"prefix": "/a"}, "headers": {"x-a": {"exact": "1"}}});
    assert_eq!(matches(both, &requests), "100");
    assert_eq!(matches(json!({}), &requests), "111");
}

#[test]
fn bytes_that_are_no_text_are_matched_as_bytes() {
    let mut raw = request(&[]);
    raw.set_header("x-a", b"a\xffb");
    let facts = Facts::default();
    for (value, expected) in [
        (json!({"prefix": "a"}), true),
        (json!({"suffix": "b"}), true),
        (json!({"regex": "a.b"}), false),
        (json!({}), true),
    ] {
        let compiled = compiled(&json!({"headers": {"x-a": value}})).unwrap();
        assert_eq!(compiled.is_match(&raw, &facts), expected, "{value}");
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_with_the_reason() {
    for (source, expected) in [
        (json!({"gateways": ["mesh"]}), "match.gateways: a plugin does not know Istio's gateways"),
        (json!({"sourceLabels": {"app": "a"}}), "match.sourceLabels: a plugin does not know the labels"),
        (json!({"sourceNamespace": "a"}), "match.sourceNamespace: a plugin does not know the namespace"),
        (json!({"statPrefix": "a"}), "match.statPrefix: a plugin cannot name Envoy's route statistics"),
        (json!({"uri": {}}), "match.uri: nothing to match; use exact, prefix, suffix, contains or regex"),
        (json!({"method": {"present": true}}), "match.method.present: it is always there"),
        (json!({"scheme": {"present": false}}), "match.scheme.present: it is always there"),
        (json!({"uri": {"exact": "/", "prefix": "/"}}), "match.uri: more than one kind of match"),
        (json!({"uri": {"exact": "/", "pathPrefix": "/"}}), "match.uri: more than one kind of match"),
        (json!({"uri": {"present": true}}), "match.uri.present: a path is always there"),
        (
            json!({"uri": {"pathPrefix": "api"}}),
            "match.uri.pathPrefix: \"api\" is not the beginning of a path; use one such as /api",
        ),
        (json!({"uri": {"pathPrefix": "/a?b"}}), "match.uri.pathPrefix: \"/a?b\" is not the beginning"),
        (json!({"remoteIpBlocks": []}), "match.remoteIpBlocks: an empty list; name an address block"),
        (
            json!({"notRemoteIpBlocks": ["10.0.0.0/8", "10.0.0.0/99"]}),
            "match.notRemoteIpBlocks[1]: \"10.0.0.0/99\" is no address block; use one such as",
        ),
        (json!({"uri": {"regex": "("}}), "match.uri.regex: \"(\" is not a regular expression"),
        (json!({"ignoreUriCase": true}), "match.ignoreUriCase: there is no uri whose case could count"),
        (json!({"port": 0}), "match.port: 0 is not a port; use 1 to 65535"),
        (json!({"port": 70000}), "match.port: 70000 is out of range"),
        (json!({"headers": {"a b": {}}}), "match.headers[a b]: \"a b\" is not a header's name"),
        (json!({"headers": {"uri": {}}}), "match.headers[uri]: Istio ignores \"uri\" among the headers"),
        (
            json!({"withoutHeaders": {"a": {"present": false}}}),
            "match.withoutHeaders[a].present: false asks here",
        ),
        (json!({"claims": {"a..b": {}}}), "match.claims[a..b]: \"a..b\" is not a claim's path"),
        (
            json!({"headers": {"@request.auth.claims": {}}}),
            "match.headers[@request.auth.claims]: \"@request.auth.claims\" names no claim",
        ),
        (json!({"headers": {"@request.auth.claims[a": {}}}), "is not a claim's path"),
        (json!({"cookies": {"": {}}}), "match.cookies[]: an empty name; give one"),
        (json!({"queryParams": {"": {}}}), "match.queryParams[]: an empty name; give one"),
        (
            json!({"queryParam": {"a": {}}}),
            "match.queryParam: there is no field \"queryParam\" here; did you mean",
        ),
        // What would be refused is not recommended.
        (
            json!({"gateway": []}),
            "match.gateway: there is no field \"gateway\" here; use \"name\", \"uri\", \"scheme\", \"method\", \"authority\", \"headers\", \"withoutHeaders\", \"queryParams\", \"ignoreUriCase\", \"port\", \"cookies\", \"claims\", \"remoteIpBlocks\" or \"notRemoteIpBlocks\"",
        ),
    ] {
        let errors = compiled(&source).unwrap_err();
        assert!(errors.len() == 1 && errors[0].contains(expected), "{source}: {errors:?}");
    }
}

#[test]
fn what_can_never_match_is_warned_of_in_every_match() {
    let conditions = json!([{
        "uri": {"exact": "a"}, "method": {"exact": "get"}, "scheme": {"exact": "ftp"},
        "authority": {"exact": "http://a"}, "headers": {"host": {"exact": "*.a"}, "x-a": {"prefix": " "}},
        "withoutHeaders": {":method": {"exact": "put"}}, "cookies": {"a": {"exact": "b;c"}},
    }]);
    let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]});
    let document = json!({
        "authentication": {
            "jwtRules": [{"issuer": "i", "jwks": jwks}],
            "requirements": [{"match": conditions}, {"require": "none"}, {"match": [{"uri": {"exact": "/a/.."}}]}],
        },
        "http": [{"match": conditions}],
        "rateLimits": [{"match": conditions, "tokenBucket": {"maxTokens": 1, "fillInterval": "1s"}}],
    });
    let compiled = crate::compile(&document, &|_| None, Errors::default()).unwrap();
    let warnings: Vec<String> = compiled.warnings.iter().map(ToString::to_string).collect();
    for place in ["authentication.requirements[0]", "http[0]", "rateLimits[0]"] {
        for expected in [
            "uri.exact: \"a\" never matches: a path begins with a slash; add it",
            "method.exact: \"get\" never matches: methods are in capitals; use \"GET\"",
            "scheme.exact: \"ftp\" never matches: a scheme is http or https",
            "authority.exact: \"http://a\" never matches: a host has no scheme; use \"a\"",
            "headers[host].exact: \"*.a\" never matches: a * is no wildcard here; use suffix or regex",
            "headers[x-a].prefix: \" \" never matches: spaces around a value are no part of it; take them out",
            "withoutHeaders[:method].exact: \"put\" never matches: methods are in capitals; use \"PUT\"",
            "cookies[a].exact: \"b;c\" never matches: a cookie's value ends at a semicolon; take it out",
        ] {
            let expected = format!("{place}.match[0].{expected}");
            assert!(warnings.contains(&expected), "{expected}: {warnings:#?}");
        }
    }
    for expected in [
        "authentication.requirements[1]: matches every request; the entries after it are never reached",
        "authentication.requirements[2].match[0].uri.exact: \"/a/..\" never matches: a path with an escaped slash, a \
         backslash or a dot segment is refused; see ambiguousPaths",
    ] {
        assert!(warnings.iter().any(|warning| warning == expected), "{expected}: {warnings:#?}");
    }
    assert_eq!(warnings.len(), 3 * 8 + 2, "{warnings:#?}");
}
