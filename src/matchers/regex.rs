//! Regular expressions with RE2's syntax and meaning: linear time, the whole value.

use regex::bytes::{Regex, RegexBuilder};

/// An expression that must match the whole value, as Envoy's and Istio's do.
#[derive(Clone, Debug)]
pub struct FullMatch(Regex);

/// What one compiled expression may take, in bytes; Envoy refuses large programs, too.
const SIZE_LIMIT: usize = 1 << 20;

impl FullMatch {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn new(expression: &str) -> Result<Self, String> {
        // Checked by itself first: `a)(b` must not become right by being put in parentheses.
        compile(expression)?;
        compile(&format!(r"\A(?:{expression})\z")).map(FullMatch)
    }

    /// Whether all of `value` matches.
    pub fn is_match(&self, value: &[u8]) -> bool {
        self.0.is_match(value)
    }
}

/// Compiles an expression that may match anywhere in the value.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn compile(expression: &str) -> Result<Regex, String> {
    RegexBuilder::new(expression).size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT).build().map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("\"{expression}\" is not a regular expression ({reason}); use RE2 syntax")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_value_must_match() {
        let expression = FullMatch::new("a|b.*").unwrap();
        assert!(expression.is_match(b"a"));
        assert!(expression.is_match(b"bcd"));
        assert!(!expression.is_match(b"ab"));
        assert!(!expression.is_match(b"xa"));
    }

    #[test]
    fn parentheses_cannot_be_closed_from_within() {
        assert!(FullMatch::new("a)(b").is_err());
        assert!(FullMatch::new("(").unwrap_err().contains("\"(\" is not a regular expression"));
        assert!(FullMatch::new(r"a(?=b)").is_err(), "RE2 has no look-ahead");
    }

    #[test]
    fn bytes_that_are_no_text_are_matched_or_not_but_never_a_crash() {
        assert!(FullMatch::new(r"(?s-u:.*)").unwrap().is_match(b"a\xff"));
        assert!(!FullMatch::new(".").unwrap().is_match(b"\xff"));
    }
}
