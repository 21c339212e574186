//! Where in a token's claims a value stands.

use serde_json::{Map, Value};

/// The claims of a token: a JSON object.
pub type Claims = Map<String, Value>;

/// A path into the claims: `a.b`, or `[a][b]` for names that have dots in them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// Reads a path.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<String> = match text.strip_prefix('[') {
            None => text.split('.').map(str::to_owned).collect(),
            Some(rest) => match rest.strip_suffix(']') {
                Some(inner) => inner.split("][").map(str::to_owned).collect(),
                None => Vec::new(),
            },
        };
        let wrong = |part: &String| part.is_empty() || part.contains(['[', ']']);
        if parts.is_empty() || parts.iter().any(wrong) {
            return Err(format!("\"{text}\" is not a claim's path; use a.b, or [a][b] for names with dots"));
        }
        Ok(ClaimPath(parts))
    }

    /// The value at this path.
    pub fn find<'a>(&self, claims: &'a Claims) -> Option<&'a Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(claims.get(first)?, |value, name| value.as_object()?.get(name))
    }

    /// The value at this path, to be changed.
    pub fn find_mut<'a>(&self, claims: &'a mut Claims) -> Option<&'a mut Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(claims.get_mut(first)?, |value, name| value.as_object_mut()?.get_mut(name))
    }
}

impl std::fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// A claim as the text of a header, a key or a tag: strings as they are, numbers and booleans as JSON writes them,
/// lists and objects as JSON.
pub fn claim_text(value: &Value) -> std::borrow::Cow<'_, str> {
    match value {
        Value::String(text) => text.as_str().into(),
        other => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_has_dots_or_brackets_and_finds_what_it_names() {
        let claims = json!({"a": {"b": {"c.d": 7}}, "x.y": "dotted", "l": [1]});
        let claims = claims.as_object().unwrap();
        let find = |path: &str| {
            ClaimPath::parse(path).unwrap().find(claims).map(|value| claim_text(value).into_owned())
        };
        assert_eq!(find("[a][b][c.d]").as_deref(), Some("7"));
        assert_eq!(find("a.b").as_deref(), Some(r#"{"c.d":7}"#));
        assert_eq!(find("[x.y]").as_deref(), Some("dotted"));
        assert_eq!(find("x.y"), None);
        assert_eq!(find("l.0"), None);
    }

    #[test]
    fn any_other_form_is_an_error() {
        for path in ["", ".", "a.", "a..b", "[a", "a]", "[]", "[a]b", "[a].[b]", "a[b]", "[a][]"] {
            assert!(ClaimPath::parse(path).is_err(), "{path}");
        }
    }
}
