//! Regular expressions with RE2's syntax and meaning, in linear time.

mod cost;
mod fold;
mod program;
mod syntax;

use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::captures::Captures;
pub use regex_syntax::escape;
use regex_syntax::hir::{Hir, Look};

use super::Truth;
use program::Program;
use syntax::Reading;

/// How RE2 reads an expression by itself.
const PLAIN: Reading =
    Reading { unicode: true, ignore_case: false, dot_matches_new_line: false, unescape: false };

/// What an expression is about, which says how it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subject {
    /// Any text.
    #[default]
    Text,
    /// A host: case does not count.
    Host,
    /// A path of which the escapes of unreserved characters are resolved; so they are in the expression.
    Path,
}

impl Subject {
    fn reading(self) -> Reading {
        Reading { ignore_case: self == Subject::Host, unescape: self == Subject::Path, ..PLAIN }
    }
}

/// An expression that must match the whole value, as Envoy's and Istio's do.
#[derive(Clone, Debug)]
pub struct FullMatch(Program);

impl FullMatch {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn new(expression: &str) -> Result<Self, String> {
        FullMatch::about(Subject::Text, expression)
    }

    /// Compiles an expression about something.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn about(subject: Subject, expression: &str) -> Result<Self, String> {
        whole(expression, subject.reading()).map(FullMatch)
    }

    /// Whether all of `value` matches.
    pub fn is_match(&self, value: &[u8]) -> bool {
        self.0.starts(value)
    }

    /// The same, where a security decision rests on it. An expression is about a line of text; of bytes that are none,
    /// and of a line's end, it cannot be told whether they were meant.
    pub fn truth(&self, value: &[u8]) -> Truth {
        if self.is_match(value) {
            Truth::Yes
        } else if std::str::from_utf8(value).is_ok() && !value.contains(&b'\n') {
            Truth::No
        } else {
            Truth::Unknown
        }
    }
}

/// An expression that a refusal may rest on: the whole value, `.` any character, a line's end too.
///
/// No odd byte makes it miss. An expression is about text, and `.*` does not match 0xFF; Envoy let such a header
/// pass a rule that should have refused it (CVE-2026-73552). A value that is no UTF-8 is therefore matched byte by
/// byte, too; where that says otherwise, or the expression cannot be read so or is too costly for that, the answer is
/// unknown.
#[derive(Clone, Debug)]
pub struct ByteMatch {
    text: Program,
    bytes: Option<Program>,
}

impl ByteMatch {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn new(expression: &str, subject: Subject) -> Result<Self, String> {
        let reading = Reading { dot_matches_new_line: true, ..subject.reading() };
        let read = |unicode| whole(expression, Reading { unicode, ..reading });
        let text = read(true)?;
        // What is not ASCII would be compared with its UTF-8 form alone.
        let bytes = if expression.is_ascii() { read(false).ok() } else { None };
        // A value may be searched with both.
        let bytes = bytes.filter(|bytes| bytes.is_cheap_beside(&text));
        Ok(ByteMatch { text, bytes })
    }

    /// Whether all of `value` matches.
    pub fn matches(&self, value: &[u8]) -> Truth {
        if self.text.starts(value) {
            Truth::Yes
        } else if std::str::from_utf8(value).is_ok() {
            Truth::No
        } else {
            let misses = self.bytes.as_ref().is_some_and(|bytes| !bytes.starts(value));
            if misses { Truth::No } else { Truth::Unknown }
        }
    }
}

/// An expression that may match anywhere in the value, and as often as it does.
#[derive(Clone, Debug)]
pub struct Replace(Program);

impl Replace {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn new(expression: &str) -> Result<Self, String> {
        program(expression, &parse(expression, PLAIN)?, WhichCaptures::All, true).map(Replace)
    }

    /// How many groups it has, the whole match among them.
    pub fn groups(&self) -> usize {
        self.0.groups()
    }

    /// Puts something else in the place of every match. `put` is told where the groups are, and adds to the result. None if
    /// that would take longer than an expression may for the longest header, or if the result is longer than any header.
    pub fn replace(&self, value: &[u8], put: impl Fn(&Captures, &mut Vec<u8>)) -> Option<Vec<u8>> {
        self.0.replace(value, put)
    }
}

fn whole(expression: &str, reading: Reading) -> Result<Program, String> {
    let parsed = parse(expression, reading)?;
    program(expression, &Hir::concat(vec![parsed, Hir::look(Look::End)]), WhichCaptures::None, false)
}

fn parse(expression: &str, reading: Reading) -> Result<Hir, String> {
    syntax::parse(expression, reading)
        .map_err(|reason| format!("\"{expression}\" is not a regular expression ({reason}); use RE2 syntax"))
}

