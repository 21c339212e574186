//! Who asks: certificates and addresses.

use super::*;

const FRONTEND: &str = "spiffe://cluster.local/ns/default/sa/frontend";

fn source(action: &str, source: Value) -> Policy {
    one(action, json!({"from": [{"source": source}]}))
}

fn sources(name: &str, list: &[&str]) -> Policy {
    source("ALLOW", json!({name: list}))
}

fn from(uri: &str) -> Asked {
    get("/").peer(uri)
}

#[test]
fn principals_are_spiffe_ids_without_their_scheme() {
    for (list, yes, no) in [
        (
            &["cluster.local/ns/default/sa/frontend"][..],
            &[FRONTEND][..],
            &["spiffe://cluster.local/ns/default/sa/other"][..],
        ),
        (&["cluster.local/*"], &[FRONTEND], &["spiffe://cluster.locals/ns/a/sa/b"]),
        (&["*/sa/frontend"], &[FRONTEND, "spiffe://td/ns/x/sa/frontend"], &["spiffe://td/sa/frontend/x"]),
        (&["*"], &[FRONTEND, "spiffe://td"], &["https://cluster.local/ns/default/sa/frontend"]),
    ] {
        let policy = sources("principals", list);
        for uri in yes {
            assert!(from(uri).passes(&policy), "{list:?} {uri}");
        }
        for uri in no {
            assert!(!from(uri).passes(&policy), "{list:?} {uri}");
        }
        assert!(!get("/").passes(&policy), "{list:?} without a certificate");
    }
    let not = sources("notPrincipals", &["*/sa/frontend"]);
    assert!(!from(FRONTEND).passes(&not));
    assert!(get("/").passes(&not), "who has no certificate is not that one");
    let regex = source("ALLOW", json!({"principals": [{"regex": "cluster\\.local/ns/[a-z]+/sa/front.*"}]}));
    assert!(from(FRONTEND).passes(&regex));
}

#[test]
fn names_of_the_mesh_are_exchanged_for_each_other() {
    let policy = |aliases: &[&str], principal: &str| {
        compile(json!({"trustDomainAliases": aliases, "authorization": [
            {"rules": [{"from": [{"source": {"principals": [principal]}}]}]}]}))
    };
    let id = |domain: &str| format!("spiffe://{domain}/ns/default/sa/frontend");
    for (aliases, domain, yes, no) in [
        (&["old", "older"][..], "cluster.local", &["cluster.local", "old", "older"][..], &["other"][..]),
        (&["old"], "old", &["cluster.local", "old"], &["other"]),
        (&["old"], "foreign", &["foreign"], &["cluster.local", "old"]),
        (&["old-td"], "*-td", &["old-td", "x-td", "cluster.local"], &["old"]),
        (&[], "cluster.local", &["cluster.local"], &["old"]),
        (&["old"], "*", &["anything"], &[]),
    ] {
        let policy = policy(aliases, &format!("{domain}/ns/default/sa/frontend"));
        for domain in yes {
            assert!(from(&id(domain)).passes(&policy), "{aliases:?} {domain}");
        }
        for domain in no {
            assert!(!from(&id(domain)).passes(&policy), "{aliases:?} {domain}");
        }
    }
    let domains = compile(json!({"trustDomainAliases": ["old"], "authorization": [
        {"rules": [{"from": [{"source": {"trustDomains": ["old"]}}]}]}]}));
    assert!(from(&id("cluster.local")).passes(&domains));
    assert!(!from(&id("other")).passes(&domains));
}

#[test]
fn namespaces_accounts_and_trust_domains_are_parts_of_it() {
    for (name, list, yes, no) in [
        (
            "namespaces",
            &["default"][..],
            &[FRONTEND][..],
            &["spiffe://td/ns/default-x/sa/a", "spiffe://td/ns/default"][..],
        ),
        ("namespaces", &["def*"], &[FRONTEND], &["spiffe://td/ns/adef/sa/a"]),
        ("namespaces", &["*-prod"], &["spiffe://td/ns/a-prod/sa/a"], &[FRONTEND]),
        ("namespaces", &["a*-*d"], &["spiffe://td/ns/a1-prod/sa/a"], &["spiffe://td/ns/b1-prod/sa/a"]),
        ("namespaces", &["a.c"], &["spiffe://td/ns/a.c/sa/a"], &["spiffe://td/ns/abc/sa/a"]),
        ("namespaces", &["*"], &[FRONTEND], &["spiffe://td/x"]),
        (
            "serviceAccounts",
            &["default/frontend"],
            &[FRONTEND, "spiffe://td/ns/default/x/sa/frontend/y"],
            &["spiffe://td/ns/default/sa/frontend-x", "spiffe://td/ns/other/sa/frontend"],
        ),
        (
            "serviceAccounts",
            &["a/front.end"],
            &["spiffe://td/ns/a/sa/front.end"],
            &["spiffe://td/ns/a/sa/frontXend"],
        ),
        ("trustDomains", &["cluster.local"], &[FRONTEND], &["spiffe://cluster.local.evil/ns/a/sa/b"]),
        ("trustDomains", &["cluster.*"], &[FRONTEND], &["spiffe://a/cluster.x/ns"]),
        ("trustDomains", &["*.local"], &[FRONTEND], &["spiffe://a.locale/ns/a/sa/b"]),
        ("trustDomains", &["*"], &[FRONTEND], &["https://a/b"]),
    ] {
        for uri in yes {
            assert!(from(uri).passes(&sources(name, list)), "{name} {list:?} {uri}");
            assert!(!from(uri).passes(&source("DENY", json!({name: list}))), "{name} {list:?} {uri}");
        }
        for uri in no {
            assert!(!from(uri).passes(&sources(name, list)), "{name} {list:?} {uri}");
        }
    }
}

