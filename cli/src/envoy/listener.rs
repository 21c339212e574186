//! Who may ask, and how.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::cluster::duration;
use super::plugin::Module;
use super::{Address, Plugin, kind, lay_over, logs, put};

/// An address, and what is done with connections to it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its own.
    pub name: String,
    /// Where; `None` is inside the same Envoy, for clusters that name it.
    pub address: Option<Address>,
    /// The first that fits a connection has it.
    pub chains: Vec<Chain>,
}

/// What is done with connections of one kind.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The names that a client asks for by TLS; none: any.
    pub server_names: Vec<String>,
    /// `tls` or `raw_buffer`, where one address takes both.
    pub transport_protocol: Option<&'static str>,
    /// TLS; `None` is plain text.
    pub tls: Option<ListenerTls>,
    /// The HTTP in it.
    pub http: Http,
}

/// The TLS of a listener. Names of files, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// The certificate and those that signed it.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whose certificates clients show.
    pub clients: Clients,
    /// What else Envoy has for `common_tls_context`, laid over the rest.
    pub fields: Map<String, Value>,
}

/// Whose certificates clients show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Nobody is asked.
    Unknown,
    /// Each is asked for one. Who shows one has to have one of these authorities; who shows none has no name.
    Asked(PathBuf),
    /// Each has to have one of these authorities.
    Known(PathBuf),
}

/// HTTP as a policy wants it.
#[derive(Clone, Debug)]
pub struct Http {
    /// In statistics.
    pub stat_prefix: String,
    /// How many proxies before this one are trusted to say in `x-forwarded-for` who asks.
    pub xff_hops: u32,
    /// The longest time in which nothing may move in a stream.
    pub idle: Duration,
    /// Tags in logs and spans.
    pub tags: Vec<String>,
    /// Where spans go, and how many.
    pub tracing: Map<String, Value>,
    /// The filter; `None` where none decides.
    pub plugin: Option<Plugin>,
    /// Where requests go, by their hosts.
    pub hosts: Vec<VirtualHost>,
    /// What else Envoy has for a connection manager, laid over the rest.
    pub fields: Map<String, Value>,
}

/// Routes for some hosts.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    /// Its own.
    pub name: String,
    /// `*` is any.
    pub domains: Vec<String>,
    /// The first that fits is taken.
    pub routes: Vec<Route>,
    /// What else Envoy has for a virtual host, laid over the rest.
    pub fields: Map<String, Value>,
}

/// One way.
#[derive(Clone, Debug)]
pub struct Route {
    /// Of the path.
    pub prefix: String,
    /// Only where the policy chose a destination.
    pub chosen: bool,
    /// Only where it chose this cluster.
    pub decided: Option<String>,
    /// What becomes of it.
    pub action: Action,
    /// What else Envoy has for a route's action, laid over the rest: hash policies, for example.
    pub fields: Map<String, Value>,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// It goes where the policy sent it; where the policy sent it nowhere, this is no way.
    Decided,
    /// It goes to this cluster.
    Cluster(String),
    /// It is answered: status, headers, body, in which Envoy's formats stand for what was asked.
    Answer {
        /// 200 to 599.
        status: u16,
        /// Names and formats.
        headers: Vec<(String, String)>,
        /// A format.
        body: String,
    },
}

/// The longest time in which nothing may move, where no delay of the policy is longer.
pub const IDLE: Duration = Duration::from_secs(60);

/// The header in which the filter names the cluster that a policy chose.
const CLUSTER: &str = "x-meshfilter-cluster";

/// The header in which the filter names the host that the upstream is to see.
const AUTHORITY: &str = "x-meshfilter-authority";

/// The headers in which the filter names who gets copies.
const MIRRORS: [&str; 3] =
    ["x-meshfilter-mirror-cluster", "x-meshfilter-mirror-cluster-2", "x-meshfilter-mirror-cluster-3"];

/// How long an upstream may take where no entry says otherwise.
const TIMEOUT: &str = "15s";

/// What one connection may have in memory that is not yet sent on, in bytes.
const BUFFER: u32 = 32_768;

