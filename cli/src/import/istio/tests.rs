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
