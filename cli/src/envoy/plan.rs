//! From a policy to a whole Envoy: what the policy names, and where that is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::cluster::{Endpoint, Protocol, UpstreamTls};
use super::listener::{Action, Chain, Clients, Http, IDLE, ListenerTls, Route, VirtualHost};
use super::plugin::{Configuration, Module};
use super::policy::{Destination, KeyServer, Names};
use super::{Address, Bootstrap, Cluster, Listener, Plugin};

pub use crate::proxy::DEFAULT;

/// How the names of clusters begin to which spans go.
pub const TRACING: &str = "tracing|";

/// The listener that answers in the place of upstreams.
const ECHO: &str = "echo";

/// The port of a rate limit service of which only the name is known: that of Envoy's reference implementation.
const RATE_LIMIT_PORT: u16 = 8081;

/// What a policy does not say.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where clients come.
    pub listen: Address,
    /// Where the admin interface is.
    pub admin: Address,
    /// What is loaded.
    pub module: Module,
    /// Where destinations are, by one of [`Destination::names`], and [`DEFAULT`].
    pub endpoints: Vec<(String, Vec<Address>)>,
    /// Whether Envoy answers in the place of destinations that have no endpoint.
    pub echo: bool,
    /// How many proxies before this one are trusted.
    pub xff_hops: u32,
    /// The folder with `cert-chain.pem` and `key.pem` of this proxy, perhaps `root-cert.pem` of its clients and
    /// `upstream-ca.pem` of the servers of key sets, or [`AUTHORITIES_FILE`]. With it the listener takes TLS and plain text,
    /// as Istio's PERMISSIVE.
    pub certificates: Option<PathBuf>,
}

/// A whole Envoy, and what its user should know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What Envoy is started with.
    pub bootstrap: Bootstrap,
    /// What is not as it might have been meant.
    pub warnings: Vec<String>,
}

/// The authorities of servers that the system's do not know.
const OWN_AUTHORITIES: &str = "upstream-ca.pem";

/// Those of `upstream-ca.pem`, and beside them the system's: Envoy takes one file.
pub const AUTHORITIES_FILE: &str = "upstream-authorities.pem";

/// Where the authorities are that a system trusts.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where clients come where nobody says it.
pub fn default_listen() -> Address {
    Address::new("127.0.0.1", 10_000)
}

impl Options {
    /// What is usual, with this module.
    pub fn new(module: Module) -> Self {
        Options {
            listen: default_listen(),
            admin: Address::new("127.0.0.1", 9_901),
            module,
            endpoints: Vec::new(),
            echo: false,
            xff_hops: 0,
            certificates: None,
        }
    }

    /// A whole Envoy for a policy without an error.
    ///
    /// # Errors
    /// Everything that is missing or names nothing.
    pub fn plan(&self, policy: &Value) -> Result<Plan, Vec<String>> {
        let names = Names::of(policy);
        let mut planner = Planner::new(self);
        let default = planner.clusters(&names);
        let tls = planner.tls();
        if !planner.errors.is_empty() {
            return Err(planner.errors);
        }
        let mut plugin = Plugin::new(self.module.clone(), Configuration::Struct(policy.clone()));
        plugin.host_variables = names.variables.clone();
        let mut http = Http::new(plugin, vec![VirtualHost::any(default)]);
        http.xff_hops = self.xff_hops;
        http.tags = names.logged.clone();
        if names.longest_delay >= IDLE {
            http.idle = names.longest_delay.saturating_add(IDLE);
        }
        let mut listeners = vec![Listener {
            name: "http".to_owned(),
            address: Some(self.listen.clone()),
            chains: match tls {
                Some(tls) => Chain::permissive(tls, http),
                None => vec![Chain::new(None, http)],
            },
        }];
        if self.echo {
            listeners.push(echo());
        }
        let bootstrap = Bootstrap {
            admin: Some(self.admin.clone()),
            labels: names.labels.clone(),
            text_log: 100,
            json_log: 0,
            listeners,
            clusters: planner.clusters,
            ..Bootstrap::default()
        };
        Ok(Plan { bootstrap, warnings: planner.warnings })
    }
}

