//! Applies an EnvoyFilter as Istio's control plane does (istio: pilot/pkg/networking/core/envoyfilter), for the patches that
//! `envoy/k8s` has. Any other is an error, so that nothing is passed over in silence.

use serde::Deserialize;
use serde_json::Value;

use super::proxy::{HCM, Proxy};

/// What Istio calls the contexts of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Context {
    Gateway,
    SidecarInbound,
    SidecarOutbound,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConfigPatch {
    apply_to: String,
    r#match: Match,
    patch: Patch,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Match {
    context: Context,
    listener: Option<ListenerMatch>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListenerMatch {
    filter_chain: FilterChainMatch,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterChainMatch {
    filter: FilterMatch,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FilterMatch {
    name: String,
    sub_filter: Option<SubFilterMatch>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubFilterMatch {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    operation: String,
    value: Value,
}

/// Applies all patches of the filter, and says at how many places each of them did something.
pub fn apply(proxy: &mut Proxy, filter: &Value) -> Result<Vec<usize>, String> {
    let patches: Vec<ConfigPatch> = serde_json::from_value(filter["spec"]["configPatches"].clone())
        .map_err(|error| format!("configPatches: {error}"))?;
    // Istio's order: a network filter is merged before the HTTP filters in it are patched.
    if let Some(first) = patches.iter().position(|patch| patch.apply_to == "HTTP_FILTER")
        && patches.iter().skip(first).any(|patch| patch.apply_to == "NETWORK_FILTER")
    {
        return Err("NETWORK_FILTER after HTTP_FILTER: Istio would not keep this order".to_owned());
    }
    patches.iter().map(|patch| patch.apply(proxy)).collect()
}

impl ConfigPatch {
    fn apply(&self, proxy: &mut Proxy) -> Result<usize, String> {
        let Patch { operation, value } = &self.patch;
        let context = self.r#match.context;
        let unknown = || Err(format!("{} {operation} is not known here", self.apply_to));
        match (self.apply_to.as_str(), operation.as_str(), &self.r#match.listener) {
            ("NETWORK_FILTER", "MERGE", Some(listener)) => {
                let filter = &listener.filter_chain.filter;
                if filter.sub_filter.is_some() || value.as_object().is_none_or(|value| value.len() != 1) {
                    return unknown();
                }
                let mut managers = proxy.filters(context, &filter.name);
                for manager in &mut managers {
                    merge(&mut manager["typed_config"], &value["typed_config"], &filter.name)?;
                }
                Ok(managers.len())
            }
            ("HTTP_FILTER", "INSERT_FIRST", Some(listener)) => {
                self.insert(proxy, &listener.filter_chain.filter, |filters, value, wanted| {
                    wanted.is_none().then(|| filters.insert(0, value))
                })
            }
            ("HTTP_FILTER", "INSERT_BEFORE", Some(listener)) => {
                self.insert(proxy, &listener.filter_chain.filter, |filters, value, wanted| {
                    let name = wanted?.name.as_str();
                    let place = filters.iter().position(|filter| filter["name"] == name)?;
                    filters.insert(place, value);
                    Some(())
                })
            }
            ("VIRTUAL_HOST", "MERGE", None) => {
                let mut hosts = proxy.virtual_hosts(context);
                for host in &mut hosts {
                    merge(host, value, "virtual host")?;
                }
                Ok(hosts.len())
            }
            ("HTTP_ROUTE", "INSERT_FIRST", None) => {
                let mut hosts = proxy.virtual_hosts(context);
                for host in &mut hosts {
                    let routes = host["routes"].as_array_mut().ok_or("a virtual host without routes")?;
                    routes.insert(0, value.clone());
                }
                Ok(hosts.len())
            }
            ("CLUSTER", "ADD", None) => {
                let has_context = proxy.listeners.iter().any(|(has, _)| *has == context);
                if has_context {
                    proxy.clusters.push(value.clone());
                }
                Ok(usize::from(has_context))
            }
            ("EXTENSION_CONFIG", "ADD", None) => {
                // Only what a filter asks for is sent.
                let name = value["name"].as_str().ok_or("an extension without a name")?.to_owned();
                let asked =
                    proxy.http_filters(context).into_iter().flatten().any(|filter| {
                        filter["name"] == name.as_str() && filter["config_discovery"].is_object()
                    });
                if asked {
                    proxy.extensions.push(value.clone());
                }
                Ok(usize::from(asked))
            }
            _ => unknown(),
        }
    }

    fn insert(
        &self,
        proxy: &mut Proxy,
        wanted: &FilterMatch,
        into: impl Fn(&mut Vec<Value>, Value, Option<&SubFilterMatch>) -> Option<()>,
    ) -> Result<usize, String> {
        if wanted.name != HCM {
            return Err(format!("{} has no HTTP filters", wanted.name));
        }
        let lists = proxy.http_filters(self.r#match.context);
        let inserted = lists
            .into_iter()
            .filter_map(|filters| into(filters, self.patch.value.clone(), wanted.sub_filter.as_ref()));
        Ok(inserted.count())
    }
}

/// Protobuf's: lists grow, messages are merged, and what is not there yet is set. What is there already is not overwritten by
/// any patch of ours, nor are fields of a oneof, which this does not know.
pub fn merge(into: &mut Value, from: &Value, place: &str) -> Result<(), String> {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                match into.get_mut(key) {
                    Some(there) => merge(there, value, &format!("{place}.{key}"))?,
                    None => {
                        into.insert(key.clone(), value.clone());
                    }
                }
            }
            Ok(())
        }
        (Value::Array(into), Value::Array(from)) => {
            into.extend(from.iter().cloned());
            Ok(())
        }
        (into, from) if into == from => Ok(()),
        (into, from) => Err(format!("{place} would become {from} and is {into}")),
    }
}

/// For [`merge`].
#[test]
fn lists_grow_and_nothing_is_overwritten() {
    let mut into = serde_json::json!({"a": [1], "b": {"c": 1}});
    merge(&mut into, &serde_json::json!({"a": [2], "b": {"d": 2}, "e": 3}), "x").unwrap();
    assert_eq!(into, serde_json::json!({"a": [1, 2], "b": {"c": 1, "d": 2}, "e": 3}));
    let error = merge(&mut into, &serde_json::json!({"b": {"c": 2}}), "x").unwrap_err();
    assert_eq!(error, "x.b.c would become 2 and is 1");
}
