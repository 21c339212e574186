//! Where the backends of a rule are, and whether a route may name them.

use super::GROUP;
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::{Destination, hosts};
use crate::import::read::Resource;

/// Where a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// There.
    At(Destination),
    /// Nobody knows, or nobody may: its requests are answered with 500. That was said.
    Nowhere,
}

/// A `backendRef`.
pub fn backend(field: &Field<'_>, to: &str, resource: &Resource, cx: &Context<'_>) -> Option<Backend> {
    let object = field.object()?;
    backend_of(&object, field, to, resource, cx)
}

/// A backend; other members of the object are somebody else's. `None` where it is none, which was said.
pub fn backend_of(
    object: &Object<'_>,
    field: &Field<'_>,
    to: &str,
    resource: &Resource,
    cx: &Context<'_>,
) -> Option<Backend> {
    let text = |name: &'static str| -> Option<String> {
        let field = object.field(name)?;
        let text = field.text()?;
        field.taken(to);
        Some(text.to_owned())
    };
    let (group, kind) = (text("group").unwrap_or_default(), text("kind"));
    let namespace = text("namespace").unwrap_or_else(|| cx.namespace(resource).to_owned());
    let port = object.field("port").and_then(|field| {
        let port = field.whole(1, 65_535)?;
        field.taken(format!("{to}.port"));
        u16::try_from(port).ok()
    });
    let Some(named) = object.field("name") else {
        field.problem_here("a backend needs a name", "give it name and port");
        return None;
    };
    let name = named.text()?;
    let kind = kind.unwrap_or_else(|| "Service".to_owned());
    let nowhere = |reason: String, remedy: String| {
        named.refuse(
            format!("{reason}: what would go there is answered with 500, as the Gateway API has it"),
            remedy,
        );
        Some(Backend::Nowhere)
    };
    if kind != "Service" || !matches!(group.as_str(), "" | "core") {
        let of = if group.is_empty() { String::new() } else { format!(" of {group}") };
        return nowhere(format!("nothing is known of {kind}{of} as a backend"), "name a Service".to_owned());
    }
    let from = (resource.kind.as_str(), cx.namespace(resource));
    // Linkerd's own routes need no leave.
    let is_own = resource.group.as_deref().is_none_or(|group| group == GROUP);
    if is_own && !cx.mesh.gateways.grants(from, ("Service", &namespace, name)) {
        return nowhere(
            format!("no ReferenceGrant of {namespace} lets {} of {} name the Service {name}", from.0, from.1),
            format!("put the ReferenceGrant of {namespace} into the input"),
        );
    }
    let host = hosts::of_service(name, &namespace);
    let service = cx.mesh.services.get(&host);
    let port = port.or_else(|| cx.mesh.services.only_port(&host));
    let destination = Destination { host: host.clone(), subset: None, port };
    let is_given = cx.scope.is_given(&destination);
    if let (Some(service), Some(port)) = (service, port)
        && !service.ports.is_empty()
        && !service.ports.iter().any(|known| known.number == port)
        && !is_given
    {
        let known: Vec<String> = service.ports.iter().map(|port| port.number.to_string()).collect();
        return nowhere(
            format!("the Service {namespace}/{name} has no port {port}, but {}", known.join(", ")),
            "name one of its ports".to_owned(),
        );
    }
    if port.is_none() {
        field.problem_here("a Service needs a port", "give it port");
        return None;
    }
    let described = service.is_some() || cx.mesh.services.endpoints.contains_key(&host) || is_given;
    // Where nobody describes anything, names are for DNS.
    let anything = cx.scope.gives_anything()
        || cx.mesh.services.by_host.keys().any(|host| hosts::parts(host).is_some())
        || !cx.mesh.services.endpoints.is_empty();
    if !described && anything {
        return nowhere(
            format!("nobody describes the Service {namespace}/{name}"),
            format!("put it into the input, or say --endpoint {name}=HOST:PORT"),
        );
    }
    named.taken(format!("{to}.host"));
    Some(Backend::At(destination))
}
