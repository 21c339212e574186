//! The filter, and the module that it is in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::{from_file, kind, lay_over, put};

/// The filter with its policy.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// By which listeners share what they count, and that begins its log lines.
    pub name: String,
    /// Its root id; Envoy and Istio have a name for both.
    pub root_id: String,
    /// Plugins of the same module and `vm_id` share a VM in each worker, and the data of all workers.
    pub vm_id: String,
    /// What is loaded.
    pub module: Module,
    /// The policy.
    pub configuration: Configuration,
    /// Variables that it gets from Envoy's own environment.
    pub host_variables: Vec<String>,
    /// Variables with their values, which `/config_dump` shows.
    pub variables: BTreeMap<String, String>,
    /// The folder whose [`PLUGIN_FILE`] has the filter, in place of the listener itself.
    pub from: Option<PathBuf>,
    /// What else Envoy has for a plugin, laid over the rest.
    pub fields: Map<String, Value>,
}

/// The file of [`Plugin::from`], as Envoy reads resources from files.
pub const PLUGIN_FILE: &str = "plugin.json";

/// What is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Module {
    /// WebAssembly, a file.
    Wasm(PathBuf),
    /// A shared library, a file.
    Native(PathBuf),
}

/// The two forms in which Envoy carries a policy.
#[derive(Clone, Debug, PartialEq)]
pub enum Configuration {
    /// As part of its own configuration.
    Struct(Value),
    /// As a text.
    Text(String),
}

impl Configuration {
    /// How it has to stand in YAML, if not as it is: Envoy's reader of YAML makes texts of numbers that have a fraction,
    /// or more than 32 bits, where no message says that they are numbers, as in a `Struct`. JSON has a reader of its own, which does not.
    pub(crate) fn for_yaml(&self) -> Option<Self> {
        match self {
            Configuration::Struct(policy) if self.is_other_in_yaml() => {
                Some(Configuration::Text(format!("{policy:#}")))
            }
            _ => None,
        }
    }

    /// Whether there is a [`Self::for_yaml`].
    pub(crate) fn is_other_in_yaml(&self) -> bool {
        matches!(self, Configuration::Struct(policy) if has_other_numbers(policy))
    }
}

fn has_other_numbers(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_i64().is_none_or(|number| i32::try_from(number).is_err()),
        Value::Array(list) => list.iter().any(has_other_numbers),
        Value::Object(map) => map.values().any(has_other_numbers),
        _ => false,
    }
}

impl Module {
    /// Whether it is a shared library.
    pub fn is_native(&self) -> bool {
        matches!(self, Module::Native(_))
    }

    /// What a file is, by its name's end.
    pub fn of(path: PathBuf) -> Result<Self, String> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("wasm") => Ok(Module::Wasm(path)),
            Some("so") => Ok(Module::Native(path)),
            _ => Err(format!("{}: a module ends in .wasm, or in .so where it is native", path.display())),
        }
    }
}

impl Plugin {
    /// The filter with this policy.
    pub fn new(module: Module, configuration: Configuration) -> Self {
        Plugin {
            name: "meshfilter".to_owned(),
            root_id: String::new(),
            vm_id: "meshfilter".to_owned(),
            module,
            configuration,
            host_variables: Vec::new(),
            variables: BTreeMap::new(),
            from: None,
            fields: Map::new(),
        }
    }

    /// The entry of `http_filters`.
    pub fn filter(&self) -> Value {
        match &self.from {
            None => self.definition(),
            Some(folder) => json!({"name": "meshfilter", "config_discovery": {
                "type_urls": [self.kind()],
                "config_source": from_file(folder, PLUGIN_FILE),
            }}),
        }
    }

    /// The content of [`PLUGIN_FILE`].
    pub fn resource(&self) -> Value {
        let mut resource = self.definition();
        put(&mut resource, &["@type"], kind("config.core.v3.TypedExtensionConfig"));
        json!({"resources": [resource]})
    }

    fn kind(&self) -> String {
        match self.module {
            Module::Wasm(_) => kind("extensions.filters.http.wasm.v3.Wasm"),
            Module::Native(_) => kind("extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter"),
        }
    }

    fn definition(&self) -> Value {
        let configuration = match &self.configuration {
            Configuration::Struct(policy) => {
                json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": policy})
            }
            Configuration::Text(text) => {
                json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text})
            }
        };
        let typed = match &self.module {
            Module::Wasm(path) => {
                let mut vm = json!({
                    "vm_id": self.vm_id,
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": path}},
                });
                if !self.host_variables.is_empty() {
                    put(&mut vm, &["environment_variables", "host_env_keys"], json!(self.host_variables));
                }
                if !self.variables.is_empty() {
                    put(&mut vm, &["environment_variables", "key_values"], json!(self.variables));
                }
                let mut config = json!({
                    "name": self.name,
                    "failure_policy": "FAIL_RELOAD",
                    "vm_config": vm,
                    "configuration": configuration,
                });
                if !self.root_id.is_empty() {
                    put(&mut config, &["root_id"], self.root_id.as_str());
                }
                lay_over(&mut config, &self.fields);
                json!({"@type": self.kind(), "config": config})
            }
            // It sees the variables of the process, and there is no VM to share.
            Module::Native(path) => json!({
                "@type": self.kind(),
                "dynamic_module_config": {
                    "module": {"local": {"filename": path}},
                    "metrics_namespace": "wasmcustom",
                },
                "filter_name": self.name,
                "filter_config": configuration,
            }),
        };
        json!({"name": "meshfilter", "typed_config": typed})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_yaml_would_make_texts_of_go_as_a_text() {
        for (policy, text) in [
            (json!({"a": [1, {"b": 2_147_483_647}]}), false),
            (json!({"a": [1, {"b": 0.5}]}), true),
            (json!({"a": 4_294_967_295_u32}), true),
        ] {
            assert_eq!(
                matches!(Configuration::Struct(policy.clone()).for_yaml(), Some(Configuration::Text(_))),
                text,
                "{policy}"
            );
        }
    }
}
