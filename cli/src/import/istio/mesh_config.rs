//! MeshConfig, by itself, in an IstioOperator, or in the ConfigMap that Istio keeps it in.

use serde_json::{Value, json};

use super::telemetry::span_tag;
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::{Collector, SpanProtocol};
use crate::import::read::{self, Resource};

const INSTALLING: &str = "how Istio is installed is not a proxy's business";

/// The port of Zipkin's collectors.
const ZIPKIN: u16 = 9411;

/// Where collectors of OpenTelemetry take spans over HTTP.
const TRACES: &str = "/v1/traces";

/// The kind that Istio keeps its MeshConfig in.
pub const CONFIG_MAP: &str = "ConfigMap";

/// Whether a resource is a ConfigMap with a MeshConfig: `istio`, or that of a revision.
pub fn is_in(resource: &Resource) -> bool {
    let of_istio = resource.name == "istio" || resource.name.starts_with("istio-");
    of_istio && resource.kind == CONFIG_MAP && resource.value.pointer("/data/mesh").is_some()
}

/// The root namespace, where a resource says it.
pub fn root_namespace(resource: &Resource) -> Option<String> {
    let inner = || read::inner(resource.value.pointer("/data/mesh")?.as_str()?).ok();
    let text =
        |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let own = |pointers: &[&str]| pointers.iter().find_map(|pointer| text(&resource.value, pointer));
    match resource.kind.as_str() {
        CONFIG_MAP if is_in(resource) => text(&inner()?, "/rootNamespace"),
        "MeshConfig" => own(&["/spec/rootNamespace", "/rootNamespace"]),
        "IstioOperator" => own(&["/spec/meshConfig/rootNamespace", "/spec/values/meshConfig/rootNamespace"]),
        _ => None,
    }
}

/// The ConfigMap with a MeshConfig: its text.
pub fn config_map(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    const REST: &str = "it is about what Istio installs and injects";
    if let Some(data) = top.field("data").and_then(|data| data.object()) {
        if let Some(field) = data.field("mesh")
            && let Some(value) = field.document()
        {
            field.taken("the mesh's settings");
            if let Some(object) = field.within(&value).object() {
                mesh_config(&object, resource, cx);
            }
        }
        data.rest(|field| field.no_meaning_as_a_whole(REST));
    }
    top.rest(|field| field.no_meaning_as_a_whole(REST));
}

/// An IstioOperator: its `meshConfig`; the rest is about installing Istio.
pub fn operator(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    if let Some(object) = spec.field("meshConfig").and_then(|field| field.object()) {
        mesh_config(&object, resource, cx);
    }
    if let Some(values) = spec.field("values").and_then(|field| field.object()) {
        if let Some(object) = values.field("meshConfig").and_then(|field| field.object()) {
            mesh_config(&object, resource, cx);
        }
        values.rest(|field| field.no_meaning_as_a_whole(INSTALLING));
    }
    spec.rest(|field| field.no_meaning_as_a_whole(INSTALLING));
}

/// A document that is a MeshConfig.
pub fn document(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    match top.field("spec").and_then(|spec| spec.object()) {
        Some(spec) => mesh_config(&spec, resource, cx),
        None => mesh_config(top, resource, cx),
    }
}

fn mesh_config(object: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let tracing_to = "tracing of the listener";
    if let Some(field) = object.field("rootNamespace") {
        field.taken("the namespace whose policies hold for all");
    }
    if let Some(field) = object.field("trustDomain")
        && let Some(domain) = field.text()
    {
        field.taken("trustDomainAliases: cluster.local in a principal means it");
        if domain != "cluster.local" {
            cx.mesh.settings.trust_domain_aliases.insert(0, domain.to_owned());
        }
    }
    for field in object.field("trustDomainAliases").into_iter().flat_map(|aliases| aliases.items()) {
        if let Some(domain) = field.text() {
            field.taken("trustDomainAliases");
            cx.mesh.settings.trust_domain_aliases.push(domain.to_owned());
        }
    }
    if let Some(field) = object.field("accessLogFile")
        && let Some(file) = field.text()
    {
        field.left_to_envoy("the access log");
        match file {
            "" => cx.mesh.access_log.disabled = true,
            "/dev/stdout" => {}
            other => cx.mesh.settings.access_log_file = Some(other.to_owned()),
        }
    }
    if let Some(field) = object.field("accessLogEncoding")
        && let Some(encoding) = field.text()
    {
        cx.mesh.access_log.json = encoding == "JSON";
        field.left_to_envoy("which of the two access logs is on");
    }
    if let Some(field) = object.field("accessLogFormat") {
        field.refuse("the logs have formats of their own, with every tag", "change log_format in envoy.yaml");
    }
    if let Some(paths) = object.field("pathNormalization").and_then(|field| field.object())
        && let Some(field) = paths.field("normalization")
    {
        match field.text() {
            Some("DEFAULT" | "BASE" | "MERGE_SLASHES") => {
                field.left_to_envoy("normalize_path and merge_slashes")
            }
            Some("DECODE_AND_MERGE_SLASHES") => {
                field.left_to_envoy("path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD");
                cx.mesh
                    .settings
                    .http
                    .insert("path_with_escaped_slashes_action".to_owned(), "UNESCAPE_AND_FORWARD".into());
            }
            Some("NONE") => field.refuse(
                "the policy rests on paths that have one reading: they are normalised all the same",
                "leave it out",
            ),
            _ => drop(field.wrong::<()>(
                "this is no normalization; use BASE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES",
            )),
        }
    }
    for field in object.field("extensionProviders").into_iter().flat_map(|providers| providers.items()) {
        provider(&field, resource, cx);
    }
    if let Some(field) = object.field("enableTracing")
        && let Some(enabled) = field.flag()
    {
        cx.mesh.tracing.disabled = !enabled;
        field.left_to_envoy(tracing_to);
    }
    if let Some(config) = object.field("defaultConfig").and_then(|field| field.object()) {
        if let Some(tracing) = config.field("tracing").and_then(|field| field.object()) {
            proxy_tracing(&tracing, resource, cx);
        }
        config.rest(|field| field.no_meaning_as_a_whole("how sidecars run is not this proxy's business"));
    }
    if let Some(defaults) = object.field("defaultProviders").and_then(|field| field.object()) {
        for field in defaults.field("tracing").into_iter().flat_map(|names| names.items()) {
            let Some(name) = field.text() else { continue };
            match cx.mesh.collectors.get(name).cloned() {
                Some(collector) => {
                    cx.mesh.tracing.collector = Some(collector);
                    field.left_to_envoy("the collector of spans");
                }
                None => field.refuse(
                    format!("{name} is not among extensionProviders as a collector that Envoy knows: no spans are sent"),
                    "give it a zipkin or an opentelemetry with service and port",
                ),
            }
        }
        defaults.rest(|field| field.no_meaning_as_a_whole("logs are Envoy's own, and metrics Prometheus's"));
    }
    if let Some(field) = object.field("outboundTrafficPolicy") {
        field.no_meaning("it is about what leaves a mesh");
    }
    object.rest(|field| field.no_meaning_as_a_whole("it is about Istio's control plane, or about sidecars"));
}

