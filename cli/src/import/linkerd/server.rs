//! Server, and who may ask it: AuthorizationPolicy, ServerAuthorization → `authorization`. Where a Server is, nobody gets in
//! whom none of them lets in.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::identity::{self, Source};
use super::{is_ours, settings};
use crate::import::annotations::inbound;
use crate::import::context::{Context, SAY_PORT};
use crate::import::dialect::no_hint;
use crate::import::field::{Field, Object, Reading};
use crate::import::gateway::matches;
use crate::import::istio::CONFIG_MAP;
use crate::import::mesh::matching::{self, Match};
use crate::import::mesh::{TargetPort, put};
use crate::import::read::Resource;
use crate::import::scope::{Audience, Fit, labels_of, misspelt, selector_of, take_labels};

/// Under this name it is kept which Server the proxy is.
const SERVER: &str = "linkerd.server";

/// Whom a Server is for.
pub const SELECTED: Audience = Audience::Workloads("/spec/podSelector/matchLabels");

/// Whether a policy is for the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// It is.
    Us,
    /// It is for another Server.
    Others,
    /// It is not clear which Server the proxy is; that was said.
    Unknown,
}

/// The name of the Server that the proxy is, in its namespace: the one that selects it by labels and port; where the input has
/// none, the only one that policies name.
fn own(resource: &Resource, cx: &mut Context<'_>) -> Result<Option<String>, ()> {
    if let Some(known) = cx.mesh.found.get(SERVER) {
        return match known {
            Value::String(name) => Ok(Some(name.clone())),
            Value::Bool(_) => Err(()),
            _ => Ok(None),
        };
    }
    let found = find(cx);
    let (value, found) = match found {
        Ok(name) => (json!(name), Ok(name)),
        Err(message) => {
            resource.log.error("", message, "");
            (json!(false), Err(()))
        }
    };
    cx.mesh.found.insert(SERVER, value);
    found
}

fn find(cx: &Context<'_>) -> Result<Option<String>, String> {
    let here = |resource: &&Resource| is_ours(resource) && cx.namespace(resource) == cx.scope.namespace;
    let servers: Vec<&Resource> = cx.all("Server").filter(here).collect();
    let kinds =
        ["AuthorizationPolicy", "HTTPLocalRateLimitPolicy", "ServerAuthorization", "HTTPRoute", "GRPCRoute"];
    let policies = kinds.into_iter().flat_map(|kind| cx.all(kind));
    let policies = policies.filter(|resource| cx.namespace(resource) == cx.scope.namespace);
    let absent: BTreeSet<&str> = policies
        .flat_map(named)
        .filter(|name| cx.find("Server", &cx.scope.namespace, name).is_none())
        .collect();
    let absent: Vec<&str> = absent.into_iter().collect();
    if servers.is_empty() {
        return match absent.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some((*one).to_owned())),
            several => Err(format!(
                "there are policies for several Servers, and the input has none of them: {}; put the Server into the input \
                 that the proxy is, and say which with --labels and --listen",
                several.join(", ")
            )),
        };
    }
    let fits: Vec<&Resource> = servers.into_iter().filter(|server| selected(server, cx)).collect();
    if fits.is_empty() && !absent.is_empty() {
        return Err(format!(
            "no Server of the input is for the proxy, and there are policies for others, which it may be: {}; put them into the \
             input, or leave their policies out",
            absent.join(", ")
        ));
    }
    let list = || {
        let each = |server: &&Resource| {
            format!("{} (port {})", server.name, written(server.value.pointer("/spec/port")))
        };
        fits.iter().map(each).collect::<Vec<_>>().join(", ")
    };
    let Some(own) = cx.scope.port else {
        return match fits.as_slice() {
            [] => Ok(None),
            [one] if is_elsewhere(&port(one, cx), cx) => Err(format!(
                "the Server {} is for a port to which no Service of the workload leads; {SAY_PORT}",
                list()
            )),
            [one] => Ok(Some(one.name.clone())),
            _ => Err(format!(
                "there are several Servers, and the proxy is one of them: {}; say which with --labels, or {SAY_PORT}",
                list()
            )),
        };
    };
    let targets = cx.targets(own);
    let leads_to = |server: &&&Resource| {
        let port = port(server, cx);
        targets.iter().any(|target| match target {
            TargetPort::Number(number) => port.contains(number),
            TargetPort::Name(name) => server.value.pointer("/spec/port").is_some_and(|port| port == name),
        })
    };
    let mut found: Vec<&&Resource> = fits.iter().filter(|server| port(server, cx).contains(&own)).collect();
    if found.is_empty() {
        found = fits.iter().filter(leads_to).collect();
    }
    match (found.as_slice(), fits.as_slice()) {
        (_, []) => Ok(None),
        ([one], _) => Ok(Some(one.name.clone())),
        // Which number the port has is not known: nobody says that it is another.
        ([], [one]) if port(one, cx).is_empty() => Ok(Some(one.name.clone())),
        // It is a port of the workload, and no Server's.
        ([], several)
            if absent.is_empty()
                && cx.own_ports().contains(&own)
                && several.iter().all(|server| !port(server, cx).is_empty()) =>
        {
            Ok(None)
        }
        _ => {
            let names = fits.iter().any(|server| port(server, cx).is_empty());
            let names = match names {
                true => "; which number a named port has, a Pod or a Deployment in the input says",
                false => "",
            };
            Err(format!(
                "the port of --listen is {own}, and the Servers are {}; {SAY_PORT}; or leave them out, if the proxy is none of \
                 them{names}",
                list()
            ))
        }
    }
}

