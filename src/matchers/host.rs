//! Hosts as upstreams may read them.

use super::Truth;

/// Whether a host passes a test. By itself it is compared as Istio compares hosts, without case. With a port, or with
/// a dot at its end, it leads to the same place, but a rule for `example.com` does not name it: it must not slip by
/// where that rule refuses, and does not pass where it lets pass.
pub fn passes(host: &[u8], mut test: impl FnMut(&[u8]) -> Truth) -> Truth {
    match test(host) {
        Truth::Yes => Truth::Yes,
        found => {
            let bare = bare(host);
            if bare.len() == host.len() { found } else { found.max(test(bare).min(Truth::Unknown)) }
        }
    }
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
}
