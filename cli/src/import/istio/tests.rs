use serde_json::{Value, json};

use crate::import::mesh::PeerMode;
use crate::import::repair::Repairs;
use crate::import::scope::Wanted;
use crate::import::testing::{errors, imported, imported_for, policy, warnings};

#[test]
fn a_virtual_service_becomes_entries_with_its_hosts() {
    let text = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews, www.example.com]
  http:
  - name: jason
    match: [{headers: {end-user: {exact: jason}}, gateways: [mesh]}]
    route: [{destination: {host: reviews, subset: v2}}]
    timeout: 0.5s
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 90}
    - {destination: {host: reviews.other.svc.cluster.local, port: {number: 9080}}, weight: 10}
    mirror: {host: copy}
    mirror_percent: 50
---
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {ports: [{port: 8080}]}
";
    let host = "reviews.shop.svc.cluster.local";
    let names = ["reviews", "reviews.shop", "reviews.shop.svc", host, "www.example.com"];
    assert_eq!(
        policy(text),
        json!({
            "http": [
                {
                    "name": "reviews/jason",
                    "hosts": names,
                    "match": [{"headers": {"end-user": {"exact": "jason"}}}],
                    "route": [{"destination": {"host": host, "subset": "v2", "port": {"number": 8080}}}],
                    "timeout": "0.5s",
                },
                {
                    "name": "reviews/1",
                    "hosts": names,
                    "route": [
                        {"destination": {"host": host, "subset": "v1", "port": {"number": 8080}}, "weight": 90},
                        {
                            "destination": {"host": "reviews.other.svc.cluster.local", "port": {"number": 9080}},
                            "weight": 10,
                        },
                    ],
                    "mirror": {"host": "copy.shop.svc.cluster.local"},
                    "mirrorPercent": 50,
                },
            ],
            "telemetry": {"metrics": {"istio": true}},
        })
    );
}

#[test]
fn a_host_with_two_ports_has_a_cluster_for_each() {
    let text = "\
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a]
  http:
  - match: [{port: 80}]
    route: [{destination: {host: a, port: {number: 80}}}]
  - route: [{destination: {host: a, port: {number: 81}}}]
";
    assert_eq!(
        policy(text)["destinations"],
        json!({"clusterName": "outbound|{port}|{subset}|{host}", "port": 80})
    );
}

#[test]
fn a_delegate_s_routes_stand_within_those_of_its_root() {
    let text = "\
kind: VirtualService
metadata: {name: root, namespace: a}
spec:
  hosts: [shop.example.com]
  http:
  - match: [{uri: {prefix: /p}, headers: {x: {exact: y}}}]
    timeout: 3s
    delegate: {name: products, namespace: b}
---
kind: VirtualService
metadata: {name: products, namespace: b}
spec:
  http:
  - name: one
    match: [{uri: {prefix: /p/1}}, {uri: {prefix: /q}}]
    route: [{destination: {host: one}}]
  - route: [{destination: {host: two}}]
    timeout: 1s
";
    let policy = policy(text);
    let entries = policy["http"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["name"], "root/products-one");
    assert_eq!(entries[0]["match"], json!([{"uri": {"prefix": "/p/1"}, "headers": {"x": {"exact": "y"}}}]));
    assert_eq!(entries[0]["timeout"], "3s");
    assert_eq!(entries[0]["route"][0]["destination"]["host"], "one.b.svc.cluster.local");
    assert_eq!(entries[1]["match"], json!([{"uri": {"prefix": "/p"}, "headers": {"x": {"exact": "y"}}}]));
    assert_eq!(entries[1]["timeout"], "1s");
}

#[test]
fn what_is_not_known_is_an_error_that_names_it_and_its_neighbours() {
    let text = "\
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a]
  http:
  - timout: 5s
    route: [{destination: {host: a, Subset: v1}}]
    match: [{sourceLabels: {app: x}, uri: /a}]
";
    assert_eq!(
        errors(&imported(text).report),
        [
            "8: spec.http[0].match[0].uri: \"/a\" is not an object",
            "8: spec.http[0].match[0].sourceLabels: which client asks is not known to a proxy before the services; use an \
             AuthorizationPolicy with source.principals or source.namespaces",
            "7: spec.http[0].route[0].destination.Subset: Subset is not a field here; did you mean subset?",
            "6: spec.http[0].timout: timout is not a field here; did you mean timeout?",
        ]
    );
}

const POLICIES: &str = "\
kind: AuthorizationPolicy
apiVersion: security.istio.io/v1
metadata: {name: allow, namespace: shop, annotations: {istio.io/dry-run: 'true'}}
spec:
  selector: {matchLabels: {app: web}}
  rules: [{from: [{source: {serviceAccounts: [x, other/y]}}], to: [{operation: {methods: [GET]}}]}]
---
kind: AuthorizationPolicy
apiVersion: security.istio.io/v1
metadata: {name: nobody, namespace: istio-system}
spec: {}
---
kind: RequestAuthentication
metadata: {name: jwt, namespace: shop}
spec:
  jwtRules: [{issuer: 'https://a.example.com', jwksUri: 'https://a.example.com/keys', forwardOriginalToken: true}]
";

