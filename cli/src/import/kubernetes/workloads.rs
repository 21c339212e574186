//! What runs: pods, and what makes them.

use std::collections::BTreeMap;

use crate::import::annotations::inbound::{BY_DEFAULT, WITH_IDENTITY};
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::Instance;
use crate::import::read::Resource;
use crate::import::scope::labels_of;

const NOT_A_PROXYS: &str = "how a workload runs is not a proxy's business";

/// A Pod: an address with labels.
pub fn pod(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let namespace = cx.namespace(resource).to_owned();
    let mut instance = Instance {
        labels: resource.value.pointer("/metadata/labels").map(labels_of).unwrap_or_default(),
        namespace: namespace.clone(),
        ..Instance::default()
    };
    let metadata = top.peek("metadata").and_then(|metadata| metadata.object_quietly());
    if let Some(metadata) = &metadata {
        metadata.rest(|_| {});
        annotations(metadata, cx.scope.may_be(&namespace, &instance.labels));
    }
    if let Some(spec) = top.field("spec") {
        instance.ports = containers(&spec);
    }
    // Of the status this alone counts; it has one entry all the same.
    let ip = resource.value.pointer("/status/podIP").and_then(serde_json::Value::as_str);
    instance.address = ip.unwrap_or_default().to_owned();
    cx.mesh.services.workloads.insert((namespace, resource.name.clone()), instance);
}

/// A namespace: labels, and who gets in where its pods do not say it.
pub fn namespace(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    if let Some(metadata) = top.peek("metadata").and_then(|metadata| metadata.object_quietly()) {
        metadata.rest(|_| {});
        annotations(&metadata, resource.name == cx.scope.namespace);
    }
    if let Some(spec) = top.field("spec") {
        spec.no_meaning_as_a_whole("it is about the removal of the namespace");
    }
}

/// What makes pods: their labels and the names of their ports are known, their addresses are not.
pub fn template(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let namespace = cx.namespace(resource).to_owned();
    let mut instance = Instance { namespace: namespace.clone(), ..Instance::default() };
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    if let Some(template) = spec.field("template").and_then(|template| template.object()) {
        if let Some(metadata) = template.field("metadata").and_then(|metadata| metadata.object()) {
            if let Some(labels) = metadata.field("labels") {
                instance.labels = labels_of(labels.value());
                labels.taken("what selectors choose it by");
            }
            if metadata.field("annotations").is_some() {
                annotations(&metadata, cx.scope.may_be(&namespace, &instance.labels));
            }
            metadata.rest(|field| field.no_meaning_as_a_whole("labels alone choose a workload"));
        }
        if let Some(spec) = template.field("spec") {
            instance.ports = containers(&spec);
        }
    }
    spec.rest(|field| field.no_meaning_as_a_whole(NOT_A_PROXYS));
    // A pod of the same name says more.
    let key = (namespace, format!("{}/{}", resource.kind, resource.name));
    cx.mesh.services.workloads.insert(key, instance);
}

/// Of a pod's annotations one says who gets in; the others are told by whoever reads its metadata, or decide nothing.
fn annotations(metadata: &Object<'_>, is_ours: bool) {
    let Some(annotations) = metadata.peek("annotations") else { return };
    let of_template = annotations.path().contains("template");
    for (name, field) in annotations.entries() {
        if name == BY_DEFAULT {
            field.taken("authorization[linkerd/default]: who gets in where no Server is");
        } else if name == WITH_IDENTITY {
            match field.value().as_str() {
                Some("") => field.no_meaning("it names no port"),
                _ if is_ours => field.forbid(
                    "it lets clients with an identity alone in at these ports",
                    "say it with a Server of the port and who may ask it, or with default-inbound-policy: all-authenticated",
                ),
                _ => field.no_meaning("it is of another workload than the proxy's"),
            }
        } else if of_template {
            field.no_meaning(NOT_A_PROXYS);
        }
    }
}

/// The named ports of a pod's containers.
fn containers(spec: &Field<'_>) -> BTreeMap<String, u16> {
    let mut named = BTreeMap::new();
    let Some(spec) = spec.object() else { return named };
    for container in spec.field("containers").into_iter().flat_map(|containers| containers.items()) {
        let Some(container) = container.object() else { continue };
        for field in container.field("ports").into_iter().flat_map(|ports| ports.items()) {
            let Some(port) = field.object() else { continue };
            let name = port.field("name").and_then(|field| {
                let name = field.text()?;
                field.left_to_envoy("which port a service's targetPort names");
                Some(name.to_owned())
            });
            let number = port.field("containerPort").and_then(|field| {
                let number = u16::try_from(field.whole(1, 65_535)?).ok()?;
                field.left_to_envoy("where a cluster's servers are");
                Some(number)
            });
            port.rest(|field| field.no_meaning_as_a_whole(NOT_A_PROXYS));
            if let (Some(name), Some(number)) = (name, number) {
                named.insert(name, number);
            }
        }
        container.rest(|field| field.no_meaning_as_a_whole(NOT_A_PROXYS));
    }
    spec.rest(|field| field.no_meaning_as_a_whole(NOT_A_PROXYS));
    named
}
