//! Paths as upstreams may read them.
//!
//! Two servers can take one path for two different things. A rule about paths has to hold whatever the upstream
//! makes of it, so a path that cannot be told is refused, and one that has two readings is matched in both.

use std::borrow::Cow;

/// A path, without query and fragment, as a rule sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readings<'a> {
    /// With its parameters.
    pub kept: Cow<'a, [u8]>,
    /// Without them; `None` where it has none.
    pub left_out: Option<Vec<u8>>,
}

impl<'a> Readings<'a> {
    /// Reads a path; see [`unescape`].
    pub fn of(path: &'a [u8]) -> Self {
        let kept = if path.contains(&b'%') { Cow::Owned(unescape(path)) } else { Cow::Borrowed(path) };
        let left_out = kept.contains(&b';').then(|| leave_out_parameters(&kept));
        Readings { kept, left_out }
    }

    /// Each reading.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&*self.kept).chain(self.left_out.as_deref())
    }
}

/// Whether servers differ on what a path names: it still has an escaped slash or backslash, a backslash, or a dot
/// segment, be it escaped or followed by parameters.
pub fn is_ambiguous(path: &[u8]) -> bool {
    if !path.iter().any(|byte| matches!(byte, b'%' | b'\\' | b'.')) {
        return false;
    }
    path.contains(&b'\\')
        || escapes(path).any(|(_, byte)| matches!(byte, b'/' | b'\\'))
        || path.split(|byte| *byte == b'/').any(is_dot_segment)
}

fn is_dot_segment(segment: &[u8]) -> bool {
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
        assert_eq!(readings("/a;x;y/b;z"), ["/a;x;y/b;z", "/a/b"]);
        assert_eq!(readings("/;x/admin"), ["/;x/admin", "/admin"]);
        assert_eq!(readings("/a/;x"), ["/a/;x", "/a/"]);
        assert_eq!(readings(";"), [";", ""]);
        assert_eq!(readings("*"), ["*"]);
    }

    #[test]
    fn escapes_of_unreserved_characters_are_resolved_and_no_others() {
        assert_eq!(readings("/%61dmin%2D%7E"), ["/admin-~"]);
        assert_eq!(readings("/a%20b%2fc%3bd%25"), ["/a%20b%2fc%3bd%25"]);
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
            if let Some(left_out) = &readings.left_out {
                proptest::prop_assert!(!left_out.contains(&b';'));
                proptest::prop_assert!(left_out.len() < readings.kept.len());
            }
            proptest::prop_assert_eq!(readings.left_out.is_some(), readings.kept.contains(&b';'));
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
