//! What a policy names that has to be somewhere else in Envoy's configuration: clusters, tags, variables.

use std::collections::BTreeSet;
use std::time::Duration;

use meshfilter::config::document::{self, Document, HttpEntry, JwtRule, TagPlace};
use meshfilter::config::{Errors, Path};
use meshfilter::json;
use serde_json::Value;
use url::Url;

use super::Address;

/// Everything that a policy names, in its order, each once.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Where requests and their copies go.
    pub destinations: Vec<Destination>,
    /// Servers of key sets.
    pub keys: Vec<KeyServer>,
    /// Clusters of rate limit services.
    pub rate_limit_services: Vec<String>,
    /// Tags in access logs and spans.
    pub logged: Vec<String>,
    /// Tags that are labels of metrics.
    pub labels: Vec<String>,
    /// Variables that the policy reads.
    pub variables: Vec<String>,
    /// The longest delay that it can cause.
    pub longest_delay: Duration,
}

/// A cluster that requests go to, and what the policy calls it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// The cluster's name.
    pub cluster: String,
    /// The service; none if the policy names the cluster itself.
    pub host: Option<String>,
    /// Its version.
    pub subset: Option<String>,
    /// Its port.
    pub port: Option<u16>,
}

/// A cluster that has a key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyServer {
    /// The cluster's name.
    pub cluster: String,
    /// The server of its address.
    pub server: Address,
    /// Whether it is asked over TLS.
    pub tls: bool,
}

/// The port of a destination that has none.
const PORT: u16 = 80;

impl Names {
    /// Of a policy without an error.
    pub fn of(policy: &Value) -> Self {
        let document: Document = json::read(policy, &Path::ROOT, &Errors::default()).unwrap_or_default();
        let mut names = Names::default();
        let destinations = document.destinations.clone().unwrap_or_default();
        let mut seen = BTreeSet::new();
        for entry in &document.http {
            for destination in destinations_of(entry) {
                let named = name(destination, &destinations);
                if seen.insert(named.clone()) {
                    names.destinations.push(named);
                }
            }
        }
        let rules = document.authentication.iter().flat_map(|section| &section.jwt_rules);
        for (rule, url) in rules.filter_map(|rule| Some((rule, key_url(rule)?))) {
            let (Some(cluster), Some(server)) = (&rule.jwks_cluster, server(&url)) else { continue };
            let server = KeyServer { cluster: cluster.clone(), server, tls: url.scheme() == "https" };
            if !names.keys.contains(&server) {
                names.keys.push(server);
            }
        }
        let services = document.rate_limits.iter().filter_map(|limit| limit.global.as_ref()?.cluster.clone());
        names.rate_limit_services = once(services);
        let tags = document.telemetry.iter().flat_map(|section| &section.tags);
        let in_place = |place: TagPlace| {
            let goes = move |tag: &&document::Tag| {
                let default = matches!(place, TagPlace::Metrics | TagPlace::Logs);
                tag.places.as_ref().map_or(default, |places| places.contains(&place))
            };
            once(tags.clone().filter(goes).filter_map(|tag| tag.name.clone()))
        };
        names.logged = in_place(TagPlace::Logs);
        names.labels = in_place(TagPlace::Metrics);
        names.variables = variables(policy);
        names.longest_delay = longest_delay(&document);
        names
    }
}

impl Destination {
    /// The port of its address, where only its name is known.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(PORT)
    }

    /// What a user calls it.
    pub fn label(&self) -> String {
        match (&self.host, &self.subset) {
            (Some(host), Some(subset)) => format!("{host}|{subset}"),
            (Some(host), None) => host.clone(),
            (None, _) => self.cluster.clone(),
        }
    }

    /// What a user means it by.
    pub fn names(&self) -> [String; 2] {
        [self.cluster.clone(), self.label()]
    }
}