#[test]
fn policies_are_those_of_the_proxy_s_namespace_and_of_the_root() {
    let imported = imported(POLICIES);
    assert_eq!(errors(&imported.report), Vec::<String>::new());
    assert_eq!(
        warnings(&imported.report),
        ["1: : all selectors agree: the proxy has the labels app=web; --labels says others"]
    );
    let policy = imported.policy.value;
    assert_eq!(policy["namespace"], "shop");
    assert_eq!(
        policy["authorization"],
        json!([
            {
                "name": "allow",
                "action": "ALLOW",
                "mode": "shadow",
                "rules": [{
                    "from": [{"source": {"serviceAccounts": ["shop/x", "other/y"]}}],
                    "to": [{"operation": {"methods": ["GET"]}}],
                }],
            },
            {"name": "nobody", "action": "ALLOW"},
        ])
    );
    assert_eq!(policy["authentication"]["requirements"], json!([{"require": "optional"}]));
    assert_eq!(policy["authentication"]["jwtRules"][0]["jwksCluster"], "a.example.com:443");
}

#[test]
fn policies_of_others_are_left_out_when_it_is_said_who_is_meant() {
    let more = format!(
        "{POLICIES}---\nkind: AuthorizationPolicy\nmetadata: {{name: b, namespace: shop}}\nspec: {{selector: {{matchLabels: \
         {{app: api}}}}}}\n"
    );
    let told = errors(&imported(&more).report);
    assert_eq!(
        told,
        [
            "1: : there are policies for different workloads, and one proxy stands before one of them; say which:\n  \
          --labels app=api    for AuthorizationPolicy b\n  --labels app=web    for AuthorizationPolicy allow"
        ]
    );
    let labels = Some([("app".to_owned(), "api".to_owned())].into());
    let wanted = Wanted { labels, ..Wanted::default() };
    let found = imported_for(&more, &wanted, Repairs::Told);
    let names: Vec<&str> = found.policy.value["authorization"]
        .as_array()
        .unwrap()
        .iter()
        .map(|policy| policy["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["nobody", "b"]);
    let other = more.replace("name: b, namespace: shop", "name: b, namespace: other");
    assert_eq!(
        errors(&imported(&other).report),
        [
            "1: : there are policies of several namespaces, and one proxy is in one of them: other, shop; say which with \
          --namespace"
        ]
    );
}

#[test]
fn who_asks_a_server_of_its_own_is_refused() {
    let text = "kind: AuthorizationPolicy\napiVersion: security.istio.io/v1\nmetadata: {name: a}\nspec: {action: CUSTOM, provider: {name: opa}, rules: [{}]}\n";
    let told = errors(&imported(text).report);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("spec.action: CUSTOM asks a server of its own"), "{told:?}");
}

#[test]
fn the_same_twice_is_once_and_two_of_a_name_are_an_error() {
    let one = "kind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}\n";
    assert_eq!(policy(&format!("{one}---\n{one}"))["http"].as_array().unwrap().len(), 1);
    let other = one.replace("host: a", "host: b");
    assert_eq!(
        errors(&imported(&format!("{one}---\n{other}")).report),
        [
            "6: metadata.name: VirtualService default/a stands twice, and differs from the one in mesh.yaml:1; keep one"
        ]
    );
}

/// A DENY that is for these, with and without what it takes to know whether the proxy is one of them.
fn denied(whom: &str) -> String {
    format!(
        "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: no, namespace: shop}}
spec:
  {whom}
  action: DENY
  rules: [{{to: [{{operation: {{paths: [/admin]}}}}]}}]
"
    )
}

const WEB: &str = "\
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80}]}
";

#[test]
fn a_policy_for_a_service_is_for_what_the_service_selects() {
    let text = denied("targetRefs: [{kind: Service, group: '', name: web}]");
    let of = |text: &str, app: &str| {
        let labels = [("app".to_owned(), app.to_owned())].into();
        let wanted = Wanted { labels: Some(labels), ..Wanted::default() };
        imported_for(text, &wanted, Repairs::Told)
    };
    let known = of(&format!("{text}{WEB}"), "web");
    assert_eq!(errors(&known.report), Vec::<String>::new());
    assert_eq!(known.policy.value["authorization"][0]["name"], "no");
    assert_eq!(
        errors(&of(&text, "web").report),
        [
            "1: : AuthorizationPolicy shop/no: it is for Service shop/web, and what that is for is not in the input; put it \
             there, or leave the policy out"
        ]
    );
}

#[test]
fn a_policy_for_a_class_is_for_every_gateway_of_it() {
    let text = denied("targetRefs: [{kind: GatewayClass, group: gateway.networking.k8s.io, name: x}]");
    let gateway = "\
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: x, listeners: [{name: http, port: 80, protocol: HTTP}]}
";
    let wanted = Wanted { gateway: Some(("shop".to_owned(), "edge".to_owned())), ..Wanted::default() };
    let found = imported_for(&format!("{text}{gateway}"), &wanted, Repairs::Told);
    assert_eq!(errors(&found.report), Vec::<String>::new());
    assert_eq!(found.policy.value["authorization"][0]["name"], "no");
}

#[test]
fn labels_that_nobody_has_are_told() {
    let text = denied("selector: {matchLabels: {app: web}}");
    let of = |text: &str| {
        let labels = [("app".to_owned(), "wbe".to_owned())].into();
        let wanted = Wanted { labels: Some(labels), ..Wanted::default() };
        errors(&imported_for(text, &wanted, Repairs::Told).report)
    };
    assert_eq!(
        of(&text),
        [
            "1: : --labels app=wbe: no policy is for a workload with these labels, and none is in the input; there are policies \
             for app=web; if the workload has none of its own, put its Pod or Deployment into the input"
        ]
    );
    let pod =
        "---\napiVersion: v1\nkind: Pod\nmetadata: {name: other, namespace: shop, labels: {app: wbe}}\n";
    assert_eq!(of(&format!("{text}{pod}")), Vec::<String>::new());
}

#[test]
fn selectors_that_are_not_understood_are_errors() {
    for (selector, said) in [
        ("selector: {matchlabels: {app: web}}", "matchlabels is not a field here; did you mean matchLabels?"),
        ("selector: {matchLabels: {version: 1}}", "1 is not a text; put it in quotes"),
    ] {
        let errors = errors(&imported(&denied(selector)).report);
        assert!(errors.iter().any(|error| error.contains(said)), "{errors:?}");
    }
}

#[test]
fn kinds_that_are_not_known_are_told() {
    let of = |group: &str, kind: &str| {
        let text = format!(
            "{}---\napiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: a, namespace: shop}}\n",
            denied("")
        );
        let report = imported(&text).report;
        (errors(&report), warnings(&report))
    };
    let none = Vec::<String>::new;
    assert_eq!(
        of("security.istio.io", "AuthorisationPolicy"),
        (
            vec![
                "10: kind: security.istio.io has no kind AuthorisationPolicy; did you mean AuthorizationPolicy?"
                    .to_owned()
            ],
            none()
        )
    );
    for (group, kind, remedy) in [
        ("extensions.istio.io", "WasmPlugin", "see docs/import.md for what is"),
        ("kuadrant.io", "AuthPolicy", "if it decides about requests here, write that into the policy"),
        ("traefik.io", "IngressRoute", "if it decides about requests here, write that into the policy"),
        (
            "security.isto.io",
            "AuthorizationPolicy",
            "if it decides about requests here, write that into the policy",
        ),
    ] {
        let warning = format!(
            "10: kind: {kind} of {group} is not imported: what it asks for does not happen; {remedy}"
        );
        assert_eq!(of(group, kind), (none(), vec![warning]));
    }
    assert_eq!(of("cert-manager.io", "Certificate"), (none(), none()));
}

#[test]
fn an_input_of_nothing_is_an_error() {
    for text in
        ["", "apiVersion: v1\nkind: List\nitems: []\n", "apiVersion: v1\nkind: Node\nmetadata: {name: a}\n"]
    {
        let errors = errors(&imported(text).report);
        assert!(errors.iter().any(|error| error.contains("nothing in the input is of a kind")), "{errors:?}");
    }
}

#[test]
fn how_a_mesh_puts_its_proxy_into_a_pod_is_no_warning() {
    let text = format!(
        "{}---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  namespace: shop\n  annotations:\n    istio.io/rev: default\n    \
         sidecar.istio.io/status: '{{}}'\n    linkerd.io/inject: enabled\n    traffic.sidecar.istio.io/excludeInboundPorts: '80'\n",
        denied("")
    );
    let warnings = warnings(&imported(&text).report);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("excludeInboundPorts is not honoured"), "{warnings:?}");
}

