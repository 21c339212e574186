//! Who the client's certificate says it is, end to end: certificates, TLS, Envoy, the filter.

mod support;

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use meshfilter_cli::envoy::listener::{Clients, ListenerTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Map;
use support::case::yaml;
use support::envoy::{Bootstrap, Configuration, Envoy, Upstreams, native, wait_until};
use support::http::{Client, Response, request_bytes};

const POLICY: &str = "
namespace: default
trustDomainAliases: [old.example]
authorization:
- name: webapp-authz
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/frontend]}}]
    to:   [{operation: {methods: [GET, POST], paths: ['/api/*']}}]
    when: [{key: 'request.headers[user-role]', values: [admin, user]}]
- {name: namespaces, rules: [{from: [{source: {namespaces: [default, team-*]}}], to: [{operation: {paths: [/namespace]}}]}]}
- {name: accounts, rules: [{from: [{source: {serviceAccounts: [frontend, other/cart]}}], to: [{operation: {paths: [/account]}}]}]}
- {name: domains, rules: [{from: [{source: {trustDomains: [partner.example]}}], to: [{operation: {paths: [/domain]}}]}]}
- {name: anyone-known, rules: [{from: [{source: {principals: ['*']}}], to: [{operation: {paths: [/known]}}]}]}
- name: banned
  action: DENY
  rules: [{from: [{source: {principals: ['*/sa/banned']}}]}]
telemetry: {metrics: {istio: true}}
";

/// The statuses of some paths.
type Answers = &'static [(&'static str, u16)];

type Issuer = CertifiedIssuer<'static, KeyPair>;

#[test]
fn the_certificate_decides() {
    let mesh = Mesh::start();
    let frontend = mesh.client(&["spiffe://cluster.local/ns/default/sa/frontend"]);
    let backend = mesh.client(&["spiffe://cluster.local/ns/default/sa/backend"]);
    let cart = mesh.client(&["spiffe://cluster.local/ns/other/sa/cart"]);
    let team = mesh.client(&["spiffe://cluster.local/ns/team-a/sa/frontend"]);
    let alias = mesh.client(&["spiffe://old.example/ns/default/sa/frontend"]);
    let partner = mesh.client(&["spiffe://partner.example/ns/default/sa/frontend"]);
    let banned = mesh.client(&["spiffe://cluster.local/ns/default/sa/banned"]);
    let nameless = mesh.client(&[]);
    let second = mesh.client(&[
        "spiffe://cluster.local/ns/default/sa/backend",
        "spiffe://cluster.local/ns/default/sa/frontend",
    ]);
    let expected: &[(&str, &Identity, Answers)] = &[
        (
            "frontend",
            &frontend,
            &[
                ("/api/x", 200),
                ("/namespace", 200),
                ("/account", 200),
                ("/domain", 403),
                ("/known", 200),
                ("/", 403),
            ],
        ),
        ("backend", &backend, &[("/api/x", 403), ("/namespace", 200), ("/account", 403), ("/known", 200)]),
        ("cart", &cart, &[("/api/x", 403), ("/namespace", 403), ("/account", 200)]),
        ("team", &team, &[("/api/x", 403), ("/namespace", 200), ("/account", 403)]),
        ("alias", &alias, &[("/api/x", 200), ("/namespace", 200), ("/account", 200)]),
        ("partner", &partner, &[("/api/x", 403), ("/domain", 200)]),
        ("banned", &banned, &[("/namespace", 403), ("/known", 403)]),
        ("nameless", &nameless, &[("/api/x", 403), ("/namespace", 403), ("/account", 403), ("/known", 403)]),
        ("second", &second, &[("/api/x", 403)]),
    ];
    for (who, identity, requests) in expected {
        let mut client = mesh.connect(Some(identity)).unwrap();
        for (path, status) in *requests {
            let answer = client.request("GET", path, &[("user-role", "admin")]).unwrap();
            assert_eq!(answer.status, *status, "{who} {path}");
            if *status == 403 {
                assert_eq!(answer.text(), "RBAC: access denied", "{who} {path}");
            }
        }
    }
    let mut client = mesh.connect(Some(&frontend)).unwrap();
    assert_eq!(client.request("DELETE", "/api/x", &[("user-role", "admin")]).unwrap().status, 403);
    assert_eq!(client.request("GET", "/api/x", &[("user-role", "guest")]).unwrap().status, 403);
    assert_eq!(client.request("GET", "/api/x", &[]).unwrap().status, 403);
}

