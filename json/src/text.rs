//! JSON text.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{Errors, Path};

/// Reads JSON text; a member that stands twice is an error at its place.
pub fn parse(bytes: &[u8], errors: &Errors) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { path: &Path::ROOT, errors }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Reads any JSON value and reports members that stand twice.
#[derive(Clone, Copy)]
struct Strict<'a> {
    path: &'a Path<'a>,
    errors: &'a Errors,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) =
            items.next_element_seed(Strict { path: &self.path.index(list.len()), ..self })?
        {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let path = self.path.field(&name);
            let value = members.next_value_seed(Strict { path: &path, ..self })?;
            if map.contains_key(&name) {
                self.errors.add_at_name(&path, "this member stands twice; keep one");
            }
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_stands_twice_is_reported_at_its_place() {
        let errors = Errors::default();
        parse(br#"{"a": 1, "b": [{"c": 1, "c": 2}], "a": 2}"#, &errors).unwrap();
        let errors: Vec<String> = errors.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            ["b[0].c: this member stands twice; keep one", "a: this member stands twice; keep one"]
        );
    }
}
