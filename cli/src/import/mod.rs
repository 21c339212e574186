//! `meshfilter import`: YAML of a mesh becomes a policy and an Envoy.
//!
//! | module | what it does |
//! |---|---|
//! | [`read`] | text → resources, each of which knows where it stands |
//! | [`field`] | takes fields by name, each with what becomes of it |
//! | [`dialect`] | what a dialect says of itself; each is a folder that knows its kinds |
//! | [`dialects`] | the table of them: the one place that knows all |
//! | [`context`] | what their readers look things up in |
//! | [`scope`] | whom policies are for |
//! | [`precedence`] | whose word counts for a service |
//! | [`annotations`] | what annotations say, of whatever kind |
//! | [`mesh`] | one model of a mesh, the same for all dialects |
//! | [`write`](self::write) | the model → a policy document and an Envoy |
//! | [`ports`] | ports that policies name → ports where clients come |
//! | [`report`], [`print`] | what became of every field, and how that is shown |
//! | [`repair`] | what stands where it does not belong |

mod annotations;
mod command;
mod consul;
pub mod context;
pub mod dialect;
pub mod dialects;
mod envoy_gateway;
pub mod field;
mod files;
mod gateway;
mod istio;
mod kubernetes;
mod linkerd;
pub mod mesh;
mod openapi;
mod options;
pub mod ports;
mod precedence;
pub mod print;
pub mod read;
pub mod repair;
pub mod report;
pub mod scope;
mod smi;
#[cfg(test)]
pub mod testing;
pub mod write;

use std::collections::BTreeMap;

use serde_json::Value;

pub(crate) use command::{Arguments, run};
pub(crate) use options::ImportOptions;

use self::context::{Context, Index, Lists};
use self::dialect::{Dialect, Kind};
use self::field::{Field, Object, Reading};
use self::mesh::{Mesh, Origin};
use self::read::{Inputs, Resource};
use self::repair::Repairs;
use self::report::{Placed, Report, Severity, Told};
use self::scope::Audience;
use self::scope::{Scope, Wanted};
use self::write::policy::Policy;
use meshfilter::config::source::Place;

/// What comes of an input.
#[derive(Debug)]
pub struct Imported {
    /// The model.
    pub mesh: Mesh,
    /// The proxy that it is for.
    pub scope: Scope,
    /// The policy document.
    pub policy: Policy,
    /// What became of every field, and what is wrong.
    pub report: Report,
}

/// Reads all resources of an input into one mesh, and writes its policy. What stood in the resources is gone then; where it stood
/// is known.
pub fn import(inputs: &mut Inputs, wanted: &Wanted, repairs: Repairs) -> Imported {
    let mut report =
        Report { errors: inputs.errors.clone(), warnings: inputs.warnings.clone(), ..Report::default() };
    let kinds = kinds(inputs);
    repair(inputs, &kinds, repairs);
    templates(inputs, &kinds);
    let index = index(inputs, wanted, &kinds);
    let root = root_namespace(inputs);
    let policies = inputs.resources.iter().zip(&kinds).filter_map(|(resource, kind)| {
        let (_, kind) = (*kind)?;
        let audience = kind.audience.of(resource);
        (!matches!(audience, Audience::Everyone)).then_some((resource, audience))
    });
    let (scope, errors, notes) = Scope::find(wanted, root, policies, &inputs.resources, dialects::is_known);
    report.errors.extend(errors.into_iter().map(nowhere));
    report.warnings.extend(notes.into_iter().map(nowhere));
    let mut mesh = Mesh::default();
    let dialects = read_all(&inputs.resources, &kinds, &index, &scope, &mut mesh);
    for (resource, _) in inputs.resources.iter().zip(&kinds).filter(|(_, kind)| kind.is_none()) {
        leave_alone(resource);
    }
    let asks = |kind: &Known| kind.is_some_and(|(_, kind)| kind.name != kubernetes::NAMESPACE);
    if !kinds.iter().any(asks) && mesh.authorization.is_empty() && report.errors.is_empty() {
        report.errors.push(nowhere(
            "nothing in the input is of a kind that is imported, and a proxy without a policy lets everything pass; see \
             docs/import.md for the kinds"
                .to_owned(),
        ));
    }
    if let Some((namespace, name)) = &scope.gateway
        && !mesh.servers.iter().any(|server| (&server.gateway.0, &server.gateway.1) == (namespace, name))
    {
        let known = inputs.resources.iter().filter(|resource| resource.kind == "Gateway");
        let known = known.map(|resource| {
            let of = resource.namespace.as_deref().unwrap_or(&scope.default_namespace);
            format!("{of}/{}", resource.name)
        });
        let known: Vec<String> = known.collect();
        let there = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        report.errors.push(nowhere(format!(
            "--gateway {namespace}/{name}: the input has no servers of that Gateway; the Gateways in it: {there}"
        )));
    }
    let policy = Policy::of(&mut mesh, &scope, dialects.iter().any(|dialect| dialect.istio_metrics));
    let (errors, warnings) = policy.check();
    for (severity, found) in [(Severity::Error, errors), (Severity::Warning, warnings)] {
        for (origin, error) in found {
            let message = if origin.path.is_empty() { error.to_string() } else { error.message };
            let placed = placed(inputs, &origin, message, error.at_name, &scope);
            match severity {
                Severity::Error => report.errors.push(placed),
                Severity::Warning => report.warnings.push(placed),
            }
        }
    }
    tell(inputs, &kinds, &scope, &mut report);
    Imported { mesh, scope, policy, report }
}