#[test]
fn whoever_has_no_good_certificate_gets_no_answer() {
    let mesh = Mesh::start();
    let name = "spiffe://cluster.local/ns/default/sa/frontend";
    let forged = Identity::new(&issuer("another"), &[name]);
    for (what, identity) in [("none", None), ("of another issuer", Some(&forged))] {
        let answer = mesh.get(identity);
        assert!(answer.is_err(), "{what}: {answer:?}");
    }
    assert_eq!(mesh.get(Some(&mesh.client(&[name]))).unwrap().status, 200);
    // The listener says nothing of its direction, as a gateway's.
    let counted = || {
        let text = mesh.envoy.admin("/stats").ok()?.text();
        let of_requests = |line: &&str| line.starts_with("wasmcustom.istio_requests_total");
        let line = text.lines().find(of_requests)?.to_owned();
        line.contains(&label("source_principal", name)).then_some(line)
    };
    let line = wait_until("the counter", counted).unwrap();
    for (name, value) in
        [("reporter", "source"), ("source_workload_namespace", "default"), ("response_code", "200")]
    {
        assert!(line.contains(&label(name, value)), "{line}");
    }
}

/// How a label stands in a counter's name: as the module writes it, or as Envoy does that was told of labels.
fn label(name: &str, value: &str) -> String {
    if native::is_native() { format!(".{name}.{value}") } else { format!("<{name}={value}>") }
}

/// An Envoy that asks for certificates.
struct Mesh {
    issuer: Issuer,
    address: SocketAddr,
    envoy: Envoy,
    _upstreams: Upstreams,
}

impl Mesh {
    fn start() -> Self {
        let issuer = issuer("mesh");
        let key = KeyPair::generate().unwrap();
        let server =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let upstreams = Upstreams::start().unwrap();
        let mut bootstrap = Bootstrap::new(Configuration::Struct(yaml(POLICY).unwrap()), &upstreams);
        bootstrap.tls = Some(mutual_tls(&server.pem(), &key.serialize_pem(), &issuer.pem()));
        let envoy = Envoy::start(&bootstrap).unwrap();
        let address = envoy.address().unwrap();
        Mesh { issuer, address, envoy, _upstreams: upstreams }
    }

    fn client(&self, names: &[&str]) -> Identity {
        Identity::new(&self.issuer, names)
    }

    fn connect(
        &self,
        identity: Option<&Identity>,
    ) -> std::io::Result<Client<StreamOwned<ClientConnection, TcpStream>>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match identity {
            Some(Identity { certificate, key }) => {
                builder.with_client_auth_cert(vec![certificate.clone()], key.clone_key()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        Ok(Client::over(StreamOwned::new(connection, TcpStream::connect(self.address)?)))
    }

    fn get(&self, identity: Option<&Identity>) -> std::io::Result<Response> {
        let mut client = self.connect(identity)?;
        client.send(&request_bytes("GET", b"/known", "localhost", &[("x-any", "1")]))?;
        client.receive("GET")
    }
}

/// A certificate with its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// `names` are URIs.
    fn new(issuer: &Issuer, names: &[&str]) -> Self {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect();
        if names.is_empty() {
            // Neither of these is an identity.
            let name = "cluster.local/ns/default/sa/frontend";
            params.subject_alt_names = vec![SanType::DnsName("frontend.default".try_into().unwrap())];
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap().der().clone();
        Identity { certificate, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }
}

fn issuer(name: &str) -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn mutual_tls(certificate: &str, key: &str, authority: &str) -> ListenerTls {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("mtls-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    ListenerTls {
        chain: file("cert-chain.pem", certificate),
        key: file("key.pem", key),
        clients: Clients::Known(file("root-cert.pem", authority)),
        fields: Map::new(),
    }
}
