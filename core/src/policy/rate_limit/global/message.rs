//! The messages of `envoy.service.ratelimit.v3.RateLimitService`, as far as a question and its answer need them, and
//! gRPC's frame around them.

use prost::Message;

/// The method's path.
pub const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// A gRPC message's prefix: whether it is compressed, and its length.
const PREFIX_LENGTH: usize = 5;

#[derive(Clone, PartialEq, Message)]
pub struct RateLimitRequest {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(message, repeated, tag = "2")]
    pub descriptors: Vec<RateLimitDescriptor>,
    #[prost(uint32, tag = "3")]
    pub hits_addend: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct RateLimitDescriptor {
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
    /// In place of the limit that the service is configured with.
    #[prost(message, optional, tag = "2")]
    pub limit: Option<RateLimitOverride>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct RateLimitOverride {
    #[prost(uint32, tag = "1")]
    pub requests_per_unit: u32,
    /// `envoy.type.v3.RateLimitUnit`.
    #[prost(int32, tag = "2")]
    pub unit: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct RateLimitResponse {
    #[prost(enumeration = "Code", tag = "1")]
    pub overall_code: i32,
    #[prost(message, repeated, tag = "2")]
    pub statuses: Vec<DescriptorStatus>,
    #[prost(message, repeated, tag = "3")]
    pub response_headers_to_add: Vec<HeaderValue>,
    #[prost(message, repeated, tag = "4")]
    pub request_headers_to_add: Vec<HeaderValue>,
    #[prost(bytes = "vec", tag = "5")]
    pub raw_body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Code {
    Unknown = 0,
    Ok = 1,
    OverLimit = 2,
}

#[derive(Clone, PartialEq, Message)]
pub struct DescriptorStatus {
    #[prost(enumeration = "Code", tag = "1")]
    pub code: i32,
    #[prost(message, optional, tag = "2")]
    pub current_limit: Option<CurrentLimit>,
    #[prost(uint32, tag = "3")]
    pub limit_remaining: u32,
    #[prost(message, optional, tag = "4")]
    pub duration_until_reset: Option<prost_types::Duration>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CurrentLimit {
    #[prost(uint32, tag = "1")]
    pub requests_per_unit: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct HeaderValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
    #[prost(bytes = "vec", tag = "3")]
    pub raw_value: Vec<u8>,
}

/// A message in gRPC's frame, uncompressed.
pub fn frame(message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut bytes = Vec::with_capacity(length.saturating_add(PREFIX_LENGTH));
    bytes.push(0);
    // A question is no longer than a request's headers and the policy's texts.
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes
}

/// The only message of a gRPC body; `None` if there is not exactly one, or if it is compressed.
pub fn unframe<M: Message + Default>(body: &[u8]) -> Option<M> {
    let (prefix, message) = body.split_first_chunk::<PREFIX_LENGTH>()?;
    let [compressed, length @ ..] = *prefix;
    let whole = usize::try_from(u32::from_be_bytes(length)) == Ok(message.len());
    (compressed == 0 && whole).then(|| M::decode(message).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_framed_as_grpc_has_it() {
        let entries = vec![Entry { key: "user".into(), value: "a".into() }];
        let question = RateLimitRequest {
            domain: "d".into(),
            descriptors: vec![RateLimitDescriptor { entries, limit: None }],
            hits_addend: 1,
        };
        let bytes = frame(&question);
        assert_eq!(bytes, b"\0\0\0\0\x12\x0a\x01d\x12\x0b\x0a\x09\x0a\x04user\x12\x01a\x18\x01");
        assert_eq!(unframe(&bytes), Some(question));
        let minute = RateLimitOverride { requests_per_unit: 100, unit: 2 };
        assert_eq!(frame(&minute), b"\0\0\0\0\x04\x08\x64\x10\x02");
    }

    #[test]
    fn anything_but_one_whole_message_is_no_answer() {
        for body in [
            b"".as_slice(),
            b"\0\0\0\0",
            b"\x01\0\0\0\0",
            b"\0\0\0\0\x03\x08\x01",
            b"\0\0\0\0\x01\x08\x01",
            b"\0\0\0\0\x02\x08\xff",
            b"\0\xff\xff\xff\xff\x08\x01",
        ] {
            assert_eq!(unframe::<RateLimitResponse>(body), None, "{body:?}");
        }
        assert!(unframe::<RateLimitResponse>(b"\0\0\0\0\x02\x08\x02").is_some());
        assert!(unframe::<RateLimitResponse>(b"\0\0\0\0\0").is_some(), "all defaults");
    }
}
