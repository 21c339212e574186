//! Requests that were recorded somewhere: raw HTTP/1.1, an entry of an HTTP Archive, a line of the JSON access log.

mod har;
mod log;
mod raw;
pub mod tags;

use std::time::Duration;

use serde_json::{Map, Value};

use crate::proxy::Request;

pub use har::read_all as read_archive;
pub use log::{read as read_line, read_value};

/// A request, and what else is known about it.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// As the client sent it.
    pub request: Request,
    /// The claims of a token that is not there.
    pub claims: Option<Map<String, Value>>,
    /// When, since the Unix epoch.
    pub time: Option<Duration>,
    /// The line that it was read from, with what else stands there.
    pub line: Option<Value>,
}

/// Reads one recorded request, whatever its form.
///
/// # Errors
/// What it should be.
pub fn read_one(bytes: &[u8]) -> Result<Recorded, String> {
    if bytes.trim_ascii_start().starts_with(b"{") {
        let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
        let value = values.next().ok_or("there is nothing in it")?.map_err(|error| error.to_string())?;
        if value.get("log").is_some() || value.get("request").is_some() {
            return har::read_value(&value);
        }
        return log::read_value(&value).map(|recorded| Recorded { line: Some(value), ..recorded });
    }
    raw::read(bytes)
}

/// A date as RFC 3339 has it.
///
/// # Errors
/// What is wrong with it.
pub fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no date; write it as 2026-01-31T12:00:00Z");
    let time = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| wrong())?;
    let seconds = u64::try_from(time.timestamp()).map_err(|_| wrong())?;
    Ok(Duration::new(seconds, time.timestamp_subsec_nanos()))
}

/// What a URL asks for: whether over TLS, the host, path and query.
///
/// # Errors
/// What is wrong with it.
pub fn url(text: &str) -> Result<(Option<bool>, Option<String>, String), String> {
    if text.starts_with('/') || text == "*" {
        return Ok((None, None, without_fragment(text)));
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => false,
        "https" | "wss" => true,
        _ => return Err(format!("{text:?}: {scheme} is not http or https")),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let host = host.rsplit('@').next().unwrap_or(host);
    if host.is_empty() {
        return Err(format!("{text:?} has no host; write http://HOST/PATH, or /PATH alone"));
    }
    let path = without_fragment(path);
    Ok((Some(tls), Some(host.to_owned()), if path.starts_with('/') { path } else { format!("/{path}") }))
}

fn without_fragment(path: &str) -> String {
    path.split('#').next().unwrap_or_default().to_owned()
}

/// Headers that the proxy makes, or that the request has elsewhere.
fn is_ours(name: &str) -> bool {
    name.starts_with(':') || matches!(name, "x-forwarded-for" | "x-forwarded-proto" | "x-request-id")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn urls_are_taken_apart() {
        let parts = |text: &str| url(text).unwrap();
        assert_eq!(parts("/a?b#c"), (None, None, "/a?b".to_owned()));
        assert_eq!(parts("http://webapp/api"), (Some(false), Some("webapp".to_owned()), "/api".to_owned()));
        assert_eq!(parts("https://u:p@h:8443"), (Some(true), Some("h:8443".to_owned()), "/".to_owned()));
        assert_eq!(parts("webapp?x"), (Some(false), Some("webapp".to_owned()), "/?x".to_owned()));
        assert_eq!(url("ftp://x/").unwrap_err(), "\"ftp://x/\": ftp is not http or https");
        assert_eq!(
            url("http:///x").unwrap_err(),
            "\"http:///x\" has no host; write http://HOST/PATH, or /PATH alone"
        );
    }

    #[test]
    fn a_raw_request_is_read() {
        let raw = b"POST /api?x=1 HTTP/1.1\r\nHost: webapp\r\nX-A: 1\r\nx-a: \xff\r\nX-Forwarded-For: 10.0.0.9\r\n\r\nbody";
        let recorded = read_one(raw).unwrap().request;
        assert_eq!((recorded.method.as_str(), recorded.path.as_slice()), ("POST", &b"/api?x=1"[..]));
        assert_eq!(recorded.host, b"webapp");
        assert_eq!(recorded.source, Some(IpAddr::from([10, 0, 0, 9])));
        assert_eq!(
            recorded.headers,
            [("x-a".to_owned(), b"1".to_vec()), ("x-a".to_owned(), b"\xff".to_vec())]
        );
        for (raw, wrong) in [
            (&b""[..], "is no request line"),
            (b"GET /", "is no request line"),
            (b"GET / HTTP/1.1\nnothing\n", "\"nothing\" is no header"),
            (b"GET ftp://x HTTP/1.1\n", "is not http or https"),
        ] {
            let error = read_one(raw).unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn an_entry_of_an_archive_is_read() {
        let entry = serde_json::json!({
            "startedDateTime": "2026-01-31T12:00:00.5Z",
            "request": {"method": "GET", "url": "https://webapp/a?b=c", "headers": [
                {"name": ":authority", "value": "webapp"}, {"name": "User-Role", "value": "admin"},
            ]},
            "response": {"status": 200},
        });
        let whole = serde_json::json!({"log": {"entries": [entry]}});
        for value in [entry, whole] {
            let recorded = read_one(value.to_string().as_bytes()).unwrap();
            assert_eq!(recorded.request.host, b"webapp");
            assert!(recorded.request.tls);
            assert_eq!(recorded.request.path, b"/a?b=c");
            assert_eq!(recorded.request.headers, [("user-role".to_owned(), b"admin".to_vec())]);
            assert_eq!(recorded.time, Some(Duration::new(1_769_860_800, 500_000_000)));
        }
        assert_eq!(read_one(b"{\"log\": {\"entries\": []}}").unwrap_err(), "the archive has no entry");
    }

    #[test]
    fn a_line_of_the_access_log_is_read() {
        let line = br#"{"time":"2026-01-31T12:00:00.000Z","method":"GET","path":"/a","authority":"webapp","client":"10.0.0.9",
            "headers":{"user-role":"admin","x-b":["1","2"],"x-none":null},"claims":{"sub":"alice"},"peer":"spiffe://td/ns/a/sa/b",
            "status":200,"upstream":"-","anything":{"else":1}}"#;
        let recorded = read_one(line).unwrap();
        assert_eq!(recorded.request.peer.as_deref(), Some("spiffe://td/ns/a/sa/b"));
        assert_eq!(recorded.request.source, Some(IpAddr::from([10, 0, 0, 9])));
        assert_eq!(recorded.request.headers.len(), 3);
        assert_eq!(recorded.claims.unwrap()["sub"], "alice");
        for (line, wrong) in [
            ("{}", "\"method\" is missing"),
            ("{\"method\":\"GET\",\"path\":1}", "\"path\" is no text"),
            ("{\"method\":\"GET\",\"path\":\"/\",\"time\":\"now\"}", "\"now\" is no date"),
            ("{\"method\":\"GET\",\"path\":\"/\",\"client\":\"me\"}", "\"me\" is no address"),
            ("{\"method\":\"GET\",\"path\":\"/\",\"claims\":[]}", "\"claims\" is no object"),
            (
                "{\"method\":\"GET\",\"path\":\"/\",\"headers\":{\"a\":1}}",
                "headers[a] is neither a text nor a list of texts",
            ),
        ] {
            let error = read_one(line.as_bytes()).unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
