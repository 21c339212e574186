//! Regular expressions with RE2's syntax and meaning: linear time, the whole value.

use regex::bytes::{Regex, RegexBuilder};

use super::Truth;

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

/// An expression that a refusal may rest on: the whole value, `.` any character, a line's end too.
///
/// No odd byte makes it miss. An expression is about text, and `.*` does not match 0xFF; Envoy let such a header
/// pass a rule that should have refused it (CVE-2026-73552). A value that is no UTF-8 is therefore matched byte by
/// byte, and where the expression cannot be read so, the answer is unknown.
#[derive(Clone, Debug)]
pub struct ByteMatch {
    text: Regex,
    bytes: Option<Regex>,
}

impl ByteMatch {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn new(expression: &str, ignore_case: bool) -> Result<Self, String> {
        compile(expression)?;
        let whole = format!(r"\A(?:{expression})\z");
        let build = |unicode: bool| {
            let mut builder = builder(&whole);
            builder.dot_matches_new_line(true).case_insensitive(ignore_case).unicode(unicode).build()
        };
        Ok(ByteMatch {
            text: build(true).map_err(|error| wrong(expression, &error))?,
            // What is not ASCII would be compared with its UTF-8 form alone.
            bytes: if expression.is_ascii() { build(false).ok() } else { None },
        })
    }

    /// Whether all of `value` matches.
    pub fn matches(&self, value: &[u8]) -> Truth {
        if self.text.is_match(value) {
            Truth::Yes
        } else if std::str::from_utf8(value).is_ok() {
            Truth::No
        } else {
            self.bytes.as_ref().map_or(Truth::Unknown, |bytes| bytes.is_match(value).into())
        }
    }
}

/// Compiles an expression that may match anywhere in the value.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn compile(expression: &str) -> Result<Regex, String> {
    builder(expression).build().map_err(|error| wrong(expression, &error))
}

fn builder(expression: &str) -> RegexBuilder {
    let mut builder = RegexBuilder::new(expression);
    builder.size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT);
    builder
}

fn wrong(expression: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
    format!("\"{expression}\" is not a regular expression ({reason}); use RE2 syntax")
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

    #[test]
    fn no_odd_byte_makes_an_expression_miss() {
        for (expression, value, expected) in [
            (".*", &b"a\xff"[..], Truth::Yes),
            (".*admin.*", b"\xffadmin", Truth::Yes),
            (".*admin.*", b"\nadmin", Truth::Yes),
            ("[^b]+", b"a\xff", Truth::Yes),
            ("caf.", b"caf\xe9", Truth::Yes),
            (".*admin.*", b"\xffuser", Truth::No),
            ("[a-z]+", b"a\xff", Truth::No),
            ("café", b"caf\xe9", Truth::Unknown),
            ("café", b"cafe", Truth::No),
            ("café", "café".as_bytes(), Truth::Yes),
        ] {
            assert_eq!(ByteMatch::new(expression, false).unwrap().matches(value), expected, "{expression}");
        }
        assert_eq!(ByteMatch::new("a\\.b", true).unwrap().matches(b"A.B"), Truth::Yes);
        assert!(ByteMatch::new("a)(b", false).is_err());
    }
}
