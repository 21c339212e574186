//! The policy document: text → [`Document`] → validated, precompiled [`Policy`].
//!
//! Everything that is wrong is reported at once, each with its path and what would be right. A document with an
//! error is refused whole.
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

mod compile;
mod date;
pub mod document;
#[cfg(test)]
mod policies;
// The module is handed JSON or a `Struct`; people write YAML.
#[cfg(feature = "source")]
pub mod source;
// For editors; the module reads no schema.
#[cfg(feature = "schema")]
mod schema;
mod text;

use std::hash::Hasher;

use serde_json::Value;
use siphasher::sip::SipHasher13;

use meshfilter_json as json;

pub use compile::Compiled;
pub use document::Document;
pub use meshfilter_json::{Error as ConfigError, Errors, Path};
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

fn version(value: &Value) -> u32 {
    let mut hasher = SipHasher13::new();
    hash(value, &mut hasher);
    let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// A `Struct` has nothing but doubles, so that 90, 90.0 and 9e1 are one number. A JSON object keeps its members in the order of
/// their names.
fn hash(value: &Value, hasher: &mut SipHasher13) {
    let text = |text: &str, hasher: &mut SipHasher13| {
        hasher.write_u64(text.len() as u64);
        hasher.write(text.as_bytes());
    };
    match value {
        Value::Null => hasher.write_u8(0),
        Value::Bool(truth) => hasher.write_u8(if *truth { 2 } else { 1 }),
        Value::Number(number) => {
            hasher.write_u8(3);
            // 0.0 is -0.0, too.
            hasher.write_u64((number.as_f64().unwrap_or_default() + 0.0).to_bits());
        }
        Value::String(value) => {
            hasher.write_u8(4);
            text(value, hasher);
        }
        Value::Array(items) => {
            hasher.write_u8(5);
            hasher.write_u64(items.len() as u64);
            items.iter().for_each(|item| hash(item, hasher));
        }
        Value::Object(members) => {
            hasher.write_u8(6);
            hasher.write_u64(members.len() as u64);
            for (name, value) in members {
                text(name, hasher);
                hash(value, hasher);
            }
        }
    }
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

    /// Envoy hands one plugin the text, and another the same policy as a `Struct`, whose numbers are doubles.
    #[test]
    fn numbers_are_the_same_in_text_and_in_a_struct() {
        use prost::Message;
        use prost_types::value::Kind;
        let version = |bytes: &[u8]| load(bytes, &|_| None).map(|compiled| compiled.version);
        let number = prost_types::Value { kind: Some(Kind::NumberValue(1024.0)) };
        let fields = [("rateLimitSlots".to_owned(), number)].into();
        let of_struct = version(&prost_types::Struct { fields }.encode_to_vec()).ok().unwrap();
        for text in
            [r#"{"rateLimitSlots": 1024}"#, r#"{"rateLimitSlots": 1024.0}"#, r#"{"rateLimitSlots": 1.024e3}"#]
        {
            assert_eq!(version(text.as_bytes()).ok(), Some(of_struct), "{text}");
        }
        assert_ne!(version(br#"{"rateLimitSlots": 1025}"#).ok(), Some(of_struct));
    }
}
