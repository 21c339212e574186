//! Whom the policy is for: one proxy, in a namespace, with labels. Policies that are for others are left out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::dialect::{Audience, Context};
use super::field::{Field, Object};
use super::mesh::services::{Labels, selects};
use super::mesh::{Destination, hosts};
use super::read::Resource;

/// Istio's root namespace, unless MeshConfig says another.
pub const ROOT_NAMESPACE: &str = "istio-system";

/// The namespace of resources that have none, unless an option says another.
pub const DEFAULT_NAMESPACE: &str = "default";

/// One proxy.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Of resources that have none.
    pub default_namespace: String,
    /// Where the proxy is.
    pub namespace: String,
    /// Whether that is said: by an option, or by policies.
    pub is_placed: bool,
    /// Policies of this one hold for all.
    pub root_namespace: String,
    /// Of the proxy; `None` where nothing asks for any.
    pub labels: Option<Labels>,
    /// The Gateway, by namespace and name, whose servers the proxy opens.
    pub gateway: Option<(String, String)>,
    /// The port of the proxy, where that is said.
    pub port: Option<u16>,
    /// What policies are for in place of labels, where they all agree and no option says it.
    pub target: Option<String>,
    /// All namespaces of the input.
    pub namespaces: BTreeSet<String>,
    /// The selectors of its Services, by namespace and name.
    services: BTreeMap<(String, String), Labels>,
    /// The class of [`Self::gateway`], where it has one.
    gateway_class: Option<String>,
    /// Names of which options say where they are.
    pub endpoints: Vec<String>,
    /// Whether Envoy itself answers for everything else.
    pub echo: bool,
}

/// What is known of the proxy before the input is read.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// `--namespace`.
    pub namespace: Option<String>,
    /// `--labels`.
    pub labels: Option<Labels>,
    /// `--gateway`, by namespace and name.
    pub gateway: Option<(String, String)>,
    /// The port of `--listen`, where that is given.
    pub port: Option<u16>,
    /// The names of `--endpoint`.
    pub endpoints: Vec<String>,
    /// `--echo`.
    pub echo: bool,
}

/// What a policy is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Choice {
    Labels(Labels),
    /// `Gateway shop/edge`.
    Target(String),
    /// Every Gateway of this class.
    Class(String),
    /// `Service shop/web`, of which nobody knows what answers for it.
    Unknown(String),
}

