//! The JSON Schema of the policy document, for editors: made of the document's types and of what their comments say.
//!
//! The comments are the only source. What a schema has a word for is read out of them:
//!
//! | in a comment | in the schema |
//! |---|---|
//! | ``Default `x`.`` | `default` |
//! | `Required.` | the member is in `required` |
//! | `Exactly one member stands.`, `At most one member stands` | `minProperties`, `maxProperties` |
//!
//! The schema says what may stand where, and no more: what the values mean together is for `meshfilter check`.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::document::{
    AuthorizationValue, Document, Duration, GRPC_STATUS_NAMES, GrpcStatus, Requirement, RequirementTree,
    Unsupported,
};

/// The JSON Schema of the policy document, in draft 7, which every editor knows.
pub fn schema() -> Value {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<Document>().to_value();
    alias(&mut schema, "HttpEntry", "mirrorPercent", "mirror_percent");
    finish(&mut schema);
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".to_owned(), "A policy of meshfilter".into());
    }
    schema
}

/// Lets a member have a second name.
fn alias(schema: &mut Value, definition: &str, name: &str, other: &str) {
    let properties = schema.pointer_mut(&format!("/definitions/{definition}/properties"));
    let Some(properties) = properties.and_then(Value::as_object_mut) else { return };
    let Some(mut member) = properties.get(name).and_then(Value::as_object).cloned() else { return };
    member.insert("description".to_owned(), format!("The same as `{name}`.").into());
    properties.insert(other.to_owned(), member.into());
}

/// Makes every schema in this one say what the module says.
fn finish(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(finish),
        Value::Object(object) => {
            object.values_mut().for_each(finish);
            if object.get("properties").is_some_and(Value::is_object) {
                members(object);
            }
            without_null(object);
            number(object);
            if let Some(Value::String(description)) = object.get_mut("description") {
                *description = description.replace('\n', " ");
            }
        }
        _ => {}
    }
}

/// What the comments say about the members of an object.
fn members(object: &mut Map<String, Value>) {
    let mut required = Vec::new();
    for (name, member) in object.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        let description = member["description"].as_str().unwrap_or_default().to_owned();
        if description.ends_with("Required.") {
            required.push(name.clone());
        }
        // What serde takes for an absent member is not always what the module takes for it.
        let Some(member) = member.as_object_mut() else { continue };
        member.remove("default");
        if let Some((_, after)) = description.split_once("Default `")
            && let Some((text, _)) = after.split_once('`')
        {
            member.insert("default".to_owned(), default(text));
        }
    }
    if !required.is_empty() {
        object.insert("required".to_owned(), required.into());
    }
    let description = object.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    if description.contains("Exactly one member stands.") {
        object.insert("minProperties".to_owned(), 1.into());
    }
    if description.contains("one member stands") {
        object.insert("maxProperties".to_owned(), 1.into());
    }
}

/// A default as it is written in a comment: a word, a number, a list of words.
fn default(text: &str) -> Value {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(list) => list.split(", ").map(default).collect(),
        None => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}

/// A member that may be absent may not be `null`.
fn without_null(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(mut choices)) = object.remove("anyOf") {
        choices.retain(|choice| *choice != json!({"type": "null"}));
        // Beside a description a reference has to stand in a list.
        let word = if choices.len() == 1 { "allOf" } else { "anyOf" };
        object.insert(word.to_owned(), choices.into());
    }
}

/// Bounds in place of Rust's names for them.
fn number(object: &mut Map<String, Value>) {
    match object.remove("format").as_ref().and_then(Value::as_str) {
        Some("uint32") => drop(object.insert("maximum".to_owned(), u32::MAX.into())),
        Some("int64") => {
            object.insert("minimum".to_owned(), i64::MIN.into());
            object.insert("maximum".to_owned(), i64::MAX.into());
        }
        _ => {}
    }
}

/// Schemas of the types that read themselves.
macro_rules! schemas {
    ($($type:ident: $generator:ident => $schema:tt)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

schemas! {
    AuthorizationValue: _generator => {
        "description": "One value: a string with wildcards (`abc`, `abc*`, `*abc`, `*`), `{regex: …}`, \
                        `{attribute: …}` or, where claims are compared, a number or a boolean.",
        "type": ["string", "object", "number", "boolean"],
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {
            "regex": {"type": "string", "description": "RE2 syntax, the whole value. Beyond Istio."},
            "attribute": {
                "type": "string",
                "description": "What another attribute of the same request holds: `request.path[1]`. Beyond Istio.",
            },
        },
    }
    Duration: _generator => {
        "description": "A span of time: `5s`, `250ms`, `1m30s`, `1.5h`; the units are h, m, s, ms, us and ns.",
        "type": "string",
        "pattern": r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)(h|m|s|ms|us|µs|ns)([0-9]+(\.[0-9]*)?(h|m|s|ms|us|µs|ns))*$",
    }
    GrpcStatus: _generator => {
        "description": "A gRPC status by its name or its number.",
        "anyOf": [
            {"type": "string", "enum": GRPC_STATUS_NAMES},
            {"type": "integer", "minimum": 0, "maximum": i32::MAX},
        ],
    }
    Requirement: generator => {
        "description": "At the top `any`, `all`, `optional`, `permissive` or `none`, within a tree a rule's name; or a \
                        tree.",
        "anyOf": [{"type": "string"}, generator.subschema_for::<RequirementTree>()],
    }
    Unsupported: _generator => {
        "description": "What Istio has and a plugin cannot honour.",
        "not": {},
    }
}

#[cfg(test)]
pub mod tests;
