//! A proxy of Istio's: what a control plane sends it, and how to start a stock Envoy with that.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::envoyfilter::Context;
use crate::support::case::yaml;
use crate::support::envoy::{Envoy, any_port, cluster};

/// The connection manager.
pub const HCM: &str = "envoy.filters.network.http_connection_manager";

/// What patches are applied to.
#[derive(Default)]
pub struct Proxy {
    pub bootstrap: Value,
    pub listeners: Vec<(Context, Value)>,
    /// Named ones, by RDS.
    pub routes: Vec<(Context, Value)>,
    pub clusters: Vec<Value>,
    /// By ECDS.
    pub extensions: Vec<Value>,
}

impl Proxy {
    /// `gateway` or `sidecar`.
    pub fn of_istio(kind: &str) -> Self {
        let shape = yaml(include_str!("proxies/istio.yaml")).unwrap();
        let mut proxy = Proxy { bootstrap: shape["bootstrap"].clone(), ..Proxy::default() };
        for part in shape[kind].as_array().unwrap() {
            let context: Context = serde_json::from_value(part["context"].clone()).unwrap();
            let mut filters = shape["http_filters"].as_array().unwrap().clone();
            if context == Context::SidecarInbound {
                filters.splice(0..0, shape["inbound_http_filters"].as_array().unwrap().clone());
            }
            let mut manager = json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": part["listener"]["name"],
                "http_filters": filters,
                "use_remote_address": part["use_remote_address"],
                "upgrade_configs": [{"upgrade_type": "websocket"}],
                "stream_idle_timeout": "0s",
                "normalize_path": true,
                "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
                "request_id_extension": {"typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                    "use_request_id_for_trace_sampling": true,
                }},
            });
            match &part["rds"] {
                Value::Null => manager["route_config"] = part["route_config"].clone(),
                routes => {
                    manager["rds"] = json!({
                        "route_config_name": routes["name"],
                        "config_source": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
                    });
                    proxy.routes.push((context, routes.clone()));
                }
            }
            let mut listener = part["listener"].clone();
            listener["filter_chains"] = json!([{"filters": [{"name": HCM, "typed_config": manager}]}]);
            proxy.listeners.push((context, listener));
        }
        proxy.clusters =
            shape["clusters"].as_array().unwrap().iter().map(|name| json!({"name": name})).collect();
        proxy
    }

    /// The listeners of a configuration dump of a sidecar.
    pub fn of_dump(dump: &Value) -> Self {
        let mut proxy = Proxy::default();
        for config in dump["configs"].as_array().into_iter().flatten() {
            for listener in config["dynamic_listeners"].as_array().into_iter().flatten() {
                let listener = &listener["active_state"]["listener"];
                let context = match listener["traffic_direction"].as_str() {
                    Some("INBOUND") => Context::SidecarInbound,
                    Some("OUTBOUND") => Context::SidecarOutbound,
                    // A tunnel's, which no context reaches.
                    _ => continue,
                };
                proxy.listeners.push((context, listener.clone()));
            }
        }
        proxy
    }

    /// The network filters of this name, of a context.
    pub fn filters(&mut self, context: Context, name: &str) -> Vec<&mut Value> {
        filters(&mut self.listeners, context, name)
    }

    /// The filters of each connection manager.
    pub fn http_filters(&mut self, context: Context) -> Vec<&mut Vec<Value>> {
        let managers = self.filters(context, HCM).into_iter();
        managers.filter_map(|manager| manager["typed_config"]["http_filters"].as_array_mut()).collect()
    }

    /// Every virtual host, of named routes and of those in a connection manager.
    pub fn virtual_hosts(&mut self, context: Context) -> Vec<&mut Value> {
        let named = self.routes.iter_mut().filter(|(has, _)| *has == context).map(|(_, routes)| routes);
        let inline = filters(&mut self.listeners, context, HCM).into_iter();
        let inline = inline.filter_map(|manager| manager["typed_config"].get_mut("route_config"));
        named.chain(inline).filter_map(|routes| routes["virtual_hosts"].as_array_mut()).flatten().collect()
    }

    /// Starts a stock Envoy with it. Clusters get these endpoints, `files` stand for the files that are named in it, and
    /// `second` is a bootstrap to be merged into the proxy's.
    pub fn start(
        mut self,
        endpoints: &BTreeMap<String, SocketAddr>,
        files: &[(&str, &str)],
        second: &str,
    ) -> Result<Envoy, String> {
        let name = |cluster: &Value| cluster["name"].as_str().unwrap_or_default().to_owned();
        let endpoint = |name: String| match endpoints.get(&name) {
            Some(address) => Ok(cluster(&name, *address)),
            None => Err(format!("{name} has no endpoint")),
        };
        let clusters = self.clusters.iter().map(name).map(endpoint).collect::<Result<Vec<_>, _>>()?;
        for (_, listener) in &mut self.listeners {
            listener["address"] = any_port();
        }
        let write = |folder: &Path| {
            let mut bootstrap = self.bootstrap;
            bootstrap["admin"] = json!({"address": any_port()});
            let listeners: Vec<Value> = self.listeners.into_iter().map(|(_, listener)| listener).collect();
            bootstrap["static_resources"] = json!({"listeners": listeners, "clusters": clusters});
            let files: Vec<(&str, String)> = files
                .iter()
                .map(|(name, path)| (*name, (*path).to_owned()))
                .chain([("/dev/stdout", folder.join("access").display().to_string())])
                .collect();
            for (_, routes) in &self.routes {
                write_resources(
                    folder,
                    &routes["name"],
                    "config.route.v3.RouteConfiguration",
                    routes,
                    &files,
                );
            }
            for extension in &self.extensions {
                write_resources(
                    folder,
                    &extension["name"],
                    "config.core.v3.TypedExtensionConfig",
                    extension,
                    &files,
                );
            }
            from_files(&mut bootstrap, folder);
            substitute(&mut bootstrap, &files);
            bootstrap
        };
        Envoy::start_merged(second, write)
    }
}

