//! The `log` crate, by the proxy's log.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};

use meshfilter::host::LogLevel;

use crate::abi;

struct Logger;

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
        abi::log(LogLevel::of(record.level()) as c_int, &record.args().to_string());
    }

    fn flush(&self) {}
}

/// Makes the `log` crate, and should the worst happen a panic, speak through the proxy's log.
pub fn install() {
    let _ = log::set_logger(&Logger);
    log::set_max_level(log::LevelFilter::Info);
    std::panic::set_hook(Box::new(|panic| {
        abi::log(LogLevel::Critical as c_int, &format!("meshfilter: {panic}"))
    }));
}

/// Follows the proxy's log level, which its operator may change at any time: asks once a second.
pub fn follow_level(at: u64) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if at < NEXT.load(Ordering::Relaxed) {
        return;
    }
    NEXT.store(at.saturating_add(HOLDS), Ordering::Relaxed);
    // The least grave that the proxy logs; where it logs none of them, there is no such number.
    let level = (LogLevel::Trace as u32..=LogLevel::Critical as u32)
        .find(|level| c_int::try_from(*level).is_ok_and(abi::log_enabled));
    log::set_max_level(LogLevel::filter(level.unwrap_or(u32::MAX)));
}
