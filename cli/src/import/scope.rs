//! Whom the policy is for: one proxy, in a namespace, with labels. Policies that are for others are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::annotations::inbound;
use super::field::{Field, Object};
use super::mesh::Destination;
use super::mesh::gateways::Selector;
use super::mesh::services::{Labels, selects};
use super::read::Resource;

/// Istio's root namespace, unless MeshConfig says another.
pub const ROOT_NAMESPACE: &str = "istio-system";

/// The namespace of resources that have none, unless an option says another.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Whom a kind is for.
#[derive(Clone, Copy, Debug)]
pub enum Audience {
    /// Whoever has it.
    Everyone,
    /// The workloads of its namespace, or of all where that is the root namespace, that a selector has chosen: the way to its
    /// labels, as a JSON pointer.
    Workloads(&'static str),
    /// The same for kinds that may name what they are for in `targetRef` and `targetRefs`, too.
    WorkloadsOrTargets(&'static str),
    /// The workloads of its namespace where this says so of a resource, else whoever has it.
    OfNamespaceIf(fn(&Resource) -> bool),
}

impl Audience {
    /// Where no labels are.
    pub const NAMESPACE: Self = Audience::Workloads("/-");

    /// Whom one resource of the kind is for.
    pub fn of(self, resource: &Resource) -> Self {
        match self {
            Audience::OfNamespaceIf(is) if is(resource) => Self::NAMESPACE,
            Audience::OfNamespaceIf(_) => Audience::Everyone,
            other => other,
        }
    }
}

/// What runs, and is no template of it.
const POD: &str = "Pod";

/// Kinds of what a whole cluster has.
pub const OF_NO_NAMESPACE: [&str; 4] = ["Namespace", "MeshConfig", "GatewayClass", "IngressClass"];

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
    /// All labels of the workloads of the input that [`Self::labels`] choose.
    workloads: Vec<Labels>,
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
    /// The only selector that there is, where no option says labels.
    agreed: Option<Selector>,
    /// The class of [`Self::gateway`], where it has one.
    gateway_class: Option<String>,
    /// The labels of the pods of [`Self::gateway`], where it is Istio's and says them.
    gateway_selector: Option<Labels>,
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
    Labels(Selector),
    /// `Gateway shop/edge`.
    Target(String),
    /// Every Gateway of this class.
    Class(String),
    /// `Service shop/web`, of which nobody knows what answers for it.
    Unknown(String),
}

/// Whether a selector has the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It asks for more than `--labels` say, and no workload of the input says it.
    Unsaid,
    /// Of the workloads that `--labels` choose it has some.
    Some,
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
        is_known: fn(&str) -> bool,
    ) -> (Self, Vec<String>, Vec<String>) {
        let default_namespace = wanted.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let mut scope = Scope {
            default_namespace: default_namespace.clone(),
            namespace: default_namespace,
            is_placed: wanted.namespace.is_some() || wanted.gateway.is_some(),
            root_namespace,
            labels: wanted.labels.clone(),
            workloads: Vec::new(),
            gateway: wanted.gateway.clone(),
            port: wanted.port,
            target: None,
            endpoints: wanted.endpoints.clone(),
            echo: wanted.echo,
            namespaces: all.iter().filter_map(|resource| resource.namespace.clone()).collect(),
            services: BTreeMap::new(),
            agreed: None,
            gateway_class: None,
            gateway_selector: None,
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
                    let selector = resource.value.pointer("/spec/selector").map(labels_of);
                    scope.gateway_selector = selector.filter(|labels| !labels.is_empty());
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
        let mut own: BTreeSet<String> = policies
            .iter()
            .map(|(resource, _)| of(resource))
            .filter(|namespace| *namespace != scope.root_namespace)
            .collect();
        if let Some(given) = &wanted.namespace {
            errors.extend(is_nowhere(given, &scope.root_namespace, all, is_known));
        }
        if let Some((namespace, name)) = &wanted.gateway {
            errors.extend(scope.is_of_other_pods(&format!("{namespace}/{name}")));
            if wanted.namespace.is_none() {
                // Who opens a Gateway's servers stands where it does.
                scope.namespace = namespace.clone();
                errors.extend(scope.pods_elsewhere(&format!("{namespace}/{name}"), &policies, all));
            }
        } else if wanted.namespace.is_none() {
            let fits = |resource: &&Resource| {
                let labels = workload_labels(resource);
                labels.is_some_and(|own| wanted.labels.as_ref().is_none_or(|given| selects(given, &own)))
            };
            let workloads: BTreeSet<String> = all.iter().filter(fits).map(of).collect();
            // What an annotation says holds like a policy.
            let said = all.iter().filter(|resource| inbound::has_default(resource));
            own.extend(said.filter_map(|resource| match resource.kind.as_str() {
                "Namespace" => {
                    let counts = wanted.labels.is_none() || workloads.is_empty();
                    (counts || workloads.contains(&resource.name)).then(|| resource.name.clone())
                }
                _ => fits(&resource).then(|| of(resource)),
            }));
            if own.is_empty() && wanted.labels.is_some() {
                own = workloads;
            }
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
        if scope.labels.is_none() {
            // The proxy is one of the Gateway's pods.
            scope.labels.clone_from(&scope.gateway_selector);
        }
        scope.workloads = scope.chosen(all);
        errors.extend(scope.has_other_pods());
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
        let labels: Vec<(&Selector, &Vec<String>)> = choices
            .iter()
            .filter_map(|(choice, who)| match choice {
                Choice::Labels(selector) => Some((selector, who)),
                Choice::Target(_) | Choice::Class(_) | Choice::Unknown(_) => None,
            })
            .collect();
        let targets: Vec<(&Choice, &Vec<String>)> = choices
            .iter()
            .filter(|(choice, _)| matches!(choice, Choice::Target(_) | Choice::Class(_)))
            .collect();
        let listed = |several: &[(String, &Vec<String>)]| {
            several
                .iter()
                .map(|(how, who)| format!("\n  {how}    for {}", who.join(", ")))
                .collect::<String>()
        };
        let of_labels = labels.iter().map(|(selector, who)| (format!("--labels {}", asked(selector)), *who));
        let of_targets = targets.iter().map(|(choice, who)| {
            let how = match choice {
                Choice::Class(class) => format!("--gateway NAMESPACE/NAME of a Gateway of the class {class}"),
                other => other.to_string().replacen("Gateway ", "--gateway ", 1),
            };
            (how, *who)
        });
        if let Some(given) = scope.labels.clone() {
            let fits: Vec<(&Selector, &Vec<String>, Fit)> =
                labels.iter().map(|(selector, who)| (*selector, *who, scope.fit(selector))).collect();
            if wanted.labels.is_some()
                && !labels.is_empty()
                && scope.workloads.is_empty()
                && fits.iter().all(|fit| fit.2 == Fit::No)
            {
                let there = labels.iter().map(|(labels, _)| asked(labels)).collect::<Vec<_>>().join("; ");
                errors.push(format!(
                    "--labels {}: no policy is for a workload with these labels, and none is in the input; there are policies \
                     for {there}; if the workload has none of its own, put its Pod or Deployment into the input",
                    written(&given)
                ));
            }
            for (selector, who, fit) in fits {
                let (given, asked, who) = (written(&given), asked(selector), who.join(", "));
                match fit {
                    Fit::Yes | Fit::No => {}
                    Fit::Unsaid => errors.push(format!(
                        "--labels {given}: {who} is for {asked}, and these labels do not say whether the workload has that; say \
                         all labels of the workload, or put its Pod or Deployment into the input"
                    )),
                    Fit::Some => errors.push(format!(
                        "--labels {given}: {who} is for {asked}, and of the workloads with these labels some have that and some \
                         do not; say more labels of the one that is meant"
                    )),
                }
            }
        } else if scope.gateway.is_none() && !labels.is_empty() && !targets.is_empty() {
            errors.push(format!(
                "there are policies for workloads and for Gateways, and one proxy is one of them; say which:{}",
                listed(&of_labels.chain(of_targets).collect::<Vec<_>>())
            ));
            return (scope, errors, notes);
        } else {
            match labels.as_slice() {
                [] => {}
                // What has no labels, but expressions alone, is for the proxy because nothing else is there.
                [(one, _)] if one.labels.is_empty() => {}
                [(one, _)] => {
                    notes.push(format!(
                        "all selectors agree: the proxy has the labels {}; --labels says others",
                        written(&one.labels)
                    ));
                    scope.labels = Some(one.labels.clone());
                    scope.workloads = scope.chosen(all);
                    if !one.expressions.is_empty() && scope.fit(one) == Fit::Some {
                        errors.push(format!(
                            "there is a policy for {}, which not all workloads with these labels have; say with --labels which \
                             is meant",
                            asked(one)
                        ));
                    }
                    scope.agreed = Some((*one).clone());
                }
                _ => errors.push(format!(
                    "there are policies for different workloads, and one proxy stands before one of them; say which:{}",
                    listed(&of_labels.collect::<Vec<_>>())
                )),
            }
        }
        if scope.gateway.is_none() && scope.labels.is_none() {
            match targets.as_slice() {
                [] => {}
                [(Choice::Class(class), who)] => errors.push(format!(
                    "{} is for Gateways of the class {class}, and nothing says whether the proxy is one; say which with --gateway, or \
                     say --labels of another workload",
                    who.join(", ")
                )),
                [(one, _)] => {
                    let one = one.to_string();
                    notes.push(format!("all targets agree: the proxy is {one}"));
                    scope.target = Some(one);
                }
                several => errors.push(format!(
                    "there are policies for different targets, and one proxy is one of them: {}; say which with --gateway \
                     or --labels",
                    several.iter().map(|(choice, _)| choice.to_string()).collect::<Vec<_>>().join(", ")
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
        let others: Vec<String> = choices.iter().map(Choice::to_string).collect();
        Some(format!("it is for {}, and the proxy is not that", others.join(", ")))
    }

    /// Whether a selector has the proxy: all labels of its workload count, where the input has them.
    pub fn fit(&self, selector: &Selector) -> Fit {
        let Some(given) = &self.labels else { return Fit::Yes };
        if self.agreed.as_ref() == Some(selector) {
            return Fit::Yes;
        }
        if self.workloads.is_empty() {
            return match (selector.may_have(given), selector.says_more(given)) {
                (false, _) => Fit::No,
                (true, true) => Fit::Unsaid,
                (true, false) => Fit::Yes,
            };
        }
        match self.workloads.iter().filter(|labels| selector.has(labels)).count() {
            0 => Fit::No,
            some if some == self.workloads.len() => Fit::Yes,
            _ => Fit::Some,
        }
    }

    /// Whether the proxy may be before a workload of a namespace with these labels.
    pub fn may_be(&self, namespace: &str, labels: &Labels) -> bool {
        namespace == self.namespace && self.labels.as_ref().is_none_or(|own| selects(own, labels))
    }

    /// Whether a Service of a namespace, by its selector, leads to the proxy's workload.
    pub fn is_led_to(&self, namespace: &str, selector: &Labels) -> bool {
        namespace == self.namespace && !selector.is_empty() && self.fit(&selector.clone().into()) == Fit::Yes
    }

    /// The names of the Services of the input that lead to the proxy's workload.
    pub fn own_services(&self) -> BTreeSet<&str> {
        let leads =
            |((namespace, _), labels): &(&(String, String), &Labels)| self.is_led_to(namespace, labels);
        self.services.iter().filter(leads).map(|((_, name), _)| name.as_str()).collect()
    }

    /// The labels of the workloads that the proxy's labels choose. Where one has these alone, it is that.
    fn chosen(&self, all: &[Resource]) -> Vec<Labels> {
        let Some(given) = &self.labels else { return Vec::new() };
        let here = |resource: &&Resource| {
            resource.namespace.as_ref().unwrap_or(&self.default_namespace) == &self.namespace
        };
        let labels = |resource: &Resource| Some((resource.kind == POD, workload_labels(resource)?));
        let all = all.iter().filter(here).filter_map(labels).filter(|(_, own)| selects(given, own));
        let (pods, templates): (Vec<_>, Vec<_>) = all.partition(|(is_pod, _)| *is_pod);
        // A pod has more labels than what it is made of: where it is there, it says all of them.
        let unmade =
            templates.iter().filter(|(_, template)| !pods.iter().any(|(_, pod)| selects(template, pod)));
        pods.iter().chain(unmade).map(|(_, labels)| labels.clone()).collect()
    }

    /// That the labels of the proxy are not those of the Gateway's pods.
    fn is_of_other_pods(&self, gateway: &str) -> Option<String> {
        let (given, selector) = (self.labels.as_ref()?, self.gateway_selector.as_ref()?);
        (!Selector::from(selector.clone()).may_have(given)).then(|| {
            format!(
                "--labels {}: the Gateway {gateway} is for pods with {}, and the proxy is not one of them; say the labels of its pods, \
                 or leave --labels out",
                written(given),
                written(selector)
            )
        })
    }

    /// That none of the workloads with the labels of the proxy is one of the Gateway's.
    fn has_other_pods(&self) -> Option<String> {
        let (labels, selector) = (self.labels.as_ref()?, self.gateway_selector.as_ref()?);
        let is_other = !self.workloads.is_empty() && !self.workloads.iter().any(|own| selects(selector, own));
        is_other.then(|| {
            format!(
                "--labels {}: no workload with them has what the Gateway is for, {}; say the labels of the Gateway's pods, or leave \
                 --labels out",
                written(labels),
                written(selector)
            )
        })
    }

    /// That the pods of the Gateway are in another namespace than it, as policies for what its selector chooses or workloads that
    /// it chooses show.
    fn pods_elsewhere(
        &self,
        gateway: &str,
        policies: &[(&Resource, Audience)],
        all: &[Resource],
    ) -> Option<String> {
        let of = |resource: &Resource| {
            resource.namespace.clone().unwrap_or_else(|| self.default_namespace.clone())
        };
        let selector = self.gateway_selector.as_ref()?;
        let is_chosen =
            |resource: &&Resource| workload_labels(resource).is_some_and(|own| selects(selector, &own));
        let mut pods: BTreeSet<String> = all.iter().filter(is_chosen).map(of).collect();
        if pods.is_empty() {
            // Who leads to them is where they are.
            let leads = |((namespace, _), own): (&(String, String), &Labels)| {
                selects(selector, own).then(|| namespace.clone())
            };
            pods = self.services.iter().filter_map(leads).collect();
        }
        let mut elsewhere = pods.clone();
        if pods.is_empty() {
            let is_for = |(resource, audience): &&(&Resource, Audience)| {
                let choices = self.choices_of(resource, *audience, &of(resource));
                // One that chooses nothing is for all pods of its namespace.
                choices.is_empty()
                    || choices
                        .iter()
                        .any(|choice| matches!(choice, Choice::Labels(other) if other.may_have(selector)))
            };
            elsewhere = policies.iter().filter(is_for).map(|(resource, _)| of(resource)).collect();
            elsewhere.remove(&self.root_namespace);
        }
        if elsewhere.is_empty() || (pods.len() == 1 && pods.contains(&self.namespace)) {
            return None;
        }
        elsewhere.remove(&self.namespace);
        let names = elsewhere.into_iter().collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| {
            format!(
                "--gateway {gateway}: its selector {} may choose pods of another namespace, as workloads or policies there show: {names}; \
                 where its pods are is where the proxy is: say --namespace, {names} or {}",
                written(selector),
                self.namespace
            )
        })
    }

    fn is(&self, choice: &Choice) -> bool {
        match choice {
            // What is not known was told: it holds.
            Choice::Labels(selector) => self.fit(selector) != Fit::No,
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
        let labels = resource.value.pointer(pointer).map(labels_of).unwrap_or_default();
        let expressions = pointer.strip_suffix("matchLabels").map(|at| format!("{at}matchExpressions"));
        let expressions = expressions.and_then(|at| resource.value.pointer(&at)).map(expressions_of);
        let selector = Selector { labels, expressions: expressions.unwrap_or_default() };
        if !selector.labels.is_empty() || !selector.expressions.is_empty() {
            choices.push(Choice::Labels(selector));
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
                    ("Service", Some(labels)) => Choice::Labels(labels.clone().into()),
                    _ => Choice::Unknown(called),
                });
            }
        }
        choices
    }
}

/// That no resource of the input is in a namespace that an option says, where it has namespaces at all.
fn is_nowhere(given: &str, root: &str, all: &[Resource], is_known: fn(&str) -> bool) -> Option<String> {
    let of = |resource: &Resource| match resource.kind.as_str() {
        "Namespace" => Some(resource.name.clone()),
        _ => resource.namespace.clone(),
    };
    let there: BTreeSet<String> = all.iter().filter_map(of).collect();
    // What says no namespace is in this one.
    let is_here = |resource: &Resource| {
        let kind = resource.kind.as_str();
        resource.namespace.is_none() && is_known(kind) && !OF_NO_NAMESPACE.contains(&kind)
    };
    if there.is_empty() || there.contains(given) || given == root || all.iter().any(is_here) {
        return None;
    }
    let there = there.into_iter().collect::<Vec<_>>().join(", ");
    Some(format!(
        "--namespace {given}: nothing in the input is in that namespace; there are {there}; if it has nothing of its own, put its \
         Namespace into the input"
    ))
}

/// The expressions of a selector: name, operator, values.
fn expressions_of(value: &Value) -> Vec<(String, String, Vec<String>)> {
    let expression = |value: &Value| {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let values = value.get("values").and_then(Value::as_array).into_iter().flatten();
        (text("key"), text("operator"), values.filter_map(Value::as_str).map(str::to_owned).collect())
    };
    value.as_array().into_iter().flatten().map(expression).collect()
}

/// A selector of a resource: `matchLabels` and `matchExpressions`.
pub fn selector_of(value: &Value) -> Selector {
    Selector {
        labels: value.get("matchLabels").map(labels_of).unwrap_or_default(),
        expressions: value.get("matchExpressions").map(expressions_of).unwrap_or_default(),
    }
}

/// What is wrong with the selector of a policy, whomever it is for: where, what, and what would be right. By a misspelt one a policy
/// would be for others, or for nobody.
pub fn misspelt(resource: &Resource, audience: Audience) -> Vec<(String, String, &'static str)> {
    const REMEDY: &str = "use matchLabels and matchExpressions with key, operator (In, NotIn, Exists, DoesNotExist) and values";
    let (Audience::Workloads(pointer) | Audience::WorkloadsOrTargets(pointer)) = audience.of(resource) else {
        return Vec::new();
    };
    let Some(at) = pointer.strip_suffix("/matchLabels") else { return Vec::new() };
    let Some(selector) = resource.value.pointer(at) else { return Vec::new() };
    let path = at.trim_start_matches('/').replace('/', ".");
    let Some(members) = selector.as_object() else {
        return vec![(path, "a selector is an object".to_owned(), REMEDY)];
    };
    let is_label = |value: &Value| value.as_str().is_some();
    let is_expression = |expression: &Value| {
        let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
        let values = expression.get("values");
        let listed = values.and_then(Value::as_array).is_some_and(|list| list.iter().all(is_label));
        let known = |name: &String| matches!(name.as_str(), "key" | "operator" | "values");
        expression.as_object().is_some_and(|members| members.keys().all(known))
            && !text("key").is_empty()
            && match text("operator") {
                "In" | "NotIn" => listed,
                "Exists" | "DoesNotExist" => values.is_none() || listed,
                _ => false,
            }
    };
    let is_right = |name: &str, value: &Value| match name {
        "matchLabels" => value.as_object().is_some_and(|labels| labels.values().all(is_label)),
        "matchExpressions" => value.as_array().is_some_and(|list| list.iter().all(is_expression)),
        _ => false,
    };
    let wrong = members.iter().filter(|(name, value)| !is_right(name, value));
    wrong
        .map(|(name, _)| (format!("{path}.{name}"), format!("{name} is no such part of a selector"), REMEDY))
        .collect()
}

/// What a selector asks for.
fn asked(selector: &Selector) -> String {
    let expression = |(name, operator, values): &(String, String, Vec<String>)| {
        let values = if values.is_empty() { String::new() } else { format!(" ({})", values.join(", ")) };
        format!("{name} {operator}{values}")
    };
    let labels = Some(written(&selector.labels)).filter(|labels| !labels.is_empty());
    labels.into_iter().chain(selector.expressions.iter().map(expression)).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Labels(selector) => f.write_str(&asked(selector)),
            Choice::Target(target) | Choice::Unknown(target) => f.write_str(target),
            Choice::Class(class) => write!(f, "Gateways of the class {class}"),
        }
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
