//! What a client hears that is refused: status, body, `WWW-Authenticate` and details of Envoy's jwt_authn filter.

use super::Status;
use crate::host::LocalReply;
use crate::request::Request;

/// Why tokens do not suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// As Envoy's filter has it.
    Token(Status),
    /// The token is good, but a rule's `requiredClaims` do not hold.
    Claims,
}

/// How much of the path stands in a realm, as in Envoy's filter.
const MAX_REALM_PATH: usize = 256;

impl Failure {
    /// There is no token.
    pub const MISSING: Failure = Failure::Token(Status::JwtMissed);
    /// The key set cannot be had.
    pub const KEYS: Failure = Failure::Token(Status::JwksFetchFail);

    /// Whether there is no token.
    pub fn is_missing(self) -> bool {
        self == Failure::MISSING
    }

    /// Whether the token is one of another issuer.
    pub fn is_unknown_issuer(self) -> bool {
        self == Failure::Token(Status::JwtUnknownIssuer)
    }

    /// The body of the answer.
    pub fn text(self) -> &'static str {
        match self {
            Failure::Token(status) => status.message(),
            Failure::Claims => "Claims in Jwt are not allowed",
        }
    }

    /// 401, 403 for a good token that is not meant for this, and 503 where it is not the client's fault.
    fn http_status(self) -> u16 {
        match self {
            Failure::KEYS => 503,
            Failure::Token(Status::JwtAudienceNotAllowed) | Failure::Claims => 403,
            Failure::Token(_) => 401,
        }
    }

    /// The answer. For a gRPC call the proxy turns it into `grpc-status` and `grpc-message`.
    pub fn reply(self, request: &Request) -> LocalReply {
        let text = self.text();
        let headers = match self {
            Failure::KEYS => Vec::new(),
            _ => vec![("www-authenticate".to_owned(), self.challenge(request))],
        };
        LocalReply {
            status: self.http_status(),
            details: format!("jwt_authn_access_denied{{{}}}", text.replace(' ', "_")),
            body: text.as_bytes().to_vec(),
            headers,
            grpc_status: None,
        }
    }

    /// The realm is the request's own URI. Envoy's filter would take the path from `x-envoy-original-path`, which a
    /// client can send; here it is always the request's.
    fn challenge(self, request: &Request) -> Vec<u8> {
        let mut value = b"Bearer realm=\"".to_vec();
        let path = request.path_and_query();
        if !path.is_empty() {
            let path = path.get(..MAX_REALM_PATH).unwrap_or(path);
            let uri = [request.scheme(), b"://", request.authority(), path];
            for byte in uri.into_iter().flatten() {
                // What would end the quoted string is quoted itself.
                if matches!(byte, b'"' | b'\\') {
                    value.push(b'\\');
                }
                value.push(*byte);
            }
        }
        value.push(b'"');
        if !self.is_missing() {
            value.extend_from_slice(b", error=\"invalid_token\"");
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: Option<&str>) -> Request<'static> {
        let headers =
            [(":scheme", "https"), (":authority", "a.example:8443"), ("x-envoy-original-path", "/fake")];
        Request::new(headers.into_iter().chain(path.map(|path| (":path", path))).collect(), Vec::new(), 0)
    }

    fn challenge(failure: Failure, path: Option<&str>) -> String {
        let reply = failure.reply(&request(path));
        String::from_utf8(reply.headers[0].1.clone()).unwrap()
    }

    #[test]
    fn a_refusal_is_envoys() {
        let reply = Failure::Token(Status::JwtExpired).reply(&request(Some("/x?y=1")));
        assert_eq!(reply.status, 401);
        assert_eq!(reply.body, b"Jwt is expired");
        assert_eq!(reply.details, "jwt_authn_access_denied{Jwt_is_expired}");
        let expected = br#"Bearer realm="https://a.example:8443/x?y=1", error="invalid_token""#;
        assert_eq!(reply.headers, [("www-authenticate".to_owned(), expected.to_vec())]);
        assert_eq!(reply.grpc_status, None);
    }

    #[test]
    fn a_missing_token_is_no_invalid_one() {
        assert_eq!(challenge(Failure::MISSING, Some("/")), r#"Bearer realm="https://a.example:8443/""#);
        assert_eq!(challenge(Failure::MISSING, None), r#"Bearer realm="""#);
    }

    #[test]
    fn the_realm_is_cut_and_cannot_be_left() {
        let long = format!("/{}", "a".repeat(300));
        let expected = format!(r#"Bearer realm="https://a.example:8443/{}""#, "a".repeat(255));
        assert_eq!(challenge(Failure::MISSING, Some(&long)), expected);
        let quoted = challenge(Failure::MISSING, Some(r#"/", x="\"#));
        assert_eq!(quoted, r#"Bearer realm="https://a.example:8443/\", x=\"\\""#);
    }

    #[test]
    fn the_status_says_whose_fault_it_is() {
        assert_eq!(Failure::Token(Status::JwtAudienceNotAllowed).reply(&request(Some("/"))).status, 403);
        let claims = Failure::Claims.reply(&request(Some("/")));
        assert_eq!(
            (claims.status, claims.details.as_str()),
            (403, "jwt_authn_access_denied{Claims_in_Jwt_are_not_allowed}")
        );
        let keys = Failure::KEYS.reply(&request(Some("/")));
        assert_eq!((keys.status, keys.body.as_slice()), (503, b"Jwks remote fetch is failed".as_slice()));
        assert_eq!(keys.headers, [], "nothing that a token could change");
    }
}
