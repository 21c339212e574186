//! The policy document: text → [`Document`] → validated, precompiled [`Policy`].
//!
//! Everything that is wrong is reported at once, each with its path and what would be right. A document with an
//! error is refused whole.

mod compile;
mod date;
mod deserialize;
pub mod document;
mod error;
mod text;

use serde_json::Value;

pub use compile::Compiled;
pub use document::Document;
pub use error::{ConfigError, Errors, Path};
pub use text::json;

/// Reads the bytes of a plugin's configuration and compiles them.
///
/// # Errors
/// Everything that is wrong with them.
pub fn load(
    bytes: &[u8],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Compiled, Vec<ConfigError>> {
    let errors = Errors::default();
    match text::parse(bytes, &errors) {
        Some(value) => compile(&value, environment, errors),
        None => Err(errors.into_vec()),
    }
}

/// Compiles a document that was parsed already; `errors` holds what the parser found.
///
/// # Errors
/// Everything that is wrong with it.
pub fn compile(
    value: &Value,
    environment: &dyn Fn(&str) -> Option<String>,
    errors: Errors,
) -> Result<Compiled, Vec<ConfigError>> {
    let document = deserialize::read::<Document>(value, &Path::ROOT, &errors).unwrap_or_default();
    let compiled = compile::compile(&document, environment, &errors);
    if errors.count() > 0 { Err(errors.into_vec()) } else { Ok(compiled) }
}
