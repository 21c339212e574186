//! Path templates: `{*}` is one segment, `{**}` any number of them.

/// A template as Istio and Envoy's `uri_template` read it: whole segments, `{**}` the last of the operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    head: Box<[Segment]>,
    /// What follows `{**}`, with its slashes; `None` where there is none.
    tail: Option<Box<[u8]>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<[u8]>),
    One,
}

/// Envoy's limit.
const MAX_LENGTH: usize = 256;

impl PathTemplate {
    /// Whether a path in a document is a template, or wants to be one.
    pub fn is_meant(text: &str) -> bool {
        text.contains(['{', '}'])
    }

    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("\"{text}\" is not a path template: {what}"));
        if text.len() > MAX_LENGTH {
            return wrong("it is too long; use at most 256 characters");
        }
        let Some(rest) = text.strip_prefix('/') else {
            return wrong("it does not begin with a slash; use one such as /users/{*}");
        };
        let mut head = Vec::new();
        let mut tail: Option<Vec<u8>> = None;
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            match (segment, &mut tail) {
                ("{*}", None) => head.push(Segment::One),
                ("{**}", None) => tail = Some(Vec::new()),
                ("{*}" | "{**}", Some(_)) => return wrong("{**} is not the last operator; put it last"),
                (literal, _) if literal.contains(['{', '}']) => {
                    return wrong("only {*} and {**} are operators, each a whole segment");
                }
                // A slash at the end is a literal one.
                (literal, _) if !literal.bytes().all(is_literal) || (literal.is_empty() && !last) => {
                    return wrong(
                        "a segment is empty or has characters that no path has; percent-encode them",
                    );
                }
                (literal, None) => head.push(Segment::Literal(literal.as_bytes().into())),
                (literal, Some(tail)) => {
                    tail.push(b'/');
                    tail.extend_from_slice(literal.as_bytes());
                }
            }
        }
        Ok(PathTemplate { head: head.into(), tail: tail.map(Into::into) })
    }

    /// Whether a path, without query and fragment, fits.
    pub fn matches(&self, path: &[u8]) -> bool {
        let Some(mut rest) = path.strip_prefix(b"/") else { return false };
        for (index, segment) in self.head.iter().enumerate() {
            if index > 0 {
                let Some(after) = rest.strip_prefix(b"/") else { return false };
                rest = after;
            }
            let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let Some((found, after)) = rest.split_at_checked(end) else { return false };
            let fits = match segment {
                Segment::Literal(text) => **text == *found,
                Segment::One => !found.is_empty(),
            };
            if !fits {
                return false;
            }
            rest = after;
        }
        match &self.tail {
            None => rest.is_empty(),
            Some(tail) if self.head.is_empty() => rest.ends_with(tail),
            Some(tail) => rest.strip_prefix(b"/").is_some_and(|rest| rest.ends_with(tail)),
        }
    }

    /// What every path that fits begins with.
    pub fn literal_prefix(&self) -> Vec<u8> {
        let mut prefix = vec![b'/'];
        for (index, segment) in self.head.iter().enumerate() {
            let Segment::Literal(text) = segment else { return prefix };
            prefix.extend_from_slice(text);
            let more = self.tail.is_some() || index.saturating_add(1) < self.head.len();
            prefix.extend_from_slice(if more { b"/" } else { b"" });
        }
        prefix
    }
}

/// `pchar` of RFC 3986 without `*`, which is what Istio takes in a literal segment.
fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_fit_whole_segments() {
        for (template, yes, no) in [
            (
                "/users/{*}",
                &["/users/7", "/users/{*}", "/users/a*b"][..],
                &["/users", "/users/", "/users/7/x", "/x/7"][..],
            ),
            ("/users/{*}/", &["/users/7/"], &["/users/7", "/users//"]),
            ("/{*}/x", &["/a/x"], &["//x", "/a/b/x", "/x"]),
            ("/a/{**}", &["/a/", "/a/b", "/a/b/c"], &["/a", "/ab", "/b/a/"]),
            ("/{**}", &["/", "/a/b"], &["", "a"]),
            ("/a/{**}/z", &["/a/b/z", "/a/b/c/z", "/a//z"], &["/a/z", "/a/z/b", "/a/bz"]),
            ("/{**}/z", &["/b/z", "//z"], &["/z"]),
            ("/{*}/b/{**}/d/e", &["/a/b/c/d/e", "/a/b/c/c/d/e"], &["/a/b/d/e", "/a/c/c/d/e"]),
            ("/a/{**}/", &["/a/b/", "/a//"], &["/a/b", "/a/"]),
            ("/plain", &["/plain"], &["/plain/"]),
        ] {
            let parsed = PathTemplate::parse(template).unwrap();
            for path in yes {
                assert!(parsed.matches(path.as_bytes()), "{template} {path}");
                assert!(path.as_bytes().starts_with(&parsed.literal_prefix()), "{template} {path}");
            }
            for path in no {
                assert!(!parsed.matches(path.as_bytes()), "{template} {path}");
            }
        }
    }

    #[test]
    fn what_is_no_template_is_an_error() {
        for (template, reason) in [
            ("/users/{id}", "only {*} and {**} are operators"),
            ("/users/{*}x", "only {*} and {**} are operators"),
            ("/users/x{**}", "only {*} and {**} are operators"),
            ("/{", "only {*} and {**} are operators"),
            ("/{**}/{*}", "is not the last operator"),
            ("/{**}/{**}", "is not the last operator"),
            ("/a//{*}", "a segment is empty"),
            ("/a*/{*}", "a segment is empty or has characters"),
            ("/ä/{*}", "a segment is empty or has characters"),
            ("{*}/a", "does not begin with a slash"),
            ("", "does not begin with a slash"),
        ] {
            let error = PathTemplate::parse(template).unwrap_err();
            assert!(error.contains(reason), "{template}: {error}");
        }
        let long = format!("/{}/{{*}}", "a".repeat(256));
        assert!(PathTemplate::parse(&long).unwrap_err().contains("at most 256"));
    }

    #[cfg(not(target_family = "wasm"))]
    mod properties {
        use super::*;
        use proptest::prelude::*;

        /// What Envoy makes of a template.
        fn as_regex(template: &str) -> regex::bytes::Regex {
            let body: Vec<String> = template
                .split('/')
                .map(|segment| match segment {
                    "{*}" => "[^/]+".to_owned(),
                    "{**}" => ".*".to_owned(),
                    literal => regex::escape(literal),
                })
                .collect();
            regex::bytes::Regex::new(&format!(r"(?s-u)\A{}\z", body.join("/"))).unwrap()
        }

        proptest! {
            #[test]
            fn a_template_fits_what_its_regular_expression_matches(
                template in "(/(a|b|\\{\\*\\})){0,3}(/\\{\\*\\*\\}(/(a|b)){0,2})?/?",
                paths in proptest::collection::vec("(/(a|b|ab|x)?){0,6}", 1..20),
            ) {
                prop_assume!(!template.is_empty());
                let parsed = PathTemplate::parse(&template).unwrap();
                let expected = as_regex(&template);
                for path in paths {
                    prop_assert_eq!(
                        parsed.matches(path.as_bytes()), expected.is_match(path.as_bytes()), "{} {}", template, path
                    );
                }
            }

            #[test]
            fn no_text_and_no_path_is_too_odd(text in ".*", path: Vec<u8>) {
                if let Ok(template) = PathTemplate::parse(&text) {
                    template.matches(&path);
                }
            }
        }
    }
}
