//! HTTPRoute and GRPCRoute: which Gateways take them, with which hosts, on which ports.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::GROUP;
use super::attached::names_a_listener;
use super::rules::{self, Usual, Without};
use crate::import::annotations::times::Annotated;
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::gateways::{Listener, Named, Namespaces};
use crate::import::mesh::{Destination, Entry, hosts};
use crate::import::read::Resource;
use crate::import::scope::labels_of;

/// Reads an HTTPRoute or a GRPCRoute.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    // Linkerd's way to say how long and how often.
    let annotated = Annotated::of(top, resource);
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else {
        resource.log.error("spec", "a route without a spec says nothing", "give it parentRefs and rules");
        return;
    };
    let hostnames = spec.field("hostnames");
    let named: Vec<String> = hostnames
        .as_ref()
        .map(|field| {
            field.taken("the hosts of the entries");
            field.texts().iter().map(|host| host.trim_end_matches('.').to_ascii_lowercase()).collect()
        })
        .unwrap_or_default();
    let parents = parents(&spec, &named, resource, cx);
    if let Some(field) = spec.field("useDefaultGateways") {
        field.refuse("no Gateway is the default one here", "name it in parentRefs");
    }
    if parents.groups.is_empty() && parents.services.is_empty() {
        if let Some(rules) = spec.field("rules") {
            rules.no_meaning("no parent of this route is this proxy");
        }
        return;
    }
    if !spec.has("rules") {
        resource.log.error("spec", "it has no rules: there is nothing to route", "give it spec.rules");
    }
    if let Some(field) = hostnames.filter(|_| parents.groups.is_empty()) {
        field.warn("requests of a Service are known by its own names, and by none of these", "leave it out");
    }
    of_services(&spec, parents.services, &annotated, resource, cx);
    if parents.groups.is_empty() {
        return;
    }
    let usual = Usual { without: Without::Fails, times: annotated.over(&Map::new()) };
    let entries = rules::read(&spec, resource, cx, &usual);
    for Group { ports, hosts, listeners } in &parents.groups {
        for entry in &entries {
            let mut entry = entry.clone();
            entry.hosts = hosts.iter().cloned().collect();
            if let Some(ports) = ports {
                entry.on_ports(ports);
            }
            if cx.scope.gateway.is_some() {
                redirect_port(&mut entry, ports.as_ref(), &parents.ports);
            }
            cx.mesh.gateways.of_entries.insert(cx.mesh.entries.len(), listeners.clone());
            cx.mesh.entries.push(entry);
        }
    }
}

/// The entries of a route that hangs on Services: each has its own requests, and what has no backends goes to itself.
pub fn of_services(
    spec: &Object<'_>,
    services: BTreeMap<String, Destination>,
    annotated: &Annotated,
    resource: &Resource,
    cx: &mut Context<'_>,
) {
    for (host, destination) in services {
        let times = cx.mesh.services.get(&host).map(|service| annotated.over(&service.times));
        let times = times.unwrap_or_else(|| annotated.over(&Map::new()));
        let entries = rules::read(spec, resource, cx, &Usual { without: Without::To(destination), times });
        cx.mesh.entries.extend(entries.into_iter().map(|entry| Entry { hosts: vec![host.clone()], ..entry }));
    }
}

/// Who takes a route.
#[derive(Default)]
struct Parents {
    /// Where it is, and with which hosts.
    groups: Vec<Group>,
    /// The ports of all listeners that it is on.
    ports: BTreeSet<u16>,
    /// The Services that it is for, by their hosts.
    services: BTreeMap<String, Destination>,
}

/// Hosts of a route that it has on some listeners.
#[derive(Default)]
struct Group {
    /// Their ports; `None`: all of the Gateway's.
    ports: Option<BTreeSet<u16>>,
    hosts: BTreeSet<String>,
    listeners: BTreeSet<Named>,
}

