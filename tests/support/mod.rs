//! What the tests share: cases as data, the tokens they need, and the two proxies that they run on.
//!
//! A case is one policy and its requests, in `tests/cases/*.yaml`; `tests/cases/README.md` has the format. It runs
//! natively on the fake host ([`native`]) and through a real Envoy ([`envoy`]); what both bring back is checked by
//! the same code ([`check`]).

// Every test target takes what it needs of this.
#![allow(dead_code, unused_imports)]

pub mod case;
pub mod check;
#[cfg(not(target_family = "wasm"))]
pub mod envoy;
#[cfg(not(target_family = "wasm"))]
pub mod http;
#[cfg(not(target_family = "wasm"))]
pub mod http2;
pub mod install;
#[cfg(not(target_family = "wasm"))]
pub mod issuer;
#[cfg(not(target_family = "wasm"))]
pub mod load;
#[cfg(not(target_family = "wasm"))]
pub mod memory;
pub mod native;
#[cfg(not(target_family = "wasm"))]
pub mod prometheus;
pub mod random;
pub mod sign;
pub mod token;

use std::path::PathBuf;

/// The repository. The packages with tests lie in folders of it.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A path inside the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(ROOT).join(path)
}
