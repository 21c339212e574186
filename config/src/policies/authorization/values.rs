//! Conditions on headers, tokens and whatever else has a text.

use super::*;

fn when(action: &str, key: &str, list: &str, values: Value) -> Policy {
    one(action, json!({"when": [{"key": key, list: values}]}))
}

fn values(key: &str, values: Value) -> Policy {
    when("ALLOW", key, "values", values)
}

#[test]
fn a_star_on_a_header_needs_the_header_even_empty() {
    for key in ["request.headers[X-A]", "request.query[a]", "request.cookies[a]"] {
        let policy = values(key, json!(["*"]));
        assert!(!get("/").passes(&policy), "{key}");
        assert!(get("/?a").header("x-a", "").header("cookie", "a=").passes(&policy), "{key}");
        let not = when("ALLOW", key, "notValues", json!(["*"]));
        assert!(get("/").passes(&not), "{key}");
        assert!(!get("/?a=").header("x-a", "").header("cookie", "a=").passes(&not), "{key}");
    }
}

#[test]
fn repeated_values_are_matched_one_by_one() {
    let policy = values("request.headers[x-a]", json!(["admin", "dev*"]));
    assert!(get("/").header("x-a", "user").header("x-a", "admin").passes(&policy));
    assert!(get("/").header("x-a", "developer").passes(&policy));
    assert!(!get("/").header("x-a", "user,admin").passes(&policy));
    assert!(!get("/").header("x-a", "Admin").passes(&policy));
    let not = when("DENY", "request.headers[x-a]", "notValues", json!(["admin"]));
    assert!(get("/").header("x-a", "user").header("x-a", "admin").passes(&not));
    assert!(!get("/").passes(&not));

    let query = values("request.query[role]", json!(["admin"]));
    assert!(get("/?role=user&role=%61dmin").passes(&query));
    assert!(!get("/?roles=admin").passes(&query));
    let cookie = values("request.cookies[role]", json!(["admin"]));
    assert!(get("/").header("cookie", "a=b; role=user").header("cookie", "role=\"admin\"").passes(&cookie));
    assert!(!get("/").header("cookie", "xrole=admin").passes(&cookie));
}

#[test]
fn the_host_header_is_the_authority() {
    let policy = values("request.headers[Host]", json!(["example.com"]));
    assert!(get("/").passes(&policy));
}

#[test]
fn claims_are_strings_or_lists_of_them() {
    let policy = values("request.auth.claims[groups]", json!(["admin", "dev-*"]));
    for (groups, passes) in [
        (json!("admin"), true),
        (json!(["user", "dev-7"]), true),
        (json!(["user"]), false),
        (json!([["admin"]]), false),
        (json!({"admin": true}), false),
        (json!(null), false),
    ] {
        assert_eq!(get("/").token(json!({"groups": groups})).passes(&policy), passes, "{groups}");
    }
    assert!(!get("/").passes(&policy));
    let nested = values("request.auth.claims[a][b.c]", json!(["x"]));
    assert!(get("/").token(json!({"a": {"b.c": "x"}})).passes(&nested));
    assert!(!get("/").token(json!({"a": {"b": {"c": "x"}}})).passes(&nested));
}

#[test]
fn numbers_and_booleans_never_match_a_string() {
    for claim in [json!(7), json!(true), json!([7, true]), json!(7.5)] {
        for pattern in ["7", "true", "7.5", "*"] {
            let policy = values("request.auth.claims[c]", json!([pattern]));
            assert!(!get("/").token(json!({"c": claim})).passes(&policy), "{claim} {pattern}");
        }
    }
}

#[test]
fn a_star_on_a_claim_needs_something_in_it() {
    let policy = values("request.auth.claims[c]", json!(["*"]));
    for (claim, passes) in
        [(json!(""), false), (json!([]), false), (json!([""]), false), (json!(["", "a"]), true)]
    {
        assert_eq!(get("/").token(json!({"c": claim})).passes(&policy), passes, "{claim}");
    }
}

#[test]
fn audiences_and_the_presenter_are_claims() {
    let audience = values("request.auth.audiences", json!(["api", "web*"]));
    assert!(get("/").token(json!({"aud": ["x", "website"]})).passes(&audience));
    assert!(get("/").token(json!({"aud": "api"})).passes(&audience));
    assert!(!get("/").token(json!({"aud": "x"})).passes(&audience));
    let presenter = values("request.auth.presenter", json!(["app"]));
    assert!(get("/").token(json!({"azp": "app"})).passes(&presenter));
}