fn filters<'a>(listeners: &'a mut [(Context, Value)], context: Context, name: &str) -> Vec<&'a mut Value> {
    let mut found = Vec::new();
    let listeners = listeners.iter_mut().filter(|(has, _)| *has == context);
    for listener in listeners.filter_map(|(_, listener)| listener.as_object_mut()) {
        let chains = listener.iter_mut().flat_map(|(key, value)| match (key.as_str(), value) {
            ("filter_chains", Value::Array(chains)) => chains.iter_mut().collect(),
            ("default_filter_chain", chain) => vec![chain],
            _ => Vec::new(),
        });
        let filters = chains.filter_map(|chain| chain.get_mut("filters")?.as_array_mut()).flatten();
        found.extend(filters.filter(|filter| filter["name"] == name));
    }
    found
}

/// What a control plane sends by itself comes from a file of this name.
fn file(folder: &Path, name: &Value) -> String {
    let name = name.as_str().unwrap_or_default().replace(['/', '|'], "_");
    folder.join(format!("{name}.json")).display().to_string()
}

fn write_resources(folder: &Path, name: &Value, kind: &str, resource: &Value, files: &[(&str, String)]) {
    let mut resource = resource.clone();
    substitute(&mut resource, files);
    resource["@type"] = format!("type.googleapis.com/envoy.{kind}").into();
    fs::write(file(folder, name), json!({"resources": [resource]}).to_string()).unwrap();
}

/// Turns Istio's only source of configuration, its control plane, to the files.
fn from_files(value: &mut Value, folder: &Path) {
    match value {
        Value::Object(map) => {
            let source = |name: &Value| json!({"path_config_source": {"path": file(folder, name)}, "resource_api_version": "V3"});
            if let Some(name) = map.get("name").cloned()
                && let Some(discovery) = map.get_mut("config_discovery")
            {
                discovery["config_source"] = source(&name);
            }
            if let Some(rds) = map.get_mut("rds") {
                rds["config_source"] = source(&rds["route_config_name"]);
            }
            map.values_mut().for_each(|value| from_files(value, folder));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| from_files(value, folder)),
        _ => {}
    }
}

/// Puts paths of this machine where those of a container stand.
pub fn substitute(value: &mut Value, files: &[(&str, String)]) {
    match value {
        Value::Object(map) => map.values_mut().for_each(|value| substitute(value, files)),
        Value::Array(list) => list.iter_mut().for_each(|value| substitute(value, files)),
        Value::String(text) => {
            if let Some((_, path)) = files.iter().find(|(name, _)| name == text) {
                text.clone_from(path);
            }
        }
        _ => {}
    }
}
