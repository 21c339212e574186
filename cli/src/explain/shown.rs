//! How what a request has is printed: no secret whole, nothing that commands a terminal.

/// As much of a secret is shown.
const SHOWN: usize = 4;
/// A cookie that is no longer is no session.
const SHORT: usize = 12;
/// Nobody reads more.
const LONGEST: usize = 200;

/// Headers, parameters and cookies by these names, or with these words in them, are secrets.
const SECRETS: [&str; 10] = [
    "authorization",
    "token",
    "secret",
    "password",
    "passwd",
    "api-key",
    "apikey",
    "api_key",
    "credential",
    "signature",
];

/// A value of what has this name.
pub fn value(name: &str, bytes: &[u8]) -> String {
    let name = name.to_ascii_lowercase();
    if name == "cookie" || name == "set-cookie" {
        return cookies(bytes);
    }
    if is_secret(&name) || is_session(&name, bytes) || has_token(bytes) {
        return shortened(bytes);
    }
    if bytes.contains(&b'?') { path(bytes) } else { text(bytes) }
}

fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|word| name.contains(word))
}

fn is_session(name: &str, bytes: &[u8]) -> bool {
    name.contains("cookie") && bytes.len() > SHORT
}

/// A text that a policy compares with what has this name; a short one, such as `Bearer `, is no secret.
pub fn wanted(name: &str, wanted: &str) -> String {
    let name = name.to_ascii_lowercase();
    let hidden = wanted.len() > SHORT && is_secret(&name) || is_session(&name, wanted.as_bytes());
    if hidden { shortened(wanted.as_bytes()) } else { text(wanted.as_bytes()) }
}

/// Path and query, with the secrets in the query shortened.
pub fn path(path_and_query: &[u8]) -> String {
    let Some(mark) = path_and_query.iter().position(|byte| *byte == b'?') else {
        return plain(path_and_query);
    };
    let (path, query) = path_and_query.split_at(mark);
    let pairs = query.get(1..).unwrap_or_default().split(|byte| *byte == b'&').map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=');
        match equals.map(|equals| pair.split_at(equals)) {
            Some((name, rest)) => {
                let rest = rest.get(1..).unwrap_or_default();
                let name = plain(name);
                let secret = is_secret(&name.to_ascii_lowercase());
                // In a header something may follow, such as a quote.
                let end = rest.iter().position(|byte| b"\"'<> ".contains(byte)).unwrap_or(rest.len());
                let (rest, after) = rest.split_at(end);
                let value = if secret || has_token(rest) { shortened(rest) } else { plain(rest) };
                let value = format!("{value}{}", plain(after));
                format!("{name}={value}")
            }
            None => plain(pair),
        }
    });
    format!("{}?{}", plain(path), pairs.collect::<Vec<_>>().join("&"))
}

/// A text; one that is empty, or has a blank at an end, in quotes.
pub fn text(bytes: &[u8]) -> String {
    let text = plain(bytes);
    if text.is_empty() || text.starts_with(' ') || text.ends_with(' ') { format!("\"{text}\"") } else { text }
}

/// A text without what would command a terminal.
pub fn plain(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    out.extend(c.escape_unicode());
                }
                c if c.is_control() => out.extend(c.escape_default()),
                c => out.push(c),
            }
        }
        out.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    match out.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}… ({} bytes)", out.get(..end).unwrap_or_default(), bytes.len()),
        None => out,
    }
}

fn cookies(bytes: &[u8]) -> String {
    let cookies = bytes.split(|byte| *byte == b';').enumerate().map(|(place, pair)| {
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(equals) => (pair.get(..equals), pair.get(equals.saturating_add(1)..)),
            None => (None, Some(pair)),
        };
        let value = value.unwrap_or_default();
        // Behind the first one stand the attributes of a cookie that is set.
        let name = name.map(plain).unwrap_or_default();
        let long = value.len() > SHORT && !(place > 0 && is_attribute(name.trim()));
        let value = if long { shortened(value) } else { plain(value) };
        if name.is_empty() { value } else { format!("{name}={value}") }
    });
    cookies.collect::<Vec<_>>().join(";")
}

fn is_attribute(name: &str) -> bool {
    ["path", "domain", "expires", "max-age", "samesite"].iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether there is a JWT in it.
fn has_token(bytes: &[u8]) -> bool {
    let is_one = |part: &[u8]| part.starts_with(b"eyJ") && part.contains(&b'.');
    bytes.split(|byte| !(byte.is_ascii_alphanumeric() || b"-_.".contains(byte))).any(is_one)
}

fn shortened(bytes: &[u8]) -> String {
    let scheme = bytes.iter().position(|byte| *byte == b' ').filter(|end| *end <= 10);
    let (scheme, rest) = bytes.split_at(scheme.map_or(0, |end| end.saturating_add(1)));
    let start = rest.get(..SHOWN.min(rest.len() / 2)).unwrap_or_default();
    format!("{}{}… ({} bytes)", plain(scheme), plain(start), rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_printed_whole() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";
        for (name, value_, shown) in [
            ("authorization", "Bearer eyJhbGci.abc.def", "Bearer eyJh… (16 bytes)"),
            ("Proxy-Authorization", "Basic dXNlcjpwYXNz", "Basic dXNl… (12 bytes)"),
            ("x-api-key", "abcd", "ab… (4 bytes)"),
            ("x-other", token, "eyJh… (54 bytes)"),
            ("cookie", "arm=v2; session=0123456789abcdef", "arm=v2; session=0123… (16 bytes)"),
            (
                "set-cookie",
                "arm=0123456789abcdef; Path=/; Max-Age=3600",
                "arm=0123… (16 bytes); Path=/; Max-Age=3600",
            ),
            ("x-user", "alice", "alice"),
            ("x-user", "", "\"\""),
            ("x-user", "a\x1b[31m\u{202e}", "a\\u{1b}[31m\\u{202e}"),
        ] {
            assert_eq!(value(name, value_.as_bytes()), shown, "{name}");
        }
        for (name, compared, shown) in [
            ("x-api-key", "SUPERSECRETVALUE", "SUPE… (16 bytes)"),
            ("authorization", "Bearer ", "\"Bearer \""),
            ("cookie session", "SUPERSECRETVALUE", "SUPE… (16 bytes)"),
            ("user-role", "administrators", "administrators"),
        ] {
            assert_eq!(wanted(name, compared), shown, "{name}");
        }
        assert_eq!(
            path(format!("/a?x=1&access_token={token}&y={token}").as_bytes()),
            "/a?x=1&access_token=eyJh… (54 bytes)&y=eyJh… (54 bytes)"
        );
        assert_eq!(
            value("www-authenticate", b"Bearer realm=\"http://h/a?access_token=abcdefgh\", error=\"x\""),
            "Bearer realm=\"http://h/a?access_token=abcd\u{2026} (8 bytes)\", error=\"x\""
        );
        assert_eq!(value("x", b"a\xff"), "a\\xff");
        assert!(value("x", &[b'a'; 1000]).ends_with("a… (1000 bytes)"));
    }
}
