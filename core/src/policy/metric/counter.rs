use std::cell::Cell;

use super::metric_name;
use crate::host::{Host, MetricId, MetricType};

/// A gauge of the whole process. The proxy may refuse it, which is no reason to fail.
#[derive(Debug)]
pub struct Gauge {
    name: String,
    id: Cell<Option<MetricId>>,
}

impl Gauge {
    /// A gauge with fixed labels.
    pub fn new<V: AsRef<[u8]>>(name: &str, labels: &[(&str, V)]) -> Self {
        Gauge { name: metric_name(name, labels), id: Cell::new(None) }
    }

    /// Moves it. What every worker adds is one sum, so each may only take away what it added.
    pub fn adjust(&self, by: i64, host: &dyn Host) {
        if let Some(id) = self.id(host) {
            let _ = host.adjust(id, by);
        }
    }

    /// Sets it.
    pub fn set(&self, value: u64, host: &dyn Host) {
        if let Some(id) = self.id(host) {
            let _ = host.record(id, value);
        }
    }

    fn id(&self, host: &dyn Host) -> Option<MetricId> {
        self.id.set(self.id.get().or_else(|| host.metric(MetricType::Gauge, &self.name).ok()));
        self.id.get()
    }
}

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

    /// Makes the proxy show it, at 0: what a rate begins from.
    pub fn define(&self, host: &dyn Host) {
        self.id.set(self.id.get().or_else(|| host.metric(MetricType::Counter, &self.name).ok()));
    }

    /// Counts so many. A proxy that takes no metric is no reason to fail.
    pub fn add(&self, by: u64, host: &dyn Host) {
        self.define(host);
        if let Some(id) = self.id.get() {
            host.increment(id, by);
        }
    }
}
