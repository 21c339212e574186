//! Two listeners in one Envoy: its own filters behind the first, ours behind the second, the same upstreams behind both.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use meshfilter::policy::metric::{LABELS, label_expression};
use serde_json::{Value, json};

use crate::support::check::{Headers, Seen};
use crate::support::envoy::{Envoy, any_port, cluster, module};
use crate::support::http::{Client, Response, Upstream, request_bytes};

const UPSTREAMS: [&str; 4] = ["v1", "v2", "mirror", "fallback"];

/// By which a request is found again in the access log; upstreams do not tell it.
pub const ID: &str = "x-id";

/// A listener: its name, the filters before the router, and the virtual host behind them.
pub struct Listener {
    pub name: &'static str,
    pub filters: Vec<Value>,
    pub virtual_host: Value,
}

/// A filter of Envoy's.
pub fn native(name: &str, configuration: Value) -> Value {
    json!({"name": name, "typed_config": configuration})
}

/// Our filter, as the plugin of this name.
pub fn plugin(name: &str, policy: &Value) -> Value {
    json!({"name": "meshfilter", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "name": name,
            "failure_policy": "FAIL_RELOAD",
            "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": module().unwrap()}}},
            "configuration": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": policy},
        },
    }})
}

/// Says to our filter who makes the edits that could move the choice.
pub fn marker(who: &str) -> Value {
    native(
        "envoy.filters.http.set_filter_state",
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
            "on_request_headers": [{
                "object_key": "meshfilter.rewrites",
                "factory_key": "envoy.string",
                "format_string": {"text_format_source": {"inline_string": who}},
            }],
        }),
    )
}

/// The filter behind ours that makes them, as `docs/routing.md` has it.
pub fn lua() -> Value {
    let page = std::fs::read_to_string(crate::support::repository("docs/routing.md")).unwrap();
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let filters = blocks.filter(|block| block.contains("envoy.filters.http.lua"));
    let filters: Vec<Value> = filters.map(|block| crate::support::case::yaml(block).unwrap()).collect();
    let [block] = filters.as_slice() else { panic!("one block has the filter: {filters:?}") };
    block
        .as_array()
        .unwrap()
        .iter()
        .find(|filter| filter["name"] == "envoy.filters.http.lua")
        .unwrap()
        .clone()
}

/// A virtual host that leaves everything to our filter.
pub fn ours() -> Value {
    let mirrors = ["", "-2", "-3"].map(|place| format!("x-meshfilter-mirror-cluster{place}"));
    let policies = mirrors.map(|header| json!({"cluster_header": header}));
    json!({
        "name": "ours",
        "domains": ["*"],
        "request_mirror_policies": policies,
        "include_request_attempt_count": true,
    "request_headers_to_remove": ["x-meshfilter-cluster"],
        "routes": [
            {"match": {"prefix": "/", "headers": [{"name": "x-meshfilter-cluster", "present_match": true}]},
                "route": {"cluster_header": "x-meshfilter-cluster"}},
            {"match": {"prefix": "/"}, "route": {"cluster": "fallback"}},
        ],
    })
}

/// A virtual host of these routes of Envoy's.
pub fn theirs(routes: Vec<Value>) -> Value {
    json!({"name": "theirs", "domains": ["*"], "include_request_attempt_count": true, "routes": routes})
}

/// A running Envoy with listeners side by side.
pub struct SideBySide {
    pub envoy: Envoy,
    pub addresses: BTreeMap<String, SocketAddr>,
    pub upstreams: Vec<Upstream>,
}

impl SideBySide {
    pub fn start(listeners: &[Listener]) -> Self {
        Self::start_with(listeners, Vec::new())
    }

    /// With more clusters than those of the upstreams.
    pub fn start_with(listeners: &[Listener], more: Vec<Value>) -> Self {
        let upstreams: Vec<Upstream> = UPSTREAMS.iter().map(|name| upstream(name)).collect();
        let clusters: Vec<Value> = UPSTREAMS
            .iter()
            .zip(&upstreams)
            .map(|(name, upstream)| cluster(name, upstream.address()))
            .chain(more)
            .collect();
        let bootstrap = |folder: &Path| {
            let listeners: Vec<Value> = listeners.iter().map(|listener| json_of(listener, folder)).collect();
            json!({
                "admin": {"address": any_port()},
                "stats_config": {"stats_tags": labels()},
                "static_resources": {"listeners": listeners, "clusters": clusters},
            })
        };
        let envoy = Envoy::start_in(1, bootstrap).unwrap();
        let addresses = envoy.addresses().unwrap();
        SideBySide { envoy, addresses, upstreams }
    }

    /// A client of the listener of this name.
    pub fn client(&self, listener: &str) -> Sender {
        let address = self.addresses[listener];
        Sender { address, client: Client::connect(address).unwrap() }
    }

    /// What was sent to the upstream of this name.
    pub fn seen(&self, name: &str) -> Vec<Seen> {
        let place = UPSTREAMS.iter().position(|upstream| *upstream == name).unwrap();
        self.upstreams[place].seen()
    }
}

/// The labels of our metrics, and of a tag that is one.
fn labels() -> Value {
    let labels = LABELS.into_iter().chain(["grpc_status"]);
    labels.map(|label| json!({"tag_name": label, "regex": label_expression(label)})).collect()
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub host: &'static str,
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn new(method: &'static str, path: &str, headers: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        Request {
            method,
            path: path.to_owned(),
            host: "example.com",
            headers: headers.iter().map(owned).collect(),
        }
    }
}

