//! What readers look things up in, and what they write to.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use super::mesh::services::{Labels, selects};
use super::mesh::{Mesh, Origin, Port, TargetPort, hosts};
use super::read::Resource;
use super::scope::Scope;

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
        let numbers = targets.iter().flat_map(|target| self.numbers(target));
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
        let ports = self.service_ports().filter(|known| known.number == port);
        ports.filter_map(|known| known.target.clone()).collect()
    }

    /// The ports of the proxy's workload to which its Services lead, as far as their numbers are known.
    pub fn own_ports(&self) -> BTreeSet<u16> {
        let numbers = self.service_ports().flat_map(|port| match &port.target {
            Some(target) => self.numbers(target),
            None => BTreeSet::from([port.number]),
        });
        numbers.collect()
    }

    /// The numbers that a target port may be.
    fn numbers(&self, target: &TargetPort) -> BTreeSet<u16> {
        match target {
            TargetPort::Number(number) => BTreeSet::from([*number]),
            TargetPort::Name(name) => self.named_port(name, self.scope.labels.as_ref()),
        }
    }

    /// The ports of the Services of the proxy's workload.
    fn service_ports(&self) -> impl Iterator<Item = &Port> {
        let services = self.mesh.services.by_host.values();
        let services = services.filter(|service| self.scope.is_led_to(&service.namespace, &service.selector));
        services.flat_map(|service| &service.ports)
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

    /// The full name of a host that a resource names.
    pub fn host(&self, host: &str, resource: &Resource) -> String {
        hosts::full(host, self.namespace(resource), &self.scope.namespaces)
    }
}
