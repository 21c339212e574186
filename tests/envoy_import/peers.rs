//! PeerAuthentication and ISTIO_MUTUAL: two proxies that know each other, and one that takes plain text, too.

use crate::Import;
use crate::support::http::Upstream;
use crate::tls::{Identity, get, issuer, own_folder, plain};
use crate::traffic::tempfile;

const SERVER: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: frontend-only, namespace: default}
spec:
  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/frontend]}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app}
spec: {hosts: ['*'], http: [{route: [{destination: {host: app}}]}]}
";

const CLIENT: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app}
spec: {hosts: [app], http: [{route: [{destination: {host: app}}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: app}
spec: {host: app, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: DISABLE}}
";

#[test]
fn two_proxies_know_each_other_and_strangers_get_nothing() {
    let mesh = issuer("mesh");
    let app = Upstream::echo("app").unwrap();
    let (server, frontend) = (own_folder(&mesh), tempfile());
    Identity::account(&mesh, "frontend").write(&mesh, &frontend);
    let mut import = Import::new(SERVER).endpoint("app", &[app.address()]);
    import.certificates = Some(server.clone());
    let inner = import.start(&tempfile());
    let inner_at = inner.address().unwrap();
    let mut import = Import::new(CLIENT).endpoint("app", &[inner_at]);
    import.certificates = Some(frontend);
    let outer = import.start(&tempfile());

    let answer = plain(outer.address().unwrap(), "app", "/", &[]).unwrap();
    assert_eq!(
        (answer.status, answer.header("x-upstream").as_deref()),
        (200, Some("app")),
        "{}",
        answer.text()
    );
    let other = Identity::account(&mesh, "other");
    assert_eq!(get(inner_at, "app", &mesh, Some(&other), "/").unwrap().status, 403);
    assert!(get(inner_at, "app", &mesh, None, "/").is_err(), "a certificate is wanted");
    assert!(plain(inner_at, "app", "/", &[]).is_err(), "plain text is not taken");
    let forged = Identity::account(&issuer("another"), "frontend");
    assert!(get(inner_at, "app", &mesh, Some(&forged), "/").is_err());
}

const LIMITED: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: PERMISSIVE}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app}
spec: {hosts: ['*'], http: [{route: [{destination: {host: app}}]}]}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: limit}
spec:
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.local_ratelimit
        typed_config:
          '@type': type.googleapis.com/udpa.type.v1.TypedStruct
          type_url: type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          value:
            stat_prefix: limiter
            token_bucket: {max_tokens: 12, tokens_per_fill: 12, fill_interval: 3600s}
            filter_enabled: {default_value: {numerator: 100, denominator: HUNDRED}}
            filter_enforced: {default_value: {numerator: 100, denominator: HUNDRED}}
";

#[test]
fn a_permissive_proxy_takes_both_on_one_port_and_its_bucket_is_exact() {
    let mesh = issuer("mesh");
    let app = Upstream::echo("app").unwrap();
    let own = own_folder(&mesh);
    let mut import = Import::new(LIMITED).endpoint("app", &[app.address()]);
    import.certificates = Some(own);
    let envoy = import.start(&tempfile());
    let address = envoy.address().unwrap();
    let client = Identity::account(&mesh, "frontend");
    let mut statuses = vec![
        plain(address, "app", "/", &[]).unwrap().status,
        get(address, "app", &mesh, Some(&client), "/").unwrap().status,
    ];
    assert_eq!(statuses, [200, 200]);
    statuses.extend((0..20).map(|_| plain(address, "app", "/", &[]).unwrap().status));
    let passed = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert_eq!((passed, refused), (12, 10));
}
