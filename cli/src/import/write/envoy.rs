//! A mesh and its policy → an Envoy: the builder's plan for the policy, and over it what the mesh says of servers and of
//! traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::policy::Policy;
use crate::envoy::cluster::{Cluster, Endpoint, Protocol, UpstreamTls};
use crate::envoy::listener::{Action, Chain, Clients, Http, Listener, ListenerTls, Route, VirtualHost};
use crate::envoy::plan::{DEFAULT, Options, Plan, TRACING};
use crate::envoy::policy::{Destination as Named, Names};
use crate::envoy::{Address, Bootstrap};
use crate::import::mesh::traffic::{Rules, TrafficPolicy, TrafficTls, policy_for};
use crate::import::mesh::{
    Authorities, Certificate, Destination, Mesh, PeerMode, Server, ServerTls, SpanProtocol, hosts,
};
use crate::import::ports::{self, Listens};
use crate::import::scope::Scope;

/// An Envoy, and what goes with it.
#[derive(Debug)]
pub struct Written {
    /// What Envoy is started with.
    pub bootstrap: Bootstrap,
    /// Files to be written beside it: their names within the folder, their content, whether they are secret.
    pub files: Vec<(PathBuf, Vec<u8>, bool)>,
    /// What is not as it might have been meant.
    pub warnings: Vec<String>,
}

/// What options say of an Envoy.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What `bootstrap` takes, too; its endpoints are those of [`Self::endpoints`].
    pub options: Options,
    /// Where names are, as `--endpoint` has them.
    pub endpoints: Vec<(String, Vec<Address>)>,
    /// Ports of servers that are moved.
    pub moved: BTreeMap<u16, Address>,
    /// The folder where all is written.
    pub folder: PathBuf,
}

impl Wanted {
    /// An Envoy for a mesh.
    ///
    /// # Errors
    /// Everything that is missing.
    pub fn write(&self, mesh: &Mesh, scope: &Scope, policy: &Policy) -> Result<Written, Vec<String>> {
        let value = &policy.value;
        let names = Names::of(value);
        let mut writer = Writer {
            wanted: self,
            mesh,
            rules: Rules::of(&mesh.rules),
            scope,
            used: vec![false; self.endpoints.len()],
            files: BTreeMap::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
        };
        let mut options = self.options.clone();
        options.endpoints = writer.endpoints(&names);
        // Its listener is written here.
        options.certificates = None;
        let plan = options.plan(value);
        let Plan { mut bootstrap, warnings } = match plan {
            Ok(plan) => plan,
            Err(errors) => {
                writer.errors.extend(errors);
                return Err(writer.errors);
            }
        };
        writer.warnings.extend(warnings);
        let mut hashed = Vec::new();
        let clusters = bootstrap.clusters.iter().enumerate();
        let places: BTreeMap<String, usize> =
            clusters.map(|(place, cluster)| (cluster.name.clone(), place)).collect();
        for named in &names.destinations {
            let place = places.get(&named.cluster);
            if let Some(cluster) = place.and_then(|place| bootstrap.clusters.get_mut(*place)) {
                let (traffic, _) = policy_for(&writer.rules, &destination(named));
                writer.carry(cluster, named, &traffic);
                if let Some(hash) = traffic.balancer.and_then(|balancer| balancer.hash) {
                    hashed.push((named.cluster.clone(), hash));
                }
            }
        }
        for cluster in &mut bootstrap.clusters {
            writer.key_authorities(cluster, &names);
        }
        if mesh.access_log.json {
            (bootstrap.text_log, bootstrap.json_log) = (0, 100);
        }
        writer.listeners(&mut bootstrap, &hashed);
        writer.spans(&mut bootstrap);
        writer.unused();
        if !writer.errors.is_empty() {
            return Err(writer.errors);
        }
        let files =
            writer.files.into_iter().map(|(path, (content, secret))| (path, content, secret)).collect();
        Ok(Written { bootstrap, files, warnings: writer.warnings })
    }
}

struct Writer<'a> {
    wanted: &'a Wanted,
    mesh: &'a Mesh,
    rules: Rules<'a>,
    scope: &'a Scope,
    /// Which of the endpoints somebody asked for.
    used: Vec<bool>,
    files: BTreeMap<PathBuf, (Vec<u8>, bool)>,
    errors: Vec<String>,
    warnings: Vec<String>,
}