/// Whether Services lead to the workload, and none of them to one of these ports.
fn is_elsewhere(ports: &BTreeSet<u16>, cx: &Context<'_>) -> bool {
    let own = cx.own_ports();
    !ports.is_empty() && !own.is_empty() && own.is_disjoint(ports)
}

fn written(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "none".to_owned(),
    }
}

/// The Servers that a policy names.
fn named(resource: &Resource) -> Vec<&str> {
    let target = resource.value.pointer("/spec/targetRef").into_iter();
    let parents = resource.value.pointer("/spec/parentRefs").and_then(Value::as_array).into_iter().flatten();
    let is_server = |target: &&Value| target.get("kind").and_then(Value::as_str) == Some("Server");
    let named = target.chain(parents).filter(is_server).filter_map(|target| target.get("name")?.as_str());
    let server = resource.value.pointer("/spec/server/name").and_then(Value::as_str);
    named.chain(server).collect()
}

/// Whether a resource names a Server.
pub fn names_one(resource: &Resource) -> bool {
    !named(resource).is_empty()
}

/// Whether a Server's selector has the proxy's labels, where those are known.
fn selected(server: &Resource, cx: &Context<'_>) -> bool {
    if cx.scope.labels.is_none() {
        return true;
    }
    let selector = server.value.pointer("/spec/podSelector").map(selector_of);
    // What is not known was told: it holds.
    selector.is_some_and(|selector| cx.scope.fit(&selector) != Fit::No)
}

/// The numbers of a Server's port; a name is that of a port of the workloads that it selects, and may be known of none.
fn port(server: &Resource, cx: &Context<'_>) -> BTreeSet<u16> {
    let Some(port) = server.value.pointer("/spec/port") else { return BTreeSet::new() };
    let number = port.as_u64().and_then(|number| u16::try_from(number).ok());
    let name = port.as_str().unwrap_or_default();
    if let Some(number) = number.or_else(|| name.parse().ok()) {
        return BTreeSet::from([number]);
    }
    let selector = server.value.pointer("/spec/podSelector/matchLabels").map(labels_of);
    cx.named_port(name, cx.scope.labels.as_ref().or(selector.as_ref()))
}

/// What an access policy may be.
const KNOWN: [&str; 6] = [
    "deny",
    "audit",
    "all-authenticated",
    "all-unauthenticated",
    "cluster-authenticated",
    "cluster-unauthenticated",
];

