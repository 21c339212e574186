//! What becomes of a tag's value where it is written: clients choose it, and must not write a line or a field with it.

use std::borrow::Cow;
use std::fmt::Write;

use crate::request::clean;

/// A value as it stands in a log: control characters, line separators, marks that turn a line's direction, double
/// quotes, backslashes and bytes that are no UTF-8 become `%XX`, byte by byte.
///
/// Percent signs stay. With backslashes before it, a value that a log format cuts could end in one, and a quote that
/// follows would count as escaped.
pub fn log_text(value: &[u8]) -> Cow<'_, [u8]> {
    if value.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_harmless(character) {
                text.push(character);
            } else {
                escape(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        escape(&mut text, chunk.invalid());
    }
    Cow::Owned(text.into_bytes())
}

fn is_harmless(character: char) -> bool {
    let harmful = matches!(
        character,
        '"' | '\\' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    !harmful && !character.is_control()
}

fn escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // A String takes everything.
        let _ = write!(text, "%{byte:02X}");
    }
}

/// A value as it stands in a header: without what none may carry, and without white space around it (RFC 9110, 5.5).
pub fn header_text(value: &[u8]) -> Cow<'_, [u8]> {
    match clean(value) {
        Cow::Borrowed(value) => Cow::Borrowed(value.trim_ascii()),
        Cow::Owned(value) => Cow::Owned(value.trim_ascii().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_end_a_field_or_a_line_is_escaped_in_logs() {
        for (value, expected) in [
            ("acme".as_bytes(), "acme"),
            (b"a b=c%0a", "a b=c%0a"),
            ("caf\u{e9} \u{1f600}".as_bytes(), "caf\u{e9} \u{1f600}"),
            (b"a\n200 GET /forged", "a%0A200 GET /forged"),
            (b"\x1b[31m\0\r\t\x7f", "%1B[31m%00%0D%09%7F"),
            (b"a\" decision=\"allowed", "a%22 decision=%22allowed"),
            (b"a\\", "a%5C"),
            ("\u{85}\u{9b}\u{2028}\u{202e}".as_bytes(), "%C2%85%C2%9B%E2%80%A8%E2%80%AE"),
            (b"a\xffb\x9b", "a%FFb%9B"),
            (b"", ""),
        ] {
            assert_eq!(log_text(value), expected.as_bytes(), "{value:?}");
        }
        for byte in 0..=u8::MAX {
            let told = log_text(&[b'a', byte]).into_owned();
            let text = std::str::from_utf8(&told).unwrap();
            assert!(!text.contains(['"', '\\']) && !text.chars().any(char::is_control), "{byte}");
        }
    }

    #[test]
    fn what_no_header_may_carry_is_left_out() {
        for (value, expected) in [
            (b"acme".as_slice(), b"acme".as_slice()),
            (b"a\tb\xff", b"a\tb\xff"),
            (b"a\x01b\n\r\0\x1b\x7fc", b"abc"),
            (b" \ta \n", b"a"),
            (b"\n", b""),
        ] {
            assert_eq!(header_text(value), expected, "{value:?}");
        }
    }
}
