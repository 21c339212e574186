//! Services, and who answers for them.

use std::collections::BTreeMap;

use serde_json::Map;

use crate::import::annotations::accrual;
use crate::import::annotations::times::Annotated;
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::hosts::of_service;
use crate::import::mesh::{Instance, Port, Service, TargetPort};
use crate::import::read::Resource;
use crate::import::scope::take_labels;

const ADDRESS: &str = "where a cluster's servers are";

/// The label that says whose an EndpointSlice is.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A Service: its ports, and the labels of those that answer.
pub fn service(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let namespace = cx.namespace(resource).to_owned();
    let mut service = Service { namespace: namespace.clone(), dns: true, ..Service::default() };
    service.times = Annotated::of(top, resource).over(&Map::new());
    service.outliers = accrual::of(top);
    if let Some(spec) = top.field("spec").and_then(|spec| spec.object()) {
        for field in spec.field("ports").into_iter().flat_map(|ports| ports.items()) {
            service.ports.extend(port(&field));
        }
        if let Some(field) = spec.field("selector") {
            service.selector = take_labels(&field, "which workloads answer");
        }
        if let Some(field) = spec.field("externalName")
            && let Some(name) = field.text()
        {
            field.left_to_envoy(ADDRESS);
            service.external_name = Some(name.to_owned());
        }
        spec.rest(|field| {
            field.no_meaning_as_a_whole("how Kubernetes makes its addresses is not a proxy's business")
        });
    }
    cx.mesh.services.by_host.entry(of_service(&resource.name, &namespace)).or_insert(service);
}

fn port(field: &Field<'_>) -> Option<Port> {
    let object = field.object()?;
    let mut port = Port::default();
    if let Some(field) = object.field("port") {
        port.number = number(&field)?;
    }
    if let Some(field) = object.field("name")
        && let Some(name) = field.text()
    {
        field.left_to_envoy("which port is meant, and what is spoken there");
        port.name = name.to_owned();
        port.protocol = name.split('-').next().unwrap_or_default().to_ascii_lowercase();
    }
    if let Some(field) = object.field("appProtocol")
        && let Some(protocol) = field.text()
    {
        field.left_to_envoy("what is spoken there");
        port.protocol = protocol.to_ascii_lowercase();
    }
    if let Some(field) = object.field("targetPort") {
        port.target = match field.value().as_str() {
            Some(name) => match name.parse() {
                Ok(number) => Some(TargetPort::Number(number)),
                Err(_) => Some(TargetPort::Name(name.to_owned())),
            },
            None => number(&field).map(TargetPort::Number),
        };
        if port.target.is_some() {
            field.left_to_envoy(ADDRESS);
        }
    }
    if let Some(field) = object.field("protocol") {
        field.no_meaning("HTTP goes over TCP");
    }
    if let Some(field) = object.field("nodePort") {
        field.no_meaning("it is a port of Kubernetes' nodes");
    }
    Some(port)
}

fn number(field: &Field<'_>) -> Option<u16> {
    let number = field.whole(1, 65_535)?;
    field.left_to_envoy(ADDRESS);
    u16::try_from(number).ok()
}

/// Endpoints: addresses of the service of the same name.
pub fn endpoints(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let host = of_service(&resource.name, cx.namespace(resource));
    let mut found = Vec::new();
    for subset in top.field("subsets").into_iter().flat_map(|subsets| subsets.items()) {
        let Some(subset) = subset.object() else { continue };
        let ports = ports(&subset);
        for address in subset.field("addresses").into_iter().flat_map(|addresses| addresses.items()) {
            let Some(address) = address.object() else { continue };
            let Some(at) = address.field("ip") else { continue };
            let Some(ip) = at.text() else { continue };
            at.left_to_envoy(ADDRESS);
            let mut instance =
                Instance { address: ip.to_owned(), ports: ports.clone(), ..Instance::default() };
            of_pod(&address, resource, cx, &mut instance);
            address.rest(|field| field.no_meaning_as_a_whole("the address says where it is"));
            found.push(instance);
        }
        if let Some(field) = subset.field("notReadyAddresses") {
            field.no_meaning_as_a_whole("who is not ready gets no requests");
        }
    }
    cx.mesh.services.endpoints.entry(host).or_default().extend(found);
}

/// An EndpointSlice: addresses of the service that its label names.
pub fn endpoint_slice(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let label = resource.value.pointer("/metadata/labels").and_then(|labels| labels.get(SERVICE_NAME));
    let Some(service) = label.and_then(serde_json::Value::as_str) else {
        resource.log.error(
            "metadata.labels",
            format!("the label {SERVICE_NAME} is missing, which says whose addresses these are"),
            "add it",
        );
        top.rest(|field| field.no_meaning_as_a_whole("nobody knows whose these are"));
        return;
    };
    let host = of_service(service, cx.namespace(resource));
    let ports = ports(top);
    let mut found = Vec::new();
    for endpoint in top.field("endpoints").into_iter().flat_map(|endpoints| endpoints.items()) {
        let Some(endpoint) = endpoint.object() else { continue };
        let conditions = endpoint.field("conditions");
        let ready = conditions.as_ref().and_then(|conditions| conditions.value().get("ready")?.as_bool());
        if let Some(conditions) = conditions {
            conditions.left_to_envoy("whether it gets requests");
        }
        let mut instance = Instance { ports: ports.clone(), ..Instance::default() };
        of_pod(&endpoint, resource, cx, &mut instance);
        // Of several addresses the first is as good as any other.
        for (index, address) in
            endpoint.field("addresses").into_iter().flat_map(|addresses| addresses.items()).enumerate()
        {
            let Some(text) = address.text() else { continue };
            if index > 0 || ready == Some(false) {
                address.no_meaning("it is another address of the same, or of one that is not ready");
                continue;
            }
            address.left_to_envoy(ADDRESS);
            instance.address = text.to_owned();
        }
        if !instance.address.is_empty() {
            found.push(instance);
        }
        endpoint.rest(|field| field.no_meaning_as_a_whole("the address says where it is"));
    }
    if let Some(field) = top.field("addressType") {
        field.no_meaning("the addresses say it");
    }
    cx.mesh.services.endpoints.entry(host).or_default().extend(found);
}

fn ports(object: &Object<'_>) -> BTreeMap<String, u16> {
    let mut ports = BTreeMap::new();
    for field in object.field("ports").into_iter().flat_map(|ports| ports.items()) {
        let Some(port) = field.object() else { continue };
        let name = port.field("name").and_then(|field| {
            let name = field.text()?;
            field.left_to_envoy("which port of the service it is");
            Some(name.to_owned())
        });
        if let Some(number) = port.field("port").and_then(|field| number(&field)) {
            ports.insert(name.unwrap_or_default(), number);
        }
        for name in ["protocol", "appProtocol"] {
            if let Some(field) = port.field(name) {
                field.no_meaning("the service's port says it");
            }
        }
    }
    ports
}

/// The labels of the pod that an address is.
fn of_pod(object: &Object<'_>, resource: &Resource, cx: &Context<'_>, instance: &mut Instance) {
    let Some(target) = object.field("targetRef") else { return };
    let text = |name: &str| target.value().get(name).and_then(serde_json::Value::as_str);
    let namespace = text("namespace").unwrap_or_else(|| cx.namespace(resource));
    if text("kind") == Some("Pod")
        && let Some(name) = text("name")
    {
        let pod = cx.mesh.services.workloads.get(&(namespace.to_owned(), name.to_owned()));
        instance.labels = pod.map(|pod| pod.labels.clone()).unwrap_or_default();
    }
    target.left_to_envoy("whose labels it has");
}
