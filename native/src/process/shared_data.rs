use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use meshfilter::host::{NumberHash, Result, Status};

use super::lock;

/// A map with compare-and-swap, as a proxy-wasm host has it: every value that is written has the next number of one
/// sequence, which a swap names. The policies bound how many keys there are.
pub struct SharedData {
    shards: OnceLock<Box<[Mutex<Shard>]>>,
    last: AtomicU32,
}

/// The keys are the policies' own; what clients send is in none of them but as a keyed hash, so a plain one will do here.
type Shard = HashMap<Box<str>, (Vec<u8>, u32), NumberHash>;

const SHARDS: usize = 64;

impl SharedData {
    pub const fn new() -> Self {
        SharedData { shards: OnceLock::new(), last: AtomicU32::new(0) }
    }

    /// A value and its number.
    pub fn get(&self, key: &str) -> Result<(Vec<u8>, u32)> {
        self.with(key, |shard| shard.get(key).cloned().ok_or(Status::NotFound))
    }

    /// Stores a value in place of the one that has this number.
    pub fn swap(&self, key: &str, value: &[u8], number: u32) -> Result<()> {
        self.with(key, |shard| {
            let stored = shard.get_mut(key).ok_or(Status::NotFound)?;
            if stored.1 != number {
                return Err(Status::CasMismatch);
            }
            stored.0.clear();
            stored.0.extend_from_slice(value);
            stored.1 = self.next();
            Ok(())
        })
    }

    /// Stores a value where there is none.
    pub fn create(&self, key: &str, value: &[u8]) -> Result<()> {
        self.with(key, |shard| {
            if shard.contains_key(key) {
                return Err(Status::CasMismatch);
            }
            shard.insert(key.into(), (value.to_vec(), self.next()));
            Ok(())
        })
    }

    fn with<T>(&self, key: &str, act: impl FnOnce(&mut Shard) -> Result<T>) -> Result<T> {
        let shards = self.shards.get_or_init(|| (0..SHARDS).map(|_| Mutex::default()).collect());
        // The map takes the upper bits, and the lowest; these are between them.
        let place = (NumberHash::default().hash_one(key) >> 24) as usize % SHARDS;
        act(&mut lock(shards.get(place).ok_or(Status::InternalFailure)?))
    }

    /// The sequence leaves 0 out.
    fn next(&self) -> u32 {
        loop {
            let number = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if number != 0 {
                return number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn a_swap_wants_the_number_of_what_stands_there() {
        let data = SharedData::new();
        assert_eq!(data.get("a"), Err(Status::NotFound));
        assert_eq!(data.swap("a", b"1", 1), Err(Status::NotFound));
        assert_eq!(data.create("a", b"1"), Ok(()));
        assert_eq!(data.create("a", b"2"), Err(Status::CasMismatch));
        let (value, number) = data.get("a").unwrap();
        assert_eq!(value, b"1");
        assert_eq!(data.swap("a", b"2", number.wrapping_add(1)), Err(Status::CasMismatch));
        assert_eq!(data.swap("a", b"2", number), Ok(()));
        assert_eq!(data.swap("a", b"3", number), Err(Status::CasMismatch));
        assert_eq!(data.get("a").unwrap().0, b"2");
    }

    #[test]
    fn a_write_with_no_other_in_between_has_the_next_number() {
        let data = SharedData::new();
        data.create("a", b"").unwrap();
        let (_, number) = data.get("a").unwrap();
        data.swap("a", b"", number).unwrap();
        assert_eq!(data.get("a").unwrap().1, number + 1);
        data.create("b", b"").unwrap();
        data.swap("a", b"", number + 1).unwrap();
        assert_eq!(data.get("a").unwrap().1, number + 3);
    }

    #[test]
    fn no_addition_of_several_threads_is_lost() {
        let data = Arc::new(SharedData::new());
        data.create("sum", &0_u64.to_le_bytes()).unwrap();
        let rounds = if cfg!(miri) { 20 } else { 1_000 };
        let add = |data: &SharedData| loop {
            let (value, number) = data.get("sum").unwrap();
            let sum = u64::from_le_bytes(value.try_into().unwrap()) + 1;
            if data.swap("sum", &sum.to_le_bytes(), number).is_ok() {
                break;
            }
        };
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let data = data.clone();
                thread::spawn(move || (0..rounds).for_each(|_| add(&data)))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(data.get("sum").unwrap().0, (4 * rounds as u64).to_le_bytes());
    }
}
