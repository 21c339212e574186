//! The policy document: text → [`Document`] → validated, precompiled [`Policy`].
//!
//! Everything that is wrong is reported at once, each with its path and what would be right. A document with an
//! error is refused whole.

mod compile;
mod date;
pub mod document;
// The module is handed JSON or a `Struct`; people write YAML.
#[cfg(feature = "source")]
pub mod source;
// For editors; the module reads no schema.
#[cfg(feature = "schema")]
mod schema;
mod text;

use serde_json::Value;
use siphasher::sip::SipHasher13;

use crate::json;

pub use crate::json::{Error as ConfigError, Errors, Path};
pub use compile::Compiled;
pub use document::Document;
#[cfg(feature = "schema")]
pub use schema::schema;

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
    #[cfg(all(test, feature = "schema"))]
    let before = errors.count();
    errors.advise(document::misplaced);
    let document = json::read::<Document>(value, &Path::ROOT, &errors).unwrap_or_default();
    #[cfg(all(test, feature = "schema"))]
    let read = errors.count();
    if errors.is_full() {
        return Err(errors.into_vec());
    }
    let compiled = compile::compile(&document, environment, &errors);
    #[cfg(all(test, feature = "schema"))]
    schema::tests::agrees(value, before..read, &errors);
    if errors.count() > 0 {
        return Err(errors.into_vec());
    }
    Ok(Compiled { version: version(value), ..compiled })
}

/// A JSON object keeps its members in the order of their names.
fn version(value: &Value) -> u32 {
    let [a, b, c, d, ..] = SipHasher13::new().hash(value.to_string().as_bytes()).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_that_say_the_same_have_the_same_version() {
        let version = |text: &str| load(text.as_bytes(), &|_| None).ok().unwrap().version;
        let one = version(r#"{"namespace": "a", "ambiguousPaths": "allow"}"#);
        assert_eq!(version(r#"{"ambiguousPaths":"allow","namespace":"a"}"#), one);
        assert_ne!(version(r#"{"namespace": "b", "ambiguousPaths": "allow"}"#), one);
        assert_ne!(version("{}"), one);
    }
}