/// Who takes a route; nobody where that is not this proxy. Where nobody at all does, that is an error.
fn parents(spec: &Object<'_>, named: &[String], resource: &Resource, cx: &Context<'_>) -> Parents {
    let field = spec.field("parentRefs");
    let items = field.as_ref().map(Field::items).unwrap_or_default();
    let mut parents = Parents::default();
    let mut taken: Vec<(String, u16, Named)> = Vec::new();
    let mut all_ports = BTreeSet::new();
    let (mut reasons, mut elsewhere) = (Vec::new(), false);
    for item in &items {
        let Some(parent) = Parent::read(item, resource, cx) else { continue };
        match parent.take(named, resource, cx) {
            Taken::By(listeners) => {
                let key = (parent.namespace.clone(), parent.name.clone());
                let of_gateway = cx.mesh.gateways.listeners.get(&key).into_iter().flatten();
                all_ports.extend(of_gateway.map(|listener| listener.port));
                for (listener, hosts) in listeners {
                    let named = (parent.namespace.clone(), parent.name.clone(), listener.name.clone());
                    taken.extend(hosts.into_iter().map(|host| (host, listener.port, named.clone())));
                }
            }
            Taken::ByService(destination) => {
                parents.services.entry(destination.host.clone()).or_insert(destination);
            }
            Taken::Elsewhere => elsewhere = true,
            Taken::NotHere(reason, remedy) => {
                item.warn(format!("left out: {reason}"), remedy);
                elsewhere = true;
            }
            Taken::Not(reason) => reasons.push((item, reason)),
        }
    }
    if taken.is_empty() && parents.services.is_empty() {
        match (reasons.is_empty(), elsewhere, field) {
            (true, true, _) => {}
            (true, false, field) => {
                let remedy = "name a Gateway of the input in parentRefs";
                match field {
                    Some(field) => {
                        field.problem_here("it names no Gateway: no Gateway takes this route", remedy)
                    }
                    None => {
                        resource.log.error(
                            "spec",
                            "it has no parentRefs: no Gateway takes this route",
                            remedy,
                        );
                    }
                }
            }
            (false, _, _) => {
                for (item, (reason, remedy)) in reasons {
                    item.problem_here(format!("no Gateway takes this route by parentRefs: {reason}"), remedy);
                }
            }
        }
        return parents;
    }
    for (item, (reason, remedy)) in reasons {
        item.warn(format!("this parent does not take the route: {reason}"), remedy);
    }
    if taken.is_empty() {
        return parents;
    }
    parents.ports = taken.iter().map(|(_, port, _)| *port).collect();
    let mut by_port: BTreeMap<u16, (BTreeSet<String>, BTreeSet<Named>)> = BTreeMap::new();
    for (host, port, listener) in taken {
        // Without a Gateway everything is on one port.
        let port = if cx.scope.gateway.is_none() { 0 } else { port };
        let (hosts, listeners) = by_port.entry(port).or_default();
        hosts.insert(host);
        listeners.insert(listener);
    }
    let apart = names_a_listener(cx);
    for (port, (hosts, listeners)) in by_port {
        let known = parents.groups.iter_mut().find(|group| !apart && group.hosts == hosts);
        let group = match known {
            Some(group) => group,
            None => {
                parents.groups.push(Group { hosts, ..Group::default() });
                let Some(group) = parents.groups.last_mut() else { continue };
                group
            }
        };
        group.ports.get_or_insert_default().insert(port);
        group.listeners.extend(listeners);
    }
    parents.groups.sort_by(|a, b| (&a.hosts, &a.ports).cmp(&(&b.hosts, &b.ports)));
    for group in &mut parents.groups {
        if cx.scope.gateway.is_none() || group.ports.as_ref() == Some(&all_ports) {
            group.ports = None;
        }
    }
    parents
}

/// One `parentRef`.
struct Parent {
    group: String,
    kind: String,
    namespace: String,
    name: String,
    section: Option<String>,
    port: Option<u16>,
}

