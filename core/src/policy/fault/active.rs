//! How many requests a fault holds at once, counted over all workers.
//!
//! A worker that crashes gives nothing back, so a place is a lease: it ends by itself some time after the request
//! should have gone on. Leases that end at about the same time are counted together, which bounds the value in
//! shared data however many there are.

use std::cell::OnceCell;
use std::time::Duration;

use crate::host::{Host, Instant};
use crate::policy::shared;

/// So long after its end a request may come to give back its place, however late the proxy's tick is.
const GRACE: Duration = Duration::from_secs(10);

/// The longest delay is divided into so many parts; leases that end within the same part are counted together.
const PARTS: u64 = 16;

/// The places of one fault.
#[derive(Debug)]
pub struct ActiveFaults {
    limit: u32,
    entry: Box<str>,
    /// In nanoseconds.
    part: u64,
    key: OnceCell<String>,
}

/// A place that a request holds.
#[derive(Debug)]
pub struct Place {
    key: String,
    ends: Instant,
}

/// So many leases end at this point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leases {
    end: Instant,
    count: u32,
}

impl ActiveFaults {
    /// The places of the entry of that name, whose longest delay is this.
    pub fn new(limit: u32, entry: &str, longest: Duration) -> Self {
        let nanoseconds = |length: Duration| u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let part = nanoseconds(longest).div_ceil(PARTS).max(nanoseconds(Duration::from_secs(1)));
        ActiveFaults { limit, entry: entry.into(), part, key: OnceCell::new() }
    }

    /// Takes a place for a request that goes on at `until`; `None` if there is none, or if it cannot be told.
    pub(super) fn enter(&self, host: &dyn Host, until: Instant) -> Option<Place> {
        let grace = u64::try_from(GRACE.as_nanos()).unwrap_or(u64::MAX);
        let ends = until.saturating_add(grace).div_ceil(self.part).saturating_mul(self.part);
        let key = self.key(host);
        let entered = shared::update(host, key, |bytes| {
            let mut leases = read(bytes, host.now());
            if total(&leases) >= u64::from(self.limit) {
                return (None, false);
            }
            add(&mut leases, ends);
            (Some(write(&leases)), true)
        });
        match entered {
            Ok(true) => Some(Place { key: key.to_owned(), ends }),
            Ok(false) => None,
            Err(status) => {
                log::warn!("meshfilter: fault {}: active faults cannot be counted: {status:?}", self.entry);
                None
            }
        }
    }

    /// Whether there is no place.
    pub(super) fn is_full(&self, host: &dyn Host) -> bool {
        let bytes = host.shared_data(self.key(host)).map(|(bytes, _)| bytes).unwrap_or_default();
        total(&read(&bytes, host.now())) >= u64::from(self.limit)
    }

    fn key(&self, host: &dyn Host) -> &str {
        self.key.get_or_init(|| shared::plugin_key("active", &self.entry, host))
    }
}

impl Place {
    /// Gives the place back. A lease that is over has given it back already.
    pub(super) fn leave(self, host: &dyn Host) {
        let left = shared::update(host, &self.key, |bytes| {
            let mut leases = read(bytes, host.now());
            let held = leases.iter_mut().find(|leases| leases.end == self.ends && leases.count > 0);
            match held {
                Some(held) => {
                    held.count = held.count.saturating_sub(1);
                    (Some(write(&leases)), ())
                }
                None => (None, ()),
            }
        });
        if let Err(status) = left {
            log::warn!("meshfilter: a place among the active faults ends later by itself: {status:?}");
        }
    }
}

fn total(leases: &[Leases]) -> u64 {
    leases.iter().map(|leases| u64::from(leases.count)).sum()
}

fn add(leases: &mut Vec<Leases>, end: Instant) {
    match leases.iter_mut().find(|leases| leases.end == end) {
        Some(leases) => leases.count = leases.count.saturating_add(1),
        None => leases.push(Leases { end, count: 1 }),
    }
}

/// The leases that are in force.
fn read(bytes: &[u8], now: Instant) -> Vec<Leases> {
    let (records, _) = bytes.as_chunks::<12>();
    let read = records.iter().filter_map(|record| {
        let (end, count) = record.split_first_chunk::<8>()?;
        let count = count.first_chunk::<4>()?;
        Some(Leases { end: Instant::from_le_bytes(*end), count: u32::from_le_bytes(*count) })
    });
    read.filter(|leases| leases.end > now && leases.count > 0).collect()
}

fn write(leases: &[Leases]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for leases in leases.iter().filter(|leases| leases.count > 0) {
        bytes.extend_from_slice(&leases.end.to_le_bytes());
        bytes.extend_from_slice(&leases.count.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests;
