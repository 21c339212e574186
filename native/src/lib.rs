//! **meshfilter** as a dynamic module of Envoy 1.38 and later: the library's own policies, pipeline and filter behind
//! another ABI. There is no sandbox and no copy between the proxy and what decides.
//!
//! | module | what it holds |
//! |---|---|
//! | `allocator` | small blocks, kept by each thread for its next request |
//! | `abi` | what Envoy gives and takes, declared once; handles over its pointers |
//! | `entry` | the hooks that Envoy calls; each catches panics |
//! | `host` | [`meshfilter::host::Host`] by these handles |
//! | `panics` | panics that tests want |
//! | `worker` | what one worker thread has of a configuration: its policy and its streams |
//! | `process` | what all workers share: configurations, metrics, shared data, the timer |
//!
//! `unsafe` is in `abi`, `entry` and `allocator` alone, but for the name of a section in `version`.
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects
    )
)]

#[allow(unsafe_code)]
mod abi;
// The sanitizer looks after the C library's blocks, and knows nothing of those that are kept.
#[cfg(not(feature = "system-allocator"))]
#[allow(unsafe_code)]
mod allocator;
mod crypto;
#[allow(unsafe_code)]
mod entry;
mod host;
mod logger;
mod panics;
mod process;
// A section is named by an attribute that counts as unsafe.
#[allow(unsafe_code)]
mod version;
mod worker;
