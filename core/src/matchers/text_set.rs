//! Lists of patterns, of which one has to match: Istio's wildcards, and regular expressions beside them.

use std::collections::{BinaryHeap, HashSet};

use super::{ByteMatch, Truth};

/// One pattern of a list.
#[derive(Clone, Debug)]
pub enum Wildcard {
    /// `abc`
    Exact(Box<[u8]>),
    /// `abc*`
    Prefix(Box<[u8]>),
    /// `*abc`
    Suffix(Box<[u8]>),
    /// `*` where an empty value counts.
    Present,
    /// `*` where it does not.
    NotEmpty,
    /// The whole value matches.
    Regex(ByteMatch),
}

impl Wildcard {
    /// Reads Istio's form; what a lone `*` means depends on what is matched. A `*` elsewhere stands for itself, and
    /// so does a second one, as Istio compiles them.
    pub fn parse(text: &str, star: Wildcard) -> Self {
        if text == "*" {
            star
        } else if let Some(rest) = text.strip_prefix('*') {
            Wildcard::Suffix(rest.as_bytes().into())
        } else if let Some(rest) = text.strip_suffix('*') {
            Wildcard::Prefix(rest.as_bytes().into())
        } else {
            Wildcard::Exact(text.as_bytes().into())
        }
    }
}

/// A list of patterns. A long list costs no more than a short one: literals are looked up, not tried.
#[derive(Clone, Debug, Default)]
pub struct TextSet {
    present: bool,
    not_empty: bool,
    exact: Literals,
    prefixes: Literals,
    suffixes: Literals,
    regexes: Box<[ByteMatch]>,
}

impl FromIterator<Wildcard> for TextSet {
    fn from_iter<I: IntoIterator<Item = Wildcard>>(patterns: I) -> Self {
        let mut set = TextSet::default();
        let (mut exact, mut prefixes, mut suffixes) = (Vec::new(), Vec::new(), Vec::new());
        let mut regexes = Vec::new();
        for pattern in patterns {
            match pattern {
                Wildcard::Exact(text) => exact.push(text),
                Wildcard::Prefix(text) => prefixes.push(text),
                Wildcard::Suffix(text) => suffixes.push(text),
                Wildcard::Present => set.present = true,
                Wildcard::NotEmpty => set.not_empty = true,
                Wildcard::Regex(expression) => regexes.push(expression),
            }
        }
        TextSet {
            exact: Literals::new(exact),
            prefixes: Literals::new(prefixes),
            suffixes: Literals::new(suffixes),
            regexes: regexes.into(),
            ..set
        }
    }
}

impl TextSet {
    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        let TextSet { present, not_empty, exact, prefixes, suffixes, regexes } = self;
        !present
            && !not_empty
            && regexes.is_empty()
            && [exact, prefixes, suffixes].iter().all(|literals| literals.is_empty())
    }

    /// The exact texts and the prefixes, if there is nothing else.
    pub fn literals(&self) -> Option<(impl Iterator<Item = &[u8]>, impl Iterator<Item = &[u8]>)> {
        let others = self.present || self.not_empty || !self.regexes.is_empty() || !self.suffixes.is_empty();
        (!others).then(|| (self.exact.iter(), self.prefixes.iter()))
    }

    /// Whether one of the patterns matches. Unknown: a regular expression about text met bytes that are none.
    pub fn matches(&self, value: &[u8]) -> Truth {
        let plain = self.present
            || (self.not_empty && !value.is_empty())
            || self.exact.has(value)
            || self.prefixes.any_starts(value)
            || self.suffixes.any_ends(value);
        if plain {
            return Truth::Yes;
        }
        Truth::any(self.regexes.iter().map(|expression| expression.matches(value)))
    }
}

/// From how many literals on looking up beats comparing.
const MANY: usize = 8;

/// Literals: a few are compared one by one, many are hashed by their lengths.
#[derive(Clone, Debug)]
enum Literals {
    Few(Box<[Box<[u8]>]>),
    Many { lengths: Box<[usize]>, texts: HashSet<Box<[u8]>> },
}

