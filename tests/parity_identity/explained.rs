//! The same request for `explain`, and what came of it in Envoy.

use std::net::IpAddr;

use meshfilter_cli::proxy::{self, FALLBACK, Normalized, normalize};

use crate::support::check::{Answer, Exchange};
use crate::support::http::{Response, Upstream};
use crate::traffic::Request;

/// The request as the connection manager hands it on. None where Envoy itself refuses it, or where its client is named in a
/// way that `explain` takes no options for.
pub fn request(request: &Request, normalized: bool) -> Option<proxy::Request> {
    let mut headers = Vec::new();
    let mut source = None;
    for (name, value) in &request.headers {
        match name.as_str() {
            "x-forwarded-for" => source = Some(value.parse::<IpAddr>().ok()?),
            _ => headers.push((name.to_ascii_lowercase(), value.trim().as_bytes().to_vec())),
        }
    }
    let path = match normalized {
        true => match normalize(request.path.as_bytes()) {
            Normalized::Path(path) => path,
            Normalized::Refused => return None,
        },
        false => request.path.as_bytes().to_vec(),
    };
    Some(proxy::Request {
        method: request.method.to_owned(),
        path,
        host: request.host.as_bytes().to_vec(),
        headers,
        source,
        ..proxy::Request::default()
    })
}

/// What came back, and what the upstream saw if it was asked.
pub fn exchange(response: &Response, upstream: &Upstream) -> Exchange {
    let passed = response.header("x-upstream").is_some();
    let mut seen = upstream.last().filter(|_| passed);
    if let Some(seen) = &mut seen {
        seen.cluster = FALLBACK.to_owned();
    }
    let details = if passed { Some("via_upstream".to_owned()) } else { response.header("x-details") };
    let answer = Answer {
        status: Some(response.status),
        headers: response.headers.clone(),
        body: response.body.clone(),
        details: details.unwrap_or_default(),
        upstream: seen,
        ..Answer::default()
    };
    Exchange { answer, ..Exchange::default() }
}
