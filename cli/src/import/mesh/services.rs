//! What there is: services, what answers for them, and on which ports.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::hosts;
use crate::envoy::Address;
use crate::envoy::cluster::OutlierDetection;

/// Labels of a workload, or those that a selector asks for.
pub type Labels = BTreeMap<String, String>;

/// All services, and what runs.
#[derive(Clone, Debug, Default)]
pub struct Services {
    /// By their full names; the first that says a host has it.
    pub by_host: BTreeMap<String, Service>,
    /// Pods and other workloads, by namespace and name.
    pub workloads: BTreeMap<(String, String), Instance>,
    /// Addresses of a service that `Endpoints` and `EndpointSlice` have, by its full name.
    pub endpoints: BTreeMap<String, Vec<Instance>>,
}

/// One service.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// Where it is.
    pub namespace: String,
    /// Its ports.
    pub ports: Vec<Port>,
    /// The workloads that answer for it; empty: none are chosen by labels.
    pub selector: Labels,
    /// Who answers, where it says that itself.
    pub instances: Vec<Instance>,
    /// Whether its name is asked for in DNS.
    pub dns: bool,
    /// The name to ask for in place of its own: an external name.
    pub external_name: Option<String>,
    /// The names that its certificate may have.
    pub certificate_names: Vec<String>,
    /// `retries` and `timeout` of its requests in the policy's words, where no route says others.
    pub times: Map<String, Value>,
    /// When one of those that answer is left alone, where no rule says it.
    pub outliers: Option<OutlierDetection>,
}

/// A port of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// The service's.
    pub number: u16,
    /// Its name; may be empty.
    pub name: String,
    /// What its name, `appProtocol` or `protocol` says of what is spoken: `http`, `http2`, `grpc`, `https`, `tls`, `tcp`.
    pub protocol: String,
    /// The workload's.
    pub target: Option<TargetPort>,
}

/// A port of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// By its number.
    Number(u16),
    /// By the name that the workload has for it.
    Name(String),
}

/// Something that answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// An address or a name; empty where it is not known.
    pub address: String,
    /// Its labels.
    pub labels: Labels,
    /// Its ports by their names; a service's port that has none of these has its own number.
    pub ports: BTreeMap<String, u16>,
    /// Its part of the load.
    pub weight: Option<u32>,
    /// Where it runs.
    pub namespace: String,
}

impl Services {
    /// What is said of a host.
    pub fn get(&self, host: &str) -> Option<&Service> {
        self.by_host.get(host)
    }

    /// The port of a service that is meant where none is named: its only one.
    pub fn only_port(&self, host: &str) -> Option<u16> {
        match self.get(host)?.ports.as_slice() {
            [one] => Some(one.number),
            _ => None,
        }
    }

    /// Who answers at a port of a host: those that have these labels. Empty where nothing is known.
    pub fn answering(&self, host: &str, port: Option<u16>, labels: &Labels) -> Vec<(Address, Option<u32>)> {
        let Some(service) = self.get(host) else {
            return self.named(host, port, None, labels);
        };
        let wanted = port.and_then(|port| service.ports.iter().find(|known| known.number == port));
        let wanted = wanted.or_else(|| service.ports.first().filter(|_| port.is_none()));
        self.named(host, port, wanted, labels)
    }

    fn named(
        &self,
        host: &str,
        port: Option<u16>,
        wanted: Option<&Port>,
        labels: &Labels,
    ) -> Vec<(Address, Option<u32>)> {
        let service = self.get(host);
        let own = service.map(|service| service.instances.as_slice()).unwrap_or_default();
        let listed = self.endpoints.get(host).map(Vec::as_slice).unwrap_or_default();
        let mut found: Vec<&Instance> = own.iter().chain(listed).collect();
        if found.is_empty()
            && let Some(service) = service.filter(|service| !service.selector.is_empty())
        {
            let here = |instance: &&Instance| {
                instance.namespace == service.namespace
                    && !instance.address.is_empty()
                    && selects(&service.selector, &instance.labels)
            };
            found.extend(self.workloads.values().filter(here));
        }
        let mut addresses = BTreeSet::new();
        let address = |instance: &&Instance| {
            let number = number(instance, wanted, port)?;
            Some((Address::new(&instance.address, number), instance.weight))
        };
        let fits = |instance: &&Instance| !instance.address.is_empty() && selects(labels, &instance.labels);
        let answers = found.iter().copied().filter(|instance| fits(instance)).filter_map(|one| address(&one));
        answers.filter(|(address, _)| addresses.insert(address.clone())).collect()
    }

    /// The names by which hosts of services are known, with their namespaces.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.by_host.keys().filter_map(|host| hosts::parts(host)).map(|(_, of)| of.to_owned()).collect()
    }
}

/// The port of an instance.
fn number(instance: &Instance, wanted: Option<&Port>, port: Option<u16>) -> Option<u16> {
    let Some(wanted) = wanted else {
        let only = instance.ports.values().next().copied().filter(|_| instance.ports.len() == 1);
        return port.or(only);
    };
    if let Some(number) = instance.ports.get(&wanted.name) {
        return Some(*number);
    }
    match &wanted.target {
        Some(TargetPort::Number(number)) => Some(*number),
        Some(TargetPort::Name(name)) => instance.ports.get(name).copied(),
        None => Some(wanted.number),
    }
}

/// Whether labels have all that a selector asks for.
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}
