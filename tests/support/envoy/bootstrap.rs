//! A bootstrap for a test: what `meshfilter bootstrap` writes, with what tests change of it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meshfilter_cli::cases::envoy::{self as real, Launch, Log, Upstreams, Written};
use meshfilter_cli::envoy::cluster::Endpoint;
use meshfilter_cli::envoy::listener::Chain;
use meshfilter_cli::envoy::plugin::{Module, PLUGIN_FILE};
use meshfilter_cli::envoy::{self, Address, Cluster, LISTENERS_FILE, Plugin, listeners_resource};
use serde_json::{Map, Value, json};

use super::{binary, native};
use crate::support::case::Case;

pub use meshfilter_cli::envoy::plugin::Configuration;

/// What Envoy is started with.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    pub workers: u32,
    pub configuration: Configuration,
    pub environment: BTreeMap<String, String>,
    /// `name`, `root_id` and `vm_id` of the plugin.
    pub plugin: [String; 3],
    /// Names of filter state that the access log tells.
    pub filter_state: Vec<String>,
    /// Whether the listener comes from a file that can be replaced while Envoy runs.
    pub dynamic: bool,
    /// Whether the filter, too, comes from a file of its own.
    pub dynamic_filter: bool,
    /// How long connections of a replaced listener may last.
    pub drain: Duration,
    /// The module, if it is not the one that `make build` leaves.
    pub module: Option<PathBuf>,
    /// Fields of the plugin and of the connection manager, laid over the others.
    pub plugin_fields: Map<String, Value>,
    pub manager_fields: Map<String, Value>,
    /// The listener's transport socket, for TLS.
    pub tls: Option<envoy::listener::ListenerTls>,
    /// Another module that runs in the same Envoy, with an empty `vm_id`.
    pub other_module: Option<PathBuf>,
    clusters: Vec<Cluster>,
}

impl Bootstrap {
    /// A single worker, with the upstreams as clusters.
    pub fn new(configuration: Configuration, upstreams: &Upstreams) -> Self {
        Bootstrap {
            workers: 1,
            configuration,
            environment: BTreeMap::new(),
            plugin: ["meshfilter", "meshfilter", ""].map(str::to_owned),
            filter_state: Vec::new(),
            dynamic: false,
            dynamic_filter: false,
            drain: Duration::from_secs(1),
            module: None,
            plugin_fields: Map::new(),
            manager_fields: Map::new(),
            tls: None,
            other_module: None,
            clusters: upstreams.as_clusters(),
        }
    }

    /// What a case's policy needs.
    pub fn for_case(case: &Case, upstreams: &Upstreams) -> Self {
        Bootstrap {
            environment: case.environment.clone(),
            ..Self::new(Configuration::Struct(case.policy.clone()), upstreams)
        }
    }

    /// Adds a cluster.
    pub fn cluster(&mut self, name: &str, address: SocketAddr) {
        self.clusters.push(Cluster::new(name, vec![Endpoint::At(Address::from(address))]));
    }

    /// The Envoy that it is for.
    pub fn launch(&self) -> Result<Launch, String> {
        Ok(Launch { workers: self.workers, drain: self.drain, ..Launch::new(binary()?) })
    }

    /// Writes the files that Envoy reads, and names the first.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, String> {
        self.written(folder).map(|written| written.configuration)
    }

    /// [`Self::write`] with the variables that Envoy needs.
    pub fn written(&self, folder: &Path) -> Result<Written, String> {
        let bootstrap = self.built(folder)?;
        self.write_dynamic(&bootstrap, folder)?;
        let configuration = folder.join("bootstrap.json");
        fs::write(&configuration, bootstrap.value().to_string())
            .map_err(|error| format!("{}: {error}", configuration.display()))?;
        // A native module has the variables of its process.
        let environment = if native::is_native() { self.environment.clone() } else { BTreeMap::new() };
        Ok(Written { configuration, environment })
    }

    /// Replaces the listener of an Envoy that was started with `dynamic`.
    pub fn update(&self, folder: &Path) -> Result<(), String> {
        self.write_dynamic(&self.built(folder)?, folder)
    }

    fn built(&self, folder: &Path) -> Result<envoy::Bootstrap, String> {
        let log = Log { folder, filter_state: &self.filter_state };
        let upstreams = &self.clusters;
        let mut bootstrap = real::plain(self.module()?, self.configuration.clone(), upstreams.clone(), log);
        for Chain { tls, http, .. } in
            bootstrap.listeners.iter_mut().flat_map(|listener| &mut listener.chains)
        {
            tls.clone_from(&self.tls);
            http.fields.extend(self.manager_fields.clone());
            let Some(plugin) = &mut http.plugin else { continue };
            let [name, root_id, vm_id] = self.plugin.clone();
            *plugin = Plugin { name, root_id, vm_id, ..plugin.clone() };
            plugin.variables = self.environment.clone();
            plugin.fields = self.plugin_fields.clone();
            plugin.from = self.dynamic_filter.then(|| folder.to_owned());
        }
        if self.dynamic {
            bootstrap.node = Some(("test".to_owned(), "test".to_owned()));
            bootstrap.listeners_from = Some(folder.to_owned());
        }
        if let Some(module) = &self.other_module {
            bootstrap.fields.insert("bootstrap_extensions".to_owned(), json!([service(module)]));
        }
        Ok(bootstrap)
    }

    fn module(&self) -> Result<Module, String> {
        match &self.module {
            Some(module) => Module::of(module.clone()),
            None if native::is_native() => native::native_module().map(Module::Native),
            None => super::module().map(Module::Wasm),
        }
    }

    fn write_dynamic(&self, bootstrap: &envoy::Bootstrap, folder: &Path) -> Result<(), String> {
        if self.dynamic {
            let listeners = listeners_resource(&bootstrap.listeners);
            replace_file(&folder.join(LISTENERS_FILE), &listeners.to_string())?;
        }
        let chains = bootstrap.listeners.iter().flat_map(|listener| &listener.chains);
        for plugin in chains.filter_map(|chain| chain.http.plugin.as_ref()) {
            if plugin.from.is_some() {
                replace_file(&folder.join(PLUGIN_FILE), &plugin.resource().to_string())?;
            }
        }
        Ok(())
    }
}

/// Replaces a file as Envoy wants it: a new one is moved over it.
pub fn replace_file(path: &Path, text: &str) -> Result<(), String> {
    let new = path.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .map_err(|error| format!("{}: {error}", path.display()))
}

pub(super) fn at<'a>(value: &'a mut Value, pointer: &str) -> Result<&'a mut Value, String> {
    value.pointer_mut(pointer).ok_or_else(|| format!("envoy.yaml has no {pointer}"))
}

/// A module that sees no requests.
fn service(module: &Path) -> Value {
    json!({"name": "other", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.wasm.v3.WasmService",
        "singleton": true,
        "config": {
            "name": "other",
            "root_id": "other",
            "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": module}}},
        },
    }})
}
