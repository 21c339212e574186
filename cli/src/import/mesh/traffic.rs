//! How traffic to a service is carried: balancing, pools, outliers, TLS.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::services::Labels;
use super::{Authorities, Certificate, Destination, Origin, RetryBudget, hosts};
use crate::envoy::cluster::{Balancing, CircuitBreakers, OutlierDetection, Protocol};

/// What is said of traffic to a host, or to all that a pattern has.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// A full name, or a pattern with `*` in front.
    pub host: String,
    /// For all of it.
    pub policy: TrafficPolicy,
    /// In place of [`Self::policy`] on a port.
    pub ports: BTreeMap<u16, TrafficPolicy>,
    /// Its versions.
    pub subsets: Vec<Subset>,
    /// Lower ones hold in place of others: those of the proxy's own namespace, -1, before those of the service's, 0, and those
    /// of the mesh, 1.
    pub rank: i8,
    /// Where it comes from.
    pub origin: Origin,
}

/// A version of a service.
#[derive(Clone, Debug, Default)]
pub struct Subset {
    /// Its own.
    pub name: String,
    /// What its workloads have.
    pub labels: Labels,
    /// What differs from the rule's, section by section.
    pub policy: TrafficPolicy,
    /// In place of it on a port.
    pub ports: BTreeMap<u16, TrafficPolicy>,
}

/// How traffic is carried. Absent sections are not spoken of.
#[derive(Clone, Debug, Default)]
pub struct TrafficPolicy {
    /// Who is chosen.
    pub balancer: Option<Balancer>,
    /// How many connections and requests there may be.
    pub pool: Option<Pool>,
    /// When a server is left alone for a while.
    pub outliers: Option<OutlierDetection>,
    /// Below so many healthy servers, percent, all are used: Envoy's panic threshold.
    pub least_healthy: Option<u32>,
    /// TLS to the servers.
    pub tls: Option<TrafficTls>,
    /// How many requests may be tried again.
    pub retry_budget: Option<RetryBudget>,
    /// What else Envoy has for a cluster.
    pub fields: Map<String, Value>,
}

/// Who is chosen.
#[derive(Clone, Debug)]
pub struct Balancer {
    /// By which rule.
    pub kind: Balancing,
    /// What the hash is made of, as Envoy's `hash_policy` has it.
    pub hash: Option<Value>,
    /// What else Envoy has for it in a cluster.
    pub fields: Map<String, Value>,
}

/// How many connections and requests there may be.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// The limits.
    pub limits: CircuitBreakers,
    /// How long a connection may take to be made.
    pub connect_timeout: Option<Duration>,
    /// What is spoken, where that is said.
    pub protocol: Option<Protocol>,
    /// What else Envoy has for HTTP to a cluster, `common_http_protocol_options`.
    pub http: Map<String, Value>,
    /// What else Envoy has for HTTP/2 to a cluster.
    pub http2: Map<String, Value>,
    /// What else Envoy has for a cluster.
    pub fields: Map<String, Value>,
}

/// TLS to servers.
#[derive(Clone, Debug, Default)]
pub struct TrafficTls {
    /// Whether there is none.
    pub disabled: bool,
    /// The name to ask for.
    pub sni: Option<String>,
    /// The names that a certificate may have.
    pub names: Vec<String>,
    /// Whose signature it must have; `None`: the system's authorities.
    pub authorities: Option<Authorities>,
    /// What this side shows.
    pub certificate: Option<Certificate>,
    /// Whether it is Istio's own mutual TLS.
    pub mesh: bool,
    /// Where it comes from.
    pub origin: Origin,
}

impl TrafficPolicy {
    /// Lays the sections that another has over these.
    fn lay_over(&mut self, other: &TrafficPolicy) {
        macro_rules! sections {
            ($($section:ident),*) => {
                $(if other.$section.is_some() {
                    self.$section = other.$section.clone();
                })*
            };
        }
        sections!(balancer, pool, outliers, least_healthy, tls, retry_budget);
        for (name, value) in &other.fields {
            self.fields.insert(name.clone(), value.clone());
        }
    }
}

/// Rules by the hosts that they are for.
#[derive(Debug, Default)]
pub struct Rules<'m> {
    by_host: BTreeMap<&'m str, Vec<&'m Rule>>,
    patterns: Vec<&'m Rule>,
}

impl<'m> Rules<'m> {
    /// Those of a mesh.
    pub fn of(rules: &'m [Rule]) -> Self {
        let mut found = Rules::default();
        for rule in rules {
            match rule.host.starts_with('*') {
                true => found.patterns.push(rule),
                false => found.by_host.entry(&rule.host).or_default().push(rule),
            }
        }
        found
    }

    /// Those for a host.
    pub fn for_host(&self, host: &str) -> Vec<&'m Rule> {
        let own = self.by_host.get(host).into_iter().flatten();
        own.chain(self.patterns.iter().filter(|rule| hosts::has(&rule.host, host))).copied().collect()
    }
}

/// What holds for a destination, of all rules: the nearest ones', of those the most specific host's, the first of several.
pub fn policy_for(rules: &Rules<'_>, destination: &Destination) -> (TrafficPolicy, Option<Labels>) {
    let mut policy = TrafficPolicy::default();
    let mut labels = None;
    let mut best: Vec<&Rule> = rules.for_host(&destination.host);
    let nearest = best.iter().map(|rule| rule.rank).min();
    best.retain(|rule| Some(rule.rank) == nearest);
    let longest = best.iter().map(|rule| specificity(&rule.host)).max();
    best.retain(|rule| Some(specificity(&rule.host)) == longest);
    // Several rules for one host are one, as in Istio: the first says how traffic is carried, all say which subsets there are.
    if let Some(first) = best.first() {
        policy = on_port(&first.policy, &first.ports, destination.port);
    }
    let subset = destination.subset.as_ref();
    let named = best.iter().flat_map(|rule| &rule.subsets).find(|known| Some(&known.name) == subset);
    if let Some(subset) = named {
        labels = Some(subset.labels.clone());
        policy.lay_over(&subset.policy);
        if let Some(own) = destination.port.and_then(|port| subset.ports.get(&port)) {
            policy = own.clone();
        }
    }
    (policy, labels)
}

fn on_port(policy: &TrafficPolicy, ports: &BTreeMap<u16, TrafficPolicy>, port: Option<u16>) -> TrafficPolicy {
    let own = port.and_then(|port| ports.get(&port));
    own.unwrap_or(policy).clone()
}

fn specificity(host: &str) -> (bool, usize) {
    (!host.starts_with('*'), host.len())
}
