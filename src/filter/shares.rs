//! What each VM has added to the gauges, in data that all workers share: a VM that dies takes nothing back, so another one
//! does it for it, some time after it was last heard of.

use crate::host::{Host, Instant, Result};
use crate::policy::shared;

/// How many wait, for each reason.
pub(super) type Counts = [u32; 3];

const KEY: &str = "meshfilter.waiting";

/// Whoever says nothing for so long is dead. In nanoseconds.
const LEASE: u64 = 10_000_000_000;

/// The bytes of one share.
const LENGTH: usize = 28;

/// What one VM has added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    /// A random number.
    id: u64,
    /// When the others take it back.
    ends: Instant,
    counts: Counts,
}

/// What a VM comes to when it has told the others how many wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// What has to be added to the gauges: its own change, and what dead ones left behind.
    pub changes: [i64; 3],
    /// When it must tell again, or look after the others; `None` if nobody waits anywhere.
    pub again: Option<Instant>,
}

/// Tells how many wait in this VM, and drops the shares of those that are dead. One that was taken for dead, and is
/// not, adds all of its own anew.
pub(super) fn tell(id: u64, counts: Counts, now: Instant, host: &dyn Host) -> Result<Told> {
    shared::update(host, KEY, |bytes| {
        let (mine, others): (Vec<Share>, Vec<Share>) = read(bytes).partition(|share| share.id == id);
        let (mut shares, dead): (Vec<Share>, Vec<Share>) =
            others.into_iter().partition(|share| share.ends > now);
        let others_end = shares.iter().map(|share| share.ends).min();
        let waits = counts.iter().any(|count| *count > 0);
        let changed = waits || !mine.is_empty() || !dead.is_empty();
        if waits {
            shares.push(Share { id, ends: now.saturating_add(LEASE), counts });
        }
        let own_end = waits.then(|| now.saturating_add(LEASE / 2));
        let mut told = Told { changes: counts.map(i64::from), again: own_end.or(others_end) };
        for share in mine.iter().chain(&dead) {
            for (change, count) in told.changes.iter_mut().zip(share.counts) {
                *change = change.saturating_sub(count.into());
            }
        }
        (changed.then(|| write(&shares)), told)
    })
}

fn read(bytes: &[u8]) -> impl Iterator<Item = Share> {
    let (records, _) = bytes.as_chunks::<LENGTH>();
    records.iter().filter_map(|record| {
        let (id, rest) = record.split_first_chunk::<8>()?;
        let (ends, rest) = rest.split_first_chunk::<8>()?;
        let (counts, _) = rest.as_chunks::<4>();
        let [first, second, third] = counts.first_chunk::<3>()?;
        Some(Share {
            id: u64::from_le_bytes(*id),
            ends: Instant::from_le_bytes(*ends),
            counts: [first, second, third].map(|count| u32::from_le_bytes(*count)),
        })
    })
}

fn write(shares: &[Share]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for share in shares {
        bytes.extend_from_slice(&share.id.to_le_bytes());
        bytes.extend_from_slice(&share.ends.to_le_bytes());
        share.counts.iter().for_each(|count| bytes.extend_from_slice(&count.to_le_bytes()));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::fake::Fake;

    fn told(id: u64, counts: Counts, host: &Fake) -> ([i64; 3], Option<u64>) {
        let Told { changes, again } = tell(id, counts, host.now(), host).unwrap();
        (changes, again.map(|again| again.saturating_sub(host.now()) / 1_000_000_000))
    }

    #[test]
    fn a_share_is_added_once_and_taken_back_when_it_is_over() {
        let host = Fake::new();
        assert_eq!(told(1, [0, 0, 0], &host), ([0, 0, 0], None));
        assert_eq!(told(1, [2, 0, 1], &host), ([2, 0, 1], Some(5)));
        assert_eq!(told(2, [3, 0, 0], &host), ([3, 0, 0], Some(5)));
        assert_eq!(told(1, [1, 1, 1], &host), ([-1, 1, 0], Some(5)));
        assert_eq!(told(1, [0, 0, 0], &host), ([-1, -1, -1], Some(10)), "the other one still waits");
        assert_eq!(told(2, [0, 0, 0], &host), ([-3, 0, 0], None));
        assert_eq!(host.shared_data(KEY).unwrap().0, b"");
    }

    #[test]
    fn the_share_of_a_dead_one_is_taken_back_once() {
        let host = Fake::new();
        assert_eq!(told(1, [5, 0, 2], &host), ([5, 0, 2], Some(5)));
        host.advance(Duration::from_secs(4));
        assert_eq!(told(2, [1, 0, 0], &host), ([1, 0, 0], Some(5)));
        assert_eq!(told(3, [0, 0, 0], &host), ([0, 0, 0], Some(6)), "it looks when the first may be dead");
        host.advance(Duration::from_secs(6));
        assert_eq!(told(3, [0, 0, 0], &host), ([-5, 0, -2], Some(4)));
        assert_eq!(told(2, [1, 0, 0], &host), ([0, 0, 0], Some(5)));
        // The first was only slow.
        assert_eq!(told(1, [4, 0, 0], &host), ([4, 0, 0], Some(5)));
    }

    #[test]
    fn what_is_cut_short_is_read_as_far_as_it_goes() {
        let host = Fake::new();
        told(1, [1, 2, 3], &host);
        let (bytes, cas) = host.shared_data(KEY).unwrap();
        host.shared_data_swap(KEY, &[bytes, vec![0xff; LENGTH - 1]].concat(), cas).unwrap();
        assert_eq!(told(1, [0, 0, 0], &host), ([-1, -2, -3], None));
    }
}