/// `defaultConfig.tracing`: how many spans there are, what is in them, and where they go.
fn proxy_tracing(object: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    if let Some(field) = object.field("sampling")
        && let Some(percent) = field.number(0.0, 100.0)
    {
        cx.mesh.tracing.sampling = Some(percent);
        field.left_to_envoy("tracing of the listener");
    }
    for (name, field) in object.field("customTags").into_iter().flat_map(|tags| tags.entries()) {
        cx.mesh.tracing.tags.extend(span_tag(name, &field));
    }
    if let Some(zipkin) = object.field("zipkin").and_then(|field| field.object())
        && let Some(field) = zipkin.field("address")
        && let Some(text) = field.text()
    {
        field.left_to_envoy("the collector of spans");
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (text, Some(ZIPKIN)),
        };
        match port {
            Some(port) => {
                cx.mesh.tracing.collector = Some(Collector {
                    address: (host.to_owned(), port),
                    protocol: SpanProtocol::Zipkin,
                    origin: cx.origin(resource, field.path()),
                });
            }
            None => drop(field.wrong::<()>("this is not HOST:PORT")),
        }
    }
    if let Some(field) = object.field("maxPathTagLength")
        && let Some(length) = field.whole(1, 65_536)
    {
        field.left_to_envoy("tracing of the listener");
        cx.mesh.tracing.fields.insert("max_path_tag_length".to_owned(), json!(length));
    }
    for name in ["lightstep", "datadog", "stackdriver", "openCensusAgent", "tlsSettings"] {
        if let Some(field) = object.field(name) {
            field.refuse(
                "spans go to Zipkin's or to OpenTelemetry's collectors",
                "use zipkin, which most collectors take",
            );
        }
    }
}

fn provider(field: &Field<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(object) = field.object() else { return };
    let name = object.field("name").and_then(|field| {
        let name = field.text()?;
        field.left_to_envoy("what a Telemetry calls it");
        Some(name.to_owned())
    });
    for (kind, protocol, usual) in
        [("zipkin", SpanProtocol::Zipkin, ZIPKIN), ("opentelemetry", SpanProtocol::OpenTelemetry, 4317)]
    {
        let Some(provider) = object.field(kind).and_then(|field| field.object()) else { continue };
        let service = provider.field("service").and_then(|field| {
            let service = field.text()?;
            field.left_to_envoy("the collector of spans");
            Some(service.rsplit('/').next().unwrap_or(service).to_owned())
        });
        let port = provider.field("port").and_then(|field| {
            let port = field.whole(1, 65_535)?;
            field.left_to_envoy("the collector of spans");
            u16::try_from(port).ok()
        });
        let mut protocol = protocol;
        if protocol == SpanProtocol::OpenTelemetry
            && let Some(http) = provider.field("http").and_then(|field| field.object())
        {
            let path = http.field("path").and_then(|field| {
                let path = field.text()?;
                field.left_to_envoy("the collector of spans");
                Some(format!("/{}", path.trim_start_matches('/')))
            });
            protocol = SpanProtocol::OpenTelemetryHttp(path.unwrap_or_else(|| TRACES.to_owned()));
            http.rest(|field| {
                field.refuse("of a collector its path is taken", "lay it over tracing in envoy.yaml");
            });
        }
        if let (Some(service), Some(name)) = (service, &name) {
            let collector = Collector {
                address: (service, port.unwrap_or(usual)),
                protocol,
                origin: cx.origin(resource, field.path()),
            };
            cx.mesh.collectors.insert(name.clone(), collector);
        }
        provider.rest(|field| {
            field.refuse("of a collector its service and port are taken", "lay it over tracing in envoy.yaml")
        });
    }
    object.rest(|field| match field.path().rsplit('.').next() {
        Some("prometheus") => field.no_meaning_as_a_whole("Envoy tells Prometheus by itself"),
        Some("envoyExtAuthzHttp" | "envoyExtAuthzGrpc") => {
            field.no_meaning_as_a_whole("an AuthorizationPolicy that names it is refused")
        }
        _ => field.no_meaning_as_a_whole("whoever names it is told that it is not known here"),
    });
}
