//! What values are, and so what they can never be: a document that compares with that is good, but its author meant
//! something else. He is warned.

use super::{Context, Path};
use meshfilter_core::matchers::path::is_ambiguous;
use meshfilter_core::matchers::{Subject, Wildcard};

/// What is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing that is known.
    #[default]
    Text,
    /// The value of a header.
    Header,
    /// The value of a cookie.
    Cookie,
    /// `:method`.
    Method,
    /// `:scheme`.
    Scheme,
    /// `:authority`.
    Host,
    /// The path without query and fragment.
    Path,
    /// `:path`.
    PathAndQuery,
}

/// A text that values are compared with, and where in them it has to stand.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'t> {
    /// The text.
    pub text: &'t str,
    /// A value begins with it.
    pub starts: bool,
    /// A value ends with it.
    pub ends: bool,
}

impl<'t> Wanted<'t> {
    /// What Istio's wildcards ask for; `None` for `*` alone.
    pub fn of(text: &'t str) -> Option<Self> {
        match Wildcard::parse(text, Wildcard::Present) {
            Wildcard::Exact(_) => Some(Wanted { text, starts: true, ends: true }),
            Wildcard::Prefix(_) => Some(Wanted { text: text.strip_suffix('*')?, starts: true, ends: false }),
            Wildcard::Suffix(_) => Some(Wanted { text: text.strip_prefix('*')?, starts: false, ends: true }),
            Wildcard::Present | Wildcard::NotEmpty | Wildcard::Regex(_) => None,
        }
    }
}

impl Meaning {
    /// What the value of a header is, by its name in lower case.
    pub fn of_header(name: &str) -> Self {
        match name {
            "host" | ":authority" => Meaning::Host,
            ":method" => Meaning::Method,
            ":path" => Meaning::PathAndQuery,
            ":scheme" => Meaning::Scheme,
            _ => Meaning::Header,
        }
    }

    /// How it is read where a security decision rests on it.
    pub fn subject(self) -> Subject {
        match self {
            Meaning::Text | Meaning::Header | Meaning::Cookie | Meaning::Method => Subject::Text,
            Meaning::Scheme | Meaning::Host => Subject::Host,
            Meaning::Path | Meaning::PathAndQuery => Subject::Path,
        }
    }

    /// Warns of a text that no value of this kind has.
    pub fn check(self, wanted: Wanted<'_>, path: &Path<'_>, cx: &Context<'_>) {
        if let Some(reason) = self.doubt(wanted) {
            cx.warn(path, format_args!("\"{}\" never matches: {reason}", wanted.text));
        }
    }

    /// Why no value has the text.
    fn doubt(self, Wanted { text, starts, ends }: Wanted<'_>) -> Option<String> {
        let has = |characters: &[char]| text.contains(characters);
        let why = |reason: &str| Some(reason.to_owned());
        let spaced = text.contains(|c: char| c.is_ascii_whitespace() || c.is_ascii_control());
        match self {
            Meaning::Text => None,
            Meaning::Header | Meaning::Cookie if has(&['\r', '\n', '\0']) => {
                why("a header's value has no line ends and no NUL; take them out")
            }
            Meaning::Header | Meaning::Cookie
                if (starts && text.starts_with([' ', '\t'])) || (ends && text.ends_with([' ', '\t'])) =>
            {
                why("spaces around a value are no part of it; take them out")
            }
            Meaning::Cookie if has(&[';']) => why("a cookie's value ends at a semicolon; take it out"),
            Meaning::Header | Meaning::Cookie => None,
            Meaning::Method if text.contains(|c: char| c.is_ascii_lowercase()) => {
                Some(format!("methods are in capitals; use \"{}\"", text.to_ascii_uppercase()))
            }
            Meaning::Method => {
                let odd =
                    |c: char| !c.is_ascii() || c.is_ascii_control() || " \"(),/:;<=>?@[\\]{}".contains(c);
                text.contains(odd).then(|| "a method is a word such as GET".to_owned())
            }
            Meaning::Scheme => {
                let fits = |scheme: &str| match (starts, ends) {
                    (true, true) => scheme.eq_ignore_ascii_case(text),
                    _ => scheme.contains(&text.to_ascii_lowercase()),
                };
                let known = ["http", "https"].iter().any(|scheme| fits(scheme));
                (!known).then(|| "a scheme is http or https".to_owned())
            }
            Meaning::Host => match text.split_once("://") {
                Some((_, host)) => {
                    let host = host.split('/').next().unwrap_or_default();
                    Some(format!("a host has no scheme; use \"{host}\""))
                }
                None if has(&['/', '?', '#']) => why("a host has no path; use the host alone"),
                None if !text.is_ascii() => why("hosts are in ASCII; use its form that begins with xn--"),
                None if spaced => why("a host has no spaces; take them out"),
                None => None,
            },
            Meaning::Path if has(&['?', '#']) => {
                why("a path has neither query nor fragment here; leave them out")
            }
            Meaning::Path | Meaning::PathAndQuery
                if starts && !text.is_empty() && !text.starts_with(['/', '*']) =>
            {
                why("a path begins with a slash; add it")
            }
            Meaning::Path | Meaning::PathAndQuery if spaced => why("a path has no spaces; write %20"),
            Meaning::Path | Meaning::PathAndQuery => None,
        }
    }