/// Which certificates are wanted: in general, and at port 8080.
fn peers(policies: &[&str]) -> (Option<PeerMode>, Option<PeerMode>, Vec<String>) {
    let policy = |policy: &&str| format!("kind: PeerAuthentication\n{policy}\n");
    let text = policies.iter().map(policy).collect::<Vec<_>>().join("---\n");
    let labels = Some([("app".to_owned(), "web".to_owned())].into());
    let wanted = Wanted { namespace: Some("shop".to_owned()), labels, ..Wanted::default() };
    let imported = imported_for(&text, &wanted, Repairs::Told);
    assert_eq!(errors(&imported.report), Vec::<String>::new());
    let mode = |port| imported.mesh.peers.get(&port).map(|peer| peer.mode);
    (mode(None), mode(Some(8080)), warnings(&imported.report))
}

#[test]
fn of_the_peer_authentications_of_a_level_the_oldest_counts() {
    use PeerMode::{Disable, Permissive, Strict};
    let web = "selector: {matchLabels: {app: web}}";
    let mesh = "metadata: {name: m, namespace: istio-system}\nspec: {mtls: {mode: PERMISSIVE}}";
    let young = "metadata: {name: a, namespace: shop, creationTimestamp: '2025-06-01T00:00:00Z'}\nspec: {mtls: {mode: PERMISSIVE}}";
    let old = "metadata: {name: b, namespace: shop, creationTimestamp: 2024-01-01T00:00:00Z}\nspec: {mtls: {mode: STRICT}}";
    let unset = old.replace("STRICT", "UNSET");
    let undated = young.replace(", creationTimestamp: '2025-06-01T00:00:00Z'", "");
    let same = undated.replace("name: a", "name: c").replace("PERMISSIVE", "DISABLE");
    let of_root =
        format!("metadata: {{name: r, namespace: istio-system}}\nspec: {{{web}, mtls: {{mode: DISABLE}}}}");
    let own = format!(
        "metadata: {{name: w, namespace: shop}}\nspec: {{{web}, mtls: {{mode: UNSET}}, portLevelMtls: {{8080: {{mode: DISABLE}}}}}}"
    );
    let ports = old.replace("}}", "}, portLevelMtls: {8080: {mode: DISABLE}}}");
    for (policies, expected) in [
        (vec![young, old], (Some(Strict), None, 1)),
        (vec![old, young], (Some(Strict), None, 1)),
        (vec![&undated, old], (Some(Strict), None, 1)),
        (vec![&same, &undated], (Some(Permissive), None, 1)),
        // What the oldest leaves open is the level's above.
        (vec![young, &unset, &mesh.replace("PERMISSIVE", "STRICT")], (Some(Strict), None, 1)),
        (vec![&of_root, old], (Some(Strict), None, 1)),
        (vec![mesh, old, &own], (Some(Strict), Some(Disable), 0)),
        (vec![&ports], (Some(Strict), None, 1)),
    ] {
        let (general, at_port, told) = peers(&policies);
        assert_eq!((general, at_port, told.len()), expected, "{policies:?} {told:?}");
    }
    let (_, _, told) = peers(&[young, old]);
    assert_eq!(
        told,
        ["3: spec: one PeerAuthentication counts here, and that is b, which is older; leave it out"]
    );
}

