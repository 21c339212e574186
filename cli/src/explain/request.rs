//! The request that is asked about: from the command line, or a recorded one with what the command line adds.

use std::io::Read;

use serde_json::{Map, Value};

use super::Arguments;
use crate::proxy::Request;
use crate::recorded::tags::Tags;
use crate::recorded::{self, Recorded, url};

/// The request, and the claims that stand for a token.
pub fn read(arguments: &Arguments, tags: &Tags) -> Result<(Recorded, Option<Map<String, Value>>), String> {
    let mut recorded = match &arguments.request {
        Some(file) => {
            let bytes = crate::input::read(file).map_err(|error| format!("{file}: {error}"))?;
            let mut recorded = recorded::read_one(&bytes).map_err(|error| format!("{file}: {error}"))?;
            tags.fill(&mut recorded);
            recorded
        }
        None => {
            let given = arguments.url.as_deref().unwrap_or("/");
            let (tls, host, path) = url(given)?;
            if let Some(host) =
                host.as_deref().filter(|host| !given.contains("://") && !host.contains(['.', ':']))
            {
                eprintln!(
                    "meshfilter: {given} is read as the host {host} and the path {path}; a path begins with /: /{given}"
                );
            }
            let mut request =
                Request { path: path.into_bytes(), tls: tls.unwrap_or(false), ..Request::default() };
            if let Some(host) = host {
                request.host = host.into_bytes();
            }
            Recorded { request, ..Recorded::default() }
        }
    };
    let request = &mut recorded.request;
    if let Some(method) = &arguments.method {
        request.method.clone_from(method);
    }
    for header in &arguments.headers {
        let parts = header.split_once(':').filter(|(name, _)| !name.trim().is_empty());
        let (name, value) =
            parts.ok_or_else(|| format!("-H {header:?} is no header; write 'name: value'"))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().as_bytes().to_vec());
        match name.as_str() {
            "host" => request.host = value,
            _ => request.headers.push((name, value)),
        }
    }
    if let Some(token) = token(arguments)? {
        request.headers.push(("authorization".to_owned(), format!("Bearer {token}").into_bytes()));
    }
    request.peer = arguments.peer.clone().or(request.peer.take());
    request.direct = arguments.source_ip.or(request.direct);
    request.source = arguments.remote_ip.or(request.source);
    request.port = arguments.port.unwrap_or(request.port);
    request.tls |= arguments.tls;
    let claims = match &arguments.claims {
        Some(given) => Some(claims(given)?),
        None => recorded.claims.take(),
    };
    Ok((recorded, claims))
}

fn token(arguments: &Arguments) -> Result<Option<String>, String> {
    let Some(token) = &arguments.token else { return Ok(None) };
    if token != "-" {
        return Ok(Some(token.clone()));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| format!("--token -: {error}"))?;
    Ok(Some(text.trim().to_owned()))
}

fn claims(given: &str) -> Result<Map<String, Value>, String> {
    let text = if given.trim_start().starts_with('{') {
        given.to_owned()
    } else {
        std::fs::read_to_string(given).map_err(|error| format!("--claims {given}: {error}"))?
    };
    serde_json::from_str(&text).map_err(|error| format!("--claims: no JSON object: {error}"))
}
