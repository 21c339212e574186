//! What a dialect says of itself.

use super::context::Context;
use super::field::Object;
use super::read::Resource;
use super::repair::Move;
use super::scope::Audience;

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

fn no_repair(_: &mut serde_json::Value) -> Vec<Move> {
    Vec::new()
}

/// For kinds of which no name needs more than the names that there are.
pub fn no_hint(_: &str, _: &str) -> Option<String> {
    None
}

/// For dialects that are done when their resources were read.
pub fn no_finish(_: &mut Context<'_>) {}

fn is_any(_: &Resource) -> bool {
    true
}
