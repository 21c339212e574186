//! Envoy's configuration, as far as meshfilter needs it: types that say what is meant, and what they become.
//!
//! | module | what it holds |
//! |---|---|
//! | [`plan`] | a policy → the whole of it: what the policy names, and where that is |
//! | [`listener`] | who may ask, and how: addresses, TLS, the HTTP options that a policy's security rests on, routes, logs |
//! | [`cluster`] | who answers: endpoints, TLS, balancing, limits |
//! | [`plugin`] | the filter, from a wasm or a native module |
//! | [`yaml`] | how it is written, with a reason beside every option |
//!
//! Whoever needs a field that no type has lays it over: every type with `fields` takes them as Envoy has them.

pub mod address;
pub mod cluster;
mod comments;
pub mod listener;
mod logs;
pub mod plan;
pub mod plugin;
pub mod policy;
pub mod yaml;

use std::path::{Path, PathBuf};

use meshfilter::policy::metric::{ISTIO_LABELS, LABELS, label_expression};
use serde_json::{Map, Value, json};

pub use address::Address;
pub use cluster::Cluster;
pub use listener::Listener;
pub use plugin::Plugin;

/// What Envoy is started with.
#[derive(Clone, Debug, Default)]
pub struct Bootstrap {
    /// Where the admin interface is; whoever reaches it rules the proxy.
    pub admin: Option<Address>,
    /// `id` and `cluster` of the node. What comes from files that change is asked for under a name.
    pub node: Option<(String, String)>,
    /// Tags that are labels of metrics, beside those that the filter always has.
    pub labels: Vec<String>,
    /// Of a hundred requests, how many the text log has at the start.
    pub text_log: u8,
    /// And the JSON log.
    pub json_log: u8,
    /// All of them.
    pub listeners: Vec<Listener>,
    /// All of them.
    pub clusters: Vec<Cluster>,
    /// The folder whose [`CLUSTERS_FILE`] has further clusters, which may change.
    pub clusters_from: Option<PathBuf>,
    /// The folder whose [`LISTENERS_FILE`] has the listeners, in place of the bootstrap itself.
    pub listeners_from: Option<PathBuf>,
    /// What else stands in it, laid over the rest.
    pub fields: Map<String, Value>,
}

/// Connections of all clients together.
const MAX_CONNECTIONS: u32 = 50_000;

/// The file of [`Bootstrap::clusters_from`], as Envoy reads resources from files.
pub const CLUSTERS_FILE: &str = "clusters.json";

/// The file of [`Bootstrap::listeners_from`], as Envoy reads resources from files.
pub const LISTENERS_FILE: &str = "listeners.json";

/// The expression that takes a label out of a metric's name.
pub fn label(name: &str) -> Value {
    json!({"tag_name": name, "regex": label_expression(name)})
}

