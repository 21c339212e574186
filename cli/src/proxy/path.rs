//! What Envoy's connection manager makes of a path before any filter sees it, with the options of the samples
//! (`normalize_path`, `merge_slashes`, `path_with_escaped_slashes_action: REJECT_REQUEST`).

/// What becomes of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Normalized {
    /// It is handed on so.
    Path(Vec<u8>),
    /// The request is answered with 400.
    Refused,
}

/// Normalizes path and query.
pub fn normalize(path_and_query: &[u8]) -> Normalized {
    if !path_and_query.starts_with(b"/") {
        return Normalized::Path(path_and_query.to_vec());
    }
    let end = path_and_query.iter().position(|byte| matches!(byte, b'?' | b'#'));
    let (path, rest) = path_and_query.split_at(end.unwrap_or(path_and_query.len()));
    let Some(path) = unescape(&without_dots_parameters(path)) else { return Normalized::Refused };
    let mut segments: Vec<&[u8]> = Vec::new();
    let all: Vec<&[u8]> = path.split(|byte| *byte == b'/').skip(1).collect();
    for (place, segment) in all.iter().enumerate() {
        let last = place.saturating_add(1) == all.len();
        match *segment {
            b"." => {}
            b".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
        if last && matches!(*segment, b"." | b"..") {
            segments.push(b"");
        }
    }
    let mut whole = Vec::with_capacity(path_and_query.len());
    // Slashes are merged last: an empty segment is one that `..` takes back.
    let last = segments.len().saturating_sub(1);
    let is_kept = |place: &usize, segment: &[u8]| !segment.is_empty() || *place == last;
    for (_, segment) in segments.iter().enumerate().filter(|(place, segment)| is_kept(place, segment)) {
        whole.push(b'/');
        whole.extend_from_slice(segment);
    }
    if whole.is_empty() {
        whole.push(b'/');
    }
    whole.extend_from_slice(rest);
    Normalized::Path(whole)
}

/// `.;a` is `.`, and `..;a` is `..`; as they were sent, before anything is unescaped.
fn without_dots_parameters(path: &[u8]) -> Vec<u8> {
    let segment = |segment: &'_ [u8]| match segment {
        [b'.', b';', ..] => b".".to_vec(),
        [b'.', b'.', b';', ..] => b"..".to_vec(),
        other => other.to_vec(),
    };
    path.split(|byte| *byte == b'/').map(segment).collect::<Vec<_>>().join(&b'/')
}

/// Escapes of unreserved characters are resolved, a backslash is a slash; none for an escaped slash or backslash.
fn unescape(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'\\' => out.push(b'/'),
            b'%' => match hex(after) {
                Some(b'/' | b'\\') => return None,
                Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                    out.push(byte);
                    rest = after.get(2..).unwrap_or_default();
                }
                _ => out.push(b'%'),
            },
            other => out.push(*other),
        }
    }
    Some(out)
}

fn hex(after: &[u8]) -> Option<u8> {
    let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_envoy_hands_on() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/../admin", "/admin"),
            ("/a/%2e%2e/admin?x=/../y", "/admin?x=/../y"),
            ("//a///b/", "/a/b/"),
            ("/a/.", "/a/"),
            ("/a/b/..", "/a/"),
            ("/..", "/"),
            (r"/a\b", "/a/b"),
            ("/%61dmin;x=1", "/admin;x=1"),
            ("/admin//../x", "/admin/x"),
            ("//../x", "/x"),
            ("/a///../b", "/a/b"),
            ("/a/.//b", "/a/b"),
            ("/a//.", "/a/"),
            ("/..//a", "/a"),
            ("/a/.;/admin", "/a/admin"),
            ("/admin/..;x=1/pub", "/pub"),
            ("/a/b/..;", "/a/"),
            ("/a/.;/..;/c/d", "/c/d"),
            (r"/a/..;\b", "/"),
            (r"/a\..;/b", "/a/..;/b"),
            ("/a/.%2e;/b", "/a/..;/b"),
            ("/a/...;/b", "/a/...;/b"),
            ("/a/./;/b", "/a/;/b"),
            ("/a/..?x", "/?x"),
            ("/a%20b%25", "/a%20b%25"),
            ("*", "*"),
        ] {
            assert_eq!(normalize(path.as_bytes()), Normalized::Path(expected.into()), "{path}");
        }
        for path in ["/a%2fb", "/a%5Cb", "/a%2F..?q"] {
            assert_eq!(normalize(path.as_bytes()), Normalized::Refused, "{path}");
        }
        assert_eq!(normalize(b"/a?%2f"), Normalized::Path(b"/a?%2f".to_vec()));
    }
}
