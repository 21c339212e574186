//! Listeners of the Gateway API, in one Envoy: TLS by a Secret, routes that are on one of them alone, copies of a share.

use crate::Import;
use crate::support::envoy::wait_until;
use crate::support::http::Upstream;
use crate::tls::{Identity, get, issuer, plain};
use crate::traffic::tempfile;

const MESH: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: any
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - name: https
    port: 443
    protocol: HTTPS
    hostname: secure.example
    tls: {mode: Terminate, certificateRefs: [{name: secure}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: plain}
spec:
  parentRefs: [{name: edge, sectionName: http}]
  rules:
  - {matches: [{path: {value: /plain}}], backendRefs: [{name: app, port: 80}]}
  - matches: [{path: {value: /half}}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}, fraction: {numerator: 1, denominator: 2}}}]
    backendRefs: [{name: app, port: 80}]
  - matches: [{path: {value: /none}}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}, percent: 0}}]
    backendRefs: [{name: app, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: secure}
spec:
  parentRefs: [{name: edge, sectionName: https}]
  rules: [{matches: [{path: {value: /secure}}], backendRefs: [{name: app, port: 80}]}]
";

#[test]
fn listeners_have_their_tls_their_routes_and_their_copies() {
    let authority = issuer("public");
    let own = Identity::new(&authority, &["secure.example"]);
    let yaml = format!("{MESH}{}", own.secret("secure", "default", None));
    let (app, copy) = (Upstream::echo("app").unwrap(), Upstream::echo("copy").unwrap());
    let folder = tempfile();
    let mut import = Import::new(&yaml).endpoint("app", &[app.address()]).endpoint("copy", &[copy.address()]);
    import.gateway = Some(("default", "edge"));
    import.ports = vec![80, 443];
    let envoy = import.start(&folder);
    let addresses = envoy.addresses().unwrap();
    let [http, https] = ["http-80", "http-443"].map(|name| addresses[name]);
    let over = |path: &str| get(https, "secure.example", &authority, None, path).unwrap().status;
    let in_plain = |path: &str| plain(http, "secure.example", path, &[]).unwrap().status;
    assert_eq!((over("/secure"), in_plain("/plain")), (200, 200));
    assert_eq!((over("/plain"), in_plain("/secure")), (404, 404), "a route is on its listener alone");
    assert!(get(https, "other.example", &authority, None, "/secure").is_err());

    for _ in 0..200 {
        assert_eq!((in_plain("/half"), in_plain("/none")), (200, 200));
    }
    // The last copies may be on their way.
    let copies = || copy.seen().iter().filter(|seen| seen.path == b"/half").count();
    wait_until("half of them", || (50..150).contains(&copies()).then_some(())).unwrap();
    assert!(copy.seen().iter().all(|seen| seen.path == b"/half"));
}