/// What becomes of a route at a parent.
enum Taken<'m> {
    /// Listeners take it, each with the hosts that both have.
    By(Vec<(&'m Listener, Vec<String>)>),
    /// It is for requests to a service.
    ByService(Destination),
    /// The parent is another proxy.
    Elsewhere,
    /// The route is for requests that do not come by this proxy: why, and what to do.
    NotHere(String, &'static str),
    /// It is not taken: why, and what to do.
    Not((String, String)),
}

impl Parent {
    fn read(item: &Field<'_>, resource: &Resource, cx: &Context<'_>) -> Option<Self> {
        const TO: &str = "who has the route";
        let object = item.object()?;
        let text = |name: &'static str| -> Option<String> {
            let field = object.field(name)?;
            let text = field.text()?;
            field.taken(TO);
            Some(text.to_owned())
        };
        let parent = Parent {
            group: text("group").unwrap_or_else(|| GROUP.to_owned()),
            kind: text("kind").unwrap_or_else(|| "Gateway".to_owned()),
            namespace: text("namespace").unwrap_or_else(|| cx.namespace(resource).to_owned()),
            name: text("name").unwrap_or_default(),
            section: text("sectionName").filter(|name| !name.is_empty()),
            port: object.field("port").and_then(|field| {
                let port = field.whole(1, 65_535)?;
                field.taken(TO);
                u16::try_from(port).ok()
            }),
        };
        Some(parent)
    }

    fn take<'m>(&self, named: &[String], resource: &Resource, cx: &'m Context<'_>) -> Taken<'m> {
        let not = |reason: String, remedy: &str| Taken::Not((reason, remedy.to_owned()));
        let Parent { namespace, name, .. } = self;
        match (self.group.as_str(), self.kind.as_str()) {
            (GROUP, "Gateway") => {}
            ("" | "core", "Service") => {
                if cx.scope.gateway.is_some() {
                    return Taken::Elsewhere;
                }
                if let Some((reason, remedy)) = cx.not_its_service(resource, namespace) {
                    return Taken::NotHere(reason, remedy);
                }
                if let Some(reason) = cx.replaced_for(resource, name, namespace) {
                    return Taken::NotHere(reason, "leave it out");
                }
                let host = hosts::of_service(name, namespace);
                let port = self.port.or_else(|| cx.mesh.services.only_port(&host));
                return Taken::ByService(Destination { host, subset: None, port });
            }
            (group, kind) => {
                return not(format!("nothing is known of {kind} of {group} as a parent"), "name a Gateway");
            }
        }
        let key = (namespace.clone(), name.clone());
        if cx.scope.gateway.as_ref().is_some_and(|gateway| *gateway != key) {
            return Taken::Elsewhere;
        }
        let Some(listeners) = cx.mesh.gateways.listeners.get(&key) else {
            return not(format!("there is no Gateway {namespace}/{name}"), "put it into the input");
        };
        let mut found: Vec<&Listener> = listeners.iter().collect();
        if let Some(section) = &self.section {
            found.retain(|listener| listener.name == *section);
            if found.is_empty() {
                let known: Vec<&str> = listeners.iter().map(|listener| listener.name.as_str()).collect();
                return not(
                    format!(
                        "{namespace}/{name} has no listener {section} that takes HTTP, but {}",
                        known.join(", ")
                    ),
                    "name one of them in sectionName",
                );
            }
        }
        if let Some(port) = self.port {
            found.retain(|listener| listener.port == port);
            if found.is_empty() {
                return not(
                    format!("{namespace}/{name} has no such listener on port {port}"),
                    "leave port out",
                );
            }
        }
        found.retain(|listener| listener.kinds.contains(&resource.kind));
        if found.is_empty() {
            return not(
                format!("{namespace}/{name} takes no {}", resource.kind),
                "name its kind in allowedRoutes.kinds",
            );
        }
        let own = cx.namespace(resource);
        found.retain(|listener| match &listener.namespaces {
            Namespaces::Same => own == namespace,
            Namespaces::All => true,
            Namespaces::Selected(selector) => selector.has(&namespace_labels(own, cx)),
        });
        if found.is_empty() {
            return not(
                format!("{namespace}/{name} takes no routes of the namespace {own}"),
                "let allowedRoutes.namespaces of a listener have it",
            );
        }
        let common = |listener: &Listener| -> Vec<String> {
            if named.is_empty() {
                return vec![listener.host.clone()];
            }
            named.iter().filter_map(|host| hosts::common(host, &listener.host)).map(str::to_owned).collect()
        };
        let taken: Vec<(&Listener, Vec<String>)> = found
            .into_iter()
            .map(|listener| (listener, common(listener)))
            .filter(|(_, hosts)| !hosts.is_empty())
            .collect();
        if taken.is_empty() {
            return not(
                format!("no listener of {namespace}/{name} has its hostnames"),
                "let hostnames be within a listener's hostname",
            );
        }
        Taken::By(taken)
    }
}

/// The labels of a namespace; its name is one of them.
fn namespace_labels(name: &str, cx: &Context<'_>) -> BTreeMap<String, String> {
    let found = cx.with(("Namespace", "name"), |resource| vec![resource.name.clone()], name);
    let labels = found.first().and_then(|resource| resource.value.pointer("/metadata/labels"));
    let mut labels = labels.map(labels_of).unwrap_or_default();
    labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
    labels
}

/// A redirect that says neither port nor scheme keeps the listener's port.
fn redirect_port(entry: &mut Entry, ports: Option<&BTreeSet<u16>>, all: &BTreeSet<u16>) {
    let Some(redirect) = entry.value.get_mut("redirect").and_then(Value::as_object_mut) else { return };
    if redirect.contains_key("port") || redirect.contains_key("derivePort") {
        return;
    }
    let ports = ports.unwrap_or(all);
    match ports.first().filter(|_| ports.len() == 1) {
        Some(port) => redirect.insert("port".to_owned(), json!(port)),
        None => redirect.insert("derivePort".to_owned(), "FROM_REQUEST_PORT".into()),
    };
}
