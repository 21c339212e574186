use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use super::*;
use crate::{self as config, ConfigError, Errors};

static SCHEMA: LazyLock<Value> = LazyLock::new(schema);
static VALIDATOR: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| jsonschema::draft7::new(&SCHEMA).expect("a schema of draft 7"));

/// Why a document that the schema accepts may be refused all the same: parts of the messages, by reason.
const BEYOND_SHAPE: [(&str, &[&str]); 6] = [
    (
        "what a text says has a grammar of its own",
        &[
            " is not a claim's path",
            " is not a header's name",
            " is not a regular expression",
            " is not an attribute",
            " is not a path template",
            " is no address block",
            " is not a service account",
            " is not a trust domain",
            " is not a namespace",
            " is not a port",
            "a port's number is ",
            " is not a name",
            " is not a tag's name",
            " is not a condition",
            " is not a scheme",
            " is not an algorithm",
            " is not the address of a key set",
            " is not a cookie's name",
            " begins with spiffe://",
            "not base64",
            "a lone backslash",
            "the expression has no group",
            "without its \"}\"",
            "is not a part of a destination",
            "a line break or NUL",
            "Envoy's %…% operators",
            "control characters in it",
            "Jwks ",
            " is not a requirement",
            "no condition",
        ],
    ),
    (
        "a number or a span of time has bounds",
        &[
            "is not a percentage",
            "not a percentage",
            "is not a number of ",
            "is not a status",
            "is not a redirect's status",
            "is not a weight",
            "is not a cost",
            "is not a time to wait",
            "is too long",
            "is too short",
            "lives at least",
            "false asks for nothing",
            "all weights are 0",
        ],
    ),
    (
        "something must be in a list or a text",
        &[
            "an empty ",
            "more than 16 ",
            "mirrors; Envoy's route",
            "there is nothing to require",
            "nothing to match",
            "no descriptor; ",
            "no entry; ",
        ],
    ),
    (
        "one member has to do with another",
        &[
            "beside ",
            "keep one",
            "keep either",
            "use string or bytes",
            "neither ",
            "no source; ",
            "no keys; ",
            "no issuer; ",
            "no site is allowed",
            "there is no mirror",
            "there is no route",
            "a rewrite of nothing",
            "no port for the {port}",
            "which Envoy cluster serves",
            "no address to find",
            "leave this out",
            "\"header\" is missing; upstream and downstream",
            "a header goes nowhere",
            "\"tokenBucket\" is missing",
            "a key is for a bucket",
        ],
    ),
    (
        "what is right in one place is wrong in another",
        &[
            "belongs in a telemetry tag",
            "belongs in a rate limit's key",
            "an attribute does not belong here",
            "a part of the path belongs among the values",
            "addresses and ports are strings",
            "only claims have numbers and booleans",
            " has no body",
            "the proxy says how long an answer is",
            "OK refuses nothing",
            "the host cannot be changed here",
            "a header that may be changed",
            "the filter's own",
            "the protocol's own",
            "is where a token stands",
            "cannot hold a token",
            "is not a tag's header",
            "the request is gone",
            "the response is gone",
            "only the filter may set",
            "claims are not known before",
            "is not the beginning of a path",
            " is not a host; ",
        ],
    ),
    (
        "a name leads nowhere, or stands twice",
        &[
            " is used twice",
            "stands twice",
            " is not a rule; ",
            "carries another tag",
            "has a label ",
            "no variable ",
            " has no namespace",
        ],
    ),
];

/// Holds the schema to what became of a document; `read` are the errors of reading it into the document's types,
/// which is to say those of its shape. Every document that any test of this crate compiles comes by here.
pub fn agrees(document: &Value, read: Range<usize>, errors: &Errors) {
    let said: Vec<String> =
        VALIDATOR.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    let errors = errors.all();
    if errors.is_empty() {
        assert!(said.is_empty(), "the schema refuses a good document: {said:#?}\n{document}");
    } else if !read.is_empty() {
        assert!(!said.is_empty(), "the schema accepts a document of a wrong shape: {errors:#?}\n{document}");
    } else if said.is_empty() {
        for error in errors {
            assert!(beyond_shape(&error), "is this beyond a document's shape? {error}\n{document}");
        }
    }
}

fn beyond_shape(error: &ConfigError) -> bool {
    BEYOND_SHAPE.iter().any(|(_, parts)| parts.iter().any(|part| error.message.contains(part)))
}

/// Every schema in this one, with the way to it.
fn walk<'a>(schema: &'a Value, path: &str, see: &mut dyn FnMut(&str, &'a Value)) {
    see(path, schema);
    match schema {
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, item)| walk(item, &format!("{path}/{index}"), see));
        }
        Value::Object(object) => {
            object.iter().for_each(|(name, item)| walk(item, &format!("{path}/{name}"), see))
        }
        _ => {}
    }
}

