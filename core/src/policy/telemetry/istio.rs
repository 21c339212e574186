//! Istio's standard metrics: their names, their labels, and what these say of a request.

use std::collections::HashMap;

use super::{LabelId, LabelValues};
use crate::host::Host;
use crate::policy::{Decision, Facts};
use crate::request::{AttributeId, Request};

/// What Istio says of what it does not know.
const UNKNOWN: &str = "unknown";

/// So many principals, and clusters of Envoy's own routes, are told apart; what comes after them is `other`.
const MOST_VALUES: usize = 1000;

/// `INBOUND` of Envoy's `TrafficDirection`.
const INBOUND: i64 = 1;

/// What makes Istio's labels.
#[derive(Debug)]
pub struct Istio {
    services: HashMap<Box<str>, Service>,
    direction: AttributeId,
    mtls: AttributeId,
    peer: AttributeId,
    principals: LabelValues,
    clusters: LabelValues,
}

/// What a cluster stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The host.
    pub host: String,
    /// One of its versions; empty for none.
    pub subset: String,
}

/// The attributes that are read for every request.
#[derive(Clone, Copy, Debug)]
pub struct Attributes {
    /// Which way the listener's traffic goes.
    pub direction: AttributeId,
    /// Whether the client has shown a certificate.
    pub mtls: AttributeId,
    /// The URI in it.
    pub peer: AttributeId,
}

/// What the labels say of one request; few of them together make a set.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    inbound: bool,
    mtls: bool,
    grpc: bool,
    principal: LabelId,
    /// Of Envoy's own route, where no destination was chosen.
    cluster: LabelId,
}

impl Service {
    /// What the name of a cluster says, by Istio's pattern; any other name is the service's.
    pub fn of_cluster(name: &str) -> Self {
        let parts: Vec<&str> = name.split('|').collect();
        match parts.as_slice() {
            ["outbound" | "inbound", _, subset, host] if !host.is_empty() => {
                Service { host: (*host).to_owned(), subset: (*subset).to_owned() }
            }
            _ => Service { host: name.to_owned(), subset: String::new() },
        }
    }

    /// The service's own name and its namespace, where the host is one of Kubernetes.
    fn name_and_namespace(&self) -> (&str, Option<&str>) {
        let mut parts = self.host.splitn(3, '.');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(namespace), Some(rest)) if rest == "svc" || rest.starts_with("svc.") => {
                (name, Some(namespace))
            }
            _ => (&self.host, None),
        }
    }
}

impl Istio {
    /// With what each destination's cluster stands for.
    pub fn new(services: HashMap<Box<str>, Service>, attributes: Attributes) -> Self {
        let values = |name| LabelValues::new(name, Some(MOST_VALUES), []);
        let Attributes { direction, mtls, peer } = attributes;
        let (principals, clusters) = (values("istio.source_principal"), values("istio.destination_cluster"));
        Istio { services, direction, mtls, peer, principals, clusters }
    }

    /// What the request says of itself. One that was refused takes no place of a value.
    pub(super) fn seen(&self, request: &Request, refused: bool, host: &dyn Host) -> Seen {
        Seen {
            inbound: request.number(self.direction) == Some(INBOUND),
            mtls: request.attribute(self.mtls).and_then(<[u8]>::first).is_some_and(|byte| *byte != 0),
            grpc: request.is_grpc(),
            principal: id(&self.principals, request.attribute(self.peer), !refused, host),
            cluster: LabelId::NONE,
        }
    }

    /// What is to be said of a request that is over.
    pub(super) fn at_the_end(&self, facts: &Facts, host: &dyn Host) -> Seen {
        let seen = facts.tagged.istio.unwrap_or_default();
        // Of a request that was not sent on, the route that it would have taken says nothing.
        let own_route = facts.destination.is_none() && facts.decision == Decision::Allowed;
        let cluster = own_route.then(|| host.property(&["xds", "cluster_name"])).flatten();
        Seen { cluster: id(&self.clusters, cluster.as_deref(), true, host), ..seen }
    }

