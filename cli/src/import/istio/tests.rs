use serde_json::json;

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
    assert_eq!(told.len(), 2);
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
