//! Files that change while Envoy runs: what is good is pushed, what is wrong is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::process::Envoy;
use super::subject::{Subject, changed};
use crate::envoy::listener::Http;
use crate::envoy::plan::TRACING;
use crate::envoy::plugin::{Module, PLUGIN_FILE};
use crate::envoy::{Bootstrap, CLUSTERS_FILE, Cluster, Plugin, clusters_resource, put_field};
use crate::input::Document;

/// How often the files are looked at.
pub const EVERY: Duration = Duration::from_millis(200);

/// A file that cannot be read so often in a row is gone.
const MISSED: u32 = 5;

/// How long Envoy may take to say what it thinks of a push.
const TAKEN_WITHIN: Duration = Duration::from_secs(15);

/// The files, and what Envoy has of them.
pub struct Watch {
    folder: PathBuf,
    module: Module,
    /// What was last looked at, good or not.
    seen: Vec<Document>,
    /// What stood there the last time: a file that is being written is left alone.
    last: Vec<Document>,
    /// Those of all policies so far: a request may still be on its way to an old one.
    clusters: Vec<Cluster>,
    pushed: Value,
    tags: (Vec<String>, Vec<String>),
    /// What Envoy has from its start.
    rest: Value,
    /// How often in a row the file could not be read.
    missed: u32,
}

/// What belongs together in a bootstrap, and comes from files where it may change.
pub fn from_files(bootstrap: &mut Bootstrap, folder: &Path) {
    bootstrap.node = Some(("meshfilter".to_owned(), "meshfilter".to_owned()));
    bootstrap.clusters_from = Some(folder.to_owned());
    bootstrap.clusters.retain(stays);
    let chains = bootstrap.listeners.iter_mut().flat_map(|listener| &mut listener.chains);
    for http in chains.map(|chain| &mut chain.http) {
        if let Some(plugin) = &mut http.plugin {
            plugin.from = Some(folder.to_owned());
            // The clusters come after the routes.
            put_field(&mut http.fields, &["route_config", "validate_clusters"], false);
        }
    }
}

/// Listeners with a tracer are refused where its cluster comes later.
fn stays(cluster: &Cluster) -> bool {
    cluster.name.starts_with(TRACING)
}

/// Plain text and TLS, and every port, have the same.
fn http(bootstrap: &Bootstrap) -> Option<&Http> {
    let mut chains = bootstrap.listeners.iter().flat_map(|listener| &listener.chains);
    chains.find(|chain| chain.http.plugin.is_some()).map(|chain| &chain.http)
}

/// What is not pushed.
fn rest(bootstrap: &Bootstrap) -> Value {
    let mut rest = bootstrap.clone();
    rest.clusters.retain(stays);
    rest.labels.clear();
    for chain in rest.listeners.iter_mut().flat_map(|listener| &mut listener.chains) {
        chain.http.tags.clear();
        if let Some(plugin) = &mut chain.http.plugin {
            plugin.from = Some(PathBuf::new());
        }
    }
    rest.value()
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
        texts: Vec<Document>,
    ) -> Result<Self, String> {
        let pushed = plugin(bootstrap).map(|plugin| plugin.resource()).unwrap_or_default();
        let watch = Watch {
            folder: folder.to_owned(),
            module,
            seen: texts.clone(),
            last: texts,
            clusters: bootstrap.clusters.iter().filter(|cluster| !stays(cluster)).cloned().collect(),
            pushed,
            tags: tags(bootstrap),
            rest: rest(bootstrap),
            missed: 0,
        };
        watch.replace(CLUSTERS_FILE, &clusters_resource(&watch.clusters))?;
        watch.replace(PLUGIN_FILE, &watch.pushed)?;
        Ok(watch)
    }

    /// Looks at the files; gives what there is to say.
    pub async fn look(&mut self, subject: &Subject, envoy: &Envoy) -> Option<String> {
        let texts = match subject.read_again() {
            Ok(texts) => texts,
            Err(error) => {
                // An editor may have moved one away for a moment.
                self.missed = self.missed.saturating_add(1);
                return (self.missed == MISSED).then(|| format!("{error}: the policy from before stays"));
            }
        };
        self.missed = 0;
        let settled = std::mem::replace(&mut self.last, texts.clone()) == texts;
        if !settled || texts == self.seen {
            return None;
        }
        let changed = changed(&std::mem::replace(&mut self.seen, texts.clone()), &texts);
        let Ok((_, bootstrap)) = subject.prepare(&texts, self.module.clone(), &self.folder) else {
            let verb = if changed.contains(" have ") { "are" } else { "is" };
            return Some(format!("{changed} and {verb} wrong: the policy from before stays"));
        };
        let (tags, rest) = (tags(&bootstrap), rest(&bootstrap));
        let resource = plugin(&bootstrap)?.resource();
        let mut clusters = bootstrap.clusters;
        clusters.retain(|cluster| !stays(cluster));
        match self.push(clusters, &resource, envoy).await {
            Err(error) => Some(format!("{changed}: {error}; the policy from before stays")),
            Ok(()) => {
                let mut said = format!("{changed}: pushed");
                let has_new = |new: &[String], old: &[String]| new.iter().any(|tag| !old.contains(tag));
                if has_new(&tags.0, &self.tags.0) || has_new(&tags.1, &self.tags.1) {
                    said.push_str("; its new tags reach metrics, logs and spans after a restart");
                }
                if rest != self.rest {
                    said.push_str(
                        "; what is new of its listeners, TLS, hashes, logs and spans comes with a restart",
                    );
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
        if *plugin == self.pushed {
            return Ok(());
        }
        let counts = Counts::now(
            envoy,
            "extension_config_discovery.http_filter.meshfilter.config_reload",
            "extension_config_discovery.http_filter.meshfilter.config_fail",
        );
        let counts = counts.await;
        self.replace(PLUGIN_FILE, plugin)?;
        counts.changed(envoy).await?;
        self.pushed = plugin.clone();
        Ok(())
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
