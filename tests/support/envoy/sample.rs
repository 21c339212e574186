//! `envoy/envoy.yaml` as users have it, on loopback.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::bootstrap::at;
use super::{Envoy, any_port, cluster, module};
use crate::support::case::yaml;
use crate::support::repository;

/// The sample bootstrap: its policy, logs, labels and routes as they stand.
pub struct Sample {
    bootstrap: Value,
}

impl Sample {
    /// The sample with these upstreams in place of its own.
    pub fn new(upstreams: &[(&str, SocketAddr)]) -> Result<Self, String> {
        let mut bootstrap = read("envoy/envoy.yaml")?;
        bootstrap["admin"]["address"] = any_port();
        // Histograms and gauges are told once in this time; the default of 5 s would make every test wait.
        bootstrap["stats_flush_interval"] = "0.2s".into();
        let resources = at(&mut bootstrap, "/static_resources")?;
        resources["clusters"] = upstreams.iter().map(|(name, address)| cluster(name, *address)).collect();
        at(resources, "/listeners/0")?["address"] = any_port();
        let mut sample = Sample { bootstrap };
        sample.plugin()?["vm_config"]["code"] = json!({"local": {"filename": module()?}});
        Ok(sample)
    }

    /// The whole bootstrap.
    pub fn bootstrap(&mut self) -> &mut Value {
        &mut self.bootstrap
    }

    /// The listener's connection manager.
    pub fn manager(&mut self) -> Result<&mut Value, String> {
        at(&mut self.bootstrap, "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config")
    }

    /// The plugin's configuration: its name, its VM, its policy.
    pub fn plugin(&mut self) -> Result<&mut Value, String> {
        let filters =
            at(self.manager()?, "/http_filters")?.as_array_mut().ok_or("http_filters is no list")?;
        let filter = filters.iter_mut().find(|filter| filter["name"] == "meshfilter");
        at(filter.ok_or("envoy.yaml has no filter named meshfilter")?, "/typed_config/config")
    }

    /// The policy.
    pub fn policy(&mut self) -> Result<&mut Value, String> {
        at(self.plugin()?, "/configuration/value")
    }

    /// Adds a cluster.
    pub fn cluster(&mut self, cluster: Value) -> Result<(), String> {
        let clusters = at(&mut self.bootstrap, "/static_resources/clusters")?.as_array_mut();
        clusters.ok_or("clusters is no list")?.push(cluster);
        Ok(())
    }

    /// Starts Envoy with as many workers. The logs go to files of their own names in its folder.
    pub fn start(mut self, workers: u32) -> Result<Envoy, String> {
        let logs = at(self.manager()?, "/access_log")?.as_array_mut().ok_or("access_log is no list")?.clone();
        Envoy::start_in(workers, |folder| {
            let mut logs = logs;
            logs.iter_mut().for_each(|log| to_file(log, folder));
            if let Ok(manager) = self.manager() {
                manager["access_log"] = logs.into();
            }
            self.bootstrap
        })
    }
}

/// The policy in a bootstrap.
pub fn policy(bootstrap: &Value) -> Result<&Value, String> {
    let manager = bootstrap.pointer("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config");
    let filters = manager.and_then(|manager| manager["http_filters"].as_array()).ok_or("no http_filters")?;
    let filter = filters.iter().find(|filter| filter["name"] == "meshfilter");
    let policy = filter.and_then(|filter| filter.pointer("/typed_config/config/configuration/value"));
    policy.ok_or_else(|| "no filter named meshfilter".to_owned())
}

/// A document of the repository.
pub fn read(path: &str) -> Result<Value, String> {
    let text = fs::read_to_string(repository(path)).map_err(|error| format!("{path}: {error}"))?;
    yaml(&text).map_err(|error| format!("{path}: {error}"))
}

fn to_file(log: &mut Value, folder: &Path) {
    let path = folder.join(log["name"].as_str().unwrap_or_default());
    let config = &mut log["typed_config"];
    config["@type"] = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog".into();
    config["path"] = json!(path);
}