#[test]
fn the_older_of_two_virtual_services_and_rules_comes_first() {
    let one = |name: &str, created: &str| {
        format!(
            "---\nkind: VirtualService\nmetadata: {{name: {name}{created}}}\nspec: {{hosts: [a.b], gateways: [x], http: [{{route: \
             [{{destination: {{host: {name}}}}}]}}]}}\n"
        )
    };
    let names = |text: &str| -> Vec<String> {
        let policy = policy(text);
        let entries = policy["http"].as_array().unwrap().iter();
        entries.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    let (old, new) =
        (", creationTimestamp: '2024-01-01T00:00:00Z'", ", creationTimestamp: '2025-01-01T00:00:00Z'");
    assert_eq!(
        names(&[one("d", ""), one("c", ""), one("b", old), one("z", new), one("a", old)].concat()),
        ["a/0", "b/0", "z/0", "d/0", "c/0"]
    );
    // In the mesh they are not merged.
    let in_mesh = [one("d", ""), one("b", old), one("z", new)].concat().replace("gateways: [x], ", "");
    assert_eq!(names(&in_mesh), ["b/0"]);
    let told = imported(&in_mesh);
    assert_eq!(
        warnings(&told.report)[0],
        "4: spec.hosts[0]: left out: in the mesh one VirtualService has a host, the oldest: default/b has a.b; put its routes \
         into that one"
    );
    let hidden = in_mesh.replacen(
        &format!("name: b{old}}}\nspec: {{"),
        &format!("name: b{old}, namespace: other}}\nspec: {{exportTo: [.], "),
        1,
    );
    assert_eq!(names(&hidden), ["b/0", "z/0"]);
    let rule = |name: &str, created: &str, version: &str| {
        format!(
            "---\nkind: DestinationRule\nmetadata: {{name: {name}{created}}}\nspec: {{host: a, subsets: [{{name: v, labels: \
             {{version: {version}}}}}]}}\n"
        )
    };
    let rules = imported(&[rule("x", new, "v1"), rule("y", old, "v2")].concat()).mesh.rules;
    assert_eq!(rules[0].subsets[0].labels["version"], "v2");
}

#[test]
fn of_telemetries_the_oldest_of_each_level_counts_and_the_nearer_one_last() {
    let one = |name: &str, namespace: &str, percent: u32| {
        format!(
            "---\nkind: Telemetry\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{tracing: \
             [{{randomSamplingPercentage: {percent}}}]}}\n"
        )
    };
    let text = [one("b", "shop", 2), one("a", "shop", 1), one("m", "istio-system", 3)].concat();
    assert_eq!(imported(&text).mesh.tracing.sampling, Some(1.0));
}

const CONFIG_MAP: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: mesh-root}
data:
  mesh: |
    trustDomain: mesh.example
    trustDomainAliases: [old.example]
    rootNamespace: mesh-root
    accessLogFile: ''
  meshNetworks: 'networks: {}'
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: root, namespace: mesh-root}
spec:
  action: DENY
  rules: [{when: [{key: source.serviceAccount, values: [evil, shop/x], notValues: [good]}, {key: source.namespace, values: [x]}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: own, namespace: shop}
spec: {action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/evil/sa/x]}}]}]}
";

#[test]
fn mesh_config_is_read_where_istio_keeps_it() {
    let told = imported(CONFIG_MAP);
    assert_eq!(errors(&told.report), Vec::<String>::new());
    assert!(told.mesh.access_log.disabled);
    let policy = told.policy.value;
    assert_eq!(policy["trustDomainAliases"], json!(["mesh.example", "old.example"]));
    assert_eq!(policy["authorization"].as_array().unwrap().len(), 2);
    // A bare account is of the policy's own namespace, wherever it stands.
    assert_eq!(
        policy["authorization"][0]["rules"][0]["when"],
        json!([
            {"key": "source.serviceAccount", "values": ["mesh-root/evil", "shop/x"], "notValues": ["mesh-root/good"]},
            {"key": "source.namespace", "values": ["x"]},
        ])
    );
    let wrong = CONFIG_MAP.replace("trustDomain: mesh", "trustDomain: [mesh");
    let told = errors(&imported(&wrong).report);
    assert!(told.iter().any(|error| error.contains(": data.mesh: ")), "{told:?}");
    // Those of others are left alone.
    let other = CONFIG_MAP.replace("name: istio,", "name: settings,");
    let other =
        imported_for(&other, &Wanted { namespace: Some("shop".into()), ..Wanted::default() }, Repairs::Told);
    assert_eq!(other.policy.value["trustDomainAliases"], Value::Null);
    assert_eq!(other.policy.value["authorization"].as_array().unwrap().len(), 1);
    assert!(other.report.resources[0].unknown);
}

