use meshfilter::host::{HeaderMap, LocalReply};

use crate::abi::{Filter, HeaderMapKind, ModuleHeader};

/// An answer to a request that Envoy is about to make, as the response phase sees it.
///
/// Envoy calls no hook of a filter for the response headers of that filter's own reply, so what is edited in this phase is
/// edited here, before Envoy hears of it.
pub struct Reply {
    local: Box<LocalReply>,
    /// `grpc-status`, for a gRPC request.
    ///
    /// Envoy makes of a reply to one a response with status 200, and says `grpc-status: 0` whatever the code, unless the
    /// reply has that header.
    grpc_status: Option<String>,
}

/// What Envoy sets by itself; of these a filter's reply can only bring a content type.
const STATUS: &[u8] = b":status";
const LENGTH: &[u8] = b"content-length";
const TYPE: &[u8] = b"content-type";

impl Reply {
    pub fn new(local: Box<LocalReply>, filter: Filter) -> Self {
        let is_grpc = |value: &[u8]| matches!(value.strip_prefix(b"application/grpc"), Some([] | [b'+', ..]));
        let grpc = filter.with_header(HeaderMapKind::Request, "content-type", is_grpc).unwrap_or(false);
        let status = || local.grpc_status.unwrap_or_else(|| grpc_status(local.status)).to_string();
        Reply { grpc_status: grpc.then(status), local }
    }

    /// The response's headers as they stand before any edit.
    pub fn headers(&self) -> HeaderMap<'static> {
        let mut headers = HeaderMap::default();
        let status = if self.grpc_status.is_some() { 200 } else { self.local.status };
        headers.add(STATUS, status.to_string().as_bytes());
        for (name, value) in &self.local.headers {
            headers.add(name.as_bytes(), value);
        }
        if let Some(status) = &self.grpc_status {
            headers.add(b"grpc-status", status.as_bytes());
        }
        if headers.get(TYPE).is_none() && !self.local.body.is_empty() {
            headers.add(TYPE, self.usual_type());
        }
        headers.add(LENGTH, self.local.body.len().to_string().as_bytes());
        headers
    }

    /// Answers the request, with these headers.
    pub fn send(&self, headers: &HeaderMap<'_>, filter: Filter) {
        let by_envoy = |name: &[u8], value: &[u8]| {
            name == STATUS || name == LENGTH || (name == TYPE && value == self.usual_type())
        };
        let headers: Vec<ModuleHeader> = headers
            .iter()
            .filter(|(name, value)| !by_envoy(name, value))
            .map(|(name, value)| ModuleHeader::new(name, value))
            .collect();
        // Spaces would end a field of the access log.
        let details = self.local.details.replace(|byte: char| byte.is_ascii_whitespace(), "_");
        filter.send_response(self.local.status.into(), &headers, &self.local.body, &details);
    }

    fn usual_type(&self) -> &'static [u8] {
        if self.grpc_status.is_some() { b"application/grpc" } else { b"text/plain" }
    }
}

/// Envoy's mapping of an HTTP status (`Grpc::Utility::httpToGrpcStatus`, after gRPC's own `http-grpc-status-mapping`).
fn grpc_status(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}
