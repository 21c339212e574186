//! What any policy counts with: counters and gauges of the proxy, with labels in their names.

mod counter;
mod name;

pub use counter::{Counter, Gauge};
pub use name::{LABELS, MAX_VALUE_LENGTH, NO_VALUE, metric_name, split_metric_name};
