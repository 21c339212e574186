use crate::host::{Host, MapType, Result};
use crate::request::HeaderEdit;

/// What changes in a request's headers.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// Before the proxy chooses its route.
    pub before: Vec<HeaderEdit>,
    /// What it may not choose by.
    pub after: Vec<HeaderEdit>,
}

/// Makes the edits to the proxy's own request headers, and has it choose its route before it sees those that come after the
/// choice. In wasm, each edit makes Envoy choose anew (ABI 0.2.1), so nothing is called where nothing changed.
pub(super) fn apply_to_request(host: &dyn Host, Edits { before, after }: Edits) -> Result<()> {
    if before.is_empty() && after.is_empty() {
        return Ok(());
    }
    apply(host, MapType::HttpRequestHeaders, before)?;
    host.choose_route(!after.is_empty());
    apply(host, MapType::HttpRequestHeaders, after)
}

/// Makes the edits to one of the proxy's own maps, in order.
pub(super) fn apply(host: &dyn Host, map: MapType, edits: Vec<HeaderEdit>) -> Result<()> {
    edits.into_iter().try_for_each(|edit| match edit {
        HeaderEdit::Set(name, value) => host.set_header(map, &name, &value),
        HeaderEdit::Add(name, value) => host.add_header(map, &name, &value),
        HeaderEdit::Remove(name) => host.remove_header(map, &name),
    })
}
