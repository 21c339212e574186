//! The way through Envoy Gateway: an EnvoyExtensionPolicy on a Gateway, and routes that read what the filter decided.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::install;
use super::istio::{bearer, has_labels};
use super::kustomize::{build, find};
use crate::support::envoy::native::native_module;
use crate::support::envoy::{Envoy, any_port, cluster, module};
use crate::support::http::{Response, Upstream, request};

/// What Envoy Gateway makes of the objects (envoyproxy/gateway: internal/xds/translator): each policy is a filter that is off
/// until a route turns it on, each rule of a route a cluster.
fn translate(objects: &[Value], backends: &[(&str, SocketAddr)]) -> Value {
    let gateway = find(objects, "Gateway", "meshfilter");
    let policy = find(objects, "EnvoyExtensionPolicy", "meshfilter");
    let route = find(objects, "HTTPRoute", "webapp");
    let target = &policy["spec"]["targetRefs"][0];
    assert_eq!((&target["kind"], &target["name"]), (&json!("Gateway"), &gateway["metadata"]["name"]));
    assert_eq!(route["spec"]["parentRefs"][0]["name"], gateway["metadata"]["name"]);
    let parameters = &gateway["spec"]["infrastructure"]["parametersRef"];
    assert_eq!(parameters["name"], find(objects, "EnvoyProxy", "meshfilter")["metadata"]["name"]);

    let traffic = &find(objects, "ClientTrafficPolicy", "meshfilter")["spec"];
    assert_eq!(traffic["targetRefs"], policy["spec"]["targetRefs"]);
    assert_eq!(traffic["headers"], json!({"withUnderscoresAction": "RejectRequest"}));

    let (filter_name, filter) = match policy["spec"]["wasm"].is_array() {
        true => wasm(policy),
        false => native(policy, find(objects, "EnvoyProxy", "meshfilter")),
    };
    let filter = json!({"name": filter_name, "disabled": true, "typed_config": filter});
    let (mut routes, mut clusters) = (Vec::new(), Vec::new());
    for (index, rule) in route["spec"]["rules"].as_array().unwrap().iter().enumerate() {
        let name = format!("httproute/default/webapp/rule/{index}");
        let header =
            |header: &Value| json!({"name": header["name"], "string_match": {"exact": header["value"]}});
        let headers: Vec<Value> =
            rule["matches"][0]["headers"].as_array().into_iter().flatten().map(header).collect();
        let enabled =
            json!({"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}});
        routes.push(json!({
            "name": format!("{name}/match/0/*"),
            "match": {"prefix": "/", "headers": headers},
            "route": {"cluster": name, "upgrade_configs": [{"upgrade_type": "websocket"}]},
            "typed_per_filter_config": {filter_name.as_str(): enabled},
        }));
        let backend = rule["backendRefs"][0]["name"].as_str().unwrap();
        let (_, address) = backends.iter().find(|(name, _)| *name == backend).unwrap();
        clusters.push(cluster(&name, *address));
    }
    // The more a rule asks for, the earlier it comes.
    routes.sort_by_key(|route| std::cmp::Reverse(route["match"]["headers"].as_array().unwrap().len()));
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http-10080",
        "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
        "http2_protocol_options": {"max_concurrent_streams": traffic["http2"]["maxConcurrentStreams"]},
        "merge_slashes": true,
        "normalize_path": true,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
        "server_header_transformation": "PASS_THROUGH",
        "use_remote_address": true,
        "http_filters": [filter, {
            "name": "envoy.filters.http.router",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                "suppress_envoy_headers": true,
            },
        }],
        "route_config": {
            "name": "default/meshfilter/http",
            "ignore_port_in_host_matching": true,
            "virtual_hosts": [{"name": "default/meshfilter/http/*", "domains": ["*"], "routes": routes}],
        },
    });
    json!({
        "admin": {"address": any_port()},
        "stats_config": {"use_all_default_tags": true, "stats_tags": [{"regex": r"\.zone(\.(([^\.]+)\.))", "tag_name": "from_zone"}]},
        "static_resources": {
            "listeners": [{
                "name": "default/meshfilter/http",
                "address": any_port(),
                "default_filter_chain": {
                    "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
                },
            }],
            "clusters": clusters,
        },
    })
}

