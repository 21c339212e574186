//! A `serde` deserializer that goes on after an error.
//!
//! Serde stops at the first thing that is wrong; a user wants to hear of all. Every struct and list of the
//! document is read through this one: a member that cannot be read is reported with its path, and an empty value
//! of its type takes its place, so that the rest is read as well. The document is refused in the end, so nobody
//! sees the placeholders.

use std::fmt::Display;

use serde::Deserialize;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};

use super::error::{Errors, Path};

/// Reads a value of the document, and reports everything in it that is wrong.
pub fn read<T: DeserializeOwned>(value: &Value, path: &Path<'_>, errors: &Errors) -> Option<T> {
    match T::deserialize(Reader { value: Some(value), path, errors }) {
        Ok(read) => Some(read),
        Err(Unreadable::Reported) => None,
        Err(Unreadable::Because(message)) => {
            errors.add(path, message);
            None
        }
    }
}

/// Why a value could not be read.
#[derive(Debug)]
enum Unreadable {
    /// Said already, at the place it belongs to.
    Reported,
    /// Not said yet; belongs to the value in hand.
    Because(String),
}

impl Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unreadable::Reported => f.write_str("already reported"),
            Unreadable::Because(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Unreadable {}

impl de::Error for Unreadable {
    fn custom<T: Display>(message: T) -> Self {
        Unreadable::Because(message.to_string())
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Unreadable::Because(format!("{} does not belong here; use {}", describe(found), plain(expected)))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Unreadable::Because(format!("{} is out of range; use {}", describe(found), plain(expected)))
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        Unreadable::Because(format!("\"{found}\" is not known here; use {}", one_of(expected)))
    }

    fn unknown_field(found: &str, expected: &'static [&'static str]) -> Self {
        let near = expected.iter().find(|name| close(name, found));
        Unreadable::Because(match near {
            Some(name) => format!("there is no field \"{found}\" here; did you mean \"{name}\"?"),
            None => format!("there is no field \"{found}\" here; use {}", one_of(expected)),
        })
    }

    fn missing_field(field: &'static str) -> Self {
        Unreadable::Because(format!("\"{field}\" is missing; add it"))
    }
}

fn describe(found: de::Unexpected<'_>) -> String {
    match found {
        de::Unexpected::Unit => "null".to_owned(),
        de::Unexpected::Bool(value) => value.to_string(),
        de::Unexpected::Unsigned(value) => value.to_string(),
        de::Unexpected::Signed(value) => value.to_string(),
        de::Unexpected::Float(value) => value.to_string(),
        de::Unexpected::Str(value) => format!("\"{value}\""),
        de::Unexpected::Seq => "a list".to_owned(),
        de::Unexpected::Map => "an object".to_owned(),
        other => other.to_string(),
    }
}

/// What a type wants, in a user's words.
fn plain(expected: &dyn de::Expected) -> String {
    match expected.to_string().as_str() {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number from 0",
        "i32" | "i64" => "a whole number",
        "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "an object",
        "a boolean" => "true or false",
        other => return other.to_owned(),
    }
    .to_owned()
}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [name] => format!("\"{name}\""),
        [names @ .., last] => {
            let names: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
            format!("{} or \"{last}\"", names.join(", "))
        }
    }
}

/// Whether two names differ by case, an underscore, a plural, the order of their letters or one of them.
fn close(a: &str, b: &str) -> bool {
    let plain = |s: &str| s.to_lowercase().replace(['_', '-'], "");
    let (a, b) = (plain(a), plain(b));
    if a == b || a.strip_suffix('s') == Some(&b) || b.strip_suffix('s') == Some(&a) {
        return true;
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let sorted = |letters: &[char]| {
        let mut letters = letters.to_vec();
        letters.sort_unstable();
        letters
    };
    if sorted(&a) == sorted(&b) {
        return true;
    }
    let same_start = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let same_end = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    let longest = a.len().max(b.len());
    a.len().abs_diff(b.len()) <= 1
        && longest > 3
        && same_start.saturating_add(same_end) >= longest.saturating_sub(1)
}

/// Reports why a value could not be read, and reads an empty one of its type instead.
fn recover<'de, T: Deserialize<'de>>(
    error: Unreadable,
    path: &Path<'_>,
    errors: &Errors,
) -> Result<T, Unreadable> {
    if let Unreadable::Because(message) = error {
        errors.add(path, message);
    }
    T::deserialize(Reader { value: None, path, errors }).map_err(|_| Unreadable::Reported)
}

/// Reads a value, or where there is none gives every type its empty one. Both are one deserializer, so that every
/// document type is compiled once.
#[derive(Clone, Copy)]
struct Reader<'de, 'a> {
    value: Option<&'de Value>,
    path: &'a Path<'a>,
    errors: &'a Errors,
}

impl<'de> Reader<'de, '_> {
    fn list<V: Visitor<'de>>(self, list: &'de [Value], visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_seq(List { items: list.iter().enumerate(), path: self.path, errors: self.errors })
    }

    fn object<V: Visitor<'de>>(
        self,
        map: Option<&'de Map<String, Value>>,
        is_struct: bool,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        visitor.visit_map(Object {
            members: map.map(Map::iter),
            current: None,
            is_struct,
            path: self.path,
            errors: self.errors,
        })
    }
}