fn destination(named: &Named) -> Destination {
    Destination {
        host: named.host.clone().unwrap_or_else(|| named.cluster.clone()),
        subset: named.subset.clone(),
        port: named.port,
    }
}

impl Writer<'_> {
    // ---- where things are

    /// Where every destination is of which that is known, by the names of clusters.
    fn endpoints(&mut self, names: &Names) -> Vec<(String, Vec<Address>)> {
        let mut found: Vec<(String, Vec<Address>)> = Vec::new();
        let mut seen = BTreeSet::new();
        let hosts: Vec<String> = names.destinations.iter().map(|named| destination(named).host).collect();
        let short = hosts::with_short_names(hosts.iter().map(String::as_str), &self.scope.namespace);
        for named in &names.destinations {
            let to = destination(named);
            let given =
                self.given(|name| name == named.cluster || to.is_called(name, short.contains(&to.host)));
            let known = || {
                let labels = policy_for(&self.rules, &to).1.unwrap_or_default();
                if to.subset.is_some() && labels.is_empty() {
                    return Vec::new();
                }
                let answering = self.mesh.services.answering(&to.host, to.port, &labels);
                answering.into_iter().map(|(address, _)| address).collect()
            };
            let addresses = match given {
                Some(addresses) => addresses,
                None if self.wanted.options.echo => Vec::new(),
                None => known(),
            };
            let addresses = match (addresses.is_empty(), self.external(&to)) {
                (true, Some(address)) if !self.wanted.options.echo => vec![address],
                _ => addresses,
            };
            self.warn_of_unknown(&to);
            if !addresses.is_empty() && seen.insert(&named.cluster) {
                found.push((named.cluster.clone(), addresses));
            }
        }
        for server in &names.keys {
            if let Some(addresses) = self.given(|name| {
                name == server.cluster || name == server.server.host || name == server.server.to_string()
            }) {
                found.push((server.cluster.clone(), addresses));
            }
        }
        for service in &names.rate_limit_services {
            if let Some(addresses) = self.given(|name| name == service) {
                found.push((service.clone(), addresses));
            }
        }
        if let Some(addresses) = self.given(|name| name == DEFAULT) {
            found.push((DEFAULT.to_owned(), addresses));
        }
        found
    }

    /// Warns of a destination that the mesh would not find: it answers with 503 there.
    fn warn_of_unknown(&mut self, to: &Destination) {
        let mut wrong = Vec::new();
        let rules = self.rules.for_host(&to.host);
        let subsets: BTreeSet<&str> =
            rules.iter().flat_map(|rule| &rule.subsets).map(|subset| subset.name.as_str()).collect();
        if let Some(subset) = to.subset.as_deref()
            && !rules.is_empty()
            && !subsets.contains(subset)
        {
            let known = subsets.into_iter().collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "it has none".to_owned() } else { format!("it has {known}") };
            wrong.push(format!("no DestinationRule of {} has the subset {subset}; {known}", to.host));
        }
        if let (Some(port), Some(service)) = (to.port, self.mesh.services.get(&to.host))
            && !service.ports.is_empty()
            && !service.ports.iter().any(|known| known.number == port)
        {
            let known: Vec<String> = service.ports.iter().map(|known| known.number.to_string()).collect();
            wrong.push(format!("{} has no port {port}; it has {}", to.host, known.join(", ")));
        }
        for wrong in wrong {
            let warning = format!("{wrong}: in the mesh, requests for it are answered with 503");
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    /// What the options say of a name.
    fn given(&mut self, is_called: impl Fn(&str) -> bool) -> Option<Vec<Address>> {
        let mut found = Vec::new();
        for ((name, addresses), used) in self.wanted.endpoints.iter().zip(&mut self.used) {
            if is_called(name) {
                *used = true;
                found.extend(addresses.iter().cloned());
            }
        }
        (!found.is_empty()).then_some(found)
    }

    /// Where a service is that is another's name.
    fn external(&self, to: &Destination) -> Option<Address> {
        let name = self.mesh.services.get(&to.host)?.external_name.as_ref()?;
        let port = to.port.or_else(|| self.mesh.services.only_port(&to.host)).unwrap_or(80);
        to.subset.is_none().then(|| Address::new(name, port))
    }

    fn unused(&mut self) {
        let endpoints = self.wanted.endpoints.iter().zip(&self.used);
        let unused: Vec<&str> =
            endpoints.filter(|(_, used)| !**used).map(|((name, _), _)| name.as_str()).collect();
        for name in unused {
            self.warnings.push(format!("--endpoint {name}: nothing in the input goes there"));
        }
    }

    // ---- how traffic is carried

    fn carry(&mut self, cluster: &mut Cluster, named: &Named, traffic: &TrafficPolicy) {
        let to = destination(named);
        let internal = cluster.endpoints.iter().any(|endpoint| matches!(endpoint, Endpoint::Internal(_)));
        let weights: BTreeMap<Address, u32> = self
            .mesh
            .services
            .answering(&to.host, to.port, &BTreeMap::new())
            .into_iter()
            .filter_map(|(address, weight)| Some((address, weight?)))
            .collect();
        for endpoint in &mut cluster.endpoints {
            if let Endpoint::At(address) = endpoint
                && let Some(weight) = weights.get(address)
            {
                *endpoint = Endpoint::Weighted(address.clone(), *weight);
            }
        }
        if let Some(protocol) = self.protocol(&to)
            && !internal
        {
            cluster.protocol = protocol;
        }
        if let Some(balancer) = &traffic.balancer {
            cluster.balancing = Some(balancer.kind);
            cluster.fields.extend(balancer.fields.clone());
        }
        if let Some(pool) = &traffic.pool {
            cluster.limits = Some(pool.limits.clone());
            if let Some(timeout) = pool.connect_timeout {
                cluster.connect_timeout = timeout;
            }
            if let Some(protocol) = pool.protocol.filter(|_| !internal) {
                cluster.protocol = protocol;
            }
            cluster.fields.extend(pool.fields.clone());
            http_options(cluster, &pool.http, &pool.http2);
        }
        if let Some(budget) = traffic.retry_budget {
            let limits = cluster.limits.get_or_insert_default();
            limits.retry_budget = Some(crate::envoy::cluster::RetryBudget {
                budget_percent: crate::envoy::cluster::Percent { value: budget.percent },
                min_retry_concurrency: budget.least,
            });
        }
        if let Some(outliers) = &traffic.outliers {
            cluster.outlier_detection = Some(outliers.clone());
        }
        // Envoy's panic threshold; Istio's default is that it does not panic.
        if traffic.outliers.is_some() || traffic.least_healthy.is_some() {
            let least = traffic.least_healthy.unwrap_or(0);
            crate::envoy::put_field(
                &mut cluster.fields,
                &["common_lb_config", "healthy_panic_threshold", "value"],
                least,
            );
        }
        cluster.fields.extend(traffic.fields.clone());
        if let Some(tls) = traffic.tls.as_ref().filter(|tls| !tls.disabled && !internal) {
            cluster.tls = self.upstream_tls(tls, &to);
            // Envoy's clients stop at 1.2 unless they are told.
            crate::envoy::put_field(
                &mut cluster.fields,
                &[
                    "transport_socket",
                    "typed_config",
                    "common_tls_context",
                    "tls_params",
                    "tls_maximum_protocol_version",
                ],
                "TLSv1_3",
            );
        }
    }

    /// What a port says of what is spoken there.
    fn protocol(&self, to: &Destination) -> Option<Protocol> {
        let service = self.mesh.services.get(&to.host)?;
        let port = to.port.or_else(|| self.mesh.services.only_port(&to.host))?;
        let port = service.ports.iter().find(|known| known.number == port)?;
        matches!(port.protocol.as_str(), "http2" | "grpc" | "grpc-web" | "h2c" | "kubernetes.io/h2c")
            .then_some(Protocol::Http2)
    }

    fn upstream_tls(&mut self, tls: &TrafficTls, to: &Destination) -> Option<UpstreamTls> {
        let authorities = match &tls.authorities {
            Some(authorities) => self.authorities(authorities)?,
            None => self.system(),
        };
        let certificate = match &tls.certificate {
            Some(certificate) => Some(self.certificate(certificate)?),
            None => None,
        };
        let external = hosts::parts(&to.host).is_none();
        let sni = tls.sni.clone().or_else(|| (external || !tls.mesh).then(|| to.host.clone()));
        let sni = match (tls.mesh, sni) {
            // As Istio's own sidecars ask for each other.
            (true, None) => {
                let port = to.port.or_else(|| self.mesh.services.only_port(&to.host)).unwrap_or(80);
                Some(format!("outbound_.{port}_.{}_.{}", to.subset.as_deref().unwrap_or_default(), to.host))
            }
            (_, sni) => sni,
        };
        let of_service = self.mesh.services.get(&to.host).map(|service| service.certificate_names.clone());
        let names =
            of_service.filter(|names| tls.names.is_empty() && !names.is_empty()).unwrap_or(tls.names.clone());
        let names = match (names.is_empty(), tls.mesh) {
            (false, _) => names,
            (true, true) => Vec::new(),
            (true, false) => sni.iter().cloned().collect(),
        };
        Some(UpstreamTls { sni, names, authorities, certificate })
    }

    /// The authorities of this system, or `upstream-ca.pem` of the options.
    fn system(&mut self) -> PathBuf {
        let (path, found) = crate::envoy::plan::authorities(self.wanted.options.certificates.as_deref());
        if !found {
            self.warnings.push(format!(
                "this system has no {}; put the authorities of servers there, or into upstream-ca.pem of --certificates",
                path.display()
            ));
        }
        path
    }

    /// Servers of key sets are known to `upstream-ca.pem`, too.
    fn key_authorities(&mut self, cluster: &mut Cluster, names: &Names) {
        let is_key_server = names.keys.iter().any(|server| server.cluster == cluster.name);
        if let Some(tls) = cluster.tls.as_mut().filter(|_| is_key_server) {
            tls.authorities = crate::envoy::plan::authorities(self.wanted.options.certificates.as_deref()).0;
        }
    }

    // ---- certificates

    fn folder(&mut self, why: &str) -> Option<PathBuf> {
        let folder = self.wanted.options.certificates.clone();
        if folder.is_none() {
            self.errors.push(format!(
                "{why}: say where the certificates are with --certificates DIR (cert-chain.pem, key.pem, root-cert.pem)"
            ));
        }
        folder
    }

    fn own_file(&mut self, name: &str, why: &str) -> Option<PathBuf> {
        let path = self.folder(why)?.join(name);
        if !path.exists() {
            self.errors.push(format!("{why}: there is no {}", path.display()));
            return None;
        }
        Some(path)
    }

    fn certificate(&mut self, certificate: &Certificate) -> Option<(PathBuf, PathBuf)> {
        match certificate {
            Certificate::Own => {
                let why = "the mesh's TLS needs the proxy's own certificate";
                Some((self.own_file("cert-chain.pem", why)?, self.own_file("key.pem", why)?))
            }
            Certificate::Files(chain, key) => Some((chain.into(), key.into())),
            Certificate::Named(namespace, name) => {
                Some((self.named(namespace, name, "tls.crt")?, self.named(namespace, name, "tls.key")?))
            }
        }
    }

    fn authorities(&mut self, authorities: &Authorities) -> Option<PathBuf> {
        match authorities {
            Authorities::Mesh => self.own_file("root-cert.pem", "the mesh's TLS needs the mesh's root"),
            Authorities::File(path) => Some(path.into()),
            Authorities::Named(namespace, name) => self.named(namespace, name, "ca.crt"),
        }
    }

    /// A file of a credential: of `--certificates`, or out of a secret of the input.
    fn named(&mut self, namespace: &str, name: &str, file: &str) -> Option<PathBuf> {
        let given = self.wanted.options.certificates.as_ref().map(|folder| folder.join(name).join(file));
        if let Some(given) = given.filter(|given| given.exists()) {
            return Some(given);
        }
        let key = (namespace.to_owned(), name.to_owned());
        // Istio's older form keeps the authorities in a secret of their own.
        let cacert = (namespace.to_owned(), format!("{name}-cacert"));
        let secrets = &self.mesh.secrets;
        let content = match file {
            "tls.crt" => secrets.get(&key).and_then(|secret| secret.certificate.clone()),
            "tls.key" => secrets.get(&key).and_then(|secret| secret.key.clone()),
            _ => [&cacert, &key]
                .into_iter()
                .find_map(|key| secrets.get(key).and_then(|secret| secret.authorities.clone())),
        };
        let Some(content) = content else {
            self.errors.push(format!(
                "there is no {file} for {namespace}/{name}: put the Secret into the input, or the file into \
                 --certificates DIR as {name}/{file}"
            ));
            return None;
        };
        let path = PathBuf::from("certificates").join(namespace).join(name).join(file);
        self.files.insert(path.clone(), (content, file == "tls.key"));
        Some(self.wanted.folder.join(path))
    }

    // ---- where clients come

    fn listeners(&mut self, bootstrap: &mut Bootstrap, hashed: &[(String, Value)]) {
        let Some(position) = bootstrap.listeners.iter().position(|listener| listener.name == "http") else {
            return;
        };
        let Some(chain) = bootstrap.listeners.get(position).and_then(|listener| listener.chains.first())
        else {
            return;
        };
        let mut http = chain.http.clone();
        http.fields.extend(self.mesh.settings.http.clone());
        self.logs(&mut http);
        for host in &mut http.hosts {
            let routes = hashed.iter().map(|(cluster, hash)| {
                let mut route = Route::new(Action::Decided);
                route.decided = Some(cluster.clone());
                route.fields.insert("hash_policy".to_owned(), hash.clone());
                route
            });
            host.routes.splice(0..0, routes);
        }
        let written = match self.scope.gateway.is_some() {
            true => self.servers(&http),
            false => self.inbound(&http).into_iter().collect(),
        };
        bootstrap.listeners.splice(position..=position, written);
    }

    fn logs(&self, http: &mut Http) {
        let log = &self.mesh.access_log;
        let file = self.mesh.settings.access_log_file.as_ref();
        if !log.disabled && log.filter.is_none() && file.is_none() {
            return;
        }
        let mut logs = match log.disabled {
            true => json!([]),
            false => crate::envoy::access_logs(&http.tags),
        };
        for written in logs.as_array_mut().into_iter().flatten() {
            if let Some(filter) = &log.filter {
                let own = written["filter"].take();
                written["filter"] = json!({"and_filter": {"filters": [own, filter]}});
            }
            if let Some(file) = file {
                let format = written.pointer_mut("/typed_config/log_format").map(Value::take);
                written["typed_config"] = json!({
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": file,
                    "log_format": format,
                });
            }
        }
        http.fields.insert("access_log".to_owned(), logs);
    }

    /// The one listener of a proxy before services: by the mesh's rules for peers.
    fn inbound(&mut self, http: &Http) -> Option<Listener> {
        let address = self.wanted.options.listen.clone();
        let listens = Listens { address: &address, moved: &self.wanted.moved };
        let peers = &self.mesh.peers;
        let own = ports::own(self.mesh, self.scope, listens)
            .or_else(|| peers.contains_key(&Some(address.port)).then_some(address.port));
        if let (None, Some(port)) = (own, peers.keys().flatten().next()) {
            self.errors.push(format!(
                "a PeerAuthentication has portLevelMtls for port {port} of the workload, and clients come to {address}; {}",
                ports::which(*port, listens)
            ));
            return None;
        }
        let given = own.and_then(|own| peers.get(&Some(own))).or_else(|| peers.get(&None));
        let given = given.map(|peer| peer.mode);
        let has_own = self
            .wanted
            .options
            .certificates
            .as_ref()
            .is_some_and(|folder| folder.join("cert-chain.pem").exists());
        let mode = given.unwrap_or(if has_own { PeerMode::Permissive } else { PeerMode::Disable });
        let mode = match mode {
            // Istio's default where there is nothing to show.
            PeerMode::Permissive if !has_own => {
                self.warnings.push(
                    "PERMISSIVE without --certificates: the listener takes plain text only; the proxy has no certificate to \
                     show"
                        .to_owned(),
                );
                PeerMode::Disable
            }
            mode => mode,
        };
        if mode == PeerMode::Disable && names_clients(self.mesh) {
            self.warnings.push(
                "policies let in clients by the names in their certificates, and the listener asks for none: those clients do not \
                 get in; say --certificates DIR (cert-chain.pem, key.pem, root-cert.pem)"
                    .to_owned(),
            );
        }
        let plain = || Chain::new(None, http.clone());
        let chains = match mode {
            PeerMode::Disable => vec![plain()],
            PeerMode::Strict => vec![Chain::new(Some(self.mesh_tls(true)?), http.clone())],
            PeerMode::Permissive => {
                let mut tls = Chain::new(Some(self.mesh_tls(false)?), http.clone());
                tls.transport_protocol = Some("tls");
                let mut raw = plain();
                raw.transport_protocol = Some("raw_buffer");
                vec![tls, raw]
            }
        };
        Some(Listener { name: "http".to_owned(), address: Some(address), chains })
    }

    fn mesh_tls(&mut self, strict: bool) -> Option<ListenerTls> {
        let (chain, key) = self.certificate(&Certificate::Own)?;
        let root = self.wanted.options.certificates.as_ref().map(|folder| folder.join("root-cert.pem"));
        let clients = match root.filter(|root| root.exists()) {
            Some(root) => Clients::Known(root),
            None if strict => Clients::Known(self.authorities(&Authorities::Mesh)?),
            None => Clients::Unknown,
        };
        Some(ListenerTls { chain, key, clients, fields: Map::new() })
    }

    /// The servers of the gateway, by their ports.
    fn servers(&mut self, http: &Http) -> Vec<Listener> {
        let gateway = self.scope.gateway.clone();
        let servers: Vec<&Server> =
            self.mesh.servers.iter().filter(|server| Some(&server.gateway) == gateway.as_ref()).collect();
        let mut ports: BTreeMap<u16, Vec<&Server>> = BTreeMap::new();
        for server in servers {
            ports.entry(server.port).or_default().push(server);
        }
        let mut listeners = Vec::new();
        for (port, servers) in ports {
            let default = Address::new(&self.wanted.options.listen.host, port);
            let address = self.wanted.moved.get(&port).cloned().unwrap_or(default);
            let mut chains = Vec::new();
            for server in servers.iter().filter(|server| server.tls.is_some()) {
                let tls = server.tls.as_ref().and_then(|tls| self.server_tls(tls));
                let Some(tls) = tls else { continue };
                let mut http = within(http, &[server]);
                http.hosts.extend(misdirected(server, &servers));
                let mut chain = Chain::new(Some(tls), http);
                chain.server_names = names_for_sni(&server.hosts);
                chain.transport_protocol = Some("tls");
                chains.push(chain);
            }
            let plain: Vec<&Server> = servers.iter().copied().filter(|server| server.tls.is_none()).collect();
            if !plain.is_empty() {
                let mut chain = Chain::new(None, within(http, &plain));
                if !chains.is_empty() {
                    chain.transport_protocol = Some("raw_buffer");
                }
                chains.push(chain);
            }
            listeners.push(Listener { name: format!("http-{port}"), address: Some(address), chains });
        }
        listeners
    }

    fn server_tls(&mut self, tls: &ServerTls) -> Option<ListenerTls> {
        let (chain, key) = self.certificate(tls.certificates.first()?)?;
        let clients = match &tls.clients {
            Some(authorities) if tls.optional => Clients::Asked(self.authorities(authorities)?),
            Some(authorities) => Clients::Known(self.authorities(authorities)?),
            None => Clients::Unknown,
        };
        let mut fields = Map::new();
        let (oldest, newest) = &tls.versions;
        for (name, version) in
            [("tls_minimum_protocol_version", oldest), ("tls_maximum_protocol_version", newest)]
        {
            if let Some(version) = version {
                crate::envoy::put_field(&mut fields, &["tls_params", name], version.as_str());
            }
        }
        if !tls.ciphers.is_empty() {
            crate::envoy::put_field(&mut fields, &["tls_params", "cipher_suites"], json!(tls.ciphers));
        }
        if !tls.client_names.is_empty() {
            let name = |name: &String| {
                let kind = if name.contains("://") { "URI" } else { "DNS" };
                json!({"san_type": kind, "matcher": {"exact": name}})
            };
            let names: Vec<Value> = tls.client_names.iter().map(name).collect();
            crate::envoy::put_field(
                &mut fields,
                &["validation_context", "match_typed_subject_alt_names"],
                json!(names),
            );
        }
        let mut certificates = Vec::new();
        for certificate in &tls.certificates {
            let (chain, key) = self.certificate(certificate)?;
            certificates
                .push(json!({"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}));
        }
        if certificates.len() > 1 {
            fields.insert("tls_certificates".to_owned(), Value::Array(certificates));
        }
        Some(ListenerTls { chain, key, clients, fields })
    }

    // ---- spans

    fn spans(&mut self, bootstrap: &mut Bootstrap) {
        let tracing = &self.mesh.tracing;
        let Some(collector) = tracing.collector.as_ref().filter(|_| !tracing.disabled) else { return };
        let (host, port) = &collector.address;
        let name = format!("{TRACING}{host}:{port}");
        let full = hosts::full(host, &self.scope.namespace, &self.scope.namespaces);
        let given = self.given(|known| {
            known == host
                || known == full
                || known == format!("{host}:{port}")
                || hosts::names(&full, true).contains(&known.to_owned())
        });
        let endpoints = given.unwrap_or_else(|| vec![Address::new(host, *port)]);
        let mut cluster = Cluster::new(&name, endpoints.into_iter().map(Endpoint::At).collect());
        let provider = match &collector.protocol {
            SpanProtocol::Zipkin => json!({
                "name": "envoy.tracers.zipkin",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
                    "collector_cluster": name,
                    "collector_endpoint": "/api/v2/spans",
                    "collector_endpoint_version": "HTTP_JSON",
                    "collector_hostname": format!("{host}:{port}"),
                    "trace_id_128bit": true,
                    "shared_span_context": false,
                },
            }),
            SpanProtocol::OpenTelemetryHttp(path) => json!({
                "name": "envoy.tracers.opentelemetry",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                    "http_service": {"http_uri": {
                        "uri": format!("http://{host}:{port}{path}"), "cluster": name, "timeout": "1s",
                    }},
                    "service_name": "meshfilter",
                },
            }),
            SpanProtocol::OpenTelemetry => {
                cluster.protocol = Protocol::Http2;
                // Without it the cluster's name would be asked for, which is no name of a host.
                let service = json!({"cluster_name": name, "authority": format!("{host}:{port}")});
                json!({
                    "name": "envoy.tracers.opentelemetry",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                        "grpc_service": {"envoy_grpc": service, "timeout": "1s"},
                        "service_name": "meshfilter",
                    },
                })
            }
        };
        bootstrap.clusters.push(cluster);
        let sampling = tracing.sampling.unwrap_or(1.0);
        let mut fields = tracing.fields.clone();
        fields.insert("provider".to_owned(), provider);
        fields.insert("random_sampling".to_owned(), json!({"value": sampling}));
        for listener in &mut bootstrap.listeners {
            for chain in listener.chains.iter_mut().filter(|chain| chain.http.plugin.is_some()) {
                chain.http.tracing.extend(fields.clone());
                if !tracing.tags.is_empty() {
                    let mut tags = crate::envoy::span_tags(&chain.http.tags);
                    tags.extend(tracing.tags.iter().cloned());
                    chain.http.tracing.insert("custom_tags".to_owned(), Value::Array(tags));
                }
            }
        }
    }
}

