//! RequestAuthentication with `jwksUri`: keys come over TLS, from a server whose certificate is checked.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::Import;
use crate::support::http::Upstream;
use crate::support::token::{TokenSpec, jwks};
use crate::tls::{Identity, issuer, plain};
use crate::traffic::tempfile;

const TOKENS: &str = "\
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens}
spec:
  jwtRules: [{issuer: 'https://a.example', jwksUri: 'https://keys.example/keys'}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers}
spec: {rules: [{from: [{source: {requestPrincipals: ['https://a.example/reader']}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app}
spec: {hosts: ['*'], http: [{route: [{destination: {host: app}}]}]}
";

#[test]
fn keys_come_over_tls_from_a_server_that_is_known() {
    // Another Envoy, imported, too, ends the TLS before the keys.
    let (authority, stranger) = (issuer("public"), issuer("stranger"));
    let own = Identity::new(&authority, &["keys.example"]);
    let server = format!(
        "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec: {{servers: [{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [keys.example], tls: {{mode: SIMPLE, credentialName: keys}}}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: keys}}
spec: {{hosts: [keys.example], gateways: [edge], http: [{{route: [{{destination: {{host: keys}}}}]}}]}}
{}",
        own.secret("keys", "default", None)
    );
    let keys = Upstream::start("keys", |_| (Vec::new(), jwks().to_string().into_bytes())).unwrap();
    let folder = tempfile();
    let mut import = Import::new(&server).endpoint("keys", &[keys.address()]);
    import.gateway = Some(("default", "edge"));
    import.ports = vec![443];
    let server = import.start(&folder);
    let server = server.addresses().map(|addresses| (addresses["http-443"], server)).unwrap();

    let app = Upstream::echo("app").unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let token = |subject: &str| {
        let spec = serde_json::json!({"claims": {"iss": "https://a.example", "sub": subject, "exp": "+1h"}});
        format!("Bearer {}", serde_json::from_value::<TokenSpec>(spec).unwrap().make(now).unwrap())
    };
    let (reader, guest) = (token("reader"), token("guest"));
    for (trusted, expected) in [(&authority, [200, 403, 403]), (&stranger, [503, 503, 403])] {
        let folder = tempfile();
        std::fs::write(folder.join("upstream-ca.pem"), trusted.pem()).unwrap();
        let mut import =
            Import::new(TOKENS).endpoint("app", &[app.address()]).endpoint("keys.example", &[server.0]);
        import.certificates = Some(folder.clone());
        let envoy = import.start(&folder);
        let address = envoy.address().unwrap();
        let status = |headers: &[(&str, &str)]| plain(address, "app", "/", headers).unwrap().status;
        let found =
            [status(&[("authorization", &reader)]), status(&[("authorization", &guest)]), status(&[])];
        assert_eq!(found, expected);
    }
    assert!(keys.seen().iter().all(|seen| seen.path == b"/keys"));
}
