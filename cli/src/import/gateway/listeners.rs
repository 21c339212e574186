//! Gateway → listeners.

use std::collections::BTreeMap;

use serde_json::Value;

use super::GROUP;
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::gateways::{Listener, Namespaces, Selector};
use crate::import::mesh::{Authorities, Certificate, Server, ServerTls};
use crate::import::read::Resource;
use crate::import::scope::take_labels;

const ONLY_WITH: &str = "without --gateway no listener is opened: everything is on --listen";

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    let own = (cx.namespace(resource).to_owned(), resource.name.clone());
    let opened = cx.scope.gateway.as_ref() == Some(&own);
    for (name, reason) in [
        ("gatewayClassName", "it says which program makes this Gateway, and this one is made by import"),
        ("infrastructure", "it is about what the program makes of this Gateway"),
        ("addresses", "--listen says where listeners are"),
    ] {
        if let Some(field) = spec.field(name) {
            field.no_meaning(reason);
        }
    }
    if let Some(field) = spec.field("allowedListeners") {
        field.no_meaning("ListenerSets are not imported");
    }
    let clients = spec.field("tls").map(|field| match opened {
        true => frontend(&field, &own.0, cx),
        false => {
            field.no_meaning(not_opened(cx));
            Clients::default()
        }
    });
    let clients = clients.unwrap_or_default();
    let mut listeners = Vec::new();
    let mut secure_somewhere = false;
    for (index, item) in spec.field("listeners").into_iter().flat_map(|all| all.items()).enumerate() {
        let Some((listener, tls, secure)) = self::listener(&item, &own, opened, cx) else { continue };
        secure_somewhere |= secure;
        if opened {
            let mut server = Server {
                gateway: own.clone(),
                name: if listener.name.is_empty() {
                    format!("{}-{index}", own.1)
                } else {
                    listener.name.clone()
                },
                port: listener.port,
                hosts: vec![listener.host.clone()],
                namespaces: BTreeMap::new(),
                tls,
                redirect: false,
                origin: cx.origin(resource, format!("spec.listeners[{index}]")),
            };
            if let Some(tls) = &mut server.tls {
                let of_port = clients.ports.get(&listener.port).or(clients.all.as_ref());
                if let Some(authorities) = of_port {
                    tls.clients = Some(authorities.clone());
                    tls.optional = false;
                }
            }
            cx.mesh.servers.push(server);
        }
        listeners.push(listener);
    }
    if cx.scope.gateway.is_none() {
        let ports: std::collections::BTreeSet<u16> = listeners.iter().map(|listener| listener.port).collect();
        if secure_somewhere || ports.len() > 1 {
            resource.log.warn(
                "spec.listeners",
                "its listeners are not opened, and neither their ports nor their TLS hold: everything is on --listen",
                format!("say --gateway {}/{}", own.0, own.1),
            );
        }
    }
    cx.mesh.gateways.listeners.insert(own, listeners);
}

fn not_opened(cx: &Context<'_>) -> &'static str {
    match cx.scope.gateway {
        Some(_) => "it is not the Gateway of --gateway",
        None => ONLY_WITH,
    }
}

fn listener(
    item: &Field<'_>,
    gateway: &(String, String),
    opened: bool,
    cx: &Context<'_>,
) -> Option<(Listener, Option<ServerTls>, bool)> {
    let object = item.object()?;
    let say = |field: &Field<'_>, to: &str| match opened {
        true => field.left_to_envoy(to),
        false => field.no_meaning(not_opened(cx)),
    };
    let mut listener = Listener { host: "*".to_owned(), ..Listener::default() };
    if let Some(field) = object.field("name")
        && let Some(name) = field.text()
    {
        field.left_to_envoy("which listener a route's sectionName means");
        listener.name = name.to_owned();
    }
    if let Some(field) = object.field("hostname")
        && let Some(host) = field.text()
    {
        field.taken("the hosts of its routes' entries");
        if !host.is_empty() {
            listener.host = host.trim_end_matches('.').to_ascii_lowercase();
        }
    }
    match object.field("port") {
        Some(field) => {
            listener.port = u16::try_from(field.whole(1, 65_535)?).ok()?;
            say(&field, "the listener's port; --listen moves it");
        }
        None => item.problem_here("it has no port", "give it port"),
    }
    let mut secure = false;
    let mut usable = true;
    match object.field("protocol").and_then(|field| Some((field.text()?, field))) {
        Some(("HTTP", field)) => say(&field, "a listener"),
        Some(("HTTPS", field)) => {
            secure = true;
            say(&field, "a listener with TLS");
        }
        Some((other, field)) => {
            usable = false;
            match opened {
                true => field.forbid(
                    format!("{other} has no requests, and the module decides about requests"),
                    "use HTTP or HTTPS, or Envoy's tcp_proxy filter",
                ),
                false => field.no_meaning(not_opened(cx)),
            }
        }
        None => item.problem_here("it has no protocol", "give it HTTP or HTTPS"),
    }
    listener.kinds = vec!["HTTPRoute".to_owned(), "GRPCRoute".to_owned()];
    if let Some(field) = object.field("allowedRoutes") {
        allowed(&field, &mut listener);
    }
    let tls = object.field("tls");
    let tls = match (tls, opened) {
        (Some(field), true) => server_tls(&field, &gateway.0, cx),
        (Some(field), false) => {
            field.no_meaning(not_opened(cx));
            None
        }
        (None, _) => None,
    };
    if secure && opened && tls.is_none() {
        item.problem_here("HTTPS without a certificate", "give it tls.certificateRefs");
    }
    usable.then_some((listener, tls.filter(|_| secure), secure))
}