type Known = Option<(&'static Dialect, &'static Kind)>;

/// What is known of each resource's kind.
fn kinds(inputs: &Inputs) -> Vec<Known> {
    let kind = |resource: &Resource| {
        let known = dialects::find(resource, resource.group.as_deref());
        known.unwrap_or_else(|groups| {
            resource.log.error(
                "kind",
                format!("without apiVersion this may be of {}", groups.join(" or of ")),
                "say which with apiVersion",
            );
            None
        })
    };
    inputs.resources.iter().map(kind).collect()
}

fn repair(inputs: &mut Inputs, kinds: &[Known], repairs: Repairs) {
    for (resource, kind) in inputs.resources.iter_mut().zip(kinds) {
        if let Some((_, kind)) = kind {
            let moves = (kind.repair)(&mut resource.value);
            repair::tell(moves, &resource.log, repairs);
        }
    }
}

/// Texts of Helm's templates that are YAML all the same. What other kinds have in their texts is theirs: dashboards and alerts have
/// templates of their own.
fn templates(inputs: &Inputs, kinds: &[Known]) {
    for (resource, kind) in inputs.resources.iter().zip(kinds) {
        let Some((_, kind)) = kind else { continue };
        // How a workload runs, and what an API's description says to people, may have templates of their own, too.
        let of_kind = kind.phase >= dialect::Phase::Listeners && kind.name != read::OPEN_API;
        report::leaves(&resource.value, String::new(), &mut |path, value| {
            let decides = of_kind && !path.starts_with("metadata.annotations");
            let is_template = if decides { read::may_be_template } else { read::is_template };
            if value.as_str().is_some_and(is_template) {
                resource.log.error(path, read::TEMPLATE, read::RENDER);
            }
        });
    }
}

/// Where resources are by kind, namespace and name. The same twice is left out; if it is not the same, that is an error.
fn index(inputs: &Inputs, wanted: &Wanted, kinds: &[Known]) -> Index {
    let mut index = Index::new();
    for (resource, kind) in inputs.resources.iter().zip(kinds) {
        if kind.is_none() || resource.name.is_empty() {
            continue;
        }
        let namespace = resource.namespace.clone().or_else(|| wanted.namespace.clone());
        let namespace = namespace.unwrap_or_else(|| scope::DEFAULT_NAMESPACE.to_owned());
        let group = resource.group.clone().unwrap_or_default();
        let key = (resource.kind.clone(), namespace.clone(), resource.name.clone());
        let Some(first) = index.get(&key).and_then(|first| inputs.resources.get(*first)) else {
            index.insert(key, resource.index);
            continue;
        };
        let same_group =
            first.group.is_none() || resource.group.is_none() || first.group.as_ref() == Some(&group);
        if same_group && content(first) != content(resource) {
            resource.log.error(
                "metadata.name",
                format!(
                    "{} {namespace}/{} stands twice, and differs from the one in {}:{}",
                    resource.kind,
                    resource.name,
                    inputs.file(first),
                    inputs.start(first)
                ),
                "keep one",
            );
        }
    }
    index
}

