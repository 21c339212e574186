//! VirtualService → entries of `http`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::import::context::Context;
use crate::import::field::{Field, Member, Object, Reading, Shape};
use crate::import::mesh::{Destination, Entry, Server, hosts, put};
use crate::import::read::Resource;

const TEXTS: Shape = Shape::List(&Shape::Text);

const STRING: Shape = Shape::Object(&[
    Member("exact", Shape::Text),
    Member("prefix", Shape::Text),
    Member("regex", Shape::Text),
]);

const SOURCE: &str = "which client asks is not known to a proxy before the services";
const SOURCE_REMEDY: &str = "use an AuthorizationPolicy with source.principals or source.namespaces";

const MATCH: &[Member] = &[
    Member("name", Shape::Text),
    Member("uri", STRING),
    Member("scheme", STRING),
    Member("method", STRING),
    Member("authority", STRING),
    Member("headers", Shape::Map(&STRING)),
    Member("withoutHeaders", Shape::Map(&STRING)),
    Member("queryParams", Shape::Map(&STRING)),
    Member("ignoreUriCase", Shape::Flag),
    Member("port", Shape::Whole),
    Member("sourceLabels", Shape::Forbidden(SOURCE, SOURCE_REMEDY)),
    Member("sourceNamespace", Shape::Forbidden(SOURCE, SOURCE_REMEDY)),
    Member("statPrefix", Shape::NoMeaning("it names statistics of Envoy's own routes")),
];

const PERCENT: Shape = Shape::Object(&[Member("value", Shape::Number)]);

const CHANGES: Shape = Shape::Object(&[
    Member("set", Shape::Map(&Shape::Text)),
    Member("add", Shape::Map(&Shape::Text)),
    Member("remove", TEXTS),
]);

const HEADERS: Shape = Shape::Object(&[Member("request", CHANGES), Member("response", CHANGES)]);

/// What an entry has in the policy, too.
const ENTRY: &[Member] = &[
    Member(
        "redirect",
        Shape::Object(&[
            Member("uri", Shape::Text),
            Member("authority", Shape::Text),
            Member("port", Shape::Whole),
            Member("derivePort", Shape::Text),
            Member("scheme", Shape::Text),
            Member("redirectCode", Shape::Whole),
        ]),
    ),
    Member(
        "directResponse",
        Shape::Object(&[
            Member("status", Shape::Whole),
            Member("body", Shape::Object(&[Member("string", Shape::Text), Member("bytes", Shape::Text)])),
        ]),
    ),
    Member(
        "rewrite",
        Shape::Object(&[
            Member("uri", Shape::Text),
            Member("authority", Shape::Text),
            Member(
                "uriRegexRewrite",
                Shape::Object(&[Member("match", Shape::Text), Member("rewrite", Shape::Text)]),
            ),
        ]),
    ),
    Member("timeout", Shape::Span),
    Member(
        "retries",
        Shape::Object(&[
            Member("attempts", Shape::Whole),
            Member("perTryTimeout", Shape::Span),
            Member("retryOn", Shape::Text),
            Member("retryRemoteLocalities", Shape::Refused("one proxy knows no localities", "leave it out")),
            Member(
                "retryIgnorePreviousHosts",
                Shape::Refused(
                    "which server a retry goes to is the balancing's",
                    "use outlierDetection in a DestinationRule",
                ),
            ),
            Member(
                "backoff",
                Shape::Refused("Envoy's own pauses between retries hold, 25 ms and more", "leave it out"),
            ),
        ]),
    ),
    Member(
        "fault",
        Shape::Object(&[
            Member(
                "delay",
                Shape::Object(&[
                    Member("percentage", PERCENT),
                    Member("percent", Shape::Whole),
                    Member("fixedDelay", Shape::Span),
                    Member(
                        "exponentialDelay",
                        Shape::Forbidden("Istio does not do it, either", "use fixedDelay"),
                    ),
                ]),
            ),
            Member(
                "abort",
                Shape::Object(&[
                    Member("percentage", PERCENT),
                    Member("httpStatus", Shape::Whole),
                    Member("grpcStatus", Shape::Text),
                    Member(
                        "http2Error",
                        Shape::Forbidden("Istio does not do it, either", "use httpStatus or grpcStatus"),
                    ),
                ]),
            ),
        ]),
    ),
    Member("mirrorPercentage", PERCENT),
    Member("mirrorPercent", Shape::Whole),
    Member(
        "corsPolicy",
        Shape::Object(&[
            Member("allowOrigins", Shape::List(&STRING)),
            Member("allowOrigin", TEXTS),
            Member("allowMethods", TEXTS),
            Member("allowHeaders", TEXTS),
            Member("exposeHeaders", TEXTS),
            Member("maxAge", Shape::Span),
            Member("allowCredentials", Shape::Flag),
            Member("unmatchedPreflights", Shape::Text),
        ]),
    ),
    Member("headers", HEADERS),
];

