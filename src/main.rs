//! The native command. The module has no use for it.

#[cfg(not(target_family = "wasm"))]
fn main() -> std::process::ExitCode {
    meshfilter::cli::run()
}

#[cfg(target_family = "wasm")]
fn main() {}