fn program(expression: &str, parsed: &Hir, groups: WhichCaptures, anywhere: bool) -> Result<Program, String> {
    Program::new(parsed, groups, anywhere).map_err(|reason| format!("\"{expression}\" {reason}"))
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
    fn properties_of_unicode_are_not_known_whatever_is_built_in() {
        for expression in [r"\p{L}+", r"a(?:\PN|b)", r"[a-z\p{Greek}]*", r"[^[a&&\pL]]"] {
            let error = FullMatch::new(expression).unwrap_err();
            assert!(error.contains("is not known here: write the characters, as [a-zA-Z]"), "{error}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_matched_or_not_but_never_a_crash() {
        assert!(FullMatch::new(r"(?s-u:.*)").unwrap().is_match(b"a\xff"));
        assert!(!FullMatch::new(".").unwrap().is_match(b"\xff"));
    }

    #[test]
    fn no_odd_byte_makes_an_expression_miss() {
        for (expression, value, expected) in [
            (".*", &b"a\xff"[..], Truth::Unknown),
            (".*admin.*", b"\xffadmin", Truth::Unknown),
            (".*admin.*", b"\nadmin", Truth::Yes),
            ("[^b]+", b"a\xff", Truth::Unknown),
            ("caf.", b"caf\xe9", Truth::Unknown),
            (".*admin.*", b"\xffuser", Truth::No),
            ("[a-z]+", b"a\xff", Truth::No),
            ("café", b"caf\xe9", Truth::Unknown),
            ("café", b"cafe", Truth::No),
            ("café", "café".as_bytes(), Truth::Yes),
        ] {
            assert_eq!(
                ByteMatch::new(expression, Subject::Text).unwrap().matches(value),
                expected,
                "{expression}"
            );
        }
        assert_eq!(ByteMatch::new("a\\.b", Subject::Host).unwrap().matches(b"A.B"), Truth::Yes);
        assert!(ByteMatch::new("a)(b", Subject::Text).is_err());
    }

    #[test]
    fn whether_an_expression_of_a_guard_means_odd_bytes_cannot_be_told() {
        for (expression, value, expected) in [
            (".*", &b"a\xff"[..], Truth::Unknown),
            ("a.*", b"a\nb", Truth::Unknown),
            ("[a-z]+", b"a\xff", Truth::Unknown),
            ("(?s-u:.*)", b"a\xff", Truth::Yes),
            ("a.*", b"b", Truth::No),
        ] {
            assert_eq!(FullMatch::new(expression).unwrap().truth(value), expected, "{expression}");
        }
    }

    #[test]
    fn escapes_of_unreserved_characters_in_an_expression_about_paths_are_resolved() {
        for (expression, yes, no) in [
            ("/a%2Db", "/a-b", "/a%2Db"),
            ("/a%2db/.*", "/a-b/c", "/a%2db/c"),
            ("/(%61|b%2E)+", "/ab.", "/bx"),
            ("(?i)/%2D%41", "/-a", "/%2D%41"),
            (r"/\%41", "/A", "/%41"),
            ("/%2[dD]", "/%2D", "/-"),
            ("/[%2D]", "/D", "/-"),
            ("/%252D", "/%252D", "/%2D"),
            ("/%2Fx", "/%2Fx", "//x"),
        ] {
            let bytes = ByteMatch::new(expression, Subject::Path).unwrap();
            assert_eq!(bytes.matches(yes.as_bytes()), Truth::Yes, "{expression} {yes}");
            assert_eq!(bytes.matches(no.as_bytes()), Truth::No, "{expression} {no}");
            let text = FullMatch::about(Subject::Path, expression).unwrap();
            assert!(text.is_match(yes.as_bytes()) && !text.is_match(no.as_bytes()), "{expression}");
        }
        assert!(FullMatch::new("/a%2Db").unwrap().is_match(b"/a%2Db"));
    }

    #[test]
    fn classes_and_boundaries_are_re2s() {
        for (expression, yes, no) in [
            (r"\d+", "09", "٣"),
            (r"\D+", "a٣", "7"),
            (r"\w+", "aZ_9", "é"),
            (r"\W", "é", "a"),
            (r"\s+", " \t\n\r\u{c}", "\u{b}"),
            (r"\S", "\u{a0}", " "),
            (r"[\d.-]+", "1.5-", "٣"),
            (r"[^\W\d]+", "abc", "a1"),
            (r"é\bx", "éx", "ex"),
            (r"é\B-", "é-", "é"),
            (r"(?i)É", "é", "e"),
            (r"(a\d){2}|\w", "a1a2", "a1"),
        ] {
            let expression = FullMatch::new(expression).unwrap();
            assert!(expression.is_match(yes.as_bytes()), "{expression:?} {yes}");
            assert!(!expression.is_match(no.as_bytes()), "{expression:?} {no}");
        }
    }

    #[test]
    fn values_of_every_length_are_searched() {
        // With so many states, what is beyond some kilobytes is too long for the faster engine.
        let (expression, long) = (FullMatch::new("([ab]{500})*c").unwrap(), "ab".repeat(5_000));
        assert!(!expression.is_match(long.as_bytes()));
        assert!(expression.is_match(format!("{long}c").as_bytes()));
        let once = format!("{}ba{}", "a".repeat(5_000), "b".repeat(5_000));
        let replaced =
            Replace::new("b(a|[cd]{500}e)").unwrap().replace(once.as_bytes(), |groups, replaced| {
                assert_eq!(groups.group_len(), 2);
                replaced.push(b'-');
            });
        assert_eq!(replaced, Some(once.replace("ba", "-").into_bytes()));
    }

    #[test]
    fn empty_matches_are_replaced_once_each() {
        let put = |_: &Captures, replaced: &mut Vec<u8>| replaced.push(b'-');
        assert_eq!(Replace::new("x*").unwrap().replace(b"axb", put).unwrap(), b"-a-b-");
        assert_eq!(Replace::new("^").unwrap().replace(b"ab", put).unwrap(), b"-ab");
    }

    #[test]
    fn replacing_takes_no_longer_than_one_search_may_and_makes_no_more_than_a_header() {
        use std::cell::Cell;
        // How many replacements were made, and how long the result is.
        let replaced = |expression: &str, value: &str, by: usize| {
            let count = Cell::new(0);
            let put = |_: &Captures, replaced: &mut Vec<u8>| {
                count.set(count.get() + 1);
                replaced.extend(std::iter::repeat_n(b'-', by));
            };
            let result = Replace::new(expression).unwrap().replace(value.as_bytes(), put);
            (count.get(), result.map(|result| result.len()))
        };
        // Each of these searches looks at the rest of the value, to its end.
        for expression in ["a", "a(.*z)?", "a*?", ".{0}", "a|b|c|d|e"] {
            let (count, length) = replaced(expression, &"a".repeat(60_000), 1);
            assert!(length.is_none() && count < 32, "{expression}: {count}");
        }
        assert_eq!(replaced("b", &"a".repeat(60_000), 1), (0, Some(60_000)));
        assert_eq!(replaced("a$", &"a".repeat(60_000), 1), (1, Some(60_000)));
        // What paths have in earnest is far from it.
        assert_eq!(replaced("/+", &"/segment".repeat(200), 1), (200, Some(1_600)));
        assert_eq!(replaced("_", &"_".repeat(700), 1), (700, Some(700)));
        assert_eq!(replaced("a", &"a".repeat(100), 655), (100, Some(65_500)));
        assert_eq!(replaced("a", &"a".repeat(100), 660), (100, None));
        assert_eq!(replaced("a", &"a".repeat(100), 60_000), (2, None));
    }

    #[test]
    fn bytes_that_are_no_text_are_searched_twice_only_where_that_is_cheap() {
        for (expression, twice) in [("[^b]+", true), (".*admin.*", true), (".*a.{0,5}b", false)] {
            let ByteMatch { text, bytes } = ByteMatch::new(expression, Subject::Text).unwrap();
            assert_eq!(bytes.is_some(), twice, "{expression}");
            assert!(bytes.is_none_or(|bytes| bytes.is_cheap_beside(&text)), "{expression}");
        }
        // What is searched once is not told to miss.
        let costly = ByteMatch::new(".*a.{0,5}b", Subject::Text).unwrap();
        for (value, expected) in [(&b"z\xff"[..], Truth::Unknown), (b"z", Truth::No), (b"a\nb", Truth::Yes)] {
            assert_eq!(costly.matches(value), expected, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn an_expression_that_costs_too_much_is_refused_and_the_usual_ones_are_not() {
        let costly = [
            ".*admin.{0,500}x",
            ".*(a[a-z]{0,200}){3}z",
            ".*a.{0,100}b",
            ".*(.*){0,50}=.*",
            "(a?){200}",
            r"(.*[\w-]{1,63}\.){10}",
        ];
        for expression in costly {
            let error = FullMatch::new(expression).map(|_| ()).unwrap_err();
            let said = "a byte makes the proxy look at more than 32 states; repeat fewer times";
            assert!(error.contains(said) && error.contains(expression), "{error}");
            assert!(ByteMatch::new(expression, Subject::Text).is_err(), "{expression}");
            assert!(Replace::new(expression).is_err(), "{expression}");
        }
        // Cheap where it begins, costly where it may begin anywhere.
        assert!(FullMatch::new("[a-z]{100}x").is_ok() && Replace::new("[a-z]{100}x").is_err());
        for expression in [
            r"/api/v[0-9]+/(users|orders|items)(/[^/]+)*/?",
            ".*(Googlebot|bingbot|YandexBot|Baiduspider|DuckDuckBot|Slurp|Twitterbot|LinkedInBot|AhrefsBot).*",
            r"([a-z0-9-]{1,63}\.){1,10}example\.com",
            r"[\w.+-]+@[\w-]+\.[\w.-]+",
            ".*.*=.*",
            "((a*)*)*b",
            r"(?i).*caf\x{e9}.*",
            r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
            r".*\.(png|jpe?g|gif|css|js|woff2?|svg|ico)",
        ] {
            FullMatch::new(expression).map(|_| ()).unwrap();
            ByteMatch::new(expression, Subject::Host).map(|_| ()).unwrap();
        }
    }

    #[test]
    fn an_expression_that_is_too_large_is_refused() {
        let error = FullMatch::new("((a{100}){100}){100}").unwrap_err();
        assert!(error.contains("it takes more than 1048576 bytes"), "{error}");
    }
}
