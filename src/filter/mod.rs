//! What connects the proxy's callbacks with the pipeline: configuration, streams, waiting, effects.
//!
//! [`Root`] and [`Stream`] know the proxy only as the [`Host`](crate::host::Host) trait, so the whole filter runs
//! natively; `contexts` alone knows the SDK.

#[cfg(target_os = "wasi")]
mod contexts;
mod effects;
mod root;
mod stream;
mod waiting;

#[cfg(target_os = "wasi")]
pub use contexts::register;
pub use root::Root;
pub use stream::{Flow, Stream};

#[cfg(test)]
mod tests;
