//! A set of buckets: one value in shared data.
//!
//! A few buckets stand in it exactly. A new key that finds no room displaces the bucket that will be full soonest; a
//! full one costs nothing to forget, and of any other it is kept when it will be full, in an overflow cell that its
//! fingerprint names. A cell keeps the latest time of all that went there. A key that is not among the exact buckets
//! starts with what is missing of a bucket that is full at its cell's time: a displaced key never has more than its
//! own bucket would have had, and a new one has a full bucket unless its cell holds another's debt.

use super::bucket::{Fill, TokenBucket, Tokens, whole};
use crate::host::Instant;

/// So many buckets of a set are exact.
pub const WAYS: usize = 4;

/// So many overflow cells a set has, once it needs them.
pub const CELLS: usize = 64;

/// The top bits of a fingerprint name its cell.
const CELL_SHIFT: u32 = u64::BITS - CELLS.ilog2();

/// Cells count time in units of 2^24 ns, about 17 ms, rounded up: 32 bits of them are more than two years.
const UNIT_SHIFT: u32 = 24;

/// In a cell: farther away than can be counted.
const NEVER: u32 = u32::MAX;

/// Exactly kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    fingerprint: u64,
    fill: Fill,
    /// When it is full, at the speed that it had when it was last taken from.
    full_at: Instant,
}

const BUCKET_SIZE: usize = 48;

/// One set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    buckets: Vec<Bucket>,
    /// The point in time, in units, that the cells count from.
    base: u64,
    /// When what went there is full, in units after the base; empty if nothing is missing anywhere.
    cells: Vec<u32>,
}

/// What a bucket says to a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Whether the tokens were there, and are taken.
    pub allowed: bool,
    /// What is missing of the bucket now.
    pub debt: Tokens,
    /// The key got a slot that was free.
    pub claimed: bool,
    /// Another bucket made room for it before it was full.
    pub displaced: bool,
    /// Nothing is taken, but the set has changed: the key got an empty bucket of its own, because what holds it back
    /// would do so for longer than an empty bucket.
    pub outlasted: bool,
}

impl Set {
    /// Reads a set. What cannot be read is an empty one.
    pub fn decode(bytes: &[u8]) -> Self {
        Self::try_decode(bytes).unwrap_or_default()
    }

    fn try_decode(bytes: &[u8]) -> Option<Self> {
        let (count, bytes) = bytes.split_first()?;
        let (base, bytes) = bytes.split_first_chunk()?;
        let (buckets, bytes) = bytes.split_at_checked(usize::from(*count).checked_mul(BUCKET_SIZE)?)?;
        let (cells, rest) = bytes.as_chunks::<4>();
        let fits =
            usize::from(*count) <= WAYS && (cells.is_empty() || cells.len() == CELLS) && rest.is_empty();
        let mut set = Set { base: u64::from_le_bytes(*base), ..Set::default() };
        set.buckets.reserve_exact(WAYS);
        set.buckets.extend(buckets.as_chunks::<BUCKET_SIZE>().0.iter().filter_map(Bucket::decode));
        set.cells.extend(cells.iter().map(|cell| u32::from_le_bytes(*cell)));
        fits.then_some(set)
    }

