//! The lines that the filter logs, for cases that expect some.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        LINES.with_borrow(Option::is_some)
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                lines.push(format!("{} {}", record.level().as_str().to_lowercase(), record.args()));
            }
        });
    }

    fn flush(&self) {}
}

/// Runs something, and gives the lines that this thread logged meanwhile, each with its level before it.
pub fn heard<T>(what: impl FnOnce() -> T) -> (T, Vec<String>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if log::set_logger(&Logger).is_ok() {
            log::set_max_level(log::LevelFilter::Debug);
        }
    });
    let before = LINES.replace(Some(Vec::new()));
    let done = what();
    (done, LINES.replace(before).unwrap_or_default())
}
