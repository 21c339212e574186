//! The same bootstraps with the native module: `MESHFILTER_MODULE=native` puts the filter entry of
//! `envoy.filters.http.dynamic_modules` in the place of every wasm one, and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::existing;

const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const NATIVE: &str =
    "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter";

/// Whether the tests run with the native module.
pub fn is_native() -> bool {
    std::env::var_os("MESHFILTER_MODULE").is_some_and(|module| module == "native")
}

/// The native module: `MESHFILTER_NATIVE`, or what `make native` leaves.
pub fn native_module() -> Result<PathBuf, String> {
    existing("MESHFILTER_NATIVE", "target/native/libmeshfilter.so", "make native")
}

/// What a native filter is configured with where a wasm one has this plugin.
pub fn filter(plugin: &Value, module: &Path) -> Value {
    let name = plugin["name"].as_str().filter(|name| !name.is_empty());
    json!({
        "@type": NATIVE,
        "dynamic_module_config": {
            "module": {"local": {"filename": module}},
            "metrics_namespace": "wasmcustom",
        },
        "filter_name": name.or(plugin["root_id"].as_str()).unwrap_or_default(),
        "filter_config": plugin["configuration"],
    })
}

/// Puts native filters in the place of wasm ones, if that is asked for. What the plugins' environment held is added to
/// `environment`, since a native module sees the process's own.
pub fn switch(value: &mut Value, environment: &mut BTreeMap<String, String>) -> Result<(), String> {
    if !is_native() {
        return Ok(());
    }
    match value {
        // Other modules stay what they are.
        Value::Object(object) if object.get("@type").is_some_and(|kind| kind == WASM) => {
            let code = value.pointer("/config/vm_config/code/local/filename").and_then(Value::as_str);
            if code.is_some_and(|path| !path.ends_with("meshfilter.wasm")) {
                return Ok(());
            }
            let plugin = value["config"].take();
            let variables = plugin["vm_config"]["environment_variables"]["key_values"].as_object();
            for (name, value) in variables.into_iter().flatten() {
                environment.insert(name.clone(), value.as_str().unwrap_or_default().to_owned());
            }
            *value = filter(&plugin, &native_module()?);
            Ok(())
        }
        Value::Object(object) => object.values_mut().try_for_each(|value| switch(value, environment)),
        Value::Array(values) => values.iter_mut().try_for_each(|value| switch(value, environment)),
        Value::String(text) if text == WASM => {
            *text = NATIVE.to_owned();
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What the whole bootstrap needs besides: without this feature, metrics are called `envoy_wasmcustom_meshfilter_…`.
pub fn switch_bootstrap(
    bootstrap: &mut Value,
    environment: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    switch(bootstrap, environment)?;
    if !is_native() {
        return Ok(());
    }
    let layer = json!({
        "name": "native",
        "static_layer": {"envoy.reloadable_features.dynamic_modules_strip_custom_stat_prefix": true},
    });
    match bootstrap["layered_runtime"]["layers"].as_array_mut() {
        Some(layers) => layers.insert(0, layer),
        None => bootstrap["layered_runtime"] = json!({"layers": [layer]}),
    }
    Ok(())
}
