//! What routes of the Gateway API hang on.

use std::collections::{BTreeMap, BTreeSet};

use super::services::Labels;

/// Gateways with their listeners, and grants.
#[derive(Clone, Debug, Default)]
pub struct Gateways {
    /// Listeners by namespace and name of their Gateway, in its order.
    pub listeners: BTreeMap<(String, String), Vec<Listener>>,
    /// What may be named from another namespace.
    pub grants: Vec<Grant>,
    /// The listeners by which the requests of an entry come, by its place among all.
    pub of_entries: BTreeMap<usize, BTreeSet<Named>>,
}

/// A listener: the namespace and the name of its Gateway, and its own name.
pub type Named = (String, String, String);

/// A listener, as far as routes ask for it.
#[derive(Clone, Debug, Default)]
pub struct Listener {
    /// Its name: a route's `sectionName`.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// The host that it takes, `*.example.com`; `*` is any.
    pub host: String,
    /// The namespaces whose routes it takes.
    pub namespaces: Namespaces,
    /// The kinds of routes that it takes.
    pub kinds: Vec<String>,
}

/// Whose routes a listener takes.
#[derive(Clone, Debug, Default)]
pub enum Namespaces {
    /// Those of its own namespace.
    #[default]
    Same,
    /// All.
    All,
    /// Those of namespaces with these labels.
    Selected(Selector),
}

/// What labels are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    /// These.
    pub labels: Labels,
    /// And these: name, operator, values.
    pub expressions: Vec<(String, String, Vec<String>)>,
}

impl From<Labels> for Selector {
    fn from(labels: Labels) -> Self {
        Selector { labels, expressions: Vec::new() }
    }
}

impl Selector {
    /// Whether labels are what is asked for.
    pub fn has(&self, labels: &Labels) -> bool {
        super::services::selects(&self.labels, labels)
            && self.expressions.iter().all(|expression| holds(expression, labels))
    }

    /// Whether what has these labels and perhaps more may be what is asked for.
    pub fn may_have(&self, labels: &Labels) -> bool {
        let fits = |(name, value): (&String, &String)| labels.get(name).is_none_or(|own| own == value);
        let known = |(name, ..): &&(String, String, Vec<String>)| labels.contains_key(name);
        self.labels.iter().all(fits)
            && self.expressions.iter().filter(known).all(|expression| holds(expression, labels))
    }

    /// Whether others than these labels are asked for.
    pub fn says_more(&self, labels: &Labels) -> bool {
        let names = self.expressions.iter().map(|(name, ..)| name);
        self.labels.keys().chain(names).any(|name| !labels.contains_key(name))
    }
}

fn holds((name, operator, values): &(String, String, Vec<String>), labels: &Labels) -> bool {
    let value = labels.get(name);
    match operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// A ReferenceGrant.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    /// Where it is, and what it lets others name.
    pub namespace: String,
    /// Kinds and namespaces that may.
    pub from: Vec<(String, String)>,
    /// Kinds and names that they may name; no name: all.
    pub to: Vec<(String, Option<String>)>,
}

impl Gateways {
    /// Whether a resource may name one of another namespace.
    pub fn grants(&self, from: (&str, &str), to: (&str, &str, &str)) -> bool {
        let (kind, namespace, name) = to;
        from.1 == namespace
            || self.grants.iter().any(|grant| {
                grant.namespace == namespace
                    && grant.from.iter().any(|(kind, namespace)| (kind.as_str(), namespace.as_str()) == from)
                    && grant
                        .to
                        .iter()
                        .any(|(of, named)| of == kind && named.as_ref().is_none_or(|named| named == name))
            })
    }
}
