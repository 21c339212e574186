//! What all threads of the process share.

mod cells;
mod clock;
mod configuration;
mod metrics;
mod shared_data;
mod timer;

pub use cells::Cells;
pub use clock::now;
pub use configuration::{Answer, Configuration, Errand, Mailbox, Reply};
pub use metrics::{LateMetrics, Metric, MetricTable, Teller};
pub use shared_data::SharedData;
pub use timer::{Alarm, wake_at};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The data that the policies of all workers share, whatever configuration they are of.
pub static SHARED_DATA: SharedData = SharedData::new();

/// The buckets of limits without a key, of whatever configuration.
pub static CELLS: Cells = Cells::new();

/// Locks. No holder of a lock here can leave what it guards half changed, so a panic under one poisons nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
