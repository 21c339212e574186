//! A mesh → the policy document.

use std::collections::{BTreeMap, BTreeSet};

use meshfilter::config::{self, Errors};
use serde_json::{Map, Value, json};

use crate::envoy::policy::name_key_clusters;
use crate::envoy::yaml;
use crate::import::mesh::{Entry, Mesh, Origin, hosts};
use crate::import::scope::Scope;

/// A policy, and where its parts come from.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The document.
    pub value: Value,
    /// Where the members of its lists come from, by their paths.
    origins: BTreeMap<String, Origin>,
}

/// What is wrong with a policy, and where that comes from.
pub type Found = (Origin, config::ConfigError);

/// The cluster's name where one host has several ports: Istio's.
const WITH_PORTS: &str = "outbound|{port}|{subset}|{host}";

/// The port of a destination of which no port is known.
const PORT: u16 = 80;

impl Policy {
    /// The document of a mesh. Its entries go there: there may be many, and nobody else needs them.
    pub fn of(mesh: &mut Mesh, scope: &Scope, istio_metrics: bool) -> Self {
        let mut policy = Policy { value: json!({}), origins: BTreeMap::new() };
        policy.authentication(mesh);
        policy.list("authorization", &mesh.authorization);
        policy.http(std::mem::take(&mut mesh.entries), scope);
        policy.list("rateLimits", &mesh.rate_limits);
        policy.telemetry(mesh, istio_metrics);
        if !mesh.authorization.is_empty() {
            policy.put("namespace", scope.namespace.clone().into());
            if !mesh.settings.trust_domain_aliases.is_empty() {
                policy.put("trustDomainAliases", json!(mesh.settings.trust_domain_aliases));
            }
        }
        name_key_clusters(&mut policy.value);
        policy
    }

    /// Whether it has a key that nobody but its owner may read: one of a key set with which tokens can be signed.
    pub fn is_secret(&self) -> bool {
        let rules = self.value.pointer("/authentication/jwtRules").and_then(Value::as_array);
        let sets = rules.into_iter().flatten().filter_map(|rule| rule.get("jwks")?.as_str());
        let sets = sets.filter_map(|text| serde_json::from_str::<Value>(text).ok());
        let signs = |set: Value| {
            let keys = set.get("keys").and_then(Value::as_array).into_iter().flatten();
            keys.chain([&set]).any(|key| ["k", "d"].iter().any(|name| key.get(name).is_some()))
        };
        sets.into_iter().any(signs)
    }

    /// As a file for people.
    pub fn yaml(&self) -> String {
        let text = yaml::write(&self.value, &[]);
        format!(
            "# Written by meshfilter import. Look into it with `meshfilter explain`; change it here, or import again.\n{text}"
        )
    }

    /// What `check` says: errors and warnings, each with where the thing comes from.
    pub fn check(&self) -> (Vec<Found>, Vec<Found>) {
        let place = |errors: Vec<config::ConfigError>| -> Vec<Found> {
            errors.into_iter().map(|error| (self.origin(&error.path), error)).collect()
        };
        match config::compile(&self.value, &|_| None, Errors::default()) {
            Ok(compiled) => (Vec::new(), place(compiled.warnings)),
            Err(errors) => (place(errors), Vec::new()),
        }
    }

    /// Where the thing at a path comes from.
    pub fn origin(&self, path: &str) -> Origin {
        let end = path.find(']').map_or(path.len(), |end| end.saturating_add(1));
        let (known, rest) = path.split_at(end);
        let origin = self
            .origins
            .get(known)
            .map(|origin| Origin { resource: origin.resource, path: format!("{}{rest}", origin.path) });
        origin.unwrap_or_default()
    }

    fn put(&mut self, name: &str, value: Value) {
        if let Some(map) = self.value.as_object_mut() {
            map.insert(name.to_owned(), value);
        }
    }

    fn list(&mut self, name: &str, values: &[(Value, Origin)]) {
        if values.is_empty() {
            return;
        }
        let origins = values.iter().enumerate();
        self.origins.extend(origins.map(|(index, (_, origin))| (format!("{name}[{index}]"), origin.clone())));
        self.put(name, values.iter().map(|(value, _)| value.clone()).collect());
    }

