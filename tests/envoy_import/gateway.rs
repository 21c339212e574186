//! Gateway: TLS by a Secret of the input, names by SNI, a redirect, client certificates; and TLS to servers.

use crate::Import;
use crate::support::http::Upstream;
use crate::tls::{Identity, get, get_by, issuer, plain};
use crate::traffic::tempfile;

const GATEWAY: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example.com], tls: {httpsRedirect: true}}
  - port: {number: 443, name: https-a, protocol: HTTPS}
    hosts: [a.example.com]
    tls: {mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_3}
  - port: {number: 443, name: https-b, protocol: HTTPS}
    hosts: ['*.b.example.com']
    tls: {mode: SIMPLE, credentialName: b}
  - port: {number: 443, name: https-closed, protocol: HTTPS}
    hosts: [closed.b.example.com]
    tls: {mode: MUTUAL, credentialName: b}
  - port: {number: 8443, name: mutual, protocol: HTTPS}
    hosts: [a.example.com]
    tls: {mode: MUTUAL, credentialName: a}
  - port: {number: 9443, name: optional, protocol: HTTPS}
    hosts: [a.example.com]
    tls: {mode: OPTIONAL_MUTUAL, credentialName: a}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: shop}
spec:
  hosts: [a.example.com, x.b.example.com, closed.b.example.com, c.example.com]
  gateways: [edge]
  http: [{route: [{destination: {host: app}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: inner, namespace: shop}
spec: {hosts: [a.example.com], http: [{directResponse: {status: 418}}]}
";

#[test]
fn a_gateway_s_servers_are_opened_and_servers_are_checked() {
    let authority = issuer("public");
    let clients = issuer("clients");
    let (a, b) =
        (Identity::new(&authority, &["a.example.com"]), Identity::new(&authority, &["*.b.example.com"]));
    let yaml = format!(
        "{GATEWAY}{}{}",
        a.secret("a", "shop", Some(&clients)),
        b.secret("b", "shop", Some(&clients))
    );
    let app = Upstream::echo("app").unwrap();
    let folder = tempfile();
    let mut import = Import::new(&yaml).endpoint("app", &[app.address()]);
    import.gateway = Some(("shop", "edge"));
    import.ports = vec![80, 443, 8443, 9443];
    let envoy = import.start(&folder);
    let addresses = envoy.addresses().unwrap();
    let [http, https, mutual, optional] =
        ["http-80", "http-443", "http-8443", "http-9443"].map(|name| addresses[name]);

    let redirect = plain(http, "a.example.com", "/x?y=1", &[]).unwrap();
    assert_eq!(
        (redirect.status, redirect.header("location").as_deref()),
        (301, Some("https://a.example.com/x?y=1"))
    );
    let with_port = plain(http, "a.example.com:80", "/", &[]).unwrap();
    assert_eq!(
        (with_port.status, with_port.header("location").as_deref()),
        (301, Some("https://a.example.com/"))
    );
    let answer = get(https, "a.example.com", &authority, None, "/").unwrap();
    assert_eq!((answer.status, answer.header("x-upstream").as_deref()), (200, Some("app")));
    assert_eq!(get(https, "x.b.example.com", &authority, None, "/").unwrap().status, 200);
    assert!(get(https, "c.example.com", &authority, None, "/").is_err(), "nobody has that name");
    assert!(get(mutual, "a.example.com", &authority, None, "/").is_err(), "a certificate is wanted");
    let stranger = Identity::new(&authority, &["client"]);
    assert!(get(mutual, "a.example.com", &authority, Some(&stranger), "/").is_err());
    let client = Identity::new(&clients, &["client"]);
    assert_eq!(get(mutual, "a.example.com", &authority, Some(&client), "/").unwrap().status, 200);

    // Nobody comes to a host that wants certificates by the name of one that wants none.
    let by = |name: &str, identity| get_by(https, name, "closed.b.example.com", &authority, identity, "/");
    assert!(by("closed.b.example.com", None).is_err());
    assert_eq!(by("closed.b.example.com", Some(&client)).unwrap().status, 200);
    assert_eq!(by("x.b.example.com", None).unwrap().status, 421);
    assert_eq!(by("a.example.com", None).unwrap().status, 404);

    // Whoever shows none comes in, but nobody with a stranger's.
    assert_eq!(get(optional, "a.example.com", &authority, None, "/").unwrap().status, 200);
    assert_eq!(get(optional, "a.example.com", &authority, Some(&client), "/").unwrap().status, 200);
    assert!(get(optional, "a.example.com", &authority, Some(&stranger), "/").is_err());

    // The other side: names of servers are checked.
    let root = folder.join("root.pem");
    std::fs::write(&root, authority.pem()).unwrap();
    let rule = |host: &str, more: &str| {
        format!(
            "---\nkind: DestinationRule\napiVersion: networking.istio.io/v1\nmetadata: {{name: {host}}}\nspec: {{host: {host}, \
             trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: {}, {more}}}}}}}\n",
            root.display()
        )
    };
    let route = |host: &str| {
        format!(
            "---\nkind: VirtualService\nmetadata: {{name: {host}}}\nspec: {{hosts: [{host}], http: [{{rewrite: {{authority: \
             a.example.com}}, route: [{{destination: {{host: {host}}}}}]}}]}}\n"
        )
    };
    let yaml = [
        route("right"),
        rule("right", "sni: a.example.com"),
        route("wrong"),
        rule("wrong", "sni: a.example.com, subjectAltNames: [c.example.com]"),
    ]
    .concat();
    let outer = Import::new(&yaml).endpoint("right", &[https]).endpoint("wrong", &[https]).start(&tempfile());
    let address = outer.address().unwrap();
    assert_eq!(plain(address, "right", "/", &[]).unwrap().status, 200);
    assert_eq!(plain(address, "wrong", "/", &[]).unwrap().status, 503);
}

#[test]
fn a_route_is_at_the_ports_of_the_servers_that_take_its_namespace() {
    let text = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: infra}
spec:
  servers:
  - {port: {number: 80, protocol: HTTP}, hosts: ['public/*.example.com']}
  - {port: {number: 8080, protocol: HTTP}, hosts: ['internal/*.example.com']}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: admin, namespace: internal}
spec:
  hosts: [admin.example.com]
  gateways: [infra/edge]
  http: [{route: [{destination: {host: app}}]}]
";
    let app = Upstream::echo("app").unwrap();
    let folder = tempfile();
    let mut import = Import::new(text).endpoint("app.internal", &[app.address()]);
    import.gateway = Some(("infra", "edge"));
    import.ports = vec![80, 8080];
    let envoy = import.start(&folder);
    let addresses = envoy.addresses().unwrap();
    let status = |listener: &str| plain(addresses[listener], "admin.example.com", "/", &[]).unwrap().status;
    assert_eq!((status("http-8080"), status("http-80")), (200, 404));
}
