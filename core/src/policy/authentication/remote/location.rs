use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use meshfilter_json::{self as json, Errors};

/// Where something is on the server that a cluster stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Host and port, as they stand in the URL.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

impl Url {
    /// Reads an absolute URL. Its host says what to ask the cluster for, never where to connect to.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("\"{text}\" is not the address of a key set; use one such as https://host/path");
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong());
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
            return Err(wrong());
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).ok_or_else(wrong)?;
        if authority.is_empty() || authority.contains(['@', '\\']) {
            return Err(wrong());
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Url { authority: authority.to_owned(), path: format!("{slash}{path}") })
    }
}

/// How a key set is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// It is there.
    KeySet(Url),
    /// The issuer's configuration says where (OpenID Connect Discovery 1.0).
    Discovery {
        /// Who must have written the configuration.
        issuer: String,
        /// Where the configuration is.
        configuration: Url,
    },
}

impl Location {
    /// Discovery at an issuer.
    ///
    /// # Errors
    /// Why the issuer's name is no place to ask at.
    pub fn discover(issuer: &str) -> Result<Self, String> {
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let configuration = Url::parse(&url).map_err(|_| {
            format!("the issuer \"{issuer}\" is no address to find its keys at; give jwks or jwksUri")
        })?;
        Ok(Location::Discovery { issuer: issuer.to_owned(), configuration })
    }

    /// What is fetched first.
    pub fn first(&self) -> &Url {
        match self {
            Location::KeySet(url) | Location::Discovery { configuration: url, .. } => url,
        }
    }

    /// How many fetches it takes.
    pub fn steps(&self) -> u32 {
        match self {
            Location::KeySet(_) => 1,
            Location::Discovery { .. } => 2,
        }
    }

    /// Names this location on this cluster in the data that all workers share.
    pub fn shared_key(&self, cluster: &str) -> String {
        let mut hash = SipHasher13::new();
        let issuer = match self {
            Location::KeySet(_) => "",
            Location::Discovery { issuer, .. } => issuer,
        };
        for part in [cluster, issuer, &self.first().authority, &self.first().path] {
            hash.write(part.as_bytes());
            // No part has this byte, so that no two lists of parts are written alike.
            hash.write_u8(0xff);
        }
        format!("meshfilter.jwks.{:016x}", hash.finish())
    }
}

/// Where an issuer's configuration says that its key set is.
pub fn jwks_uri(configuration: &[u8], issuer: &str) -> Option<Url> {
    let configuration = json::parse(configuration, &Errors::default()).ok()?;
    // OpenID Connect Discovery 1.0, 4.3: the very issuer that was asked. A slash at its end went into the question.
    let says = configuration.get("issuer")?.as_str()?;
    if says.trim_end_matches('/') != issuer.trim_end_matches('/') {
        return None;
    }
    Url::parse(configuration.get("jwks_uri")?.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (text, authority, path) in [
            ("https://a.example/jwks.json", "a.example", "/jwks.json"),
            ("HTTP://a.example:8080", "a.example:8080", "/"),
            ("https://[::1]:8443/k?x=/y#z", "[::1]:8443", "/k?x=/y"),
            ("https://a.example?x=1", "a.example", "/?x=1"),
        ] {
            let url = Url { authority: authority.to_owned(), path: path.to_owned() };
            assert_eq!(Url::parse(text), Ok(url), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_says_what_would_be() {
        for text in [
            "",
            "a.example/jwks",
            "ftp://a/b",
            "https://",
            "https:///x",
            "https://u@a/x",
            "https://a b/",
            "https://a/\r\nx",
            "https://é/",
        ] {
            let error = Url::parse(text).unwrap_err();
            assert!(
                error.ends_with("is not the address of a key set; use one such as https://host/path"),
                "{error}"
            );
        }
        assert_eq!(
            Location::discover("auth-service").unwrap_err(),
            "the issuer \"auth-service\" is no address to find its keys at; give jwks or jwksUri"
        );
    }

    #[test]
    fn discovery_asks_at_the_issuer_and_believes_nobody_else() {
        for issuer in ["https://a.example/tenant", "https://a.example/tenant/"] {
            let location = Location::discover(issuer).unwrap();
            assert_eq!(location.first().path, "/tenant/.well-known/openid-configuration");
        }
        let find = |configuration: Value| jwks_uri(configuration.to_string().as_bytes(), "https://a.example");
        let uri = "https://keys.example/k";
        assert_eq!(find(json!({"issuer": "https://a.example", "jwks_uri": uri})).unwrap().path, "/k");
        assert!(find(json!({"issuer": "https://a.example/", "jwks_uri": uri})).is_some());
        for bad in [
            json!({"issuer": "https://b.example", "jwks_uri": uri}),
            json!({"jwks_uri": uri}),
            json!({"issuer": "https://a.example"}),
            json!({"issuer": "https://a.example", "jwks_uri": "file:///etc/passwd"}),
            json!([]),
        ] {
            assert_eq!(find(bad.clone()), None, "{bad}");
        }
    }

    #[test]
    fn what_is_fetched_from_somewhere_else_is_kept_somewhere_else() {
        let key = |uri: &str, cluster: &str| Location::KeySet(Url::parse(uri).unwrap()).shared_key(cluster);
        let one = key("https://a/x", "c");
        assert_eq!(one, key("https://a/x", "c"));
        assert!(one.starts_with("meshfilter.jwks."));
        for other in [key("https://a/y", "c"), key("https://b/x", "c"), key("https://a/x", "d")] {
            assert_ne!(one, other);
        }
    }
}
