//! Gateway → the listeners of its servers.

use std::collections::BTreeSet;

use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::{Authorities, Certificate, Server, ServerTls};
use crate::import::ports::GATEWAY_SELECTOR;
use crate::import::read::Resource;

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    let namespace = cx.namespace(resource).to_owned();
    if let Some(field) = spec.field("selector") {
        field.no_meaning("--gateway says whose servers this proxy opens");
    }
    let own = (namespace, resource.name.clone());
    if cx.scope.gateway.as_ref() == Some(&own)
        && let Some(selector) = spec.peek("selector")
    {
        cx.mesh.found.insert(GATEWAY_SELECTOR, selector.value().clone());
    }
    let Some(servers) = spec.field("servers") else { return };
    if cx.scope.gateway.as_ref() != Some(&own) {
        let reason = match &cx.scope.gateway {
            Some(_) => "it is not the Gateway of --gateway",
            None => "without --gateway no server is opened: everything is on --listen",
        };
        servers.no_meaning(reason);
        if cx.scope.gateway.is_none() {
            servers.warn(
                "its servers are not opened, and their TLS, redirects and hosts do not hold: everything is on --listen",
                format!("say --gateway {}/{}", own.0, own.1),
            );
        }
        return;
    }
    for (index, field) in servers.items().iter().enumerate() {
        if let Some(mut server) = server(field, &own, index) {
            server.origin = cx.origin(resource, format!("spec.servers[{index}]"));
            cx.mesh.servers.push(server);
        }
    }
}

const LISTENER: &str = "a listener";

fn server(field: &Field<'_>, gateway: &(String, String), index: usize) -> Option<Server> {
    let object = field.object()?;
    let mut server = Server {
        gateway: gateway.clone(),
        name: format!("{}-{index}", gateway.1),
        port: 0,
        hosts: Vec::new(),
        namespaces: Default::default(),
        tls: None,
        redirect: false,
        origin: Default::default(),
    };
    if let Some(field) = object.field("name")
        && let Some(name) = field.text()
    {
        field.left_to_envoy("the name of its virtual host");
        server.name = name.to_owned();
    }
    for (name, remedy) in [
        ("bind", "say where clients come with --listen SERVERPORT=HOST:PORT"),
        ("defaultEndpoint", "say --endpoint default=HOST:PORT"),
    ] {
        if let Some(field) = object.field(name) {
            field.refuse("where a listener is, and what is behind it, is said by options", remedy);
        }
    }
    let mut secure = false;
    let mut usable = true;
    match object.field("port").and_then(|port| port.object()) {
        Some(port) => {
            if let Some(field) = port.field("number")
                && let Some(number) = field.whole(1, 65_535)
            {
                field.left_to_envoy("the listener's port; --listen moves it");
                server.port = u16::try_from(number).unwrap_or_default();
            }
            if let Some(field) = port.field("protocol")
                && let Some(protocol) = field.text()
            {
                match protocol.to_ascii_uppercase().as_str() {
                    "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" => field.left_to_envoy(LISTENER),
                    "HTTPS" => {
                        secure = true;
                        field.left_to_envoy(LISTENER);
                    }
                    other => {
                        usable = false;
                        field.forbid(
                            format!("{other} has no requests, and the module decides about requests"),
                            "use HTTP or HTTPS, or Envoy's tcp_proxy filter",
                        );
                    }
                }
            }
            for name in ["name", "targetPort"] {
                if let Some(field) = port.field(name) {
                    field.no_meaning("the number says which it is");
                }
            }
        }
        None => field.problem_here("it has no port", "give it port.number and port.protocol"),
    }
    let mut of_all = BTreeSet::new();
    for field in object.field("hosts").into_iter().flat_map(|hosts| hosts.items()) {
        let Some(text) = field.text() else { continue };
        field.left_to_envoy("the listener's hosts");
        let (namespace, host) = text.split_once('/').unwrap_or(("*", text));
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if namespace == "*" {
            of_all.insert(host.clone());
        }
        let namespace = if namespace == "." { &gateway.0 } else { namespace };
        server.namespaces.entry(host.clone()).or_default().insert(namespace.to_owned());
        if !server.hosts.contains(&host) {
            server.hosts.push(host);
        }
    }
    server.namespaces.retain(|host, _| !of_all.contains(host));
    if server.hosts.is_empty() {
        field.problem_here("it has no hosts", "give it hosts; \"*\" is every one");
    }
    if let Some(field) = object.field("tls") {
        let (tls, redirect) = tls(&field, &gateway.0, secure);
        server.redirect = redirect;
        server.tls = tls;
    }
    if secure && server.tls.is_none() {
        field.problem_here("HTTPS without a certificate", "give it tls.mode and tls.credentialName");
    }
    (usable && server.port > 0).then_some(server)
}

