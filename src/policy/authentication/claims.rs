//! What the claims of a good token must hold.

use serde_json::Value;

use crate::matchers::claim::Claims;
use crate::matchers::{ClaimPath, TextSet, Truth};

/// A condition on one claim. A string, or any string of a list, is what is matched, as in an AuthorizationPolicy;
/// numbers and booleans never match.
#[derive(Clone, Debug)]
pub struct ClaimCondition {
    /// Which claim.
    pub claim: ClaimPath,
    /// One of these has to match.
    pub values: Option<TextSet>,
    /// None of these may.
    pub not_values: Option<TextSet>,
}

impl ClaimCondition {
    /// Whether the condition holds for sure.
    pub fn is_match(&self, claims: &Claims) -> bool {
        let claim = self.claim.find(claims);
        let among = |set: &TextSet| matches(claim, set);
        self.values.as_ref().is_none_or(|set| among(set) == Truth::Yes)
            && self.not_values.as_ref().is_none_or(|set| among(set) == Truth::No)
    }
}

fn matches(claim: Option<&Value>, set: &TextSet) -> Truth {
    match claim {
        Some(Value::String(text)) => set.matches(text.as_bytes()),
        Some(Value::Array(list)) => {
            Truth::any(list.iter().filter_map(Value::as_str).map(|text| set.matches(text.as_bytes())))
        }
        _ => Truth::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matchers::Wildcard;
    use serde_json::json;

    fn set(values: &[&str]) -> Option<TextSet> {
        Some(values.iter().map(|text| Wildcard::parse(text, Wildcard::NotEmpty)).collect())
    }

    fn holds(values: Option<TextSet>, not_values: Option<TextSet>, claim: Value) -> bool {
        let condition = ClaimCondition { claim: ClaimPath::parse("r.c").unwrap(), values, not_values };
        condition.is_match(json!({"r": {"c": claim}}).as_object().unwrap())
    }

    #[test]
    fn a_string_or_one_of_a_list_has_to_match() {
        for (values, claim, expected) in [
            (&["a"][..], json!("a"), true),
            (&["a"], json!("b"), false),
            (&["a", "b*"], json!(["x", "by"]), true),
            (&["a"], json!([["a"]]), false),
            (&["*"], json!(""), false),
            (&["*"], json!("x"), true),
            (&["1"], json!(1), false),
            (&["true"], json!(true), false),
            (&["a"], json!(null), false),
        ] {
            assert_eq!(holds(set(values), None, claim.clone()), expected, "{values:?} {claim}");
        }
    }

    #[test]
    fn not_values_hold_where_nothing_matches() {
        assert!(holds(None, set(&["a"]), json!("b")));
        assert!(holds(None, set(&["a"]), json!(null)));
        assert!(!holds(None, set(&["a"]), json!(["b", "a"])));
        assert!(!holds(set(&["*"]), set(&["a"]), json!("a")));
        assert!(holds(set(&["*"]), set(&["a"]), json!("b")));
    }
}