impl Listener {
    /// As Envoy reads it.
    pub fn value(&self) -> Value {
        let mut listener = json!({
            "name": self.name,
            "filter_chains": self.chains.iter().map(Chain::value).collect::<Vec<_>>(),
        });
        match &self.address {
            Some(address) => {
                put(&mut listener, &["address"], address.value());
                put(&mut listener, &["per_connection_buffer_limit_bytes"], BUFFER);
            }
            None => put(&mut listener, &["internal_listener"], json!({})),
        }
        if self.chains.iter().any(|chain| chain.selects()) {
            put(
                &mut listener,
                &["listener_filters"],
                json!([{
                    "name": "envoy.filters.listener.tls_inspector",
                    "typed_config": {"@type": kind("extensions.filters.listener.tls_inspector.v3.TlsInspector")},
                }]),
            );
        }
        listener
    }
}

impl Listener {
    /// Whether a native module decides here.
    pub(crate) fn has_native_plugin(&self) -> bool {
        let plugins = self.chains.iter().filter_map(|chain| chain.http.plugin.as_ref());
        plugins.into_iter().any(|plugin| matches!(plugin.module, Module::Native(_)))
    }
}

impl Chain {
    /// TLS and plain text at one address: Istio's PERMISSIVE.
    pub fn permissive(tls: ListenerTls, http: Http) -> Vec<Self> {
        vec![
            Chain { transport_protocol: Some("tls"), ..Self::new(Some(tls), http.clone()) },
            Chain { transport_protocol: Some("raw_buffer"), ..Self::new(None, http) },
        ]
    }

    /// Every connection, in plain text or TLS.
    pub fn new(tls: Option<ListenerTls>, http: Http) -> Self {
        Chain { server_names: Vec::new(), transport_protocol: None, tls, http }
    }

    fn selects(&self) -> bool {
        !self.server_names.is_empty() || self.transport_protocol.is_some()
    }

    fn value(&self) -> Value {
        let mut chain = json!({"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": self.http.value(),
        }]});
        if !self.server_names.is_empty() {
            put(&mut chain, &["filter_chain_match", "server_names"], json!(self.server_names));
        }
        if let Some(protocol) = self.transport_protocol {
            put(&mut chain, &["filter_chain_match", "transport_protocol"], protocol);
        }
        if let Some(tls) = &self.tls {
            put(&mut chain, &["transport_socket"], tls.value());
        }
        chain
    }
}

impl ListenerTls {
    fn value(&self) -> Value {
        let mut common = json!({
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificates":
                [{"certificate_chain": {"filename": self.chain}, "private_key": {"filename": self.key}}],
        });
        let mut context = json!({"@type": kind("extensions.transport_sockets.tls.v3.DownstreamTlsContext")});
        if let Clients::Asked(authorities) | Clients::Known(authorities) = &self.clients {
            put(&mut context, &["require_client_certificate"], matches!(self.clients, Clients::Known(_)));
            put(&mut common, &["validation_context"], json!({"trusted_ca": {"filename": authorities}}));
        }
        lay_over(&mut common, &self.fields);
        put(&mut context, &["common_tls_context"], common);
        json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
    }
}

impl Http {
    /// With the filter, and the routes that go where it says.
    pub fn new(plugin: Plugin, hosts: Vec<VirtualHost>) -> Self {
        Http { plugin: Some(plugin), ..Self::plain("http", hosts) }
    }

    /// Without a filter: these routes alone.
    pub fn plain(stat_prefix: &str, hosts: Vec<VirtualHost>) -> Self {
        Http {
            stat_prefix: stat_prefix.to_owned(),
            xff_hops: 0,
            idle: IDLE,
            tags: Vec::new(),
            tracing: Map::new(),
            plugin: None,
            hosts,
            fields: Map::new(),
        }
    }

