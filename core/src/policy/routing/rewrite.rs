//! Changes to the path.

use crate::host::LocalReply;
use crate::matchers::{Pattern, regex};
use crate::policy::HttpMatch;
use crate::request::{Request, split_path};

/// What becomes of the path; the query stays.
#[derive(Debug)]
pub enum PathRewrite {
    /// Stands in for the prefix that matched, or for the whole path where no prefix did.
    Uri(Box<[u8]>),
    /// Every match is replaced.
    Regex(regex::Replace, Substitution),
}

/// What stands in for a match, as RE2 writes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Substitution(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Group(usize),
}

impl Substitution {
    /// Reads `a\1b`, for an expression with so many groups, the whole match among them.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(text: &str, groups: usize) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            match (byte, if byte == b'\\' { bytes.next() } else { None }) {
                (b'\\', Some(b'\\')) => literal.push(b'\\'),
                (b'\\', Some(digit @ b'0'..=b'9')) => {
                    let group = usize::from(digit.saturating_sub(b'0'));
                    if group >= groups {
                        return Err(format!("the expression has no group {group}; use one that it has"));
                    }
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Group(group));
                }
                (b'\\', _) => {
                    return Err(r"a lone backslash; use \1 for a group, or \\ for a backslash".to_owned());
                }
                (byte, _) => literal.push(byte),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Substitution(parts))
    }
}

impl PathRewrite {
    /// The new path with the old query. None if replacing takes too long, or makes more than fits a header.
    pub fn apply(&self, request: &Request, matched: Option<&HttpMatch>) -> Option<Vec<u8>> {
        let whole = request.path_and_query();
        let path = split_path(whole).0;
        let rest = whole.get(path.len()..).unwrap_or_default();
        let mut rewritten = match self {
            PathRewrite::Uri(uri) => replace_prefix(path, matched, uri),
            PathRewrite::Regex(expression, Substitution(parts)) => {
                expression.replace(path, |groups, replaced| {
                    for part in parts {
                        replaced.extend_from_slice(match part {
                            Part::Text(text) => text,
                            Part::Group(group) => groups
                                .get_group(*group)
                                .and_then(|group| path.get(group.range()))
                                .unwrap_or_default(),
                        });
                    }
                })?
            }
        };
        // `*` may stay what it is; whatever else is sent on is a path.
        if rewritten != path {
            absolute(&mut rewritten);
        }
        rewritten.extend_from_slice(rest);
        Some(rewritten)
    }
}

/// What a request gets whose path cannot be rewritten within the bounds: neither as it came nor half rewritten may it go on.
pub fn refusal() -> LocalReply {
    LocalReply {
        status: 400,
        details: "meshfilter_path_rewrite".to_owned(),
        body: b"too much to rewrite in the path".to_vec(),
        ..LocalReply::default()
    }
}

/// The path with `replacement` for the prefix that matched, or for all of it. Of segments that matched, the rest begins with a
/// slash or is nothing, and there is one slash where the two meet, as the Gateway API has it.
pub fn replace_prefix(path: &[u8], matched: Option<&HttpMatch>, replacement: &[u8]) -> Vec<u8> {
    let rest = |prefix: &[u8]| path.get(prefix.len()..).unwrap_or_default();
    match matched.and_then(|matched| matched.uri.as_ref()).map(|uri| &uri.pattern) {
        Some(Pattern::Prefix(prefix)) => [replacement, rest(prefix)].concat(),
        Some(Pattern::PathPrefix(prefix)) if !rest(prefix).is_empty() => {
            let replacement = replacement.strip_suffix(b"/").unwrap_or(replacement);
            [replacement, rest(prefix)].concat()
        }
        _ => replacement.to_vec(),
    }
}

/// A path begins with a slash, whatever took away what stood in front of it: nothing is no path.
pub fn absolute(path: &mut Vec<u8>) {
    if !path.starts_with(b"/") {
        path.insert(0, b'/');
    }
}
