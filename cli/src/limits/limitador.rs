//! The limits of github.com/Kuadrant/limitador: one list, each with conditions and variables in CEL.

use std::collections::BTreeSet;

use meshfilter::policy::rate_limit::global::Unit;
use serde_json::{Value, json};

use super::{Domains, Limit, Shape};
use crate::envoy::yaml;

/// Every domain; Limitador calls it a namespace.
pub fn write(domains: &Domains) -> String {
    let mut list = Vec::new();
    for (domain, limits) in domains {
        for limit in limits {
            list.push(value(domain, limit, limits));
        }
    }
    yaml::write(&Value::Array(list), &[])
}

fn value(domain: &str, limit: &Limit, all: &[Limit]) -> Value {
    // To Limitador a descriptor with more keys than these is one of these, too.
    let length = all.iter().any(|other| other.shape != limit.shape && has_keys(&other.shape, &limit.shape));
    let length = length.then_some(limit.shape.len());
    let (condition, found) = match limit.places.iter().collect::<Vec<_>>().as_slice() {
        [place] => at(**place, &limit.shape, length),
        _ => anywhere(&limit.shape, length),
    };
    let free = limit.shape.iter().filter(|(_, value)| value.is_none());
    let variables: BTreeSet<String> = free.map(|(key, _)| member(&found, key)).collect();
    json!({
        "name": limit.name,
        "namespace": domain,
        "max_value": limit.requests_per_unit,
        "seconds": seconds(limit.unit),
        "conditions": condition.into_iter().collect::<Vec<_>>(),
        "variables": variables,
    })
}

fn has_keys(of: &Shape, wanted: &Shape) -> bool {
    wanted.iter().all(|(key, _)| of.iter().any(|(other, _)| other == key))
}

/// The condition for a descriptor at one place of the question, and what it is called.
fn at(place: usize, shape: &Shape, length: Option<usize>) -> (Option<String>, String) {
    let found = format!("descriptors[{place}]");
    // Asking for what is not there is an error, except for a member.
    let reaches = (place > 0).then(|| format!("size(descriptors) > {place}"));
    let length = length.map(|length| format!("size({found}) == {length}"));
    let parts: Vec<String> = reaches.into_iter().chain(length).chain(fixed(&found, shape)).collect();
    ((!parts.is_empty()).then(|| parts.join(" && ")), found)
}

/// The same for one whose place depends on what a request has.
fn anywhere(shape: &Shape, length: Option<usize>) -> (Option<String>, String) {
    let keys = shape.iter().map(|(key, _)| format!("{} in {EACH}", text(key)));
    let length = length.map(|length| format!("size({EACH}) == {length}"));
    let wanted = keys.chain(length).chain(fixed(EACH, shape)).collect::<Vec<_>>().join(" && ");
    (
        Some(format!("descriptors.exists({EACH}, {wanted})")),
        format!("descriptors.filter({EACH}, {wanted})[0]"),
    )
}

/// One descriptor of the list of that name: Limitador leaves out a limit whose expressions have a name that it has not set
/// itself, also where the expression does.
const EACH: &str = "descriptors";

fn fixed(found: &str, shape: &Shape) -> impl Iterator<Item = String> {
    let fixed = shape.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    fixed.map(move |(key, value)| format!("{} == {}", member(found, key), text(value)))
}

/// `found.key`, or `found['a key']`.
fn member(found: &str, key: &str) -> String {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let is_name = key.bytes().next().is_some_and(letter)
        && key.bytes().all(|byte| letter(byte) || byte.is_ascii_digit());
    match is_name && !RESERVED.contains(&key) {
        true => format!("{found}.{key}"),
        false => format!("{found}[{}]", text(key)),
    }
}

/// What CEL does not take as a name.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// A text of CEL.
fn text(text: &str) -> String {
    let mut quoted = String::from("'");
    for character in text.chars() {
        match character {
            '\'' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

/// What a unit is to envoyproxy/ratelimit, too.
fn seconds(unit: Unit) -> u32 {
    match unit {
        Unit::Second => 1,
        Unit::Minute => 60,
        Unit::Hour => 3600,
        Unit::Day => 86_400,
        Unit::Month => 2_592_000,
        Unit::Year => 31_536_000,
    }
}
