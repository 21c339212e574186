//! The configuration of github.com/envoyproxy/ratelimit: one file for each domain, a tree of keys.

use meshfilter::policy::rate_limit::global::Unit;
use serde_json::{Value, json};

use super::Limit;
use crate::envoy::yaml;

/// One domain.
pub fn write(domain: &str, limits: &[Limit]) -> String {
    let mut descriptors = Vec::new();
    for limit in limits {
        insert(&mut descriptors, &limit.shape, limit);
    }
    yaml::write(&json!({"domain": domain, "descriptors": descriptors}), &[])
}

/// Puts a limit at the end of the way that its keys say.
fn insert(descriptors: &mut Vec<Value>, shape: &[(String, Option<String>)], limit: &Limit) {
    let Some(((key, value), rest)) = shape.split_first() else { return };
    // An empty value is none, and matches any.
    let value = value.as_deref().filter(|value| !value.is_empty());
    let same = |node: &Value| {
        node.get("key").and_then(Value::as_str) == Some(key)
            && node.get("value").and_then(Value::as_str) == value
    };
    if !descriptors.iter().any(same) {
        let mut node = json!({"key": key});
        if let (Some(value), Some(node)) = (value, node.as_object_mut()) {
            node.insert("value".to_owned(), value.into());
        }
        descriptors.push(node);
    }
    let Some(node) = descriptors.iter_mut().find(|node| same(node)).and_then(Value::as_object_mut) else {
        return;
    };
    if rest.is_empty() {
        let rate_limit = json!({"unit": unit(limit.unit), "requests_per_unit": limit.requests_per_unit});
        node.insert("rate_limit".to_owned(), rate_limit);
        return;
    }
    let below = node.entry("descriptors").or_insert_with(|| json!([]));
    if let Some(below) = below.as_array_mut() {
        insert(below, rest, limit);
    }
}

/// `second`, `minute`, …
fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Second => "second",
        Unit::Minute => "minute",
        Unit::Hour => "hour",
        Unit::Day => "day",
        Unit::Month => "month",
        Unit::Year => "year",
    }
}
