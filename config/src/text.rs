//! The two forms in which a proxy hands the document over: JSON text, and the bytes of a protobuf `Struct`.

use prost::Message;
use prost_types::value::Kind;
use serde_json::{Map, Value};

use meshfilter_json::{self as json, Errors, Path};

const FORMS: &str =
    "give the policy as JSON text in a google.protobuf.StringValue, or as a google.protobuf.Struct";

/// Reads either form, text first. No bytes at all are the empty document.
pub fn parse(bytes: &[u8], errors: &Errors) -> Option<Value> {
    if bytes.trim_ascii().is_empty() {
        return Some(Value::Object(Map::new()));
    }
    match json::parse(bytes, errors) {
        Ok(value) => Some(value),
        // Text that begins like JSON is meant as JSON; a `Struct` begins with byte 0x0a and a length.
        Err(error) => match prost_types::Struct::decode(bytes) {
            Ok(value) if !looks_like_json(bytes) => Some(Value::Object(object(value))),
            _ => {
                let message = match looks_like_json(bytes) {
                    true => format!("this is not JSON: {error}"),
                    false => format!("this is neither JSON nor a Struct; {FORMS}"),
                };
                errors.add(&Path::ROOT, message);
                None
            }
        },
    }
}

fn looks_like_json(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii_start(), [b'{' | b'[', ..])
}

fn object(value: prost_types::Struct) -> Map<String, Value> {
    // Collecting would sort them first, with code of its own.
    let mut map = Map::new();
    for (name, value) in value.fields {
        map.insert(name, self::value(value));
    }
    map
}

fn value(value: prost_types::Value) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::StructValue(value)) => Value::Object(object(value)),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(self::value).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(bytes: &[u8]) -> Result<Value, Vec<String>> {
        let errors = Errors::default();
        let value = parse(bytes, &errors);
        match errors.count() {
            0 => Ok(value.unwrap()),
            _ => Err(errors.into_vec().iter().map(ToString::to_string).collect()),
        }
    }

    fn encoded(value: &Value) -> prost_types::Value {
        let kind = match value {
            Value::Null => Kind::NullValue(0),
            Value::Bool(value) => Kind::BoolValue(*value),
            Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
            Value::String(text) => Kind::StringValue(text.clone()),
            Value::Array(list) => {
                Kind::ListValue(prost_types::ListValue { values: list.iter().map(encoded).collect() })
            }
            Value::Object(map) => Kind::StructValue(encoded_struct(map)),
        };
        prost_types::Value { kind: Some(kind) }
    }

    fn encoded_struct(map: &Map<String, Value>) -> prost_types::Struct {
        prost_types::Struct {
            fields: map.iter().map(|(name, value)| (name.clone(), encoded(value))).collect(),
        }
    }

    #[test]
    fn no_text_is_the_empty_document() {
        for text in ["", " \n", "{}"] {
            assert_eq!(parsed(text.as_bytes()), Ok(json!({})), "{text:?}");
        }
    }

    #[test]
    fn json_and_struct_say_the_same() {
        let document = json!({"a": [1.5, "x", true, null, {"b": {}}], "c": {"d": "é"}});
        assert_eq!(parsed(document.to_string().as_bytes()), Ok(document.clone()));
        let bytes = encoded_struct(document.as_object().unwrap()).encode_to_vec();
        assert_eq!(parsed(&bytes), Ok(document));
    }

    #[test]
    fn anything_else_is_told_which_two_forms_to_use() {
        for bytes in [b"http: []\n".as_slice(), b"\xff\xfe", b"hello", b"\x0a\xff"] {
            let errors = parsed(bytes).unwrap_err();
            assert!(
                errors[0].contains("StringValue") && errors[0].contains("Struct"),
                "{bytes:?}: {errors:?}"
            );
        }
        assert!(parsed(b"{\"a\": }").unwrap_err()[0].contains("not JSON: expected value at line 1 column 7"));
        assert!(parsed(&[b'['; 100_000]).unwrap_err()[0].contains("recursion limit"));
    }
}