/// Whose routes it takes.
fn allowed(field: &Field<'_>, listener: &mut Listener) {
    const TO: &str = "which routes it takes";
    let Some(object) = field.object() else { return };
    if let Some(kinds) = object.field("kinds") {
        let mut names = Vec::new();
        let items = kinds.items();
        for item in &items {
            let Some(object) = item.object() else { continue };
            let group = object.field("group").and_then(|field| {
                field.taken(TO);
                field.text()
            });
            if let Some(field) = object.field("kind")
                && let Some(kind) = field.text()
            {
                field.taken(TO);
                if group.is_none_or(|group| group == GROUP) {
                    names.push(kind.to_owned());
                }
            }
        }
        if !items.is_empty() {
            listener.kinds = names;
        }
    }
    let Some(namespaces) = object.field("namespaces").and_then(|field| field.object()) else { return };
    let from = namespaces.field("from").and_then(|field| {
        field.taken(TO);
        field.text().map(str::to_owned)
    });
    let selector = namespaces.field("selector").map(|field| selector(&field, TO));
    listener.namespaces = match from.as_deref() {
        Some("All") => Namespaces::All,
        Some("Selector") => Namespaces::Selected(selector.unwrap_or_default()),
        None | Some("Same") => Namespaces::Same,
        Some(other) => {
            if let Some(field) = namespaces.peek("from") {
                field.forbid(format!("\"{other}\" is not known"), "use Same, All or Selector");
            }
            Namespaces::Same
        }
    };
}

/// A label selector of Kubernetes.
pub fn selector(field: &Field<'_>, to: &str) -> Selector {
    let mut selector = Selector::default();
    let Some(object) = field.object() else { return selector };
    if let Some(field) = object.field("matchLabels") {
        selector.labels = take_labels(&field, to);
    }
    for item in object.field("matchExpressions").into_iter().flat_map(|all| all.items()) {
        let Some(object) = item.object() else { continue };
        let text = |name: &'static str| -> Option<String> {
            let field = object.field(name)?;
            field.taken(to);
            field.text().map(str::to_owned)
        };
        let (name, operator) = (text("key").unwrap_or_default(), text("operator").unwrap_or_default());
        let values = object.field("values").map(|field| {
            field.taken(to);
            field.texts().into_iter().map(str::to_owned).collect()
        });
        selector.expressions.push((name, operator, values.unwrap_or_default()));
    }
    selector
}

const TLS: &str = "the listener's TLS";

fn server_tls(field: &Field<'_>, namespace: &str, cx: &Context<'_>) -> Option<ServerTls> {
    let object = field.object()?;
    let mut tls = ServerTls::default();
    let mode = object.field("mode").and_then(|field| Some((field.text()?, field)));
    let refs = object.field("certificateRefs");
    if let Some(options) = object.field("options") {
        self::options(&options, &mut tls);
    }
    match mode {
        Some(("Terminate", field)) => field.left_to_envoy(TLS),
        Some((other, field)) => {
            field.forbid(
                format!(
                    "{other}: what is not decrypted has no requests, and the module decides about requests"
                ),
                "use Terminate with a certificate, or Envoy's tcp_proxy filter",
            );
            if let Some(refs) = refs {
                refs.no_meaning("the listener is refused");
            }
            return None;
        }
        None => {}
    }
    for item in refs.into_iter().flat_map(|refs| refs.items()) {
        let Some((of, name)) = secret(&item, namespace, "Secret", cx) else { continue };
        tls.certificates.push(Certificate::Named(of, name));
    }
    // Istio takes the authorities from the secret of the certificate.
    if let Some(options) = object.peek("options")
        && let Some(mode) = options.value().get(TERMINATE_MODE).and_then(Value::as_str)
    {
        let own = match tls.certificates.first() {
            Some(Certificate::Named(of, name)) => Some(Authorities::Named(of.clone(), name.clone())),
            _ => None,
        };
        match mode {
            "MUTUAL" => tls.clients = own,
            "OPTIONAL_MUTUAL" => (tls.clients, tls.optional) = (own, true),
            "ISTIO_MUTUAL" => {
                tls.certificates = vec![Certificate::Own];
                tls.clients = Some(Authorities::Mesh);
            }
            _ => {}
        }
    }
    (!tls.certificates.is_empty()).then_some(tls)
}

/// Istio's option that says whether clients show certificates.
const TERMINATE_MODE: &str = "gateway.istio.io/tls-terminate-mode";

