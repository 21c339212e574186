//! Tokens whose signatures are known to be good, so that one that comes again costs a lookup.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;

use serde_json::Value;

use super::Verified;
use crate::host::{NumberHash, NumberHasher, same};

/// Verified tokens of one VM, by rule and by all their bytes. Whether a token is still good for a request is looked
/// at again each time; only the signature is not, as long as the key set is the one that verified it.
#[derive(Debug)]
pub struct Cache {
    max_entries: usize,
    max_bytes: usize,
    /// Random, so that nobody can aim at one place. What is found is compared byte for byte all the same, and what is not
    /// verified has none.
    secret: u64,
    /// By [`Cache::hash`].
    entries: HashMap<u64, Entry, NumberHash>,
    /// In the order of their coming.
    queue: VecDeque<u64>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    rule: usize,
    token: Box<[u8]>,
    verified: Rc<Verified>,
    /// Which key set verified it.
    keys: u64,
    /// When the token cannot be good any more, in seconds since the epoch.
    expires: u64,
    bytes: usize,
    /// Whether it was of use since it was last looked at for making room.
    used: bool,
}

impl Default for Cache {
    /// 8192 tokens and 8 MiB.
    fn default() -> Self {
        Cache::new(8192, 8 << 20)
    }
}

impl Cache {
    /// An empty one with its bounds.
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Cache {
            max_entries,
            max_bytes,
            secret: RandomState::new().hash_one(0),
            entries: HashMap::default(),
            queue: VecDeque::new(),
            bytes: 0,
        }
    }

    /// A token that a rule verified, and the version of the key set that it did it with.
    pub fn get(&mut self, rule: usize, token: &[u8], now: u64) -> Option<(Rc<Verified>, u64)> {
        if self.entries.is_empty() {
            return None;
        }
        let hash = self.hash(rule, token);
        let entry = self.entries.get_mut(&hash)?;
        if entry.rule != rule || !same(&entry.token, token) {
            return None;
        }
        if now >= entry.expires {
            self.remove(hash);
            return None;
        }
        entry.used = true;
        Some((entry.verified.clone(), entry.keys))
    }

    /// Keeps a verified token until it expires, its key set changes or its room is needed.
    pub fn insert(&mut self, rule: usize, token: &[u8], verified: Rc<Verified>, keys: u64, expires: u64) {
        let bytes = size(token, &verified);
        // One token must not push out all the others.
        if bytes > self.max_bytes.div_ceil(16) || self.max_entries == 0 {
            return;
        }
        let hash = self.hash(rule, token);
        let entry = Entry { rule, token: token.into(), verified, keys, expires, bytes, used: false };
        self.bytes = self.bytes.saturating_add(bytes);
        match self.entries.insert(hash, entry) {
            Some(old) => self.bytes = self.bytes.saturating_sub(old.bytes),
            None => self.queue.push_back(hash),
        }
        self.make_room();
    }

    /// A token is known by its end, which is the end of its signature: good tokens differ there.
    fn hash(&self, rule: usize, token: &[u8]) -> u64 {
        let end = token.len().checked_sub(TAIL).and_then(|start| token.get(start..)).unwrap_or(token);
        let mut hasher = NumberHasher::keyed(self.secret);
        hasher.write_usize(rule);
        hasher.write(end);
        hasher.finish()
    }

    /// Lets go of the oldest; one that was of use gets a second chance.
    fn make_room(&mut self) {
        // Each round takes an entry or its second chance away.
        while self.entries.len() > self.max_entries || self.bytes > self.max_bytes {
            let Some(hash) = self.queue.pop_front() else { return };
            match self.entries.get_mut(&hash) {
                Some(entry) if entry.used => {
                    entry.used = false;
                    self.queue.push_back(hash);
                }
                Some(_) => self.forget(hash),
                None => {}
            }
        }
    }

    fn remove(&mut self, hash: u64) {
        self.forget(hash);
        self.queue.retain(|queued| *queued != hash);
    }

    fn forget(&mut self, hash: u64) {
        if let Some(entry) = self.entries.remove(&hash) {
            self.bytes = self.bytes.saturating_sub(entry.bytes);
        }
    }
}

