//! What the claims of a good token must hold.

use crate::policy::Token;
use crate::policy::authorization::{Rule, Sources};
use crate::request::Request;

/// Conditions on claims, as an AuthorizationPolicy has them.
#[derive(Debug)]
pub struct RequiredClaims {
    /// All that they ask.
    pub rule: Rule,
    /// What that is about, besides the token.
    pub sources: Sources,
}

impl RequiredClaims {
    /// Whether a token holds them for sure.
    pub fn hold(&self, request: &Request, token: &Token) -> bool {
        self.rule.surely_matches(&self.sources, request, token)
    }

    /// Whether they compare a claim with the path.
    pub fn depend_on_path(&self) -> bool {
        self.rule.depends_on_path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matchers::{ClaimPath, Wildcard};
    use crate::policy::authorization::{Attribute, Condition, Test, Values};
    use serde_json::{Value, json};

    fn holds(values: Option<&[&str]>, not_values: Option<&[&str]>, claim: Value) -> bool {
        let test = |list: Option<&[&str]>, negated| {
            let texts = list?.iter().map(|text| Wildcard::parse(text, Wildcard::NotEmpty)).collect();
            let claim = Attribute::Claim(ClaimPath::parse("r.c").unwrap());
            let condition = Condition::Text(claim, Values { texts, ..Values::default() });
            Some(Test { condition, negated, place: Default::default() })
        };
        let when = [test(values, false), test(not_values, true)].into_iter().flatten().collect();
        let rule = Rule::new((0, 0), Box::default(), Box::default(), when);
        let claims = json!({"r": {"c": claim}}).as_object().unwrap().clone();
        let token = Token { claims, ..Token::default() };
        RequiredClaims { rule, sources: Sources::default() }.hold(&Request::default(), &token)
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
            assert_eq!(holds(Some(values), None, claim.clone()), expected, "{values:?} {claim}");
        }
    }

    #[test]
    fn not_values_hold_where_nothing_matches() {
        assert!(holds(None, Some(&["a"]), json!("b")));
        assert!(holds(None, Some(&["a"]), json!(null)));
        assert!(!holds(None, Some(&["a"]), json!(["b", "a"])));
        assert!(!holds(Some(&["*"]), Some(&["a"]), json!("a")));
        assert!(holds(Some(&["*"]), Some(&["a"]), json!("b")));
    }
}
