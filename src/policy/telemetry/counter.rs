use std::cell::Cell;

use super::metric_name;
use crate::host::{Host, MetricId, MetricType};

/// A counter whose name is put together once, and that the proxy hears of when it first counts.
#[derive(Debug)]
pub struct Counter {
    name: String,
    id: Cell<Option<MetricId>>,
}

impl Counter {
    /// A counter with fixed labels.
    pub fn new(name: &str, labels: &[(&str, &str)]) -> Self {
        Counter { name: metric_name(name, labels), id: Cell::new(None) }
    }

    /// Counts so many. A proxy that takes no metric is no reason to fail.
    pub fn add(&self, by: u64, host: &dyn Host) {
        let id = self.id.get().or_else(|| host.metric(MetricType::Counter, &self.name).ok());
        self.id.set(id);
        if let Some(id) = id {
            let _ = host.increment(id, by);
        }
    }
}