#[test]
fn a_gateway_s_policies_are_those_of_its_namespace() {
    let policy = |name: &str| {
        format!(
            "---\nkind: AuthorizationPolicy\napiVersion: security.istio.io/v1\nmetadata: {{name: of-{name}, namespace: {name}}}\nspec: \
             {{action: DENY}}\n"
        )
    };
    let gateway = "kind: Gateway\napiVersion: networking.istio.io/v1\nmetadata: {name: edge, namespace: infra}\nspec: {servers: \
                   [{port: {number: 80, protocol: HTTP}, hosts: ['*']}]}\n";
    let wanted = Wanted { gateway: Some(("infra".into(), "edge".into())), ..Wanted::default() };
    for policies in [vec!["shop"], vec!["shop", "infra", "other"]] {
        let text = [gateway.to_owned(), policies.iter().map(|name| policy(name)).collect()].concat();
        let told = imported_for(&text, &wanted, Repairs::Told);
        assert_eq!(errors(&told.report), Vec::<String>::new());
        assert_eq!(told.scope.namespace, "infra");
        let found = told.policy.value["authorization"].as_array().cloned().unwrap_or_default();
        let names: Vec<&str> = found.iter().map(|policy| policy["name"].as_str().unwrap()).collect();
        assert_eq!(names, if policies.len() > 1 { vec!["of-infra"] } else { vec![] });
    }
}

