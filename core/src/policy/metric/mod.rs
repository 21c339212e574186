//! What any policy counts with: counters and gauges of the proxy, with labels in their names.

mod counter;
mod name;

pub use counter::{Counter, Gauge};
pub use name::{
    ISTIO_LABELS, LABELS, MAX_VALUE_LENGTH, NO_VALUE, label_expression, metric_name, split_metric_name,
};
