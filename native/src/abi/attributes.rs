//! The attributes that the ABI has, by their names and its numbers. Maps and messages are not among them.

use std::ffi::c_int;

use AttributeKind::{Number, Text, Truth};

/// How the ABI gives an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeKind {
    Text,
    Number,
    Truth,
}

/// An attribute that Envoy can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub id: c_int,
    pub kind: AttributeKind,
}

/// Sorted by name.
const ATTRIBUTES: [(&str, c_int, AttributeKind); 57] = [
    ("connection.dns_san_local_certificate", 34, Text),
    ("connection.dns_san_peer_certificate", 35, Text),
    ("connection.id", 28, Number),
    ("connection.mtls", 29, Truth),
    ("connection.requested_server_name", 30, Text),
    ("connection.sha256_peer_certificate_digest", 38, Text),
    ("connection.subject_local_certificate", 32, Text),
    ("connection.subject_peer_certificate", 33, Text),
    ("connection.termination_details", 40, Text),
    ("connection.tls_version", 31, Text),
    ("connection.transport_failure_reason", 39, Text),
    ("connection.uri_san_local_certificate", 36, Text),
    ("connection.uri_san_peer_certificate", 37, Text),
    ("destination.address", 26, Text),
    ("destination.port", 27, Number),
    ("request.duration", 12, Number),
    ("request.host", 2, Text),
    ("request.id", 9, Text),
    ("request.method", 4, Text),
    ("request.path", 0, Text),
    ("request.protocol", 10, Text),
    ("request.query", 11, Text),
    ("request.referer", 6, Text),
    ("request.scheme", 3, Text),
    ("request.size", 13, Number),
    ("request.time", 8, Number),
    ("request.total_size", 14, Number),
    ("request.url_path", 1, Text),
    ("request.useragent", 7, Text),
    ("response.backend_latency", 23, Number),
    ("response.code", 15, Number),
    ("response.code_details", 16, Text),
    ("response.flags", 17, Number),
    ("response.grpc_status", 18, Number),
    ("response.size", 21, Number),
    ("response.total_size", 22, Number),
    ("source.address", 24, Text),
    ("source.port", 25, Number),
    ("upstream.address", 41, Text),
    ("upstream.cx_pool_ready_duration", 54, Number),
    ("upstream.dns_san_local_certificate", 46, Text),
    ("upstream.dns_san_peer_certificate", 47, Text),
    ("upstream.local_address", 51, Text),
    ("upstream.port", 42, Number),
    ("upstream.request_attempt_count", 53, Number),
    ("upstream.sha256_peer_certificate_digest", 50, Text),
    ("upstream.subject_local_certificate", 44, Text),
    ("upstream.subject_peer_certificate", 45, Text),
    ("upstream.tls_version", 43, Text),
    ("upstream.transport_failure_reason", 52, Text),
    ("upstream.uri_san_local_certificate", 48, Text),
    ("upstream.uri_san_peer_certificate", 49, Text),
    ("xds.cluster_name", 57, Text),
    ("xds.filter_chain_name", 66, Text),
    ("xds.listener_direction", 59, Number),
    ("xds.route_name", 61, Text),
    ("xds.virtual_host_name", 63, Text),
];

impl Attribute {
    /// The attribute of this path, such as `["source", "address"]`; `None` where the ABI has none.
    pub fn of(path: &[&str]) -> Option<Self> {
        let order = |name: &str| name.split('.').cmp(path.iter().copied());
        let place = ATTRIBUTES.binary_search_by(|(name, ..)| order(name)).ok()?;
        ATTRIBUTES.get(place).map(|&(_, id, kind)| Attribute { id, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_is_found_by_its_path() {
        for (name, id, kind) in ATTRIBUTES {
            let path: Vec<&str> = name.split('.').collect();
            assert_eq!(Attribute::of(&path), Some(Attribute { id, kind }), "{name}");
        }
        for path in [&["source"][..], &["source", "address", "x"], &["wasm", "x"], &[]] {
            assert_eq!(Attribute::of(path), None, "{path:?}");
        }
    }
}