/// Whom an access policy lets in.
fn of_access(access: &str, cx: &Context<'_>) -> Vec<Source> {
    let cluster = || identity::source("ipBlocks", settings::networks(cx));
    let anybody = || identity::account("*".to_owned());
    match access {
        "all-unauthenticated" => vec![Source::new()],
        "all-authenticated" => vec![anybody()],
        "cluster-unauthenticated" => vec![cluster()],
        "cluster-authenticated" => {
            let mut both = cluster();
            both.extend(anybody());
            vec![both]
        }
        _ => Vec::new(),
    }
}

/// What annotations of the workloads that the proxy may be say of who gets in, and who says it: as the pod does, or its
/// namespace.
fn annotated(cx: &Context<'_>) -> Vec<Option<(String, usize)>> {
    if cx.scope.gateway.is_some() {
        return Vec::new();
    }
    let of_namespace = cx
        .all("Namespace")
        .filter(|namespace| namespace.name == cx.scope.namespace)
        .find_map(|namespace| Some((inbound::said(namespace, "/metadata/annotations")?, namespace.index)));
    let kinds = ["Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"];
    let workloads = kinds.into_iter().flat_map(|kind| cx.all(kind)).filter_map(|workload| {
        let at = if workload.kind == "Pod" { "/metadata" } else { "/spec/template/metadata" };
        let labels = workload.value.pointer(&format!("{at}/labels")).map(labels_of).unwrap_or_default();
        let ours = cx.scope.may_be(cx.namespace(workload), &labels);
        let said = inbound::said(workload, &format!("{at}/annotations")).map(|said| (said, workload.index));
        ours.then(|| said.or_else(|| of_namespace.clone()))
    });
    let mut found: Vec<Option<(String, usize)>> = workloads.collect();
    if found.is_empty() {
        found.push(of_namespace);
    }
    found
}

/// Who gets in at a port that no Server has.
pub fn by_default(cx: &mut Context<'_>) {
    let installed = settings::access(cx);
    let found: Vec<_> = annotated(cx).into_iter().map(|said| said.or_else(|| installed.clone())).collect();
    let Some((first, index)) = found.iter().flatten().next().cloned() else { return };
    let Some(resource) = cx.resources.get(index) else { return };
    // Where a Server is, that says it.
    if !matches!(own(resource, cx), Ok(None)) {
        return;
    }
    let name = match resource.kind == CONFIG_MAP {
        true => "proxy.defaultInboundPolicy",
        false => inbound::BY_DEFAULT,
    };
    if found.iter().any(|other| other.as_ref().map(|(said, _)| said) != Some(&first)) {
        resource.log.error(
            "",
            format!("not all workloads that the proxy may be have the same {name}"),
            "say which with --labels",
        );
        return;
    }
    if !KNOWN.contains(&first.as_str()) {
        let known = KNOWN.join(", ");
        resource.log.error("", format!("{name}: {first} is no access policy; use one of {known}"), "");
        return;
    }
    if first != "all-unauthenticated" {
        let sources = of_access(&first, cx);
        allow("linkerd/default", sources, None, None, resource, cx);
        if first == "audit"
            && let Some((policy, _)) = cx.mesh.authorization.last_mut()
        {
            put(policy, "mode", "shadow");
        }
    }
}

