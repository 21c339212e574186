//! How a rate limit service does: counted, and said when it changes.

use std::cell::Cell;

use super::{FailureMode, GlobalLimit};
use crate::host::Host;
use crate::policy::metric::Counter;

/// What is known of one limit's service in this worker.
#[derive(Debug)]
pub struct Service {
    /// Its answers that let a request pass.
    pub(super) allowed: Counter,
    /// Its answers that refuse.
    pub(super) refused: Counter,
    /// Refusals that it was not asked about, since it had named a time.
    pub(super) remembered: Counter,
    failed: Counter,
    failing: Cell<bool>,
}

impl Service {
    /// The service of a limit.
    pub fn new(policy: &str) -> Self {
        let counter = |result| {
            Counter::new("meshfilter_rate_limit_service_total", &[("policy", policy), ("result", result)])
        };
        Service {
            allowed: counter("allowed"),
            refused: counter("refused"),
            remembered: counter("remembered"),
            failed: counter("failed"),
            failing: Cell::default(),
        }
    }

    /// Shows the counters, at 0.
    pub(in crate::policy::rate_limit) fn define(&self, host: &dyn Host) {
        [&self.allowed, &self.refused, &self.remembered, &self.failed]
            .into_iter()
            .for_each(|counter| counter.define(host));
    }

    /// It did what it is for.
    pub(super) fn answers(&self, policy: &str) {
        if self.failing.replace(false) {
            log::warn!("meshfilter: rate limit {policy}: the service answers again");
        }
    }

    /// There was no answer to go by. The first such is told, and the last by [`Service::answers`].
    pub(super) fn fails(&self, limit: &GlobalLimit, reason: &str, host: &dyn Host) {
        self.failed.add(1, host);
        if !self.failing.replace(true) {
            let becomes = match limit.failure_mode {
                FailureMode::Allow => "requests pass without it (failureMode: allow)",
                FailureMode::Deny => "requests are refused with 500 (failureMode: deny)",
            };
            let GlobalLimit { name, cluster, .. } = limit;
            log::warn!(
                "meshfilter: rate limit {name}: cluster {cluster} does not decide: {reason}; {becomes}"
            );
        }
    }
}
