//! **meshfilter**: a proxy-wasm module that any stock Envoy loads and that decides, in one pass on the
//! request path, what a service mesh decides: JWT validation, authorization, header-match and weighted
//! canary routing, fault injection, token-bucket rate limiting and custom telemetry tags.
//!
//! One idea carries the crate: *a request is a value, a policy is a pure function of it, and the proxy is a
//! trait*. Everything that decides runs natively, in the command line, in Node and in Envoy alike.
//!
//! | package | what it holds |
//! |---|---|
//! | `meshfilter-json`, [`json`] | JSON read strictly, as values and as types; every error with its place |
//! | `meshfilter-core` | what decides, without a document or a proxy: [`matchers`], [`policy`], [`request`], [`pipeline`], the trait [`host::Host`], and for `meshfilter explain` [`trace`] |
//! | `meshfilter-config`, [`config`] | policy document → validated, precompiled [`policy::Policy`]; every error at once, with its path |
//! | this | [`filter`]: configuration, one stream, waiting, effects; [`host`]: the proxies; `entry`: what they call; [`version`]: which module this is |
#![deny(unsafe_code)]
#![warn(missing_docs)]
// A panic kills the worker's VM: nothing that can panic is written on the request path. Tests may.
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

mod entry;
#[forbid(unsafe_code)]
pub mod filter;
pub mod host;
pub mod version;

pub use meshfilter_config as config;
pub use meshfilter_core::{matchers, pipeline, policy, request, trace};
pub use meshfilter_json as json;
