//! A line of the JSON access log, as `meshfilter bootstrap` has Envoy write it, or any JSON line with the same names.

use serde_json::{Map, Value};

use super::{Recorded, is_ours, time, url};
use crate::proxy::{Headers, Request};

/// Reads a line.
///
/// # Errors
/// What is wrong with it.
pub fn read(line: &[u8]) -> Result<Recorded, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("no JSON: {error}"))?;
    read_value(&value).map(|recorded| Recorded { line: Some(value), ..recorded })
}

/// Reads the value of a line. Names that are not known are ignored; `-` and `null` are what Envoy writes where there is
/// nothing.
///
/// # Errors
/// What is wrong with it.
pub fn read_value(value: &Value) -> Result<Recorded, String> {
    let line = value.as_object().ok_or("it is no object")?;
    let method = text(line, "method")?.ok_or("\"method\" is missing")?;
    let (mut tls, host, path) = url(text(line, "path")?.ok_or("\"path\" is missing")?)?;
    if let Some(scheme) = text(line, "scheme")? {
        tls = Some(scheme == "https");
    }
    let mut request = Request {
        method: method.to_owned(),
        path: path.into_bytes(),
        tls: tls.unwrap_or(false),
        headers: headers(line)?,
        peer: text(line, "peer")?.map(str::to_owned),
        source: address(line, "client")?,
        direct: address(line, "direct")?,
        ..Request::default()
    };
    if let Some(host) = text(line, "authority")?.map(str::to_owned).or(host) {
        request.host = host.into_bytes();
    }
    if let Some(port) = line.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()) {
        request.port = port;
    }
    let time = text(line, "time")?.map(time).transpose()?;
    Ok(Recorded { request, claims: claims(line)?, time, line: None })
}

fn text<'a>(line: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match line.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text == "-" => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name:?} is no text")),
    }
}

fn address(line: &Map<String, Value>, name: &str) -> Result<Option<std::net::IpAddr>, String> {
    let parse = |text: &str| text.parse().map_err(|_| format!("{name}: {text:?} is no address"));
    text(line, name)?.map(parse).transpose()
}

fn headers(line: &Map<String, Value>) -> Result<Headers, String> {
    let headers = match line.get("headers") {
        None | Some(Value::Null) => return Ok(Headers::new()),
        Some(Value::Object(headers)) => headers,
        Some(_) => return Err("\"headers\" is no object".to_owned()),
    };
    let mut all = Headers::new();
    for (name, values) in headers {
        let name = name.to_ascii_lowercase();
        let wrong = || format!("headers[{name}] is neither a text nor a list of texts");
        let mut add = |value: &Value| {
            let value = value.as_str().ok_or_else(wrong)?;
            if !is_ours(&name) {
                all.push((name.clone(), value.as_bytes().to_vec()));
            }
            Ok::<_, String>(())
        };
        match values {
            Value::Null => {}
            Value::Array(list) => list.iter().try_for_each(&mut add)?,
            other => add(other)?,
        }
    }
    Ok(all)
}

/// An object, or the text of one, which is what a tag makes of it.
fn claims(line: &Map<String, Value>) -> Result<Option<Map<String, Value>>, String> {
    match line.get("claims") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(claims)) => Ok(Some(claims.clone())),
        Some(Value::String(text)) if text == "-" || text.is_empty() => Ok(None),
        Some(Value::String(text)) => {
            serde_json::from_str(text).map(Some).map_err(|_| "\"claims\" is no object".to_owned())
        }
        Some(_) => Err("\"claims\" is no object".to_owned()),
    }
}
