//! The ways through Istio: WasmPlugin and EnvoyFilter, in a gateway and in sidecars.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::envoyfilter::{Context, apply};
use super::install;
use super::kustomize::{build, find};
use super::proxy::{HCM, Proxy};
use crate::support::check::Series;
use crate::support::envoy::native::native_module;
use crate::support::envoy::{Envoy, module, wait_until};
use crate::support::http::{Client, Response, Upstream, request_bytes};
use crate::support::{sign, token};

const WEBAPP: &str = "webapp.default.svc.cluster.local";

/// Before this filter of Istio's comes a plugin of the phase AUTHN, and after that one.
const FIRST_AFTER_AUTHN: [&str; 2] = ["envoy.filters.http.rbac", "envoy.filters.http.grpc_stats"];

/// A proxy of Istio's with an overlay in it, and what stands behind it.
struct Mesh {
    envoy: Envoy,
    upstreams: BTreeMap<String, Upstream>,
}

impl Mesh {
    /// `adjust` has a say in the policy, before anything is made of it.
    fn start(kind: &str, context: Context, mut objects: Vec<Value>, adjust: impl FnOnce(&mut Value)) -> Self {
        for object in &mut objects {
            if let Some(policy) = policy(object) {
                adjust(policy);
                break;
            }
        }
        let mut proxy = Proxy::of_istio(kind);
        // Plugins are put in as the filter chain is made, filters of users patch what was made.
        for plugin in objects.iter().filter(|object| object["kind"] == "WasmPlugin") {
            insert_plugin(&mut proxy, context, plugin);
        }
        for filter in objects.iter().filter(|object| object["kind"] == "EnvoyFilter") {
            let places = apply(&mut proxy, filter).unwrap();
            assert!(places.iter().all(|places| *places > 0), "{}: {places:?}", filter["metadata"]["name"]);
        }
        proxy.extensions = proxy.extensions.into_iter().map(fetch).collect();
        let keys = sign::jwks(&["ec256"]).to_string();
        let mut upstreams = BTreeMap::new();
        for cluster in &proxy.clusters {
            let name = cluster["name"].as_str().unwrap();
            let (own, keys) = (name.to_owned(), keys.clone());
            let upstream = match name {
                "meshfilter-jwks" => {
                    holds_the_issuer_to_its_certificate(cluster);
                    Upstream::start(name, move |_| (Vec::new(), keys.clone().into_bytes()))
                }
                name if name.contains("|broken|") => {
                    Upstream::start(name, |_| (vec![(":status".to_owned(), b"503".to_vec())], Vec::new()))
                }
                _ => Upstream::start(name, move |seen| {
                    let header = |name: &str| seen.headers.iter().find(|(key, _)| key == name);
                    let user = header("x-user").map_or(Vec::new(), |(_, user)| user.clone());
                    (
                        vec![
                            ("x-upstream".to_owned(), own.clone().into_bytes()),
                            ("x-saw-user".to_owned(), user),
                        ],
                        Vec::new(),
                    )
                }),
            };
            upstreams.insert(name.to_owned(), upstream.unwrap());
        }
        let endpoints = upstreams.iter().map(|(name, upstream)| (name.clone(), upstream.address())).collect();
        let module = module().unwrap().display().to_string();
        let native = native_module().unwrap_or_default().display().to_string();
        let files =
            [("/etc/meshfilter/plugin.wasm", &*module), ("/etc/meshfilter/libmeshfilter.so", &*native)];
        let labels = find(&objects, "ConfigMap", "meshfilter-bootstrap");
        let labels = labels["data"]["custom_bootstrap.json"].as_str().unwrap();
        let envoy = proxy.start(&endpoints, &files, labels).unwrap();
        Mesh { envoy, upstreams }
    }

    fn address(&self, listener: &str) -> SocketAddr {
        self.envoy.addresses().unwrap()[listener]
    }

    /// How many requests a cluster got with this header.
    fn seen(&self, cluster: &str, header: &str) -> usize {
        let has = |headers: &[(String, Vec<u8>)]| headers.iter().any(|(name, _)| name == header);
        self.upstreams[cluster].seen().iter().filter(|seen| has(&seen.headers)).count()
    }
}

