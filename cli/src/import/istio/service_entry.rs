//! ServiceEntry and WorkloadEntry → where hosts are.

use std::collections::BTreeMap;

use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::{Instance, Port, Service, TargetPort};
use crate::import::read::Resource;
use crate::import::scope::take_labels;

const ADDRESS: &str = "where a cluster's servers are";

/// A ServiceEntry: hosts, and who answers for them.
pub fn service_entry(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    let namespace = cx.namespace(resource).to_owned();
    let mut service = Service { namespace: namespace.clone(), dns: true, ..Service::default() };
    let mut hosts = Vec::new();
    for field in spec.field("hosts").into_iter().flat_map(|hosts| hosts.items()) {
        if let Some(host) = field.text() {
            field.left_to_envoy("the clusters of this host");
            hosts.push(cx.host(host, resource));
        }
    }
    if let Some(field) = spec.field("addresses") {
        field.no_meaning("addresses by which sidecars catch traffic; this proxy is asked itself");
    }
    for field in spec.field("ports").into_iter().flat_map(|ports| ports.items()) {
        service.ports.extend(port(&field));
    }
    for name in ["location", "exportTo"] {
        if let Some(field) = spec.field(name) {
            field.no_meaning("one proxy has no mesh that a host is in or out of");
        }
    }
    if let Some(field) = spec.field("resolution")
        && let Some(resolution) = field.text()
    {
        match resolution {
            "STATIC" | "DNS" | "DNS_ROUND_ROBIN" | "NONE" => field.left_to_envoy(ADDRESS),
            "DYNAMIC_DNS" => field.forbid(
                "which host is asked for would be the client's choice",
                "name each host in a ServiceEntry of its own",
            ),
            other => drop(field.wrong::<()>(format!("{other} is no resolution; use STATIC or DNS"))),
        }
    }
    for field in spec.field("endpoints").into_iter().flat_map(|endpoints| endpoints.items()) {
        if let Some(endpoint) = field.object() {
            service.instances.extend(instance(&endpoint, &namespace));
        }
    }
    if let Some(selector) = spec.field("workloadSelector").and_then(|selector| selector.object())
        && let Some(field) = selector.field("labels")
    {
        service.selector = take_labels(&field, "which workloads answer");
    }
    if let Some(field) = spec.field("subjectAltNames") {
        service.certificate_names = field.texts().into_iter().map(str::to_owned).collect();
        field.left_to_envoy("the names that the servers' certificates may have");
    }
    for host in hosts {
        cx.mesh.services.by_host.entry(host).or_insert_with(|| service.clone());
    }
}

fn port(field: &Field<'_>) -> Option<Port> {
    let object = field.object()?;
    let mut port = Port::default();
    if let Some(field) = object.field("number") {
        port.number = u16::try_from(field.whole(1, 65_535)?).ok()?;
        field.left_to_envoy(ADDRESS);
    }
    if let Some(field) = object.field("name") {
        port.name = field.text()?.to_owned();
        field.left_to_envoy("which port is meant");
    }
    if let Some(field) = object.field("protocol") {
        port.protocol = field.text()?.to_ascii_lowercase();
        field.left_to_envoy("what is spoken there");
    }
    if let Some(field) = object.field("targetPort") {
        port.target =
            field.whole(1, 65_535).and_then(|number| u16::try_from(number).ok()).map(TargetPort::Number);
        field.left_to_envoy(ADDRESS);
    }
    Some(port)
}

/// A WorkloadEntry: something that runs, with labels.
pub fn workload_entry(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    let namespace = cx.namespace(resource).to_owned();
    let Some(mut instance) = instance(&spec, &namespace) else { return };
    if instance.labels.is_empty() {
        let labels = resource.value.pointer("/metadata/labels");
        instance.labels = labels.map(crate::import::scope::labels_of).unwrap_or_default();
    }
    cx.mesh.services.workloads.insert((namespace, format!("WorkloadEntry/{}", resource.name)), instance);
}

fn instance(object: &Object<'_>, namespace: &str) -> Option<Instance> {
    let mut instance = Instance { namespace: namespace.to_owned(), ..Instance::default() };
    let address = object.field("address");
    if let Some(field) = object.field("ports") {
        let mut ports = BTreeMap::new();
        for (name, field) in field.entries() {
            if let Some(number) = field.whole(1, 65_535).and_then(|number| u16::try_from(number).ok()) {
                ports.insert(name.to_owned(), number);
                field.left_to_envoy(ADDRESS);
            }
        }
        instance.ports = ports;
    }
    if let Some(field) = object.field("labels") {
        instance.labels = take_labels(&field, "which subsets it is of");
    }
    if let Some(field) = object.field("weight") {
        instance.weight = field
            .whole(0, u32::MAX.into())
            .and_then(|weight| u32::try_from(weight).ok())
            .filter(|weight| *weight > 0);
        field.left_to_envoy("load_balancing_weight");
    }
    for name in ["network", "locality", "serviceAccount"] {
        if let Some(field) = object.field(name) {
            field.no_meaning("one proxy knows no networks and localities, and accounts are in certificates");
        }
    }
    let field = address?;
    let address = field.text()?;
    if address.starts_with("unix:") {
        field.forbid("a socket of this machine is no address", "say --endpoint NAME=HOST:PORT");
        return None;
    }
    field.left_to_envoy(ADDRESS);
    instance.address = address.to_owned();
    Some(instance)
}