    fn authentication(&mut self, mesh: &Mesh) {
        if mesh.tokens.is_empty() {
            return;
        }
        let rules: Vec<Value> = mesh.tokens.iter().map(|(rule, _)| rule.clone()).collect();
        let origins = mesh.tokens.iter().enumerate();
        self.origins.extend(
            origins.map(|(index, (_, origin))| (format!("authentication.jwtRules[{index}]"), origin.clone())),
        );
        let requirements = match mesh.requirements.as_slice() {
            [] => vec![json!({"require": "optional"})],
            some => some.to_vec(),
        };
        self.put("authentication", json!({"jwtRules": rules, "requirements": requirements}));
    }

    fn telemetry(&mut self, mesh: &Mesh, istio_metrics: bool) {
        let mut metrics = mesh.metrics.clone();
        if istio_metrics {
            metrics.insert("istio".to_owned(), true.into());
        }
        let mut telemetry = Map::new();
        if !mesh.tags.is_empty() {
            let origins = mesh.tags.iter().enumerate();
            self.origins.extend(
                origins.map(|(index, (_, origin))| (format!("telemetry.tags[{index}]"), origin.clone())),
            );
            telemetry.insert("tags".to_owned(), mesh.tags.iter().map(|(tag, _)| tag.clone()).collect());
        }
        if !metrics.is_empty() {
            telemetry.insert("metrics".to_owned(), Value::Object(metrics));
        }
        if !telemetry.is_empty() {
            self.put("telemetry", Value::Object(telemetry));
        }
    }

    fn http(&mut self, mut entries: Vec<Entry>, scope: &Scope) {
        if entries.is_empty() {
            return;
        }
        entries.sort_by(|a, b| a.precedence.cmp(&b.precedence));
        let all = entries.iter().flat_map(|entry| &entry.hosts).map(String::as_str);
        let short = hosts::with_short_names(all, &scope.namespace);
        let (mut names, mut times) = (BTreeSet::new(), BTreeMap::new());
        let mut values = Vec::new();
        for entry in entries {
            let mut value = entry.value;
            let mut name = entry.name.clone();
            let more = times.entry(entry.name.clone()).or_insert(1_u32);
            while !names.insert(name.clone()) {
                *more = more.saturating_add(1);
                name = format!("{}-{more}", entry.name);
            }
            value.insert("name".to_owned(), name.into());
            if !entry.hosts.iter().any(|host| host == "*") {
                let mut written: Vec<String> = Vec::new();
                for host in entry.hosts.iter().flat_map(|host| hosts::names(host, short.contains(host))) {
                    if !written.contains(&host) {
                        written.push(host);
                    }
                }
                value.insert("hosts".to_owned(), json!(written));
            }
            self.origins.insert(format!("http[{}]", values.len()), entry.origin);
            values.push(Value::Object(value));
        }
        let mut value = Value::Array(values);
        if ports(&mut value) {
            self.put("destinations", json!({"clusterName": WITH_PORTS, "port": PORT}));
        }
        self.put("http", value);
    }
}

/// Gives destinations without a port the only one that their host has elsewhere; whether a host has several.
fn ports(http: &mut Value) -> bool {
    let mut known: BTreeMap<(String, String), BTreeSet<u64>> = BTreeMap::new();
    destinations(http, &mut |destination| {
        let text = |name: &str| destination.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = (text("host"), text("subset"));
        if let Some(port) = destination.pointer("/port/number").and_then(Value::as_u64) {
            known.entry(key).or_default().insert(port);
        }
    });
    let several = known.values().any(|ports| ports.len() > 1);
    if !several {
        destinations(http, &mut |destination| {
            let text =
                |name: &str| destination.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let ports = known.get(&(text("host"), text("subset")));
            if let Some(port) = ports.and_then(|ports| ports.first())
                && let Some(map) = destination.as_object_mut()
            {
                map.insert("port".to_owned(), json!({ "number": port }));
            }
        });
    }
    several
}

/// Every destination in a list of entries, mirrors, too.
fn destinations(value: &mut Value, found: &mut dyn FnMut(&mut Value)) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|value| destinations(value, found)),
        Value::Object(map) => {
            for (name, value) in map {
                match name.as_str() {
                    "destination" | "mirror" => found(value),
                    "route" | "mirrors" => destinations(value, found),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}