/// A client that connects anew when it has to.
pub struct Sender {
    address: SocketAddr,
    client: Client,
}

impl Sender {
    pub fn send(&mut self, request: &Request, id: &str) -> Answer {
        let mut headers = request.headers.clone();
        headers.push((ID.to_owned(), id.to_owned()));
        let bytes = request_bytes(request.method, request.path.as_bytes(), request.host, &headers);
        self.client.send(&bytes).unwrap();
        let response = self.client.receive(request.method).unwrap();
        if response.header("connection").is_some() {
            self.client = Client::connect(self.address).unwrap();
        }
        Answer::new(response)
    }
}

/// A response, without what is never the same twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// By name; values of one name in their order.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    fn new(response: Response) -> Self {
        let body = response.text();
        let mut headers = text(response.headers);
        headers.retain(|(name, _)| !["date", "x-envoy-upstream-service-time"].contains(&name.as_str()));
        Answer { status: response.status, headers, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Takes headers away, so that the rest can be compared.
    pub fn without(mut self, names: &[&str]) -> Self {
        self.headers.retain(|(name, _)| !names.contains(&name.as_str()));
        self
    }
}

/// `%RESPONSE_CODE_DETAILS%` by the requests' ids.
pub fn details(envoy: &Envoy, count: usize) -> BTreeMap<String, String> {
    let of = |line: Value| Some((line["id"].as_str()?.to_owned(), line["details"].as_str()?.to_owned()));
    crate::support::envoy::wait_until("the access log", || {
        let lines: BTreeMap<_, _> = envoy.access_log().into_iter().filter_map(of).collect();
        (lines.len() >= count).then_some(lines)
    })
    .unwrap()
}

/// [`details`] of these requests.
pub fn details_of<'a>(envoy: &Envoy, ids: impl Iterator<Item = &'a str> + Clone) -> BTreeMap<String, String> {
    let mut missing = Vec::new();
    crate::support::envoy::wait_until("the access log", || {
        let lines = details(envoy, 0);
        missing = ids.clone().filter(|id| !lines.contains_key(*id)).collect();
        missing.is_empty().then_some(lines)
    })
    .unwrap_or_else(|error| panic!("{error}: there is no line of {missing:?}"))
}

fn text(headers: Headers) -> Vec<(String, String)> {
    let text = |(name, value): (String, Vec<u8>)| (name, String::from_utf8_lossy(&value).into_owned());
    let mut headers: Vec<_> = headers.into_iter().map(text).collect();
    headers.sort_by(|(one, _), (other, _)| one.cmp(other));
    headers
}

/// Says what it saw. `x-slow` and `x-fail` are how many attempts it lets wait and fails.
fn upstream(name: &'static str) -> Upstream {
    Upstream::start(name, move |seen| {
        let value = |name: &str| {
            let found = seen.headers.iter().find(|(key, _)| key == name);
            found.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse::<u32>().ok())
        };
        let attempt = value("x-envoy-attempt-count").unwrap_or(1);
        if value("x-slow").is_some_and(|attempts| attempts >= attempt) {
            thread::sleep(Duration::from_millis(800));
        }
        let status = match value("x-fail").is_some_and(|attempts| attempts >= attempt) {
            true => value("x-fail-status").unwrap_or(503),
            false => 200,
        };
        let mut headers = text(seen.headers.clone());
        // Ours alone needs headers for its mirrors and the host, up to the last moment.
        let ours = ["x-meshfilter-mirror-cluster", "x-meshfilter-authority"];
        headers.retain(|(name, _)| !ours.iter().any(|ours| name.starts_with(ours)));
        // What is left of the time when it is tried again is not the same twice.
        let again = |name: &str| attempt > 1 && name == "x-envoy-expected-rq-timeout-ms";
        headers.retain(|(name, _)| ![ID, "x-request-id"].contains(&name.as_str()) && !again(name));
        let path = String::from_utf8_lossy(&seen.path);
        let body = json!({"upstream": name, "path": path, "headers": headers}).to_string();
        let status = status.to_string();
        let headers =
            [(":status", status.as_str()), ("x-upstream", name), ("x-secret", "1"), ("x-both", "upstream")];
        (
            headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).to_vec(),
            body.into_bytes(),
        )
    })
    .unwrap()
}

fn json_of(listener: &Listener, folder: &Path) -> Value {
    let router = native(
        "envoy.filters.http.router",
        json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}),
    );
    let filters: Vec<&Value> = listener.filters.iter().chain([&router]).collect();
    json!({
        "name": listener.name,
        "address": any_port(),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": listener.name,
                "use_remote_address": true,
                "http2_protocol_options": {"max_concurrent_streams": 2000},
                "http_filters": filters,
                "route_config": {"virtual_hosts": [listener.virtual_host]},
                "access_log": [{"name": "file", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": folder.join("access"),
                    "log_format": {"json_format": {
                        "id": format!("%REQ({ID})%"),
                        "details": "%RESPONSE_CODE_DETAILS%",
                        "duration": "%DURATION%",
                        "grpc_status": "%FILTER_STATE(wasm.grpc_status:PLAIN)%",
                        "total_size": "%FILTER_STATE(wasm.total_size:PLAIN)%",
                        "took": "%FILTER_STATE(wasm.took:PLAIN)%",
                    }},
                }}],
            },
        }]}],
    })
}