/// What a resource says, without what a cluster says of it.
fn content(resource: &Resource) -> Vec<(&String, &Value)> {
    let of_the_cluster = |name: &str| matches!(name, "apiVersion" | "metadata" | "status");
    resource.value.as_object().into_iter().flatten().filter(|(name, _)| !of_the_cluster(name)).collect()
}

/// What MeshConfig says of the root namespace, wherever it stands.
fn root_namespace(inputs: &Inputs) -> String {
    inputs
        .resources
        .iter()
        .find_map(istio::root_namespace)
        .unwrap_or_else(|| scope::ROOT_NAMESPACE.to_owned())
}

/// Reads every resource, in the order of phases; within one the older first, as Istio has it, and the others as they stand.
fn read_all(
    resources: &[Resource],
    kinds: &[Known],
    index: &Index,
    scope: &Scope,
    mesh: &mut Mesh,
) -> Vec<&'static Dialect> {
    let mut order: Vec<(&Resource, &'static Dialect, &'static Kind)> = resources
        .iter()
        .zip(kinds)
        .filter_map(|(resource, known)| known.map(|(dialect, kind)| (resource, dialect, kind)))
        .collect();
    order.sort_by(|(one, _, kind), (other, _, other_kind)| {
        let general = |resource, kind: &Kind| istio::layer(resource, kind, scope);
        let phases = kind.phase.cmp(&other_kind.phase);
        phases.then(general(one, kind).cmp(&general(other, other_kind))).then(one.age().cmp(&other.age()))
    });
    let mut cx = Context { resources, index, scope, mesh, lists: Lists::of(resources) };
    for (resource, _, kind) in &order {
        let reading = Reading { log: &resource.log, hint: kind.hint };
        let root = Field::root(&resource.value, reading);
        let key = (resource.kind.clone(), cx.namespace(resource).to_owned(), resource.name.clone());
        let again = index.get(&key).is_some_and(|first| *first != resource.index);
        if let Some(reason) = scope.not_for(resource, kind.audience) {
            for (path, message, remedy) in scope::misspelt(resource, kind.audience) {
                resource.log.error(&path, message, remedy);
            }
            root.no_meaning(&reason);
        } else if again && cx.find(&key.0, &key.1, &key.2).is_some_and(|first| first.group == resource.group)
        {
            root.no_meaning("it is in the input twice");
        } else if let Some(top) = root.object() {
            metadata(&top, resource, kind);
            (kind.read)(&top, resource, &mut cx);
        }
        resource.log.close(&resource.value);
    }
    let mut dialects: Vec<&'static Dialect> = Vec::new();
    for (_, dialect, _) in order {
        if !dialects.iter().any(|known| known.name == dialect.name) {
            dialects.push(dialect);
        }
    }
    dialects.sort_by_key(|dialect| dialect.name);
    for dialect in &dialects {
        (dialect.finish)(&mut cx);
    }
    linkerd::finish(&mut cx);
    dialects
}

const CONSUL_S_OWN: &str =
    "this is a configuration entry as Consul itself writes it, and no resource of Kubernetes";
const CONSUL_REMEDY: &str = "write it as that: apiVersion: consul.hashicorp.com/v1alpha1, kind: ServiceRouter, ServiceSplitter, \
                             ServiceResolver, ServiceIntentions or JWTProvider, metadata.name, and the rest in spec";

/// Whether a text is an entry of Consul's in its language, `Kind = "service-router"`.
fn is_of_consul(text: &str) -> bool {
    text.split_once("Kind").is_some_and(|(_, after)| after.trim_start().starts_with('='))
}

