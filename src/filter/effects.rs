use crate::host::{Host, MapType, Result};
use crate::request::HeaderEdit;

/// Makes the edits to the proxy's own map, in order. Editing a request header makes Envoy choose its route anew
/// (ABI 0.2.1), so nothing is called where nothing changed.
pub(super) fn apply(host: &dyn Host, map: MapType, edits: Vec<HeaderEdit>) -> Result<()> {
    edits.into_iter().try_for_each(|edit| match edit {
        HeaderEdit::Set(name, value) => host.set_header(map, &name, &value),
        HeaderEdit::Add(name, value) => host.add_header(map, &name, &value),
        HeaderEdit::Remove(name) => host.remove_header(map, &name),
    })
}