/// Where the policy stands in an object.
fn policy(object: &mut Value) -> Option<&mut Value> {
    match object["kind"].as_str()? {
        "WasmPlugin" => object.pointer_mut("/spec/pluginConfig"),
        "EnvoyFilter" => object["spec"]["configPatches"].as_array_mut()?.iter_mut().find_map(|patch| {
            let filter = patch.pointer_mut("/patch/value/typed_config")?;
            let native = filter.get("filter_config").is_some();
            filter.pointer_mut(if native { "/filter_config/value" } else { "/config/configuration/value" })
        }),
        _ => None,
    }
}

/// What Istio makes of a WasmPlugin (istio: pilot/pkg/model/extensions.go): a filter that comes by ECDS, its document as JSON
/// in a `StringValue`.
fn insert_plugin(proxy: &mut Proxy, context: Context, plugin: &Value) {
    let spec = &plugin["spec"];
    let name = format!(
        "{}.{}",
        plugin["metadata"]["namespace"].as_str().unwrap(),
        plugin["metadata"]["name"].as_str().unwrap()
    );
    let resource = format!("extensions.istio.io/trafficextension/{name}");
    let mode = match context {
        Context::SidecarInbound => "SERVER",
        _ => "CLIENT",
    };
    assert!(spec["match"].is_null() || spec["match"] == json!([{"mode": mode}]), "{spec}");
    assert_eq!((&spec["phase"], &spec["type"]), (&json!("AUTHN"), &json!("HTTP")));
    let failure_policy = match spec["failStrategy"].as_str().unwrap() {
        "FAIL_CLOSE" => "FAIL_CLOSED",
        other => other,
    };
    let (mut host, mut inline) = (Vec::new(), Map::new());
    for variable in spec["vmConfig"]["env"].as_array().into_iter().flatten() {
        match variable["valueFrom"].as_str() {
            Some("HOST") => host.push(variable["name"].clone()),
            _ => {
                inline.insert(variable["name"].as_str().unwrap().to_owned(), variable["value"].clone());
            }
        }
    }
    proxy.extensions.push(json!({
        "name": resource,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": name,
                "root_id": spec["pluginName"].as_str().unwrap_or_default(),
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": spec["pluginConfig"].to_string(),
                },
                "failure_policy": failure_policy,
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"remote": {"http_uri": {"uri": spec["url"], "cluster": "_", "timeout": "30s"}, "sha256": spec["sha256"]}},
                    "environment_variables": {"host_env_keys": host, "key_values": inline},
                },
            },
        },
    }));
    let filter = json!({
        "name": resource,
        "config_discovery": {
            "config_source": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "type_urls": [
                "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            ],
        },
    });
    for filters in proxy.http_filters(context) {
        let place =
            filters.iter().position(|filter| FIRST_AFTER_AUTHN.iter().any(|name| filter["name"] == *name));
        filters.insert(place.unwrap(), filter.clone());
    }
}

/// What Istio's agent makes of an extension: it fetches the module, and hands it on as a file.
fn fetch(mut extension: Value) -> Value {
    let code = &mut extension["typed_config"]["config"]["vm_config"]["code"];
    let remote = &code["remote"];
    let uri = remote["http_uri"]["uri"].as_str().unwrap();
    let scheme = uri.split_once("://").unwrap().0;
    assert!(["oci", "https"].contains(&scheme), "{uri}");
    // No proxy loads it before the user has put in a digest.
    assert_eq!(remote["sha256"].as_str().unwrap(), "0".repeat(64));
    *code = json!({"local": {"filename": module().unwrap()}});
    extension
}

/// Here the issuer speaks plain HTTP; there it has a certificate.
fn holds_the_issuer_to_its_certificate(cluster: &Value) {
    let tls = &cluster["transport_socket"]["typed_config"];
    let validation = &tls["common_tls_context"]["validation_context"];
    assert_eq!(tls["sni"], "auth.example.com");
    assert_eq!(validation["match_typed_subject_alt_names"][0]["matcher"]["exact"], "auth.example.com");
    assert!(validation["trusted_ca"]["filename"].is_string());
}

