use std::collections::BTreeMap;

use serde_json::json;

use super::identity::{both, forwarded, source};
use crate::envoy::plan::Options;
use crate::envoy::plugin::Module;
use crate::import::repair::Repairs;
use crate::import::scope::Wanted;
use crate::import::testing::{errors, imported, imported_for, policy, warnings};
use crate::import::write::envoy;

const PROFILE: &str = "\
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: webapp.default.svc.cluster.local, namespace: default}
spec:
  routes:
  - name: GET /api/users/{id}
    condition: {method: GET, pathRegex: '/api/users/[^/]+'}
    isRetryable: true
  - name: POST /api/users
    condition: {method: POST, pathRegex: /api/users}
    timeout: 5s
  retryBudget: {retryRatio: 0.1, minRetriesPerSecond: 5, ttl: 10s}
";

#[test]
fn a_service_profile_becomes_entries_in_its_order_that_lead_to_its_own_service() {
    let host = "webapp.default.svc.cluster.local";
    let names = ["webapp", "webapp.default", "webapp.default.svc", host];
    let own = json!([{"destination": {"host": host}}]);
    assert_eq!(
        policy(PROFILE),
        json!({
            "http": [
                {
                    "name": format!("{host}/GET /api/users/{{id}}"),
                    "hosts": names,
                    "match": [{"method": {"exact": "GET"}, "uri": {"regex": "/api/users/[^/]+"}}],
                    "retries": {"attempts": 3, "retryOn": "5xx,deadline-exceeded,internal,unavailable"},
                    "route": own,
                },
                {
                    "name": format!("{host}/POST /api/users"),
                    "hosts": names,
                    "match": [{"method": {"exact": "POST"}, "uri": {"regex": "/api/users"}}],
                    "timeout": "5s",
                    "route": own,
                },
                {"name": format!("{host}/others"), "hosts": names, "route": own},
            ],
        })
    );
    let imported = imported(PROFILE);
    let budget = imported.mesh.rules[0].policy.retry_budget.unwrap();
    assert_eq!((imported.mesh.rules[0].host.as_str(), budget.percent, budget.least), (host, 10.0, 5));
    assert_eq!(warnings(&imported.report), Vec::<String>::new());
}

