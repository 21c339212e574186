//! Who answers.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::{Address, kind, lay_over, put};

/// Servers under one name.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// What routes, key sets and rate limits call it.
    pub name: String,
    /// Its servers. Names are asked for again and again; where there are only addresses, nobody is asked.
    pub endpoints: Vec<Endpoint>,
    /// How long a connection may take to be made. Default 1 s.
    pub connect_timeout: Duration,
    /// Which HTTP it speaks.
    pub protocol: Protocol,
    /// TLS to its servers.
    pub tls: Option<UpstreamTls>,
    /// How a server is chosen; Envoy's default is round robin.
    pub balancing: Option<Balancing>,
    /// How much may be under way at once.
    pub limits: Option<CircuitBreakers>,
    /// When a server is left alone for a while.
    pub outlier_detection: Option<OutlierDetection>,
    /// What else Envoy has for a cluster, laid over the rest.
    pub fields: Map<String, Value>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Somewhere.
    At(Address),
    /// Somewhere, with its part of the load.
    Weighted(Address, u32),
    /// An internal listener of the same Envoy, by its name.
    Internal(String),
}

/// The HTTP of a cluster's servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, for gRPC.
    Http2,
    /// As the client came.
    AsTheClient,
}

/// TLS to servers whose names are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name to ask for.
    pub sni: Option<String>,
    /// The names that the certificate may have: DNS names, or URIs where they have `://`. None: any name that the
    /// authorities have signed.
    pub names: Vec<String>,
    /// The authorities, a file in PEM.
    pub authorities: PathBuf,
    /// Certificate chain and key of this side, in PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// How a server is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Balancing {
    /// One after the other.
    RoundRobin,
    /// Of two, the one with fewer requests.
    LeastRequest,
    /// Any.
    Random,
    /// By the hash that the route makes, on a ring.
    RingHash,
    /// By the hash that the route makes, in a table.
    Maglev,
}

/// How much may be under way at once. What is absent is Envoy's default.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CircuitBreakers {
    /// Connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pending_requests: Option<u32>,
    /// Requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u32>,
    /// Requests that are tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// In place of `max_retries`: a share of all requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudget>,
}

/// How many requests may be tried again.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RetryBudget {
    /// Of the requests under way.
    pub budget_percent: Percent,
    /// So many always may.
    pub min_retry_concurrency: u32,
}

/// Of a hundred.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percent {
    /// 0 to 100.
    pub value: f64,
}

/// When a server is left alone for a while. What is absent is Envoy's default.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OutlierDetection {
    /// After so many 5xx in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_5xx: Option<u32>,
    /// After so many 502, 503, 504 in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_gateway_failure: Option<u32>,
    /// Whether [`Self::consecutive_gateway_failure`] holds, percent of the times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforcing_consecutive_gateway_failure: Option<u32>,
    /// Whether [`Self::consecutive_5xx`] holds, percent of the times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforcing_consecutive_5xx: Option<u32>,
    /// After so many failures of this side in a row, such as connections refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_local_origin_failure: Option<u32>,
    /// Whether failures of this side are counted by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_external_local_origin_errors: Option<bool>,
    /// How often is looked.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_duration")]
    pub interval: Option<Duration>,
    /// How long, times how often.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_duration")]
    pub base_ejection_time: Option<Duration>,
    /// How long at most.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_duration")]
    pub max_ejection_time: Option<Duration>,
    /// Of the servers, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ejection_percent: Option<u32>,
}

/// A duration as protobuf's JSON has it: seconds, with as many decimals as it needs.
pub fn duration(duration: Duration) -> String {
    let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
    match nanoseconds {
        0 => format!("{seconds}s"),
        _ => format!("{seconds}.{}s", format!("{nanoseconds:09}").trim_end_matches('0')),
    }
}

fn some_duration<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(duration).serialize(serializer)
}

impl Cluster {
    /// A cluster with these servers, and what is usual.
    pub fn new(name: impl Into<String>, endpoints: Vec<Endpoint>) -> Self {
        Cluster {
            name: name.into(),
            endpoints,
            connect_timeout: Duration::from_secs(1),
            protocol: Protocol::Http1,
            tls: None,
            balancing: None,
            limits: None,
            outlier_detection: None,
            fields: Map::new(),
        }
    }