fn get(address: SocketAddr, host: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut client = Client::connect(address).unwrap();
    client.send(&request_bytes("GET", path.as_bytes(), host, headers)).unwrap();
    client.receive("GET").unwrap()
}

/// A token of `sub`, and what stands before it.
pub fn bearer(sub: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let claims = json!({"iss": "https://auth.example.com", "aud": "webapp-api", "sub": sub, "tenant": "globex", "exp": "+1h"});
    format!("Bearer {}", token::sign("ec256", "ES256", &Map::new(), &claims, now).unwrap())
}

/// Entries in front of the sample's own, for what it does not show: mirrors, retries, and who the direct peer is.
fn further_entries(policy: &mut Value) {
    let entries = policy["http"].as_array_mut().unwrap();
    entries.insert(
        0,
        json!({
            "match": [{"authority": {"prefix": "webapp"}, "uri": {"exact": "/mirrored"}}],
            "route": [{"destination": {"host": WEBAPP, "subset": "v1"}}],
            "mirror": {"host": WEBAPP, "subset": "v2"},
        }),
    );
    entries.insert(
        0,
        json!({
            "match": [{"authority": {"prefix": "webapp"}, "uri": {"exact": "/broken"}}],
            "route": [{"destination": {"host": WEBAPP, "subset": "broken"}}],
            "retries": {"attempts": 1, "retryOn": "503"},
        }),
    );
    policy["authorization"].as_array_mut().unwrap().push(json!({
        "name": "peers",
        "action": "DENY",
        "rules": [{"from": [{"source": {"ipBlocks": ["127.0.0.0/8"]}}], "to": [{"operation": {"paths": ["/peer"]}}]}],
    }));
}

/// What the sample policy decides, whichever way it came, where there are routes to choose.
fn exercise(mesh: &Mesh, listener: &str, webapp: &str, shop: &str) {
    let address = mesh.address(listener);
    let get = |host: &str, path: &str, headers: &[(&str, &str)]| get(address, host, path, headers);
    let upstream = |response: &Response| response.header("x-upstream").unwrap_or_default();

    // The canary goes to its subset, the rest to both.
    let canary = get(webapp, "/", &[("canary", "true")]);
    assert_eq!(
        (canary.status, upstream(&canary)),
        (200, format!("outbound|80|v2|{WEBAPP}")),
        "{}",
        mesh.envoy.log()
    );
    let mut arms = BTreeMap::new();
    for _ in 0..60 {
        *arms.entry(upstream(&get(webapp, "/", &[]))).or_insert(0) += 1;
    }
    let [v1, v2] = ["v1", "v2"].map(|arm| *arms.get(&format!("outbound|80|{arm}|{WEBAPP}")).unwrap_or(&0));
    // Of 60 with 90 to 10, more than half.
    assert!(v1 > 30 && v1 + v2 == 60, "{arms:?}");

    // Where the policy chose nothing, Istio's own routes stay; and nobody chooses but the policy.
    for forged in [None, Some(format!("outbound|80|v2|{WEBAPP}"))] {
        let headers: Vec<_> = forged.iter().map(|forged| ("x-meshfilter-cluster", forged.as_str())).collect();
        let other = get(shop, "/", &headers);
        assert_eq!(
            (other.status, upstream(&other).as_str()),
            (200, "outbound|80|v1|shop.default.svc.cluster.local")
        );
    }

    // Tokens, verified with keys that came through the cluster of the patch.
    let refused = get(webapp, "/api/orders", &[]);
    assert_eq!((refused.status, refused.text().as_str()), (401, "Jwt is missing"));
    let bearer = bearer("alice");
    let refused = get(webapp, "/api/orders", &[("authorization", &bearer)]);
    assert_eq!((refused.status, refused.text().as_str()), (403, "RBAC: access denied"));
    let allowed = get(webapp, "/api/orders", &[("authorization", &bearer), ("user-role", "user")]);
    assert_eq!((allowed.status, allowed.header("x-saw-user")), (200, Some("alice".to_owned())));

    // Mirrors and retries reach the router.
    assert_eq!(get(webapp, "/mirrored", &[("x-copied", "yes")]).status, 200);
    let copied = || (mesh.seen(&format!("outbound|80|v2|{WEBAPP}"), "x-copied") == 1).then_some(());
    wait_until("the copy", copied).unwrap();
    assert_eq!(get(webapp, "/broken", &[("x-tried", "yes")]).status, 503);
    assert_eq!(mesh.seen(&format!("outbound|80|broken|{WEBAPP}"), "x-tried"), 2);

    // The direct peer is known.
    assert_eq!(get(webapp, "/peer", &[]).text(), "RBAC: access denied");

    // The log has the tags, the metrics their labels.
    let is_it = |line: &Value| line["path"] == "/api/orders" && line["status"] == 200;
    let line = wait_until("the access log", || mesh.envoy.access_log().into_iter().find(is_it)).unwrap();
    assert_eq!((&line["tenant"], &line["details"]), (&json!("globex"), &json!("via_upstream")));
    assert!(line["request_id"].is_string(), "{line}");
    let cluster = line["destination"].as_str().unwrap();
    assert!(cluster.starts_with("outbound|80|v"), "{line}");
    has_labels(
        &mesh.envoy,
        &[("decision", "allowed"), ("tenant", "globex"), ("destination", cluster), ("response_code", "200")],
    );
}