/// The members of all objects, with the way to them, and the object.
fn members() -> Vec<(String, &'static Value, &'static Value)> {
    let mut found = Vec::new();
    walk(&SCHEMA, "", &mut |path, schema| {
        // A member may itself be called "properties".
        if let Some(members) = schema["properties"].as_object().filter(|_| !path.ends_with("/properties")) {
            found.extend(members.iter().map(|(name, member)| (format!("{path}.{name}"), member, schema)));
        }
    });
    assert!(found.len() > 200, "{}", found.len());
    found
}

fn described(schema: &Value) -> bool {
    schema["description"].as_str().is_some_and(|text| text.len() > 5 && text.ends_with(['.', ')']))
}

#[test]
fn everything_is_described() {
    for (path, member, _) in members() {
        assert!(described(member), "{path}: {member}");
    }
    assert!(described(&SCHEMA));
    for (name, definition) in SCHEMA["definitions"].as_object().unwrap() {
        assert!(described(definition), "{name}");
        for choice in definition["oneOf"].as_array().into_iter().flatten() {
            assert!(described(choice), "{name}: {choice}");
        }
    }
}

#[test]
fn whoever_leaves_a_number_a_switch_or_a_word_out_is_told_what_holds() {
    let simple = |member: &Value| {
        let definition = |schema: &Value| schema["$ref"].as_str()?.rsplit('/').next().map(ToOwned::to_owned);
        let name = definition(&member["allOf"][0]).unwrap_or_default();
        let schema = if name.is_empty() { member } else { &SCHEMA["definitions"][&name] };
        matches!(schema["type"].as_str(), Some("integer" | "number" | "boolean"))
            || schema["oneOf"].is_array()
    };
    let mut silent = Vec::new();
    for (path, member, object) in members().into_iter().filter(|(_, member, _)| simple(member)) {
        let name = path.rsplit('.').next().unwrap_or_default();
        let required = object["required"].as_array().is_some_and(|names| names.contains(&name.into()));
        let one_of_several = object["description"].as_str().unwrap_or_default().contains("one ");
        let text = member["description"].as_str().unwrap_or_default().to_lowercase();
        let said = ["default", "without it", "older form", "the same as", "stands in"]
            .iter()
            .any(|word| text.contains(word));
        if !required && !one_of_several && !said {
            silent.push(format!("{path}: {text}"));
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn defaults_are_values_of_their_members() {
    let mut count = 0;
    for (path, member, _) in members() {
        let Some(default) = member.get("default") else { continue };
        let schema = json!({"definitions": SCHEMA["definitions"], "allOf": [member]});
        let validator = jsonschema::draft7::new(&schema).unwrap();
        assert!(validator.is_valid(default), "{path}: {default}");
        count += 1;
    }
    assert!(count > 30, "{count}");
}

#[test]
fn the_schema_itself_is_one() {
    assert!(jsonschema::draft7::meta::is_valid(&SCHEMA));
    assert_eq!(SCHEMA["$schema"], "http://json-schema.org/draft-07/schema#");
    // Each object says which members it may have; a map says what they are.
    walk(&SCHEMA, "", &mut |path, schema| {
        if schema["type"] == "object" {
            let closed = schema["additionalProperties"] == false && schema["properties"].is_object();
            let map = schema["additionalProperties"].is_object();
            assert!(closed || map, "{path}: {schema}");
        }
        assert!(
            schema["format"].is_null()
                && schema["type"].as_array().is_none_or(|types| !types.contains(&"null".into()))
        );
    });
}

#[test]
fn durations_are_what_the_module_reads() {
    let validator = jsonschema::draft7::new(&SCHEMA["definitions"]["Duration"]).unwrap();
    let texts = [
        "5s", "250ms", "1m30s", "1.5h", "0s", ".5s", "5.s", "1s1ms", "3us", "3µs", "9ns", "", "5", "s",
        "-5s", "5 s", "5x", "1..5s", "5s5", "1e3s", ".", ".s", "1s.5s", "5S", "٣s",
    ];
    for text in texts {
        assert_eq!(validator.is_valid(&text.into()), Duration::parse(text).is_some(), "{text:?}");
    }
}

#[test]
fn what_a_comment_calls_required_is() {
    let mut required = BTreeSet::new();
    for (path, _, object) in members() {
        let name = path.rsplit('.').next().unwrap_or_default();
        if object["required"].as_array().is_some_and(|names| names.contains(&name.into())) {
            required.insert(name.to_owned());
        }
    }
    let texts: Vec<&str> = required.iter().map(String::as_str).collect();
    assert_eq!(
        texts,
        [
            "attempts",
            "claim",
            "cluster",
            "descriptors",
            "destination",
            "domain",
            "entries",
            "fillInterval",
            "header",
            "key",
            "match",
            "max",
            "maxTokens",
            "mean",
            "name",
            "number",
            "operation",
            "requestsPerUnit",
            "rewrite",
            "source",
            "status",
            "stddev",
            "unit",
            "value"
        ]
    );
}

#[test]
fn the_older_spelling_of_a_member_is_known() {
    let document = json!({"http": [{"mirror": {"cluster": "a"}, "mirror_percent": 5}]});
    assert!(config::compile(&document, &|_| None, Errors::default()).is_ok());
}
