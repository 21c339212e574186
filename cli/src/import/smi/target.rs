//! TrafficTarget → an ALLOW policy of `authorization`. Once there is one, nobody else gets in, as in SMI.

use serde_json::{Map, Value, json};

use super::routes;
use crate::import::dialect::Context;
use crate::import::field::Object;
use crate::import::mesh::condition::Condition;
use crate::import::mesh::put;
use crate::import::mesh::services::selects;
use crate::import::read::Resource;

/// Under this name it is kept which account the proxy's workload has.
const ACCOUNT: &str = "smi.account";

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    // The oldest version has no spec.
    let spec = top.field("spec").and_then(|spec| spec.object());
    let target = spec.as_ref().unwrap_or(top);
    let namespace = cx.namespace(resource).to_owned();
    let account = account(resource, cx);
    let own = destination_of(resource, cx);
    let ours = match &account {
        Ok(account) => own.as_ref() == account.as_ref(),
        Err(message) => {
            resource.log.error("spec.destination.name", message, "");
            false
        }
    };
    let port = whom(target, ours, resource, cx);
    let to = format!("authorization[{}]", resource.name);
    let sources = sources(target, &namespace, &to);
    let operations = rules(target, &namespace, &to, resource, cx);
    if !ours || port == Some(false) {
        return;
    }
    let Some(operations) = operations else { return };
    let mut rules = Vec::new();
    for (to, when) in operations {
        let mut rule =
            Map::from_iter([("from".to_owned(), json!([{"source": {"serviceAccounts": sources}}]))]);
        if !to.is_empty() {
            rule.insert("to".to_owned(), json!([{ "operation": to }]));
        }
        if !when.is_empty() {
            rule.insert("when".to_owned(), Value::Array(when));
        }
        rules.push(Value::Object(rule));
    }
    if sources.is_empty() {
        // Nobody is named: nobody gets in by this.
        rules.clear();
    }
    let mut policy = json!({"name": resource.name, "action": "ALLOW"});
    if !rules.is_empty() {
        put(&mut policy, "rules", rules);
    }
    cx.mesh.authorization.push((policy, cx.origin(resource, if spec.is_some() { "spec" } else { "" })));
}

/// Namespace and name of the account that a target is for.
fn destination_of(resource: &Resource, cx: &Context<'_>) -> Option<(String, String)> {
    let destination =
        ["/spec/destination", "/destination"].iter().find_map(|at| resource.value.pointer(at))?;
    let text = |name: &str| destination.get(name).and_then(Value::as_str);
    let namespace = text("namespace").unwrap_or_else(|| cx.namespace(resource));
    Some((namespace.to_owned(), text("name")?.to_owned()))
}

/// The account of the workload that the proxy stands before: the only one that targets are for, or that of the workloads with
/// the proxy's labels.
fn account(resource: &Resource, cx: &mut Context<'_>) -> Result<Option<(String, String)>, String> {
    if let Some(known) = cx.mesh.found.get(ACCOUNT) {
        let text = |name: &str| known.get(name).and_then(Value::as_str).map(str::to_owned);
        return match text("choices") {
            Some(choices) => Err(choices),
            None => Ok(text("namespace").zip(text("name"))),
        };
    }
    let mut all: Vec<(String, String)> = cx
        .all("TrafficTarget")
        .filter(|target| {
            let of = cx.namespace(target);
            of == cx.scope.namespace || of == cx.scope.root_namespace
        })
        .filter_map(|target| destination_of(target, cx))
        .collect();
    all.sort();
    all.dedup();
    let found = match all.as_slice() {
        [] => Ok(None),
        [one] => {
            resource.log.warn(
                "spec.destination.name",
                format!("the proxy is taken to stand before the account {}/{}", one.0, one.1),
                "everything else that it forwards is for that account's callers alone, too",
            );
            Ok(Some(one.clone()))
        }
        several => {
            let of_labels = by_labels(cx);
            let fits: Vec<&(String, String)> =
                several.iter().filter(|known| of_labels.contains(known)).collect();
            match fits.as_slice() {
                [one] => Ok(Some((*one).clone())),
                _ => Err(format!(
                    "there are TrafficTargets for several accounts, and one proxy stands before one of them: {}; put the \
                     workload (a Pod or a Deployment with its serviceAccountName) into the input, and say which with --labels",
                    several
                        .iter()
                        .map(|(namespace, name)| format!("{namespace}/{name}"))
                        .collect::<Vec<_>>()
                        .join(", ")
                )),
            }
        }
    };
    let value = match &found {
        Ok(Some((namespace, name))) => json!({"namespace": namespace, "name": name}),
        Ok(None) => json!({}),
        Err(choices) => json!({"choices": choices}),
    };
    cx.mesh.found.insert(ACCOUNT, value);
    found
}

/// The accounts of the workloads that have the proxy's labels.
fn by_labels(cx: &Context<'_>) -> Vec<(String, String)> {
    let Some(labels) = &cx.scope.labels else { return Vec::new() };
    let workloads = ["Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"];
    let all = workloads.into_iter().flat_map(|kind| cx.all(kind));
    let account = |workload: &Resource| {
        let of_spec = if workload.kind == "Pod" { "/spec" } else { "/spec/template/spec" };
        let own = crate::import::scope::workload_labels(workload)?;
        let name = workload.value.pointer(of_spec)?.get("serviceAccountName").and_then(Value::as_str);
        let name = name.unwrap_or("default").to_owned();
        selects(labels, &own).then(|| (cx.namespace(workload).to_owned(), name))
    };
    all.filter_map(account).collect()
}