/// The name of those that are in the mesh, in `gateways`.
const MESH: &str = "mesh";

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else {
        resource.log.error("spec", "a VirtualService without a spec says nothing", "give it spec.http");
        return;
    };
    let namespace = cx.namespace(resource).to_owned();
    let seen = super::is_seen(&spec, &namespace, cx);
    for (name, what) in [("tcp", "TCP"), ("tls", "TLS that is passed through")] {
        if let Some(field) = spec.field(name) {
            field.forbid(
                format!("{what} has no requests, and the module decides about requests"),
                "use Envoy's tcp_proxy filter for it, or http here",
            );
        }
    }
    let gateways = gateways(spec.field("gateways").as_ref(), &namespace, "which proxies have its routes");
    let in_mesh = gateways.is_empty() || gateways.iter().any(|name| name == MESH);
    let named = match spec.has("hosts") && seen && in_mesh && cx.scope.gateway.is_none() {
        true => first_of_mesh(&spec, cx, resource),
        false => hosts_of(&spec, cx, resource),
    };
    let is_delegate = !spec.has("hosts") && is_a_delegate(cx, &namespace, &resource.name);
    if is_delegate {
        // Whoever names it reads its routes.
        if let Some(field) = spec.field("http") {
            field.taken("the routes of the VirtualService that delegates to this");
        }
        return;
    }
    if !spec.has("hosts") {
        resource.log.warn(
            "spec",
            "it has no hosts, and takes every host; Istio would take it for the delegate of another",
            "give it hosts",
        );
    }
    let Some(http) = spec.field("http") else {
        if !spec.has("tcp") && !spec.has("tls") {
            resource.log.error("spec", "it has no http: there is nothing to route", "give it spec.http");
        }
        return;
    };
    if !seen && cx.scope.is_placed {
        http.no_meaning("it is not exported to the proxy's namespace");
        return;
    }
    if named.is_empty() {
        http.no_meaning("another VirtualService has its hosts");
        return;
    }
    let bound = bound(&gateways, named, resource, cx);
    if bound.is_empty() {
        http.no_meaning("no gateway of this VirtualService is the one of --gateway");
        return;
    }
    let routes = routes(&http, resource, &resource.name, cx);
    for (ports, hosts) in bound {
        for (name, value, origin) in routes.clone() {
            let mut entry = Entry { name, hosts: hosts.clone(), precedence: Vec::new(), value, origin };
            if ports.as_ref().is_none_or(|ports| entry.on_ports(ports)) {
                cx.mesh.entries.push(entry);
            }
        }
    }
}

/// Names of gateways in full, `NS/NAME` and `mesh`.
fn gateways(field: Option<&Field<'_>>, namespace: &str, to: &str) -> Vec<String> {
    let Some(field) = field else { return Vec::new() };
    let names = field.texts();
    field.taken(to);
    let full = |name: &&str| match (name.split_once('/'), *name) {
        (_, MESH) => MESH.to_owned(),
        (Some((".", name)), _) => format!("{namespace}/{name}"),
        (Some(_), name) => name.to_owned(),
        (None, name) => format!("{namespace}/{name}"),
    };
    names.iter().map(full).collect()
}