/// Reads a Server.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let ours = match own(resource, cx) {
        Ok(name) => name.as_deref() == Some(resource.name.as_str()),
        Err(()) => false,
    };
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else {
        resource.log.error("spec", "a Server without a spec is for nobody", "give it podSelector and port");
        return;
    };
    for (path, message, remedy) in misspelt(resource, SELECTED) {
        resource.log.error(&path, message, remedy);
    }
    for name in ["podSelector", "externalWorkloadSelector", "port"] {
        if let Some(field) = spec.field(name) {
            match ours {
                true => field.taken("the proxy that is meant"),
                false => field.no_meaning("it is for another workload or port than the proxy's"),
            }
        }
    }
    if let Some(field) = spec.field("proxyProtocol")
        && let Some(protocol) = field.text()
    {
        match protocol {
            "unknown" | "HTTP/1" | "HTTP/2" | "gRPC" => {
                field.left_to_envoy("the listener takes HTTP/1 and HTTP/2, and with that gRPC");
            }
            "opaque" | "TLS" if ours => field.forbid(
                format!("{protocol} has no requests, and the module decides about requests"),
                "use Envoy's tcp_proxy and network rbac filters for it, or HTTP/1 or HTTP/2 here",
            ),
            "opaque" | "TLS" => field.no_meaning("it is for another workload or port than the proxy's"),
            _ => drop(field.wrong::<()>(format!("{protocol} is no protocol; use HTTP/1, HTTP/2 or gRPC"))),
        }
    }
    let access = spec.field("accessPolicy").and_then(|field| {
        let access = field.text()?;
        match KNOWN.contains(&access) {
            true => {
                field.taken(format!("authorization[server/{}]: whom no other policy lets in", resource.name))
            }
            false => {
                return field.wrong(format!("{access} is no access policy; use one of {}", KNOWN.join(", ")));
            }
        }
        Some(access)
    });
    if !ours {
        return;
    }
    let sources = of_access(access.unwrap_or("deny"), cx);
    let name = format!("server/{}", resource.name);
    allow(&name, sources, Some(&resource.name), None, resource, cx);
}

/// Writes an ALLOW policy: who, and for a route what.
fn allow(
    name: &str,
    sources: Vec<Source>,
    server: Option<&str>,
    route: Option<&Resource>,
    resource: &Resource,
    cx: &mut Context<'_>,
) {
    let routes = server.map(|server| routes_of(server, cx)).unwrap_or_default();
    let mut own = Vec::new();
    let mut others = Vec::new();
    for (other, matches) in routes {
        match route {
            Some(route) if other.index != route.index => others.extend(matches),
            _ => own.extend(matches),
        }
    }
    // A Server without routes has every request; one with routes those alone that its routes have.
    if own.is_empty() {
        own.push(Match::default());
    }
    let operations = match matching::operations(&own, &others) {
        Ok(operations) => operations,
        Err(error) => {
            resource.log.error("spec", error, "");
            return;
        }
    };
    let mut rules = Vec::new();
    for source in &sources {
        for (operation, when) in &operations {
            let mut rule = Map::new();
            if !source.is_empty() {
                rule.insert("from".to_owned(), json!([{ "source": source }]));
            }
            if !operation.is_empty() {
                rule.insert("to".to_owned(), json!([{ "operation": operation }]));
            }
            if !when.is_empty() {
                rule.insert("when".to_owned(), json!(when));
            }
            rules.push(Value::Object(rule));
        }
    }
    let taken = |name: &str| {
        cx.mesh.authorization.iter().any(|(policy, _)| policy.get("name").is_some_and(|known| known == name))
    };
    let name = if taken(name) { format!("{}/{name}", resource.kind) } else { name.to_owned() };
    let mut policy = json!({"name": name, "action": "ALLOW"});
    if server.is_some_and(|server| audits(server, cx)) {
        put(&mut policy, "mode", "shadow");
    }
    if !rules.is_empty() {
        put(&mut policy, "rules", rules);
    }
    cx.mesh.authorization.push((policy, cx.origin(resource, "spec")));
}

/// Whether a Server only says whom it would not let in.
fn audits(server: &str, cx: &Context<'_>) -> bool {
    let server = cx.find("Server", &cx.scope.namespace, server);
    server.and_then(|server| server.value.pointer("/spec/accessPolicy")) == Some(&json!("audit"))
}

/// The routes of a Server with their matches.
fn routes_of<'a>(server: &str, cx: &Context<'a>) -> Vec<(&'a Resource, Vec<Match>)> {
    let routes = cx.all("HTTPRoute").chain(cx.all("GRPCRoute"));
    let of_server =
        |route: &&Resource| cx.namespace(route) == cx.scope.namespace && named(route).contains(&server);
    routes.filter(of_server).map(|route| (route, matches_of(route))).collect()
}

