//! **meshfilter**: a proxy-wasm module that any stock Envoy loads and that decides, in one pass on the
//! request path, what a service mesh decides: JWT validation, authorization, header-match and weighted
//! canary routing, fault injection, token-bucket rate limiting and custom telemetry tags.
//!
//! One idea carries the crate: *a request is a value, a policy is a pure function of it, and the proxy is a
//! trait*. Everything that decides runs natively, in the command line, in Node and in Envoy alike.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | policy document → validated, precompiled [`policy::Policy`]; every error at once, with its path |
//! | [`json`] | JSON read strictly, as values and as types; every error with its place |
//! | [`matchers`] | string, header, path, query, cookie, claim and address matchers that every policy shares |
//! | [`policy`] | authentication, authorization, routing, fault, rate limit, telemetry: pure decisions |
//! | [`request`] | a request as the policies see it: one snapshot of the headers, and the edits made to it |
//! | [`pipeline`] | the order of the stages, and nothing else |
//! | [`host`] | the [`host::Host`] trait, its implementation for proxies and its fake |
//! | [`filter`] | what connects them: configuration, one stream, waiting, effects |
//! | [`trace`] | what the request path looked at, for `meshfilter explain`; nothing in the module |
//! | `entry` | what a proxy calls |
//! | [`version`] | which module this is: in its log, and in a section of its own |
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

#[forbid(unsafe_code)]
pub mod config;
mod entry;
#[forbid(unsafe_code)]
pub mod filter;
pub mod host;
#[forbid(unsafe_code)]
pub mod json;
#[forbid(unsafe_code)]
pub mod matchers;
#[forbid(unsafe_code)]
pub mod pipeline;
#[forbid(unsafe_code)]
pub mod policy;
#[forbid(unsafe_code)]
pub mod request;
#[forbid(unsafe_code)]
pub mod trace;
pub mod version;
