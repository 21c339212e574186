//! Paths as upstreams may read them.
//!
//! Two servers can take one path for two different things. A rule about paths has to hold whatever the upstream
//! makes of it, so a path that cannot be told is refused, and one that has two readings is matched in both.

use std::borrow::Cow;

/// A path, without query and fragment, as servers may read it. There are at most six readings: parameters are kept or left
/// out, by servers that look for `;` alone and by those that resolve `%3B` first, and repeated slashes kept or merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readings<'a> {
    /// With its parameters and all its slashes.
    pub kept: Cow<'a, [u8]>,
    /// The others, each once; none for most paths.
    others: Vec<Vec<u8>>,
}

impl<'a> Readings<'a> {
    /// Reads a path; see [`unescape`].
    pub fn of(path: &'a [u8]) -> Self {
        let (mut escaped, mut parameters, mut repeated, mut before) = (false, false, false, 0);
        for byte in path {
            escaped |= *byte == b'%';
            parameters |= *byte == b';';
            repeated |= (*byte, before) == (b'/', b'/');
            before = *byte;
        }
        // No escape that is resolved stands for a slash or a semicolon.
        let kept = if escaped { Cow::Owned(unescape(path)) } else { Cow::Borrowed(path) };
        let mut others = Vec::new();
        if parameters {
            others.push(leave_out_parameters(&kept));
        }
        if escaped && escapes(&kept).any(|(_, byte)| byte == b';') {
            parameters = true;
            let reading = leave_out_parameters(&with_semicolons(&kept));
            if !others.contains(&reading) {
                others.push(reading);
            }
        }
        if parameters || repeated {
            let all = std::iter::once(&*kept).chain(others.iter().map(Vec::as_slice));
            let merged: Vec<_> = all.filter_map(merge_slashes).collect();
            for reading in merged {
                if !others.contains(&reading) {
                    others.push(reading);
                }
            }
        }
        Readings { kept, others }
    }

    /// Each reading.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&*self.kept).chain(self.others.iter().map(Vec::as_slice))
    }

    /// The reading that has the least in it: without parameters, and with no slash twice in a row.
    pub fn barest(&self) -> &[u8] {
        self.iter().min_by_key(|reading| reading.len()).unwrap_or_default()
    }
}

/// Whether servers differ on what a path names: it still has an escaped slash or backslash, a backslash, a byte 0 at which
/// some of them end it, or a dot segment, be it escaped or followed by parameters.
pub fn is_ambiguous(path: &[u8]) -> bool {
    if !path.iter().any(|byte| matches!(byte, b'%' | b'\\' | b'.')) {
        return false;
    }
    path.contains(&b'\\')
        || escapes(path).any(|(_, byte)| matches!(byte, b'/' | b'\\' | 0))
        || path.split(|byte| *byte == b'/').any(is_dot_segment)
}

fn is_dot_segment(segment: &[u8]) -> bool {
    let end = escapes(segment).find(|(_, byte)| *byte == b';').map_or(segment.len(), |(at, _)| at);
    let segment = segment.get(..end).unwrap_or(segment);
    let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
    name.len() <= b"%2e%2e".len() && matches!(&*unescape(name), b"." | b"..")
}

/// Every valid escape: where it stands, and the byte that it means.
fn escapes(path: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    path.windows(3).enumerate().filter_map(|(at, window)| match window {
        [b'%', high, low] => Some((at, hex(*high)?.checked_mul(16)?.checked_add(hex(*low)?)?)),
        _ => None,
    })
}

fn hex(digit: u8) -> Option<u8> {
    u8::try_from(char::from(digit).to_digit(16)?).ok()
}

/// Resolves escapes that stand for unreserved characters: RFC 3986 (6.2.2.2) has them mean the same.
pub fn unescape(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let meant = match rest.get(..3).and_then(|window| escapes(window).next()) {
            Some((0, byte)) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => Some(byte),
            _ => None,
        };
        plain.push(meant.unwrap_or(*first));
        rest = if meant.is_some() { rest.get(3..).unwrap_or_default() } else { after };
    }
    plain
}

/// The same, for the text of a rule.
pub fn unescape_text(path: &str) -> String {
    // Only ASCII takes the place of ASCII.
    String::from_utf8(unescape(path.as_bytes())).unwrap_or_else(|_| path.to_owned())
}

/// With each `%3B` resolved.
fn with_semicolons(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut from = 0;
    for (at, _) in escapes(path).filter(|(_, byte)| *byte == b';') {
        plain.extend_from_slice(path.get(from..at).unwrap_or_default());
        plain.push(b';');
        from = at.saturating_add(3);
    }
    plain.extend_from_slice(path.get(from..).unwrap_or_default());
    plain
}

/// Cuts each segment at its first `;`. One of which nothing is left goes whole: `/;a/b` is `/b`.
fn leave_out_parameters(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        let last = segments.peek().is_none();
        let vanishes = name.is_empty() && !segment.is_empty();
        plain.extend_from_slice(name);
        if !last && !vanishes {
            plain.push(b'/');
        }
    }
    plain
}

/// One slash for each run of them; `None` where none is repeated.
fn merge_slashes(path: &[u8]) -> Option<Vec<u8>> {
    if !path.windows(2).any(|pair| pair == b"//") {
        return None;
    }
    let mut merged = path.to_vec();
    merged.dedup_by(|next, before| (*next, *before) == (b'/', b'/'));
    Some(merged)
}