/// Names the cluster of every key set that has none: by the server that is asked.
pub fn name_key_clusters(policy: &mut Value) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    let rules = policy.pointer_mut("/authentication/jwtRules").and_then(Value::as_array_mut);
    for (index, rule) in rules.into_iter().flatten().enumerate() {
        let text = |name: &str| rule.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if text("jwksCluster").is_some()
            || rule.get("jwks").is_some()
            || rule.get("jwksFromEnvironment").is_some()
        {
            continue;
        }
        let uri = text("jwksUri").or_else(|| text("issuer")).and_then(|url| Url::parse(url).ok());
        if let (Some(server), Some(rule)) = (uri.as_ref().and_then(server), rule.as_object_mut()) {
            rule.insert("jwksCluster".to_owned(), server.to_string().into());
            named.push((index, server.to_string()));
        }
    }
    named
}

fn destinations_of(entry: &HttpEntry) -> impl Iterator<Item = &document::Destination> {
    let routes = entry.route.iter().flatten().filter_map(|route| route.destination.as_ref());
    let mirrors = entry.mirrors.iter().flatten().filter_map(|mirror| mirror.destination.as_ref());
    routes.chain(&entry.mirror).chain(mirrors)
}

/// As the filter names it: see `destinations.clusterName`.
fn name(destination: &document::Destination, by: &document::Destinations) -> Destination {
    let document::Destination { host, subset, port, cluster } = destination;
    let port = port.and_then(|port| port.number).or(by.port);
    let (service, version) = (host.as_deref().unwrap_or_default(), subset.as_deref().unwrap_or_default());
    let name = match (cluster, &by.cluster_name) {
        (Some(cluster), _) if host.is_none() => cluster.clone(),
        (_, Some(pattern)) => {
            let number = port.map(|port| port.to_string()).unwrap_or_default();
            pattern.replace("{host}", service).replace("{subset}", version).replace("{port}", &number)
        }
        (_, None) if version.is_empty() => service.to_owned(),
        (_, None) => format!("{service}|{version}"),
    };
    let subset = subset.clone().filter(|subset| !subset.is_empty());
    Destination { cluster: name, host: host.clone(), subset, port }
}

/// Where a rule's keys are asked for first.
fn key_url(rule: &JwtRule) -> Option<Url> {
    if rule.jwks.is_some() || rule.jwks_from_environment.is_some() {
        return None;
    }
    Url::parse(rule.jwks_uri.as_ref().or(rule.issuer.as_ref())?).ok()
}

fn server(url: &Url) -> Option<Address> {
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    Some(Address::new(host, url.port_or_known_default()?))
}

/// What `jwksFromEnvironment` and the sources of values read.
fn variables(policy: &Value) -> Vec<String> {
    let mut found = BTreeSet::new();
    walk(policy, &mut |name, value| {
        if let ("jwksFromEnvironment" | "environment", Some(variable)) = (name, value.as_str()) {
            found.insert(variable.to_owned());
        }
    });
    found.into_iter().collect()
}

fn longest_delay(document: &Document) -> Duration {
    let delays = document.http.iter().filter_map(|entry| entry.fault.as_ref()?.delay.as_ref());
    let longest = |delay: &document::FaultDelay| {
        let drawn = delay.distribution.unwrap_or_default();
        let of = |duration: Option<document::Duration>| duration.map_or(Duration::ZERO, |given| given.0);
        let normal =
            drawn.normal.map(|normal| of(normal.mean).saturating_add(of(normal.stddev).saturating_mul(6)));
        let uniform = drawn.uniform.map(|uniform| of(uniform.max));
        let exponential = drawn.exponential.map(|exponential| of(exponential.mean).saturating_mul(10));
        [Some(of(delay.fixed_delay)), normal, uniform, exponential].into_iter().flatten().max()
    };
    delays.filter_map(longest).max().unwrap_or_default()
}

fn walk(value: &Value, found: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| walk(value, found)),
        Value::Object(map) => {
            for (name, value) in map {
                found(name, value);
                walk(value, found);
            }
        }
        _ => {}
    }
}

fn once(names: impl Iterator<Item = String>) -> Vec<String> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for name in names {
        if seen.insert(name.clone()) {
            found.push(name);
        }
    }
    found
}
