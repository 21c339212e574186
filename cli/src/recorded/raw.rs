//! A request as HTTP/1.1 writes it (RFC 9112).

use super::{Recorded, is_ours, url};
use crate::proxy::{Headers, Request};

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
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':').filter(|place| *place > 0);
        let Some((name, value)) =
            colon.and_then(|place| Some((line.get(..place)?, line.get(place.saturating_add(1)..)?)))
        else {
            return Err(format!("\"{}\" is no header; write name: value", line.escape_ascii()));
        };
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let value = value.trim_ascii();
        match name.as_str() {
            "host" if is_absolute => {}
            "host" => request.host = value.to_vec(),
            "x-forwarded-for" => {
                let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
                request.source = std::str::from_utf8(last).ok().and_then(|text| text.parse().ok());
            }
            name if is_ours(name) => {}
            _ => request.headers.push((name, value.to_vec())),
        }
    }
    let nominated = nominated(&request.headers)?;
    request.headers.retain(|(name, _)| !nominated.contains(name));
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
    if names.iter().any(|name| name == "upgrade") && headers.iter().any(|(name, _)| name == "upgrade") {
        return Err("Envoy refuses upgrades with 403, before any filter, unless its upgrade_configs \
                    allow them; leave Upgrade out to ask about the request itself"
            .to_owned());
    }
    let of_the_proxy = ["host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
    let refused = |name: &String| name.starts_with(':') || of_the_proxy.contains(&name.as_str());
    if let Some(name) = names.iter().find(|name| refused(name)) {
        return Err(format!(
            "Envoy refuses this request with 400, before any filter: Connection names {name}"
        ));
    }
    if names.len() > MOST {
        return Err(format!(
            "Envoy refuses this request with 400, before any filter: Connection has more than {MOST} names"
        ));
    }
    let stays = ["close", "connection", "http2-settings", "keep-alive", "proxy-connection", "te", "upgrade"];
    names.retain(|name| !stays.contains(&name.as_str()));
    Ok(names)
}