/// What a route without rules has, behind all others.
fn everything() -> Match {
    Match { precedence: vec![i64::MAX], ..Match::default() }
}

fn matches_of(route: &Resource) -> Vec<Match> {
    let read = route.log.silently(|| {
        let reading = Reading { log: &route.log, hint: no_hint };
        let top = Field::root(&route.value, reading).object()?;
        top.rest(|_| {});
        let spec = top.peek("spec")?.object()?;
        spec.rest(|_| {});
        let hosts: Vec<String> = spec
            .peek("hostnames")
            .map(|field| field.texts())
            .unwrap_or_default()
            .iter()
            .map(|host| host.trim_end_matches('.').to_ascii_lowercase())
            .collect();
        let mut found = Vec::new();
        for (index, rule) in
            spec.peek("rules").map(|rules| rules.items()).unwrap_or_default().iter().enumerate()
        {
            let Some(rule) = rule.object() else { continue };
            rule.rest(|_| {});
            let read = matches::read(&rule, "", route, index);
            found.extend(read.into_iter().map(|read| Match::of(&read.value, read.precedence)));
        }
        if found.is_empty() {
            found.push(everything());
        }
        Some(matching::of_hosts(found, &hosts))
    });
    read.unwrap_or_else(|| vec![everything()])
}

/// Where the Server of a route is missing, nobody gets in all the same whom no policy lets in.
pub fn closed(server: &str, resource: &Resource, cx: &mut Context<'_>) {
    let name = format!("server/{server}");
    let known = cx.mesh.authorization.iter().any(|(policy, _)| policy["name"] == name.as_str());
    if !known && cx.find("Server", &cx.scope.namespace, server).is_none() {
        allow(&name, Vec::new(), Some(server), None, resource, cx);
    }
}

/// Whether a policy for a Server of this name is for the proxy.
pub fn is_for(server: &str, field: &Field<'_>, resource: &Resource, cx: &mut Context<'_>) -> For {
    match own(resource, cx) {
        Ok(Some(name)) if name == server => {
            if cx.find("Server", &cx.scope.namespace, server).is_none() {
                field.warn(
                    format!("the Server {server} is not in the input: taken for the one that the proxy is"),
                    "put it into the input",
                );
            }
            For::Us
        }
        Ok(_) => For::Others,
        Err(()) => For::Unknown,
    }
}

/// Reads an AuthorizationPolicy.
pub fn authorization_policy(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let namespace = cx.namespace(resource).to_owned();
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else {
        resource.log.error(
            "spec",
            "an AuthorizationPolicy without a spec is for nobody",
            "give it targetRef",
        );
        return;
    };
    let sources = match spec.field("requiredAuthenticationRefs") {
        Some(field) => required(&field, &namespace, cx),
        None => {
            resource.log.error(
                "spec.requiredAuthenticationRefs",
                "it does not say who gets in",
                "name a MeshTLSAuthentication, a NetworkAuthentication or a ServiceAccount, or [] for everybody",
            );
            return;
        }
    };
    let Some(field) = spec.field("targetRef") else {
        resource.log.error("spec.targetRef", "it does not say what it is for", "name a Server or a route");
        return;
    };
    let Some(target) = target(&field, resource, cx) else { return };
    let Some(sources) = sources else { return };
    let (server, route) = match target {
        Target::Server(name) => (Some(name), None),
        Target::Route(route, server) => (Some(server), Some(route)),
        Target::Namespace(server) => (server, None),
    };
    allow(&resource.name, sources, server.as_deref(), route, resource, cx);
}

enum Target<'a> {
    Server(String),
    Route(&'a Resource, String),
    /// The Server that the proxy is.
    Namespace(Option<String>),
}

