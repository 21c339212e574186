//! A bootstrap for a test, made from the one that users start from: `envoy/envoy.yaml`.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{DRAIN, ID_HEADER, Upstreams, module, version};
use crate::support::case::{Case, yaml};
use crate::support::repository;

/// The two forms in which Envoy carries a policy, and one that is neither.
#[derive(Clone, Debug)]
pub enum Configuration {
    Struct(Value),
    Text(String),
}

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
    /// Fields of the plugin and of the connection manager, laid over what `envoy/envoy.yaml` says.
    pub plugin_fields: Map<String, Value>,
    pub manager_fields: Map<String, Value>,
    /// The listener's transport socket, for TLS.
    pub transport_socket: Option<Value>,
    /// Another module that runs in the same Envoy, with an empty `vm_id`.
    pub other_module: Option<PathBuf>,
    clusters: Vec<(String, SocketAddr)>,
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
            drain: DRAIN,
            module: None,
            plugin_fields: Map::new(),
            manager_fields: Map::new(),
            transport_socket: None,
            other_module: None,
            clusters: upstreams.clusters().map(|(cluster, address)| (cluster.to_owned(), address)).collect(),
        }
    }

    /// What a case needs.
    pub fn for_case(case: &Case, upstreams: &Upstreams) -> Self {
        let mut filter_state: Vec<String> =
            case.requests.iter().flat_map(|request| request.expect.filter_state.keys().cloned()).collect();
        filter_state.sort();
        filter_state.dedup();
        Bootstrap {
            environment: case.environment.clone(),
            filter_state,
            ..Self::new(Configuration::Struct(case.policy.clone()), upstreams)
        }
    }

    /// Adds a cluster.
    pub fn cluster(&mut self, name: &str, address: SocketAddr) {
        self.clusters.push((name.to_owned(), address));
    }

    /// Writes the files that Envoy reads, and names the first.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, String> {
        let file = repository("envoy/envoy.yaml");
        let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut bootstrap = yaml(&text)?;
        bootstrap["admin"]["address"] = any_port();
        let mut tags = at(&mut bootstrap, "/stats_config/stats_tags")?.take();
        for name in self.tags() {
            let known = |tag: &Value| tag["tag_name"] == name.as_str();
            if let Some(list) = tags.as_array_mut()
                && !list.iter().any(known)
            {
                let regex = meshfilter::policy::metric::label_expression(&name);
                list.push(json!({"tag_name": name, "regex": regex}));
            }
        }
        bootstrap["stats_config"]["stats_tags"] = tags;
        let resources = at(&mut bootstrap, "/static_resources")?;
        resources["clusters"] = self.clusters.iter().map(|(name, address)| cluster(name, *address)).collect();
        self.listener(at(resources, "/listeners/0")?, folder)?;
        if let Some(module) = &self.other_module {
            bootstrap["bootstrap_extensions"] = json!([service(module)]);
        }
        let resources = at(&mut bootstrap, "/static_resources")?;
        if self.dynamic {
            let listeners = resources["listeners"].take();
            resources["listeners"] = json!([]);
            write_resource(folder, "lds", LISTENER, &listeners[0])?;
            bootstrap["node"] = json!({"id": "test", "cluster": "test"});
            bootstrap["dynamic_resources"] = json!({"lds_config": source(folder, "lds")});
        }
        super::write_bootstrap(folder, &bootstrap)
    }

    /// Replaces the listener of an Envoy that was started with `dynamic`.
    pub fn update(&self, folder: &Path) -> Result<(), String> {
        let text = fs::read_to_string(repository("envoy/envoy.yaml")).map_err(|error| error.to_string())?;
        let mut bootstrap = yaml(&text)?;
        let listener = at(&mut bootstrap, "/static_resources/listeners/0")?;
        self.listener(listener, folder)?;
        write_resource(folder, "lds", LISTENER, listener)
    }

    fn listener(&self, listener: &mut Value, folder: &Path) -> Result<(), String> {
        listener["address"] = any_port();
        if let Some(socket) = &self.transport_socket {
            at(listener, "/filter_chains/0")?["transport_socket"] = socket.clone();
        }
        let manager = at(listener, "/filter_chains/0/filters/0/typed_config")?;
        // The filter gets what the client sent, as on the fake host; what Envoy would settle before it has no say here.
        manager["normalize_path"] = false.into();
        manager["merge_slashes"] = false.into();
        manager["path_with_escaped_slashes_action"] = "KEEP_UNCHANGED".into();
        manager["common_http_protocol_options"]["headers_with_underscores_action"] = "ALLOW".into();
        manager["xff_num_trusted_hops"] = 1.into();
        if version()? < (1, 37) {
            // The tags of its spans cannot be read from formats yet.
            at(manager, "/tracing")?.take();
        }
        let state = |name: &String| (name.clone(), format!("%FILTER_STATE(wasm.{name}:PLAIN)%").into());
        let state: Map<String, Value> = self.filter_state.iter().map(state).collect();
        manager["access_log"] = json!([{
            "name": "file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": folder.join("access"),
                "log_format": {"json_format": {
                    "id": format!("%REQ({ID_HEADER})%"),
                    "details": "%RESPONSE_CODE_DETAILS%",
                    "code": "%RESPONSE_CODE%",
                    "flags": "%RESPONSE_FLAGS%",
                    "state": state,
                }},
            },
        }]);
        for (name, value) in &self.manager_fields {
            manager[name] = value.clone();
        }
        let filters = at(manager, "/http_filters")?.as_array_mut().ok_or("http_filters is no list")?;
        let filter = filters.iter_mut().find(|filter| filter["name"] == "meshfilter");
        let filter = filter.ok_or("envoy.yaml has no filter named meshfilter")?;
        let plugin = at(filter, "/typed_config/config")?;
        let [name, root_id, vm_id] = &self.plugin;
        plugin["name"] = name.as_str().into();
        plugin["root_id"] = root_id.as_str().into();
        plugin["vm_config"]["vm_id"] = vm_id.as_str().into();
        let module = self.module.clone().map_or_else(module, Ok)?;
        plugin["vm_config"]["code"] = json!({"local": {"filename": module}});
        for (name, value) in &self.plugin_fields {
            plugin[name] = value.clone();
        }
        plugin["vm_config"]["environment_variables"] = json!({"key_values": self.environment});
        plugin["configuration"] = match &self.configuration {
            Configuration::Struct(policy) => {
                json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": policy})
            }
            Configuration::Text(text) => {
                json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text})
            }
        };
        if self.dynamic_filter {
            write_resource(folder, "ecds", EXTENSION, filter)?;
            *filter = json!({"name": "meshfilter", "config_discovery": {
                "config_source": source(folder, "ecds"),
                "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
            }});
        }
        *at(manager, "/route_config/virtual_hosts/0/routes/1/route/cluster")? = "fallback".into();
        Ok(())
    }

    /// The labels that the policy adds to the metrics.
    fn tags(&self) -> Vec<String> {
        let Configuration::Struct(policy) = &self.configuration else { return Vec::new() };
        let tags = policy["telemetry"]["tags"].as_array();
        tags.into_iter().flatten().filter_map(|tag| tag["name"].as_str().map(str::to_owned)).collect()
    }
}