/// So many bytes at a token's end are hashed: those of the shortest signature, and a few more.
const TAIL: usize = 48;

/// What an entry takes in memory, roughly and rather too much.
fn size(token: &[u8], verified: &Verified) -> usize {
    const ENTRY: usize = 512;
    let headers = verified.headers.iter().map(|(name, value)| name.len().saturating_add(value.len()));
    let claims = verified.token.claims.iter().map(|(name, value)| member_size(name, value));
    headers.chain(claims).fold(token.len().saturating_add(ENTRY), usize::saturating_add)
}

/// Recursion is as deep as the parser lets JSON be.
fn value_size(value: &Value) -> usize {
    const VALUE: usize = 40;
    let inner = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(value_size).fold(0, usize::saturating_add),
        Value::Object(map) => {
            map.iter().map(|(name, value)| member_size(name, value)).fold(0, usize::saturating_add)
        }
    };
    inner.saturating_add(VALUE)
}

fn member_size(name: &str, value: &Value) -> usize {
    const MEMBER: usize = 64;
    value_size(value).saturating_add(name.len()).saturating_add(MEMBER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Token;

    fn verified() -> Rc<Verified> {
        Rc::new(Verified { token: Rc::new(Token::default()), ..Verified::default() })
    }

    const KEYS: u64 = 7;

    fn has(cache: &mut Cache, rule: usize, token: &[u8]) -> bool {
        cache.get(rule, token, 0).is_some()
    }

    #[test]
    fn a_token_is_found_under_its_rule_with_its_key_set() {
        let mut cache = Cache::new(8, 1 << 20);
        cache.insert(1, b"a", verified(), KEYS, 10);
        assert_eq!(cache.get(1, b"a", 9).unwrap().1, KEYS);
        assert!(!has(&mut cache, 0, b"a"));
        assert!(!has(&mut cache, 1, b"b"));
    }

    #[test]
    fn it_dies_with_the_token() {
        let mut cache = Cache::new(8, 1 << 20);
        cache.insert(0, b"a", verified(), KEYS, 10);
        assert!(cache.get(0, b"a", 10).is_none());
        assert_eq!((cache.entries.len(), cache.queue.len(), cache.bytes), (0, 0, 0));
    }

    #[test]
    fn the_number_of_entries_is_bounded_and_what_is_used_stays() {
        let mut cache = Cache::new(3, 1 << 20);
        cache.insert(0, b"old", verified(), KEYS, u64::MAX);
        for number in 0..100_u32 {
            assert!(has(&mut cache, 0, b"old"), "{number}");
            cache.insert(0, &number.to_le_bytes(), verified(), KEYS, u64::MAX);
            assert!(cache.entries.len() <= 3 && cache.queue.len() <= 3);
        }
        assert!(has(&mut cache, 0, &99_u32.to_le_bytes()));
        assert!(!has(&mut cache, 0, &50_u32.to_le_bytes()));
    }

    #[test]
    fn their_bytes_are_bounded() {
        let mut cache = Cache::new(1000, 16 << 10);
        cache.insert(0, &[0; 2000], verified(), KEYS, u64::MAX);
        assert!(!has(&mut cache, 0, &[0; 2000]), "it would take a sixteenth of the room");
        for number in 0..100_u8 {
            cache.insert(0, &[number; 400], verified(), KEYS, u64::MAX);
            assert!(cache.bytes <= 16 << 10);
        }
        assert!(cache.entries.len() > 10);
        let bytes = cache.bytes;
        cache.insert(0, &[99; 400], verified(), KEYS, u64::MAX);
        assert_eq!(cache.bytes, bytes, "the same one once more");
        while let Some(hash) = cache.queue.pop_front() {
            cache.forget(hash);
        }
        assert_eq!(cache.bytes, 0);
    }

    #[test]
    fn a_token_weighs_what_its_claims_take() {
        let claims = serde_json::json!({"list": vec![0; 1000]}).as_object().unwrap().clone();
        let token = Token { claims, ..Token::default() };
        let verified = Verified { token: Rc::new(token), ..Verified::default() };
        assert!(size(b"", &verified) > 32_000);
    }
}
