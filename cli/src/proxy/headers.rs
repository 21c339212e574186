//! What Envoy's connection manager hands to its filters, and what it makes of their answers.

use std::collections::BTreeMap;

use meshfilter::host::{HeaderMap, LocalReply};

use super::{LOOPBACK, Request, socket};

/// Names in lower case, and values.
pub type Headers = Vec<(String, Vec<u8>)>;

/// What an edge takes out of clients' requests: `use_remote_address` makes one of the listener.
const OF_THE_EDGE: [&str; 18] = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-path",
    "x-envoy-original-url",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
];

pub(super) fn of_request(request: &Request, context: u32) -> HeaderMap<'static> {
    let scheme = if request.tls { "https" } else { "http" };
    let mut headers = HeaderMap::default();
    headers.add(b":authority", &request.host);
    headers.add(b":path", &request.path);
    headers.add(b":method", request.method.as_bytes());
    headers.add(b":scheme", scheme.as_bytes());
    for (name, value) in &request.headers {
        let name = name.to_ascii_lowercase();
        if OF_THE_EDGE.contains(&name.as_str()) {
            continue;
        }
        match headers.get(name.as_bytes()).map(<[u8]>::to_vec) {
            // Envoy keeps one value of it; one that is empty adds nothing.
            Some(first) if name == "authorization" => {
                let both: Vec<&[u8]> =
                    [first.as_slice(), value].into_iter().filter(|value| !value.is_empty()).collect();
                headers.remove(name.as_bytes());
                headers.add(name.as_bytes(), &both.join(b",".as_slice()));
            }
            _ => headers.add(name.as_bytes(), value),
        }
    }
    let source = request.source.map_or("127.0.0.1".to_owned(), |source| format!("{source},127.0.0.1"));
    headers.add(b"x-forwarded-for", source.as_bytes());
    headers.add(b"x-forwarded-proto", scheme.as_bytes());
    headers.remove(b"x-request-id");
    headers.add(b"x-request-id", format!("00000000-0000-4000-8000-{context:012}").as_bytes());
    headers
}

pub(super) fn properties(request: &Request, headers: &HeaderMap) -> BTreeMap<String, Vec<u8>> {
    let header = |name: &str| headers.get(name.as_bytes()).unwrap_or_default().to_vec();
    let direct = request.direct.unwrap_or(LOOPBACK);
    let source = request.source.unwrap_or(direct);
    let number = |value: i64| value.to_le_bytes().to_vec();
    let path = header(":path");
    let url_path = path.split(|byte| *byte == b'?').next().unwrap_or_default().to_vec();
    let mtls = request.peer.is_some();
    let mut properties: BTreeMap<String, Vec<u8>> = [
        ("source.address", socket(source, 40_000)),
        ("source.port", number(40_000)),
        ("destination.address", socket(LOOPBACK, request.port)),
        ("destination.port", number(request.port.into())),
        ("request.url_path", url_path),
        ("request.path", path),
        ("request.host", header(":authority")),
        ("request.method", header(":method")),
        ("request.scheme", header(":scheme")),
        ("request.id", header("x-request-id")),
        ("request.protocol", b"HTTP/1.1".to_vec()),
        ("connection.mtls", vec![mtls.into()]),
        ("xds.route_name", super::FALLBACK.as_bytes().to_vec()),
        ("plugin_name", b"meshfilter".to_vec()),
        ("plugin_root_id", b"meshfilter".to_vec()),
        ("plugin_vm_id", b"meshfilter".to_vec()),
        // What the filter in front hands over.
        ("filter_state.meshfilter.direct_remote_address", direct.to_string().into_bytes()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if let Some(peer) = &request.peer {
        properties.insert("connection.uri_san_peer_certificate".to_owned(), peer.clone().into_bytes());
    }
    properties.extend(request.properties.clone());
    properties
}

/// Whether it is a gRPC call, by Envoy's rule.
pub fn is_grpc(request: &HeaderMap) -> bool {
    let rest = request.get(b"content-type").and_then(|value| value.strip_prefix(b"application/grpc"));
    matches!(rest, Some([] | [b'+', ..]))
}

/// What Envoy makes of a local reply, for gRPC callers trailers alone.
pub(super) fn local_reply(reply: &LocalReply, grpc: bool, head: bool) -> (HeaderMap<'static>, Vec<u8>) {
    let mut headers = HeaderMap::default();
    if grpc {
        let status = reply.grpc_status.unwrap_or(match reply.status {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502..=504 => 14,
            _ => 2,
        });
        headers.add(b":status", b"200");
        headers.add(b"content-type", b"application/grpc");
        headers.add(b"grpc-status", status.to_string().as_bytes());
        if !reply.body.is_empty() && !head {
            headers.add(b"grpc-message", &reply.body);
        }
    } else {
        headers.add(b":status", reply.status.to_string().as_bytes());
        if !reply.body.is_empty() {
            headers.add(b"content-length", reply.body.len().to_string().as_bytes());
            headers.add(b"content-type", b"text/plain");
        }
    }
    for (name, value) in &reply.headers {
        if name == "content-type" {
            if grpc {
                continue;
            }
            headers.remove(b"content-type");
        }
        headers.add(name.as_bytes(), value);
    }
    let body = if grpc || head { Vec::new() } else { reply.body.clone() };
    (headers, body)
}

pub(super) fn pairs(headers: &HeaderMap) -> Headers {
    headers.iter().map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.to_vec())).collect()
}

pub(super) fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}