    /// All labels but the response's code, in Istio's order.
    pub(super) fn labels(&self, seen: Seen, destination: Option<&str>) -> Vec<(&'static str, Vec<u8>)> {
        let principal = match seen.principal {
            LabelId::NONE => UNKNOWN.as_bytes().to_vec(),
            id => self.principals.with_value(id, <[u8]>::to_vec),
        };
        let service = match (destination, seen.cluster) {
            (Some(cluster), _) => {
                Some(self.services.get(cluster).cloned().unwrap_or_else(|| Service::of_cluster(cluster)))
            }
            (None, LabelId::NONE) => None,
            (None, id) => {
                let name = |name: &[u8]| Service::of_cluster(&String::from_utf8_lossy(name));
                Some(self.clusters.with_value(id, name))
            }
        };
        let (name, namespace) = service.as_ref().map(Service::name_and_namespace).unwrap_or((UNKNOWN, None));
        let subset =
            service.as_ref().map(|service| service.subset.as_str()).filter(|subset| !subset.is_empty());
        let security = match (seen.inbound, seen.mtls) {
            (true, true) => "mutual_tls",
            (true, false) => "none",
            // Istio says it at the destination alone.
            (false, _) => UNKNOWN,
        };
        let text = |text: &str| text.as_bytes().to_vec();
        vec![
            ("reporter", text(if seen.inbound { "destination" } else { "source" })),
            ("source_workload", text(UNKNOWN)),
            ("source_workload_namespace", namespace_of(&principal)),
            ("source_principal", principal),
            ("destination_workload", text(UNKNOWN)),
            ("destination_workload_namespace", text(namespace.unwrap_or(UNKNOWN))),
            ("destination_version", text(subset.unwrap_or(UNKNOWN))),
            ("destination_service", text(service.as_ref().map_or(UNKNOWN, |service| &service.host))),
            ("destination_service_name", text(name)),
            ("destination_service_namespace", text(namespace.unwrap_or(UNKNOWN))),
            ("request_protocol", text(if seen.grpc { "grpc" } else { "http" })),
            ("connection_security_policy", text(security)),
        ]
    }
}

impl Seen {
    /// The numbers that tell one set of labels from another, beside the destination.
    pub fn key(self) -> [u32; 3] {
        let flags = u32::from(self.inbound) | u32::from(self.mtls) << 1 | u32::from(self.grpc) << 2;
        [flags, self.principal.number(), self.cluster.number()]
    }
}

fn id(values: &LabelValues, value: Option<&[u8]>, takes_place: bool, host: &dyn Host) -> LabelId {
    match value {
        Some(value) if !value.is_empty() => values.id(value, takes_place, host),
        _ => LabelId::NONE,
    }
}

/// The namespace in a SPIFFE id of Istio's.
fn namespace_of(principal: &[u8]) -> Vec<u8> {
    let mut parts = principal.split(|byte| *byte == b'/').skip_while(|part| *part != b"ns");
    parts.nth(1).filter(|namespace| !namespace.is_empty()).unwrap_or(UNKNOWN.as_bytes()).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_of_istios_is_its_host_and_subset() {
        for (cluster, host, subset, name, namespace) in [
            (
                "outbound|80|v3|reviews.default.svc.cluster.local",
                "reviews.default.svc.cluster.local",
                "v3",
                "reviews",
                Some("default"),
            ),
            ("inbound|9080||", "inbound|9080||", "", "inbound|9080||", None),
            ("outbound|443||api.example.com", "api.example.com", "", "api.example.com", None),
            ("webapp|v1", "webapp|v1", "", "webapp|v1", None),
            ("a.b.svc", "a.b.svc", "", "a", Some("b")),
        ] {
            let service = Service::of_cluster(cluster);
            assert_eq!((service.host.as_str(), service.subset.as_str()), (host, subset));
            assert_eq!(service.name_and_namespace(), (name, namespace), "{cluster}");
        }
    }

    #[test]
    fn the_namespace_stands_in_the_principal() {
        assert_eq!(namespace_of(b"spiffe://cluster.local/ns/default/sa/frontend"), b"default");
        for other in
            [&b"spiffe://cluster.local/frontend"[..], b"unknown", b"spiffe://td/ns", b"spiffe://td/ns//sa/a"]
        {
            assert_eq!(namespace_of(other), b"unknown");
        }
    }
}
