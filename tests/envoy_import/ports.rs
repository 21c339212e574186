//! Ports that policies name, where a proxy listens at another.

use std::net::TcpListener;

use crate::Import;
use crate::support::http::Upstream;
use crate::tls::{Identity, get, issuer, own_folder, plain};
use crate::traffic::tempfile;

const DENIED: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: shop}
spec: {action: DENY, rules: [{to: [{operation: {ports: ['8080'], paths: [/admin*]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: elsewhere, namespace: shop}
spec: {action: DENY, rules: [{when: [{key: destination.port, notValues: ['8080']}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app, namespace: shop}
spec: {hosts: ['*'], gateways: [edge], http: [{match: [{port: 8080}], route: [{destination: {host: app}}]}]}
";

const GATEWAY: &str = "\
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {selector: {istio: edge}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]}
";

pub fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_policy_for_a_port_holds_where_that_port_is() {
    let app = Upstream::echo("app").unwrap();
    let with_gateway = format!("{DENIED}{GATEWAY}");
    for (yaml, gateway) in [(DENIED, None), (&with_gateway, Some(("shop", "edge")))] {
        let mut import = Import::new(yaml).endpoint("app", &[app.address()]);
        import.gateway = gateway;
        import.at = Some((8080, free()));
        let envoy = import.start(&tempfile());
        let address = *envoy.addresses().unwrap().values().next().unwrap();
        let status = |path: &str| plain(address, "app", path, &[]).unwrap().status;
        assert_eq!((status("/"), status("/admin/x")), (200, 403), "{gateway:?}");
    }
}

const STRICT: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: app}
spec: {selector: {matchLabels: {app: app}}, mtls: {mode: DISABLE}, portLevelMtls: {8080: {mode: STRICT}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app}
spec: {hosts: ['*'], http: [{route: [{destination: {host: app}}]}]}
";

#[test]
fn certificates_are_wanted_at_the_port_of_which_that_is_said() {
    let mesh = issuer("mesh");
    let app = Upstream::echo("app").unwrap();
    let own = own_folder(&mesh);
    let client = Identity::account(&mesh, "frontend");
    for (port, strict) in [(8080, true), (9090, false)] {
        let mut import = Import::new(STRICT).endpoint("app", &[app.address()]);
        import.certificates = Some(own.clone());
        import.at = Some((port, free()));
        let envoy = import.start(&tempfile());
        let address = envoy.address().unwrap();
        let said = (
            plain(address, "app", "/", &[]).is_ok_and(|answer| answer.status == 200),
            get(address, "app", &mesh, Some(&client), "/").is_ok_and(|answer| answer.status == 200),
        );
        assert_eq!(said, (!strict, strict), "{port}");
    }
}
