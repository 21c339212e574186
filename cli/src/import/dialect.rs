//! What a dialect says of itself, and the table of all of them.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use super::field::Object;
use super::mesh::services::{Labels, selects};
use super::mesh::{Mesh, Origin, TargetPort};
use super::read::Resource;
use super::repair::Move;
use super::scope::Scope;
use super::{consul, envoy_gateway, gateway, istio, kubernetes, linkerd, openapi, smi};

/// A family of kinds.
pub struct Dialect {
    /// Such as `Istio`.
    pub name: &'static str,
    /// Its kinds.
    pub kinds: &'static [Kind],
    /// Whether metrics have Istio's names as soon as one of these is in the input.
    pub istio_metrics: bool,
    /// What is left to do when all resources were read; called where one of the kinds is in the input.
    pub finish: fn(&mut Context<'_>),
}

/// A kind of resource.
pub struct Kind {
    /// Such as `VirtualService`.
    pub name: &'static str,
    /// The groups that it has in `apiVersion`, without the version; a `kind` without `apiVersion` is taken where only one
    /// dialect has it.
    pub groups: &'static [&'static str],
    /// Kinds are read in this order.
    pub phase: Phase,
    /// Whom it is for.
    pub audience: Audience,
    /// Reads the top of one resource.
    pub read: Read,
    /// Whether its own labels say something: selectors choose it by them.
    pub labels: bool,
    /// How the annotations begin that its reader takes.
    pub annotations: &'static [&'static str],
    /// Which of the resources of this name are meant, where others may have it, too.
    pub is: fn(&Resource) -> bool,
    /// What of it stands in the wrong place, and is moved; see [`Move`].
    pub repair: fn(&mut serde_json::Value) -> Vec<Move>,
    /// What to say of a name that an object does not have: the object's path, and the name.
    pub hint: fn(&str, &str) -> Option<String>,
}

/// Reads the top of one resource but `apiVersion`, `kind` and `metadata`, which were read already. What it does not ask for is
/// an error.
pub type Read = fn(&Object<'_>, &Resource, &mut Context<'_>);

impl Kind {
    /// One of which nothing stands in the wrong place by habit, and no label or annotation says anything.
    pub const fn new(
        name: &'static str,
        groups: &'static [&'static str],
        phase: Phase,
        audience: Audience,
        read: Read,
    ) -> Self {
        Kind {
            name,
            groups,
            phase,
            audience,
            read,
            labels: false,
            annotations: &[],
            is: is_any,
            repair: no_repair,
            hint: no_hint,
        }
    }
}

/// When a kind is read: what others look for comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// What holds for the whole mesh.
    Settings,
    /// What runs: pods.
    Workloads,
    /// What there is: services, who answers for them, secrets.
    Services,
    /// Where clients come.
    Listeners,
    /// Where requests go, and who may ask.
    Policies,
    /// What is attached to what was read before.
    Attached,
}

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

/// By kind, namespace and name.
pub type Index = HashMap<(String, String, String), usize>;

/// What to do where the port does not say what the proxy stands before.
pub const SAY_PORT: &str = "say which port of the workload the proxy stands before: --listen PORT=HOST:PORT, such as --listen 8080=127.0.0.1:10000";

/// What readers work with.
pub struct Context<'a> {
    /// All resources of the input, to look things up. Whoever looks says nothing of their fields.
    pub resources: &'a [Resource],
    /// Where a resource of a kind, a namespace and a name is among them.
    pub index: &'a Index,
    /// Whom policies have to be for.
    pub scope: &'a Scope,
    /// What comes of it.
    pub mesh: &'a mut Mesh,
    /// Where resources of a kind are among all, and those of which one of their words is known.
    pub lists: Lists,
}

/// Places of resources by a word of theirs.
type ByWord = HashMap<String, Vec<usize>>;

/// Resources that are looked for again and again, found once.
#[derive(Debug, Default)]
pub struct Lists {
    kinds: HashMap<String, Vec<usize>>,
    words: RefCell<HashMap<(&'static str, &'static str), ByWord>>,
}

impl Lists {
    /// Those of an input.
    pub fn of(resources: &[Resource]) -> Self {
        let mut lists = Lists::default();
        for resource in resources {
            lists.kinds.entry(resource.kind.clone()).or_default().push(resource.index);
        }
        lists
    }
}

/// All of them.
pub static DIALECTS: &[&Dialect] = &[
    &kubernetes::DIALECT,
    &istio::DIALECT,
    &gateway::DIALECT,
    &envoy_gateway::DIALECT,
    &linkerd::DIALECT,
    &smi::DIALECT,
    &consul::DIALECT,
    &openapi::DIALECT,
];