    /// The connection manager.
    pub fn value(&self) -> Value {
        let mut manager = json!({
            "@type": kind("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": self.stat_prefix,
            "http_filters": self.filters(),
            "route_config": {"virtual_hosts": self.hosts.iter().map(VirtualHost::value).collect::<Vec<_>>()},
        });
        if self.plugin.is_some() {
            let guarded = json!({
                "use_remote_address": true,
                "normalize_path": true,
                "merge_slashes": true,
                "path_with_escaped_slashes_action": "REJECT_REQUEST",
                "common_http_protocol_options": {
                    "headers_with_underscores_action": "REJECT_REQUEST",
                    "idle_timeout": "3600s",
                },
                "http2_protocol_options": {"max_concurrent_streams": 100},
                "max_request_headers_kb": 60,
                "preserve_external_request_id": true,
                "stream_idle_timeout": duration(self.idle),
                "request_headers_timeout": "10s",
                "access_log": logs::access_logs(&self.tags),
            });
            lay_over(&mut manager, guarded.as_object().unwrap_or(&Map::new()));
            if self.xff_hops > 0 {
                put(&mut manager, &["xff_num_trusted_hops"], self.xff_hops);
            }
            if !self.tags.is_empty() || !self.tracing.is_empty() {
                let mut tracing = json!({"custom_tags": logs::custom_tags(&self.tags)});
                lay_over(&mut tracing, &self.tracing);
                put(&mut manager, &["tracing"], tracing);
            }
        }
        lay_over(&mut manager, &self.fields);
        manager
    }

    fn filters(&self) -> Value {
        let router = json!({
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": kind("extensions.filters.http.router.v3.Router")},
        });
        let Some(plugin) = &self.plugin else { return json!([router]) };
        // The direct peer, which Envoy hides from plugins, and that the route of a choice reads a rewritten host, too.
        let told = [
            ("meshfilter.direct_remote_address", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
            ("meshfilter.rewrites", "route"),
        ];
        let told = told.map(|(key, format)| {
            json!({
                "object_key": key,
                "factory_key": "envoy.string",
                "format_string": {"text_format_source": {"inline_string": format}},
            })
        });
        let state = json!({
            "name": "envoy.filters.http.set_filter_state",
            "typed_config": {
                "@type": kind("extensions.filters.http.set_filter_state.v3.Config"),
                "on_request_headers": told,
            },
        });
        json!([state, plugin.filter(), router])
    }
}

impl VirtualHost {
    /// Of every host: where the policy sent a request, with its copies, and else to the default.
    pub fn any(default: Option<Action>) -> Self {
        let routes = [Some(Action::Decided), default].into_iter().flatten();
        VirtualHost {
            name: "all".to_owned(),
            domains: vec!["*".to_owned()],
            routes: routes.map(Route::new).collect(),
            fields: Map::new(),
        }
    }

    fn value(&self) -> Value {
        let mut host = json!({
            "name": self.name,
            "domains": self.domains,
            "routes": self.routes.iter().map(Route::value).collect::<Vec<_>>(),
        });
        if self.routes.iter().any(|route| matches!(route.action, Action::Decided)) {
            put(
                &mut host,
                &["request_mirror_policies"],
                MIRRORS.iter().map(|header| json!({"cluster_header": header})).collect::<Value>(),
            );
        }
        lay_over(&mut host, &self.fields);
        host
    }
}

impl Route {
    /// For every path.
    pub fn new(action: Action) -> Self {
        let chosen = matches!(action, Action::Decided);
        Route { prefix: "/".to_owned(), chosen, decided: None, action, fields: Map::new() }
    }

    /// For every path, where the policy chose a destination.
    pub fn chosen(action: Action) -> Self {
        Route { chosen: true, ..Self::new(action) }
    }

    /// As Envoy reads it.
    pub fn value(&self) -> Value {
        let mut matching = json!({"prefix": self.prefix});
        if let Some(cluster) = &self.decided {
            let exact = json!([{"name": CLUSTER, "string_match": {"exact": cluster}}]);
            put(&mut matching, &["headers"], exact);
        } else if self.chosen {
            put(&mut matching, &["headers"], json!([{"name": CLUSTER, "present_match": true}]));
        }
        let to = |mut action: Value| {
            put(&mut action, &["timeout"], TIMEOUT);
            lay_over(&mut action, &self.fields);
            json!({"match": matching, "route": action})
        };
        match &self.action {
            Action::Decided => to(json!({"cluster_header": CLUSTER, "host_rewrite_header": AUTHORITY})),
            Action::Cluster(cluster) => to(json!({"cluster": cluster})),
            Action::Answer { status, headers, body } => {
                let header =
                    |(name, value): &(String, String)| json!({"header": {"key": name, "value": value}});
                json!({
                    "match": matching,
                    "direct_response": {
                        "status": status,
                        "body_format": {"text_format_source": {"inline_string": body}},
                    },
                    "response_headers_to_add": headers.iter().map(header).collect::<Vec<_>>(),
                })
            }
        }
    }
}