#[test]
fn a_bare_account_belongs_to_the_documents_namespace() {
    let policy = compile(json!({"namespace": "default", "authorization": [
        {"rules": [{"when": [{"key": "source.serviceAccount", "values": ["frontend", "other/a"]}]}]}]}));
    assert!(from(FRONTEND).passes(&policy));
    assert!(from("spiffe://td/ns/other/sa/a").passes(&policy));
    assert!(!from("spiffe://td/ns/other/sa/frontend").passes(&policy));
}

#[test]
fn conditions_have_the_peer_too() {
    for (key, value) in [
        ("source.principal", "*/sa/frontend"),
        ("source.namespace", "default"),
        ("source.serviceAccount", "default/frontend"),
        ("source.trustDomain", "cluster.local"),
    ] {
        let policy = |list: &str| one("ALLOW", json!({"when": [{"key": key, list: [value]}]}));
        assert!(from(FRONTEND).passes(&policy("values")), "{key}");
        assert!(!from("spiffe://x/ns/y/sa/z").passes(&policy("values")), "{key}");
        assert!(!from(FRONTEND).passes(&policy("notValues")), "{key}");
        assert!(get("/").passes(&policy("notValues")), "{key}");
        let same =
            one("ALLOW", json!({"when": [{"key": "request.headers[x]", "values": [{"attribute": key}]}]}));
        let said = match key {
            "source.principal" => "cluster.local/ns/default/sa/frontend",
            _ => value,
        };
        assert!(from(FRONTEND).header("x", said).passes(&same), "{key}");
        assert!(!from(FRONTEND).header("x", "y").passes(&same), "{key}");
        assert!(!get("/").header("x", said).passes(&same), "{key}");
    }
}

#[test]
fn the_client_and_the_direct_peer_are_two_addresses() {
    let both = |asked: Asked, direct: &str, client: &str| {
        asked
            .attribute("filter_state.meshfilter.direct_remote_address", direct)
            .attribute("source.address", client)
    };
    for (name, key) in [("ipBlocks", "source.ip"), ("remoteIpBlocks", "remote.ip")] {
        let lists = [
            sources(name, &["10.0.0.0/8", "2001:db8::/32"]),
            one("ALLOW", json!({"when": [{"key": key, "values": ["10.0.0.0/8", "2001:db8::/32"]}]})),
        ];
        for policy in lists {
            let direct = name == "ipBlocks";
            assert_eq!(both(get("/"), "10.1.2.3", "192.0.2.1:5").passes(&policy), direct, "{name}");
            assert_eq!(both(get("/"), "192.0.2.1", "10.1.2.3:5").passes(&policy), !direct, "{name}");
            assert_eq!(both(get("/"), "2001:db8::7", "[2001:db9::7]:5").passes(&policy), direct, "{name}");
            assert_eq!(both(get("/"), "::1", "[2001:db8::7]:5").passes(&policy), !direct, "{name}");
        }
    }
    let not = sources("notRemoteIpBlocks", &["10.0.0.0/8"]);
    assert!(!both(get("/"), "", "10.1.2.3:5").passes(&not));
    assert!(both(get("/"), "", "11.1.2.3:5").passes(&not));
    let own = one("ALLOW", json!({"when": [{"key": "destination.ip", "values": ["10.0.0.0/8"]}]}));
    assert!(get("/").attribute("destination.address", "10.0.0.1:80").passes(&own));
    assert!(!get("/").attribute("destination.address", "11.0.0.1:80").passes(&own));
}

#[test]
fn a_policy_that_needs_the_direct_peer_refuses_without_it() {
    for (action, list, expected) in [
        ("ALLOW", "ipBlocks", "p"),
        ("ALLOW", "notIpBlocks", "p"),
        ("DENY", "ipBlocks", "p"),
        ("DENY", "notIpBlocks", "p"),
    ] {
        let policy = source(action, json!({list: ["0.0.0.0/0", "::/0"]}));
        assert_eq!(get("/").refusal(&policy), denied(expected), "{action} {list}");
        assert!(policy.authorization.said_peer_is_missing.get(), "{action} {list}");
        // Neither does what is no address count, such as a Unix socket's name.
        let odd = get("/").attribute("filter_state.meshfilter.direct_remote_address", "/run/x.sock");
        assert_eq!(odd.refusal(&policy), denied(expected), "{action} {list}");
    }
    // Not needed: another part of the rule decides already.
    let policy = one(
        "DENY",
        json!({"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}], "to": [{"operation": {"methods": ["PUT"]}}]}),
    );
    assert!(get("/").passes(&policy));
    assert!(!policy.authorization.said_peer_is_missing.get());
    // Another rule that surely matches lets pass.
    let policy = compile(json!({"authorization": [{"name": "p", "rules": [
        {"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}]}, {"to": [{"operation": {"methods": ["GET"]}}]}]}]}));
    assert!(get("/").passes(&policy));
}