/// Only the hosts of these servers; those that redirect do.
fn within(http: &Http, servers: &[&Server]) -> Http {
    let mut http = http.clone();
    let routes = http.hosts.first().map(|host| host.routes.clone()).unwrap_or_default();
    let mut hosts = Vec::new();
    for (index, server) in servers.iter().enumerate() {
        let mut domains: Vec<String> = Vec::new();
        for host in &server.hosts {
            let host = if host == "*" { host.clone() } else { host.to_ascii_lowercase() };
            let taken = hosts.iter().any(|known: &VirtualHost| known.domains.contains(&host));
            if !taken && !domains.contains(&host) {
                domains.push(host);
            }
        }
        if domains.is_empty() {
            continue;
        }
        let mut host = VirtualHost {
            name: format!("{}-{index}", server.name),
            domains,
            routes: routes.clone(),
            fields: Map::new(),
        };
        if server.redirect {
            host.fields.insert("require_tls".to_owned(), "ALL".into());
        }
        hosts.push(host);
    }
    http.hosts = hosts;
    if servers.iter().all(|server| server.redirect) {
        http.plugin = None;
        http.fields.insert("use_remote_address".to_owned(), true.into());
        // Nor does https have the port at which somebody asked for plain text.
        http.fields.insert("strip_any_host_port".to_owned(), true.into());
    }
    crate::envoy::put_field(&mut http.fields, &["route_config", "ignore_port_in_host_matching"], true);
    http
}

