//! Paths, hosts, methods, ports.

use super::*;

fn paths(action: &str, paths: &[&str]) -> Policy {
    one(action, json!({"to": [{"operation": {"paths": paths}}]}))
}

#[test]
fn paths_are_matched_without_query_and_fragment() {
    let policy = paths("ALLOW", &["/info", "/api/*", "*.css", "/users/{*}/posts"]);
    for path in
        ["/info", "/info?a=/x", "/info#x", "/info?", "/api/", "/api/a/b?c", "/a/b.css?v=1", "/users/7/posts"]
    {
        assert!(get(path).passes(&policy), "{path}");
    }
    for path in
        ["/info/", "/INFO", "/api", "/a.css/b", "/users//posts", "/users/7/posts/", "/x?y=/info", "/?.css"]
    {
        assert!(!get(path).passes(&policy), "{path}");
    }
}

#[test]
fn parameters_are_read_both_ways() {
    let deny = paths("DENY", &["/private/*"]);
    for path in ["/private/x", "/private;a=b/x", "/;a/private/x", "/private/;a"] {
        assert!(!get(path).passes(&deny), "{path}");
    }
    let kept = paths("DENY", &["/a;v=1/*"]);
    assert!(!get("/a;v=1/x").passes(&kept));
    let allow = paths("ALLOW", &["/public/*"]);
    assert!(get("/public/x;a=b").passes(&allow));
    assert!(!get("/public;a=b/x").passes(&allow), "only in one reading");
    let either = paths("ALLOW", &["/public/*", "/public;*"]);
    assert!(get("/public;a=b/x").passes(&either), "each reading matches the same rule");
    let not = one("ALLOW", json!({"to": [{"operation": {"notPaths": ["/private/*"]}}]}));
    assert!(!get("/private;a=b/x").passes(&not));
    assert!(get("/open;a=b/x").passes(&not));
}

#[test]
fn unreserved_characters_may_be_escaped_on_both_sides() {
    let policy = paths("DENY", &["/%61dmin"]);
    for path in ["/admin", "/%61dmin", "/adm%69n"] {
        assert!(!get(path).passes(&policy), "{path}");
    }
}

#[test]
fn an_ambiguous_path_is_refused_where_a_path_rule_is_in_force() {
    let ambiguous = Some((400, "meshfilter_ambiguous_path".to_owned()));
    let by_path = json!({"name": "p", "rules": [{"to": [{"operation": {"paths": ["/*"]}}]}]});
    let by_key =
        json!({"name": "p", "rules": [{"when": [{"key": "request.headers[:path]", "values": ["*"]}]}]});
    let by_value = json!({"name": "p", "action": "DENY", "rules": [{"when": [
        {"key": "request.headers[x]", "values": [{"attribute": "request.path[0]"}]}]}]});
    let shadow = json!({"name": "p", "mode": "shadow", "rules": by_path["rules"]});
    let audit = json!({"name": "p", "action": "AUDIT", "rules": by_path["rules"]});
    let other = json!({"name": "p", "rules": [{}]});
    for (policy, expected) in [
        (&by_path, &ambiguous),
        (&by_key, &ambiguous),
        (&by_value, &ambiguous),
        (&shadow, &None),
        (&audit, &None),
        (&other, &None),
    ] {
        for path in ["/a%2Fb", "/a/../b", "/a\\b", "/..;x/b", "/%2e%2E/b"] {
            let document = json!({"authorization": [policy]});
            assert_eq!(get(path).refusal(&compile(document.clone())), *expected, "{path} {document}");
            let document = json!({"authorization": [policy], "ambiguousPaths": "allow"});
            assert_eq!(get(path).refusal(&compile(document.clone())), None, "{path} {document}");
            let document = json!({"authorization": [policy], "ambiguousPaths": "reject"});
            assert_eq!(get(path).refusal(&compile(document.clone())), *expected, "{path} {document}");
        }
        assert_eq!(get("/a?x=/../%2f").refusal(&compile(json!({"authorization": [policy]}))), None);
    }
}

