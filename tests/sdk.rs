//! The module's own binding to proxy-wasm, held to the `proxy-wasm` SDK: every number, and every signature as it stands in
//! the modules that both make. And why there is a binding of its own: a call that the proxy refuses ends the SDK's VM.

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use meshfilter::filter::Flow;
use meshfilter::host::{BufferType, LogLevel, MapType, MetricType, Status, StreamType};
use proxy_wasm::types as sdk;
use serde_json::{Value, json};
use support::envoy::{self, Envoy, Upstreams, cluster};
use support::http::request;
use support::repository;
use wasmparser::{ExternalKind, FuncType, Parser, Payload, TypeRef};

#[test]
fn numbers_are_those_of_the_sdk() {
    macro_rules! same {
        ($($own:ident, $sdk:ident: $($name:ident)*;)*) => {
            $($(assert_eq!(
                $own::$name as u32,
                sdk::$sdk::$name as u32,
                concat!(stringify!($own), "::", stringify!($name)),
            );)*)*
        };
    }
    same! {
        Status, Status: NotFound BadArgument SerializationFailure ParseFailure Empty CasMismatch InternalFailure;
        MapType, MapType: HttpRequestHeaders HttpResponseHeaders HttpCallResponseHeaders HttpCallResponseTrailers;
        BufferType, BufferType: HttpCallResponseBody PluginConfiguration;
        MetricType, MetricType: Counter Gauge Histogram;
        StreamType, StreamType: HttpRequest;
        Flow, Action: Continue Pause;
        LogLevel, LogLevel: Trace Debug Info Warn Error Critical;
    }
}

#[test]
fn signatures_are_those_of_the_sdk() {
    let own = Interface::of(&std::fs::read(envoy::module().unwrap()).unwrap());
    let sdk = Interface::of(&std::fs::read(fixture()).unwrap());
    // All calls but those of WASI, which are the standard library's.
    let calls: Vec<_> = own.imports.keys().filter(|name| name.starts_with("env.")).collect();
    assert!(calls.len() >= 20, "{calls:?}");
    for name in calls {
        assert_eq!(own.imports.get(name), sdk.imports.get(name), "{name}");
    }
    let callbacks: Vec<_> = own.exports.keys().filter(|name| name.starts_with("proxy_")).collect();
    assert!(callbacks.len() >= 9, "{callbacks:?}");
    for name in callbacks {
        assert_eq!(own.exports.get(name), sdk.exports.get(name), "{name}");
    }
    // What is not exported is not called.
    let more =
        sdk.exports.keys().filter(|name| name.starts_with("proxy_on_") && !own.exports.contains_key(*name));
    assert!(more.count() >= 15, "{:?}", sdk.exports.keys());
}

#[test]
fn a_refused_call_ends_the_vm_of_the_sdk() {
    let upstreams = Upstreams::start().unwrap();
    let envoy = Envoy::start_with(&proxy(&upstreams)).unwrap();
    let address = envoy.address().unwrap();
    let ask = |headers: &[(&str, &str)]| request(address, "/", headers).unwrap().status;
    assert_eq!(ask(&[]), 200);
    assert_eq!(ask(&[("x-refused", "please")]), 503);
    let log = envoy.log();
    assert!(log.contains("unexpected status: 2"), "{log}");
}

/// `make sdk`'s module: all calls, one of them refused.
fn fixture() -> std::path::PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--package", "meshfilter-sdk", "--target", "wasm32-wasip1"])
        .current_dir(repository(""))
        .status()
        .unwrap();
    assert!(built.success());
    repository("target/wasm32-wasip1/debug/meshfilter_sdk.wasm")
}

fn proxy(upstreams: &Upstreams) -> Value {
    let plugin = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "vm_config": {
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": fixture()}},
            },
        },
    });
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "v1"}}],
        }]},
        "http_filters": [
            {"name": "sdk", "typed_config": plugin},
            {"name": "router", "typed_config": {"@type": router}},
        ],
    });
    json!({
        "admin": {"address": envoy::any_port()},
        "static_resources": {
            "clusters": upstreams.clusters().map(|(name, address)| cluster(name, address)).collect::<Value>(),
            "listeners": [{
                "name": "test",
                "address": envoy::any_port(),
                "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
            }],
        },
    })
}

/// The functions that a module imports, as `MODULE.NAME`, and exports, with their types.
#[derive(Default)]
struct Interface {
    imports: BTreeMap<String, FuncType>,
    exports: BTreeMap<String, FuncType>,
}

impl Interface {
    fn of(module: &[u8]) -> Self {
        let mut interface = Interface::default();
        let mut types: Vec<FuncType> = Vec::new();
        // The types of all functions, the imported first.
        let mut functions: Vec<usize> = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            match payload.unwrap() {
                Payload::TypeSection(section) => {
                    types = section.into_iter_err_on_gc_types().map(Result::unwrap).collect();
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.unwrap();
                        if let TypeRef::Func(function) = import.ty {
                            functions.push(function as usize);
                            let name = format!("{}.{}", import.module, import.name);
                            interface.imports.insert(name, types[function as usize].clone());
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    functions.extend(section.into_iter().map(|function| function.unwrap() as usize));
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export.unwrap();
                        if export.kind == ExternalKind::Func {
                            let function = types[functions[export.index as usize]].clone();
                            interface.exports.insert(export.name.to_owned(), function);
                        }
                    }
                }
                _ => {}
            }
        }
        interface
    }
}
