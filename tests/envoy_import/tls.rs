//! Certificates, and clients that show them.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::http::{Client, Response, request_bytes};
use crate::traffic::tempfile;

/// Whoever signs.
pub type Issuer = CertifiedIssuer<'static, KeyPair>;

pub fn issuer(name: &str) -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate with its key, in PEM, and what clients need of it.
pub struct Identity {
    pub chain: String,
    pub key: String,
    certificate: CertificateDer<'static>,
    der: PrivateKeyDer<'static>,
}

impl Identity {
    /// Names are DNS names, or URIs where they have `://`.
    pub fn new(issuer: &Issuer, names: &[&str]) -> Self {
        let mut params = CertificateParams::default();
        let name = |name: &&str| match name.contains("://") {
            true => SanType::URI((*name).try_into().unwrap()),
            false => SanType::DnsName((*name).try_into().unwrap()),
        };
        params.subject_alt_names = names.iter().map(name).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        Identity {
            chain: certificate.pem(),
            key: key.serialize_pem(),
            certificate: certificate.der().clone(),
            der: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    /// That of a service account of the mesh.
    pub fn account(issuer: &Issuer, name: &str) -> Self {
        Self::new(issuer, &[&format!("spiffe://cluster.local/ns/default/sa/{name}")])
    }

    /// A Secret with it, and with whoever signs clients' certificates.
    pub fn secret(&self, name: &str, namespace: &str, clients: Option<&Issuer>) -> String {
        let encoded = |text: &str| STANDARD.encode(text);
        let clients = clients.map(|issuer| format!(", ca.crt: {}", encoded(&issuer.pem())));
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata: {{tls.crt: {}, tls.key: \
             {}{}}}\n",
            encoded(&self.chain),
            encoded(&self.key),
            clients.unwrap_or_default()
        )
    }

    /// The files that `--certificates` has of a proxy.
    pub fn write(&self, issuer: &Issuer, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        for (name, content) in
            [("cert-chain.pem", &self.chain), ("key.pem", &self.key), ("root-cert.pem", &issuer.pem())]
        {
            std::fs::write(folder.join(name), content).unwrap();
        }
    }
}

/// A folder for `--certificates` of the proxy before `app`.
pub fn own_folder(mesh: &Issuer) -> PathBuf {
    let folder = tempfile();
    Identity::new(mesh, &["spiffe://cluster.local/ns/default/sa/app", "app"]).write(mesh, &folder);
    folder
}

/// One request over TLS, to a host by its name; whom it trusts, and what it shows.
pub fn get(
    address: SocketAddr,
    host: &str,
    trusted: &Issuer,
    identity: Option<&Identity>,
    path: &str,
) -> std::io::Result<Response> {
    get_by(address, host, host, trusted, identity, path)
}

/// The same where another name is asked for by TLS.
pub fn get_by(
    address: SocketAddr,
    name: &str,
    host: &str,
    trusted: &Issuer,
    identity: Option<&Identity>,
    path: &str,
) -> std::io::Result<Response> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(vec![identity.certificate.clone()], identity.der.clone_key())
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut client = Client::over(StreamOwned::new(connection, TcpStream::connect(address)?));
    client.send(&request_bytes("GET", path.as_bytes(), host, &[("x-any", "1")]))?;
    client.receive("GET")
}

/// One request in plain text, to a host by its name.
pub fn plain(
    address: SocketAddr,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> std::io::Result<Response> {
    let mut client = Client::connect(address)?;
    client.send(&request_bytes("GET", path.as_bytes(), host, headers))?;
    client.receive("GET")
}
