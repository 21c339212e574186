//! The metrics of one configuration. Envoy lets a module define them only while it is configured, so a metric that is not
//! named then is a set of values for a family of labels that was. What counters add up to waits here, in memory: Envoy
//! takes some 300 instructions for a metric without labels, and twenty times as many for one with.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use meshfilter::host::{MetricId, MetricType, Result, Status};
use meshfilter::policy::metric::split_metric_name;

use super::lock;
use crate::abi::raw::{self, ConfigMetric};
use crate::abi::{Configuration, Filter, MetricKind, ModuleBuffer};

/// All metrics of one configuration.
#[derive(Default)]
pub struct MetricTable {
    known: RwLock<Known>,
    families: Mutex<HashMap<String, Family>>,
    /// Whether something waits to be told.
    dirty: AtomicBool,
}

#[derive(Default)]
struct Known {
    by_name: HashMap<String, MetricId>,
    metrics: Vec<Arc<Metric>>,
}

/// A metric's name, for which labels come with each call.
struct Family {
    kind: MetricType,
    id: usize,
    labels: Vec<String>,
}

/// A metric that Envoy has, and what it has not been told of it.
pub struct Metric {
    kind: MetricType,
    id: usize,
    /// The values of a family's labels; none where the metric has its own name.
    labels: Vec<String>,
    sum: AtomicU64,
    change: AtomicI64,
    /// A value to set, and one more: 0 is none.
    value: AtomicU64,
}

/// Who tells Envoy.
#[derive(Clone, Copy)]
pub enum Teller {
    /// A filter in one of its hooks.
    Filter(Filter),
    /// The configuration, where Envoy is new enough.
    Configuration(Configuration),
}

impl MetricTable {
    /// The metric of this name, which has its labels in it. `define` is where to define it: only while the configuration
    /// is new.
    pub fn metric(&self, kind: MetricType, name: &str, define: Option<Configuration>) -> Result<MetricId> {
        let read = self.known.read().map_err(|_| Status::InternalFailure)?;
        if let Some(id) = read.by_name.get(name) {
            return Ok(*id);
        }
        drop(read);
        let (id, labels) = match define {
            Some(configuration) => {
                let id = configuration.define(kind_of(kind), name, &[]).ok_or(Status::InternalFailure)?;
                (id, Vec::new())
            }
            None => self.of_family(kind, name)?,
        };
        let mut known = self.known.write().map_err(|_| Status::InternalFailure)?;
        // Another thread may have been faster.
        if let Some(id) = known.by_name.get(name) {
            return Ok(*id);
        }
        let place = MetricId::try_from(known.metrics.len()).map_err(|_| Status::InternalFailure)?;
        known.metrics.push(Arc::new(Metric {
            kind,
            id,
            labels,
            sum: AtomicU64::new(0),
            change: AtomicI64::new(0),
            value: AtomicU64::new(0),
        }));
        known.by_name.insert(name.to_owned(), place);
        Ok(place)
    }

    /// Says which labels a name will come with.
    pub fn define_family(
        &self,
        kind: MetricType,
        name: &str,
        labels: &[&str],
        configuration: Configuration,
    ) -> Result<()> {
        let mut families = lock(&self.families);
        // Two parts of a policy may count the same.
        if families.contains_key(name) {
            return Ok(());
        }
        let id = configuration.define(kind_of(kind), name, labels).ok_or(Status::InternalFailure)?;
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        families.insert(name.to_owned(), Family { kind, id, labels });
        Ok(())
    }

    fn of_family(&self, kind: MetricType, name: &str) -> Result<(usize, Vec<String>)> {
        let (family, labels) = split_metric_name(name);
        let families = lock(&self.families);
        let known = families.get(family).filter(|known| known.kind == kind).ok_or(Status::NotFound)?;
        if !labels.iter().map(|(label, _)| *label).eq(known.labels.iter().map(String::as_str)) {
            return Err(Status::NotFound);
        }
        Ok((known.id, labels.into_iter().map(|(_, value)| value.to_owned()).collect()))
    }

    /// The metric with this number.
    pub fn get(&self, id: MetricId) -> Option<Arc<Metric>> {
        self.known.read().ok()?.metrics.get(usize::try_from(id).ok()?).cloned()
    }

    /// Makes Envoy show what `other` has of these families, with the values that it has there: Envoy forgets a counter when
    /// the last configuration that has it goes. Histograms have no call that leaves them as they are.
    pub fn inherit(&self, other: &MetricTable, configuration: Configuration) {
        let Some(late) = LateMetrics::get() else { return };
        let Ok(known) = other.known.read() else { return };
        for (name, place) in &known.by_name {
            let kind = usize::try_from(*place)
                .ok()
                .and_then(|place| known.metrics.get(place))
                .map(|known| known.kind);
            let Some(kind) = kind.filter(|kind| *kind != MetricType::Histogram) else { continue };
            let call = if kind == MetricType::Counter { late.add } else { late.increase };
            let metric = self.metric(kind, name, None).ok().and_then(|id| self.get(id));
            if let Some(metric) = metric {
                metric.with_labels(|labels| configuration.metric(call, metric.id, labels, 0));
            }
        }
    }