const LISTENER: &str = "envoy.config.listener.v3.Listener";
const EXTENSION: &str = "envoy.config.core.v3.TypedExtensionConfig";

/// An update has to appear at once, so the file is moved into place.
fn write_resource(folder: &Path, name: &str, kind: &str, resource: &Value) -> Result<(), String> {
    let mut resource = resource.clone();
    super::native::switch(&mut resource, &mut BTreeMap::new())?;
    resource["@type"] = format!("type.googleapis.com/{kind}").into();
    replace_file(&folder.join(format!("{name}.json")), &json!({"resources": [resource]}).to_string())
}

/// Replaces a file as Envoy wants it: a new one is moved over it.
pub fn replace_file(path: &Path, text: &str) -> Result<(), String> {
    let new = path.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Where Envoy finds a resource that [`write_resource`] wrote.
fn source(folder: &Path, name: &str) -> Value {
    json!({
        "resource_api_version": "V3",
        "path_config_source": {
            "path": folder.join(format!("{name}.json")),
            "watched_directory": {"path": folder},
        },
    })
}

pub(super) fn at<'a>(value: &'a mut Value, pointer: &str) -> Result<&'a mut Value, String> {
    value.pointer_mut(pointer).ok_or_else(|| format!("envoy.yaml has no {pointer}"))
}

/// Any free port on loopback.
pub fn any_port() -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}})
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

/// A cluster with one endpoint.
pub fn cluster(name: &str, address: SocketAddr) -> Value {
    let address = json!({"socket_address": {
        "address": address.ip().to_string(),
        "port_value": address.port(),
    }});
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    })
}
