//! Who answers behind the Envoy of a case.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use super::ID_HEADER;
use super::http::Upstream;
use crate::envoy::cluster::Endpoint;
use crate::envoy::plan::DEFAULT;
use crate::envoy::{Address, Cluster};
use crate::proxy::{FALLBACK, Seen, upstream_name};

/// The clusters of the project's own cases.
pub const CLUSTERS: [&str; 8] =
    ["webapp|v1", "webapp|v2", "webapp|v3", "webapp", "v1", "v2", "mirror", FALLBACK];

/// One echo server for each cluster.
pub struct Upstreams(BTreeMap<String, Upstream>);

impl Upstreams {
    /// Those of [`CLUSTERS`].
    ///
    /// # Errors
    /// That this machine has no port.
    pub fn start() -> io::Result<Self> {
        Self::of(CLUSTERS)
    }

    /// One for each of these clusters, and for the default.
    ///
    /// # Errors
    /// That this machine has no port.
    pub fn of<'a>(clusters: impl IntoIterator<Item = &'a str>) -> io::Result<Self> {
        let mut upstreams = BTreeMap::new();
        for cluster in clusters.into_iter().chain([DEFAULT]) {
            if !upstreams.contains_key(cluster) {
                let name = if cluster == DEFAULT { FALLBACK } else { upstream_name(cluster) };
                upstreams.insert(cluster.to_owned(), Upstream::echo(name)?);
            }
        }
        Ok(Upstreams(upstreams))
    }

    /// Name of the cluster and address of its upstream.
    pub fn clusters(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.0.iter().map(|(cluster, upstream)| (cluster.as_str(), upstream.address()))
    }

    /// The same as a bootstrap has it.
    pub fn as_clusters(&self) -> Vec<Cluster> {
        let cluster = |(name, address): (&str, SocketAddr)| {
            Cluster::new(name, vec![Endpoint::At(Address::from(address))])
        };
        self.clusters().map(cluster).collect()
    }

    /// Where the upstream of a cluster is.
    pub fn address(&self, cluster: &str) -> Option<SocketAddr> {
        self.0.get(cluster).map(Upstream::address)
    }

    /// They remember nothing from now on.
    pub fn forget(&self) {
        self.0.values().for_each(Upstream::forget);
    }

    /// The requests with this id, wherever they arrived.
    pub fn seen(&self, id: &str) -> Vec<Seen> {
        let has_id = |seen: &Seen| {
            seen.headers.iter().any(|(name, value)| name == ID_HEADER && value == id.as_bytes())
        };
        self.0.values().flat_map(Upstream::seen).filter(has_id).collect()
    }
}
