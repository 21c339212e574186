//! What the peer's certificate says: principals, namespaces, service accounts, trust domains.

use super::super::Path;
use super::Section;
use super::values::{NOT_EMPTY, PRESENT};
use crate::document::AuthorizationValue;
use meshfilter_core::matchers::Wildcard;
use meshfilter_core::matchers::regex::escape;
use meshfilter_core::policy::authorization::{Attribute, Condition};

/// MeshConfig's default; in a principal it always names the mesh's own domain.
const LOCAL_DOMAIN: &str = "cluster.local";

/// Istio's limits on service accounts.
const MAX_ACCOUNTS: usize = 16;
const MAX_ACCOUNT_LENGTH: usize = 320;

impl Section<'_> {
    pub(super) fn needs_identity(&self) {
        self.peer_uri.set(Some(self.cx.attribute(&["connection", "uri_san_peer_certificate"])));
    }

    pub(super) fn principals(&self, values: &[AuthorizationValue], path: &Path<'_>) -> Option<Condition> {
        self.needs_identity();
        let expanded = self.expand(values, path, |text, place| {
            if text.starts_with("spiffe://") {
                self.cx.errors.add(
                    place,
                    format_args!(
                        "\"{text}\" begins with spiffe://; leave that off, as in cluster.local/ns/a/sa/b"
                    ),
                );
            }
            self.with_aliases(text)
        });
        let expanded = expanded.iter().map(|(index, value)| (*index, value));
        let values = self.indexed(expanded, path, |text, path| NOT_EMPTY.text(text, path, self.cx));
        Some(Condition::Text(Attribute::Principal, values))
    }

    pub(super) fn trust_domains(&self, values: &[AuthorizationValue], path: &Path<'_>) -> Option<Condition> {
        self.needs_identity();
        let domains: Vec<&str> = self.domains().collect();
        let expanded = self.expand(values, path, |text, place| {
            let inner = text.strip_prefix('*').or_else(|| text.strip_suffix('*')).unwrap_or(text);
            if text.contains('/') || inner.contains('*') {
                self.cx.errors.add(
                    place,
                    format_args!(
                        "\"{text}\" is not a trust domain; use one such as cluster.local, prod.*, *.example"
                    ),
                );
            }
            let known = domains.contains(&text);
            if known {
                domains.iter().map(|&domain| domain.to_owned()).collect()
            } else {
                vec![text.to_owned()]
            }
        });
        let expanded = expanded.iter().map(|(index, value)| (*index, value));
        let values = self.indexed(expanded, path, |text, path| PRESENT.text(text, path, self.cx));
        Some(Condition::Text(Attribute::TrustDomain, values))
    }

    pub(super) fn namespaces(&self, values: &[AuthorizationValue], path: &Path<'_>) -> Option<Condition> {
        self.needs_identity();
        let values = self.values(values, path, |text, place| {
            if text.contains('/') {
                self.cx.errors.add(
                    place,
                    format_args!("\"{text}\" is not a namespace; use its name alone, such as default"),
                );
            }
            // Unlike elsewhere, a `*` is a wildcard wherever it stands.
            let stars = text.bytes().filter(|byte| *byte == b'*').count();
            if stars < 2 && (stars == 0 || text.starts_with('*') || text.ends_with('*')) {
                return PRESENT.text(text, place, self.cx);
            }
            let parts: Vec<String> = text.split('*').map(escape).collect();
            PRESENT
                .regex(&parts.join(".*"), place, self.cx)
                .unwrap_or(Wildcard::Exact(text.as_bytes().into()))
        });
        Some(Condition::Text(Attribute::Namespace, values))
    }

    pub(super) fn service_accounts(
        &self,
        values: &[AuthorizationValue],
        path: &Path<'_>,
    ) -> Option<Condition> {
        self.needs_identity();
        if values.len() > MAX_ACCOUNTS {
            let message = format_args!("more than {MAX_ACCOUNTS} service accounts; split the rule");
            self.cx.errors.add(path, message);
        }
        let values =
            self.values(values, path, |text, place| Wildcard::Exact(self.account(text, place).into()));
        Some(Condition::Text(Attribute::ServiceAccount, values))
    }

    /// `namespace/account`.
    fn account(&self, text: &str, path: &Path<'_>) -> Vec<u8> {
        let wrong = text.len() > MAX_ACCOUNT_LENGTH
            || text.contains('*')
            || text.split('/').any(str::is_empty)
            || text.split('/').count() > 2;
        if wrong {
            let message =
                format_args!("\"{text}\" is not a service account; use namespace/account or account");
            self.cx.errors.add(path, message);
        }
        match (&self.document.namespace, text.contains('/')) {
            (_, true) => text.to_owned(),
            (Some(namespace), false) => format!("{namespace}/{text}"),
            (None, false) => {
                let message = format_args!(
                    "\"{text}\" has no namespace; write namespace/{text}, or set namespace at the top"
                );
                self.cx.errors.add(path, message);
                text.to_owned()
            }
        }
        .into_bytes()
    }

    /// Replaces each string by several, which all keep its place in the document.
    fn expand(
        &self,
        values: &[AuthorizationValue],
        path: &Path<'_>,
        expand: impl Fn(&str, &Path<'_>) -> Vec<String>,
    ) -> Vec<(usize, AuthorizationValue)> {
        let one = |(index, value): (usize, &AuthorizationValue)| -> Vec<(usize, AuthorizationValue)> {
            match value {
                AuthorizationValue::Text(text) => {
                    let texts = expand(text, &path.index(index)).into_iter();
                    texts.map(|text| (index, AuthorizationValue::Text(text))).collect()
                }
                other => vec![(index, other.clone())],
            }
        };
        values.iter().enumerate().flat_map(one).collect()
    }

    /// The mesh's own trust domain and its aliases.
    fn domains(&self) -> impl Iterator<Item = &str> {
        std::iter::once(LOCAL_DOMAIN).chain(self.document.trust_domain_aliases.iter().map(String::as_str))
    }

    /// A principal of the mesh's own trust domain under each of its names, as Istio replaces them.
    fn with_aliases(&self, principal: &str) -> Vec<String> {
        let unchanged = || vec![principal.to_owned()];
        let Some((domain, rest)) = principal.split_once('/') else { return unchanged() };
        if principal.split('/').count() != 5 || domain == "*" {
            return unchanged();
        }
        let fits = |pattern: &str, name: &str| {
            pattern.strip_suffix('*').is_some_and(|start| name.starts_with(start))
                || pattern.strip_prefix('*').is_some_and(|end| name.ends_with(end))
        };
        if !self.domains().any(|own| own == domain || fits(own, domain) || fits(domain, own)) {
            return unchanged();
        }
        let mut principals: Vec<String> = Vec::new();
        for own in self.domains() {
            let kept = domain.strip_prefix('*').is_some_and(|end| own.ends_with(end));
            let renamed = if kept { principal.to_owned() } else { format!("{own}/{rest}") };
            if !principals.contains(&renamed) {
                principals.push(renamed);
            }
        }
        principals
    }
}
