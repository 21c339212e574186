use serde_json::Value;

/// The member of an object; `null` where it has none, or is none.
pub fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}
