//! JSON as everything here reads it: strictly, with the place of every error, and all errors at once.
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

// What is derived names this package, here too.
extern crate self as meshfilter_json;

mod deserialize;
mod error;
mod text;

/// Derives [`trait@Deserialize`] from the attributes of `serde`.
pub use meshfilter_derive::Deserialize;

pub use deserialize::{Deserialize, Member, read};
pub use error::{Error, Errors, Path};
pub use text::parse;