#[test]
fn a_policy_with_a_key_that_signs_is_a_secret() {
    for (key, secret) in [
        (r#"{"kty":"oct","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I"}"#, true),
        (r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#, false),
    ] {
        let text = format!(
            "kind: RequestAuthentication\nmetadata: {{name: a}}\nspec: {{jwtRules: [{{issuer: a, jwks: '{{\"keys\":[{key}]}}'}}]}}\n"
        );
        assert_eq!(imported(&text).policy.is_secret(), secret, "{key}");
    }
}

#[test]
fn two_of_a_name_without_a_spec_are_an_error_too() {
    let one = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {tls.crt: '1'}\n";
    let told = errors(&imported(&format!("{one}---\n{}", one.replace("'1'", "'2'"))).report);
    assert!(told[0].contains("Secret default/a stands twice, and differs"), "{told:?}");
}

#[test]
fn an_address_of_the_workload_is_no_condition() {
    let text = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a}
spec: {action: DENY, rules: [{when: [{key: destination.ip, notValues: [10.0.0.1]}]}]}
";
    assert_eq!(
        errors(&imported(text).report),
        [
            "4: spec.rules[0].when[0].key: destination.ip is an address of the workload, and clients come to this proxy's; leave it \
             out; a policy is for a workload by its selector, and for a port by destination.port"
        ]
    );
}

#[test]
fn of_envoy_filters_the_priority_says_which_limit_holds() {
    let filter = |name: &str, priority: i64, place: &str, tokens: u32| {
        let config = format!(
            "{{'@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, token_bucket: \
             {{max_tokens: {tokens}, fill_interval: 60s}}, filter_enabled: {{default_value: {{numerator: 100}}}}, filter_enforced: \
             {{default_value: {{numerator: 100}}}}}}"
        );
        let value = match place {
            "HTTP_FILTER" => format!("{{name: envoy.filters.http.local_ratelimit, typed_config: {config}}}"),
            _ => format!("{{typed_per_filter_config: {{envoy.filters.http.local_ratelimit: {config}}}}}"),
        };
        format!(
            "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: {name}}}\nspec: {{priority: {priority}, \
             configPatches: [{{applyTo: {place}, patch: {{operation: MERGE, value: {value}}}}}]}}\n"
        )
    };
    let tokens = |text: &[String]| {
        let found = imported(&text.concat());
        assert_eq!(errors(&found.report), Vec::<String>::new());
        let limits = found.policy.value["rateLimits"].as_array().unwrap().clone();
        let tokens: Vec<u64> =
            limits.iter().map(|limit| limit["tokenBucket"]["maxTokens"].as_u64().unwrap()).collect();
        (tokens, warnings(&found.report).len())
    };
    let (first, last) = (filter("a", -5, "HTTP_FILTER", 1), filter("b", 3, "HTTP_FILTER", 2));
    assert_eq!(tokens(&[last.clone(), first.clone()]), (vec![1, 2], 0), "filters stand beside each other");
    let (route, later) = (filter("c", 7, "HTTP_ROUTE", 3), filter("d", 8, "HTTP_ROUTE", 4));
    assert_eq!(tokens(&[later.clone(), first.clone(), route.clone()]), (vec![4], 2));
    let host = filter("e", 9, "VIRTUAL_HOST", 5);
    assert_eq!(tokens(&[host, route]), (vec![3], 1), "a route's holds in place of its virtual host's");
}

#[test]
fn what_is_not_exported_to_the_proxy_s_namespace_is_left_out() {
    let text = "\
kind: VirtualService
metadata: {name: a, namespace: other}
spec: {exportTo: [.], hosts: [a.example.com], http: [{route: [{destination: {host: a.example.com}}]}]}
---
kind: DestinationRule
metadata: {name: a, namespace: other}
spec: {exportTo: [third], host: a.example.com, trafficPolicy: {tls: {mode: DISABLE}}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
";
    let told = |namespace: Option<&str>| {
        let wanted = Wanted { namespace: namespace.map(str::to_owned), ..Wanted::default() };
        let found = imported_for(text, &wanted, Repairs::Told);
        assert_eq!(errors(&found.report), Vec::<String>::new());
        let left_out =
            warnings(&found.report).iter().filter(|told| told.contains("it is not exported to")).count();
        (found.policy.value.get("http").is_some(), found.mesh.rules.len(), left_out)
    };
    assert_eq!(told(Some("shop")), (false, 0, 2));
    assert_eq!(told(Some("other")), (true, 0, 1));
    // Where nobody says where the proxy is, it may be anywhere.
    assert_eq!(told(None), (true, 1, 0));
}

#[test]
fn a_route_is_on_the_servers_that_take_its_namespace() {
    let gateway = "kind: Gateway\napiVersion: networking.istio.io/v1\nmetadata: {name: edge, namespace: infra}\nspec:\n  servers:\n  \
                   - {port: {number: 443, protocol: HTTPS}, hosts: ['public/*.example.com'], tls: {mode: SIMPLE, credentialName: a}}\n  \
                   - {port: {number: 8443, protocol: HTTPS}, hosts: ['internal/*.example.com'], tls: {mode: MUTUAL, credentialName: a}}\n";
    let route = |namespace: &str, matched: &str| {
        format!(
            "---\nkind: VirtualService\napiVersion: networking.istio.io/v1\nmetadata: {{name: adm, namespace: {namespace}}}\nspec: \
             {{hosts: [admin.example.com], gateways: [infra/edge], http: [{{{matched}route: [{{destination: {{host: adm}}}}]}}]}}\n"
        )
    };
    let found = |text: String| {
        let gateway = Some(("infra".to_owned(), "edge".to_owned()));
        imported_for(&text, &Wanted { gateway, ..Wanted::default() }, Repairs::Told)
    };
    for (namespace, matched, hosts, expected) in [
        ("internal", "", None, json!([{"port": 8443}])),
        ("public", "", None, json!([{"port": 443}])),
        (
            "internal",
            "match: [{uri: {prefix: /a}, port: 443}, {uri: {prefix: /b}}], ",
            None,
            json!([{"uri": {"prefix": "/b"}, "port": 8443}]),
        ),
        // Whoever is for all namespaces, or for this one, too, takes it.
        (
            "internal",
            "",
            Some(("'public/*.example.com'", "'public/*.example.com', '*/*.example.com'")),
            Value::Null,
        ),
        (
            "internal",
            "",
            Some(("'public/*.example.com'", "'public/*.example.com', 'internal/*.example.com'")),
            Value::Null,
        ),
    ] {
        let (from, to) = hosts.unwrap_or_default();
        let text = if from.is_empty() { gateway.to_owned() } else { gateway.replace(from, to) };
        let found = found(format!("{text}{}", route(namespace, matched)));
        assert_eq!(errors(&found.report), Vec::<String>::new());
        assert_eq!(found.policy.value["http"][0]["match"], expected, "{namespace} {matched}");
    }
    let elsewhere = found(format!("{gateway}{}", route("internal", "match: [{port: 443}], ")));
    assert_eq!(elsewhere.policy.value.get("http"), None);
    // On one port they are not told apart.
    let one = gateway.replace("8443", "443").replace("internal/*", "internal/admin");
    let told = errors(&found(format!("{one}{}", route("public", ""))).report);
    assert!(told[0].contains("takes admin.example.com of other namespaces alone"), "{told:?}");
}

fn deny(name: &str, namespace: &str, whom: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec: {{{whom}, action: DENY, rules: [{{}}]}}\n"
    )
}

/// The names of the policies that hold, and what is wrong.
fn holding(text: &str, wanted: &Wanted) -> (Vec<String>, Vec<String>) {
    let found = imported_for(text, wanted, Repairs::Told);
    let all = found.policy.value["authorization"].as_array().cloned().unwrap_or_default();
    let name = |policy: &Value| policy["name"].as_str().unwrap().to_owned();
    (all.iter().map(name).collect(), errors(&found.report))
}

#[test]
fn a_selector_is_for_all_labels_of_the_workload() {
    let text = [
        deny("v1", "shop", "selector: {matchLabels: {app: reviews, version: v1}}"),
        deny("all", "shop", "selector: {matchLabels: {app: reviews}}"),
    ]
    .concat();
    let deployment = |version: &str| {
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {version}, namespace: shop}}\nspec: {{template: \
             {{metadata: {{labels: {{app: reviews, version: {version}}}}}}}}}\n"
        )
    };
    let of = |text: &str, version: Option<&str>| {
        let version = version.map(|version| ("version".to_owned(), version.to_owned()));
        let labels = [("app".to_owned(), "reviews".to_owned())].into_iter().chain(version).collect();
        holding(text, &Wanted { labels: Some(labels), ..Wanted::default() })
    };
    let one = format!("{text}{}", deployment("v1"));
    let names = |names: &[&str]| (names.iter().map(|&name| name.to_owned()).collect(), Vec::new());
    assert_eq!(of(&one, None), names(&["v1", "all"]));
    let two = format!("{one}{}", deployment("v2"));
    let some = of(&two, None).1;
    assert!(some[0].contains("some have that and some do not; say more labels"), "{some:?}");
    assert_eq!(of(&two, Some("v2")), names(&["all"]));
    let none = of(&text, None).1;
    assert_eq!(
        none,
        [
            "1: : --labels app=reviews: AuthorizationPolicy v1 is for app=reviews,version=v1, and these labels do not say whether \
             the workload has that; say all labels of the workload, or put its Pod or Deployment into the input"
        ]
    );
    assert_eq!(of(&text, Some("v1")), names(&["v1", "all"]));
    assert_eq!(of(&text, Some("v3")), names(&["all"]));
}