fn hosts_of(spec: &Object<'_>, cx: &Context<'_>, resource: &Resource) -> Vec<String> {
    let Some(field) = spec.field("hosts") else { return vec!["*".to_owned()] };
    let texts = field.texts();
    if !texts.is_empty() {
        field.taken("the hosts of the http entries");
    }
    texts.into_iter().map(|host| cx.host(host, resource)).collect()
}

/// Under this name it is kept which VirtualService has a host in the mesh.
const HOSTS: &str = "istio.mesh.hosts";

/// The hosts that no older VirtualService has. Those of a Gateway are merged, those of the mesh are not.
fn first_of_mesh(spec: &Object<'_>, cx: &mut Context<'_>, resource: &Resource) -> Vec<String> {
    let Some(field) = spec.field("hosts") else { return Vec::new() };
    let own = format!("{}/{}", cx.namespace(resource), resource.name);
    let mut named = Vec::new();
    for item in field.items() {
        let Some(host) = item.text().map(|host| cx.host(host, resource)) else { continue };
        let known = cx.mesh.found.entry(HOSTS).or_insert_with(|| json!({}));
        let first = known.get(&host).and_then(Value::as_str).filter(|first| *first != own);
        if let Some(first) = first {
            let reason = format!("in the mesh one VirtualService has a host, the oldest: {first} has {host}");
            item.no_meaning(&reason);
            item.warn(format!("left out: {reason}"), "put its routes into that one");
            continue;
        }
        put(known, &host, own.clone());
        item.taken("the hosts of the http entries");
        named.push(host);
    }
    named
}

/// Hosts, and the ports on which they are; `None`: on all of the gateway's.
type Bound = (Option<BTreeSet<u16>>, Vec<String>);

/// The hosts that the proxy has of a VirtualService, by the ports of the servers that take it; none where it is of another
/// gateway.
fn bound(gateways: &[String], named: Vec<String>, resource: &Resource, cx: &Context<'_>) -> Vec<Bound> {
    let Some(gateway) = &cx.scope.gateway else { return vec![(None, named)] };
    if !gateways.contains(&format!("{}/{}", gateway.0, gateway.1)) {
        return Vec::new();
    }
    let of = cx.namespace(resource);
    let servers: Vec<&Server> = cx.mesh.servers.iter().filter(|server| server.gateway == *gateway).collect();
    let served = |server: &Server| -> BTreeSet<String> {
        let may =
            |host: &&String| server.namespaces.get(*host).is_none_or(|namespaces| namespaces.contains(of));
        server.hosts.iter().filter(may).cloned().collect()
    };
    let mut by_port: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for server in &servers {
        by_port.entry(server.port).or_default().extend(served(server));
    }
    let all: BTreeSet<u16> = by_port.keys().copied().collect();
    let mut bound: Vec<(BTreeSet<u16>, Vec<String>)> = Vec::new();
    for (port, served_there) in by_port {
        let common = in_common(&named, &served_there);
        if common.is_empty() {
            continue;
        }
        for server in servers.iter().filter(|server| server.port == port && server.tls.is_some()) {
            let own = in_common(&common, &served(server));
            let others = in_common(&common, &server.hosts.iter().cloned().collect());
            if let Some(host) = others.iter().find(|_| own.is_empty()) {
                resource.log.error(
                    "spec.hosts",
                    format!(
                        "the server {} on port {port} takes {host} of other namespaces alone, and another one on this port of \
                         {of}: they are not told apart here",
                        server.name
                    ),
                    "give these servers ports of their own, or hosts that have nothing in common",
                );
            }
        }
        match bound.iter_mut().find(|(_, hosts)| *hosts == common) {
            Some((ports, _)) => drop(ports.insert(port)),
            None => bound.push((BTreeSet::from([port]), common)),
        }
    }
    bound.into_iter().map(|(ports, hosts)| ((ports != all).then_some(ports), hosts)).collect()
}

