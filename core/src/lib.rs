//! What meshfilter decides: policies that are pure functions of a request, and the proxy as a trait.
//!
//! | module | what it holds |
//! |---|---|
//! | [`matchers`] | string, header, path, query, cookie, claim and address matchers that every policy shares |
//! | [`policy`] | authentication, authorization, routing, fault, rate limit, telemetry: pure decisions |
//! | [`request`] | a request as the policies see it: one snapshot of the headers, and the edits made to it |
//! | [`pipeline`] | the order of the stages, and nothing else |
//! | [`host`] | the [`host::Host`] trait, and its fake |
//! | [`trace`] | what the request path looked at, for `meshfilter explain`; nothing in the module |
#![forbid(unsafe_code)]
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

pub mod host;
pub mod matchers;
pub mod pipeline;
pub mod policy;
pub mod request;
pub mod trace;
