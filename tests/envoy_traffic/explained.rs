//! The same request for `explain`, and what came of it in Envoy.

use meshfilter_cli::proxy::{self, Seen};
use serde_json::Value;

use crate::pair::{Answer, Request};
use crate::support::check::{self, Exchange, Headers};

/// What upstreams do when a request says so is nothing that `explain` knows.
const FOR_UPSTREAMS: [&str; 3] = ["x-fail", "x-slow", "x-fail-status"];

/// None where only the upstream decides, or where it cannot tell what it saw.
pub fn of(request: &Request, answer: &Answer) -> Option<(proxy::Request, Exchange)> {
    let for_upstreams = |(name, _): &(String, String)| FOR_UPSTREAMS.contains(&name.as_str());
    let passed = answer.header("x-upstream").is_some();
    // Envoy itself refuses what is not ASCII.
    if !request.path.is_ascii()
        || request.headers.iter().any(for_upstreams)
        || (passed && answer.body.is_empty())
    {
        return None;
    }
    let asked = proxy::Request {
        method: request.method.to_owned(),
        path: request.path.clone().into_bytes(),
        host: request.host.as_bytes().to_vec(),
        headers: bytes(&request.headers),
        ..proxy::Request::default()
    };
    let seen = serde_json::from_str::<Value>(&answer.body).ok().filter(|_| passed);
    let came = check::Answer {
        status: Some(answer.status),
        headers: bytes(&answer.headers),
        body: answer.body.clone().into_bytes(),
        upstream: seen.map(|seen| Seen {
            cluster: text(&seen["upstream"]),
            path: text(&seen["path"]).into_bytes(),
            headers: serde_json::from_value::<Vec<(String, String)>>(seen["headers"].clone())
                .map(|headers| bytes(&headers))
                .unwrap_or_default(),
            body: Vec::new(),
        }),
        ..check::Answer::default()
    };
    Some((asked, Exchange { answer: came, ..Exchange::default() }))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn bytes(headers: &[(String, String)]) -> Headers {
    headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone().into_bytes())).collect()
}