/// Puts the system's authorities beside those of `upstream-ca.pem`, into [`AUTHORITIES_FILE`] of the same folder. Nothing is
/// written where there is no `upstream-ca.pem`, or where the file is as it should be.
///
/// # Errors
/// Why it cannot be written.
pub fn join_authorities(folder: &Path) -> Result<(), String> {
    let (own, both) = (folder.join(OWN_AUTHORITIES), folder.join(AUTHORITIES_FILE));
    let read =
        |path: &Path| std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let Some(system) = AUTHORITIES.iter().find(|path| Path::new(path).exists()) else { return Ok(()) };
    if !own.exists() {
        return Ok(());
    }
    let text = format!("{}\n{}", read(&own)?.trim_end(), read(Path::new(system))?);
    if std::fs::read_to_string(&both).is_ok_and(|there| there == text) {
        return Ok(());
    }
    std::fs::write(&both, text).map_err(|error| {
        format!(
            "{}: {error}; without it the system's authorities are not trusted beside upstream-ca.pem",
            both.display()
        )
    })
}

struct Planner<'a> {
    options: &'a Options,
    /// What they say of a name.
    given: BTreeMap<&'a str, Vec<&'a Address>>,
    errors: Vec<String>,
    warnings: Vec<String>,
    clusters: Vec<Cluster>,
    /// Those of the clusters.
    names: BTreeSet<String>,
}

impl<'a> Planner<'a> {
    fn new(options: &'a Options) -> Self {
        let mut given: BTreeMap<&str, Vec<&Address>> = BTreeMap::new();
        for (name, addresses) in &options.endpoints {
            given.entry(name).or_default().extend(addresses);
        }
        Planner {
            options,
            given,
            errors: Vec::new(),
            warnings: Vec::new(),
            clusters: Vec::new(),
            names: BTreeSet::new(),
        }
    }

    /// A cluster for everything that is named; gives what becomes of requests that are sent nowhere.
    fn clusters(&mut self, names: &Names) -> Option<Action> {
        self.unknown_names(names);
        let mut missing = Vec::new();
        for destination in &names.destinations {
            match self.endpoints(destination) {
                Some(endpoints) => self.add(Cluster::new(&destination.cluster, endpoints)),
                None => missing.push(destination.label()),
            }
        }
        if !missing.is_empty() {
            let flags: Vec<String> =
                missing.iter().map(|name| format!("--endpoint '{name}=HOST:PORT'")).collect();
            self.errors.push(format!(
                "DNS does not know where {} {}; say it, or let Envoy itself answer with --echo:\n  {}",
                missing.join(", "),
                if missing.len() == 1 { "is" } else { "are" },
                flags.join(" ")
            ));
        }
        for server in &names.keys {
            self.key_server(server);
        }
        for service in &names.rate_limit_services {
            let given = self.given(std::slice::from_ref(service));
            let endpoints =
                given.unwrap_or_else(|| vec![Endpoint::At(Address::new(service, RATE_LIMIT_PORT))]);
            self.add(Cluster { protocol: Protocol::Http2, ..Cluster::new(service, endpoints) });
        }
        self.default()
    }

    fn default(&mut self) -> Option<Action> {
        let endpoints = match self.given(&[DEFAULT.to_owned()]) {
            Some(endpoints) => endpoints,
            None if self.options.echo => vec![Endpoint::Internal(ECHO.to_owned())],
            None => {
                self.warnings.push(format!(
                    "requests that the policy sends nowhere are answered with 404; to send them on: \
                     --endpoint {DEFAULT}=HOST:PORT"
                ));
                return None;
            }
        };
        self.add(Cluster::new(DEFAULT, endpoints));
        Some(Action::Cluster(DEFAULT.to_owned()))
    }

    /// A cluster that is named twice is one.
    fn add(&mut self, cluster: Cluster) {
        if self.names.insert(cluster.name.clone()) {
            self.clusters.push(cluster);
        }
    }

    fn key_server(&mut self, server: &KeyServer) {
        let KeyServer { cluster, server, tls } = server;
        if let Some(other) = self.clusters.iter().find(|known| known.name == *cluster) {
            let same = other.endpoints == [Endpoint::At(server.clone())] && other.tls.is_some() == *tls;
            if !same {
                self.errors.push(format!(
                    "the cluster {cluster} would be two things, of which one is the key set at {server}; give it a \
                     jwksCluster of its own"
                ));
            }
            return;
        }
        let given = self.given(&[cluster.clone(), server.host.clone()]);
        let endpoints = given.unwrap_or_else(|| vec![Endpoint::At(server.clone())]);
        let tls = tls.then(|| UpstreamTls::to(&server.host, self.authorities()));
        self.add(Cluster { tls, ..Cluster::new(cluster, endpoints) });
    }