    /// Notes that something waits to be told; `true` if nothing did before.
    pub fn note(&self) -> bool {
        !self.dirty.load(Ordering::Relaxed) && !self.dirty.swap(true, Ordering::AcqRel)
    }

    /// Tells Envoy what it does not know yet.
    pub fn tell(&self, teller: Teller) {
        if !self.dirty.load(Ordering::Relaxed) || !self.dirty.swap(false, Ordering::AcqRel) {
            return;
        }
        let Ok(known) = self.known.read() else { return };
        for metric in &known.metrics {
            metric.tell(teller);
        }
    }
}

impl Metric {
    /// Adds to a counter.
    pub fn add(&self, by: u64) {
        self.sum.fetch_add(by, Ordering::Relaxed);
    }

    /// Adds to a gauge.
    pub fn adjust(&self, by: i64) {
        self.change.fetch_add(by, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, value: u64) {
        self.value.store(value.saturating_add(1), Ordering::Relaxed);
    }

    /// Whether it is a histogram; anything else is set.
    pub fn is_histogram(&self) -> bool {
        self.kind == MetricType::Histogram
    }

    /// Gives a histogram a sample.
    pub fn record(&self, value: u64, filter: Filter) {
        self.with_labels(|labels| filter.record(self.id, labels, value));
    }

    fn tell(&self, teller: Teller) {
        let sum = self.sum.swap(0, Ordering::Relaxed);
        if sum > 0 {
            self.with_labels(|labels| match teller {
                Teller::Filter(filter) => filter.add(self.id, labels, sum),
                Teller::Configuration(configuration) => {
                    if let Some(late) = LateMetrics::get() {
                        configuration.metric(late.add, self.id, labels, sum);
                    }
                }
            });
        }
        let value = self.value.swap(0, Ordering::Relaxed);
        if let Some(value) = value.checked_sub(1) {
            self.with_labels(|labels| match teller {
                Teller::Filter(filter) => filter.set(self.id, labels, value),
                Teller::Configuration(configuration) => {
                    if let Some(late) = LateMetrics::get() {
                        configuration.metric(late.set, self.id, labels, value);
                    }
                }
            });
        }
        let change = self.change.swap(0, Ordering::Relaxed);
        if change != 0 {
            self.with_labels(|labels| match teller {
                Teller::Filter(filter) => filter.adjust(self.id, labels, change),
                Teller::Configuration(configuration) => {
                    if let Some(late) = LateMetrics::get() {
                        let call = if change < 0 { late.decrease } else { late.increase };
                        configuration.metric(call, self.id, labels, change.unsigned_abs());
                    }
                }
            });
        }
    }

    fn with_labels<T>(&self, call: impl FnOnce(&[ModuleBuffer]) -> T) -> T {
        if self.labels.is_empty() {
            return call(&[]);
        }
        let labels: Vec<ModuleBuffer> = self.labels.iter().map(|label| label.as_str().into()).collect();
        call(&labels)
    }
}

fn kind_of(kind: MetricType) -> MetricKind {
    match kind {
        MetricType::Counter => MetricKind::Counter,
        MetricType::Gauge => MetricKind::Gauge,
        MetricType::Histogram => MetricKind::Histogram,
    }
}

/// The calls with which a configuration tells metrics by itself: Envoy 1.38 has none of them.
pub struct LateMetrics {
    add: ConfigMetric,
    set: ConfigMetric,
    increase: ConfigMetric,
    decrease: ConfigMetric,
}

impl LateMetrics {
    /// `None` where this Envoy has not all of them.
    pub fn get() -> Option<&'static Self> {
        static FOUND: OnceLock<Option<LateMetrics>> = OnceLock::new();
        let find = |name: &CStr| raw::config_metric(name);
        FOUND
            .get_or_init(|| {
                Some(LateMetrics {
                    add: find(c"envoy_dynamic_module_callback_http_filter_config_increment_counter")?,
                    set: find(c"envoy_dynamic_module_callback_http_filter_config_set_gauge")?,
                    increase: find(c"envoy_dynamic_module_callback_http_filter_config_increment_gauge")?,
                    decrease: find(c"envoy_dynamic_module_callback_http_filter_config_decrement_gauge")?,
                })
            })
            .as_ref()
    }
}
