//! TrafficTarget → an ALLOW policy of `authorization`. Once there is one, nobody else gets in, as in SMI: not at a port that it
//! is not for, and not where the proxy's account has none.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::routes;
use crate::import::context::Context;
use crate::import::field::Object;
use crate::import::mesh::condition::Condition;
use crate::import::mesh::put;
use crate::import::mesh::services::selects;
use crate::import::read::Resource;

/// Under this name it is kept which account the proxy's workload has.
const ACCOUNT: &str = "smi.account";

/// Under this name it is kept which port of that workload the proxy has.
const PORT: &str = "smi.port";

/// Under this name it is kept that a target is for the proxy.
const OURS: &str = "smi.ours";

/// What is a pod, or makes some.
const WORKLOADS: [&str; 5] = ["Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"];

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
    let ports = ports_of(resource, cx);
    let here = match (&ports, &own) {
        (Some(ports), Some(own)) if ours => match own_port(own, cx) {
            Ok(port) => port.is_none_or(|port| ports.contains(&port)),
            Err(message) => {
                resource.log.error(if spec.is_some() { "spec" } else { "" }, message, "");
                true
            }
        },
        _ => true,
    };
    whom(target, ours, here, resource);
    let to = format!("authorization[{}]", resource.name);
    let sources = sources(target, &namespace, &to);
    let operations = rules(target, &namespace, &to, resource, cx);
    if !ours {
        return;
    }
    cx.mesh.found.insert(OURS, json!(true));
    // At another port it lets nobody in, and neither does any other.
    let operations = operations.filter(|_| here).unwrap_or_default();
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

/// Where the input has targets and none is for the proxy, nobody gets in.
pub fn closed(cx: &mut Context<'_>) {
    let Some(first) = cx.all("TrafficTarget").next() else { return };
    if cx.scope.gateway.is_some() || cx.mesh.found.contains_key(OURS) {
        return;
    }
    first.log.warn(
        "",
        "no TrafficTarget is for the account of the proxy: nobody gets in, as in SMI",
        "give that account one, or leave the TrafficTargets out",
    );
    cx.mesh.authorization.push((json!({"name": "smi/default", "action": "ALLOW"}), cx.origin(first, "")));
}

