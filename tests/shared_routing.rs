//! Third-party cases of routing: Envoy's route matching and weighted clusters, Istio's samples, SMI and Linkerd.

#![cfg(not(target_family = "wasm"))]

mod shared;
mod support;

use std::path::{Path, PathBuf};

use meshfilter::config;
use meshfilter::host::fake::Fake;
use meshfilter::pipeline::Pipeline;
use meshfilter::policy::{Facts, Policy, Step};
use meshfilter::request::Request;
use serde_json::{Value, json};

fn compile(document: &Value) -> Result<Policy, Vec<String>> {
    let loaded = config::load(document.to_string().as_bytes(), &|_| None);
    let messages = |errors: Vec<config::ConfigError>| errors.iter().map(ToString::to_string).collect();
    loaded.map(|compiled| compiled.policy).map_err(messages)
}

fn send(policy: &Policy, host: &Fake, headers: &[(&str, &str)]) -> (Step, Facts) {
    let mut request = Request::new(headers.iter().copied().collect(), Vec::new(), 0);
    let mut facts = Facts::default();
    let step = Pipeline::default().run(policy, &mut request, &mut facts, host);
    (step, facts)
}

/// Every YAML document in the files of a folder, with the file's name. What is not YAML is none.
fn documents(folder: &Path) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let parts = format!("\n{text}").replace("\r\n", "\n");
                let parts = parts.split("\n---").filter_map(|part| support::case::yaml(part).ok());
                found.extend(parts.map(|part| (name.clone(), part)));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn of_kind(folder: &Path, kind: &str) -> Vec<(String, Value)> {
    documents(folder).into_iter().filter(|(_, document)| document["kind"] == kind).collect()
}

/// The seed after which the fake's first random number is this one: its generator, backwards.
fn seed_of(random: u64) -> u64 {
    fn unshift(value: u64, by: u32) -> u64 {
        let mut result = value;
        for _ in 0..64 / by {
            result = value ^ (result >> by);
        }
        result
    }
    fn inverse(odd: u64) -> u64 {
        (0..6).fold(odd, |inverse, _| inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse))))
    }
    let state = unshift(random, 31).wrapping_mul(inverse(0x94d0_49bb_1331_11eb));
    let state = unshift(state, 27).wrapping_mul(inverse(0xbf58_476d_1ce4_e5b9));
    unshift(state, 30).wrapping_sub(0x9e37_79b9_7f4a_7c15)
}

#[test]
fn weights_are_drawn_as_envoys_weighted_clusters() {
    let Some(folder) = shared::folder() else { return };
    let file = shared::json(&folder, "envoy/weighted_cluster_cases.json");
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        let weights = case["weights"].as_object().unwrap().iter();
        let route: Vec<Value> = weights
            .map(|(cluster, weight)| json!({"destination": {"cluster": cluster}, "weight": weight}))
            .collect();
        let policy = compile(&json!({"http": [{"route": route}]}));
        let Some(expected) = case["expect_cluster"].as_str() else {
            // Envoy has no route then; we refuse the document.
            assert_eq!(
                policy.err().unwrap(),
                ["http[0].route: all weights are 0; give at least one destination more"]
            );
            continue;
        };
        let host = Fake::new();
        host.set_seed(seed_of(case["random"].as_u64().unwrap()));
        let (_, facts) = send(&policy.unwrap(), &host, &[(":path", "/")]);
        assert_eq!(facts.destination.as_deref(), Some(expected), "{case}");
    }
    println!("weighted clusters: {} cases", cases.len());
}

/// Envoy's route match in Istio's words.
fn http_matches(route: &Value) -> Vec<Value> {
    let mut base = json!({});
    for header in route["headers"].as_array().into_iter().flatten() {
        base["headers"][header["name"].as_str().unwrap()] = json!({"present": header["present"]});
    }
    for parameter in route["query_parameters"].as_array().into_iter().flatten() {
        base["queryParams"][parameter["name"].as_str().unwrap()] = json!({"exact": parameter["exact"]});
    }
    if route["connect_matcher"].is_object() {
        base["method"] = json!({"exact": "CONNECT"});
    }
    let with = |uri: Value| {
        let mut source = base.clone();
        source["uri"] = uri;
        if route["case_sensitive"] == false {
            source["ignoreUriCase"] = json!(true);
        }
        source
    };
    if let Some(prefix) = route["path_separated_prefix"].as_str() {
        // Istio has no prefix of segments; this is how one is written.
        return vec![with(json!({"exact": prefix})), with(json!({"prefix": format!("{prefix}/")}))];
    }
    for (theirs, ours) in [("prefix", "prefix"), ("path", "exact"), ("safe_regex", "regex")] {
        if let Some(text) = route[theirs].as_str() {
            return vec![with(json!({ours: text}))];
        }
    }
    vec![base]
}