#[test]
fn a_profile_s_routes_lead_where_a_traffic_split_says() {
    let text = format!(
        "{PROFILE}---\nkind: TrafficSplit\nmetadata: {{name: split}}\nspec: {{service: webapp, backends: [{{service: \
         webapp-stable, weight: 900m}}, {{service: webapp-canary, weight: 100m}}]}}\n"
    );
    let policy = policy(&text);
    let entries = policy["http"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    for entry in entries {
        assert_eq!(
            entry["route"],
            json!([
                {"destination": {"host": "webapp-stable.default.svc.cluster.local"}, "weight": 900},
                {"destination": {"host": "webapp-canary.default.svc.cluster.local"}, "weight": 100},
            ])
        );
    }
    // The budget is that of every cluster that the requests may go to.
    let imported = imported(&text);
    let hosts: Vec<&str> = imported.mesh.rules.iter().map(|rule| rule.host.as_str()).collect();
    assert_eq!(
        hosts,
        [
            "webapp.default.svc.cluster.local",
            "webapp-canary.default.svc.cluster.local",
            "webapp-stable.default.svc.cluster.local",
        ]
    );
}

#[test]
fn destinations_that_a_profile_names_itself_are_weighted() {
    let text = "\
kind: ServiceProfile
metadata: {name: a.b.svc.cluster.local}
spec:
  dstOverrides:
  - {authority: 'a1.b.svc.cluster.local:8080', weight: 1}
  - {authority: a2.b.svc.cluster.local, weight: 500m}
";
    assert_eq!(
        policy(text)["http"][0]["route"],
        json!([
            {"destination": {"host": "a1.b.svc.cluster.local", "port": {"number": 8080}}, "weight": 1000},
            {"destination": {"host": "a2.b.svc.cluster.local"}, "weight": 500},
        ])
    );
}

#[test]
fn conditions_nest_and_what_fails_is_what_the_classes_say() {
    let text = |condition: &str, classes: &str| {
        format!(
            "kind: ServiceProfile\nmetadata: {{name: a.b.svc.cluster.local}}\nspec:\n  routes:\n  - name: r\n    \
             isRetryable: true\n    condition: {condition}\n    responseClasses: {classes}\n"
        )
    };
    for (condition, expected) in [
        (
            "{any: [{method: GET}, {pathRegex: /a}]}",
            json!([{"method": {"exact": "GET"}}, {"uri": {"regex": "/a"}}]),
        ),
        (
            "{method: GET, all: [{pathRegex: '/a.*'}, {not: {pathRegex: /ab}}]}",
            json!([{
                "method": {"exact": "GET"},
                "uri": {"regex": "/a.*"},
                "withoutHeaders": {":path": {"regex": r"(?:/ab)(?:\?.*)?"}},
            }]),
        ),
        ("{not: {method: DELETE}}", json!([{"withoutHeaders": {":method": {"exact": "DELETE"}}}])),
    ] {
        assert_eq!(policy(&text(condition, "[]"))["http"][0]["match"], expected, "{condition}");
    }
    let grpc = "deadline-exceeded,internal,unavailable";
    let from_500_without_503: String =
        (500..600).filter(|code| *code != 503).map(|code| format!("{code},")).collect();
    for (classes, expected) in [
        ("[{condition: {status: {min: 500, max: 599}}, isFailure: true}]", format!("5xx,{grpc}")),
        ("[{condition: {status: {min: 429, max: 429}}, isFailure: true}]", format!("5xx,429,{grpc}")),
        ("[{condition: {status: {min: 503, max: 503}}}]", format!("{from_500_without_503}{grpc}")),
        (
            "[{condition: {all: [{status: {min: 404}}, {not: {status: {min: 405}}}]}, isFailure: true}]",
            format!("5xx,404,{grpc}"),
        ),
        ("[{condition: {any: [{status: {max: 599}}]}, isFailure: false}]", String::new()),
    ] {
        let policy = policy(&text("{method: GET}", classes));
        let retry_on = policy["http"][0]["retries"]["retryOn"].as_str().unwrap_or_default();
        assert_eq!(retry_on, expected, "{classes}");
    }
}

#[test]
fn what_a_profile_must_not_be_is_an_error_at_its_place() {
    let route = "  routes: [{name: r, condition: {method: GET}}]\n";
    for (spec, expected) in [
        ("  foo: bar\n", "4: spec.foo: foo is not a field here"),
        ("  routes: [{condition: {method: GET}}]\n", "4: spec.routes[0]: it has no name"),
        ("  routes: [{name: a}]\n", "4: spec.routes[0]: it has no condition"),
        (
            "  routes: [{name: a, condition: {method: }}]\n",
            "4: spec.routes[0].condition: it asks for nothing",
        ),
        ("  routes: [null]\n", "4: spec.routes[0]: nothing is not an object"),
        (
            "  routes: [{name: a, condition: {all: [null]}}]\n",
            "4: spec.routes[0].condition.all[0]: nothing is not an object",
        ),
        (
            "  routes: [{name: a, condition: {method: GET}, responseClasses: [{condition: {status: {max: 600}}}]}]\n",
            "4: spec.routes[0].responseClasses[0].condition.status.max: 600 is not a whole number from 100 to 599",
        ),
        (
            "  routes: [{name: a, condition: {method: GET}, responseClasses: [{condition: {status: {min: 300, max: 200}}}]}]\n",
            "4: spec.routes[0].responseClasses[0].condition.status: 200 is less than 300",
        ),
        (
            "  routes: [{name: a, condition: {method: GET}, timeout: one-second}]\n",
            "4: spec.routes[0].timeout: \"one-second\" is not a span",
        ),
        ("  retryBudget: {minRetriesPerSecond: 5, retryRatio: 0.2}\n", "4: spec.retryBudget: it has no ttl"),
        (
            "  retryBudget: {minRetriesPerSecond: 5, retryRatio: -0.2, ttl: 10s}\n",
            "4: spec.retryBudget.retryRatio: -0.2 is not a number from 0",
        ),
    ] {
        let spec = if spec.contains("routes") { spec.to_owned() } else { format!("{spec}{route}") };
        let text = format!("kind: ServiceProfile\nmetadata: {{name: a.b.svc.cluster.local}}\nspec:\n{spec}");
        let told = errors(&imported(&text).report);
        assert!(told.iter().any(|error| error.starts_with(expected)), "{spec}: {told:?}");
    }
    let text = format!("kind: ServiceProfile\nmetadata: {{name: ^.^}}\nspec:\n{route}");
    assert!(
        errors(&imported(&text).report)[0].starts_with("2: metadata.name: the name is that of the service")
    );
}

#[test]
fn what_slipped_into_a_condition_is_put_where_it_belongs() {
    let text = "\
kind: ServiceProfile
metadata: {name: a.b.svc.cluster.local}
spec:
  routes:
  - condition:
      method: HEAD
      pathRegex: /authors/[^/]*.json
      name: HEAD /authors/{id}.json
      isRetryable: true
      timeout: 25ms
    responseClasses:
    - condition:
        status: {min: 500, max: 599}
        isFailure: true
    retryBudget: {retryRatio: 0.2, minRetriesPerSecond: 10, ttl: 10s}
";
    let told = errors(&imported(text).report);
    assert_eq!(
        told,
        [
            "8: spec.routes[0].condition.name: it says what becomes of requests, and no condition; it belongs in \
             spec.routes[0].name; --repair puts it there",
            "9: spec.routes[0].condition.isRetryable: it says what becomes of requests, and no condition; it belongs in \
             spec.routes[0].isRetryable; --repair puts it there",
            "10: spec.routes[0].condition.timeout: it says what becomes of requests, and no condition; it belongs in \
             spec.routes[0].timeout; --repair puts it there",
            "14: spec.routes[0].responseClasses[0].condition.isFailure: it says what responses mean, and no condition; it \
             belongs in spec.routes[0].responseClasses[0].isFailure; --repair puts it there",
            "15: spec.routes[0].retryBudget: the budget is that of all routes together; it belongs in spec.retryBudget; \
             --repair puts it there",
        ]
    );
    let repaired = imported_for(text, &Wanted::default(), Repairs::Made);
    assert_eq!(errors(&repaired.report), Vec::<String>::new());
    assert_eq!(warnings(&repaired.report).len(), 5);
    let entry = &repaired.policy.value["http"][0];
    assert_eq!(entry["name"], "a.b.svc.cluster.local/HEAD /authors/{id}.json");
    assert_eq!((&entry["timeout"], &entry["retries"]["attempts"]), (&json!("0.025s"), &json!(3)));
    assert!(repaired.mesh.rules[0].policy.retry_budget.is_some());
}

#[test]
fn identities_are_principals() {
    use super::identity::principal;
    for (identity, expected) in [
        ("*", Some("*")),
        ("web.shop.serviceaccount.identity.linkerd.cluster.local", Some("cluster.local/ns/shop/sa/web")),
        ("*.shop.serviceaccount.identity.linkerd.cluster.local", Some("cluster.local/ns/shop/sa/*")),
        ("*.serviceaccount.identity.linkerd.example.com", Some("example.com/*")),
        ("*.identity.linkerd.example.com", Some("example.com/*")),
        ("spiffe://root.linkerd.cluster.local/vm", Some("root.linkerd.cluster.local/vm")),
        ("web.example.com", None),
        ("web.serviceaccount.identity.linkerd.cluster.local", None),
        ("a*.shop.serviceaccount.identity.linkerd.cluster.local", None),
        ("web.shop.serviceaccount.identity.linkerd", None),
    ] {
        assert_eq!(principal(identity).ok().as_deref(), expected, "{identity}");
    }
}

const SERVER: &str = "\
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: authors, namespace: booksapp}
spec: {podSelector: {matchLabels: {app: authors}}, port: service}
";

const AUTHENTICATIONS: &str = "\
---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: clients, namespace: booksapp}
spec:
  identities: [books.booksapp.serviceaccount.identity.linkerd.cluster.local]
  identityRefs: [{kind: ServiceAccount, name: webapp}, {kind: Namespace, name: other}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: {name: networks, namespace: booksapp}
spec: {networks: [{cidr: 10.0.0.0/8}, {cidr: 192.168.0.0/16, except: [192.168.1.0/24]}]}
";

fn authorization(name: &str, target: &str, refs: &str) -> String {
    format!(
        "---\napiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: \
         booksapp}}\nspec: {{targetRef: {{group: policy.linkerd.io, {target}}}, requiredAuthenticationRefs: [{refs}]}}\n"
    )
}

#[test]
fn where_a_server_is_nobody_gets_in_whom_no_policy_lets_in() {
    let base = json!({"name": "server/authors", "action": "ALLOW"});
    let web = "cluster.local/ns/booksapp/sa/web";
    assert_eq!(policy(SERVER)["authorization"], json!([base]));
    let clients = "{kind: MeshTLSAuthentication, group: policy.linkerd.io, name: clients}";
    let networks = "{kind: NetworkAuthentication, group: policy.linkerd.io, name: networks}";
    let text = format!(
        "{SERVER}{AUTHENTICATIONS}{}{}{}",
        authorization("mesh", "kind: Server, name: authors", clients),
        authorization(
            "net",
            "kind: Server, name: authors",
            &format!("{{kind: ServiceAccount, name: web}}, {networks}")
        ),
        authorization("all", "kind: Namespace, name: booksapp", "")
    );
    assert_eq!(
        policy(&text)["authorization"],
        json!([
            base,
            {"name": "mesh", "action": "ALLOW", "rules": [
                {"from": [{"source": {"principals": ["cluster.local/ns/booksapp/sa/books"]}}]},
                {"from": [{"source": {"principals": ["cluster.local/ns/booksapp/sa/webapp"]}}]},
                {"from": [{"source": {"principals": ["cluster.local/ns/other/sa/*"]}}]},
            ]},
            {"name": "net", "action": "ALLOW", "rules": [
                {"from": [{"source": {"principals": [web], "ipBlocks": ["10.0.0.0/8"]}}]},
                {"from": [{"source": {
                    "principals": [web],
                    "ipBlocks": ["192.168.0.0/16"],
                    "notIpBlocks": ["192.168.1.0/24"],
                }}]},
            ]},
            {"name": "all", "action": "ALLOW", "rules": [{}]},
        ])
    );
}

#[test]
fn access_policies_are_for_whom_no_other_lets_in() {
    for (access, expected) in [
        ("deny", json!(null)),
        ("all-unauthenticated", json!([{}])),
        ("all-authenticated", json!([{"from": [{"source": {"principals": ["*"]}}]}])),
    ] {
        let text = SERVER.replace("spec: {", &format!("spec: {{accessPolicy: {access}, "));
        assert_eq!(policy(&text)["authorization"][0]["rules"], expected, "{access}");
    }
    let audit = policy(&SERVER.replace("spec: {", "spec: {accessPolicy: audit, "));
    assert_eq!(audit["authorization"][0]["mode"], "shadow");
    let wrong = SERVER.replace("spec: {", "spec: {accessPolicy: some, ");
    assert!(
        errors(&imported(&wrong).report)[0].starts_with("4: spec.accessPolicy: some is no access policy")
    );
    let opaque = SERVER.replace("spec: {", "spec: {proxyProtocol: opaque, ");
    assert!(errors(&imported(&opaque).report)[0].contains("opaque has no requests"));
}

#[test]
fn a_policy_of_a_route_is_for_what_no_more_specific_route_has() {
    let route = |name: &str, matches: &str| {
        format!(
            "---\napiVersion: policy.linkerd.io/v1beta2\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: \
             booksapp}}\nspec: {{parentRefs: [{{kind: Server, group: policy.linkerd.io, name: authors}}], rules: [{{matches: \
             [{matches}]}}]}}\n"
        )
    };
    let text = format!(
        "{SERVER}{}{}{}{}",
        route("get", "{path: {value: /authors/}, method: GET}, {path: {type: Exact, value: /a}}"),
        route("admin", "{path: {type: Exact, value: /authors/admin}}, {path: {value: /other}}"),
        authorization("readers", "kind: HTTPRoute, name: get", "{kind: ServiceAccount, name: web}"),
        authorization("admins", "kind: Server, name: authors", "{kind: ServiceAccount, name: admin}")
    );
    let policies = policy(&text)["authorization"].clone();
    let to = |number: usize| -> Vec<&serde_json::Value> {
        policies[number]["rules"].as_array().unwrap().iter().map(|rule| &rule["to"][0]["operation"]).collect()
    };
    // What another route has more precisely is not this one's.
    assert_eq!(
        to(1),
        [
            &json!({"paths": ["/authors", "/authors/*"], "methods": ["GET"], "notPaths": ["/authors/admin"]}),
            &json!({"paths": ["/a"]}),
        ]
    );
    // A policy of the whole Server is for what its routes have, and for nothing else.
    assert_eq!(
        to(2),
        [
            &json!({"paths": ["/authors", "/authors/*"], "methods": ["GET"]}),
            &json!({"paths": ["/a"]}),
            &json!({"paths": ["/authors/admin"]}),
            &json!({"paths": ["/other", "/other/*"]}),
        ]
    );
    let missing = text.replace("kind: HTTPRoute, name: get}", "kind: HTTPRoute, name: put}");
    assert!(
        errors(&imported(&missing).report)[0]
            .contains("there is no HTTPRoute booksapp/put; put it into the input")
    );
}

#[test]
fn a_server_authorization_names_its_clients_itself() {
    let text = |server: &str, client: &str| {
        format!(
            "{}---\napiVersion: policy.linkerd.io/v1beta1\nkind: ServerAuthorization\nmetadata: {{name: a, namespace: \
             booksapp}}\nspec: {{server: {{{server}}}, client: {{{client}}}}}\n",
            SERVER.replace("namespace: booksapp}", "namespace: booksapp, labels: {app: authors}}")
        )
    };
    for (server, client, expected) in [
        (
            "name: authors",
            "unauthenticated: true, networks: [{cidr: 0.0.0.0/0}, {cidr: '::/0'}]",
            json!([{}]),
        ),
        (
            "selector: {matchLabels: {app: authors}}",
            "meshTLS: {serviceAccounts: [{name: web}]}, networks: [{cidr: 10.0.0.0/8}]",
            json!([{"from": [{"source": {
                "principals": ["cluster.local/ns/booksapp/sa/web"],
                "ipBlocks": ["10.0.0.0/8"],
            }}]}]),
        ),
        (
            "name: authors",
            "meshTLS: {identities: ['*.booksapp.serviceaccount.identity.linkerd.cluster.local']}",
            json!([{"from": [{"source": {"principals": ["cluster.local/ns/booksapp/sa/*"]}}]}]),
        ),
    ] {
        assert_eq!(policy(&text(server, client))["authorization"][1]["rules"], expected, "{client}");
    }
    let other = policy(&text("name: other", "unauthenticated: true"));
    assert_eq!(other["authorization"].as_array().unwrap().len(), 1);
}

#[test]
fn of_several_servers_labels_and_the_port_say_which_the_proxy_is() {
    let server = |name: &str, port: u16| {
        format!(
            "---\napiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {{name: {name}, namespace: n}}\nspec: \
             {{podSelector: {{matchLabels: {{app: a}}}}, port: {port}}}\n"
        )
    };
    let text = format!("{}{}", server("web", 80), server("admin", 9990));
    let told = errors(&imported(&text).report);
    assert!(
        told[0].contains("several Servers") && told[0].contains("web (port 80), admin (port 9990)"),
        "{told:?}"
    );
    assert_eq!(told.len(), 1);
    let wanted = Wanted { port: Some(9990), ..Wanted::default() };
    let imported = imported_for(&text, &wanted, Repairs::Told);
    assert_eq!(errors(&imported.report), Vec::<String>::new());
    assert_eq!(imported.policy.value["authorization"], json!([{"name": "server/admin", "action": "ALLOW"}]));
}

#[test]
fn a_server_of_another_port_than_the_proxy_s_does_not_leave_it_open() {
    let server = |name: &str, port: &str| {
        format!(
            "---\napiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {{name: {name}, namespace: n}}\nspec: \
             {{podSelector: {{matchLabels: {{app: a}}}}, port: {port}}}\n"
        )
    };
    let one = server("web", "8080");
    let two = format!("{one}{}", server("admin", "9990"));
    let named = format!("{}{}", server("web", "http"), server("admin", "admin-http"));
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: n, labels: {app: a}}\nspec: {containers: [{ports: \
               [{name: http, containerPort: 8080}, {name: admin-http, containerPort: 9990}]}]}\n";
    let service = |target: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: n}}\nspec: {{selector: {{app: a}}, ports: \
             [{{port: 80, targetPort: {target}}}]}}\n"
        )
    };
    let at = |text: &str, port: u16| {
        let wanted = Wanted { port: Some(port), ..Wanted::default() };
        imported_for(text, &wanted, Repairs::Told)
    };
    for text in [&one, &two, &named, &format!("{named}{pod}")] {
        let told = errors(&at(text, 10000).report);
        assert!(
            told.len() == 1
                && told[0].contains("the port of --listen is 10000, and the Servers are web (port "),
            "{told:?}"
        );
        assert!(told[0].contains("--listen PORT=HOST:PORT"), "{told:?}");
    }
    for (text, port) in [
        (two.clone(), 8080),
        (format!("{two}{}", service("8080")), 80),
        (format!("{named}{pod}"), 8080),
        (format!("{named}{}", service("http")), 80),
        (format!("{named}{pod}{}", service("8080")), 80),
        (server("web", "http"), 10000),
    ] {
        let found = at(&text, port);
        assert_eq!(errors(&found.report), Vec::<String>::new(), "{text}");
        assert_eq!(
            found.policy.value["authorization"],
            json!([{"name": "server/web", "action": "ALLOW"}]),
            "{text}"
        );
    }
}

