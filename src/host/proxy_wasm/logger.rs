//! The `log` crate, by the proxy's log.

use super::{proxy_get_log_level, proxy_log};
use crate::host::LogLevel;

/// Sends the `log` crate's records to the proxy's own log.
struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        write(LogLevel::of(record.level()), &record.args().to_string());
    }

    fn flush(&self) {}
}

fn write(level: LogLevel, message: &str) {
    // SAFETY: pointer and length are those of a live slice.
    let _ = unsafe { proxy_log(level as u32, message.as_ptr(), message.len()) };
}

/// Makes the `log` crate, and should the worst happen a panic, speak through the proxy's log.
pub fn install() {
    let _ = log::set_logger(&Logger);
    log::set_max_level(log::LevelFilter::Info);
    std::panic::set_hook(Box::new(|panic| write(LogLevel::Critical, &panic.to_string())));
}

/// Follows the proxy's log level, which its operator may change at any time. One hostcall.
pub fn follow_level() {
    let mut level = LogLevel::Info as u32;
    // SAFETY: the pointer is valid for the call.
    let _ = unsafe { proxy_get_log_level(&mut level) };
    log::set_max_level(LogLevel::filter(level));
}