/// What a policy is for; `None` where that is not the proxy.
fn target<'a>(field: &Field<'_>, resource: &Resource, cx: &mut Context<'a>) -> Option<Target<'a>> {
    let object = field.object()?;
    let text = |name: &'static str| {
        let field = object.field(name)?;
        field.text()
    };
    text("group");
    text("namespace");
    let (kind, name) = (text("kind").unwrap_or_default(), text("name").unwrap_or_default());
    let to = "what this policy is for";
    match kind {
        "Server" => {
            let fits = is_for(name, field, resource, cx);
            told(field, fits, to, name);
            (fits == For::Us).then(|| Target::Server(name.to_owned()))
        }
        "Namespace" => {
            if name != cx.scope.namespace {
                field.forbid("the namespace of a policy is its own", format!("use {}", cx.scope.namespace));
                return None;
            }
            let server = own(resource, cx).ok()?;
            if server.is_none() {
                let reason = "it holds for Servers, and none is the proxy's";
                if settings::access(cx).is_some() || annotated(cx).iter().any(Option::is_some) {
                    field.no_meaning(&format!("{reason}: the default inbound policy says who gets in"));
                    field.warn(
                        format!("left out: {reason}: the default inbound policy says who gets in"),
                        "put the Server into the input",
                    );
                    return None;
                }
                field.warn(
                    format!("{reason} in the input: taken as if there were one, which lets in nobody else"),
                    "put the Server into the input, or leave the policy out",
                );
            }
            field.taken(to);
            Some(Target::Namespace(server))
        }
        "HTTPRoute" | "GRPCRoute" => {
            let kind = if kind == "HTTPRoute" { "HTTPRoute" } else { "GRPCRoute" };
            let namespace = cx.namespace(resource).to_owned();
            let Some(route) = cx.find(kind, &namespace, name) else {
                field.forbid(format!("there is no {kind} {namespace}/{name}"), "put it into the input");
                return None;
            };
            let servers: Vec<String> = named(route).into_iter().map(str::to_owned).collect();
            let mut fits = For::Others;
            for server in servers {
                let this = is_for(&server, field, resource, cx);
                if this == For::Us {
                    field.taken(to);
                    return Some(Target::Route(route, server));
                }
                if this == For::Unknown {
                    fits = this;
                }
            }
            told(field, fits, to, name);
            None
        }
        other => {
            field.forbid(
                format!("{other} is nothing that a policy can be for"),
                "name a Server, an HTTPRoute or a Namespace",
            );
            None
        }
    }
}

/// Says of a target what becomes of it.
pub fn told(field: &Field<'_>, fits: For, to: &str, name: &str) {
    match fits {
        For::Us | For::Unknown => field.taken(to),
        For::Others => field.no_meaning(&format!("it is for {name}, and the proxy is not that")),
    }
}

/// All that are named must hold at once; `None` where something is missing.
fn required(field: &Field<'_>, namespace: &str, cx: &Context<'_>) -> Option<Vec<Source>> {
    let mut all = vec![Source::new()];
    let mut whole = true;
    for item in field.items() {
        let Some(object) = item.object() else { continue };
        let to = "authorization[].rules[].from[].source";
        let kind = object.peek("kind").and_then(|field| field.value().as_str()).unwrap_or_default();
        let sources = match kind {
            "MeshTLSAuthentication" | "NetworkAuthentication" => {
                let text = |name: &'static str| {
                    let field = object.field(name)?;
                    field.taken(to);
                    field.text()
                };
                text("group");
                text("kind");
                let of = text("namespace").unwrap_or(namespace);
                let name = text("name").unwrap_or_default();
                let sources = identity::named(kind, of, name, cx);
                if sources.is_none() {
                    item.problem_here(format!("there is no {kind} {of}/{name}"), "put it into the input");
                }
                sources
            }
            _ => {
                let domain = settings::trust_domain(cx);
                let principal = identity::reference(&item, &object, namespace, domain, to);
                principal.map(|principal| vec![identity::account(principal)])
            }
        };
        let Some(sources) = sources else {
            whole = false;
            continue;
        };
        let mut next = Vec::new();
        for one in &all {
            for other in &sources {
                match identity::both(one, other) {
                    Ok(both) => next.extend(both),
                    Err(error) => {
                        item.problem_here(error, "write one that says both");
                        whole = false;
                    }
                }
            }
        }
        all = next;
    }
    whole.then_some(all)
}