#[test]
fn request_principals_are_split_at_the_last_slash() {
    let iss = "https://auth.example.com";
    for (value, yes, no) in [
        (
            "https://auth.example.com/alice",
            &[(iss, "alice")][..],
            &[(iss, "bob"), ("https://auth.example.com/x", "alice")][..],
        ),
        ("https://auth.example.com/*", &[(iss, "alice")], &[("https://other", "alice"), (iss, "")]),
        ("https://auth.example.com/al*", &[(iss, "alice"), (iss, "al")], &[(iss, "bob")]),
        ("*/alice", &[(iss, "alice"), ("x", "alice")], &[(iss, "bob"), ("", "alice")]),
        ("*.com/alice", &[(iss, "alice")], &[("https://auth.example.org", "alice")]),
        ("*alice", &[(iss, "alice"), (iss, "xalice")], &[(iss, "bob"), ("", "alice")]),
        ("https*", &[(iss, "alice")], &[("x", "alice")]),
        ("issuer*", &[("issuer-1", "alice")], &[("issuer-1", "")]),
        ("*", &[(iss, "alice")], &[("", "alice"), (iss, "")]),
        ("issuer", &[("issuer", "")], &[("issuer", "alice")]),
        // The subject's own slash is the last one, as in Istio.
        ("iss/a/b", &[("iss/a", "b")], &[("iss", "a/b")]),
    ] {
        for list in [
            json!({"from": [{"source": {"requestPrincipals": [value]}}]}),
            json!({"when": [{"key": "request.auth.principal", "values": ["nobody/x", value]}]}),
        ] {
            let (allow, deny) = (one("ALLOW", list.clone()), one("DENY", list));
            for (iss, sub) in yes {
                let asked = get("/").token(json!({"iss": iss, "sub": sub}));
                assert!(asked.passes(&allow) && !asked.passes(&deny), "{value} {iss} {sub}");
            }
            for (iss, sub) in no {
                let asked = get("/").token(json!({"iss": iss, "sub": sub}));
                assert!(!asked.passes(&allow) && asked.passes(&deny), "{value} {iss} {sub}");
            }
        }
    }
    let policy = one("ALLOW", json!({"from": [{"source": {"requestPrincipals": ["*"]}}]}));
    for claims in [
        json!({"iss": "a"}),
        json!({"sub": "a"}),
        json!({"iss": 1, "sub": "a"}),
        json!({"iss": "a", "sub": 1}),
    ] {
        assert!(!get("/").token(claims.clone()).passes(&policy), "{claims}");
    }
    assert!(!get("/").passes(&policy));
    let not = one("DENY", json!({"from": [{"source": {"notRequestPrincipals": ["*"]}}]}));
    assert!(!get("/").passes(&not), "no token");
    assert!(get("/").token(json!({"iss": "a", "sub": "b"})).passes(&not));
    let regex = one("ALLOW", json!({"from": [{"source": {"requestPrincipals": [{"regex": "a/[bc]"}]}}]}));
    assert!(get("/").token(json!({"iss": "a", "sub": "c"})).passes(&regex));
    assert!(!get("/").token(json!({"iss": "a", "sub": "d"})).passes(&regex));
}