fn tls(field: &Field<'_>, namespace: &str, secure: bool) -> (Option<ServerTls>, bool) {
    let Some(object) = field.object() else { return (None, false) };
    let to = "the listener's TLS";
    let text = |name: &'static str| -> Option<String> {
        let field = object.field(name)?;
        let text = field.text()?;
        field.left_to_envoy(to);
        Some(text.to_owned())
    };
    let texts = |name: &'static str| -> Vec<String> {
        let Some(field) = object.field(name) else { return Vec::new() };
        let texts = field.texts().into_iter().map(str::to_owned).collect();
        field.left_to_envoy(to);
        texts
    };
    let mut redirect = false;
    if let Some(field) = object.field("httpsRedirect") {
        redirect = field.flag() == Some(true);
        field.left_to_envoy("require_tls of the virtual host: 301 to https");
    }
    let mode = text("mode");
    let mut tls = ServerTls {
        ciphers: texts("cipherSuites"),
        client_names: texts("subjectAltNames"),
        ..ServerTls::default()
    };
    let named = |name: String| {
        let (of, name) = match name.split_once('/') {
            Some((of, name)) => (of.to_owned(), name.to_owned()),
            None => (namespace.to_owned(), name),
        };
        (of, name.strip_prefix("kubernetes://").unwrap_or(&name).to_owned())
    };
    let credential = text("credentialName").map(named);
    let mut credentials: Vec<(String, String)> = texts("credentialNames").into_iter().map(named).collect();
    credentials.extend(credential.clone());
    tls.certificates =
        credentials.iter().map(|(of, name)| Certificate::Named(of.clone(), name.clone())).collect();
    if let (Some(chain), Some(key)) = (text("serverCertificate"), text("privateKey")) {
        tls.certificates.push(Certificate::Files(chain, key));
    }
    let mut own_authorities = text("caCertificates").map(Authorities::File);
    for field in object.field("tlsCertificates").into_iter().flat_map(|certificates| certificates.items()) {
        let Some(certificate) = field.object() else { continue };
        let part = |name: &'static str| -> Option<String> {
            let field = certificate.field(name)?;
            let text = field.text()?;
            field.left_to_envoy(to);
            Some(text.to_owned())
        };
        let authorities = part("caCertificates");
        own_authorities = own_authorities.or(authorities.map(Authorities::File));
        if let (Some(chain), Some(key)) = (part("serverCertificate"), part("privateKey")) {
            tls.certificates.push(Certificate::Files(chain, key));
        }
    }
    let other = text("caCertCredentialName").map(named).map(|(of, name)| Authorities::Named(of, name));
    let of_credential = || credentials.first().map(|(of, name)| Authorities::Named(of.clone(), name.clone()));
    tls.versions = (version(&object, "minProtocolVersion", to), version(&object, "maxProtocolVersion", to));
    for name in ["caCrl", "verifyCertificateHash", "verifyCertificateSpki"] {
        if let Some(field) = object.field(name) {
            field.forbid(
                "more clients would get in than it says",
                "lay it over the listener's validation_context in envoy.yaml",
            );
        }
    }
    if let Some(field) = object.field("insecureSkipVerify") {
        match field.flag() {
            Some(true) => field.forbid("clients' certificates would not be checked", "leave it out"),
            _ => field.left_to_envoy(to),
        }
    }
    match mode.as_deref() {
        Some("SIMPLE") => {}
        Some("MUTUAL") => tls.clients = own_authorities.or(other).or_else(of_credential),
        Some("OPTIONAL_MUTUAL") => {
            tls.clients = own_authorities.or(other).or_else(of_credential);
            tls.optional = true;
        }
        Some("ISTIO_MUTUAL") => {
            tls.certificates = vec![Certificate::Own];
            tls.clients = Some(Authorities::Mesh);
        }
        Some(mode @ ("PASSTHROUGH" | "AUTO_PASSTHROUGH")) => {
            if let Some(field) = object.peek("mode") {
                field.forbid(
                    format!(
                        "{mode}: what is not decrypted has no requests, and the module decides about requests"
                    ),
                    "use SIMPLE with a certificate, or Envoy's tcp_proxy filter",
                );
            }
            return (None, redirect);
        }
        Some(other) => {
            if let Some(field) = object.peek("mode") {
                field.forbid(format!("{other} is no mode of TLS"), "use SIMPLE or MUTUAL");
            }
            return (None, redirect);
        }
        // Plain text that redirects has a tls without a mode.
        None if !secure => return (None, redirect),
        None => {}
    }
    if tls.certificates.is_empty() && mode.is_some() {
        field.problem_here(
            "it has no certificate",
            "give it credentialName, or serverCertificate and privateKey",
        );
        return (None, redirect);
    }
    (Some(tls), redirect)
}

fn version(object: &Object<'_>, name: &'static str, to: &str) -> Option<String> {
    let field = object.field(name)?;
    let version = match field.text()? {
        "TLS_AUTO" => None,
        "TLSV1_0" => Some("TLSv1_0"),
        "TLSV1_1" => Some("TLSv1_1"),
        "TLSV1_2" => Some("TLSv1_2"),
        "TLSV1_3" => Some("TLSv1_3"),
        other => return field.wrong(format!("{other} is no version of TLS; use TLSV1_2 or TLSV1_3")),
    };
    field.left_to_envoy(to);
    version.map(str::to_owned)
}
