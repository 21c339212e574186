//! Hosts as upstreams may read them.

use super::Truth;

/// Whether a host passes a test. By itself it is compared as Istio compares hosts, without case. With a port, or with
/// a dot at its end, it leads to the same place, but a rule for `example.com` does not name it: it must not slip by
/// where that rule refuses, and does not pass where it lets pass. What is no host at all may lead anywhere:
/// `user@example.com`, `%65xample.com`, `example.com..`.
pub fn passes(host: &[u8], mut test: impl FnMut(&[u8]) -> Truth) -> Truth {
    match test(host) {
        Truth::Yes => Truth::Yes,
        found => {
            let bare = bare(host);
            let found = if is_odd(bare) { found.max(Truth::Unknown) } else { found };
            if bare.len() == host.len() { found } else { found.max(test(bare).min(Truth::Unknown)) }
        }
    }
}

/// Whether a host, without port, is none: neither a name nor an address, or an IPv6 address in another spelling than RFC
/// 5952 has.
fn is_odd(bare: &[u8]) -> bool {
    if let Some(address) = bare.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
        let text = std::str::from_utf8(address).unwrap_or_default();
        let spelled = text.parse::<std::net::Ipv6Addr>().map(|address| address.to_string());
        return !spelled.is_ok_and(|spelled| spelled.eq_ignore_ascii_case(text));
    }
    let of_a_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    !bare.iter().all(of_a_name) || bare.ends_with(b".")
}

/// A host without its port and the dot at its end.
pub fn bare(host: &[u8]) -> &[u8] {
    let digits = host.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let name = host.len().checked_sub(digits).and_then(|end| host.get(..end)).unwrap_or(host);
    let name = name.strip_suffix(b":").unwrap_or(host);
    name.strip_suffix(b".").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_loses_its_port_and_the_dot_at_its_end() {
        for (host, without) in [
            ("example.com", "example.com"),
            ("example.com:80", "example.com"),
            ("example.com.:80", "example.com"),
            ("example.com.", "example.com"),
            ("example.com:", "example.com"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("host1", "host1"),
            ("10.0.0.1", "10.0.0.1"),
            (":80", ""),
            ("", ""),
        ] {
            assert_eq!(bare(host.as_bytes()), without.as_bytes(), "{host}");
        }
    }

    #[test]
    fn with_a_port_it_cannot_be_told() {
        let is = |host: &str| passes(host.as_bytes(), |host| (host == b"a.example").into());
        assert_eq!(is("a.example"), Truth::Yes);
        assert_eq!(is("a.example:80"), Truth::Unknown);
        assert_eq!(is("a.example."), Truth::Unknown);
        assert_eq!(is("b.example:80"), Truth::No);
    }

    #[test]
    fn what_is_no_host_cannot_be_told() {
        let is = |host: &str| passes(host.as_bytes(), |host| (host == b"a.example").into());
        for odd in [
            "u@a.example",
            "u:p@a.example:80",
            "%61.example",
            "a.example..",
            "a.example:80:90",
            "a.example,b",
            "[::01]:80",
            "[x]",
        ] {
            assert_eq!(is(odd), Truth::Unknown, "{odd}");
        }
        for plain in ["b.example", "b_c.example:80", "10.0.0.1", "[::1]", "[2001:DB8::1]:80", "", ":80"] {
            assert_eq!(is(plain), Truth::No, "{plain}");
        }
    }
}
