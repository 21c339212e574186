//! What connects the proxy's callbacks with the pipeline: configuration, streams, waiting, effects.
//!
//! It knows the proxy only as the [`Host`](crate::host::Host) trait, so the whole filter runs natively.

mod contexts;
mod effects;
mod root;
mod shares;
mod stream;
mod waiting;
mod way;

pub use contexts::Contexts;
pub use root::Root;
pub use stream::{Flow, Stream};

#[cfg(test)]
mod tests;