/// Whether any dialect has a kind of this name.
pub fn is_known(kind: &str) -> bool {
    DIALECTS.iter().any(|dialect| dialect.kinds.iter().any(|known| known.name == kind))
}

/// The kind of a group that was meant by a name that it does not have.
pub fn nearest_kind(kind: &str, group: &str) -> Option<&'static str> {
    let all = DIALECTS.iter().flat_map(|dialect| dialect.kinds);
    let known: Vec<&str> =
        all.filter(|known| known.groups.contains(&group)).map(|known| known.name).collect();
    // Kinds that there are, though not here, and whose names are near to others.
    const OTHERS: [&str; 2] = ["TCPRoute", "ClientTrafficPolicy"];
    if OTHERS.contains(&kind) { None } else { super::field::nearest(kind, &known) }
}

/// What is known of a resource's kind.
///
/// # Errors
/// More than one dialect has the kind, and the resource has no `apiVersion`: the groups that it may have.
pub fn find(
    resource: &Resource,
    group: Option<&str>,
) -> Result<Option<(&'static Dialect, &'static Kind)>, Vec<&'static str>> {
    let of = |dialect: &'static Dialect| dialect.kinds.iter().map(move |known| (dialect, known));
    let named: Vec<_> = DIALECTS
        .iter()
        .copied()
        .flat_map(of)
        .filter(|(_, known)| known.name == resource.kind && (known.is)(resource))
        .collect();
    match (group, named.as_slice()) {
        (Some(group), _) => Ok(named.into_iter().find(|(_, known)| known.groups.contains(&group))),
        (None, []) => Ok(None),
        (None, [one]) => Ok(Some(*one)),
        (None, several) if group_by_content(resource).is_some() => {
            let group = group_by_content(resource).unwrap_or_default();
            Ok(several.iter().copied().find(|(_, known)| known.groups.contains(&group)))
        }
        (None, several) => Err(several.iter().filter_map(|(_, kind)| kind.groups.first().copied()).collect()),
    }
}

/// The group that a resource without `apiVersion` must have, as what stands in it shows.
fn group_by_content(resource: &Resource) -> Option<&'static str> {
    let spec = resource.value.get("spec")?;
    match resource.kind.as_str() {
        "Gateway" if spec.get("listeners").is_some() => Some("gateway.networking.k8s.io"),
        "Gateway" => Some("networking.istio.io"),
        "AuthorizationPolicy" if spec.get("requiredAuthenticationRefs").is_some() => {
            Some("policy.linkerd.io")
        }
        "AuthorizationPolicy" => Some("security.istio.io"),
        "HTTPRoute" | "GRPCRoute" => {
            let mut parents =
                spec.get("parentRefs").and_then(serde_json::Value::as_array).into_iter().flatten();
            let of_server = parents.any(|parent| parent.get("kind").is_some_and(|kind| kind == "Server"));
            Some(if of_server { "policy.linkerd.io" } else { "gateway.networking.k8s.io" })
        }
        _ => None,
    }
}

impl<'a> Context<'a> {
    /// The namespace of a resource.
    pub fn namespace<'r>(&'r self, resource: &'r Resource) -> &'r str {
        resource.namespace.as_deref().unwrap_or(&self.scope.default_namespace)
    }