/// Whether an ALLOW policy lets in clients by the names in their certificates.
fn names_clients(mesh: &Mesh) -> bool {
    fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
        value.get(name).and_then(Value::as_array).into_iter().flatten()
    }
    let names = |from: &Value| {
        let source = from.get("source").and_then(Value::as_object);
        let by_name = ["principals", "serviceAccounts", "namespaces"];
        source.is_some_and(|source| by_name.iter().any(|name| source.contains_key(*name)))
    };
    let allows =
        mesh.authorization.iter().map(|(policy, _)| policy).filter(|policy| policy["action"] == "ALLOW");
    allows.flat_map(|policy| list(policy, "rules")).any(|rule| list(rule, "from").any(names))
}

/// Hosts within this server's that another one of its port takes, with other words for clients' certificates. Whoever asked
/// for a name of this server by TLS, and means such a host, has not shown what that one wants: 421 (RFC 9110, 15.5.20).
fn misdirected(server: &Server, all: &[&Server]) -> Option<VirtualHost> {
    let clients = |server: &Server| {
        let tls = server.tls.clone().unwrap_or_default();
        (tls.clients, tls.optional, tls.client_names)
    };
    let is_within = |host: &str| {
        server.hosts.iter().any(|own| {
            let end = own.strip_prefix('*');
            own != host && end.is_some_and(|end| host.ends_with(end) && host.len() > end.len())
        })
    };
    let others = all.iter().filter(|other| other.tls.is_some() && clients(other) != clients(server));
    let mut domains: Vec<String> =
        others.flat_map(|other| &other.hosts).map(|host| host.to_ascii_lowercase()).collect();
    domains.sort();
    domains.dedup();
    domains.retain(|host| is_within(host) && !server.hosts.contains(host));
    let answer = Action::Answer { status: 421, headers: Vec::new(), body: String::new() };
    (!domains.is_empty()).then(|| VirtualHost {
        name: format!("{}-misdirected", server.name),
        domains,
        routes: vec![Route { chosen: false, ..Route::new(answer) }],
        fields: Map::new(),
    })
}