/// Says of a resource whose kind is not known that nobody looked at it.
fn leave_alone(resource: &Resource) {
    let reading = Reading { log: &resource.log, hint: dialect::no_hint };
    const MESHES: [&str; 6] = [
        "istio.io",
        "linkerd.io",
        "smi-spec.io",
        "gateway.networking.k8s.io",
        "gateway.envoyproxy.io",
        "consul.hashicorp.com",
    ];
    // How the kinds of others are called that decide who gets in or where to.
    const DECIDING: [&str; 7] =
        ["Policy", "Policies", "Route", "Ingress", "Middleware", "Plugin", "Intentions"];
    // What stands elsewhere in a policy or in an option.
    const REMEDIES: [(&str, &str); 1] = [(
        "ClientTrafficPolicy",
        "proxies that are trusted (clientIPDetection) are --xff-hops; TLS, HTTP and health checks of the listener belong into envoy.yaml",
    )];
    let group = resource.group.as_deref().unwrap_or_default();
    let kind = &resource.kind;
    let remedy = REMEDIES.iter().find_map(|(of, remedy)| (of == kind).then_some(*remedy));
    let not_imported = format!("{kind} of {group} is not imported: what it asks for does not happen");
    if MESHES.iter().any(|mesh| group == *mesh || group.ends_with(&format!(".{mesh}"))) {
        match dialects::nearest_kind(kind, group) {
            Some(near) => resource.log.error(
                "kind",
                format!("{group} has no kind {kind}"),
                format!("did you mean {near}?"),
            ),
            None => {
                resource.log.warn("kind", not_imported, remedy.unwrap_or("see docs/import.md for what is"))
            }
        }
    } else if DECIDING.iter().any(|end| kind.ends_with(end)) {
        resource.log.warn(
            "kind",
            not_imported,
            "if it decides about requests here, write that into the policy",
        );
    }
    let root = Field::root(&resource.value, reading);
    match root.object_quietly() {
        Some(top) => {
            let is_consul_s = kind.starts_with("service-") || kind == "jwt-provider";
            match kind.is_empty() && top.has("Kind") {
                true if top.has("apiVersion") => {
                    resource.log.error("Kind", "it is written kind", "write it so")
                }
                true => resource.log.error("Kind", CONSUL_S_OWN, CONSUL_REMEDY),
                false if is_consul_s => resource.log.error("kind", CONSUL_S_OWN, CONSUL_REMEDY),
                false => {}
            }
            top.rest(|field| field.no_meaning_as_a_whole("this kind is not known here: left alone"));
        }
        None if resource.value.as_str().is_some_and(is_of_consul) => {
            root.forbid(CONSUL_S_OWN, CONSUL_REMEDY);
        }
        None => root.forbid("this is no resource, but text, a list or a number", "leave it out"),
    }
}

/// What all resources have: a name, a namespace, labels, what programs keep there.
fn metadata(top: &Object<'_>, resource: &Resource, kind: &Kind) {
    for name in ["apiVersion", "kind"] {
        if let Some(field) = top.field(name) {
            field.taken("what this resource is");
        }
    }
    if let Some(status) = top.field("status") {
        status.no_meaning_as_a_whole("it is what a controller has found, and no wish");
    }
    let Some(metadata) = top.field("metadata").and_then(|metadata| metadata.object()) else {
        if resource.name.is_empty() && kind.name != read::OPEN_API {
            resource.log.warn("", "it has no name", "give it metadata.name");
        }
        return;
    };
    for (name, to) in [
        ("name", "its name"),
        ("namespace", "its namespace"),
        ("creationTimestamp", "its age: the older one comes first"),
    ] {
        if let Some(field) = metadata.field(name)
            && field.text().is_some()
        {
            field.taken(to);
        }
    }
    if let Some(labels) = metadata.field("labels") {
        match kind.labels {
            true => labels.taken("what selectors choose it by"),
            false => labels.no_meaning_as_a_whole("labels of the resource itself decide nothing"),
        }
    }
    if let Some(annotations) = metadata.field("annotations") {
        annotated(&annotations, kind);
    }
    for (name, reason) in [
        ("generateName", "it is where the name comes from"),
        ("managedFields", "it is who wrote what"),
        ("ownerReferences", "it is what made this resource"),
        ("finalizers", "it is about its removal"),
        ("uid", "it is the cluster's"),
        ("resourceVersion", "it is the cluster's"),
        ("generation", "it is the cluster's"),
        ("deletionTimestamp", "it is the cluster's"),
        ("deletionGracePeriodSeconds", "it is the cluster's"),
        ("selfLink", "it is the cluster's"),
        ("clusterName", "it is the cluster's"),
    ] {
        if let Some(field) = metadata.field(name) {
            field.no_meaning_as_a_whole(reason);
        }
    }
}