#[test]
fn hosts_ignore_case() {
    let hosts = |list: &[&str]| one("ALLOW", json!({"to": [{"operation": {"hosts": list}}]}));
    let ask = |policy: &Policy, host: &str| get("/").header(":authority", host).passes(policy);
    for (list, yes, no) in [
        (
            &["Example.com"][..],
            &["example.com", "EXAMPLE.COM"][..],
            &["example.org", "example.com:80", ""][..],
        ),
        (&["*.example.com"], &["a.example.com", "A.EXAMPLE.com"], &["example.com", "a.example.com:80"]),
        (&["example.*"], &["example.org", "example.com:80"], &["a.example.org"]),
        (&["*"], &["x", ""], &[]),
        (&["example.com:8080"], &["EXAMPLE.com:8080"], &["example.com", "example.com:80"]),
    ] {
        for host in yes {
            assert!(ask(&hosts(list), host), "{list:?} {host}");
        }
        for host in no {
            assert!(!ask(&hosts(list), host), "{list:?} {host}");
        }
    }
    let regex = one("ALLOW", json!({"to": [{"operation": {"hosts": [{"regex": "[a-c]\\.example\\.com"}]}}]}));
    assert!(ask(&regex, "B.Example.Com"));
    assert!(!ask(&regex, "d.example.com"));
}

#[test]
fn a_port_or_a_dot_does_not_lead_a_host_past_its_rule() {
    let deny = one("DENY", json!({"to": [{"operation": {"hosts": ["admin.example.com", "*.internal"]}}]}));
    let not = one("ALLOW", json!({"to": [{"operation": {"notHosts": ["admin.example.com"]}}]}));
    for host in [
        "admin.example.com",
        "admin.example.com:80",
        "ADMIN.example.com.",
        "admin.example.com.:1",
        "a.internal:1",
    ] {
        assert!(!get("/").header(":authority", host).passes(&deny), "{host}");
        assert_eq!(get("/").header(":authority", host).passes(&not), host == "a.internal:1", "{host}");
    }
    assert!(get("/").header(":authority", "www.example.com:80").passes(&deny));
}

#[test]
fn methods_and_ports_are_compared_as_they_are() {
    let methods = one("ALLOW", json!({"to": [{"operation": {"methods": ["GET", "P*"]}}]}));
    for (method, passes) in [("GET", true), ("get", false), ("PATCH", true), ("DELETE", false)] {
        assert_eq!(get("/").header(":method", method).passes(&methods), passes, "{method}");
    }
    let ports =
        |action: &str, name: &str| one(action, json!({"to": [{"operation": {name: ["80", "8080"]}}]}));
    let ask = |policy: &Policy, port: i64| {
        get("/").attribute("destination.port", port.to_le_bytes()).passes(policy)
    };
    assert!(ask(&ports("ALLOW", "ports"), 8080));
    assert!(!ask(&ports("ALLOW", "ports"), 8081));
    assert!(!ask(&ports("ALLOW", "notPorts"), 80));
    assert!(ask(&ports("ALLOW", "notPorts"), 81));
    let when = one("ALLOW", json!({"when": [{"key": "destination.port", "values": ["80"]}]}));
    assert!(ask(&when, 80));
    assert!(!ask(&when, 8080));
    // A port that the proxy does not tell is neither.
    for policy in [
        ports("ALLOW", "ports"),
        ports("ALLOW", "notPorts"),
        ports("DENY", "ports"),
        ports("DENY", "notPorts"),
    ] {
        assert!(!get("/").passes(&policy));
    }
}

#[cfg(not(target_family = "wasm"))]
proptest::proptest! {
    /// Whatever a path looks like, a DENY and an ALLOW of the same rule never both let it pass.
    #[test]
    fn what_a_rule_refuses_it_does_not_also_let_pass(path in "/[a-c/;.%2efF]{0,12}", pattern in "/[a-c]{0,2}\\*?") {
        let asked = get(&path);
        let allow = asked.passes(&paths("ALLOW", &[&pattern]));
        let deny = asked.passes(&paths("DENY", &[&pattern]));
        proptest::prop_assert!(!(allow && deny), "{} {}", path, pattern);
    }
}
