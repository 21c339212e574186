//! What requests cost in a stock Envoy: bare, with its own filters, and with meshfilter.
//!
//! `make bench`; `docs/performance.md` says what is measured and how.

#[cfg(target_os = "linux")]
mod check;
#[cfg(target_os = "linux")]
mod configurations;
#[cfg(target_os = "linux")]
mod documents;
#[cfg(target_os = "linux")]
mod instructions;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod measure;
#[cfg(target_os = "linux")]
mod native;
#[cfg(target_os = "linux")]
mod plot;
#[cfg(target_os = "linux")]
mod policies;
#[cfg(target_os = "linux")]
mod proxy;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod requests;
#[cfg(target_os = "linux")]
mod resources;
#[cfg(target_os = "linux")]
mod results;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
#[path = "../../tests/support/mod.rs"]
mod support;
#[cfg(target_os = "linux")]
mod targets;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    run::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("bench: what threads use is read from Linux' scheduler; run it there");
    std::process::ExitCode::FAILURE
}
