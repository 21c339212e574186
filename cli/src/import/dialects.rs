//! The table of the dialects, and which of their kinds a resource is.

use super::dialect::{Dialect, Kind};
use super::field::nearest;
use super::read::Resource;
use super::{consul, envoy_gateway, gateway, istio, kubernetes, linkerd, openapi, smi};

/// All of them.
pub static DIALECTS: &[&Dialect] = &[
    &kubernetes::DIALECT,
    &istio::DIALECT,
    &gateway::DIALECT,
    &envoy_gateway::DIALECT,
    &linkerd::DIALECT,
    &smi::DIALECT,
    &consul::DIALECT,
    &openapi::DIALECT,
];

/// Whether any dialect has a kind of this name.
pub fn is_known(kind: &str) -> bool {
    DIALECTS.iter().any(|dialect| dialect.kinds.iter().any(|known| known.name == kind))
}

/// The kind of a group that was meant by a name that it does not have.
pub fn nearest_kind(kind: &str, group: &str) -> Option<&'static str> {
    let all = DIALECTS.iter().flat_map(|dialect| dialect.kinds);
    let known: Vec<&str> =
        all.filter(|known| known.groups.contains(&group)).map(|known| known.name).collect();
    // Kinds that there are, though not here, and whose names are near to others.
    const OTHERS: [&str; 2] = ["TCPRoute", "ClientTrafficPolicy"];
    if OTHERS.contains(&kind) { None } else { nearest(kind, &known) }
}

/// What is known of a resource's kind.
///
/// # Errors
/// More than one dialect has the kind, and the resource has no `apiVersion`: the groups that it may have.
pub fn find(
    resource: &Resource,
    group: Option<&str>,
) -> Result<Option<(&'static Dialect, &'static Kind)>, Vec<&'static str>> {
    let of = |dialect: &'static Dialect| dialect.kinds.iter().map(move |known| (dialect, known));
    let named: Vec<_> = DIALECTS
        .iter()
        .copied()
        .flat_map(of)
        .filter(|(_, known)| known.name == resource.kind && (known.is)(resource))
        .collect();
    match (group, named.as_slice()) {
        (Some(group), _) => Ok(named.into_iter().find(|(_, known)| known.groups.contains(&group))),
        (None, []) => Ok(None),
        (None, [one]) => Ok(Some(*one)),
        (None, several) if group_by_content(resource).is_some() => {
            let group = group_by_content(resource).unwrap_or_default();
            Ok(several.iter().copied().find(|(_, known)| known.groups.contains(&group)))
        }
        (None, several) => Err(several.iter().filter_map(|(_, kind)| kind.groups.first().copied()).collect()),
    }
}

/// The group that a resource without `apiVersion` must have, as what stands in it shows.
fn group_by_content(resource: &Resource) -> Option<&'static str> {
    let spec = resource.value.get("spec")?;
    match resource.kind.as_str() {
        "Gateway" if spec.get("listeners").is_some() => Some("gateway.networking.k8s.io"),
        "Gateway" => Some("networking.istio.io"),
        "AuthorizationPolicy" if spec.get("requiredAuthenticationRefs").is_some() => {
            Some("policy.linkerd.io")
        }
        "AuthorizationPolicy" => Some("security.istio.io"),
        "HTTPRoute" | "GRPCRoute" => {
            let mut parents =
                spec.get("parentRefs").and_then(serde_json::Value::as_array).into_iter().flatten();
            let of_server = parents.any(|parent| parent.get("kind").is_some_and(|kind| kind == "Server"));
            Some(if of_server { "policy.linkerd.io" } else { "gateway.networking.k8s.io" })
        }
        _ => None,
    }
}
