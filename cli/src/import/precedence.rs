//! Whose word counts for the requests to a service, where several resources speak of it, of whatever dialect.

use serde_json::Value;

use super::context::Context;
use super::mesh::hosts;
use super::read::Resource;

impl Context<'_> {
    /// Why a resource of one namespace says nothing of requests to a service of another: only a service's owner says where
    /// everybody's requests go; `None` where it does, or where the proxy's own requests are meant.
    pub fn not_its_service(&self, resource: &Resource, service: &str) -> Option<(String, &'static str)> {
        let own = self.namespace(resource);
        if own == service || own == self.scope.namespace {
            return None;
        }
        let reason = format!(
            "it is for requests of {own} to a service of {service}, and the proxy is in {}",
            self.scope.namespace
        );
        Some((
            reason,
            "put it into the service's namespace, or say --namespace for a proxy before those clients",
        ))
    }

    /// Why a route of a Service says nothing of the proxy's requests: what its namespace says of the Service itself holds in
    /// place of what the Service's owner says, and Linkerd's ServiceProfile in place of routes.
    pub fn replaced_for(&self, resource: &Resource, name: &str, namespace: &str) -> Option<String> {
        let host = hosts::of_service(name, namespace);
        if self.has_profile(&host) {
            return Some(format!("the ServiceProfile {host} holds in place of routes"));
        }
        let own = &self.scope.namespace;
        if self.namespace(resource) == own || namespace == own {
            return None;
        }
        let words = |route: &Resource| services_of(route, self.namespace(route));
        let word = format!("{namespace}/{name}");
        let mut clients = ["HTTPRoute", "GRPCRoute"]
            .into_iter()
            .flat_map(|kind| self.with((kind, "Services"), words, &word));
        let other = clients.find(|other| self.namespace(other) == own)?;
        Some(format!("{} {own}/{} of the proxy's own namespace holds in its place", other.kind, other.name))
    }

    /// [`Self::not_its_service`] for the full name of a host.
    pub fn not_its_host(&self, resource: &Resource, host: &str) -> Option<(String, &'static str)> {
        self.not_its_service(resource, hosts::parts(host)?.1)
    }

    /// Whether a service has a ServiceProfile in the input that counts.
    pub fn has_profile(&self, host: &str) -> bool {
        let words = |profile: &Resource| vec![hosts::first(&profile.name)];
        let profiles = self.with(("ServiceProfile", "name"), words, &hosts::first(host));
        profiles.into_iter().any(|profile| {
            self.host(&profile.name, profile) == host && self.not_its_host(profile, host).is_none()
        })
    }
}

/// The Services that a route hangs on, `NAMESPACE/NAME`.
fn services_of(route: &Resource, namespace: &str) -> Vec<String> {
    let parents = route.value.pointer("/spec/parentRefs").and_then(Value::as_array).into_iter().flatten();
    let service = |parent: &Value| {
        let text = |name: &str| parent.get(name).and_then(Value::as_str);
        let of = text("namespace").unwrap_or(namespace);
        (text("kind") == Some("Service")).then(|| Some(format!("{of}/{}", text("name")?))).flatten()
    };
    parents.filter_map(service).collect()
}
