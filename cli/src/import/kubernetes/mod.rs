//! What Kubernetes itself knows: services, what answers for them, secrets.

mod ingress;
mod services;
mod workloads;

use super::annotations::inbound::OF_WORKLOADS;
use super::annotations::times::OF_SERVICES;
use super::context::Context;
use super::dialect::{Dialect, Kind, Phase, Read, no_finish};
use super::field::Object;
use super::mesh::Secret;
use super::read::Resource;
use super::scope::Audience;

/// The kinds of the core and of `apps`.
pub static DIALECT: Dialect =
    Dialect { name: "Kubernetes", kinds: KINDS, istio_metrics: false, finish: no_finish };

/// What everything is in, and asks for nothing by itself.
pub const NAMESPACE: &str = "Namespace";

const KINDS: &[Kind] = &[
    Kind { annotations: OF_SERVICES, ..kind("Service", &[""], Phase::Services, services::service) },
    kind("Endpoints", &[""], Phase::Services, services::endpoints),
    kind("EndpointSlice", &["discovery.k8s.io"], Phase::Services, services::endpoint_slice),
    Kind { annotations: OF_WORKLOADS, ..kind("Pod", &[""], Phase::Workloads, workloads::pod) },
    kind("Deployment", &["apps"], Phase::Workloads, workloads::template),
    kind("StatefulSet", &["apps"], Phase::Workloads, workloads::template),
    kind("DaemonSet", &["apps"], Phase::Workloads, workloads::template),
    kind("ReplicaSet", &["apps"], Phase::Workloads, workloads::template),
    Kind { annotations: OF_WORKLOADS, ..kind(NAMESPACE, &[""], Phase::Settings, workloads::namespace) },
    kind("Secret", &[""], Phase::Services, secret),
    kind("Ingress", &["networking.k8s.io", "extensions"], Phase::Policies, ingress::read),
    kind("IngressClass", &["networking.k8s.io"], Phase::Settings, ingress::class),
];

const fn kind(name: &'static str, groups: &'static [&'static str], phase: Phase, read: Read) -> Kind {
    Kind { labels: true, ..Kind::new(name, groups, phase, Audience::Everyone, read) }
}

/// Certificates and keys. Nothing of them is in any message.
fn secret(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let mut secret = Secret::default();
    for (name, encoded) in [("data", true), ("stringData", false)] {
        let Some(data) = top.field(name) else { continue };
        for (key, field) in data.entries() {
            // Istio's older names stand beside those of Kubernetes.
            let part = match key {
                "tls.crt" | "cert" => &mut secret.certificate,
                "tls.key" | "key" => &mut secret.key,
                "ca.crt" | "cacert" => &mut secret.authorities,
                _ => {
                    field.no_meaning("no TLS has this name in a Secret");
                    continue;
                }
            };
            let bytes = match (field.value().as_str(), encoded) {
                (Some(text), true) => decode(text),
                (Some(text), false) => Some(text.as_bytes().to_vec()),
                _ => None,
            };
            match bytes {
                Some(bytes) => {
                    *part = Some(bytes);
                    field.left_to_envoy(
                        "a file for TLS, where a Gateway or a DestinationRule names this Secret",
                    );
                }
                None => drop(field.wrong::<()>("this is not base64")),
            }
        }
    }
    for name in ["type", "immutable"] {
        if let Some(field) = top.field(name) {
            field.no_meaning("its members say what it holds");
        }
    }
    let key = (cx.namespace(resource).to_owned(), resource.name.clone());
    cx.mesh.secrets.insert(key, secret);
}

fn decode(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    let plain: String = text.split_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(plain).ok()
}

#[cfg(test)]
mod tests;
