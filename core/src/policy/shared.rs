//! What the policies keep in the data that all workers of the process share.
//!
//! Every plugin of a proxy may have the same key space, so keys begin with `meshfilter.` and what belongs to one
//! plugin carries its name. Shared data never shrinks: the number of keys must not depend on what clients send.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::metric::Counter;
use crate::host::{Host, Result, Status};

/// Read, compare and swap, again and again while others come between. A worker that loses has let another one win, so
/// with a handful of workers this many in a row do not happen.
const ATTEMPTS: u32 = 100;

/// The plugin's name, by which listeners share what they count: its own, or else its root id.
pub fn plugin_name(host: &dyn Host) -> Vec<u8> {
    let known = |path: &str| host.property(&[path]).filter(|name| !name.is_empty());
    known("plugin_name").or_else(|| known("plugin_root_id")).unwrap_or_default()
}

/// The key of what one plugin keeps under a name of its document. Plugins of the same name share it, in whichever listener.
pub fn plugin_key(kind: &str, name: &str, host: &dyn Host) -> String {
    let mut hasher = SipHasher13::new();
    let plugin = plugin_name(host);
    hasher.write(&(plugin.len() as u64).to_le_bytes());
    hasher.write(&plugin);
    hasher.write(name.as_bytes());
    format!("meshfilter.{kind}.{:016x}", hasher.finish())
}

/// Changes a value as if nobody else could meanwhile. `change` sees the bytes that stand there, none if there are
/// none, and gives the new ones, or `None` if they can stay; it is run again if another worker was faster.
///
/// # Errors
/// [`Status::CasMismatch`] if the others were faster every time; what else the proxy says.
pub fn update<T>(
    host: &dyn Host,
    key: &str,
    mut change: impl FnMut(&[u8]) -> (Option<Vec<u8>>, T),
) -> Result<T> {
    for _ in 0..ATTEMPTS {
        let read = match host.shared_data(key) {
            Ok(read) => Some(read),
            Err(Status::NotFound) => None,
            Err(status) => return Err(status),
        };
        let (new, outcome) = change(read.as_ref().map_or(&[], |(bytes, _)| bytes));
        let Some(new) = new else { return Ok(outcome) };
        let written = match read {
            Some((_, cas)) => host.shared_data_swap(key, &new, cas),
            None => host.shared_data_create(key, &new),
        };
        match written {
            Ok(()) => return Ok(outcome),
            Err(Status::CasMismatch) => count_retry(host),
            Err(status) => return Err(status),
        }
    }
    Err(Status::CasMismatch)
}

/// Counts that a worker had to look again because another one was faster. So rare that it needs no [`Counter`] of its own.
pub fn count_retry(host: &dyn Host) {
    retries().add(1, host);
}

/// Shows what stands at 0 until something happens.
pub fn define(host: &dyn Host) {
    retries().define(host);
}

fn retries() -> Counter {
    Counter::new("meshfilter_cas_retries_total", &[])
}
