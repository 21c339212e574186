//! One value against one pattern.

use super::{FullMatch, Truth};

/// How a present value has to look.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// These bytes.
    Exact(Box<[u8]>),
    /// Begins so.
    Prefix(Box<[u8]>),
    /// Begins with these segments; without a slash at the end.
    PathPrefix(Box<[u8]>),
    /// Ends so.
    Suffix(Box<[u8]>),
    /// Has this in it.
    Contains(Box<[u8]>),
    /// The whole of it matches.
    Regex(FullMatch),
    /// Any value, even an empty one.
    Any,
}

impl Pattern {
    /// Whether a value matches, case counting.
    pub fn is_match(&self, value: &[u8]) -> bool {
        match self {
            Pattern::Exact(text) => **text == *value,
            Pattern::Prefix(text) => value.starts_with(text),
            Pattern::PathPrefix(text) => value.strip_prefix(&**text).is_some_and(ends_a_segment),
            Pattern::Suffix(text) => value.ends_with(text),
            Pattern::Contains(text) => contains(value, text),
            Pattern::Regex(expression) => expression.is_match(value),
            Pattern::Any => true,
        }
    }

    /// Whether a value matches, ASCII case not counting. A regular expression decides by itself.
    pub fn is_match_ignoring_case(&self, value: &[u8]) -> bool {
        match self {
            Pattern::Exact(text) => text.eq_ignore_ascii_case(value),
            Pattern::Prefix(text) => {
                value.get(..text.len()).is_some_and(|start| text.eq_ignore_ascii_case(start))
            }
            Pattern::PathPrefix(text) => value
                .split_at_checked(text.len())
                .is_some_and(|(start, rest)| text.eq_ignore_ascii_case(start) && ends_a_segment(rest)),
            Pattern::Suffix(text) => {
                let start = value.len().checked_sub(text.len());
                start.and_then(|start| value.get(start..)).is_some_and(|end| text.eq_ignore_ascii_case(end))
            }
            Pattern::Contains(text) => contains(&value.to_ascii_lowercase(), &text.to_ascii_lowercase()),
            Pattern::Regex(_) | Pattern::Any => self.is_match(value),
        }
    }

    /// Whether a value matches, where a security decision rests on it: see [`FullMatch::truth`].
    pub fn truth(&self, value: &[u8], ignore_case: bool) -> Truth {
        match self {
            Pattern::Regex(expression) => expression.truth(value),
            _ if ignore_case => self.is_match_ignoring_case(value).into(),
            _ => self.is_match(value).into(),
        }
    }
}

/// A pattern, or that there be no value at all.
#[derive(Clone, Debug)]
pub enum StringMatch {
    /// A value is there and looks like this.
    Present(Pattern),
    /// No value is there.
    Absent,
}

impl StringMatch {
    /// Whether a value that may be absent matches.
    pub fn is_match(&self, value: Option<&[u8]>) -> bool {
        self.any_match(value)
    }

    /// Whether any of a header's values matches; repeated ones are looked at one by one.
    pub fn any_match<T: AsRef<[u8]>>(&self, values: impl IntoIterator<Item = T>) -> bool {
        let mut values = values.into_iter();
        match self {
            StringMatch::Present(pattern) => values.any(|value| pattern.is_match(value.as_ref())),
            StringMatch::Absent => values.next().is_none(),
        }
    }

    /// The same, where a security decision rests on it: of what a client repeats, the upstream may take any.
    pub fn truth<T: AsRef<[u8]>>(&self, values: impl IntoIterator<Item = T>) -> Truth {
        let mut values = values.into_iter();
        match self {
            StringMatch::Present(pattern) => {
                Truth::each(values.map(|value| pattern.truth(value.as_ref(), false)))
            }
            StringMatch::Absent => values.next().is_none().into(),
        }
    }
}

/// Whether what comes after some segments begins another one, or nothing comes.
fn ends_a_segment(rest: &[u8]) -> bool {
    matches!(rest, [] | [b'/', ..])
}

fn contains(value: &[u8], part: &[u8]) -> bool {
    part.is_empty() || value.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Box<[u8]> {
        text.as_bytes().into()
    }

    #[test]
    fn each_kind_matches_what_it_says() {
        for (pattern, yes, no) in [
            (Pattern::Exact(text("ab")), "ab", "abc"),
            (Pattern::Prefix(text("ab")), "abc", "cab"),
            (Pattern::PathPrefix(text("/ab")), "/ab", "/abc"),
            (Pattern::PathPrefix(text("/ab")), "/ab/", "/a"),
            (Pattern::PathPrefix(text("/ab")), "/ab/c", "/cab/"),
            (Pattern::Suffix(text("ab")), "cab", "abc"),
            (Pattern::Contains(text("ab")), "cabc", "acb"),
            (Pattern::Regex(FullMatch::new("a+b").unwrap()), "aab", "aabc"),
        ] {
            assert!(pattern.is_match(yes.as_bytes()), "{pattern:?} {yes}");
            assert!(!pattern.is_match(no.as_bytes()), "{pattern:?} {no}");
            assert!(!pattern.is_match(b""), "{pattern:?} empty");
            let upper = yes.to_ascii_uppercase();
            assert!(!pattern.is_match(upper.as_bytes()), "{pattern:?} {upper}");
            let folds = !matches!(pattern, Pattern::Regex(_));
            assert_eq!(pattern.is_match_ignoring_case(upper.as_bytes()), folds, "{pattern:?} {upper}");
        }
        assert!(Pattern::Any.is_match(b""));
    }

    #[test]
    fn repeated_values_are_matched_one_by_one_and_absence_is_none_at_all() {
        let present = StringMatch::Present(Pattern::Exact(text("b")));
        assert!(present.any_match(["a", "b"]));
        assert!(!present.any_match(["a,b"]));
        assert!(!present.is_match(None));
        assert!(StringMatch::Absent.is_match(None));
        assert!(!StringMatch::Absent.is_match(Some(b"")));
    }
}