/// What some hosts have in common with those that are served.
fn in_common(named: &[String], served: &BTreeSet<String>) -> Vec<String> {
    let mut common: Vec<String> = Vec::new();
    for both in named.iter().flat_map(|host| served.iter().filter_map(|served| hosts::common(host, served))) {
        if !common.iter().any(|known| known == both) {
            common.push(both.to_owned());
        }
    }
    common
}

/// Whether another VirtualService names this one as its delegate.
fn is_a_delegate(cx: &Context<'_>, namespace: &str, name: &str) -> bool {
    let words = |resource: &Resource| -> Vec<String> {
        let routes = resource.value.pointer("/spec/http").and_then(Value::as_array).into_iter().flatten();
        let name = |delegate: &Value| {
            let text = |member: &str| delegate.get(member).and_then(Value::as_str);
            let of = text("namespace").unwrap_or_else(|| cx.namespace(resource));
            Some(format!("{of}/{}", text("name")?))
        };
        routes.filter_map(|route| name(route.get("delegate")?)).collect()
    };
    !cx.with(("VirtualService", "delegates"), words, &format!("{namespace}/{name}")).is_empty()
}

type Route = (String, Map<String, Value>, crate::import::mesh::Origin);

/// The entries of a list of routes.
fn routes(http: &Field<'_>, resource: &Resource, prefix: &str, cx: &mut Context<'_>) -> Vec<Route> {
    let mut routes = Vec::new();
    for (index, field) in http.items().iter().enumerate() {
        let Some(route) = field.object() else { continue };
        let given = route.field("name").and_then(|field| {
            let name = field.text()?;
            field.taken("the entry's name");
            Some(name)
        });
        let prefix = if prefix.is_empty() { "virtualservice" } else { prefix };
        let name = match given {
            Some(given) if !given.is_empty() => format!("{prefix}/{given}"),
            _ => format!("{prefix}/{index}"),
        };
        let to = format!("http[{name}]");
        let mut value = route.copy(ENTRY, &to);
        if let Some(field) = route.field("mirror_percent")
            && let Some(percent) = field.copy(&Shape::Whole, &format!("{to}.mirrorPercent"))
        {
            value.insert("mirrorPercent".to_owned(), percent);
        }
        let matches = matches(&route, &to, resource, cx);
        destinations(&route, &to, resource, cx, &mut value);
        let origin = cx.origin(resource, format!("spec.http[{index}]"));
        let delegate = route.field("delegate");
        let matches = match matches {
            Some(matches) => matches,
            // None of its gateways is the one that counts.
            None => {
                if let Some(delegate) = delegate {
                    delegate.no_meaning("its match is for other gateways");
                }
                continue;
            }
        };
        if !matches.is_empty() {
            value.insert("match".to_owned(), Value::Array(matches));
        }
        match delegate {
            Some(delegate) => routes.extend(delegated(&delegate, &value, prefix, resource, cx)),
            None => {
                if !["route", "redirect", "directResponse"].iter().any(|name| value.contains_key(*name))
                    && !["route", "redirect", "directResponse"].iter().any(|name| route.has(name))
                {
                    field.problem_here(
                        "it has neither route nor redirect, directResponse or delegate",
                        "give it a route",
                    );
                }
                routes.push((name, value, origin));
            }
        }
    }
    routes
}