impl Scope {
    /// The proxy that is meant, and what to say of how that was found.
    ///
    /// # Errors
    /// Policies are for different ones, and no option says which is meant.
    pub fn find<'r>(
        wanted: &Wanted,
        root_namespace: String,
        policies: impl Iterator<Item = (&'r Resource, Audience)>,
        all: &[Resource],
    ) -> (Self, Vec<String>, Vec<String>) {
        let default_namespace = wanted.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let mut scope = Scope {
            default_namespace: default_namespace.clone(),
            namespace: default_namespace,
            is_placed: wanted.namespace.is_some() || wanted.gateway.is_some(),
            root_namespace,
            labels: wanted.labels.clone(),
            gateway: wanted.gateway.clone(),
            port: wanted.port,
            target: None,
            endpoints: wanted.endpoints.clone(),
            echo: wanted.echo,
            namespaces: all.iter().filter_map(|resource| resource.namespace.clone()).collect(),
            services: BTreeMap::new(),
            gateway_class: None,
        };
        for resource in all {
            let namespace = resource.namespace.as_ref().unwrap_or(&scope.default_namespace).clone();
            let key = (namespace, resource.name.clone());
            match resource.kind.as_str() {
                "Service" => {
                    let selector = resource.value.pointer("/spec/selector").map(labels_of);
                    scope
                        .services
                        .extend(selector.filter(|labels| !labels.is_empty()).map(|labels| (key, labels)));
                }
                "Gateway" if scope.gateway.as_ref() == Some(&key) => {
                    let class = resource.value.pointer("/spec/gatewayClassName").and_then(Value::as_str);
                    scope.gateway_class = class.map(str::to_owned);
                }
                _ => {}
            }
        }
        scope.namespaces.insert(scope.default_namespace.clone());
        let (mut errors, mut notes) = (Vec::new(), Vec::new());
        let policies: Vec<(&Resource, Audience)> = policies.collect();
        let of = |resource: &Resource| {
            resource.namespace.clone().unwrap_or_else(|| scope.default_namespace.clone())
        };
        let own: BTreeSet<String> = policies
            .iter()
            .map(|(resource, _)| of(resource))
            .filter(|namespace| *namespace != scope.root_namespace)
            .collect();
        if let (None, Some((namespace, _))) = (&wanted.namespace, &wanted.gateway) {
            // Who opens a Gateway's servers stands where it does.
            scope.namespace = namespace.clone();
        } else if wanted.namespace.is_none() {
            match own.iter().collect::<Vec<_>>().as_slice() {
                [] => {}
                [one] => {
                    scope.namespace = (*one).clone();
                    scope.is_placed = true;
                }
                several => {
                    let names: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
                    errors.push(format!(
                        "there are policies of several namespaces, and one proxy is in one of them: {}; say which with \
                         --namespace",
                        names.join(", ")
                    ));
                    return (scope, errors, notes);
                }
            }
        }
        let mut choices: BTreeMap<Choice, Vec<String>> = BTreeMap::new();
        for (resource, audience) in &policies {
            let namespace = of(resource);
            if namespace != scope.namespace && namespace != scope.root_namespace {
                continue;
            }
            for choice in scope.choices_of(resource, *audience, &namespace) {
                if let Choice::Unknown(target) = &choice {
                    errors.push(format!(
                        "{} {namespace}/{}: it is for {target}, and what that is for is not in the input; put it there, or leave \
                         the policy out",
                        resource.kind, resource.name
                    ));
                }
                choices.entry(choice).or_default().push(format!("{} {}", resource.kind, resource.name));
            }
        }
        let labels: Vec<(&Labels, &Vec<String>)> = choices
            .iter()
            .filter_map(|(choice, who)| match choice {
                Choice::Labels(labels) => Some((labels, who)),
                Choice::Target(_) | Choice::Class(_) | Choice::Unknown(_) => None,
            })
            .collect();
        let targets: Vec<&str> = choices
            .keys()
            .filter_map(|choice| match choice {
                Choice::Target(target) => Some(target.as_str()),
                Choice::Labels(_) | Choice::Class(_) | Choice::Unknown(_) => None,
            })
            .collect();
        if let Some(given) = &scope.labels {
            let is_known = labels.iter().any(|(selector, _)| selects(selector, given))
                || all.iter().filter_map(workload_labels).any(|own| selects(given, &own));
            if !labels.is_empty() && !is_known {
                let there = labels.iter().map(|(labels, _)| written(labels)).collect::<Vec<_>>().join("; ");
                errors.push(format!(
                    "--labels {}: no policy is for a workload with these labels, and none is in the input; there are policies \
                     for {there}; if the workload has none of its own, put its Pod or Deployment into the input",
                    written(given)
                ));
            }
        } else {
            match labels.as_slice() {
                [] => {}
                [(one, _)] => {
                    notes.push(format!(
                        "all selectors agree: the proxy has the labels {}; --labels says others",
                        written(one)
                    ));
                    scope.labels = Some((*one).clone());
                }
                several => {
                    let choice = |(labels, who): &(&Labels, &Vec<String>)| {
                        format!("\n  --labels {}    for {}", written(labels), who.join(", "))
                    };
                    errors.push(format!(
                        "there are policies for different workloads, and one proxy stands before one of them; say \
                         which:{}",
                        several.iter().map(choice).collect::<String>()
                    ));
                }
            }
        }
        if scope.gateway.is_none() && scope.labels.is_none() {
            match targets.as_slice() {
                [] => {}
                [one] => {
                    notes.push(format!("all targets agree: the proxy is {one}"));
                    scope.target = Some((*one).to_owned());
                }
                several => errors.push(format!(
                    "there are policies for different targets, and one proxy is one of them: {}; say which with --gateway \
                     or --labels",
                    several.join(", ")
                )),
            }
        }
        (scope, errors, notes)
    }

    /// Why a policy is not for this proxy; `None` where it is.
    pub fn not_for(&self, resource: &Resource, audience: Audience) -> Option<String> {
        let audience = audience.of(resource);
        if matches!(audience, Audience::Everyone) {
            return None;
        }
        let namespace = resource.namespace.as_deref().unwrap_or(&self.default_namespace);
        if namespace != self.namespace && namespace != self.root_namespace {
            return Some(format!(
                "it is for workloads of the namespace {namespace}, and the proxy is in {}",
                self.namespace
            ));
        }
        let choices = self.choices_of(resource, audience, namespace);
        if choices.is_empty() || choices.iter().any(|choice| self.is(choice)) {
            return None;
        }
        let others: Vec<String> = choices
            .iter()
            .map(|choice| match choice {
                Choice::Labels(labels) => written(labels),
                Choice::Target(target) | Choice::Unknown(target) => target.clone(),
                Choice::Class(class) => format!("Gateways of the class {class}"),
            })
            .collect();
        Some(format!("it is for {}, and the proxy is not that", others.join(", ")))
    }

