//! `HOST:PORT`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde_json::{Value, json};

/// A host, by its name or its address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Without brackets.
    pub host: String,
    /// 0 is any free one, where something listens.
    pub port: u16,
}

impl Address {
    /// A host and a port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Address { host: host.into(), port }
    }

    /// The host, if it is an address and no name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// As Envoy has it.
    pub fn value(&self) -> Value {
        json!({"socket_address": {"address": self.host, "port_value": self.port}})
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::new(address.ip().to_string(), address.port())
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not HOST:PORT; use one such as 127.0.0.1:10000");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = |host: &str| {
            host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
                || host.parse::<IpAddr>().is_ok()
        };
        let host = bare.unwrap_or(host);
        if host.is_empty() || !is_host(host) || (host.contains(':') && bare.is_none()) {
            return Err(wrong());
        }
        Ok(Address::new(host, port.parse().map_err(|_| wrong())?))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written() {
        for text in ["127.0.0.1:10000", "[::1]:80", "webapp.shop:8080", "v_1:1"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "10000", ":80", "::1:80", "a b:80", "a:65536", "a:", "http://a:80"] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error, format!("\"{text}\" is not HOST:PORT; use one such as 127.0.0.1:10000"));
        }
    }
}
