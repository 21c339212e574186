/// Who the peer's certificate says it is: its SPIFFE id, taken apart as Istio's expressions do.
#[derive(Debug)]
pub struct Identity<'a> {
    /// Without `spiffe://`.
    pub principal: &'a [u8],
    /// Up to the first slash; none where there is no slash.
    pub trust_domain: Option<&'a [u8]>,
    /// What stands behind an `ns`.
    pub namespaces: Vec<&'a [u8]>,
    /// `namespace/account`.
    pub service_accounts: Vec<Vec<u8>>,
}

const SCHEME: &[u8] = b"spiffe://";

/// The longest SPIFFE id there is, in bytes.
const MAX_LENGTH: usize = 2048;

impl<'a> Identity<'a> {
    /// Reads the URI of a certificate. One that is no SPIFFE id is no identity.
    pub fn parse(uri: &'a [u8]) -> Option<Self> {
        let principal = uri.strip_prefix(SCHEME).filter(|_| uri.len() <= MAX_LENGTH)?;
        let segments: Vec<&[u8]> = principal.split(|byte| *byte == b'/').collect();
        let trust_domain = segments.first().copied().filter(|_| segments.len() > 1);
        let mut identity =
            Identity { principal, trust_domain, namespaces: Vec::new(), service_accounts: Vec::new() };
        // `…/ns/NAMESPACE/…`: the trust domain is no segment of this.
        for (at, window) in segments.windows(2).enumerate().skip(1) {
            let [b"ns", namespace] = window else { continue };
            let rest = segments.get(at.saturating_add(2)..).unwrap_or_default();
            if !rest.is_empty() {
                identity.namespaces.push(namespace);
            }
            identity.add_service_accounts(namespace, rest);
        }
        Some(identity)
    }

    /// `…/sa/ACCOUNT` at the end, or `…/sa/ACCOUNT/…` with something behind the slash.
    fn add_service_accounts(&mut self, namespace: &[u8], rest: &[&[u8]]) {
        for (at, window) in rest.windows(2).enumerate() {
            let [b"sa", account] = window else { continue };
            let behind = rest.get(at.saturating_add(2)..).unwrap_or_default();
            if !matches!(behind, [b""]) {
                self.service_accounts.push([namespace, b"/", account].concat());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_id_is_taken_apart() {
        let identity = Identity::parse(b"spiffe://cluster.local/ns/default/sa/frontend").unwrap();
        assert_eq!(identity.principal, b"cluster.local/ns/default/sa/frontend");
        assert_eq!(identity.trust_domain, Some(&b"cluster.local"[..]));
        assert_eq!(identity.namespaces, [b"default"]);
        assert_eq!(identity.service_accounts, [b"default/frontend"]);
    }

    #[test]
    fn more_segments_are_allowed_as_istio_allows_them() {
        let identity = Identity::parse(b"spiffe://td/k/v/ns/a/env/prod/sa/b/pod/c").unwrap();
        assert_eq!(identity.namespaces, [b"a"]);
        assert_eq!(identity.service_accounts, [b"a/b"]);
    }

    #[test]
    fn what_is_no_spiffe_id_is_no_identity() {
        for uri in ["", "spiffe:/td", "https://td/ns/a/sa/b", "SPIFFE://td/ns/a/sa/b", "td/ns/a/sa/b"] {
            assert!(Identity::parse(uri.as_bytes()).is_none(), "{uri}");
        }
        assert!(Identity::parse(&[SCHEME, &[b'a'; 2048]].concat()).is_none());
        let bare = Identity::parse(b"spiffe://td").unwrap();
        assert_eq!((bare.trust_domain, bare.namespaces.len(), bare.service_accounts.len()), (None, 0, 0));
        let short = Identity::parse(b"spiffe://td/ns/a").unwrap();
        assert!(short.namespaces.is_empty(), "a namespace has something behind it");
        assert!(Identity::parse(b"spiffe://td/ns/a/sa/b/").unwrap().service_accounts.is_empty());
        assert!(Identity::parse(b"spiffe://ns/a/sa/b").unwrap().namespaces.is_empty());
    }
}