macro_rules! simple {
    ($($method:ident or $visit:ident($($empty:expr)?);)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
            match self.value {
                Some(_) => self.deserialize_any(visitor),
                None => visitor.$visit($($empty)?),
            }
        }
    )*};
}

/// A whole number written as `5.0`, which is how a protobuf `Struct` has every number, is a whole number.
macro_rules! whole_numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
            match self.value {
                None => visitor.visit_u64(0),
                Some(value) => match whole(value) {
                    Some(number) => visitor.visit_i64(number),
                    None => self.deserialize_any(visitor),
                },
            }
        }
    )*};
}

/// The whole number that a double is. Beyond 2^53 it is no exact one any more.
fn whole(value: &Value) -> Option<i64> {
    let number = value.as_f64().filter(|_| value.is_f64())?;
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
}

impl<'de> Deserializer<'de> for Reader<'de, '_> {
    type Error = Unreadable;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        let Some(value) = self.value else { return visitor.visit_unit() };
        match value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (_, _, value) => visitor.visit_f64(value.unwrap_or(f64::NAN)),
            },
            Value::String(value) => visitor.visit_borrowed_str(value),
            Value::Array(list) => self.list(list, visitor),
            Value::Object(map) => self.object(Some(map), true, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        match self.value {
            None => visitor.visit_none(),
            Some(Value::Null) => {
                Err(Unreadable::Because("null does not belong here; leave the member out".to_owned()))
            }
            Some(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        match self.value {
            None => self.object(None, true, visitor),
            Some(Value::Object(map)) => self.object(Some(map), true, visitor),
            Some(other) => Err(de::Error::invalid_type(unexpected(other), &"an object")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        match self.value {
            None => Err(Unreadable::Reported),
            Some(Value::String(name)) => visitor.visit_enum(name.as_str().into_deserializer()),
            Some(other) => Err(Unreadable::Because(format!(
                "{} does not belong here; use {}",
                describe(unexpected(other)),
                one_of(variants)
            ))),
        }
    }

    whole_numbers! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8
    deserialize_u16 deserialize_u32 deserialize_u64 }

    simple! {
        deserialize_bool or visit_bool(false);
        deserialize_f32 or visit_f64(0.0);
        deserialize_f64 or visit_f64(0.0);
        deserialize_char or visit_borrowed_str("");
        deserialize_str or visit_borrowed_str("");
        deserialize_string or visit_borrowed_str("");
        deserialize_bytes or visit_borrowed_str("");
        deserialize_byte_buf or visit_borrowed_str("");
        deserialize_identifier or visit_borrowed_str("");
        deserialize_unit or visit_unit();
        deserialize_ignored_any or visit_unit();
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        match self.value {
            None => self.list(&[], visitor),
            Some(_) => self.deserialize_any(visitor),
        }
    }

    /// A map's keys are the user's own, and stand in brackets in a path.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        match self.value {
            None => self.object(None, false, visitor),
            Some(Value::Object(map)) => self.object(Some(map), false, visitor),
            Some(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        self.deserialize_any(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Unreadable> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        self.deserialize_any(visitor)
    }
}

fn unexpected(value: &Value) -> de::Unexpected<'_> {
    match value {
        Value::Null => de::Unexpected::Unit,
        Value::Bool(value) => de::Unexpected::Bool(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => de::Unexpected::Unsigned(value),
            (_, Some(value)) => de::Unexpected::Signed(value),
            _ => de::Unexpected::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(value) => de::Unexpected::Str(value),
        Value::Array(_) => de::Unexpected::Seq,
        Value::Object(_) => de::Unexpected::Map,
    }
}

struct List<'de, 'a> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
    path: &'a Path<'a>,
    errors: &'a Errors,
}

impl<'de> SeqAccess<'de> for List<'de, '_> {
    type Error = Unreadable;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Unreadable> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        let path = self.path.index(index);
        seed.deserialize(Reader { value: Some(value), path: &path, errors: self.errors }).map(Some)
    }

    fn next_element<T: Deserialize<'de>>(&mut self) -> Result<Option<T>, Unreadable> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        let path = self.path.index(index);
        match T::deserialize(Reader { value: Some(value), path: &path, errors: self.errors }) {
            Ok(read) => Ok(Some(read)),
            Err(error) => recover(error, &path, self.errors).map(Some).or_else(|_| self.next_element()),
        }
    }
}

