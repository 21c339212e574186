//! What the Envoy of a case is started with: what `meshfilter bootstrap` writes, on ports that are free, with the case's
//! upstreams, a log for machines, and without what would keep a case's requests from the filter.

use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::ID_HEADER;
use super::upstreams::Upstreams;
use crate::cases::Case;
use crate::envoy::listener::{Action, Chain, Http, VirtualHost};
use crate::envoy::plan::{DEFAULT, Options};
use crate::envoy::plugin::{Configuration, Module};
use crate::envoy::policy::Names;
use crate::envoy::{Address, Bootstrap, Cluster, Listener, Plugin};

/// Tags by which the log tells how the filter ended a request: names and sources.
pub const TOLD: [(&str, &str); 3] =
    [("_case_decision", "decision"), ("_case_route", "route"), ("_case_destination", "destination")];

/// What stands in the lines of the access log, beside the request's id, details, code and flags.
#[derive(Clone, Copy, Debug)]
pub struct Log<'a> {
    /// The file is `access` in here.
    pub folder: &'a Path,
    /// Names of filter state.
    pub filter_state: &'a [String],
}

/// Any free port of this machine.
fn anywhere() -> Address {
    Address::new(Ipv4Addr::LOCALHOST.to_string(), 0)
}

/// The Envoy of a case.
///
/// # Errors
/// What is wrong with the policy.
pub fn bootstrap(
    case: &Case,
    module: &Module,
    upstreams: &Upstreams,
    folder: &Path,
) -> Result<Bootstrap, String> {
    let mut policy = case.policy.clone();
    let mut filter_state: Vec<String> =
        case.requests.iter().flat_map(|request| request.expect.filter_state.keys().cloned()).collect();
    filter_state.extend(case.requests.iter().flat_map(|request| request.expect.tags.keys().cloned()));
    if tells(case) {
        tell(&mut policy);
        filter_state.extend(TOLD.map(|(name, _)| name.to_owned()));
    }
    filter_state.sort();
    filter_state.dedup();
    let nowhere = Address::new(Ipv4Addr::LOCALHOST.to_string(), 9);
    let place = |cluster: &str| upstreams.address(cluster).map_or(nowhere.clone(), Address::from);
    let mut endpoints: Vec<(String, Vec<Address>)> = Names::of(&policy)
        .destinations
        .into_iter()
        .map(|destination| (destination.cluster.clone(), vec![place(&destination.cluster)]))
        .collect();
    endpoints.push((DEFAULT.to_owned(), vec![place(DEFAULT)]));
    let options = Options {
        listen: anywhere(),
        admin: anywhere(),
        endpoints,
        // A case names its client behind one proxy.
        xff_hops: 1,
        ..Options::new(module.clone())
    };
    let mut bootstrap = options.plan(&policy).map_err(|errors| errors.join("\n"))?.bootstrap;
    // Nobody outside this machine is asked, and what has no upstream is no cluster.
    bootstrap.clusters.retain(|cluster| upstreams.address(&cluster.name).is_some());
    let http = bootstrap.listeners.iter_mut().flat_map(|listener| &mut listener.chains);
    for Chain { http, .. } in http {
        open(http, Log { folder, filter_state: &filter_state });
        if let Some(plugin) = &mut http.plugin {
            plugin.host_variables.clear();
            plugin.variables = case.environment.clone();
        }
    }
    Ok(bootstrap)
}

/// An Envoy with any policy, good or not. What it sends nowhere goes to the cluster [`DEFAULT`].
pub fn plain(
    module: Module,
    configuration: Configuration,
    clusters: Vec<Cluster>,
    log: Log<'_>,
) -> Bootstrap {
    let plugin = Plugin::new(module, configuration);
    let mut labels = Vec::new();
    if let Configuration::Struct(policy) = &plugin.configuration {
        labels = Names::of(policy).labels;
    }
    let mut http = Http::new(plugin, vec![VirtualHost::any(Some(Action::Cluster(DEFAULT.to_owned())))]);
    http.xff_hops = 1;
    open(&mut http, log);
    Bootstrap {
        admin: Some(anywhere()),
        labels,
        listeners: vec![Listener {
            name: "http".to_owned(),
            address: Some(anywhere()),
            chains: vec![Chain::new(None, http)],
        }],
        clusters,
        ..Bootstrap::default()
    }
}

/// The filter gets what the client sent, as on the fake host; what Envoy would settle before it has no say here.
fn open(http: &mut Http, log: Log<'_>) {
    let state = |name: &String| (name.clone(), format!("%FILTER_STATE(wasm.{name}:PLAIN)%").into());
    let state: Map<String, Value> = log.filter_state.iter().map(state).collect();
    let fields = json!({
        "normalize_path": false,
        "merge_slashes": false,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "common_http_protocol_options": {"headers_with_underscores_action": "ALLOW"},
        "access_log": [{
            "name": "file",
            "typed_config": {
                "@type": crate::envoy::kind("extensions.access_loggers.file.v3.FileAccessLog"),
                "path": log.folder.join("access"),
                "log_format": {"json_format": {
                    "id": format!("%REQ({ID_HEADER})%"),
                    "details": "%RESPONSE_CODE_DETAILS%",
                    "code": "%RESPONSE_CODE%",
                    "flags": "%RESPONSE_FLAGS%",
                    "state": state,
                }},
            },
        }],
    });
    http.fields.extend(fields.as_object().cloned().unwrap_or_default());
}

/// Whether tags may be added to a case's policy: where there is no telemetry, nothing is counted, and a case may want just
/// that.
fn tells(case: &Case) -> bool {
    let counted = |series: &String| series.starts_with("meshfilter_request") || series.starts_with("istio_");
    case.policy.get("telemetry").is_some_and(|section| !section.is_null())
        || !case.counters.keys().any(counted)
}

/// Has the log tell how the filter ended a request.
fn tell(policy: &mut Value) {
    let Some(policy) = policy.as_object_mut() else { return };
    let telemetry = policy.entry("telemetry").or_insert(Value::Null);
    if telemetry.is_null() {
        *telemetry = json!({});
    }
    let tags = telemetry.as_object_mut().map(|section| section.entry("tags").or_insert_with(|| json!([])));
    if let Some(tags) = tags.and_then(Value::as_array_mut) {
        tags.extend(
            TOLD.map(|(name, source)| json!({"name": name, "value": {source: true}, "in": ["logs"]})),
        );
    }
}