/// A filter's name and its configuration.
fn wasm(policy: &Value) -> (String, Value) {
    let wasm = &policy["spec"]["wasm"][0];
    assert_eq!(wasm["code"]["image"]["url"], "registry.example.com/meshfilter:0.1.0");
    let id = "envoyextensionpolicy/default/meshfilter/wasm/0";
    let filter = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "name": wasm["name"],
            "fail_open": wasm["failOpen"],
            "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": wasm["config"].to_string(),
            },
            "vm_config": {
                "vm_id": id,
                "runtime": "envoy.wasm.runtime.v8",
                // It fetches the image itself, and serves the module to its proxies.
                "code": {"local": {"filename": module().unwrap()}},
                "environment_variables": {"host_env_keys": wasm["env"]["hostKeys"]},
            },
        },
    });
    (format!("envoy.filters.http.wasm/{id}"), filter)
}

/// The same for a module that the proxies have, and may load.
fn native(policy: &Value, proxy: &Value) -> (String, Value) {
    let module = &policy["spec"]["dynamicModule"][0];
    let allowed = proxy["spec"]["dynamicModules"].as_array().unwrap();
    let allowed = allowed.iter().find(|allowed| allowed["name"] == module["name"]).unwrap();
    // Envoy looks for it where the image volume is.
    let deployment = &proxy["spec"]["provider"]["kubernetes"]["envoyDeployment"];
    let volume = &deployment["pod"]["volumes"][0];
    let mount = &deployment["container"]["volumeMounts"][0];
    assert_eq!(mount["name"], volume["name"]);
    let path = json!([{"name": "ENVOY_DYNAMIC_MODULES_SEARCH_PATH", "value": mount["mountPath"]}]);
    assert_eq!(deployment["container"]["env"], path);
    assert_eq!(allowed["source"], json!({"type": "Local", "local": {"libraryName": "meshfilter"}}));
    let filter = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
        "dynamic_module_config": {"module": {"local": {"filename": native_module().unwrap()}}},
        "filter_name": module["filterName"],
        "filter_config": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": module["config"].to_string(),
        },
    });
    let name = "envoy.filters.http.dynamic_modules/envoyextensionpolicy/default/meshfilter/dynamicmodule/0";
    (name.to_owned(), filter)
}

#[test]
fn an_envoy_extension_policy() {
    exercise("envoy-gateway");
}

#[test]
fn an_envoy_extension_policy_with_the_native_module() {
    match native_module() {
        Ok(_) => exercise("envoy-gateway-native"),
        Err(error) => eprintln!("0 cases: {error}"),
    }
}

fn exercise(overlay: &str) {
    let objects = build(overlay);
    let [v1, v2] = ["webapp-v1", "webapp-v2"].map(|name| Upstream::echo(name).unwrap());
    let bootstrap = translate(&objects, &[("webapp-v1", v1.address()), ("webapp-v2", v2.address())]);
    let proxy = &find(&objects, "EnvoyProxy", "meshfilter")["spec"]["bootstrap"];
    assert_eq!(proxy["type"], "Merge");
    let envoy = Envoy::start_merged(proxy["value"].as_str().unwrap(), |_| bootstrap).unwrap();
    let address = envoy.address().unwrap();
    install::exercise(overlay, address);
    let get = |path: &str, headers: &[(&str, &str)]| request(address, path, headers).unwrap();
    let upstream = |response: &Response| response.header("x-upstream");

    // The policy is about hosts that begin with webapp; example.com is none, and keeps the Gateway's own way.
    assert_eq!(upstream(&get("/", &[("canary", "true")])), Some("webapp-v1".to_owned()));
    let webapp = |headers: &[(&str, &str)]| {
        let mut client = crate::support::http::Client::connect(address).unwrap();
        client
            .send(&crate::support::http::request_bytes("GET", b"/", "webapp.example.com", headers))
            .unwrap();
        client.receive("GET").unwrap()
    };
    let canary = webapp(&[("canary", "true")]);
    assert_eq!((canary.status, upstream(&canary)), (200, Some("webapp-v2".to_owned())), "{}", envoy.log());
    let mut stable = 0;
    for _ in 0..60 {
        stable += u32::from(upstream(&webapp(&[])).as_deref() == Some("webapp-v1"));
    }
    // Of 60 with 90 to 10, more than half.
    assert!(stable > 30, "{stable}");
    // Nobody chooses but the policy.
    let forged = get("/", &[("x-meshfilter-cluster", "webapp.default.svc.cluster.local|v2")]);
    assert_eq!(upstream(&forged), Some("webapp-v1".to_owned()));

    let refused = get("/api/orders", &[]);
    assert_eq!((refused.status, refused.text().as_str()), (401, "Jwt is missing"));
    let bearer = bearer("alice");
    let allowed = get("/api/orders", &[("authorization", &bearer), ("user-role", "user")]);
    assert_eq!(allowed.status, 200);
    assert!(allowed.text().contains(r#""x-user":"alice""#), "{}", allowed.text());
    has_labels(&envoy, &[("decision", "allowed"), ("tenant", "globex")]);
}
