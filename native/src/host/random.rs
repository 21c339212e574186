use ring::rand::{SecureRandom, SystemRandom};

/// Random bits, so many numbers with one call to the system.
pub struct Random {
    source: SystemRandom,
    bits: [u8; 512],
    /// How many numbers were given away.
    used: usize,
}

impl Default for Random {
    fn default() -> Self {
        Random { source: SystemRandom::new(), bits: [0; 512], used: usize::MAX }
    }
}

impl Random {
    pub fn next(&mut self) -> u64 {
        if let Some(number) = self.bits.as_chunks().0.get(self.used) {
            self.used = self.used.saturating_add(1);
            return u64::from_le_bytes(*number);
        }
        if self.source.fill(&mut self.bits).is_err() {
            log::error!("meshfilter: the system gives no random bits");
        }
        self.used = 1;
        self.bits.first_chunk().map_or(0, |number| u64::from_le_bytes(*number))
    }
}
