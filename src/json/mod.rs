//! JSON as everything here reads it: strictly, with the place of every error, and all errors at once.

mod deserialize;
mod error;
mod text;

/// Derives [`trait@Deserialize`] from the attributes of `serde`.
pub use meshfilter_derive::Deserialize;

pub use deserialize::{Deserialize, Member, read};
pub use error::{Error, Errors, Path};
pub use text::parse;