#[test]
fn a_route_s_hostnames_are_those_of_its_policies() {
    let route = |name: &str, more: &str| {
        format!(
            "---\napiVersion: policy.linkerd.io/v1beta2\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: \
             booksapp}}\nspec: {{parentRefs: [{{kind: Server, group: policy.linkerd.io, name: authors}}], {more}}}\n"
        )
    };
    let rules = "rules: [{matches: [{path: {value: /}}]}]";
    let text = format!(
        "{SERVER}{}{}{}",
        route("public", &format!("hostnames: [Public.example, '*.open.example'], {rules}")),
        route("closed", &format!("hostnames: [in.open.example], {rules}")),
        authorization("all", "kind: HTTPRoute, name: public", "")
    );
    let to: Vec<serde_json::Value> = policy(&text)["authorization"][1]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["to"][0]["operation"].clone())
        .collect();
    assert_eq!(
        to,
        [
            json!({"hosts": ["public.example", {"regex": "(?i)public\\.example:[0-9]+"}]}),
            json!({
                "hosts": ["*.open.example", {"regex": "(?i).+\\.open\\.example:[0-9]+"}],
                "notHosts": ["in.open.example", {"regex": "(?i)in\\.open\\.example:[0-9]+"}],
            }),
        ]
    );
}

#[test]
fn where_no_server_is_an_annotation_says_who_gets_in() {
    let pod = |annotation: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a, labels: {{app: a}}, annotations: \
             {{config.linkerd.io/default-inbound-policy: {annotation}}}}}\nspec: {{containers: []}}\n"
        )
    };
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: b}\nspec: {template: {metadata: {labels: {app: b}, \
                      annotations: {config.linkerd.io/default-inbound-policy: deny}}, spec: {containers: []}}}\n";
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, annotations: \
                     {config.linkerd.io/default-inbound-policy: all-authenticated}}\n";
    let closed = json!([{"name": "linkerd/default", "action": "ALLOW"}]);
    let mesh = json!([{"name": "linkerd/default", "action": "ALLOW", "rules": [{"from": [{"source": {"principals": ["*"]}}]}]}]);
    let plain = pod("deny").replace("config.linkerd.io/default-inbound-policy: deny", "a: b");
    for (text, expected) in [
        (pod("deny"), &closed),
        (deployment.to_owned(), &closed),
        (format!("{plain}---\n{namespace}"), &mesh),
        (format!("{}---\n{namespace}", pod("all-unauthenticated")), &json!(null)),
        // A Server says it of its port.
        (
            format!(
                "{}---\n{}",
                pod("deny"),
                SERVER
                    .replace("booksapp", "default")
                    .replace("authors}}", "a}}, accessPolicy: all-authenticated")
                    .replace("port: service}", "port: 80}")
            ),
            &json!([{"name": "server/authors", "action": "ALLOW",
            "rules": [{"from": [{"source": {"principals": ["*"]}}]}]}]),
        ),
    ] {
        assert_eq!(policy(&text).get("authorization").unwrap_or(&json!(null)), expected, "{text}");
    }
    assert_eq!(policy(&pod("audit"))["authorization"][0]["mode"], "shadow");
    let several = format!("{plain}---\n{deployment}");
    let told = errors(&imported(&several).report);
    assert!(told[0].contains("not all workloads that the proxy may be have the same"), "{told:?}");
    assert!(errors(&imported(&pod("some")).report)[0].contains("some is no access policy"));
}

