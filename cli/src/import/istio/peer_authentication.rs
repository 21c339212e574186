//! PeerAuthentication → whether clients have to show a certificate of the mesh.

use crate::import::dialect::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::{Peer, PeerMode};
use crate::import::read::Resource;

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    let selected = spec.field("selector").is_some_and(|field| {
        field.taken("the proxy that this policy is for");
        field
            .value()
            .pointer("/matchLabels")
            .and_then(|labels| labels.as_object())
            .is_some_and(|labels| !labels.is_empty())
    });
    // The more specific one counts: workload, namespace, mesh.
    let rank = match (selected, cx.namespace(resource) == cx.scope.root_namespace) {
        (true, _) => 2,
        (false, false) => 1,
        (false, true) => 0,
    };
    let mut found = Vec::new();
    if let Some(field) = spec.field("mtls") {
        found.push((None, mode(&field)));
    }
    if let Some(field) = spec.field("portLevelMtls") {
        for (port, field) in field.entries() {
            match port.parse::<u16>() {
                Ok(port) => found.push((Some(port), mode(&field))),
                Err(_) => drop(field.wrong::<()>(format!("{port} is not a port"))),
            }
        }
    }
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