/// The matches of a route, without those for other gateways; `None` where there were some, and none is left.
fn matches(route: &Object<'_>, to: &str, resource: &Resource, cx: &Context<'_>) -> Option<Vec<Value>> {
    let Some(field) = route.field("match") else { return Some(Vec::new()) };
    let namespace = cx.namespace(resource).to_owned();
    let items = field.items();
    let mut matches = Vec::new();
    for item in &items {
        let Some(object) = item.object() else { continue };
        let own = gateways(object.field("gateways").as_ref(), &namespace, "which proxies have this match");
        let wanted = cx.scope.gateway.as_ref().map(|(namespace, name)| format!("{namespace}/{name}"));
        let elsewhere =
            !own.is_empty() && wanted.as_ref().is_some_and(|wanted| !own.iter().any(|own| own == wanted));
        if let Some(field) = object.peek("gateways").filter(|_| wanted.is_none() && !own.is_empty()) {
            field.warn(
                "without --gateway this match holds for every request, whichever way it comes",
                "say --gateway NAMESPACE/NAME",
            );
        }
        let value = object.copy(MATCH, &format!("{to}.match[{}]", matches.len()));
        if !elsewhere {
            matches.push(Value::Object(value));
        }
    }
    // A match that asks for nothing is every request.
    (items.is_empty() || !matches.is_empty()).then_some(matches)
}

fn destinations(
    route: &Object<'_>,
    to: &str,
    resource: &Resource,
    cx: &mut Context<'_>,
    value: &mut Map<String, Value>,
) {
    if let Some(field) = route.field("route") {
        let mut ways = Vec::new();
        for (index, item) in field.items().iter().enumerate() {
            let Some(object) = item.object() else { continue };
            let to = format!("{to}.route[{index}]");
            const WAY: &[Member] = &[Member("weight", Shape::Whole), Member("headers", HEADERS)];
            let mut way = object.copy(WAY, &to);
            match object.field("destination") {
                Some(field) => {
                    if let Some(destination) = destination(&field, &format!("{to}.destination"), resource, cx)
                    {
                        way.insert("destination".to_owned(), destination);
                    }
                }
                None => item.problem_here("it has no destination", "give it destination.host"),
            }
            ways.push(Value::Object(way));
        }
        if !ways.is_empty() {
            value.insert("route".to_owned(), Value::Array(ways));
        }
    }
    if let Some(field) = route.field("mirror")
        && let Some(mirror) = destination(&field, &format!("{to}.mirror"), resource, cx)
    {
        value.insert("mirror".to_owned(), mirror);
    }
    if let Some(field) = route.field("mirrors") {
        let mut mirrors = Vec::new();
        for (index, item) in field.items().iter().enumerate() {
            let Some(object) = item.object() else { continue };
            let to = format!("{to}.mirrors[{index}]");
            let mut mirror = object.copy(&[Member("percentage", PERCENT)], &to);
            if let Some(field) = object.field("destination")
                && let Some(destination) = destination(&field, &format!("{to}.destination"), resource, cx)
            {
                mirror.insert("destination".to_owned(), destination);
            }
            mirrors.push(Value::Object(mirror));
        }
        value.insert("mirrors".to_owned(), Value::Array(mirrors));
    }
}

/// A destination, with its host in full and its port, if it has only one.
fn destination(field: &Field<'_>, to: &str, resource: &Resource, cx: &mut Context<'_>) -> Option<Value> {
    let object = field.object()?;
    let host = object.field("host");
    let subset = object.field("subset").and_then(|field| {
        let subset = field.text()?;
        field.taken(format!("{to}.subset"));
        Some(subset.to_owned())
    });
    let port = object.field("port").and_then(|field| {
        let object = field.object()?;
        let number = object.field("number")?;
        let port = number.whole(1, 65_535)?;
        number.taken(format!("{to}.port.number"));
        u16::try_from(port).ok()
    });
    let Some(host) = host else {
        field.problem_here("a destination needs a host", "give it host");
        return None;
    };
    let name = host.text()?;
    host.taken(format!("{to}.host"));
    let full = cx.host(name, resource);
    let port = port.or_else(|| cx.mesh.services.only_port(&full));
    Some(Destination { host: full, subset: subset.filter(|subset| !subset.is_empty()), port }.value())
}