#[test]
fn a_namespace_that_nothing_has_is_told() {
    let text = deny("a", "shop", "selector: {matchLabels: {app: web}}");
    let of =
        |text: &str| holding(text, &Wanted { namespace: Some("shpo".to_owned()), ..Wanted::default() }).1;
    assert_eq!(
        of(&text),
        [
            "1: : --namespace shpo: nothing in the input is in that namespace; there are shop; if it has nothing of its own, put its \
             Namespace into the input"
        ]
    );
    let own = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shpo}\n";
    assert_eq!(of(&format!("{text}{own}")), Vec::<String>::new());
    assert_eq!(of(&text.replace(", namespace: shop", "")), Vec::<String>::new());
}

#[test]
fn a_proxy_is_a_workload_or_a_gateway() {
    let web = deny("web", "shop", "selector: {matchLabels: {app: web}}");
    let edge =
        deny("edge", "shop", "targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: edge}]");
    let class = deny(
        "class",
        "istio-system",
        "targetRefs: [{kind: GatewayClass, group: gateway.networking.k8s.io, name: istio-waypoint}]",
    );
    assert_eq!(
        holding(&format!("{web}{edge}"), &Wanted::default()).1,
        [
            "1: : there are policies for workloads and for Gateways, and one proxy is one of them; say which:\n  --labels app=web    \
             for AuthorizationPolicy web\n  --gateway shop/edge    for AuthorizationPolicy edge"
        ]
    );
    let told = holding(&class, &Wanted::default()).1;
    assert!(
        told[0].contains("AuthorizationPolicy class is for Gateways of the class istio-waypoint"),
        "{told:?}"
    );
    let labels = Some([("app".to_owned(), "web".to_owned())].into());
    let wanted = Wanted { labels, ..Wanted::default() };
    assert_eq!(holding(&format!("{web}{edge}{class}"), &wanted), (vec!["web".to_owned()], Vec::new()));
}

#[test]
fn a_gateway_s_pods_may_be_in_another_namespace() {
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: default}\nspec: {selector: \
                   {istio: ingressgateway}, servers: [{port: {number: 80, protocol: HTTP}, hosts: ['*']}]}\n";
    let policy = deny("no", "istio-ingress", "selector: {matchLabels: {istio: ingressgateway}}");
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: NS, labels: {istio: ingressgateway, app: x}}\n";
    let of = |text: &str, namespace: Option<&str>| {
        let gateway = Some(("default".to_owned(), "edge".to_owned()));
        let namespace = namespace.map(str::to_owned);
        holding(text, &Wanted { gateway, namespace, ..Wanted::default() })
    };
    let text = format!("{gateway}{policy}");
    assert_eq!(
        of(&text, None).1,
        [
            "1: : --gateway default/edge: its selector istio=ingressgateway may choose pods of another namespace, as workloads or policies \
             there show: istio-ingress; where its pods are is where the proxy is: say --namespace, istio-ingress or default"
        ]
    );
    assert_eq!(of(&text, Some("istio-ingress")), (vec!["no".to_owned()], Vec::new()));
    assert_eq!(of(&text, Some("default")), (Vec::new(), Vec::new()));
    assert_eq!(of(&format!("{text}{}", pod.replace("NS", "default")), None), (Vec::new(), Vec::new()));
    let all = format!("{gateway}{}", deny("all", "infra", "selector: {}"));
    for text in [all.clone(), format!("{all}{}", pod.replace("NS", "infra"))] {
        let told = of(&text, None).1;
        assert!(told[0].contains("say --namespace, infra or default"), "{told:?}");
    }
    assert_eq!(of(&format!("{all}{}", pod.replace("NS", "default")), None), (Vec::new(), Vec::new()));
    // A Service shows where they are, and whatever may choose them is told.
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: gw, namespace: infra}\nspec: {selector: {app: gw, istio: \
                   ingressgateway}}\n";
    let by_app = deny("app", "infra", "selector: {matchLabels: {app: gw}}");
    for text in [format!("{gateway}{by_app}"), format!("{gateway}{by_app}{service}")] {
        let told = of(&text, None).1;
        assert!(told[0].contains("say --namespace, infra or default"), "{told:?}");
    }
    // The proxy is one of the Gateway's pods, and no other workload.
    let deny_app = deny("app", "default", "selector: {matchLabels: {app: r}}");
    let app = pod
        .replace("NS", "default")
        .replace("istio: ingressgateway, app: x", "app: r")
        .replace("name: p", "name: r");
    let both = format!("{gateway}{deny_app}{app}{}", pod.replace("NS", "default"));
    assert_eq!(of(&both, None), (Vec::new(), Vec::new()));
    let told = of(&format!("{gateway}{deny_app}"), None).1;
    assert!(told[0].contains("these labels do not say whether the workload has that"), "{told:?}");
    let labels = Some([("app".to_owned(), "r".to_owned())].into());
    let edge = Some(("default".to_owned(), "edge".to_owned()));
    let told = holding(&both, &Wanted { gateway: edge, labels, ..Wanted::default() }).1;
    assert!(told[0].contains("no workload with them has what the Gateway is for"), "{told:?}");
    let other = Some([("istio".to_owned(), "egress".to_owned())].into());
    let edge = Some(("default".to_owned(), "edge".to_owned()));
    let told = holding(gateway, &Wanted { gateway: edge, labels: other, ..Wanted::default() }).1;
    assert!(told[0].contains("is for pods with istio=ingressgateway, and the proxy is not one"), "{told:?}");
}