struct Object<'de, 'a> {
    members: Option<serde_json::map::Iter<'de>>,
    current: Option<(&'de str, &'de Value)>,
    is_struct: bool,
    path: &'a Path<'a>,
    errors: &'a Errors,
}

impl<'a> Object<'_, 'a> {
    fn member(&'a self, name: &'a str) -> Path<'a> {
        if self.is_struct { self.path.field(name) } else { self.path.key(name) }
    }
}

impl<'de> MapAccess<'de> for Object<'de, '_> {
    type Error = Unreadable;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Unreadable> {
        let Some((name, value)) = self.members.as_mut().and_then(Iterator::next) else { return Ok(None) };
        self.current = Some((name, value));
        let name: de::value::BorrowedStrDeserializer<'_, Unreadable> =
            de::value::BorrowedStrDeserializer::new(name);
        seed.deserialize(name).map(Some)
    }

    fn next_key<K: Deserialize<'de>>(&mut self) -> Result<Option<K>, Unreadable> {
        loop {
            match self.next_key_seed(std::marker::PhantomData) {
                Err(error) => {
                    if let (Unreadable::Because(message), Some((name, _))) = (error, self.current) {
                        self.errors.add_at_name(&self.member(name), message);
                    }
                }
                read => return read,
            }
        }
    }

    fn next_entry<K: Deserialize<'de>, V: Deserialize<'de>>(&mut self) -> Result<Option<(K, V)>, Unreadable> {
        match self.next_key()? {
            None => Ok(None),
            // A map's member that has no empty value is left out.
            Some(name) => self.next_value().map(|value| Some((name, value))).or_else(|_| self.next_entry()),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Unreadable> {
        let Some((name, value)) = self.current.take() else { return Err(Unreadable::Reported) };
        let path = self.member(name);
        seed.deserialize(Reader { value: Some(value), path: &path, errors: self.errors })
    }

    fn next_value<V: Deserialize<'de>>(&mut self) -> Result<V, Unreadable> {
        let Some((name, value)) = self.current.take() else { return Err(Unreadable::Reported) };
        let path = self.member(name);
        V::deserialize(Reader { value: Some(value), path: &path, errors: self.errors })
            .or_else(|error| recover(error, &path, self.errors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Sample {
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        count: Option<u32>,
        #[serde(default)]
        list: Vec<Sample>,
        #[serde(default)]
        map: std::collections::BTreeMap<String, u8>,
        #[serde(default)]
        kind: Option<Kind>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Kind {
        First,
        Second,
    }

    fn errors_of(value: Value) -> Vec<String> {
        let errors = Errors::default();
        let _ = read::<Sample>(&value, &Path::ROOT, &errors);
        errors.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_document_is_read_and_a_whole_number_of_a_struct_is_one() {
        let errors = Errors::default();
        let value =
            json!({"name": "a", "count": 5.0, "list": [{"count": 1}], "map": {"x": 2}, "kind": "second"});
        let sample: Sample = read(&value, &Path::ROOT, &errors).unwrap();
        assert_eq!(errors.count(), 0);
        assert_eq!((sample.name.as_deref(), sample.count, sample.list.len()), (Some("a"), Some(5), 1));
        assert_eq!(sample.map["x"], 2);
        assert!(matches!(sample.kind, Some(Kind::Second)));
    }

    #[test]
    fn every_error_is_reported_at_its_own_place() {
        assert_eq!(
            errors_of(json!({
                "cuont": 1,
                "count": -5,
                "kind": "third",
                "list": [{"name": 7}, "x", {"count": 1.5, "nested": {}}, {"name": null}],
                "map": {"a": 1, "b": 300, "c": "d"},
            })),
            [
                "count: -5 is out of range; use a whole number from 0 to 4294967295",
                "cuont: there is no field \"cuont\" here; did you mean \"count\"?",
                "kind: \"third\" is not known here; use \"first\" or \"second\"",
                "list[0].name: 7 does not belong here; use a string",
                "list[1]: \"x\" does not belong here; use an object",
                "list[2].count: 1.5 does not belong here; use a whole number from 0 to 4294967295",
                "list[2].nested: there is no field \"nested\" here; use \"name\", \"count\", \"list\", \"map\" or \"kind\"",
                "list[3].name: null does not belong here; leave the member out",
                "map[b]: 300 is out of range; use a whole number from 0 to 255",
                "map[c]: \"d\" does not belong here; use a whole number from 0 to 255",
            ]
        );
    }
}
