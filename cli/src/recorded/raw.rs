//! A request as HTTP/1.1 writes it (RFC 9112).

use super::{Recorded, is_ours, url};
use crate::proxy::Request;

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
    let (tls, host, path) = url(target)?;
    let mut request = Request {
        method: method.to_owned(),
        path: path.into_bytes(),
        tls: tls.unwrap_or(false),
        ..Request::default()
    };
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
            "host" => request.host = value.to_vec(),
            "x-forwarded-for" => {
                let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
                request.source = std::str::from_utf8(last).ok().and_then(|text| text.parse().ok());
            }
            name if is_ours(name) => {}
            _ => request.headers.push((name, value.to_vec())),
        }
    }
    Ok(Recorded { request, ..Recorded::default() })
}