/// Options of programs: those that say the same everywhere.
fn options(field: &Field<'_>, tls: &mut ServerTls) {
    for (name, field) in field.entries() {
        let Some(text) = field.text() else { continue };
        if name == TERMINATE_MODE {
            match text {
                "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL" | "ISTIO_MUTUAL" => field.left_to_envoy(TLS),
                _ => field.forbid(
                    format!("{text} is no mode of TLS"),
                    "use SIMPLE, MUTUAL, OPTIONAL_MUTUAL or ISTIO_MUTUAL",
                ),
            }
            continue;
        }
        let version = || match text {
            "1.0" => Some("TLSv1_0"),
            "1.1" => Some("TLSv1_1"),
            "1.2" => Some("TLSv1_2"),
            "1.3" => Some("TLSv1_3"),
            _ => None,
        };
        let (plain, version) = (name.rsplit('/').next().unwrap_or_default(), version());
        match (plain, version) {
            (
                "minimum-protocol-version" | "tls-minimum-protocol-version" | "min-tls-version",
                Some(version),
            ) => {
                tls.versions.0 = Some(version.to_owned());
                field.left_to_envoy(TLS);
            }
            (
                "maximum-protocol-version" | "tls-maximum-protocol-version" | "max-tls-version",
                Some(version),
            ) => {
                tls.versions.1 = Some(version.to_owned());
                field.left_to_envoy(TLS);
            }
            _ => field.refuse(
                format!("the option {name} is another program's knowledge"),
                "write it into the listener's TLS in envoy.yaml",
            ),
        }
    }
}

/// A reference to something with certificates; `None` where it cannot be followed, which was said.
fn secret(field: &Field<'_>, namespace: &str, usual: &str, cx: &Context<'_>) -> Option<(String, String)> {
    let object = field.object()?;
    let text = |name: &'static str| -> Option<String> {
        let field = object.field(name)?;
        let text = field.text()?;
        field.left_to_envoy(TLS);
        Some(text.to_owned())
    };
    let (_, kind) = (text("group"), text("kind").unwrap_or_else(|| usual.to_owned()));
    let of = text("namespace").unwrap_or_else(|| namespace.to_owned());
    let Some(name) = text("name") else {
        field.problem_here("it has no name", "give it name");
        return None;
    };
    if !matches!(kind.as_str(), "Secret" | "ConfigMap") {
        field.forbid(format!("nothing is known of certificates in a {kind}"), "use a Secret");
        return None;
    }
    if !cx.mesh.gateways.grants(("Gateway", namespace), (&kind, &of, &name)) {
        field.problem_here(
            format!("no ReferenceGrant of {of} lets Gateways of {namespace} name the {kind} {name}"),
            format!("put the ReferenceGrant of {of} into the input"),
        );
        return None;
    }
    Some((of, name))
}

/// Whose certificates clients show: for all ports, and for some.
#[derive(Default)]
struct Clients {
    all: Option<Authorities>,
    ports: BTreeMap<u16, Authorities>,
}

fn frontend(field: &Field<'_>, namespace: &str, cx: &Context<'_>) -> Clients {
    let mut clients = Clients::default();
    let Some(object) = field.object() else { return clients };
    if let Some(field) = object.field("backend") {
        field.forbid(
            "servers would not be shown this Gateway's certificate",
            "use tls with MUTUAL in a DestinationRule",
        );
    }
    let Some(frontend) = object.field("frontend").and_then(|field| field.object()) else { return clients };
    if let Some(field) = frontend.field("default") {
        clients.all = validation(&field, namespace, cx);
    }
    for item in frontend.field("perPort").into_iter().flat_map(|all| all.items()) {
        let Some(object) = item.object() else { continue };
        let port = object.field("port").and_then(|field| {
            field.left_to_envoy(TLS);
            u16::try_from(field.whole(1, 65_535)?).ok()
        });
        let validation = object.field("tls").and_then(|field| validation(&field, namespace, cx));
        clients.ports.extend(port.zip(validation));
    }
    clients
}

fn validation(field: &Field<'_>, namespace: &str, cx: &Context<'_>) -> Option<Authorities> {
    let object = field.object()?;
    let validation = object.field("validation")?;
    let object = validation.object()?;
    let mut found = Vec::new();
    let refs = object.field("caCertificateRefs");
    for item in refs.iter().flat_map(|refs| refs.items()) {
        found.extend(secret(&item, namespace, "ConfigMap", cx));
    }
    if let Some(field) = object.field("mode") {
        match field.text() {
            Some("AllowValidOnly") => field.left_to_envoy(TLS),
            Some("AllowInsecureFallback") => {
                field.forbid("certificates that nobody signed would get in", "use AllowValidOnly");
            }
            _ => drop(field.wrong::<()>("it is not known; use AllowValidOnly")),
        }
    }
    match (found.as_slice(), refs) {
        ([(of, name)], _) => Some(Authorities::Named(of.clone(), name.clone())),
        ([], _) => None,
        (_, Some(refs)) => refs.wrong("several authorities; put them into one ca.crt"),
        _ => None,
    }
}