/// Reads a MeshTLSAuthentication or a NetworkAuthentication.
pub fn authentication(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let sources = identity::authentication(top, cx.namespace(resource), settings::trust_domain(cx));
    if sources.is_empty() && !resource.log.has_errors() {
        resource.log.error("spec", "it names nobody", "say who it is");
    }
}

/// Reads a ServerAuthorization.
pub fn server_authorization(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let namespace = cx.namespace(resource).to_owned();
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else {
        resource.log.error(
            "spec",
            "a ServerAuthorization without a spec is for nobody",
            "give it server and client",
        );
        return;
    };
    let server = spec.field("server").and_then(|field| server_of(&field, resource, cx));
    let to = "authorization[].rules[].from[].source";
    let Some(field) = spec.field("client") else {
        resource.log.error("spec.client", "it does not say who gets in", "name clients");
        return;
    };
    let Some(client) = field.object() else { return };
    let networks = client.field("networks").map(|field| identity::networks(&field, to));
    let mut who = Vec::new();
    if let Some(field) = client.field("unauthenticated")
        && let Some(flag) = field.flag()
    {
        field.taken("whether anybody gets in");
        if flag {
            who.push(Source::new());
        }
    }
    let has_tls = client.has("meshTLS");
    if let Some(tls) = client.field("meshTLS").and_then(|field| field.object()) {
        if let Some(field) = tls.field("identities") {
            who.extend(identity::identities(&field, to));
        }
        if let Some(field) = tls.field("serviceAccounts") {
            for item in field.items() {
                let Some(object) = item.object() else { continue };
                let domain = settings::trust_domain(cx);
                let principal = identity::reference(&item, &object, &namespace, domain, to);
                who.extend(principal.map(identity::account));
            }
        }
        if let Some(field) = tls.field("unauthenticatedTLS")
            && let Some(flag) = field.flag()
        {
            match flag {
                true => field.forbid(
                    "who comes by TLS without an identity is nobody that a policy can name",
                    "use unauthenticated, or identities: [\"*\"]",
                ),
                false => field.taken("clients need an identity"),
            }
        }
    }
    if who.is_empty() && !has_tls {
        field.problem_here("it lets nobody in", "use unauthenticated: true, or meshTLS with identities");
    }
    if networks.as_ref().is_some_and(|networks| !networks.is_empty()) {
        let networks = networks.unwrap_or_default();
        let pairs = who.iter().flat_map(|one| networks.iter().map(move |other| identity::both(one, other)));
        who = pairs.filter_map(|both| both.ok().flatten()).collect();
    }
    let Some(server) = server else { return };
    allow(&resource.name, who, Some(&server), None, resource, cx);
}

/// The Server that a ServerAuthorization is for, if the proxy is that.
fn server_of(field: &Field<'_>, resource: &Resource, cx: &mut Context<'_>) -> Option<String> {
    let object = field.object()?;
    if let Some(named) = object.field("name") {
        let name = named.text()?;
        let fits = is_for(name, &named, resource, cx);
        told(&named, fits, "the Server that this is for", name);
        return (fits == For::Us).then(|| name.to_owned());
    }
    let selector = object.field("selector")?.object()?;
    let wanted = object.peek("selector").map(|field| selector_of(field.value())).unwrap_or_default();
    if let Some(field) = selector.field("matchLabels") {
        take_labels(&field, "the Server that this is for");
    }
    if let Some(field) = selector.field("matchExpressions") {
        field.taken("the Server that this is for");
    }
    let own = own(resource, cx).ok()?;
    let server = own.as_ref().and_then(|name| cx.find("Server", &cx.scope.namespace, name));
    let Some(server) = server else {
        if cx.all("Server").next().is_none() {
            field.problem_here(
                "no Server is in the input, so nobody knows whether this is for it",
                "put it into the input",
            );
        }
        return None;
    };
    let of_server = server.value.pointer("/metadata/labels").map(labels_of).unwrap_or_default();
    let fits = wanted.has(&of_server);
    fits.then_some(own).flatten()
}
