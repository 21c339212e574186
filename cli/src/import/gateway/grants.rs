//! ReferenceGrant: what may be named from another namespace.

use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::gateways::Grant;
use crate::import::read::Resource;

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    let mut grant = Grant { namespace: cx.namespace(resource).to_owned(), ..Grant::default() };
    for item in spec.field("from").into_iter().flat_map(|from| from.items()) {
        let Some(object) = item.object() else { continue };
        let kind = text(&object, "kind");
        let namespace = text(&object, "namespace");
        text(&object, "group");
        grant.from.extend(kind.zip(namespace));
    }
    for item in spec.field("to").into_iter().flat_map(|to| to.items()) {
        let Some(object) = item.object() else { continue };
        let kind = text(&object, "kind");
        let name = text(&object, "name").filter(|name| !name.is_empty());
        text(&object, "group");
        grant.to.extend(kind.map(|kind| (kind, name)));
    }
    cx.mesh.gateways.grants.push(grant);
}

fn text(object: &Object<'_>, name: &'static str) -> Option<String> {
    let field: Field<'_> = object.field(name)?;
    let text = field.text()?;
    field.taken("who may name what in this namespace");
    Some(text.to_owned())
}