    /// Writes a set.
    pub fn encode(&self) -> Vec<u8> {
        let size = self.buckets.len().saturating_mul(BUCKET_SIZE).saturating_add(9);
        let mut bytes = Vec::with_capacity(size.saturating_add(self.cells.len().saturating_mul(4)));
        bytes.push(u8::try_from(self.buckets.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(&self.base.to_le_bytes());
        for bucket in &self.buckets {
            bytes.extend_from_slice(&bucket.fingerprint.to_le_bytes());
            bytes.extend_from_slice(&bucket.fill.debt.to_le_bytes());
            bytes.extend_from_slice(&bucket.fill.rest.to_le_bytes());
            bytes.extend_from_slice(&bucket.fill.stamp.to_le_bytes());
            bytes.extend_from_slice(&bucket.full_at.to_le_bytes());
        }
        for cell in &self.cells {
            bytes.extend_from_slice(&cell.to_le_bytes());
        }
        bytes
    }

    /// Takes tokens from a key's bucket if they are there.
    pub fn take(&mut self, fingerprint: u64, sizes: &TokenBucket, cost: u32, now: Instant) -> Taken {
        let known = self.buckets.iter().position(|bucket| bucket.fingerprint == fingerprint);
        let (fill, cell_time) = match known.and_then(|index| self.buckets.get(index)) {
            Some(bucket) => (sizes.refilled(bucket.fill, now), 0),
            None => {
                let cell_time = self.cell_time(fingerprint);
                (sizes.full_later(cell_time, now), cell_time)
            }
        };
        let after = sizes.take(fill.debt, cost);
        // A slower limit's debt in the cell must not hold this key back for longer than its own bucket takes to fill
        // from empty: from now on it has one of its own.
        let outlasted = after.is_none() && cell_time > sizes.full_at(now, whole(sizes.max_tokens));
        let mut taken = Taken {
            allowed: after.is_some(),
            debt: after.unwrap_or(fill.debt),
            claimed: false,
            displaced: false,
            outlasted,
        };
        if taken.allowed || taken.outlasted {
            let fill = Fill { debt: taken.debt, ..fill };
            let bucket = Bucket { fingerprint, fill, full_at: sizes.full_at(fill.stamp, fill.debt) };
            match known.and_then(|index| self.buckets.get_mut(index)) {
                Some(known) => *known = bucket,
                None => self.insert(bucket, now, &mut taken),
            }
        }
        taken
    }

    /// Puts tokens back that were taken a moment ago; says whether the bucket was still there.
    pub fn give_back(&mut self, fingerprint: u64, sizes: &TokenBucket, cost: u32) -> bool {
        let known = self.buckets.iter_mut().find(|bucket| bucket.fingerprint == fingerprint);
        let Some(bucket) = known else { return false };
        bucket.fill.debt = bucket.fill.debt.saturating_sub(whole(cost));
        bucket.full_at = sizes.full_at(bucket.fill.stamp, bucket.fill.debt);
        true
    }

    fn insert(&mut self, bucket: Bucket, now: Instant, taken: &mut Taken) {
        if self.buckets.len() < WAYS {
            taken.claimed = true;
            self.buckets.push(bucket);
        } else if let Some(room) = self.buckets.iter_mut().min_by_key(|bucket| bucket.full_at) {
            let displaced = std::mem::replace(room, bucket);
            taken.displaced = displaced.full_at > now;
            self.displace(displaced, now);
        }
    }

    /// Keeps of a bucket when it will be full.
    fn displace(&mut self, bucket: Bucket, now: Instant) {
        let now_units = now >> UNIT_SHIFT;
        let passed = now_units.saturating_sub(self.base);
        if passed > 0 {
            let passed = u32::try_from(passed).unwrap_or(u32::MAX);
            let counted = self.cells.iter_mut().filter(|cell| **cell != NEVER);
            counted.for_each(|cell| *cell = cell.saturating_sub(passed));
            if self.cells.iter().all(|cell| *cell == 0) {
                self.cells.clear();
            }
            self.base = now_units;
        }
        if bucket.full_at <= now {
            return;
        }
        if self.cells.is_empty() {
            self.cells.resize(CELLS, 0);
        }
        let full_at = (bucket.full_at >> UNIT_SHIFT).saturating_add(1);
        let after_base = u32::try_from(full_at.saturating_sub(self.base)).unwrap_or(NEVER);
        if let Some(cell) = self.cells.get_mut(cell_of(bucket.fingerprint)) {
            *cell = (*cell).max(after_base);
        }
    }

    /// When everything that was displaced into a key's cell is full.
    fn cell_time(&self, fingerprint: u64) -> Instant {
        match self.cells.get(cell_of(fingerprint)) {
            None | Some(0) => 0,
            Some(&NEVER) => Instant::MAX,
            Some(cell) => self.base.saturating_add(u64::from(*cell)).saturating_mul(1 << UNIT_SHIFT),
        }
    }
}

impl Bucket {
    fn decode(bytes: &[u8; BUCKET_SIZE]) -> Option<Self> {
        let (fingerprint, bytes) = bytes.split_first_chunk()?;
        let (debt, bytes) = bytes.split_first_chunk()?;
        let (rest, bytes) = bytes.split_first_chunk()?;
        let (stamp, bytes) = bytes.split_first_chunk()?;
        let full_at = bytes.first_chunk()?;
        Some(Bucket {
            fingerprint: u64::from_le_bytes(*fingerprint),
            fill: Fill {
                debt: Tokens::from_le_bytes(*debt),
                rest: u64::from_le_bytes(*rest),
                stamp: Instant::from_le_bytes(*stamp),
            },
            full_at: Instant::from_le_bytes(*full_at),
        })
    }
}

fn cell_of(fingerprint: u64) -> usize {
    usize::try_from(fingerprint >> CELL_SHIFT).unwrap_or(0)
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests;