/// The account of the workload that the proxy stands before: that of the workloads with the proxy's labels, or, where the input
/// has none, the only one that targets are for.
fn account(resource: &Resource, cx: &mut Context<'_>) -> Result<Option<(String, String)>, String> {
    if let Some(known) = cx.mesh.found.get(ACCOUNT) {
        let text = |name: &str| known.get(name).and_then(Value::as_str).map(str::to_owned);
        return match text("choices") {
            Some(choices) => Err(choices),
            None => Ok(text("namespace").zip(text("name"))),
        };
    }
    let here = |target: &&Resource| {
        let of = cx.namespace(target);
        of == cx.scope.namespace || of == cx.scope.root_namespace
    };
    let targets = cx.all("TrafficTarget").filter(here);
    let all: BTreeSet<(String, String)> = targets.filter_map(|target| destination_of(target, cx)).collect();
    let of_labels = by_labels(cx);
    let list = |accounts: &BTreeSet<(String, String)>| {
        let names = accounts.iter().map(|(namespace, name)| format!("{namespace}/{name}"));
        names.collect::<Vec<_>>().join(", ")
    };
    let found = match (of_labels.len(), all.len()) {
        (1, _) => Ok(of_labels.into_iter().next()),
        (0, 0) => Ok(None),
        (0, 1) => {
            resource.log.warn(
                "spec.destination.name",
                format!("the proxy is taken to stand before the account {}", list(&all)),
                "everything else that it forwards is for that account's callers alone, too",
            );
            Ok(all.into_iter().next())
        }
        (0, _) => Err(format!(
            "there are TrafficTargets for several accounts, and one proxy stands before one of them: {}; put the workload (a \
             Pod or a Deployment with its serviceAccountName) into the input, and say which with --labels",
            list(&all)
        )),
        _ => Err(format!(
            "the workloads with the labels of the proxy have several accounts: {}; say more labels with --labels",
            list(&of_labels)
        )),
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
fn by_labels(cx: &Context<'_>) -> BTreeSet<(String, String)> {
    let Some(labels) = &cx.scope.labels else { return BTreeSet::new() };
    let all = WORKLOADS.into_iter().flat_map(|kind| cx.all(kind));
    let account = |workload: &Resource| {
        let of_spec = if workload.kind == "Pod" { "/spec" } else { "/spec/template/spec" };
        let own = crate::import::scope::workload_labels(workload)?;
        let spec = workload.value.pointer(of_spec)?;
        // Its older name stands beside the other.
        let named = ["serviceAccountName", "serviceAccount"].iter().find_map(|name| spec.get(name)?.as_str());
        let name = named.filter(|name| !name.is_empty()).unwrap_or("default").to_owned();
        let namespace = cx.namespace(workload);
        let fits = namespace == cx.scope.namespace && selects(labels, &own);
        fits.then(|| (namespace.to_owned(), name))
    };
    all.filter_map(account).collect()
}

/// The ports that a target is for; `None`: all.
fn ports_of(target: &Resource, cx: &Context<'_>) -> Option<BTreeSet<u16>> {
    let at = |paths: [&str; 2]| paths.into_iter().find_map(|path| target.value.pointer(path));
    let port = |value: &Value| match value {
        // Some write "8080".
        Value::String(text) => text.parse().ok(),
        other => other.as_u64().and_then(|number| u16::try_from(number).ok()),
    };
    let own = at(["/spec/destination/port", "/destination/port"]).and_then(port);
    let rules = at(["/spec/rules", "/rules"]).or_else(|| at(["/spec/specs", "/specs"]));
    let routes = rules
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|rule| rule.get("kind").is_some_and(|kind| kind == "TCPRoute"));
    let of_route = |rule: &Value| -> Option<BTreeSet<u16>> {
        let route = cx.find("TCPRoute", cx.namespace(target), rule.get("name")?.as_str()?)?;
        let ports = route.value.pointer("/spec/matches/ports")?.as_array()?;
        (!ports.is_empty()).then(|| ports.iter().filter_map(port).collect())
    };
    let of_routes: Vec<Option<BTreeSet<u16>>> = routes.map(of_route).collect();
    // One route without ports has all.
    let of_routes: Option<BTreeSet<u16>> = match of_routes.is_empty() {
        true => None,
        false => {
            of_routes.into_iter().collect::<Option<Vec<_>>>().map(|all| all.into_iter().flatten().collect())
        }
    };
    match (own, of_routes) {
        (None, ports) => ports,
        (Some(own), None) => Some(BTreeSet::from([own])),
        (Some(own), Some(ports)) => Some(ports.into_iter().filter(|port| *port == own).collect()),
    }
}

/// The port of the workload that the proxy stands before, of those that the targets of its account name.
fn own_port(account: &(String, String), cx: &mut Context<'_>) -> Result<Option<u16>, String> {
    if let Some(known) = cx.mesh.found.get(PORT) {
        return match known {
            Value::String(message) => Err(message.clone()),
            known => Ok(known.as_u64().and_then(|port| u16::try_from(port).ok())),
        };
    }
    let found = find_port(account, cx);
    let value = found.as_ref().map_or_else(|message| json!(message), |port| json!(port));
    cx.mesh.found.insert(PORT, value);
    found
}

fn find_port(account: &(String, String), cx: &Context<'_>) -> Result<Option<u16>, String> {
    let ours = cx.all("TrafficTarget").filter(|target| destination_of(target, cx).as_ref() == Some(account));
    let ports: Vec<Option<BTreeSet<u16>>> = ours.map(|target| ports_of(target, cx)).collect();
    let named = ports.iter().flatten().flatten().copied().collect();
    match cx.own_port(&named) {
        // A target for all ports is for this one, too.
        Err(_) if cx.scope.port.is_some() && ports.iter().any(Option::is_none) => Ok(cx.scope.port),
        found => found,
    }
}

/// Says of the destination what becomes of it.
fn whom(target: &Object<'_>, ours: bool, here: bool, resource: &Resource) {
    let Some(field) = target.field("destination") else {
        resource.log.error("spec.destination", "it does not say whom it is for", "name a service account");
        return;
    };
    let Some(object) = field.object() else { return };
    if let Some(port) = object.field("port") {
        let number = match port.value() {
            Value::String(text) => text.parse().ok(),
            _ => port.whole(1, 65_535),
        };
        match (number, ours, here) {
            (None, ..) => drop(port.wrong::<()>("this is no port")),
            (_, true, true) => port.taken("the port that the proxy has"),
            (_, true, false) => {
                port.no_meaning("the proxy stands before another port: there it lets nobody in")
            }
            (_, false, _) => port.no_meaning(OTHERS),
        }
    }
    object.rest(|field| match ours {
        true => field.taken("the account of the workload that the proxy stands before"),
        false => field.no_meaning(OTHERS),
    });
}

const OTHERS: &str = "the proxy stands before a workload of another account";

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
                let name = object.peek("name").and_then(|name| name.value().as_str()).unwrap_or_default();
                object.rest(|field| match kind {
                    "TCPRoute" => field.taken("ports that the proxy has; requests come by them"),
                    _ => field.no_meaning("no request comes as UDP here"),
                });
                if kind == "TCPRoute" && cx.find("TCPRoute", namespace, name).is_none() {
                    item.problem_here(
                        format!("there is no TCPRoute {namespace}/{name}, which says at which ports"),
                        "put it into the input",
                    );
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