    /// A resource by kind, namespace and name.
    pub fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&'a Resource> {
        let resources: &'a [Resource] = self.resources;
        let key = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        self.index.get(&key).and_then(|index| resources.get(*index))
    }

    /// Why a resource of one namespace says nothing of requests to a service of another: only a service's owner says where
    /// everybody's requests go; `None` where it does, or where the proxy's own requests are meant.
    pub fn not_its_service(&self, resource: &Resource, service: &str) -> Option<(String, &'static str)> {
        let own = self.namespace(resource);
        if own == service || own == self.scope.namespace {
            return None;
        }
        let reason = format!(
            "it is for requests of {own} to a service of {service}, and the proxy is in {}",
            self.scope.namespace
        );
        Some((
            reason,
            "put it into the service's namespace, or say --namespace for a proxy before those clients",
        ))
    }

    /// Why a route of a Service says nothing of the proxy's requests: what its namespace says of the Service itself holds in
    /// place of what the Service's owner says, and Linkerd's ServiceProfile in place of routes.
    pub fn replaced_for(&self, resource: &Resource, name: &str, namespace: &str) -> Option<String> {
        let host = super::mesh::hosts::of_service(name, namespace);
        if linkerd::has_profile(&host, self) {
            return Some(format!("the ServiceProfile {host} holds in place of routes"));
        }
        let own = &self.scope.namespace;
        if self.namespace(resource) == own || namespace == own {
            return None;
        }
        let words = |route: &Resource| gateway::services_of(route, self.namespace(route));
        let word = format!("{namespace}/{name}");
        let mut clients = ["HTTPRoute", "GRPCRoute"]
            .into_iter()
            .flat_map(|kind| self.with((kind, "Services"), words, &word));
        let other = clients.find(|other| self.namespace(other) == own)?;
        Some(format!("{} {own}/{} of the proxy's own namespace holds in its place", other.kind, other.name))
    }

    /// [`Self::not_its_service`] for the full name of a host.
    pub fn not_its_host(&self, resource: &Resource, host: &str) -> Option<(String, &'static str)> {
        self.not_its_service(resource, super::mesh::hosts::parts(host)?.1)
    }

    /// Which of the ports of the workload, which policies are for, is the proxy's: that of `--listen`, or that where a Service
    /// of the workload leads from there; where no option says one, the only one.
    ///
    /// # Errors
    /// None of them, or several.
    pub fn own_port(&self, named: &BTreeSet<u16>) -> Result<Option<u16>, String> {
        let list = named.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let Some(port) = self.scope.port else {
            return match named.len() {
                0 | 1 => Ok(named.first().copied()),
                _ => Err(format!("there are policies for several ports: {list}; {SAY_PORT}")),
            };
        };
        if named.contains(&port) {
            return Ok(Some(port));
        }
        let targets = self.targets(port);
        let numbers = targets.iter().flat_map(|target| match target {
            TargetPort::Number(number) => BTreeSet::from([*number]),
            TargetPort::Name(name) => self.named_port(name, self.scope.labels.as_ref()),
        });
        let found: BTreeSet<u16> = numbers.filter(|number| named.contains(number)).collect();
        match found.len() {
            1 => Ok(found.first().copied()),
            _ => {
                Err(format!("the port of --listen is {port}, and there are policies for {list}; {SAY_PORT}"))
            }
        }
    }

    /// Where Services of the proxy's workload lead from one of their ports.
    pub fn targets(&self, port: u16) -> Vec<TargetPort> {
        let services = self.mesh.services.by_host.values();
        let services = services.filter(|service| self.scope.is_led_to(&service.namespace, &service.selector));
        let ports = services.flat_map(|service| &service.ports).filter(|known| known.number == port);
        ports.filter_map(|known| known.target.clone()).collect()
    }

    /// The numbers of a named port of the workloads of the proxy's namespace that have these labels.
    pub fn named_port(&self, name: &str, labels: Option<&Labels>) -> BTreeSet<u16> {
        let workloads = self.mesh.services.workloads.values().filter(|workload| {
            workload.namespace == self.scope.namespace
                && labels.is_none_or(|labels| selects(labels, &workload.labels))
        });
        workloads.filter_map(|workload| workload.ports.get(name).copied()).collect()
    }

    /// Where something in a resource stands, for what is said of it later.
    pub fn origin(&self, resource: &Resource, path: impl Into<String>) -> Origin {
        Origin { resource: resource.index, path: path.into() }
    }

    /// Every resource of a kind.
    pub fn all(&self, kind: &'static str) -> impl Iterator<Item = &'a Resource> + use<'a> {
        let resources: &'a [Resource] = self.resources;
        let found = self.lists.kinds.get(kind).cloned().unwrap_or_default();
        found.into_iter().filter_map(move |index| resources.get(index))
    }

    /// Those of a kind that have a word, in the order of the input. `name` says what the words are.
    pub fn with(
        &self,
        (kind, name): (&'static str, &'static str),
        words: impl Fn(&Resource) -> Vec<String>,
        word: &str,
    ) -> Vec<&'a Resource> {
        let resources: &'a [Resource] = self.resources;
        let mut known = self.lists.words.borrow_mut();
        let lists = known.entry((kind, name)).or_insert_with(|| {
            let mut lists = ByWord::new();
            for resource in self.all(kind) {
                for word in words(resource) {
                    let list = lists.entry(word).or_default();
                    if list.last() != Some(&resource.index) {
                        list.push(resource.index);
                    }
                }
            }
            lists
        });
        let found = lists.get(word).map(Vec::as_slice).unwrap_or_default();
        found.iter().filter_map(|index| resources.get(*index)).collect()
    }
}

fn is_any(_: &Resource) -> bool {
    true
}

fn no_repair(_: &mut serde_json::Value) -> Vec<Move> {
    Vec::new()
}

/// For kinds of which no name needs more than the names that there are.
pub fn no_hint(_: &str, _: &str) -> Option<String> {
    None
}

/// For dialects that are done when their resources were read.
pub fn no_finish(_: &mut Context<'_>) {}