    fn is(&self, choice: &Choice) -> bool {
        match choice {
            Choice::Labels(selector) => self.labels.as_ref().is_some_and(|labels| selects(selector, labels)),
            Choice::Target(target) => {
                let gateway =
                    self.gateway.as_ref().map(|(namespace, name)| format!("Gateway {namespace}/{name}"));
                self.target.as_ref().or(gateway.as_ref()) == Some(target)
            }
            Choice::Class(class) => self.gateway_class.as_ref() == Some(class),
            Choice::Unknown(_) => false,
        }
    }

    /// Whether options say where a destination is.
    pub fn is_given(&self, to: &Destination) -> bool {
        self.echo || self.endpoints.iter().any(|name| to.is_called(name, true))
    }

    /// Whether options say where anything is but what nothing matches.
    pub fn gives_anything(&self) -> bool {
        self.endpoints.iter().any(|name| name != crate::envoy::plan::DEFAULT)
    }

    /// Takes the fields that say whom a policy is for.
    pub fn take(&self, spec: &Object<'_>, selector: &'static str) {
        let to = "the proxy that this policy is for";
        for name in ["targetRef", "targetRefs"] {
            if let Some(field) = spec.field(name) {
                field.taken(to);
            }
        }
        if let Some(selector) = spec.field(selector).and_then(|field| field.object())
            && let Some(labels) = selector.field("matchLabels")
        {
            take_labels(&labels, to);
        }
    }

    fn choices_of(&self, resource: &Resource, audience: Audience, namespace: &str) -> Vec<Choice> {
        let (pointer, targets) = match audience {
            Audience::Everyone | Audience::OfNamespaceIf(_) => return Vec::new(),
            Audience::Workloads(pointer) => (pointer, false),
            Audience::WorkloadsOrTargets(pointer) => (pointer, true),
        };
        let mut choices = Vec::new();
        if let Some(Value::Object(labels)) = resource.value.pointer(pointer)
            && !labels.is_empty()
        {
            choices.push(Choice::Labels(labels_of(&Value::Object(labels.clone()))));
        }
        if targets {
            let one = resource.value.pointer("/spec/targetRef").into_iter();
            let several =
                resource.value.pointer("/spec/targetRefs").and_then(Value::as_array).into_iter().flatten();
            for target in one.chain(several) {
                let text = |name: &str| target.get(name).and_then(Value::as_str);
                let namespace = text("namespace").unwrap_or(namespace);
                let kind = text("kind").unwrap_or("Gateway");
                let name = text("name").unwrap_or_default();
                let called = format!("{kind} {namespace}/{name}");
                let service = self.services.get(&(namespace.to_owned(), name.to_owned()));
                choices.push(match (kind, service) {
                    ("Gateway", _) => Choice::Target(called),
                    ("GatewayClass", _) => Choice::Class(name.to_owned()),
                    ("Service", Some(selector)) => Choice::Labels(selector.clone()),
                    _ => Choice::Unknown(called),
                });
            }
        }
        choices
    }
}

/// The labels of the pods of a workload; `None` where a resource is none.
pub fn workload_labels(resource: &Resource) -> Option<Labels> {
    let at = match resource.kind.as_str() {
        "Pod" => "/metadata/labels",
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" => "/spec/template/metadata/labels",
        "WorkloadEntry" => "/spec/labels",
        _ => return None,
    };
    resource.value.pointer(at).map(labels_of)
}

/// The labels of an object. What is no text is told by whoever takes it, and counts as what stands there: a selector never
/// chooses more by it.
pub fn labels_of(value: &Value) -> Labels {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let members = value.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.clone(), text(value))).collect()
}

/// Labels as `--labels` has them.
pub fn written(labels: &Labels) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

/// Takes labels as they are.
pub fn take_labels(field: &Field<'_>, to: &str) -> Labels {
    let entries = field.entries().into_iter();
    let label = |(name, field): (&str, Field<'_>)| {
        let value = field.text()?;
        field.taken(to);
        Some((name.to_owned(), value.to_owned()))
    };
    entries.filter_map(label).collect()
}

impl Context<'_> {
    /// The full name of a host that a resource names.
    pub fn host(&self, host: &str, resource: &Resource) -> String {
        hosts::full(host, self.namespace(resource), &self.scope.namespaces)
    }
}