const LIMITS: &str = "\
---
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {name: rl, namespace: booksapp}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: authors}
  total: {requestsPerSecond: 100}
  identity: {requestsPerSecond: 20}
  overrides: [{requestsPerSecond: 25, clientRefs: [{kind: ServiceAccount, namespace: shop, name: special}]}]
";

#[test]
fn a_rate_limit_has_buckets_for_all_for_each_and_for_some() {
    let text = format!("{SERVER}{LIMITS}");
    let bucket = |rate| json!({"maxTokens": rate, "tokensPerFill": rate, "fillInterval": "1s"});
    let special = "(?:.*;)?URI=spiffe://cluster\\.local/ns/shop/sa/special(?:[;,].*)?";
    let each = json!([{"property": "connection.uri_san_peer_certificate", "default": "unauthenticated"}]);
    assert_eq!(
        policy(&text)["rateLimits"],
        json!([
            {"name": "rl/total", "tokenBucket": bucket(100)},
            {
                "name": "rl/identity",
                "tokenBucket": bucket(20),
                "match": [{"withoutHeaders": {"x-forwarded-client-cert": {"regex": special}}}],
                "key": each,
            },
            {
                "name": "rl/overrides/0",
                "tokenBucket": bucket(25),
                "match": [{"headers": {"x-forwarded-client-cert": {"regex": special}}}],
            },
        ])
    );
    // What clients write into that header is removed.
    assert_eq!(imported(&text).mesh.settings.http["forward_client_cert_details"], "SANITIZE_SET");
    let other = text.replace("kind: Server, name: authors", "kind: Server, name: other");
    assert_eq!(policy(&other).get("rateLimits"), None);
    // Of several for one client the last holds, and of several policies for one Server the first.
    let again = text.replace(
        "name: special}]}]",
        "name: special}]}, {requestsPerSecond: 5, clientRefs: [{namespace: shop, name: special}, {name: b}]}]",
    );
    let second = LIMITS.replace("name: rl,", "name: second,");
    let told = imported(&format!("{again}{second}"));
    let limits = told.policy.value["rateLimits"].as_array().unwrap();
    let names: Vec<&str> = limits.iter().map(|limit| limit["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["rl/total", "rl/identity", "rl/overrides/1"]);
    let told = warnings(&told.report);
    for expected in
        ["spec.overrides[0]: a client that is named again", "of several for one Server the oldest holds, rl"]
    {
        assert!(told.iter().any(|warning| warning.contains(expected)), "{expected}: {told:?}");
    }
}

#[test]
fn many_clients_of_a_rate_limit_cost_no_more_than_one() {
    let names: Vec<String> = (0..60).map(|n| format!("client-{}-{n}", n % 7)).collect();
    let refs: Vec<String> = names.iter().map(|name| format!("{{name: {name}}}")).collect();
    let many = LIMITS.replace("{kind: ServiceAccount, namespace: shop, name: special}", &refs.join(", "));
    let policy = policy(&format!("{SERVER}{many}"));
    let regex = policy["rateLimits"][2]["match"][0]["headers"]["x-forwarded-client-cert"]["regex"].as_str();
    let regex = regex::Regex::new(&format!("^(?:{})$", regex.unwrap())).unwrap();
    let is = |name: &str| regex.is_match(&format!("By=x;URI=spiffe://cluster.local/ns/booksapp/sa/{name}"));
    assert!(names.iter().all(|name| is(name)));
    assert!(!["client-0", "client-0-", "client-0-1", "client-1-11", "client-0-07"].into_iter().any(is));
    // One that another begins with, and nothing in common.
    let texts = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<String>>();
    for (names, expected) in [(&["a", "ab", "b"][..], "(?:a(?:b)?|b)"), (&["td/x"], "td/x")] {
        assert_eq!(forwarded(&texts(names)), format!("(?:.*;)?URI=spiffe://{expected}(?:[;,].*)?"));
    }
}

const INSTALLED: &str = "\
---
apiVersion: v1
kind: ConfigMap
metadata: {name: linkerd-config, namespace: mesh}
data:
  linkerd-crds-chart-version: linkerd-crds-1.0.0-edge
  values: |
    clusterDomain: cluster.local
    clusterNetworks: 10.1.0.0/16, fd00::/8
    identityTrustDomain: one.example
    proxy: {defaultInboundPolicy: cluster-authenticated, logLevel: warn}
";

#[test]
fn accounts_are_of_the_trust_domain_that_linkerd_was_installed_with() {
    let policies = authorization("all", "kind: Server, name: authors", "{kind: ServiceAccount, name: web}");
    let text = format!("{SERVER}{policies}{LIMITS}");
    let usual = imported(&text);
    let told = warnings(&usual.report);
    let said = "accounts and namespaces are taken for those of the trust domain cluster.local";
    assert_eq!(told.iter().filter(|warning| warning.contains(said)).count(), 1, "{told:?}");
    let found = imported(&format!("{text}{INSTALLED}"));
    assert_eq!(errors(&found.report), Vec::<String>::new());
    assert!(!warnings(&found.report).iter().any(|warning| warning.contains("trust domain")));
    let policy = &found.policy.value;
    let source = &policy["authorization"][1]["rules"][0]["from"][0]["source"];
    assert_eq!(source, &json!({"principals": ["one.example/ns/booksapp/sa/web"]}));
    let regex = policy["rateLimits"][2]["match"][0]["headers"]["x-forwarded-client-cert"]["regex"].as_str();
    assert_eq!(regex, Some("(?:.*;)?URI=spiffe://one\\.example/ns/shop/sa/special(?:[;,].*)?"));
    // Without a domain of its own it is the cluster's.
    let of_cluster =
        INSTALLED.replace("    identityTrustDomain: one.example\n", "").replace("cluster.local", "two");
    let found = imported(&format!("{text}{of_cluster}"));
    let source = &found.policy.value["authorization"][1]["rules"][0]["from"][0]["source"];
    assert_eq!(source, &json!({"principals": ["two/ns/booksapp/sa/web"]}));
    let wrong = format!("{text}{}", INSTALLED.replace("one.example", "'*'"));
    assert!(errors(&imported(&wrong).report)[0].contains("* is no trust domain"));
    let second =
        INSTALLED.replace("namespace: mesh", "namespace: other").replace("one.example", "two.example");
    let told = errors(&imported(&format!("{text}{INSTALLED}{second}")).report);
    assert!(told[0].contains("has the control plane: mesh, other; leave the others out"), "{told:?}");
    // That of Linkerd's own namespace counts, wherever it stands.
    let own = second.replace("namespace: other", "namespace: linkerd").replace("10.1.0.0/16", "10.9.0.0/16");
    for settings in [format!("{INSTALLED}{own}"), format!("{own}{INSTALLED}")] {
        let found = imported(&format!("{text}{settings}"));
        assert_eq!(errors(&found.report), Vec::<String>::new());
        assert!(
            warnings(&found.report)
                .iter()
                .any(|told| told.contains("left out: linkerd-config of the namespace"))
        );
        let source = &found.policy.value["authorization"][1]["rules"][0]["from"][0]["source"];
        assert_eq!(source, &json!({"principals": ["two.example/ns/booksapp/sa/web"]}));
    }
    let name = text.replace("name: web", "name: '*'");
    assert!(errors(&imported(&name).report)[0].contains("booksapp/* is no name of Kubernetes"));
}

#[test]
fn who_gets_in_by_default_and_from_which_networks_is_what_linkerd_was_installed_with() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: w, namespace: shop, labels: {app: web}}\n";
    let wanted = Wanted { namespace: Some("shop".to_owned()), ..Wanted::default() };
    let found = |text: &str| imported_for(text, &wanted, Repairs::Told).policy.value["authorization"].clone();
    let source = json!({"principals": ["*"], "ipBlocks": ["10.1.0.0/16", "fd00::/8"]});
    let rules = json!([{"from": [{ "source": source }]}]);
    let expected = json!([{"name": "linkerd/default", "action": "ALLOW", "rules": rules}]);
    assert_eq!(found(&format!("{pod}{INSTALLED}")), expected);
    // An annotation comes before it.
    let annotated =
        pod.replace("labels:", "annotations: {config.linkerd.io/default-inbound-policy: deny}, labels:");
    let closed = json!([{"name": "linkerd/default", "action": "ALLOW"}]);
    assert_eq!(found(&format!("{annotated}{INSTALLED}")), closed);
}

