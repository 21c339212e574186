//! The `log` crate, by the proxy's log.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::abi;

struct Logger;

/// The numbers are the ABI's.
const LEVELS: [(c_int, log::LevelFilter); 5] = [
    (0, log::LevelFilter::Trace),
    (1, log::LevelFilter::Debug),
    (2, log::LevelFilter::Info),
    (3, log::LevelFilter::Warn),
    (4, log::LevelFilter::Error),
];

const CRITICAL: c_int = 5;

/// After so many nanoseconds the level is looked at again.
const HOLDS: u64 = 1_000_000_000;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            log::Level::Trace => 0,
            log::Level::Debug => 1,
            log::Level::Info => 2,
            log::Level::Warn => 3,
            log::Level::Error => 4,
        };
        abi::log(level, &record.args().to_string());
    }

    fn flush(&self) {}
}

/// Makes the `log` crate, and should the worst happen a panic, speak through the proxy's log.
pub fn install() {
    let _ = log::set_logger(&Logger);
    log::set_max_level(log::LevelFilter::Info);
    std::panic::set_hook(Box::new(|panic| abi::log(CRITICAL, &format!("meshfilter: {panic}"))));
}

/// Follows the proxy's log level, which its operator may change at any time: asks once a second.
pub fn follow_level(at: u64) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if at < NEXT.load(Ordering::Relaxed) {
        return;
    }
    NEXT.store(at.saturating_add(HOLDS), Ordering::Relaxed);
    let level = LEVELS.into_iter().find(|(level, _)| abi::log_enabled(*level));
    log::set_max_level(level.map_or(log::LevelFilter::Off, |(_, filter)| filter));
}