#[test]
fn templates_of_helm_in_quotes_are_told_as_what_they_are() {
    let report =
        imported("kind: VirtualService\nmetadata:\n  name: a\nspec: {hosts: [\"{{ .Values.host }}\"]}\n")
            .report;
    let template = errors(&report).into_iter().find(|told| told.contains("Helm template")).unwrap();
    assert!(
        template.starts_with("4: spec.hosts[0]: this is the text of a Helm template, not YAML yet; import")
    );
    for text in [
        "{{ printf \"%s/sa/web\" .Release.Namespace }}",
        "{{ default \"a\" .Values.x }}",
        "{{\"{{\"}}{{ .Values.sa }}",
    ] {
        let rules = json!([{"from": [{"source": {"principals": [text]}}]}]);
        let policy = json!({"kind": "AuthorizationPolicy", "apiVersion": "security.istio.io/v1", "metadata": {"name": "a"},
                            "spec": {"action": "DENY", "rules": rules}});
        let told = errors(&imported(&policy.to_string()).report);
        assert!(told.iter().any(|told| told.contains("Helm template")), "{text}: {told:?}");
    }
    // Alerts and dashboards have templates of their own.
    let alert = "kind: PrometheusRule\nspec: {summary: \"{{ $labels.pod }} is slow\"}\n";
    let told = errors(&imported(alert).report);
    assert!(told.iter().all(|told| !told.contains("Helm template")), "{told:?}");
}

#[test]
fn a_match_of_a_gateway_s_own_is_told_where_none_is_said() {
    let text = "kind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http:\n  - match: [{gateways: [edge], uri: {exact: /}}]\n    \
                route: [{destination: {host: a}}]\n";
    let found = imported(text);
    assert_eq!(found.policy.value["http"][0]["match"], json!([{"uri": {"exact": "/"}}]));
    let told = warnings(&found.report);
    assert!(
        told[0].starts_with("6: spec.http[0].match[0].gateways: without --gateway this match holds"),
        "{told:?}"
    );
}

#[test]
fn a_pod_says_all_labels_of_what_it_is_made_of() {
    let deployment = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec: {template: {metadata: \
                      {labels: {app: web}}}}\n";
    let pod = |labels: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{}, namespace: shop, labels: {{app: web{labels}}}}}\n",
            labels.len()
        )
    };
    let policy = deny("no", "shop", "selector: {matchLabels: {tier: back}}");
    let of = |more: &str| {
        let labels = Some([("app".to_owned(), "web".to_owned())].into());
        holding(&format!("{policy}{more}"), &Wanted { labels, ..Wanted::default() })
    };
    let made = format!("{deployment}{}", pod(", tier: back, pod-template-hash: x"));
    assert_eq!(of(&made), (vec!["no".to_owned()], Vec::new()));
    // Which of two is meant, nobody says.
    let told = of(&format!("{}{}", pod(""), pod(", tier: back"))).1;
    assert!(
        told[0].contains("of the workloads with these labels some have that and some do not"),
        "{told:?}"
    );
    // By a misspelt selector nothing is for others.
    let misspelt =
        deny("no", "shop", "selector: {matchExpressions: [{key: tier, operator: in, values: [back]}]}");
    let labels = Some([("app".to_owned(), "web".to_owned())].into());
    let told = holding(&format!("{misspelt}{}", pod("")), &Wanted { labels, ..Wanted::default() }).1;
    assert!(told.iter().any(|told| told.contains("matchExpressions")), "{told:?}");
}

#[test]
fn selectors_are_compared_with_all_labels_of_the_workload() {
    let text = "\
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web, tier: front}}
spec: {containers: [{ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: mine, namespace: shop}
spec: {host: db, workloadSelector: {matchLabels: {tier: front}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: theirs, namespace: shop}
spec: {host: db, workloadSelector: {matchLabels: {tier: back}}}
";
    let labels = Some([("app".to_owned(), "web".to_owned())].into());
    let found = imported_for(text, &Wanted { labels, ..Wanted::default() }, Repairs::Told);
    assert_eq!(errors(&found.report), Vec::<String>::new());
    assert_eq!(found.mesh.rules.len(), 1);
    assert_eq!(warnings(&found.report).len(), 1, "{:?}", warnings(&found.report));
    assert!(warnings(&found.report)[0].starts_with("14: spec.workloadSelector: left out"));
}

#[test]
fn a_gateway_does_not_see_what_is_not_exported_to_it() {
    let text = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec: {servers: [{port: {number: 80, protocol: HTTP}, hosts: ['*']}]}
---
kind: VirtualService
metadata: {name: a, namespace: shop}
spec: {exportTo: [.], gateways: [istio-system/edge], hosts: [a.example.com], http: [{route: [{destination: {host: a}}]}]}
";
    let gateway = Some(("istio-system".to_owned(), "edge".to_owned()));
    let found = imported_for(text, &Wanted { gateway, ..Wanted::default() }, Repairs::Told);
    assert_eq!(errors(&found.report), Vec::<String>::new());
    assert_eq!(found.policy.value.get("http"), None);
    assert!(warnings(&found.report).iter().any(|told| told.contains("it is not exported to istio-system")));
}
