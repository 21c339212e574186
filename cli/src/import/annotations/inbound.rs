//! Annotations of a pod or its namespace that say who gets in where no Server of Linkerd's is.

use crate::import::read::Resource;

/// The annotation of a pod or a namespace that says who gets in where no Server is.
pub const BY_DEFAULT: &str = "config.linkerd.io/default-inbound-policy";

/// At these ports only clients with an identity of the mesh get in.
pub const WITH_IDENTITY: &str = "config.linkerd.io/proxy-require-identity-inbound-ports";

/// What of these annotations a workload's reader takes.
pub const OF_WORKLOADS: &[&str] = &[BY_DEFAULT, WITH_IDENTITY];

/// What they say, where they stand at this JSON pointer.
pub fn said(resource: &Resource, at: &str) -> Option<String> {
    let annotations = resource.value.pointer(at)?;
    annotations.get(BY_DEFAULT)?.as_str().map(str::to_owned)
}

/// Whether an annotation of a resource says who gets in where no Server is.
pub fn has_default(resource: &Resource) -> bool {
    let at = match resource.kind.as_str() {
        "Pod" | "Namespace" => "/metadata/annotations",
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" => "/spec/template/metadata/annotations",
        _ => return false,
    };
    said(resource, at).is_some()
}