#[test]
fn requests_are_matched_as_envoy_matches_them() {
    let Some(folder) = shared::folder() else { return };
    let file = shared::json(&folder, "envoy/route_match_cases.json");
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        let entry = json!({"match": http_matches(&case["match"]), "directResponse": {"status": 200}});
        let policy = compile(&json!({"http": [entry]})).unwrap();
        let headers: Vec<(&str, &str)> = case["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
            .collect();
        let matched = send(&policy, &Fake::new(), &headers).1.entry.is_some();
        assert_eq!(Some(matched), case["expect_match"].as_bool(), "{case}");
    }
    println!("route matches: {} cases", cases.len());
}

#[test]
fn istios_samples_are_taken_as_they_are() {
    let Some(folder) = shared::folder() else { return };
    let services = of_kind(&folder.join("istio/samples"), "VirtualService");
    let mut entries = 0;
    for (file, service) in &services {
        let Some(http) = service["spec"]["http"].as_array() else { continue };
        let policy = compile(&json!({"http": http})).unwrap_or_else(|errors| panic!("{file}: {errors:?}"));
        assert_eq!(policy.routing.len(), http.len());
        entries += http.len();
    }
    println!("VirtualServices: {} cases with {entries} entries", services.len());
}

/// A weight of SMI: a number, or a Kubernetes quantity such as `900m`.
fn thousandths(weight: &Value) -> u64 {
    match weight.as_str() {
        Some(text) => text
            .strip_suffix('m')
            .map_or_else(|| text.parse::<u64>().unwrap() * 1000, |thousandths| thousandths.parse().unwrap()),
        None => weight.as_u64().unwrap() * 1000,
    }
}

#[test]
fn traffic_splits_of_smi_are_split_so() {
    let Some(folder) = shared::folder() else { return };
    let splits = of_kind(&folder.join("linkerd_smi"), "TrafficSplit");
    for (file, split) in &splits {
        let backends = split["spec"]["backends"].as_array().unwrap();
        let weights: Vec<(&str, u64)> = backends
            .iter()
            .map(|backend| (backend["service"].as_str().unwrap(), thousandths(&backend["weight"])))
            .collect();
        let route: Vec<Value> = weights
            .iter()
            .map(|(service, weight)| json!({"destination": {"host": service}, "weight": weight}))
            .collect();
        let policy = compile(&json!({"http": [{"route": route}]})).unwrap();
        let (host, draws) = (Fake::new(), 10_000u32);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..draws {
            let destination = send(&policy, &host, &[(":path", "/")]).1.destination.unwrap();
            *counts.entry(destination.to_string()).or_insert(0u32) += 1;
        }
        let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
        for (service, weight) in weights {
            let share = if backends.len() == 1 { 1.0 } else { weight as f64 / total as f64 };
            let count = f64::from(counts.get(service).copied().unwrap_or(0));
            let sigma = (f64::from(draws) * share * (1.0 - share)).sqrt();
            let expected = f64::from(draws) * share;
            assert!((count - expected).abs() <= 4.0 * sigma, "{file}: {service}: {count} of {expected}");
        }
    }
    println!("TrafficSplits: {} cases", splits.len());
}

#[test]
fn route_groups_of_smi_are_matches() {
    let Some(folder) = shared::folder() else { return };
    let groups = of_kind(&folder.join("linkerd_smi"), "HTTPRouteGroup");
    let mut count = 0;
    for (file, group) in &groups {
        let matches = group["spec"]["matches"].as_array().or(group["matches"].as_array()).unwrap();
        for source in matches {
            // A path's expression is anchored at its beginning alone.
            let mut matched = json!({"name": source["name"], "headers": {}});
            if let Some(path) = source["pathRegex"].as_str() {
                matched["uri"] = json!({"regex": format!("{path}.*")});
            }
            let methods: Vec<&str> =
                source["methods"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if !methods.is_empty() && !methods.contains(&"*") {
                matched["method"] = json!({"regex": methods.join("|")});
            }
            for (name, expression) in source["headers"].as_object().into_iter().flatten() {
                matched["headers"][name] = json!({"regex": expression});
            }
            let policy = compile(&json!({"http": [{"match": [matched]}]}))
                .unwrap_or_else(|errors| panic!("{file}: {errors:?}"));
            let path = source["pathRegex"].as_str().unwrap_or("/").replace(".*", "x");
            let request = [
                (":path", path.as_str()),
                (":method", methods.iter().find(|method| **method != "*").unwrap_or(&"GET")),
                ("user-agent", "iPhone Android Firefox"),
                ("cookie", "a=b;type=insider;c=d"),
            ];
            assert!(send(&policy, &Fake::new(), &request).1.entry.is_some(), "{file}: {source}");
            let other = [(":path", "other"), (":method", "OTHER")];
            let everything = source["pathRegex"] == ".*";
            assert_eq!(send(&policy, &Fake::new(), &other).1.entry.is_some(), everything, "{file}: {source}");
            count += 1;
        }
    }
    println!("HTTPRouteGroups: {} cases with {count} matches", groups.len());
}