#[test]
fn two_lists_of_identities_have_in_common_what_is_in_both() {
    let list = |texts: &[&str]| source("principals", texts.iter().map(|&text| text.to_owned()).collect());
    for (one, other, expected) in [
        (&["td/ns/a/sa/*"][..], &["td/ns/a/sa/x", "td/ns/b/sa/y"][..], Some(&["td/ns/a/sa/x"][..])),
        (&["td/ns/a/sa/x"], &["*"], Some(&["td/ns/a/sa/x"])),
        (&["td/*"], &["td/ns/a/sa/*"], Some(&["td/ns/a/sa/*"])),
        (&["td/ns/a/sa/x"], &["other/ns/a/sa/x"], None),
    ] {
        assert_eq!(both(&list(one), &list(other)), Ok(expected.map(list)), "{one:?} {other:?}");
    }
    let networks = |text: &str| source("ipBlocks", vec![text.to_owned()]);
    assert!(both(&networks("10.0.0.0/8"), &networks("10.1.0.0/16")).is_err());
}

#[test]
fn a_route_of_a_service_says_where_its_requests_go() {
    let text = "\
apiVersion: policy.linkerd.io/v1beta2
kind: HTTPRoute
metadata:
  name: r
  namespace: faces
  annotations: {retry.linkerd.io/http: '5xx,429', retry.linkerd.io/limit: '2', retry.linkerd.io/timeout: 300ms, timeout.linkerd.io/request: 2s}
spec:
  parentRefs: [{name: smiley, kind: Service, group: core, port: 80}]
  rules:
  - backendRefs: [{name: smiley, port: 80, weight: 40}, {name: smiley2, port: 8080, weight: 60}]
  - matches: [{headers: [{name: X-User, value: test}], path: {value: /a}}]
    backendRefs: [{name: smiley2, port: 8080}]
";
    let policy = policy(text);
    let entries = policy["http"].as_array().unwrap();
    assert_eq!(entries[0]["name"], "r/1");
    assert_eq!(
        entries[0]["match"],
        json!([{"uri": {"pathPrefix": "/a"}, "headers": {"x-user": {"exact": "test"}}}])
    );
    assert_eq!(entries[1]["route"][1]["weight"], 60);
    assert_eq!(entries[1]["timeout"], "2s");
    assert_eq!(entries[1]["retries"], json!({"attempts": 2, "retryOn": "5xx,429", "perTryTimeout": "0.3s"}));
    assert!(entries[0]["hosts"].as_array().unwrap().contains(&json!("smiley.faces.svc.cluster.local")));
}