impl Default for Literals {
    fn default() -> Self {
        Literals::Few(Box::default())
    }
}

impl Literals {
    fn new(texts: Vec<Box<[u8]>>) -> Self {
        if texts.len() <= MANY {
            return Literals::Few(texts.into());
        }
        let lengths: BinaryHeap<usize> = texts.iter().map(|text| text.len()).collect();
        let mut lengths = lengths.into_sorted_vec();
        lengths.dedup();
        Literals::Many { lengths: lengths.into(), texts: texts.into_iter().collect() }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let (few, many) = match self {
            Literals::Few(texts) => (Some(texts.iter()), None),
            Literals::Many { texts, .. } => (None, Some(texts.iter())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten()).map(|text| &**text)
    }

    fn is_empty(&self) -> bool {
        matches!(self, Literals::Few(texts) if texts.is_empty())
    }

    fn has(&self, value: &[u8]) -> bool {
        match self {
            Literals::Few(texts) => texts.iter().any(|text| **text == *value),
            Literals::Many { texts, .. } => texts.contains(value),
        }
    }

    fn any_starts(&self, value: &[u8]) -> bool {
        match self {
            Literals::Few(texts) => texts.iter().any(|text| value.starts_with(text)),
            Literals::Many { lengths, texts } => {
                lengths.iter().map_while(|length| value.get(..*length)).any(|start| texts.contains(start))
            }
        }
    }

    fn any_ends(&self, value: &[u8]) -> bool {
        match self {
            Literals::Few(texts) => texts.iter().any(|text| value.ends_with(text)),
            Literals::Many { lengths, texts } => lengths
                .iter()
                .map_while(|length| value.get(value.len().checked_sub(*length)?..))
                .any(|end| texts.contains(end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(patterns: &[&str]) -> TextSet {
        patterns.iter().map(|text| Wildcard::parse(text, Wildcard::NotEmpty)).collect()
    }

    #[test]
    fn wildcards_are_istios() {
        for (pattern, yes, no) in [
            ("abc", &["abc"][..], &["abcd", "xabc", "ABC", ""][..]),
            ("abc*", &["abc", "abcd"], &["xabc", "ab"]),
            ("*abc", &["abc", "xabc"], &["abcd", "bc"]),
            ("*", &["a", "*"], &[""]),
            ("a*c", &["a*c"], &["abc"]),
            ("*b*", &["ab*", "b*"], &["abc"]),
        ] {
            for value in yes {
                assert_eq!(set(&[pattern]).matches(value.as_bytes()), Truth::Yes, "{pattern} {value}");
            }
            for value in no {
                assert_eq!(set(&[pattern]).matches(value.as_bytes()), Truth::No, "{pattern} {value}");
            }
        }
        let present: TextSet = [Wildcard::parse("*", Wildcard::Present)].into_iter().collect();
        assert_eq!(present.matches(b""), Truth::Yes);
    }

    #[test]
    fn a_long_list_decides_as_its_parts_do() {
        let patterns: Vec<String> =
            (0..50).flat_map(|n| [format!("exact-{n}"), format!("pre{n}-*"), format!("*-end{n}")]).collect();
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        let long = set(&patterns);
        for value in
            ["exact-7", "exact-50", "pre49-", "pre50-x", "pre7", "x-end3", "-end49", "end3", "", "x-end3x"]
        {
            let apart = Truth::any(patterns.iter().map(|pattern| set(&[pattern]).matches(value.as_bytes())));
            assert_eq!(long.matches(value.as_bytes()), apart, "{value}");
        }
    }

    #[test]
    fn bytes_are_compared_as_bytes() {
        assert_eq!(set(&["a*"]).matches(b"a\xff"), Truth::Yes);
        assert_eq!(set(&["b*"]).matches(b"a\xff"), Truth::No);
    }
}