    /// Warns of a path that is refused before anything compares it.
    pub fn check_refused(self, Wanted { text, starts, ends }: Wanted<'_>, path: &Path<'_>, cx: &Context<'_>) {
        let whole = self == Meaning::Path && starts && ends;
        if whole && cx.refuses_ambiguous_paths && is_ambiguous(text.as_bytes()) {
            cx.warn(
                path,
                format_args!(
                    "\"{text}\" never matches: a path with an escaped slash, a backslash or a dot segment is refused; \
                     see ambiguousPaths"
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_be_is_doubted_with_the_remedy() {
        let remedy = |text: &str, meaning: Meaning| Wanted::of(text).and_then(|wanted| meaning.doubt(wanted));
        for (meaning, text, expected) in [
            (Meaning::Method, "delete", "methods are in capitals; use \"DELETE\""),
            (Meaning::Method, "Get*", "methods are in capitals; use \"GET\""),
            (Meaning::Method, "GET /", "a method is a word such as GET"),
            (Meaning::Scheme, "ftp", "a scheme is http or https"),
            (Meaning::Scheme, "https://", "a scheme is http or https"),
            (Meaning::Host, "https://a.example/x", "a host has no scheme; use \"a.example\""),
            (Meaning::Host, "a.example/x", "a host has no path; use the host alone"),
            (Meaning::Host, "ä.example", "hosts are in ASCII; use its form that begins with xn--"),
            (Meaning::Host, "a .example", "a host has no spaces; take them out"),
            (Meaning::Path, "/a?b", "a path has neither query nor fragment here; leave them out"),
            (Meaning::Path, "a/b*", "a path begins with a slash; add it"),
            (Meaning::Path, "/a b", "a path has no spaces; write %20"),
            (Meaning::PathAndQuery, "a", "a path begins with a slash; add it"),
            (Meaning::Header, " a", "spaces around a value are no part of it; take them out"),
            (Meaning::Header, "*a ", "spaces around a value are no part of it; take them out"),
            (Meaning::Header, "a\nb", "a header's value has no line ends and no NUL; take them out"),
            (Meaning::Cookie, "a;b", "a cookie's value ends at a semicolon; take it out"),
        ] {
            assert_eq!(remedy(text, meaning).as_deref(), Some(expected), "{text}");
        }
        for (meaning, text) in [
            (Meaning::Method, "GET"),
            (Meaning::Method, "*"),
            (Meaning::Method, "M-SEARCH"),
            (Meaning::Scheme, "http"),
            (Meaning::Scheme, "http*"),
            (Meaning::Host, "A.example:8080"),
            (Meaning::Host, "*.example.com"),
            (Meaning::Host, "[::1]:80"),
            (Meaning::Path, "*.css"),
            (Meaning::Path, "*"),
            (Meaning::PathAndQuery, "/a?b"),
            (Meaning::Header, "a b"),
            (Meaning::Header, "a *"),
            (Meaning::Text, " a\n"),
        ] {
            assert_eq!(remedy(text, meaning), None, "{text}");
        }
    }
}