/// The names that clients ask for by TLS; none where any is taken.
fn names_for_sni(hosts: &[String]) -> Vec<String> {
    match hosts.iter().any(|host| host == "*") {
        true => Vec::new(),
        false => hosts.to_vec(),
    }
}

/// Options of HTTP to a cluster, laid into its protocol.
fn http_options(cluster: &mut Cluster, http: &Map<String, Value>, http2: &Map<String, Value>) {
    if http.is_empty() && http2.is_empty() {
        return;
    }
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let kind = format!("type.googleapis.com/{OPTIONS}");
    let path = ["typed_extension_protocol_options", OPTIONS];
    crate::envoy::put_field(&mut cluster.fields, &[path[0], path[1], "@type"], kind);
    if !http.is_empty() {
        crate::envoy::put_field(
            &mut cluster.fields,
            &[path[0], path[1], "common_http_protocol_options"],
            Value::Object(http.clone()),
        );
    }
    match cluster.protocol {
        Protocol::Http1 => crate::envoy::put_field(
            &mut cluster.fields,
            &[path[0], path[1], "explicit_http_config", "http_protocol_options"],
            json!({}),
        ),
        Protocol::Http2 if !http2.is_empty() => crate::envoy::put_field(
            &mut cluster.fields,
            &[path[0], path[1], "explicit_http_config", "http2_protocol_options"],
            Value::Object(http2.clone()),
        ),
        Protocol::AsTheClient if !http2.is_empty() => crate::envoy::put_field(
            &mut cluster.fields,
            &[path[0], path[1], "use_downstream_protocol_config", "http2_protocol_options"],
            Value::Object(http2.clone()),
        ),
        _ => {}
    }
}
