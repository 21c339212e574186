//! PeerAuthentication → whether clients have to show a certificate of the mesh.

use super::{level, superseded};
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::{Peer, PeerMode};
use crate::import::read::Resource;
use crate::import::scope::Audience;

/// The level of a policy with a selector.
const WORKLOAD: u8 = 2;

/// Reads one. For each level one counts, the oldest.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(field) = top.field("spec") else { return };
    let audience = Audience::Workloads("/spec/selector/matchLabels");
    let rank = level(resource, cx.scope);
    let of_root = cx.namespace(resource) == cx.scope.root_namespace;
    let reason = match rank {
        WORKLOAD if of_root => Some("in the root namespace Istio takes none with a selector".to_owned()),
        _ => superseded(resource, audience, cx),
    };
    if let Some(reason) = reason {
        field.no_meaning(&reason);
        field.warn(reason, "leave it out");
        return;
    }
    let Some(spec) = field.object() else { return };
    if let Some(field) = spec.field("selector") {
        field.taken("the proxy that this policy is for");
    }
    let mut found = Vec::new();
    if let Some(field) = spec.field("mtls") {
        found.push((None, mode(&field)));
    }
    if let Some(field) = spec.field("portLevelMtls") {
        if rank != WORKLOAD {
            let reason = "Istio takes it only where there is a selector";
            field.no_meaning(reason);
            field.warn(reason, "give the policy a selector");
            return finish(found, rank, cx);
        }
        for (port, field) in field.entries() {
            match port.parse::<u16>() {
                Ok(port) => found.push((Some(port), mode(&field))),
                Err(_) => drop(field.wrong::<()>(format!("{port} is not a port"))),
            }
        }
    }
    finish(found, rank, cx);
}

/// The more specific one counts: workload, namespace, mesh.
fn finish(found: Vec<(Option<u16>, Option<PeerMode>)>, rank: u8, cx: &mut Context<'_>) {
    for (port, mode) in found {
        let Some(mode) = mode else { continue };
        let known = cx.mesh.peers.get(&port);
        if known.is_none_or(|known| known.rank < rank) {
            cx.mesh.peers.insert(port, Peer { rank, mode });
        }
    }
}

fn mode(field: &Field<'_>) -> Option<PeerMode> {
    let object = field.object()?;
    let field = object.field("mode")?;
    let mode = match field.text()? {
        "STRICT" => Some(PeerMode::Strict),
        "PERMISSIVE" => Some(PeerMode::Permissive),
        "DISABLE" => Some(PeerMode::Disable),
        "UNSET" => None,
        other => {
            return field.wrong(format!("{other} is no mode; use STRICT, PERMISSIVE or DISABLE"));
        }
    };
    field.left_to_envoy("the listener's TLS");
    mode
}
