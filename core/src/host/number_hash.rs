use std::hash::{BuildHasherDefault, Hasher};

/// For maps by numbers that nobody outside chooses: those that the proxy or the filter counts up, and hashes.
pub type NumberHash = BuildHasherDefault<NumberHasher>;

/// Spreads small numbers with one multiplication.
#[derive(Clone, Copy, Debug, Default)]
pub struct NumberHasher(u64);

impl NumberHasher {
    /// One that begins with a secret.
    pub fn keyed(secret: u64) -> Self {
        NumberHasher(secret)
    }
}

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|word| self.write_u64(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            // Fewer than eight, after a one that says how many.
            self.write_u64(rest.iter().fold(1, |word, byte| word << 8 | u64::from(*byte)));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 by the golden ratio. The upper half, which has all of the number in it, comes down for the next one.
        self.0 = (self.0.rotate_left(32) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