/// The path's segment of that number, from 0.
pub fn segment(path: &[u8], index: usize) -> Option<&[u8]> {
    path.strip_prefix(b"/")?.split(|byte| *byte == b'/').nth(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(path: &str) -> Vec<String> {
        let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        Readings::of(path.as_bytes()).iter().map(text).collect()
    }

    #[test]
    fn parameters_are_kept_and_left_out() {
        assert_eq!(readings("/a/b"), ["/a/b"]);
        assert_eq!(readings("/private;x=y/secret"), ["/private;x=y/secret", "/private/secret"]);
        assert_eq!(readings("/a%3Bx/b"), ["/a%3Bx/b", "/a/b"]);
        assert_eq!(readings("/a%3bx;y"), ["/a%3bx;y", "/a%3bx", "/a"]);
        assert_eq!(readings("/a;x%3By"), ["/a;x%3By", "/a"]);
        assert_eq!(readings("/%3B//a"), ["/%3B//a", "//a", "/%3B/a", "/a"]);
        assert_eq!(readings("/a;x;y/b;z"), ["/a;x;y/b;z", "/a/b"]);
        assert_eq!(readings("/;x/admin"), ["/;x/admin", "/admin"]);
        assert_eq!(readings("/a/;x"), ["/a/;x", "/a/"]);
        assert_eq!(readings(";"), [";", ""]);
        assert_eq!(readings("*"), ["*"]);
    }

    #[test]
    fn repeated_slashes_are_kept_and_merged() {
        assert_eq!(readings("//admin"), ["//admin", "/admin"]);
        assert_eq!(readings("/a///b//"), ["/a///b//", "/a/b/"]);
        assert_eq!(readings("/"), ["/"]);
        assert_eq!(readings("//a;x/b"), ["//a;x/b", "//a/b", "/a;x/b", "/a/b"]);
        assert_eq!(readings("//;x/a"), ["//;x/a", "//a", "/;x/a", "/a"]);
        assert_eq!(readings("/a;//b"), ["/a;//b", "/a//b", "/a;/b", "/a/b"]);
        assert_eq!(readings("/a/;x//"), ["/a/;x//", "/a//", "/a/;x/", "/a/"]);
        assert_eq!(readings("/a/;x/b"), ["/a/;x/b", "/a/b"]);
    }

    #[test]
    fn escapes_of_unreserved_characters_are_resolved_and_no_others() {
        assert_eq!(readings("/%61dmin%2D%7E"), ["/admin-~"]);
        assert_eq!(readings("/a%20b%2fc%3bd%25"), ["/a%20b%2fc%3bd%25", "/a%20b%2fc"]);
        assert_eq!(readings("/%2561"), ["/%2561"]);
        assert_eq!(readings("/%6"), ["/%6"]);
        assert_eq!(readings("/%"), ["/%"]);
        assert_eq!(readings("/%+1"), ["/%+1"]);
    }

    #[test]
    fn a_path_that_servers_differ_on_is_ambiguous() {
        for path in [
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a%5Cb",
            r"/a\b",
            "/a/../b",
            "/a/./b",
            "/..",
            "/.",
            "/a/..",
            "/%2e%2e/a",
            "/%2E./a",
            "/.%2e",
            "/%2e",
            "/..;x=y/a",
            "/.;/a",
            "/%2e%2e;x/a",
            "..",
            "%2f",
        ] {
            assert!(is_ambiguous(path.as_bytes()), "{path}");
        }
        for path in
            ["/", "/a.b", "/...", "/a..b/.hidden", "/a%20b", "/a;x=..", "/%252e", "/%2", "", "*", "/%25%32"]
        {
            assert!(!is_ambiguous(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn segments_are_counted_from_0() {
        assert_eq!(segment(b"/tenants/acme/x", 1), Some(&b"acme"[..]));
        assert_eq!(segment(b"/tenants//x", 1), Some(&b""[..]));
        assert_eq!(segment(b"/tenants", 1), None);
        assert_eq!(segment(b"*", 0), None);
    }

    #[cfg(not(target_family = "wasm"))]
    proptest::proptest! {
        #[test]
        fn a_reading_has_no_parameters_and_no_escaped_letters_left(path: Vec<u8>) {
            let readings = Readings::of(&path);
            let all: Vec<&[u8]> = readings.iter().collect();
            proptest::prop_assert!(all.len() <= 4);
            let different: std::collections::HashSet<&[u8]> = all.iter().copied().collect();
            proptest::prop_assert_eq!(different.len(), all.len());
            let barest = readings.barest();
            proptest::prop_assert!(!barest.contains(&b';') && !barest.windows(2).any(|pair| pair == b"//"));
            proptest::prop_assert!(all.iter().all(|reading| *reading == barest || reading.len() > barest.len()));
            is_ambiguous(&path);
        }

        #[test]
        fn whatever_climbs_is_ambiguous(
            before in "(/[a-z%;]{0,4}){0,3}", dots in "(\\.|%2e|%2E){1,2}(;[a-z]{0,2})?", after in "(/[a-z]{0,3}){0,3}",
        ) {
            let path = format!("{before}/{dots}{after}");
            proptest::prop_assert!(is_ambiguous(path.as_bytes()), "{}", path);
        }
    }
}
