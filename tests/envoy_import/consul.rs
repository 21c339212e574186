//! Consul: a router's way through splitter and resolver, and intentions that let services in.

use crate::Import;
use crate::support::http::Upstream;
use crate::tls::{Identity, get, issuer};
use crate::traffic::tempfile;

const MESH: &str = "\
apiVersion: consul.hashicorp.com/v1alpha1
kind: ServiceRouter
metadata: {name: app}
spec:
  routes:
  - match: {http: {pathPrefix: /admin/}}
    destination: {service: admin, prefixRewrite: /}
---
apiVersion: consul.hashicorp.com/v1alpha1
kind: ServiceSplitter
metadata: {name: app}
spec: {splits: [{weight: 0, serviceSubset: v1}, {weight: 100, serviceSubset: v2}]}
---
apiVersion: consul.hashicorp.com/v1alpha1
kind: ServiceIntentions
metadata: {name: app}
spec:
  destination: {name: app}
  sources:
  - name: web
    permissions:
    - {action: deny, http: {pathPrefix: /admin/, methods: [POST]}}
    - {action: deny, http: {pathExact: /private}}
    - {action: allow, http: {pathPrefix: /}}
  - {name: bad, action: deny}
  - {name: '*', namespace: ops, action: allow}
  - {name: evil, namespace: ops, action: deny}
";

#[test]
fn intentions_let_in_and_routers_lead_on() {
    let mesh = issuer("mesh");
    let own = tempfile();
    Identity::new(&mesh, &["spiffe://11.consul/ns/default/dc/dc1/svc/app", "app"]).write(&mesh, &own);
    let [admin, first, second] = ["admin", "v1", "v2"].map(|name| Upstream::echo(name).unwrap());
    let mut import = Import::new(MESH)
        .endpoint("admin", &[admin.address()])
        .endpoint("app|v1", &[first.address()])
        .endpoint("app|v2", &[second.address()]);
    import.certificates = Some(own);
    let envoy = import.start(&tempfile());
    let address = envoy.address().unwrap();
    let client = |namespace: &str, name: &str| {
        Identity::new(&mesh, &[&format!("spiffe://11.consul/ns/{namespace}/dc/dc1/svc/{name}")])
    };
    let [web, bad, other] = ["web", "bad", "other"].map(|name| client("default", name));
    let [tool, evil] = ["tool", "evil"].map(|name| client("ops", name));
    for (identity, path, expected, upstream) in [
        (&web, "/", 200, Some("v2")),
        (&web, "/admin/x", 200, Some("admin")),
        (&web, "/private", 403, None),
        (&bad, "/", 403, None),
        (&other, "/", 403, None),
        (&tool, "/", 200, Some("v2")),
        (&evil, "/", 403, None),
    ] {
        let answer = get(address, "app", &mesh, Some(identity), path).unwrap();
        assert_eq!((answer.status, answer.header("x-upstream").as_deref()), (expected, upstream), "{path}");
    }
    assert!(admin.seen().iter().any(|seen| seen.path == b"/x"), "the prefix was rewritten");
}
