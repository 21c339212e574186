//! What one can see of the filter from outside: a real Prometheus, spans, logs. Everything runs with the files of `envoy/`
//! as they stand.

#[path = "../support/mod.rs"]
mod support;

mod access_logs;
mod alerts;
mod dashboard;
mod istio;
mod logs;
mod metrics;
mod sample;
mod traces;