    /// `None` where only an option could tell.
    fn endpoints(&self, destination: &Destination) -> Option<Vec<Endpoint>> {
        if let Some(endpoints) = self.given(&destination.names()) {
            return Some(endpoints);
        }
        if self.options.echo {
            return Some(vec![Endpoint::Internal(ECHO.to_owned())]);
        }
        let name = destination.host.as_ref().unwrap_or(&destination.cluster);
        // DNS knows no subsets, and a cluster's own name may be anything.
        let address: Option<Address> = format!("{name}:{}", destination.port()).parse().ok();
        address.filter(|_| destination.subset.is_none()).map(|address| vec![Endpoint::At(address)])
    }

    /// What the options say of something that has these names.
    fn given(&self, names: &[String]) -> Option<Vec<Endpoint>> {
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let found = names.into_iter().filter_map(|name| self.given.get(name)).flatten();
        let found: Vec<Endpoint> = found.map(|address| Endpoint::At((*address).clone())).collect();
        (!found.is_empty()).then_some(found)
    }

    fn unknown_names(&mut self, names: &Names) {
        let mut known: Vec<String> = names.destinations.iter().map(Destination::label).collect();
        known.extend(names.keys.iter().map(|server| server.cluster.clone()));
        known.extend(names.rate_limit_services.iter().cloned());
        known.push(DEFAULT.to_owned());
        let clusters = names.destinations.iter().map(|destination| destination.cluster.as_str());
        let hosts = names.keys.iter().map(|server| server.server.host.as_str());
        let all: BTreeSet<&str> = known.iter().map(String::as_str).chain(clusters).chain(hosts).collect();
        for (name, _) in &self.options.endpoints {
            if !all.contains(name.as_str()) {
                self.errors.push(format!(
                    "--endpoint {name}: the policy has no {name}; it has {}",
                    known.join(", ")
                ));
            }
        }
    }

    /// The authorities of this system, or those that the options name.
    fn authorities(&mut self) -> PathBuf {
        let (path, found) = authorities(self.options.certificates.as_deref());
        if !found {
            self.warnings.push(format!(
                "this system has no {}; put the authorities of the key sets' servers there, or into upstream-ca.pem of \
                 --certificates",
                AUTHORITIES[0]
            ));
        }
        path
    }

    fn tls(&mut self) -> Option<ListenerTls> {
        let folder = self.options.certificates.as_ref()?;
        let [chain, key] = ["cert-chain.pem", "key.pem"].map(|name| folder.join(name));
        for file in [&chain, &key] {
            if !file.exists() {
                self.errors.push(format!(
                    "--certificates: there is no {}; it has to have cert-chain.pem and key.pem of this proxy, and \
                     root-cert.pem of those who sign the certificates that clients show",
                    file.display()
                ));
            }
        }
        let authorities = folder.join("root-cert.pem");
        let clients = if authorities.exists() { Clients::Asked(authorities) } else { Clients::Unknown };
        Some(ListenerTls { chain, key, clients, fields: Map::new() })
    }
}

/// `upstream-ca.pem` of a folder, or the authorities of this system; whether they are there.
pub fn authorities(folder: Option<&Path>) -> (PathBuf, bool) {
    let mut own = folder
        .into_iter()
        .flat_map(|folder| [AUTHORITIES_FILE, OWN_AUTHORITIES].map(|name| folder.join(name)));
    if let Some(own) = own.find(|own| own.exists()) {
        return (own, true);
    }
    let found = AUTHORITIES.iter().find(|path| Path::new(path).exists());
    (PathBuf::from(found.unwrap_or(&AUTHORITIES[0])), found.is_some())
}

/// Answers for every destination: which one it is, and what was asked.
pub fn echo() -> Listener {
    let answer = |destination: &str| Action::Answer {
        status: 200,
        headers: vec![("x-destination".to_owned(), destination.to_owned())],
        body: format!(
            "{destination} got %REQUEST_HEADER(:METHOD)% %REQUEST_HEADER(:PATH)% for %REQUEST_HEADER(:AUTHORITY)%\n"
        ),
    };
    // The filter's choice comes along as a header.
    let chosen = answer("%REQUEST_HEADER(X-MESHFILTER-CLUSTER)%");
    let mut host = VirtualHost::any(None);
    host.routes = vec![Route::chosen(chosen), Route::new(answer(DEFAULT))];
    let http = Http::plain(ECHO, vec![host]);
    Listener { name: ECHO.to_owned(), address: None, chains: vec![Chain::new(None, http)] }
}