/// Waits until a series of `meshfilter_requests_total` has these labels. Where nothing takes the namespace of a native module
/// away, it stands before the name.
pub fn has_labels(envoy: &Envoy, labels: &[(&str, &str)]) {
    let has = |series: &Series| {
        series.name.ends_with("meshfilter_requests_total")
            && labels.iter().all(|(name, value)| series.labels.get(*name).is_some_and(|found| found == value))
    };
    let found = || envoy.prometheus().keys().any(has).then_some(());
    wait_until("a series", found)
        .unwrap_or_else(|error| panic!("{error}: {labels:?} in {:?}", envoy.prometheus().keys()));
}

fn exercise_gateway(overlay: &str) {
    let mesh = Mesh::start("gateway", Context::Gateway, build(overlay), further_entries);
    install::exercise(overlay, mesh.address("0.0.0.0_8080"));
    exercise(&mesh, "0.0.0.0_8080", "webapp.example.com", "shop.example.com");
}

#[test]
fn a_wasm_plugin_in_a_gateway() {
    exercise_gateway("istio-wasmplugin");
}

#[test]
fn an_envoy_filter_in_a_gateway() {
    exercise_gateway("istio-envoyfilter");
}

#[test]
fn an_envoy_filter_with_the_native_module() {
    match native_module() {
        Ok(_) => exercise_gateway("istio-envoyfilter-native"),
        Err(error) => eprintln!("0 cases: {error}"),
    }
}

#[test]
fn an_envoy_filter_with_the_module_from_a_url() {
    exercise_gateway("istio-remote");
}

#[test]
fn a_wasm_plugin_on_the_way_out_of_a_sidecar() {
    let mesh = Mesh::start("sidecar", Context::SidecarOutbound, build("istio-sidecar"), further_entries);
    install::exercise("istio-sidecar", mesh.address("0.0.0.0_80"));
    exercise(&mesh, "0.0.0.0_80", "webapp", "shop");
}

