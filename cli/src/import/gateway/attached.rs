//! What policies that are attached to Gateways and routes are for: their `targetRef` and `targetRefs`.

use serde_json::Value;

use crate::import::context::Context;

/// Kinds of policies that are attached, Envoy Gateway's, by their names.
pub const SECURITY: &str = "SecurityPolicy";
pub const TRAFFIC: &str = "BackendTrafficPolicy";

/// What one is for.
pub struct Target<'v> {
    pub kind: &'v str,
    pub name: &'v str,
    /// A listener of a Gateway, or a rule of a route.
    pub section: Option<&'v str>,
}

impl<'v> Target<'v> {
    /// What one of them says; `None` where it says none.
    pub fn of(value: &'v Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        Some(Target { kind: text("kind")?, name: text("name")?, section: text("sectionName") })
    }

    /// Those of a policy.
    pub fn all(policy: &'v Value) -> Vec<Self> {
        let one = policy.pointer("/spec/targetRef").into_iter();
        let several = policy.pointer("/spec/targetRefs").and_then(Value::as_array).into_iter().flatten();
        one.chain(several).filter_map(Target::of).collect()
    }
}

/// Whether a policy is for a single listener of the Gateway whose listeners are opened: what comes by each is an entry of its
/// own then.
pub fn names_a_listener(cx: &Context<'_>) -> bool {
    let Some((namespace, name)) = &cx.scope.gateway else { return false };
    let is = |target: Target<'_>| target.kind == "Gateway" && target.name == name && target.section.is_some();
    [SECURITY, TRAFFIC].into_iter().any(|kind| {
        cx.all(kind)
            .any(|policy| cx.namespace(policy) == namespace && Target::all(&policy.value).into_iter().any(is))
    })
}
