use std::sync::OnceLock;
use std::time::Instant;

/// The monotonic clock in nanoseconds, the same in every thread. It begins far from zero, which means "never" in places.
pub fn now() -> u64 {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    const FIRST: u64 = 1_000_000_000_000;
    let passed = BEGINNING.get_or_init(Instant::now).elapsed().as_nanos();
    u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(FIRST)
}