/// Annotations: those that the kind's reader takes are taken there.
fn annotated(annotations: &Field<'_>, kind: &Kind) {
    for (name, field) in annotations.entries() {
        if kind.annotations.iter().any(|known| name.starts_with(known)) {
            continue;
        }
        annotations::told(name, &field, kind);
    }
}

/// A problem that is in no file.
fn nowhere(message: String) -> Placed {
    Placed {
        file: String::new(),
        place: Place::START,
        resource: String::new(),
        path: String::new(),
        message,
        remedy: String::new(),
    }
}

/// A problem of the policy, placed where the thing comes from.
fn placed(inputs: &Inputs, origin: &Origin, message: String, at_name: bool, scope: &Scope) -> Placed {
    let Some(resource) = inputs.resources.get(origin.resource).filter(|_| !origin.path.is_empty()) else {
        return nowhere(message);
    };
    Placed {
        file: inputs.file(resource).to_owned(),
        place: inputs.place(resource, &origin.path, at_name),
        resource: name_of(resource, scope),
        path: origin.path.clone(),
        message,
        remedy: String::new(),
    }
}

/// `Kind namespace/name`, for people; whatever of it there is.
fn name_of(resource: &Resource, scope: &Scope) -> String {
    let name = match namespace_of(resource, scope) {
        "" => resource.name.clone(),
        namespace => format!("{namespace}/{}", resource.name),
    };
    format!("{} {name}", resource.kind).trim().to_owned()
}

/// The namespace of a resource; none of what a whole cluster has, nor of what is no resource.
fn namespace_of<'r>(resource: &'r Resource, scope: &'r Scope) -> &'r str {
    let has_none = scope::OF_NO_NAMESPACE.contains(&resource.kind.as_str()) || resource.name.is_empty();
    let default = if has_none { "" } else { &scope.default_namespace };
    resource.namespace.as_deref().unwrap_or(default)
}

/// What is told of every resource.
fn tell(inputs: &mut Inputs, kinds: &[Known], scope: &Scope, report: &mut Report) {
    let mut logs: BTreeMap<usize, report::Log> = BTreeMap::new();
    for resource in &mut inputs.resources {
        logs.insert(resource.index, std::mem::take(&mut resource.log));
        // It was read, and what is written next is as large.
        resource.value.take();
    }
    for (resource, kind) in inputs.resources.iter().zip(kinds) {
        let log = logs.remove(&resource.index).unwrap_or_default();
        let (fields, problems) = log.finish();
        let told = Told {
            kind: resource.kind.clone(),
            name: resource.name.clone(),
            namespace: match kind {
                Some(_) => namespace_of(resource, scope).to_owned(),
                None => resource.namespace.clone().unwrap_or_default(),
            },
            file: inputs.file(resource).to_owned(),
            line: inputs.start(resource),
            fields,
            unknown: kind.is_none(),
        };
        report.resources.push(told);
        for problem in problems {
            let placed = Placed {
                file: inputs.file(resource).to_owned(),
                place: inputs.place(resource, &problem.path, problem.at_name),
                resource: name_of(resource, scope),
                path: problem.path,
                message: problem.message,
                remedy: problem.remedy,
            };
            match problem.severity {
                Severity::Error => report.errors.push(placed),
                Severity::Warning => report.warnings.push(placed),
            }
        }
    }
}
