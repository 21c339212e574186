//! One model of a mesh, the same for all dialects: where requests go, what there is, who may ask.
//!
//! What the policy document has words for stands here in its words, as values: the document is the same for all dialects,
//! too. What Envoy itself does has types, which become the builder's.

pub mod condition;
pub mod gateways;
pub mod hosts;
pub mod matching;
pub mod services;
pub mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};

pub use services::{Instance, Port, Service, TargetPort};
pub use traffic::{Rule, Subset, TrafficPolicy};

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    /// What holds for all of it.
    pub settings: Settings,
    /// Where requests go, in the order of the input.
    pub entries: Vec<Entry>,
    /// What there is.
    pub services: services::Services,
    /// What is said of traffic to services.
    pub rules: Vec<Rule>,
    /// Where clients come.
    pub servers: Vec<Server>,
    /// Which client certificates are wanted: for a port, or where that is `None` for all others.
    pub peers: BTreeMap<Option<u16>, Peer>,
    /// Whose tokens are believed: rules of the policy's `authentication.jwtRules`.
    pub tokens: Vec<(Value, Origin)>,
    /// Which tokens requests need: `authentication.requirements`. None: `optional`, as in Istio.
    pub requirements: Vec<Value>,
    /// The policy's `authorization`.
    pub authorization: Vec<(Value, Origin)>,
    /// The policy's `rateLimits`.
    pub rate_limits: Vec<(Value, Origin)>,
    /// The policy's `telemetry.tags`.
    pub tags: Vec<(Value, Origin)>,
    /// The policy's `telemetry.metrics`.
    pub metrics: Map<String, Value>,
    /// What of the logs there is.
    pub access_log: AccessLog,
    /// Where spans go.
    pub tracing: Tracing,
    /// Collectors of spans that may be named.
    pub collectors: BTreeMap<String, Collector>,
    /// Certificates and keys, by namespace and name.
    pub secrets: BTreeMap<(String, String), Secret>,
    /// What a dialect has found out once for all of its resources, under a name of its own.
    pub found: BTreeMap<&'static str, Value>,
    /// What routes of the Gateway API hang on.
    pub gateways: gateways::Gateways,
}

/// Where something of the model comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Its number among the resources of the input.
    pub resource: usize,
    /// The way to it in the resource.
    pub path: String,
}

/// What holds for a whole mesh.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Other names of the mesh's own trust domain.
    pub trust_domain_aliases: Vec<String>,
    /// What Envoy has for a connection manager, laid over the rest.
    pub http: Map<String, Value>,
    /// Where the text log goes; `None` is standard output.
    pub access_log_file: Option<String>,
}

/// One entry of the policy's `http`.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name, `VIRTUALSERVICE/name-or-number`.
    pub name: String,
    /// The hosts that it is for: full names, `*.example.com`, `*`.
    pub hosts: Vec<String>,
    /// Those that come first in the order of the policy where hosts are equally specific; equal ones keep the order of the
    /// input.
    pub precedence: Vec<i64>,
    /// The entry in the policy's words, without name and hosts. Destinations come from [`Mesh::destination`].
    pub value: Map<String, Value>,
    /// Where it comes from.
    pub origin: Origin,
}

/// A destination as routes name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// The full name.
    pub host: String,
    /// One of its versions.
    pub subset: Option<String>,
    /// One of its ports.
    pub port: Option<u16>,
}

/// Where clients come: one server of a gateway.
#[derive(Clone, Debug)]
pub struct Server {
    /// Namespace and name of its gateway.
    pub gateway: (String, String),
    /// Its own name, or its place.
    pub name: String,
    /// The port.
    pub port: u16,
    /// The hosts that it takes; `*` is any.
    pub hosts: Vec<String>,
    /// Hosts that only routes of some namespaces may have.
    pub namespaces: BTreeMap<String, BTreeSet<String>>,
    /// TLS; `None` is plain text.
    pub tls: Option<ServerTls>,
    /// Whether plain text is answered with the same address at https.
    pub redirect: bool,
    /// Where it comes from.
    pub origin: Origin,
}

/// The TLS of a server.
#[derive(Clone, Debug, Default)]
pub struct ServerTls {
    /// Whose certificate is shown.
    pub certificates: Vec<Certificate>,
    /// Whose certificates clients show; `None`: nobody is asked.
    pub clients: Option<Authorities>,
    /// Whether clients may come without one where they are asked.
    pub optional: bool,
    /// The oldest and the newest version, as Envoy has them.
    pub versions: (Option<String>, Option<String>),
    /// Ciphers, as Envoy has them.
    pub ciphers: Vec<String>,
    /// The names of which a client's certificate must have one.
    pub client_names: Vec<String>,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// `NAME/tls.crt` and `NAME/tls.key` of `--certificates`, or a secret of the input, by namespace and name.
    Named(String, String),
    /// Files, in PEM.
    Files(String, String),
    /// The proxy's own: `cert-chain.pem` and `key.pem`.
    Own,
}

/// Authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorities {
    /// `NAME/ca.crt` of `--certificates`, or a secret of the input, by namespace and name.
    Named(String, String),
    /// A file, in PEM.
    File(String),
    /// The mesh's: `root-cert.pem`.
    Mesh,
}

/// What is said of clients' certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What says more of the proxy counts: 0 the mesh, 1 its namespace, 2 itself.
    pub rank: u8,
    /// What is said.
    pub mode: PeerMode,
}

/// Whether clients have to show a certificate of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerMode {
    /// They have to.
    Strict,
    /// They may; plain text is taken, too.
    Permissive,
    /// There is no TLS.
    Disable,
}

/// What of the logs there is.
#[derive(Clone, Debug, Default)]
pub struct AccessLog {
    /// `false`: none.
    pub disabled: bool,
    /// Envoy's filter of the logs; `None`: everything.
    pub filter: Option<Value>,
    /// Whether lines are JSON.
    pub json: bool,
}

/// Where spans go, and how many.
#[derive(Clone, Debug, Default)]
pub struct Tracing {
    /// Where the collector is, and how it is spoken to.
    pub collector: Option<Collector>,
    /// Of a hundred requests.
    pub sampling: Option<f64>,
    /// Tags as Envoy has them.
    pub tags: Vec<Value>,
    /// Whether there are none.
    pub disabled: bool,
    /// What else Envoy has for tracing.
    pub fields: Map<String, Value>,
}

/// A collector of spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// The host and the port.
    pub address: (String, u16),
    /// How it is spoken to.
    pub protocol: SpanProtocol,
    /// Where it comes from.
    pub origin: Origin,
}

/// How a collector of spans is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanProtocol {
    /// Zipkin's JSON over HTTP, `/api/v2/spans`.
    Zipkin,
    /// OpenTelemetry over gRPC.
    OpenTelemetry,
    /// OpenTelemetry over HTTP, at this path.
    OpenTelemetryHttp(String),
}

/// A Kubernetes secret, as far as TLS needs it. Its content is in no message.
#[derive(Clone, Default)]
pub struct Secret {
    /// `tls.crt`.
    pub certificate: Option<Vec<u8>>,
    /// `tls.key`.
    pub key: Option<Vec<u8>>,
    /// `ca.crt`.
    pub authorities: Option<Vec<u8>>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// How many requests may be tried again: a cluster's retry budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Of the requests under way, percent.
    pub percent: f64,
    /// So many always may.
    pub least: u32,
}

impl Entry {
    /// Leaves what comes to these ports; `false`: that is nothing.
    pub fn on_ports(&mut self, ports: &BTreeSet<u16>) -> bool {
        let matches = self.value.get("match").and_then(Value::as_array).cloned();
        let mut on = Vec::new();
        for matched in matches.unwrap_or_else(|| vec![json!({})]) {
            let own = matched.get("port").and_then(Value::as_u64);
            for port in ports.iter().filter(|port| own.is_none_or(|own| own == u64::from(**port))) {
                let mut matched = matched.clone();
                put(&mut matched, "port", *port);
                on.push(matched);
            }
        }
        let some = !on.is_empty();
        self.value.insert("match".to_owned(), Value::Array(on));
        some
    }
}

impl Destination {
    /// Whether a user means it by a name: any of its names, with `:PORT` or not, with `|SUBSET` or not; `short`: also by its
    /// name alone.
    pub fn is_called(&self, name: &str, short: bool) -> bool {
        let (host, subset) = match name.split_once('|') {
            Some((host, subset)) => (host, Some(subset)),
            None => (name, None),
        };
        if subset != self.subset.as_deref() {
            return false;
        }
        let (host, port) = match host.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>().ok())) {
            Some((host, Some(port))) => (host, Some(port)),
            _ => (host, None),
        };
        if port.is_some() && port != Some(self.port.unwrap_or(80)) {
            return false;
        }
        hosts::names(&self.host, short).iter().any(|known| known == host)
    }

    /// In the policy's words.
    pub fn value(&self) -> Value {
        let mut value = Map::new();
        value.insert("host".to_owned(), self.host.clone().into());
        if let Some(subset) = &self.subset {
            value.insert("subset".to_owned(), subset.clone().into());
        }
        if let Some(port) = self.port {
            value.insert("port".to_owned(), json!({ "number": port }));
        }
        Value::Object(value)
    }
}

/// Gives an object a member.
pub fn put(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value.into());
    }
}

/// A span as the policy has it.
pub fn span(span: Duration) -> String {
    crate::envoy::cluster::duration(span)
}
