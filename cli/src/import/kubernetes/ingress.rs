//! Ingress → entries: exact paths before prefixes, longer prefixes before shorter ones, as Kubernetes has it.

use serde_json::{Map, Value, json};

use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::hosts::of_service;
use crate::import::mesh::{Destination, Entry};
use crate::import::read::Resource;

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    if let Some(field) = spec.field("ingressClassName") {
        field.no_meaning("it says which program makes this, and this one is made by import");
    }
    if let Some(field) = spec.field("tls") {
        field.refuse(
            "an Ingress opens no listener with TLS here: everything is on --listen",
            "use a Gateway with --gateway, or --certificates for the listener of a mesh",
        );
    }
    let prefix = if resource.name.is_empty() { "ingress" } else { &resource.name };
    let mut entries = Vec::new();
    // The second name is that of the oldest form.
    let (default, oldest) = (spec.field("defaultBackend"), spec.field("backend"));
    if let Some(field) = default.or(oldest)
        && let Some(to) =
            backend(&field, &format!("http[{prefix}/default].route[0].destination"), resource, cx)
    {
        let origin = cx.origin(resource, field.path());
        let value = route(to, Map::new());
        let (name, hosts) = (format!("{prefix}/default"), vec!["*".to_owned()]);
        entries.push(Entry { name, hosts, precedence: vec![3], value, origin });
    }
    for (index, item) in spec.field("rules").into_iter().flat_map(|rules| rules.items()).enumerate() {
        let Some(rule) = item.object() else { continue };
        let mut host = "*".to_owned();
        if let Some(field) = rule.field("host")
            && let Some(text) = field.text()
        {
            field.taken("the hosts of its entries");
            if !text.is_empty() {
                host = text.trim_end_matches('.').to_ascii_lowercase();
            }
        }
        let paths = rule.field("http").and_then(|http| http.object()).and_then(|http| http.field("paths"));
        for (place, item) in paths.into_iter().flat_map(|paths| paths.items()).enumerate() {
            let name = format!("{prefix}/{index}-{place}");
            let Some((value, precedence)) = path(&item, &name, resource, cx) else { continue };
            let origin = cx.origin(resource, format!("spec.rules[{index}].http.paths[{place}]"));
            entries.push(Entry { name, hosts: vec![host.clone()], precedence, value, origin });
        }
    }
    if cx.scope.gateway.is_some() {
        resource.log.warn(
            "",
            "an Ingress is of no Gateway: with --gateway it is left out",
            "leave --gateway out",
        );
        return;
    }
    cx.mesh.entries.extend(entries);
}

fn path(
    item: &Field<'_>,
    name: &str,
    resource: &Resource,
    cx: &Context<'_>,
) -> Option<(Map<String, Value>, Vec<i64>)> {
    let object = item.object()?;
    let to = format!("http[{name}]");
    let path = object.field("path").and_then(|field| {
        let path = field.text()?;
        field.taken(format!("{to}.match[0].uri"));
        Some(path)
    });
    let kind = object.field("pathType").and_then(|field| {
        let kind = field.text()?;
        match kind {
            "Exact" | "Prefix" => field.taken(format!("{to}.match[0].uri")),
            "ImplementationSpecific" => {
                field.taken(format!("{to}.match[0].uri: as Prefix"));
            }
            other => {
                return field.wrong(format!("\"{other}\" is not known; use Exact or Prefix"));
            }
        }
        Some(kind)
    });
    let backend = match object.field("backend") {
        Some(field) => backend(&field, &format!("{to}.route[0].destination"), resource, cx),
        None => {
            item.problem_here("it has no backend", "give it backend.service");
            None
        }
    };
    let path = path.filter(|path| !path.is_empty()).unwrap_or("/");
    let (member, rank, length) = match kind {
        Some("Exact") => ("exact", 0, path.len()),
        _ => ("pathPrefix", 1, path.trim_end_matches('/').len()),
    };
    let mut value = Map::new();
    value.insert("match".to_owned(), json!([{"uri": {member: path}}]));
    let length = i64::try_from(length).unwrap_or(i64::MAX).saturating_neg();
    Some((route(backend?, value), vec![rank, length]))
}

fn route(to: Destination, mut value: Map<String, Value>) -> Map<String, Value> {
    value.insert("route".to_owned(), json!([{ "destination": to.value() }]));
    value
}

fn backend(field: &Field<'_>, to: &str, resource: &Resource, cx: &Context<'_>) -> Option<Destination> {
    let object = field.object()?;
    if let Some(field) = object.field("resource") {
        field.forbid("nothing but a Service answers requests here", "use service");
    }
    // The oldest form.
    let old = (object.field("serviceName"), object.field("servicePort"));
    let service = object.field("service").and_then(|service| service.object());
    let (name, port) = match &service {
        Some(service) => {
            let port = service.field("port").and_then(|port| port.object());
            let port = port.and_then(|port| {
                let name = port.field("name");
                port.field("number").or(name)
            });
            (service.field("name"), port)
        }
        None => old,
    };
    let Some(named) = name else {
        if !object.has("resource") {
            field.problem_here("it has no service", "give it service.name and service.port");
        }
        return None;
    };
    let name = named.text()?;
    named.taken(format!("{to}.host"));
    let host = of_service(name, cx.namespace(resource));
    let known = cx.mesh.services.get(&host);
    let port = match port {
        Some(field) => {
            let number = match field.value().as_str() {
                Some(text) => {
                    let by_name =
                        known.and_then(|service| service.ports.iter().find(|port| port.name == text));
                    let number = by_name.map(|port| port.number).or_else(|| text.parse().ok());
                    if number.is_none() {
                        field.forbid(
                            format!("which number the port {text} has is not known"),
                            "put the Service into the input, or use a number",
                        );
                        return None;
                    }
                    number
                }
                None => u16::try_from(field.whole(1, 65_535)?).ok(),
            };
            field.taken(format!("{to}.port"));
            number
        }
        None => cx.mesh.services.only_port(&host),
    };
    Some(Destination { host, subset: None, port })
}

/// An IngressClass.
pub fn class(top: &Object<'_>, _: &Resource, _: &mut Context<'_>) {
    if let Some(spec) = top.field("spec") {
        spec.no_meaning("it says which program serves an Ingress");
    }
}