#[test]
fn an_attribute_may_be_compared_with_another() {
    let same = |action: &str, key: &str, list: &str, other: &str| {
        when(action, key, list, json!([{"attribute": other}]))
    };
    let tenant = same("ALLOW", "request.auth.claims[tenant]", "values", "request.path[1]");
    assert!(get("/tenants/acme/x").token(json!({"tenant": "acme"})).passes(&tenant));
    assert!(get("/tenants/acme").token(json!({"tenant": ["b", "acme"]})).passes(&tenant));
    assert!(!get("/tenants/acme/x").token(json!({"tenant": "other"})).passes(&tenant));
    assert!(!get("/tenants").token(json!({"tenant": "acme"})).passes(&tenant));
    assert!(!get("/tenants/acme").passes(&tenant));
    assert!(
        !get("/tenants/acme;v=1/x").token(json!({"tenant": "acme"})).passes(&tenant),
        "in one reading only"
    );
    let deny = same("DENY", "request.auth.claims[tenant]", "notValues", "request.path[1]");
    assert!(get("/tenants/acme").token(json!({"tenant": "acme"})).passes(&deny));
    assert!(!get("/tenants/acme;v=1").token(json!({"tenant": "acme"})).passes(&deny), "in one reading");
    assert!(!get("/tenants").token(json!({"tenant": "acme"})).passes(&deny));
    let header = same("ALLOW", "request.headers[x-user]", "values", "request.auth.claims[sub]");
    assert!(get("/").header("x-user", "alice").token(json!({"sub": "alice"})).passes(&header));
    let principal = same("ALLOW", "request.headers[x-user]", "values", "request.auth.principal");
    assert!(
        get("/").header("x-user", "i/alice").token(json!({"iss": "i", "sub": "alice"})).passes(&principal)
    );
    assert!(!get("/").header("x-user", "").passes(&principal));
}

#[test]
fn a_byte_that_is_no_text_leads_past_no_rule() {
    for (expression, value, held) in [
        (".*", &b"\xff"[..], true),
        (".*admin.*", b"\xe4admin", true),
        ("[^x]*", b"a\xff", true),
        ("b\u{e4}r", b"b\xe4r", true),
        ("user", b"adm\xffin", false),
    ] {
        let list = json!([{"regex": expression}]);
        let asked = get("/").header("x-a", value);
        let deny = when("DENY", "request.headers[x-a]", "values", list.clone());
        assert_eq!(asked.passes(&deny), !held, "{expression}");
        let not = when("ALLOW", "request.headers[x-a]", "notValues", list);
        assert_eq!(asked.passes(&not), !held, "{expression}");
    }
    // What cannot be told lets nothing pass either.
    let list = json!([{"regex": "b\u{e4}r"}]);
    assert!(!get("/").header("x-a", b"b\xe4r").passes(&when(
        "ALLOW",
        "request.headers[x-a]",
        "values",
        list.clone()
    )));
    assert!(!get("/").header("x-a", b"b\xe4r").passes(&when(
        "DENY",
        "request.headers[x-a]",
        "notValues",
        list
    )));
    // Nor does a line's end that a query can bring along.
    let deny = when("DENY", "request.query[q]", "values", json!([{"regex": ".*admin.*"}]));
    assert!(!get("/?q=%0Aadmin").passes(&deny));
    // Plain texts are bytes anyway.
    let deny = when("DENY", "request.headers[x-a]", "values", json!(["a*"]));
    assert!(!get("/").header("x-a", b"a\xff").passes(&deny));
}

#[test]
fn the_server_name_and_other_filters_metadata_are_texts() {
    let sni = values("connection.sni", json!(["*.example.com"]));
    assert!(get("/").attribute("connection.requested_server_name", "a.example.com").passes(&sni));
    assert!(!get("/").passes(&sni));
    let any = values("connection.sni", json!(["*"]));
    assert!(!get("/").attribute("connection.requested_server_name", "").passes(&any));

    let key = "experimental.envoy.filters.a.b[c]";
    let name = "metadata.filter_metadata.envoy.filters.a.b.c";
    let policy = values(key, json!(["exact", "prefix-*", "[item]", "[*-end]"]));
    let list =
        |items: &[&str]| HeaderMap::serialize(&items.iter().map(|item| (*item, "")).collect::<Vec<_>>());
    for (value, passes) in [
        (b"exact".to_vec(), true),
        (b"prefix-x".to_vec(), true),
        (b"item".to_vec(), false),
        (list(&["x", "item"]), true),
        (list(&["the-end"]), true),
        (list(&["exact"]), false),
        (list(&[]), false),
    ] {
        assert_eq!(get("/").attribute(name, &value).passes(&policy), passes, "{value:?}");
    }
    let any = values(key, json!(["*"]));
    assert!(!get("/").attribute(name, 5f64.to_le_bytes()).passes(&any), "a number");
    assert!(!get("/").attribute(name, [1]).passes(&any), "a boolean");
    assert!(!get("/").passes(&any));
    assert!(get("/").attribute(name, "x").passes(&any));
}