    /// As Envoy reads it.
    pub fn value(&self) -> Value {
        let is_name = |endpoint: &Endpoint| endpoint.address().is_some_and(|address| address.ip().is_none());
        let endpoints: Vec<Value> = self.endpoints.iter().map(Endpoint::value).collect();
        let mut cluster = json!({
            "name": self.name,
            "type": if self.endpoints.iter().any(is_name) { "STRICT_DNS" } else { "STATIC" },
            "connect_timeout": duration(self.connect_timeout),
            "load_assignment": {"cluster_name": self.name, "endpoints": [{"lb_endpoints": endpoints}]},
        });
        let protocol = match self.protocol {
            Protocol::Http1 => None,
            Protocol::Http2 => Some(json!({"explicit_http_config": {"http2_protocol_options": {}}})),
            Protocol::AsTheClient => {
                Some(json!({"use_downstream_protocol_config": {"http2_protocol_options": {}}}))
            }
        };
        if let Some(mut options) = protocol {
            put(&mut options, &["@type"], kind("extensions.upstreams.http.v3.HttpProtocolOptions"));
            put(
                &mut cluster,
                &["typed_extension_protocol_options"],
                json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}),
            );
        }
        if let Some(tls) = &self.tls {
            put(&mut cluster, &["transport_socket"], tls.value());
        }
        if let Some(balancing) = &self.balancing {
            put(&mut cluster, &["lb_policy"], json!(balancing));
        }
        if let Some(limits) = &self.limits {
            put(&mut cluster, &["circuit_breakers"], json!({"thresholds": [limits]}));
        }
        if let Some(outlier_detection) = &self.outlier_detection {
            put(&mut cluster, &["outlier_detection"], json!(outlier_detection));
        }
        // Envoy's statistics take the name up to its first dot for the whole of it.
        if self.name.contains('.') {
            put(&mut cluster, &["alt_stat_name"], self.name.replace('.', "_"));
        }
        lay_over(&mut cluster, &self.fields);
        cluster
    }
}

impl Endpoint {
    fn address(&self) -> Option<&Address> {
        match self {
            Endpoint::At(address) | Endpoint::Weighted(address, _) => Some(address),
            Endpoint::Internal(_) => None,
        }
    }

    fn value(&self) -> Value {
        match self {
            Endpoint::At(address) => json!({"endpoint": {"address": address.value()}}),
            Endpoint::Weighted(address, weight) => {
                json!({"endpoint": {"address": address.value()}, "load_balancing_weight": weight})
            }
            Endpoint::Internal(listener) => {
                json!({"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": listener}}}})
            }
        }
    }
}

impl UpstreamTls {
    /// TLS to a host of this name.
    pub fn to(host: &str, authorities: PathBuf) -> Self {
        UpstreamTls {
            sni: Some(host.to_owned()),
            names: vec![host.to_owned()],
            authorities,
            certificate: None,
        }
    }

    fn value(&self) -> Value {
        let mut validation = json!({"trusted_ca": {"filename": self.authorities}});
        if !self.names.is_empty() {
            let name = |name: &String| {
                let address = name.parse::<std::net::IpAddr>().is_ok();
                let san = if name.contains("://") {
                    "URI"
                } else if address {
                    "IP_ADDRESS"
                } else {
                    "DNS"
                };
                json!({"san_type": san, "matcher": {"exact": name}})
            };
            put(
                &mut validation,
                &["match_typed_subject_alt_names"],
                self.names.iter().map(name).collect::<Value>(),
            );
        }
        let mut common = json!({"validation_context": validation});
        if let Some((chain, key)) = &self.certificate {
            put(
                &mut common,
                &["tls_certificates"],
                json!([{"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}]),
            );
        }
        let mut context = json!({
            "@type": kind("extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            "common_tls_context": common,
        });
        if let Some(sni) = &self.sni {
            put(&mut context, &["sni"], sni.as_str());
        }
        json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_protobuf_s() {
        for (milliseconds, expected) in [(0, "0s"), (1_500, "1.5s"), (60_000, "60s"), (1, "0.001s")] {
            assert_eq!(duration(Duration::from_millis(milliseconds)), expected);
        }
    }

    #[test]
    fn only_names_are_asked_for() {
        let cluster = |host: &str| {
            Cluster::new("a", vec![Endpoint::At(Address::new(host, 80))]).value()["type"].clone()
        };
        assert_eq!((cluster("10.0.0.1"), cluster("::1")), (json!("STATIC"), json!("STATIC")));
        assert_eq!(cluster("webapp"), json!("STRICT_DNS"));
    }

    #[test]
    fn statistics_have_the_whole_name() {
        let called = |name: &str| Cluster::new(name, Vec::new()).value()["alt_stat_name"].clone();
        assert_eq!(called("reviews.shop.svc.cluster.local|v1"), json!("reviews_shop_svc_cluster_local|v1"));
        assert_eq!(called("webapp|v1"), Value::Null);
    }

    #[test]
    fn limits_and_outliers_have_envoy_s_names() {
        let mut cluster = Cluster::new("a", Vec::new());
        cluster.limits = Some(CircuitBreakers { max_requests: Some(5), ..CircuitBreakers::default() });
        cluster.outlier_detection = Some(OutlierDetection {
            consecutive_5xx: Some(3),
            interval: Some(Duration::from_millis(2_500)),
            ..OutlierDetection::default()
        });
        cluster.balancing = Some(Balancing::LeastRequest);
        let value = cluster.value();
        assert_eq!(value["circuit_breakers"], json!({"thresholds": [{"max_requests": 5}]}));
        assert_eq!(value["outlier_detection"], json!({"consecutive_5xx": 3, "interval": "2.5s"}));
        assert_eq!(value["lb_policy"], json!("LEAST_REQUEST"));
    }
}