#[test]
fn what_another_namespace_says_of_a_service_is_left_out() {
    for (kind, spec) in [
        (
            "HTTPRoute",
            "{parentRefs: [{name: s, namespace: shop, kind: Service, group: core}], rules: [{backendRefs: [{name: fake, port: 80}]}]}",
        ),
        ("ServiceProfile", "{dstOverrides: [{authority: fake.evil.svc.cluster.local:80, weight: 1}]}"),
        ("TrafficSplit", "{service: s.shop.svc.cluster.local, backends: [{service: fake, weight: 1}]}"),
    ] {
        let (version, name) = match kind {
            "HTTPRoute" => ("policy.linkerd.io/v1beta3", "r"),
            "ServiceProfile" => ("linkerd.io/v1alpha2", "s.shop.svc.cluster.local"),
            _ => ("split.smi-spec.io/v1alpha2", "r"),
        };
        let text = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: evil}}\nspec: {spec}\n---\n\
             apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n"
        );
        let wanted = |namespace: &str| Wanted { namespace: Some(namespace.to_owned()), ..Wanted::default() };
        let found = imported_for(&text, &wanted("shop"), Repairs::Told);
        assert_eq!(errors(&found.report), Vec::<String>::new());
        assert_eq!(found.policy.value.get("http"), None, "{kind}");
        let told = warnings(&found.report);
        assert!(told[0].contains("left out: it is for requests of evil"), "{told:?}");
        let found = imported_for(&text, &wanted("evil"), Repairs::Told);
        assert!(found.policy.value.get("http").is_some(), "{kind}");
    }
}

#[test]
fn where_a_server_is_missing_nobody_gets_in_by_that() {
    let route = "apiVersion: policy.linkerd.io/v1beta3\nkind: HTTPRoute\nmetadata: {name: get, namespace: booksapp}\nspec: \
                 {parentRefs: [{kind: Server, group: policy.linkerd.io, name: authors}], rules: [{matches: [{method: GET}]}]}\n";
    let closed = json!([{"name": "server/authors", "action": "ALLOW"}]);
    let alone = imported(route);
    assert_eq!(errors(&alone.report), Vec::<String>::new());
    assert_eq!(alone.policy.value["authorization"], closed);
    assert!(warnings(&alone.report)[0].contains("the Server authors is not in the input"));
    let with_policy = format!("{route}{}", authorization("readers", "kind: HTTPRoute, name: get", ""));
    assert_eq!(
        policy(&with_policy)["authorization"],
        json!([
            closed[0],
            {"name": "readers", "action": "ALLOW", "rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]},
        ])
    );
    // One of another workload is there: nobody knows whether the proxy is the one that is missing.
    let other = SERVER.replace("authors", "other");
    let labels = Some([("app".to_owned(), "web".to_owned())].into());
    let told = |text: &str| {
        let wanted = Wanted { labels: labels.clone(), ..Wanted::default() };
        let pod =
            "---\napiVersion: v1\nkind: Pod\nmetadata: {name: w, namespace: booksapp, labels: {app: web}}\n";
        errors(&imported_for(&format!("{text}{pod}"), &wanted, Repairs::Told).report)
    };
    let found = told(&format!("{other}---\n{route}"));
    assert!(found[0].contains("which it may be: authors; put them into the input"), "{found:?}");
    assert_eq!(told(&other), Vec::<String>::new());
}

#[test]
fn a_policy_of_a_namespace_is_for_servers() {
    let all = authorization("all", "kind: Namespace, name: booksapp", "{kind: ServiceAccount, name: web}");
    let alone = imported(&all);
    assert_eq!(errors(&alone.report), Vec::<String>::new());
    let source = json!({"principals": ["cluster.local/ns/booksapp/sa/web"]});
    let web = json!([{"name": "all", "action": "ALLOW", "rules": [{"from": [{ "source": source }]}]}]);
    assert_eq!(alone.policy.value["authorization"], web);
    assert!(warnings(&alone.report)[0].contains("taken as if there were one"));
    // Where an annotation says who gets in, it lets in nobody else.
    let namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: booksapp, annotations: \
                     {config.linkerd.io/default-inbound-policy: deny}}\n";
    let denied = imported(&format!("{all}{namespace}"));
    assert_eq!(errors(&denied.report), Vec::<String>::new());
    assert_eq!(denied.policy.value["authorization"], json!([{"name": "linkerd/default", "action": "ALLOW"}]));
    let fields = &denied.report.resources[1].fields;
    assert!(
        fields
            .iter()
            .any(|field| field.path.contains("default-inbound-policy") && field.verdict.name() == "taken"),
        "{fields:?}"
    );
    let alone = imported("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n");
    assert!(errors(&alone.report)[0].contains("nothing in the input is of a kind"));
}

