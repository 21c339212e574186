//! The sample bootstrap with its two upstreams, and requests for it.

use std::net::SocketAddr;
use std::time::SystemTime;

use serde_json::{Map, json};

use crate::support::envoy::{Envoy, Sample};
use crate::support::http::{self, Response, Upstream};
use crate::support::token;

/// The upstreams of the sample's clusters.
pub struct Upstreams {
    v1: Upstream,
    v2: Upstream,
}

impl Upstreams {
    pub fn start() -> Self {
        Upstreams { v1: Upstream::echo("v1").unwrap(), v2: Upstream::echo("v2").unwrap() }
    }

    /// The sample with these upstreams.
    pub fn sample(&self) -> Sample {
        let (v1, v2) = (self.v1.address(), self.v2.address());
        Sample::new(&[("webapp|v1", v1), ("webapp|v2", v2), ("default", v1)]).unwrap()
    }
}

/// A token that the sample's policy takes.
pub fn bearer(user: &str, tenant: &str) -> String {
    bearer_until(user, tenant, "+1h")
}

/// The same with another end.
pub fn bearer_until(user: &str, tenant: &str, end: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let claims = json!({
        "iss": "https://auth.example.com", "aud": "webapp-api", "sub": user, "tenant": tenant, "exp": end,
    });
    format!("Bearer {}", token::sign("ec256", "ES256", &Map::new(), &claims, now).unwrap())
}

/// A proxy with one listener.
pub struct Proxy {
    pub envoy: Envoy,
    address: SocketAddr,
}

impl Proxy {
    pub fn new(envoy: Envoy) -> Self {
        let address = envoy.address().unwrap();
        Proxy { envoy, address }
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        http::request(self.address, path, headers).unwrap()
    }
}
