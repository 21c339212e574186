//! A policy that changes while Envoy runs: what is good is pushed, what is wrong is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::process::Envoy;
use crate::bootstrap::Proxy;
use crate::envoy::listener::Http;
use crate::envoy::plugin::{Module, PLUGIN_FILE};
use crate::envoy::{Bootstrap, CLUSTERS_FILE, Cluster, Plugin, clusters_resource};
use crate::input::{self, Document};

/// How often the file is looked at.
pub const EVERY: Duration = Duration::from_millis(200);

/// How long Envoy may take to say what it thinks of a push.
const TAKEN_WITHIN: Duration = Duration::from_secs(15);

/// The file, and what Envoy has of it.
pub struct Watch {
    folder: PathBuf,
    module: Module,
    /// What was last looked at, good or not.
    seen: Document,
    /// What stood there the last time: a file that is being written is left alone.
    last: Document,
    /// Those of all policies so far: a request may still be on its way to an old one.
    clusters: Vec<Cluster>,
    pushed: Value,
    tags: (Vec<String>, Vec<String>),
}

/// What belongs together in a bootstrap, and comes from files where it may change.
pub fn from_files(bootstrap: &mut Bootstrap, folder: &Path) {
    bootstrap.node = Some(("meshfilter".to_owned(), "meshfilter".to_owned()));
    bootstrap.clusters_from = Some(folder.to_owned());
    let chains = bootstrap.listeners.iter_mut().flat_map(|listener| &mut listener.chains);
    for http in chains.map(|chain| &mut chain.http) {
        if let Some(plugin) = &mut http.plugin {
            plugin.from = Some(folder.to_owned());
            // The clusters come after the routes.
            http.fields.insert("route_config".to_owned(), json!({"validate_clusters": false}));
        }
    }
}

/// Plain text and TLS have the same.
fn http(bootstrap: &Bootstrap) -> Option<&Http> {
    bootstrap.listeners.first()?.chains.first().map(|chain| &chain.http)
}

fn plugin(bootstrap: &Bootstrap) -> Option<Plugin> {
    http(bootstrap)?.plugin.clone()
}

fn tags(bootstrap: &Bootstrap) -> (Vec<String>, Vec<String>) {
    let logged = http(bootstrap).map(|http| http.tags.clone()).unwrap_or_default();
    (bootstrap.labels.clone(), logged)
}

impl Watch {
    /// Writes the files that Envoy starts with.
    ///
    /// # Errors
    /// Why they cannot be written.
    pub fn new(
        folder: &Path,
        module: Module,
        bootstrap: &Bootstrap,
        document: Document,
    ) -> Result<Self, String> {
        let pushed = plugin(bootstrap).map(|plugin| plugin.resource()).unwrap_or_default();
        let watch = Watch {
            folder: folder.to_owned(),
            module,
            seen: document.clone(),
            last: document,
            clusters: bootstrap.clusters.clone(),
            pushed,
            tags: tags(bootstrap),
        };
        watch.replace(CLUSTERS_FILE, &clusters_resource(&watch.clusters))?;
        watch.replace(PLUGIN_FILE, &watch.pushed)?;
        Ok(watch)
    }

    /// Looks at the file; gives what there is to say.
    pub async fn look(&mut self, proxy: &Proxy, envoy: &Envoy) -> Option<String> {
        // An editor may have moved it away for a moment.
        let document = input::one(&proxy.policy).ok()?;
        let settled = std::mem::replace(&mut self.last, document.clone()) == document;
        if !settled || document == self.seen {
            return None;
        }
        self.seen.clone_from(&document);
        let file = &document.file;
        let Ok(prepared) = proxy.prepare_from(&document, self.module.clone()) else {
            return Some(format!("{file} has changed and is wrong: the policy from before stays"));
        };
        let bootstrap = prepared.plan.bootstrap;
        let tags = tags(&bootstrap);
        let resource = plugin(&bootstrap)?.resource();
        let done = match resource == self.pushed {
            true => Ok(()),
            false => self.push(bootstrap.clusters, &resource, envoy).await,
        };
        match done {
            Err(error) => Some(format!("{file} has changed: {error}; the policy from before stays")),
            Ok(()) => {
                self.pushed = resource;
                let mut said = format!("{file} has changed: pushed");
                if tags != self.tags {
                    said.push_str("; its new tags reach metrics, logs and spans after a restart");
                }
                Some(said)
            }
        }
    }

    /// First the clusters, and when those are there, what sends requests to them.
    async fn push(&mut self, clusters: Vec<Cluster>, plugin: &Value, envoy: &Envoy) -> Result<(), String> {
        let names: Vec<String> = clusters.iter().map(|cluster| cluster.name.clone()).collect();
        let old = std::mem::take(&mut self.clusters);
        let before = clusters_resource(&old);
        self.clusters = clusters;
        self.clusters.extend(old.into_iter().filter(|cluster| !names.contains(&cluster.name)));
        let resource = clusters_resource(&self.clusters);
        if resource != before {
            let counts = Counts::now(
                envoy,
                "cluster_manager.cds.update_success",
                "cluster_manager.cds.update_rejected",
            );
            let counts = counts.await;
            self.replace(CLUSTERS_FILE, &resource)?;
            counts.changed(envoy).await?;
            self.warm(envoy).await;
        }
        let counts = Counts::now(
            envoy,
            "extension_config_discovery.http_filter.meshfilter.config_reload",
            "extension_config_discovery.http_filter.meshfilter.config_fail",
        );
        let counts = counts.await;
        self.replace(PLUGIN_FILE, plugin)?;
        counts.changed(envoy).await
    }

    /// Waits until new clusters know where they are; those that DNS does not know never will.
    async fn warm(&self, envoy: &Envoy) {
        let began = Instant::now();
        while envoy.counter("cluster_manager.warming_clusters").await > 0 && began.elapsed() < TAKEN_WITHIN {
            sleep(EVERY).await;
        }
    }

    /// An update has to appear at once, so the file is moved into place.
    fn replace(&self, file: &str, resource: &Value) -> Result<(), String> {
        let (new, path) = (self.folder.join(format!("{file}.new")), self.folder.join(file));
        std::fs::write(&new, resource.to_string())
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// How often Envoy has taken something, and how often refused.
struct Counts {
    names: [&'static str; 2],
    before: [u64; 2],
}

impl Counts {
    async fn now(envoy: &Envoy, taken: &'static str, refused: &'static str) -> Self {
        Counts { names: [taken, refused], before: [envoy.counter(taken).await, envoy.counter(refused).await] }
    }

    /// Waits until one of them has grown.
    async fn changed(&self, envoy: &Envoy) -> Result<(), String> {
        let began = Instant::now();
        let [taken, refused] = self.names;
        let [taken_before, refused_before] = self.before;
        loop {
            if envoy.counter(taken).await > taken_before {
                return Ok(());
            }
            if envoy.counter(refused).await > refused_before {
                return Err(format!("Envoy refuses it; its log ends:\n{}\n", envoy.last_lines()));
            }
            if began.elapsed() > TAKEN_WITHIN {
                return Err(format!("Envoy has not taken it within {} s", TAKEN_WITHIN.as_secs()));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}
