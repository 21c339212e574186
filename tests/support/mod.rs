//! What the tests share: cases as data, the tokens they need, and the two proxies that they run on.
//!
//! A case is one policy and its requests, in `tests/cases/*.yaml`; `tests/cases/README.md` has the format. It runs
//! natively on the fake host ([`native`]) and through a real Envoy ([`envoy`]); what both bring back is checked by
//! the same code ([`check`]).

// Every test target takes what it needs of this.
#![allow(dead_code, unused_imports)]

#[cfg(not(target_family = "wasm"))]
pub mod envoy;
#[cfg(not(target_family = "wasm"))]
pub mod explained;
#[cfg(unix)]
pub mod fleet;
#[cfg(not(target_family = "wasm"))]
pub mod http2;
pub mod install;
#[cfg(not(target_family = "wasm"))]
pub mod issuer;
#[cfg(not(target_family = "wasm"))]
pub mod load;
#[cfg(not(target_family = "wasm"))]
pub mod memory;
#[cfg(not(target_family = "wasm"))]
pub mod prometheus;
pub mod random;
#[cfg(not(target_family = "wasm"))]
pub mod shown;

// In Node there is no command, and these parts of it are compiled by themselves.
#[cfg(target_family = "wasm")]
#[path = "../../cli/src/cases/mod.rs"]
pub mod cases;
#[cfg(target_family = "wasm")]
#[path = "../../cli/src/member.rs"]
pub mod member;
#[cfg(target_family = "wasm")]
#[path = "../../cli/src/proxy/mod.rs"]
pub mod proxy;

pub use cases::{case, check, native, sign, token};
#[cfg(not(target_family = "wasm"))]
pub use meshfilter_cli::cases::{self, envoy::http};

use std::path::PathBuf;

/// The repository. The packages with tests lie in folders of it.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A path inside the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(ROOT).join(path)
}
