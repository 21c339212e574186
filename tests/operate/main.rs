//! Operating the filter in a real Envoy: policies and modules that are replaced under load, and modules that crash.
//! `docs/operations.md` says what is tested here.

mod crash;
mod module;
mod push;
mod samples;
#[path = "../support/mod.rs"]
mod support;
