//! What holds where two resources speak of one service, or where one is missing that would close it.

use crate::Import;
use crate::support::http::Upstream;
use crate::tls::plain;
use crate::traffic::tempfile;

const TWICE: &str = "\
kind: VirtualService
metadata: {name: new, namespace: clients, creationTimestamp: '2025-01-01T00:00:00Z'}
spec: {hosts: [reviews], http: [{match: [{uri: {prefix: /new}}], route: [{destination: {host: new}}]}]}
---
kind: VirtualService
metadata: {name: old, namespace: clients, creationTimestamp: '2024-01-01T00:00:00Z'}
spec: {hosts: [reviews], http: [{route: [{destination: {host: old}}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: owner, namespace: shop}
spec:
  parentRefs: [{name: web, kind: Service, group: '', port: 80}]
  rules: [{matches: [{path: {value: /special}}], backendRefs: [{name: old, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: client, namespace: clients}
spec:
  parentRefs: [{name: web, namespace: shop, kind: Service, group: '', port: 80}]
  rules: [{backendRefs: [{name: new, port: 80}]}]
";

#[test]
fn the_oldest_of_the_mesh_and_the_client_s_own_route_hold_alone() {
    let (old, new) = (Upstream::echo("old").unwrap(), Upstream::echo("new").unwrap());
    let mut import = Import::new(TWICE).endpoint("old", &[old.address()]).endpoint("new", &[new.address()]);
    import.namespace = Some("clients");
    let envoy = import.start(&tempfile());
    let address = envoy.address().unwrap();
    for (host, path, expected) in [
        ("reviews", "/", "old"),
        ("reviews", "/new", "old"),
        ("web.shop", "/", "new"),
        ("web.shop", "/special", "new"),
    ] {
        let answer = plain(address, host, path, &[]).unwrap();
        assert_eq!(answer.header("x-upstream").as_deref(), Some(expected), "{host}{path}");
    }
}

const ROUTE: &str = "\
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: get, namespace: shop}
spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: app}], rules: [{matches: [{method: GET}]}]}
";

const ANYBODY: &str = "\
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: anybody, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: get}
  requiredAuthenticationRefs: []
";

#[test]
fn a_server_that_is_missing_leaves_nothing_open() {
    let app = Upstream::echo("app").unwrap();
    for (yaml, expected) in [(ROUTE.to_owned(), 403), (format!("{ROUTE}{ANYBODY}"), 200)] {
        let envoy = Import::new(&yaml).endpoint("default", &[app.address()]).start(&tempfile());
        assert_eq!(plain(envoy.address().unwrap(), "app", "/", &[]).unwrap().status, expected, "{yaml}");
    }
}

#[test]
fn rules_of_a_client_and_of_the_service_hold_and_nobody_else_s() {
    let owners = ["evil", "shop", "clients"];
    let upstreams = owners.map(|name| Upstream::echo(name).unwrap());
    let mut yaml = "\
apiVersion: v1
kind: Namespace
metadata: {name: elsewhere}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
kind: VirtualService
metadata: {name: web, namespace: shop}
spec: {hosts: [web], http: [{route: [{destination: {host: web, subset: v}}]}]}
"
    .to_owned();
    // Each has its own version of the service, and says that it is the one; the oldest is a stranger's.
    for (age, (owner, upstream)) in owners.iter().zip(&upstreams).enumerate() {
        let port = upstream.address().port();
        yaml.push_str(&format!(
            "\
---
apiVersion: v1
kind: Pod
metadata: {{name: web-{owner}, namespace: shop, labels: {{app: web, version: {owner}}}}}
spec: {{containers: [{{name: web, ports: [{{name: http, containerPort: {port}}}]}}]}}
status: {{podIP: 127.0.0.1}}
---
kind: DestinationRule
metadata: {{name: web, namespace: {owner}, creationTimestamp: '202{age}-01-01T00:00:00Z'}}
spec: {{host: web.shop.svc.cluster.local, subsets: [{{name: v, labels: {{version: {owner}}}}}]}}
"
        ));
    }
    for namespace in ["clients", "shop", "elsewhere"] {
        let mut import = Import::new(&yaml);
        import.namespace = Some(namespace);
        let envoy = import.start(&tempfile());
        let answer = plain(envoy.address().unwrap(), "web.shop", "/", &[]).unwrap();
        let expected = if namespace == "clients" { "clients" } else { "shop" };
        assert_eq!(answer.header("x-upstream").as_deref(), Some(expected), "{namespace}");
    }
}