impl Bootstrap {
    /// As Envoy reads it.
    pub fn value(&self) -> Value {
        let mut bootstrap = json!({
            "stats_config": {
                "stats_tags": self.labels(),
                "histogram_bucket_settings": [{
                    "match": {"prefix": "wasmcustom.meshfilter_request_duration_milliseconds"},
                    "buckets": [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000],
                }],
            },
            "layered_runtime": {"layers": [
                {"name": "static", "static_layer": self.runtime()},
                {"name": "admin", "admin_layer": {}},
            ]},
            "overload_manager": {"resource_monitors": [{
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": kind("extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"),
                    "max_active_downstream_connections": MAX_CONNECTIONS,
                },
            }]},
        });
        let mut resources = json!({});
        match &self.listeners_from {
            Some(folder) => {
                put(&mut bootstrap, &["dynamic_resources", "lds_config"], from_file(folder, LISTENERS_FILE))
            }
            None => put(
                &mut resources,
                &["listeners"],
                self.listeners.iter().map(Listener::value).collect::<Value>(),
            ),
        }
        if let Some(folder) = &self.clusters_from {
            put(&mut bootstrap, &["dynamic_resources", "cds_config"], from_file(folder, CLUSTERS_FILE));
        }
        if self.clusters_from.is_none() || !self.clusters.is_empty() {
            put(&mut resources, &["clusters"], self.clusters.iter().map(Cluster::value).collect::<Value>());
        }
        put(&mut bootstrap, &["static_resources"], resources);
        if let Some(admin) = &self.admin {
            put(&mut bootstrap, &["admin"], json!({"address": admin.value()}));
        }
        if let Some((id, cluster)) = &self.node {
            put(&mut bootstrap, &["node"], json!({"id": id, "cluster": cluster}));
        }
        if self.listeners.iter().any(|listener| listener.address.is_none()) {
            put(
                &mut bootstrap,
                &["bootstrap_extensions"],
                json!([{
                    "name": "envoy.bootstrap.internal_listener",
                    "typed_config": {"@type": kind("extensions.bootstrap.internal_listener.v3.InternalListener")},
                }]),
            );
        }
        lay_over(&mut bootstrap, &self.fields);
        bootstrap
    }

    /// As a file for people: YAML, in which every option says why it is there.
    pub fn yaml(&self) -> String {
        let chains = self.listeners.iter().flat_map(|listener| &listener.chains);
        let mut plugins = chains.filter_map(|chain| chain.http.plugin.as_ref());
        // A policy may be large: a second one is made only where it has to be another.
        if !plugins.any(|plugin| plugin.configuration.is_other_in_yaml()) {
            return yaml::write(&self.value(), &comments::ALL);
        }
        let mut own = self.clone();
        let mut above = comments::ALL.to_vec();
        let chains = own.listeners.iter_mut().flat_map(|listener| &mut listener.chains);
        for plugin in chains.filter_map(|chain| chain.http.plugin.as_mut()) {
            if let Some(text) = plugin.configuration.for_yaml() {
                plugin.configuration = text;
                above.push(comments::FRACTIONS);
            }
        }
        yaml::write(&own.value(), &above)
    }

    fn runtime(&self) -> Value {
        let mut layer = json!({"access_log": {"text": self.text_log, "json": self.json_log}});
        if self.listeners.iter().any(Listener::has_native_plugin) {
            let feature = ["envoy", "reloadable_features", "dynamic_modules_strip_custom_stat_prefix"];
            put(&mut layer, &feature, true);
        }
        layer
    }

    fn labels(&self) -> Vec<Value> {
        let mut names: Vec<&str> = LABELS.iter().chain(&ISTIO_LABELS).copied().collect();
        for name in &self.labels {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names.into_iter().map(label).collect()
    }
}

/// The content of [`CLUSTERS_FILE`].
pub fn clusters_resource(clusters: &[Cluster]) -> Value {
    resources("config.cluster.v3.Cluster", clusters.iter().map(Cluster::value))
}

/// The content of [`LISTENERS_FILE`].
pub fn listeners_resource(listeners: &[Listener]) -> Value {
    resources("config.listener.v3.Listener", listeners.iter().map(Listener::value))
}

fn resources(message: &str, values: impl Iterator<Item = Value>) -> Value {
    let resource = |mut value: Value| {
        put(&mut value, &["@type"], kind(message));
        value
    };
    json!({"resources": values.map(resource).collect::<Vec<_>>()})
}

/// Where Envoy finds what stands in a file of this folder. It looks again whenever a file is moved there.
pub(crate) fn from_file(folder: &Path, file: &str) -> Value {
    json!({
        "resource_api_version": "V3",
        "path_config_source": {"path": folder.join(file), "watched_directory": {"path": folder}},
    })
}

/// The name of one of Envoy's messages, as an `Any` has it.
pub(crate) fn kind(name: &str) -> String {
    format!("type.googleapis.com/envoy.{name}")
}

/// Sets a member, however deep; on the way to it are objects.
pub(crate) fn put(value: &mut Value, path: &[&str], member: impl Into<Value>) {
    let Some((name, rest)) = path.split_first() else {
        *value = member.into();
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    if let Value::Object(map) = value {
        put(map.entry(*name).or_insert(Value::Null), rest, member);
    }
}

/// Sets a member of fields that are laid over others, however deep.
pub(crate) fn put_field(fields: &mut Map<String, Value>, path: &[&str], member: impl Into<Value>) {
    if let Some((name, rest)) = path.split_first() {
        put(fields.entry(*name).or_insert(Value::Null), rest, member);
    }
}

/// The two access logs, with what the policy's tags say.
pub(crate) fn access_logs(tags: &[String]) -> Value {
    logs::access_logs(tags)
}

/// Tags of spans that say what the policy's tags say.
pub(crate) fn span_tags(tags: &[String]) -> Vec<Value> {
    match logs::custom_tags(tags) {
        Value::Array(tags) => tags,
        _ => Vec::new(),
    }
}

/// Fields as Envoy has them, in place of those that are there; objects are put together.
pub(crate) fn lay_over(value: &mut Value, fields: &Map<String, Value>) {
    for (name, field) in fields {
        match (value.get_mut(name), field) {
            (Some(under @ Value::Object(_)), Value::Object(field)) => lay_over(under, field),
            _ => put(value, &[name], field.clone()),
        }
    }
}