#[test]
fn what_clients_say_of_a_service_holds_in_place_of_what_its_owner_says() {
    let route = |version: &str, namespace: &str, to: &str| {
        format!(
            "---\napiVersion: {version}\nkind: HTTPRoute\nmetadata: {{name: {namespace}, namespace: {namespace}}}\nspec: \
             {{parentRefs: [{{name: web, namespace: shop, kind: Service, group: core, port: 80}}], rules: [{{backendRefs: \
             [{{name: {to}, namespace: {namespace}, port: 80}}]}}]}}\n"
        )
    };
    let profile = |namespace: &str, name: &str| {
        format!(
            "---\napiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\nmetadata: {{name: web.shop.svc.cluster.local, namespace: \
             {namespace}}}\nspec: {{routes: [{{name: {name}, condition: {{method: GET}}}}]}}\n"
        )
    };
    let names = |text: &str, namespace: &str| {
        let wanted = Wanted { namespace: Some(namespace.to_owned()), ..Wanted::default() };
        let found = imported_for(text, &wanted, Repairs::Told);
        assert_eq!(errors(&found.report), Vec::<String>::new(), "{text}");
        let entries = found.policy.value["http"].as_array().unwrap().clone();
        entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for version in ["policy.linkerd.io/v1beta3", "gateway.networking.k8s.io/v1"] {
        let text = format!("{}{}", route(version, "shop", "web"), route(version, "clients", "canary"));
        assert_eq!(names(&text, "clients"), ["clients/0"], "{version}");
        assert_eq!(names(&text, "shop"), ["shop/0"], "{version}");
        let text = format!("{text}{}", profile("shop", "get"));
        assert_eq!(
            names(&text, "shop"),
            ["web.shop.svc.cluster.local/get", "web.shop.svc.cluster.local/others"]
        );
    }
    let both = format!("{}{}", profile("shop", "owners"), profile("clients", "clients"));
    assert_eq!(names(&both, "clients")[0], "web.shop.svc.cluster.local/clients");
    assert_eq!(names(&both, "clients").len(), 2);
}

const ANNOTATED: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
  annotations: {retry.linkerd.io/http: '503', retry.linkerd.io/limit: '2', timeout.linkerd.io/request: 2s}
spec: {ports: [{port: 80}], selector: {app: web}}
";

#[test]
fn annotations_of_a_service_hold_where_its_routes_say_nothing_else() {
    let retries = json!({"attempts": 2, "retryOn": "503"});
    let alone = policy(ANNOTATED);
    let host = "web.shop.svc.cluster.local";
    assert_eq!(
        alone["http"],
        json!([{
            "name": "service/web",
            "hosts": ["web", "web.shop", "web.shop.svc", host],
            "route": [{"destination": {"host": host, "port": {"number": 80}}}],
            "retries": retries,
            "timeout": "2s",
        }])
    );
    let route = |version: &str, annotations: &str, more: &str| {
        format!(
            "{ANNOTATED}---\napiVersion: {version}\nkind: HTTPRoute\nmetadata: {{name: r, namespace: shop, annotations: \
             {{{annotations}}}}}\nspec: {{parentRefs: [{{name: web, kind: Service, group: core, port: 80}}], rules: [{{{more}}}]}}\n"
        )
    };
    for version in ["policy.linkerd.io/v1beta3", "gateway.networking.k8s.io/v1"] {
        let entry = |annotations: &str, more: &str| {
            let mut entry = policy(&route(version, annotations, more))["http"][0].clone();
            (
                entry["retries"].take(),
                entry["timeout"].take(),
                entry["route"][0]["destination"]["host"].take(),
            )
        };
        let plain = "matches: [{path: {value: /a}}]";
        assert_eq!(entry("", plain), (retries.clone(), json!("2s"), json!(host)), "{version}");
        let (own, timeout, _) = entry("retry.linkerd.io/http: 5xx, timeout.linkerd.io/request: 1s", plain);
        assert_eq!((own, timeout), (json!({"attempts": 1, "retryOn": "5xx"}), json!("1s")));
        // A route that speaks of retries says all of them.
        assert_eq!(entry("retry.linkerd.io/limit: '5'", plain).0, json!(null));
        let (own, timeout, _) = entry("", "timeouts: {request: 3s, backendRequest: 1s}");
        assert_eq!((&own["perTryTimeout"], timeout), (&json!("1s"), json!("3s")));
    }
    let split = "---\napiVersion: split.smi-spec.io/v1alpha2\nkind: TrafficSplit\nmetadata: {name: s, namespace: shop}\nspec: \
                 {service: web, backends: [{service: web, weight: 1}]}\n";
    let told = warnings(&imported(&format!("{ANNOTATED}{split}")).report);
    assert!(
        told.iter().any(|told| told.contains("TrafficSplit s says what becomes of its requests")),
        "{told:?}"
    );
}

fn labels(text: &str) -> Option<BTreeMap<String, String>> {
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some(text.split(',').filter_map(pair).collect())
}

#[test]
fn an_annotation_alone_says_the_namespace() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: w, namespace: shop, labels: {app: web}, annotations: \
               {config.linkerd.io/default-inbound-policy: deny}}\n";
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: \
                     {config.linkerd.io/default-inbound-policy: deny}}\n";
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {selector: {app: web}, \
                   ports: [{port: 80}]}\n";
    for (said, labels) in
        [(pod, labels("app=web")), (pod, None), (namespace, labels("app=web")), (namespace, None)]
    {
        let wanted = Wanted { labels, ..Wanted::default() };
        let found = imported_for(&format!("{said}{service}"), &wanted, Repairs::Told);
        assert_eq!(errors(&found.report), Vec::<String>::new());
        assert_eq!(found.policy.value["namespace"], "shop");
        assert_eq!(
            found.policy.value["authorization"],
            json!([{"name": "linkerd/default", "action": "ALLOW"}]),
            "{said} {wanted:?}"
        );
    }
    let told = errors(&imported(&format!("{pod}---\n{}", namespace.replace("shop", "other"))).report);
    assert!(told[0].contains("several namespaces") && told[0].contains("other, shop"), "{told:?}");
}

#[test]
fn a_server_is_for_all_labels_of_the_workload() {
    let server = |selector: &str| {
        format!(
            "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {{name: s, namespace: shop}}\nspec: {{podSelector: \
             {{{selector}}}, port: 80}}\n"
        )
    };
    let pod = |name: &str, labels: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}\n"
        )
    };
    let told = |text: &str, given: &str| {
        let wanted = Wanted { labels: labels(given), ..Wanted::default() };
        let found = imported_for(text, &wanted, Repairs::Told);
        (errors(&found.report), found.policy.value["authorization"].as_array().map_or(0, Vec::len))
    };
    for selector in [
        "matchLabels: {app: web, tier: front}",
        "matchLabels: {app: web}, matchExpressions: [{key: tier, operator: In, values: [front]}]",
        "matchExpressions: [{key: tier, operator: Exists}]",
    ] {
        let server = server(selector);
        // The only pod has it; of two one has; none is there.
        let one = format!("{server}{}", pod("a", "app: web, tier: front"));
        assert_eq!(told(&one, "app=web"), (Vec::new(), 1), "{selector}");
        let two = format!("{one}{}", pod("b", "app: web, x: y"));
        let some = told(&two, "app=web").0;
        assert!(some[0].contains("some have that and some do not"), "{some:?}");
        assert_eq!(told(&two, "app=web,x=y"), (Vec::new(), 0), "{selector}");
        let none = told(&server, "app=web").0;
        assert!(none[0].contains("do not say whether the workload has that"), "{none:?}");
        assert_eq!(told(&server, "app=web,tier=front"), (Vec::new(), 1), "{selector}");
    }
    let server = server("matchExpressions: [{key: app, operator: In, values: [web]}]");
    let other = told(&server, "app=other").0;
    assert!(other[0].contains("no policy is for a workload with these labels"), "{other:?}");
    assert_eq!(errors(&imported(&server).report), Vec::<String>::new());
}

#[test]
fn a_service_s_servers_are_left_alone_after_failures_in_a_row() {
    let service = |annotations: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop, annotations: {{{annotations}}}}}\nspec: \
             {{ports: [{{port: 80}}]}}\n"
        )
    };
    let accrual = "balancer.linkerd.io/failure-accrual";
    let web = "web.shop.svc.cluster.local";
    let outliers = |text: &str, host: &str| {
        let found = imported(text);
        assert_eq!(errors(&found.report), Vec::<String>::new(), "{text}");
        let rule = found.mesh.rules.iter().find(|rule| rule.host == host);
        rule.and_then(|rule| Some(json!(rule.policy.outliers.as_ref()?)))
    };
    let expected = |failures: u32, least: &str, most: &str| {
        Some(json!({
            "consecutive_5xx": failures,
            "enforcing_consecutive_5xx": 100,
            "interval": least,
            "base_ejection_time": least,
            "max_ejection_time": most,
            "max_ejection_percent": 100,
        }))
    };
    let plain = service(&format!("{accrual}: consecutive"));
    assert_eq!(outliers(&plain, web), expected(7, "1s", "60s"));
    assert_eq!(policy(&plain)["http"][0]["name"], "service/web");
    let all = format!(
        "{accrual}: consecutive, {accrual}-consecutive-max-failures: '3', {accrual}-consecutive-min-penalty: 10s, \
         {accrual}-consecutive-max-penalty: 2m, {accrual}-consecutive-jitter-ratio: '0.1'"
    );
    assert_eq!(outliers(&service(&all), web), expected(3, "10s", "120s"));
    assert_eq!(warnings(&imported(&service(&all)).report), Vec::<String>::new());
    assert_eq!(outliers(&service(&all.replace("'3'", "'0'")), web), None);
    assert_eq!(outliers(&service(&format!("{accrual}-consecutive-max-failures: '3'")), web), None);
    // Wherever a route of it leads.
    let route = "---\napiVersion: policy.linkerd.io/v1beta3\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\nspec: \
                 {parentRefs: [{kind: Service, group: core, name: web}], rules: [{backendRefs: [{name: other, port: 80}]}]}\n";
    let route = format!("---\n{}{route}", service("").replace("name: web", "name: other"));
    assert_eq!(
        outliers(&format!("{plain}{route}"), "other.shop.svc.cluster.local"),
        expected(7, "1s", "60s")
    );
    // A rule for the host that speaks of something else takes them in.
    let rule = "---\nkind: DestinationRule\nmetadata: {name: web, namespace: shop}\nspec: {host: web, trafficPolicy: \
                {loadBalancer: {simple: RANDOM}}}\n";
    assert_eq!(outliers(&format!("{plain}{rule}"), web), expected(7, "1s", "60s"));
    // Where a profile is, Linkerd breaks no circuit.
    let profile = format!("---\n{PROFILE}").replace("webapp.default", "web.shop").replace("default", "shop");
    let found = imported(&format!("{plain}{profile}"));
    assert!(found.mesh.rules.iter().all(|rule| rule.policy.outliers.is_none()));
    assert!(warnings(&found.report)[0].contains("what annotations say of them does not count"));
    for (annotations, expected) in [
        (format!("{accrual}: unified"), "the share of successes is not"),
        (format!("{accrual}-success-rate: '1'"), "Envoy counts failures in a row"),
        ("balancer.alpha.linkerd.io/penalize-failures: 'true'".to_owned(), "is not honoured"),
    ] {
        let told = warnings(&imported(&service(&annotations)).report);
        assert!(told.iter().any(|warning| warning.contains(expected)), "{annotations}: {told:?}");
    }
    for (annotations, expected) in [
        (format!("{accrual}: some"), "some is no way to count failures"),
        (format!("{accrual}: consecutive, {accrual}-consecutive-max-failures: many"), "many is not a number"),
        (
            format!("{accrual}: consecutive, {accrual}-consecutive-min-penalty: 2m"),
            "the least penalty is more",
        ),
    ] {
        let told = errors(&imported(&service(&annotations)).report);
        assert!(told.iter().any(|error| error.contains(expected)), "{annotations}: {told:?}");
    }
}