/// Says of the destination what becomes of it; whether its port is the proxy's, where both are known.
fn whom(target: &Object<'_>, ours: bool, resource: &Resource, cx: &Context<'_>) -> Option<bool> {
    let Some(field) = target.field("destination") else {
        resource.log.error("spec.destination", "it does not say whom it is for", "name a service account");
        return None;
    };
    let object = field.object()?;
    if let Some(port) = object.field("port") {
        // Some write "8080".
        let number = match port.value() {
            Value::String(text) => text.parse().ok(),
            _ => port.whole(1, 65_535),
        };
        let known = cx.scope.port.map(u64::from);
        if let (Some(known), Some(number)) = (known, number)
            && known != number
        {
            object.rest(|field| field.no_meaning("it is for another port than that of --listen"));
            port.no_meaning("it is another port than that of --listen");
            return Some(false);
        }
        port.taken("the port that the proxy has");
    }
    object.rest(|field| match ours {
        true => field.taken("the account of the workload that the proxy stands before"),
        false => field.no_meaning("the proxy stands before a workload of another account"),
    });
    None
}

/// Accounts as `NAMESPACE/NAME`.
fn sources(target: &Object<'_>, namespace: &str, to: &str) -> Vec<String> {
    let mut accounts = Vec::new();
    for item in target.field("sources").into_iter().flat_map(|field| field.items()) {
        let Some(object) = item.object() else { continue };
        let text = |name: &'static str| {
            let field = object.field(name)?;
            field.taken(format!("{to}.rules[].from[].source.serviceAccounts"));
            field.text()
        };
        if let Some(kind) = text("kind")
            && !matches!(kind, "ServiceAccount" | "IdentityBinding")
        {
            item.problem_here(
                format!("{kind} is no identity that a certificate has"),
                "use a ServiceAccount",
            );
        }
        text("group");
        let of = text("namespace").unwrap_or(namespace);
        match text("name") {
            Some(name) => accounts.push(format!("{of}/{name}")),
            None => item.problem_here("it names nobody", "give it a name"),
        }
    }
    accounts
}

type Operation = (Map<String, Value>, Vec<Value>);

/// What sources may do: operations, and the conditions on headers beside each. `None`: nothing that is a request.
fn rules(
    target: &Object<'_>,
    namespace: &str,
    to: &str,
    resource: &Resource,
    cx: &Context<'_>,
) -> Option<Vec<Operation>> {
    // Its name in the oldest version.
    let field = target.field("rules");
    let specs = target.field("specs");
    let Some(field) = field.or(specs) else { return Some(vec![Operation::default()]) };
    let (mut conditions, mut others, mut requests) = (Vec::new(), 0_usize, false);
    for item in field.items() {
        let Some(object) = item.object() else { continue };
        let kind = object.peek("kind").and_then(|kind| kind.value().as_str()).unwrap_or_default();
        match kind {
            "TCPRoute" | "UDPRoute" => {
                others = others.saturating_add(1);
                let there = object.peek("name").and_then(|name| {
                    let name = name.value().as_str()?;
                    cx.find(kind_of(kind), namespace, name)
                });
                object.rest(|field| match kind {
                    "TCPRoute" => field.taken("ports that the proxy has; requests come by them"),
                    _ => field.no_meaning("no request comes as UDP here"),
                });
                if kind == "TCPRoute" && !port_fits(there, cx) {
                    item.warn("its ports are others than that of --listen", "");
                    return None;
                }
                requests |= kind == "TCPRoute";
            }
            _ => {
                requests = true;
                conditions.push((item.path().to_owned(), routes::named(&item, &object, namespace, cx)));
            }
        }
    }
    if others > 0 && !requests {
        resource.log.warn("spec.rules", "nothing of it is about requests", "");
        return None;
    }
    let mut operations = Vec::new();
    if conditions.is_empty() {
        operations.push(Operation::default());
    }
    for (path, all) in conditions {
        match operations_of(&Condition::Any(all)) {
            Ok(found) => operations.extend(found),
            Err(error) => resource.log.error(&path, format!("{error} ({to})"), ""),
        }
    }
    Some(operations)
}

fn kind_of(kind: &str) -> &'static str {
    if kind == "TCPRoute" { "TCPRoute" } else { "UDPRoute" }
}

/// Whether a TCPRoute has the port of the proxy, where both are known.
fn port_fits(route: Option<&Resource>, cx: &Context<'_>) -> bool {
    let Some((port, route)) = cx.scope.port.zip(route) else { return true };
    let ports = route.value.pointer("/spec/matches/ports").and_then(Value::as_array);
    ports.is_none_or(|ports| ports.iter().any(|known| known.as_u64() == Some(port.into())))
}

/// A condition in the words of `authorization`.
fn operations_of(condition: &Condition) -> Result<Vec<Operation>, String> {
    let mut operations = Vec::new();
    for value in condition.matches()? {
        let mut operation = Map::new();
        let mut when = Vec::new();
        if let Some(method) = value.get("method") {
            let words = method.get("exact").or_else(|| method.get("regex")).and_then(Value::as_str);
            let methods = match words.filter(|words| !words.contains('\\')) {
                Some(words) => json!(words.split('|').collect::<Vec<_>>()),
                None => json!([method]),
            };
            operation.insert("methods".to_owned(), methods);
        }
        if let Some(path) = value.get("uri") {
            operation.insert("paths".to_owned(), json!([path]));
        }
        for (name, regex) in value.get("headers").and_then(Value::as_object).into_iter().flatten() {
            when.push(json!({"key": format!("request.headers[{name}]"), "values": [regex]}));
        }
        operations.push((operation, when));
    }
    Ok(operations)
}
