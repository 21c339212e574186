//! A request as HTTP/1.1 writes it (RFC 9112).

use super::{Recorded, is_ours, url};
use crate::proxy::{Headers, Request};

/// The methods that Envoy's parser knows.
const METHODS: [&str; 33] = [
    "ACL",
    "BIND",
    "CHECKOUT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LINK",
    "LOCK",
    "M-SEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "NOTIFY",
    "OPTIONS",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

fn refused(status: u16, why: &str) -> String {
    format!("Envoy refuses this request with {status}, before any filter: {why}")
}

/// As Envoy's codec reads it, with the options that `bootstrap` sets.
///
/// # Errors
/// What is no request, and what Envoy answers by itself.
pub fn read(bytes: &[u8]) -> Result<Recorded, String> {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    let first = std::str::from_utf8(first).unwrap_or_default();
    let wrong = || format!("{first:?} is no request line; write METHOD PATH HTTP/1.1, or give a JSON line");
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(wrong());
    };
    if method.is_empty() || !version.starts_with("HTTP/") {
        return Err(wrong());
    }
    if method == "CONNECT" {
        return Err("Envoy answers CONNECT by itself, before any filter".to_owned());
    }
    if !METHODS.contains(&method) {
        return Err(refused(400, &format!("{method} is no method that it knows")));
    }
    if version != "HTTP/1.1" {
        return Err(refused(426, "it takes HTTP/1.1 and later"));
    }
    if target.contains('#') || target == "*" && method != "OPTIONS" {
        return Err(refused(400, "its target is none"));
    }
    if !target.starts_with('/') && target != "*" && !target.contains("://") {
        return Err(wrong());
    }
    let (tls, host, path) = url(target)?;
    let mut request = Request {
        method: method.to_owned(),
        path: path.into_bytes(),
        tls: tls.unwrap_or(false),
        ..Request::default()
    };
    // What an absolute target says goes before the header (RFC 9112, 3.2.2).
    let is_absolute = host.is_some();
    if let Some(host) = host {
        request.host = host.into_bytes();
    }
    let mut has_host = false;
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':').filter(|place| *place > 0);
        let Some((name, value)) =
            colon.and_then(|place| Some((line.get(..place)?, line.get(place.saturating_add(1)..)?)))
        else {
            return Err(format!("\"{}\" is no header; write name: value", line.escape_ascii()));
        };
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let value = value.trim_ascii();
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&byte)) {
            return Err(refused(
                400,
                &format!("{name:?} is no name of a header; those with _ are refused, too"),
            ));
        }
        if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(refused(400, &format!("a control character stands in {name}")));
        }
        match name.as_str() {
            "host" if is_absolute => {}
            // What is sent twice is one list, and no host.
            "host" if has_host => request.host = [&request.host, b",".as_slice(), value].concat(),
            "host" => {
                has_host = true;
                request.host = value.to_vec();
            }
            "x-forwarded-for" => {
                let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
                request.source = std::str::from_utf8(last).ok().and_then(|text| text.parse().ok());
            }
            name if is_ours(name) => {}
            _ => request.headers.push((name, value.to_vec())),
        }
    }
    let values = |wanted: &'static str| {
        let found = request.headers.iter().filter(move |(name, _)| name == wanted);
        found.map(|(_, value)| value.as_slice()).collect::<Vec<_>>()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    let is_number = |length: &&[u8]| !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    if !lengths.iter().all(is_number) || lengths.len() > 1 || !(lengths.is_empty() || codings.is_empty()) {
        return Err(refused(400, "its body has no length that is sure"));
    }
    if request.host.iter().any(|byte| b"/#?\\@ ".contains(byte) || !byte.is_ascii()) {
        return Err(refused(400, "its host is none"));
    }
    let nominated = nominated(&request.headers)?;
    request.headers.retain(|(name, _)| !nominated.contains(name));
    // Of what a client takes besides the body, nothing else is handed on.
    request.headers.retain(|(name, value)| name != "te" || value.eq_ignore_ascii_case(b"trailers"));
    Ok(Recorded { request, ..Recorded::default() })
}

/// The headers that `Connection` names: a proxy takes them out (RFC 9110, 7.6.1). What is refused for it is refused by Envoy's
/// HTTP/1 codec.
fn nominated(headers: &Headers) -> Result<Vec<String>, String> {
    const MOST: usize = 9;
    let values = headers.iter().filter(|(name, _)| name == "connection").map(|(_, value)| value);
    let mut names = Vec::new();
    for name in values.flat_map(|value| value.split(|byte| *byte == b',')) {
        names.push(String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase());
    }
    let upgrades =
        |(name, value): &(String, Vec<u8>)| name == "upgrade" && !value.eq_ignore_ascii_case(b"h2c");
    if names.iter().any(|name| name == "upgrade") && headers.iter().any(upgrades) {
        return Err("Envoy refuses upgrades with 403, before any filter, unless its upgrade_configs \
                    allow them; leave Upgrade out to ask about the request itself"
            .to_owned());
    }
    let of_the_proxy = ["host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
    let is_refused = |name: &String| name.starts_with(':') || of_the_proxy.contains(&name.as_str());
    if let Some(name) = names.iter().find(|name| is_refused(name)) {
        return Err(refused(400, &format!("Connection names {name}")));
    }
    if names.len() > MOST {
        return Err(refused(400, &format!("Connection has more than {MOST} names")));
    }
    let stays = ["close", "connection", "http2-settings", "keep-alive", "proxy-connection", "te", "upgrade"];
    names.retain(|name| !stays.contains(&name.as_str()));
    Ok(names)
}