#[test]
fn whom_names_let_in_needs_a_listener_that_asks_for_certificates() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["cert-chain.pem", "key.pem", "root-cert.pem"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let told = |text: &str, certificates: bool| {
        let found = imported(text);
        assert_eq!(errors(&found.report), Vec::<String>::new(), "{text}");
        let mut options = Options::new(Module::Wasm("meshfilter.wasm".into()));
        options.certificates = certificates.then(|| folder.path().to_owned());
        let moved = Default::default();
        let wanted = envoy::Wanted { options, endpoints: Vec::new(), moved, folder: "out".into() };
        let written = wanted.write(&found.mesh, &found.scope, &found.policy).unwrap();
        written
            .warnings
            .iter()
            .any(|warning| warning.contains("those clients do not get in; say --certificates DIR"))
    };
    let web = "{kind: ServiceAccount, name: web}";
    let named = format!("{SERVER}{}", authorization("web", "kind: Server, name: authors", web));
    let istio = |action: &str| {
        format!(
            "kind: AuthorizationPolicy\napiVersion: security.istio.io/v1\nmetadata: {{name: a}}\nspec: {{action: {action}, rules: \
                 [{{from: [{{source: {{namespaces: [shop]}}}}]}}]}}\n"
        )
    };
    for (text, expected) in [
        (&named, true),
        (&istio("ALLOW"), true),
        (&istio("DENY"), false),
        (&format!("{SERVER}{}", authorization("all", "kind: Server, name: authors", "")), false),
    ] {
        assert_eq!(told(text, false), expected, "{text}");
        assert!(!told(text, true), "{text}");
    }
}

#[test]
fn identities_are_patterns_only_where_linkerd_has_them() {
    for identity in [
        "spiffe://*",
        "spiffe://*/sa/web",
        "spiffe://cluster.local/ns/*",
        "web.shop.serviceaccount.identity.linkerd.*",
    ] {
        let told = super::identity::principal(identity).unwrap_err();
        assert!(told.contains("Linkerd knows * alone, and *. in front of names"), "{told}");
    }
    let all = super::identity::principal("*.shop.serviceaccount.identity.linkerd.cluster.local");
    assert_eq!(all, Ok("cluster.local/ns/shop/sa/*".to_owned()));
}

/// A workload with two ports, of which a Service leads to the first, and nobody gets in by default.
const TWO_PORTS: &str = "\
---
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  namespace: shop
  labels: {app: web}
  annotations: {config.linkerd.io/default-inbound-policy: deny}
spec: {containers: [{ports: [{name: http, containerPort: 8080}, {name: metrics, containerPort: 9090}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: metrics, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, port: metrics, accessPolicy: all-unauthenticated}
";

#[test]
fn a_server_of_another_port_than_the_service_s_is_not_the_proxy() {
    let of = |text: &str, port: Option<u16>| {
        let labels = Some([("app".to_owned(), "web".to_owned())].into());
        imported_for(text, &Wanted { labels, port, ..Wanted::default() }, Repairs::Told)
    };
    let told = errors(&of(TWO_PORTS, None).report);
    assert!(
        told[0].contains("metrics (port metrics) is for a port to which no Service of the workload leads"),
        "{told:?}"
    );
    let found = of(TWO_PORTS, Some(8080));
    assert_eq!(errors(&found.report), Vec::<String>::new());
    assert_eq!(found.policy.value["authorization"], json!([{"name": "linkerd/default", "action": "ALLOW"}]));
    let found = of(TWO_PORTS, Some(9090));
    assert_eq!(errors(&found.report), Vec::<String>::new());
    assert_eq!(found.policy.value["authorization"][0]["name"], "server/metrics");
    // What a selector says is read, whomever it is for.
    for wrong in [
        "matchExpressions: [{key: app, operator: in, values: [web]}]",
        "matchExpressions: [{key: app, operator: In, value: [web]}]",
        "matchlabels: {app: web}",
    ] {
        let text =
            TWO_PORTS.replace("podSelector: {matchLabels: {app: web}}", &format!("podSelector: {{{wrong}}}"));
        let told = errors(&of(&text, Some(9090)).report);
        assert!(
            told.iter().any(|told| told.contains("is no such part of a selector; use matchLabels")),
            "{wrong}: {told:?}"
        );
    }
}

#[test]
fn ports_that_want_an_identity_are_told() {
    let name = "config.linkerd.io/default-inbound-policy: deny";
    let with = |value: &str| {
        TWO_PORTS.replace(name, &format!("config.linkerd.io/proxy-require-identity-inbound-ports: '{value}'"))
    };
    let of = |text: &str, app: &str| {
        let labels = Some([("app".to_owned(), app.to_owned())].into());
        let namespace = Some("shop".to_owned());
        let wanted = Wanted { labels, port: Some(8080), namespace, ..Wanted::default() };
        errors(&imported_for(text, &wanted, Repairs::Told).report)
    };
    let told = of(&with("8080"), "web");
    assert!(told[0].contains("it lets clients with an identity alone in at these ports"), "{told:?}");
    assert_eq!(of(&with(""), "web"), Vec::<String>::new());
    let other = format!(
        "{}{}",
        with("8080").replace("web", "other").replace("name: metrics,", "name: other-metrics,"),
        TWO_PORTS
    );
    assert_eq!(of(&other, "web"), Vec::<String>::new());
}