#[test]
fn a_wasm_plugin_on_the_way_into_a_sidecar() {
    let mesh = Mesh::start("sidecar", Context::SidecarInbound, build("istio-inbound"), |_| {});
    let address = mesh.address("virtualInbound");
    install::exercise("istio-inbound", address);
    let refused = get(address, "webapp", "/api/orders", &[]);
    assert_eq!((refused.status, refused.text().as_str()), (401, "Jwt is missing"));
    let bearer = bearer("alice");
    let headers = [
        ("authorization", bearer.as_str()),
        ("user-role", "user"),
        ("x-meshfilter-cluster", "PassthroughCluster"),
    ];
    let allowed = get(address, "webapp", "/api/orders", &headers);
    assert_eq!((allowed.status, allowed.header("x-upstream")), (200, Some("inbound|8080||".to_owned())));
    assert_eq!(allowed.header("x-saw-user"), Some("alice".to_owned()));
    // A request that has arrived stays, and what the client's proxy chose ends here.
    let canary = get(address, "webapp", "/", &[("canary", "true")]);
    assert_eq!((canary.status, canary.header("x-upstream")), (200, Some("inbound|8080||".to_owned())));
    assert_eq!(mesh.seen("inbound|8080||", "x-meshfilter-cluster"), 0);
    // What leaves the same pod is none of its business.
    let out = get(mesh.address("0.0.0.0_80"), "webapp", "/api/orders", &[]);
    assert_eq!((out.status, out.header("x-upstream")), (200, Some(format!("outbound|80||{WEBAPP}"))));
}

/// Routes without a filter in front of them: a plugin that was taken away, or is not there yet.
#[test]
fn without_the_filter_nobody_chooses_a_cluster() {
    let mesh = Mesh::start("gateway", Context::Gateway, build("istio"), |_| {});
    let forged = format!("outbound|80|v2|{WEBAPP}");
    let headers =
        [("x-meshfilter-cluster", forged.as_str()), ("x-meshfilter-mirror-cluster", forged.as_str())];
    let answer = get(mesh.address("0.0.0.0_8080"), "webapp.example.com", "/", &headers);
    assert_eq!((answer.status, answer.header("x-upstream")), (200, Some(format!("outbound|80||{WEBAPP}"))));
    assert_eq!(mesh.upstreams[&forged].seen().len(), 0);
}

/// The places of the patches are there in a sidecar that Istio configured.
#[test]
fn patches_find_their_places_in_a_real_sidecar() {
    let Some(folder) = crate::shared::folder() else { return };
    let text = fs::read_to_string(folder.join("istio/sidecar/configdump.yaml")).unwrap();
    let dump: Value = serde_json::from_str(&text).unwrap();
    let mut ran = 0;
    for (overlay, context) in
        [("istio-sidecar", Context::SidecarOutbound), ("istio-inbound", Context::SidecarInbound)]
    {
        let mut proxy = Proxy::of_dump(&dump);
        let managers = proxy.filters(context, HCM).len();
        let hosts = proxy.virtual_hosts(context).len();
        let objects = build(overlay);
        let filter = find(&objects, "EnvoyFilter", "meshfilter-routes");
        let places = apply(&mut proxy, filter).unwrap();
        eprintln!(
            "{overlay}: {managers} connection managers, {hosts} virtual hosts of their own, {places:?} places"
        );
        // A dump of listeners has no named routes.
        let expected: Vec<usize> = filter["spec"]["configPatches"]
            .as_array()
            .unwrap()
            .iter()
            .map(|patch| match patch["applyTo"].as_str().unwrap() {
                "VIRTUAL_HOST" | "HTTP_ROUTE" => hosts,
                "CLUSTER" => 1,
                _ => managers,
            })
            .collect();
        assert_eq!(places, expected);
        assert!(managers > 0);
        for filters in proxy.http_filters(context) {
            let last = filters.last().unwrap();
            assert_eq!(filters[0]["name"], "envoy.filters.http.set_filter_state");
            assert_eq!(last["name"], "envoy.filters.http.router");
        }
        ran += places.iter().sum::<usize>();
    }
    // Where a filter of ours would go: before the router, which each of them has.
    let mut proxy = Proxy::of_dump(&dump);
    let objects = build("istio-envoyfilter");
    let mut filter = find(&objects, "EnvoyFilter", "meshfilter").clone();
    filter["spec"]["configPatches"][0]["match"]["context"] = "SIDECAR_OUTBOUND".into();
    let places = apply(&mut proxy, &filter).unwrap();
    assert_eq!(places, [proxy.filters(Context::SidecarOutbound, HCM).len()]);
    for filters in proxy.http_filters(Context::SidecarOutbound) {
        assert_eq!(filters[filters.len() - 2]["name"], "meshfilter");
    }
    ran += places[0];
    eprintln!("{ran} cases");
    assert!(ran > 0);
}