/// The routes of the VirtualService that a route delegates to, within the route's own conditions.
fn delegated(
    field: &Field<'_>,
    root: &Map<String, Value>,
    prefix: &str,
    resource: &Resource,
    cx: &mut Context<'_>,
) -> Vec<Route> {
    let Some(object) = field.object() else { return Vec::new() };
    let text = |name: &'static str| {
        let field = object.field(name)?;
        let text = field.text()?;
        field.taken("the VirtualService whose routes stand here");
        Some(text)
    };
    let name = text("name").unwrap_or_default();
    let namespace = text("namespace").unwrap_or_else(|| cx.namespace(resource)).to_owned();
    let Some(delegate) = cx.find("VirtualService", &namespace, name) else {
        field.problem_here(format!("there is no VirtualService {namespace}/{name}"), "put it into the input");
        return Vec::new();
    };
    let reading = Reading { log: &delegate.log, hint: crate::import::dialect::no_hint };
    let top = Field::root(&delegate.value, reading);
    let Some(top) = top.object() else { return Vec::new() };
    top.rest(|_| {});
    let Some(spec) = top.peek("spec").and_then(|spec| spec.object()) else { return Vec::new() };
    spec.rest(|_| {});
    let Some(http) = spec.peek("http") else { return Vec::new() };
    if delegate.index == resource.index
        || delegate
            .value
            .pointer("/spec/http")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .any(|route| route.get("delegate").is_some())
    {
        field.problem_here("a delegate cannot delegate again", "write its routes out");
        return Vec::new();
    }
    let routes = routes(&http, delegate, prefix, cx);
    let mut merged = Vec::new();
    for (name, mut value, origin) in routes {
        let name = match name.strip_prefix(&format!("{prefix}/")) {
            Some(own) => format!("{prefix}/{}-{own}", delegate.name),
            None => name,
        };
        if !merge(root, &mut value) {
            delegate.log.warn(
                &origin.path,
                "none of its matches fits the one of the route that delegates here; it is never reached",
                "let its paths begin with that route's prefix",
            );
            continue;
        }
        merged.push((name, value, origin));
    }
    merged
}

/// Lays what a delegating route says under a delegate's; whether anything can match both.
fn merge(root: &Map<String, Value>, value: &mut Map<String, Value>) -> bool {
    for (name, setting) in root {
        if name != "match" && !value.contains_key(name) {
            value.insert(name.clone(), setting.clone());
        }
    }
    let list =
        |map: &Map<String, Value>| map.get("match").and_then(Value::as_array).cloned().unwrap_or_default();
    let (outer, inner) = (list(root), list(value));
    let both: Vec<Value> = match (outer.is_empty(), inner.is_empty()) {
        (true, _) => inner,
        (false, true) => outer,
        (false, false) => {
            let pairs = outer.iter().flat_map(|outer| inner.iter().map(move |inner| (outer, inner)));
            let both: Vec<Value> = pairs.filter_map(|(outer, inner)| both(outer, inner)).collect();
            if both.is_empty() {
                return false;
            }
            both
        }
    };
    if !both.is_empty() {
        value.insert("match".to_owned(), Value::Array(both));
    }
    true
}

/// A match that asks for all that two ask for; `None` where they contradict each other, as Istio sees it.
fn both(outer: &Value, inner: &Value) -> Option<Value> {
    let mut both = inner.as_object()?.clone();
    for (name, asked) in outer.as_object()? {
        let Some(own) = both.get_mut(name) else {
            both.insert(name.clone(), asked.clone());
            continue;
        };
        match name.as_str() {
            "headers" | "withoutHeaders" | "queryParams" => {
                for (header, asked) in asked.as_object()? {
                    let own = own.as_object_mut()?;
                    match own.get(header) {
                        Some(own) if own != asked => return None,
                        _ => drop(own.insert(header.clone(), asked.clone())),
                    }
                }
            }
            "uri" => {
                let prefix = asked.get("prefix").and_then(Value::as_str)?;
                let text = own.get("prefix").or_else(|| own.get("exact")).and_then(Value::as_str)?;
                if !text.starts_with(prefix) {
                    return None;
                }
            }
            "name" => {}
            "ignoreUriCase" => *own = json!(own == &json!(true) || asked == &json!(true)),
            _ if own != asked => return None,
            _ => {}
        }
    }
    Some(Value::Object(both))
}
