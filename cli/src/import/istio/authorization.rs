//! AuthorizationPolicy → an entry of `authorization`.

use serde_json::{Map, Value, json};

use crate::import::context::Context;
use crate::import::field::{Field, Member, Object, Shape};
use crate::import::read::Resource;

const TEXTS: Shape = Shape::List(&Shape::Text);

const SOURCE: Shape = Shape::Object(&[
    Member("principals", TEXTS),
    Member("notPrincipals", TEXTS),
    Member("requestPrincipals", TEXTS),
    Member("notRequestPrincipals", TEXTS),
    Member("namespaces", TEXTS),
    Member("notNamespaces", TEXTS),
    Member("serviceAccounts", TEXTS),
    Member("notServiceAccounts", TEXTS),
    Member("trustDomains", TEXTS),
    Member("notTrustDomains", TEXTS),
    Member("ipBlocks", TEXTS),
    Member("notIpBlocks", TEXTS),
    Member("remoteIpBlocks", TEXTS),
    Member("notRemoteIpBlocks", TEXTS),
]);

const OPERATION: Shape = Shape::Object(&[
    Member("hosts", TEXTS),
    Member("notHosts", TEXTS),
    Member("ports", TEXTS),
    Member("notPorts", TEXTS),
    Member("methods", TEXTS),
    Member("notMethods", TEXTS),
    Member("paths", TEXTS),
    Member("notPaths", TEXTS),
]);

const RULE: Shape = Shape::Object(&[
    Member("from", Shape::List(&Shape::Object(&[Member("source", SOURCE)]))),
    Member("to", Shape::List(&Shape::Object(&[Member("operation", OPERATION)]))),
    Member(
        "when",
        Shape::List(&Shape::Object(&[
            Member("key", Shape::Text),
            Member("values", TEXTS),
            Member("notValues", TEXTS),
        ])),
    ),
]);

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let namespace = cx.namespace(resource).to_owned();
    let mut policy = Map::new();
    let name = if resource.name.is_empty() { "unnamed" } else { &resource.name };
    let known = |name: &str| cx.mesh.authorization.iter().any(|(policy, _)| policy["name"] == name);
    let name = if known(name) { format!("{namespace}/{name}") } else { name.to_owned() };
    policy.insert("name".to_owned(), name.clone().into());
    policy.insert("action".to_owned(), "ALLOW".into());
    let to = format!("authorization[{name}]");
    if dry_run(top, &to) {
        policy.insert("mode".to_owned(), "shadow".into());
    }
    if let Some(spec) = top.field("spec").and_then(|spec| spec.object()) {
        cx.scope.take(&spec, "selector");
        let provider = spec.field("provider");
        let rules = spec.field("rules");
        if let Some(field) = spec.field("action")
            && let Some(action) = field.text()
        {
            match action {
                "ALLOW" | "DENY" | "AUDIT" => {
                    field.taken(format!("{to}.action"));
                    policy.insert("action".to_owned(), action.into());
                }
                "CUSTOM" => {
                    field.forbid(
                        "CUSTOM asks a server of its own, which this policy cannot",
                        "use ALLOW and DENY, or put Envoy's ext_authz filter before the module",
                    );
                    for part in [&rules, &provider].into_iter().flatten() {
                        part.no_meaning("it is of a policy that is refused");
                    }
                    return;
                }
                _ => drop(field.wrong::<()>(format!("{action} is no action; use ALLOW, DENY or AUDIT"))),
            }
        }
        if let Some(provider) = provider {
            provider.forbid(
                "it names the server that CUSTOM asks, which this policy cannot",
                "leave it out, or put Envoy's ext_authz filter before the module",
            );
        }
        if let Some(rules) = rules {
            let rules = rules.items();
            let read = rules
                .iter()
                .enumerate()
                .filter_map(|(index, rule)| self::rule(rule, &format!("{to}.rules[{index}]"), &namespace));
            let read: Vec<Value> = read.collect();
            if !rules.is_empty() {
                policy.insert("rules".to_owned(), Value::Array(read));
            }
        }
    }
    cx.mesh.authorization.push((Value::Object(policy), cx.origin(resource, "spec")));
}

fn rule(field: &Field<'_>, to: &str, namespace: &str) -> Option<Value> {
    let mut rule = field.copy(&RULE, to)?;
    own_address(field);
    // A bare account is one of the policy's own namespace.
    let full = |accounts: Option<&mut Value>| {
        for account in accounts.and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(bare) = account.as_str().filter(|account| !account.contains('/')) {
                *account = json!(format!("{namespace}/{bare}"));
            }
        }
    };
    for from in rule.get_mut("from").and_then(Value::as_array_mut).into_iter().flatten() {
        for name in ["serviceAccounts", "notServiceAccounts"] {
            full(from.get_mut("source").and_then(|source| source.get_mut(name)));
        }
    }
    for when in rule.get_mut("when").and_then(Value::as_array_mut).into_iter().flatten() {
        if when.get("key").and_then(Value::as_str) == Some("source.serviceAccount") {
            for name in ["values", "notValues"] {
                full(when.get_mut(name));
            }
        }
    }
    Some(rule)
}

/// Which address of the workload a client came to is not known to a proxy that it does not come from: its own is another.
fn own_address(rule: &Field<'_>) {
    let Some(rule) = rule.object_quietly() else { return };
    rule.rest(|_| {});
    for condition in rule.peek("when").into_iter().flat_map(|when| when.items()) {
        let Some(condition) = condition.object_quietly() else { continue };
        condition.rest(|_| {});
        if let Some(key) = condition.peek("key").filter(|key| key.value() == "destination.ip") {
            key.forbid(
                "destination.ip is an address of the workload, and clients come to this proxy's",
                "leave it out; a policy is for a workload by its selector, and for a port by destination.port",
            );
        }
    }
}

/// Istio's annotation for policies that decide nothing yet.
fn dry_run(top: &Object<'_>, to: &str) -> bool {
    let metadata = top.peek("metadata").and_then(|metadata| metadata.object());
    let Some(metadata) = metadata else { return false };
    metadata.rest(|_| {});
    let Some(annotations) = metadata.peek("annotations") else { return false };
    let found = annotations.entries().into_iter().find(|(name, _)| *name == "istio.io/dry-run");
    let Some((_, field)) = found else { return false };
    match field.value().as_str() {
        Some("true") => {
            field.taken(format!("{to}.mode: shadow"));
            true
        }
        Some("false") => {
            field.taken(format!("{to}.mode: enforce"));
            false
        }
        _ => field.wrong::<()>("it says neither \"true\" nor \"false\"").is_some(),
    }
}
