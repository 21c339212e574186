//! Ports that policies name: those of the workload or of the Gateway's pods, where this proxy need not listen.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::mesh::services::{Labels, Service, TargetPort, selects};
use super::mesh::{Mesh, Port};
use super::read::Inputs;
use super::report::Placed;
use super::scope::{Scope, labels_of};
use super::{Imported, placed};
use crate::envoy::Address;

/// What [`Mesh::found`] has of the selector of the Gateway whose servers are opened.
pub const GATEWAY_SELECTOR: &str = "the Gateway's selector";

/// No connection comes at this port; where it is asked for, it stands for any.
const NONE: u16 = 0;

/// Where clients come.
#[derive(Clone, Copy, Debug)]
pub struct Listens<'a> {
    /// What `--listen` says, or what is usual.
    pub address: &'a Address,
    /// What it says of single ports.
    pub moved: &'a BTreeMap<u16, Address>,
}

/// What ports are called, and where they are.
#[derive(Debug, Default)]
struct Ports {
    /// In rules of authorization.
    rules: BTreeMap<u16, u16>,
    /// In matches.
    routes: BTreeMap<u16, u16>,
    /// Whether any other is a port that this proxy does not have.
    complete: bool,
}

enum Place {
    Here(u16),
    Elsewhere,
    Unknown,
}

/// Ports that policies name become those where clients really come. One of which it is not known whether it is this proxy's is
/// an error: the policy would let in other clients than it says.
pub fn place(imported: &mut Imported, inputs: &Inputs, listens: Listens<'_>) {
    let Imported { mesh, scope, policy, report, .. } = imported;
    let ports = Ports::of(mesh, scope, listens);
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    rules(&mut policy.value, &mut |path, value| {
        let Some(port) = value.as_str().and_then(|port| port.parse().ok()) else { return };
        match ports.place(port) {
            Place::Here(NONE) => errors.push((
                path,
                (
                    format!("clients of port {port} come to any free port, and which is not known yet"),
                    "say a port with --listen".to_owned(),
                ),
            )),
            Place::Here(at) => *value = at.to_string().into(),
            Place::Elsewhere => {
                warnings.push((path, format!("port {port} is not one of this proxy's: {}", ports.known())));
                if ports.rules.values().any(|at| *at == port) {
                    *value = NONE.to_string().into();
                }
            }
            Place::Unknown => errors.push((path, unknown(scope, port, &ports, listens))),
        }
    });
    matches(&mut policy.value, &mut |path, value| {
        let Some(port) = value.as_u64().and_then(|port| u16::try_from(port).ok()) else { return };
        match ports.routes.get(&port) {
            Some(&NONE) => {}
            Some(at) => *value = (*at).into(),
            None if scope.gateway.is_none() && ![NONE, port].contains(&listens.address.port) => warnings
                .push((
                    path,
                    format!(
                        "this match holds at port {port}, and everything is at {}: it never does",
                        listens.address
                    ),
                )),
            None => {}
        }
    });
    let placed = |(path, (message, remedy)): (String, (String, String))| -> Placed {
        Placed { remedy, ..placed(inputs, &policy.origin(&path), message, false, scope) }
    };
    report.errors.extend(errors.into_iter().map(placed));
    let warnings = warnings.into_iter().map(|(path, message)| (path, (message, String::new())));
    report.warnings.extend(warnings.map(placed));
}

/// Why it is not known whether a port is this proxy's, and what to do.
fn unknown(scope: &Scope, port: u16, ports: &Ports, listens: Listens<'_>) -> (String, String) {
    match &scope.gateway {
        Some((namespace, name)) => (
            format!("port {port} is of no server of the Gateway {namespace}/{name}: {}", ports.known()),
            "name a server's port, or put the Service of the gateway's pods into the input, whose targetPort says what \
             it is there"
                .to_owned(),
        ),
        None => (
            format!(
                "port {port} is the workload's, and clients come to {}: whether that is meant is not known",
                listens.address
            ),
            which(port, listens),
        ),
    }
}

/// How to say before which port of a workload the proxy stands.
pub fn which(port: u16, listens: Listens<'_>) -> String {
    let address = listens.address;
    format!("say before which of its ports this proxy stands: --listen {port}={address} if it is this one")
}

/// The port of the workload before which the proxy stands: as options say it, or as services do.
pub fn own(mesh: &Mesh, scope: &Scope, listens: Listens<'_>) -> Option<u16> {
    if let Some(port) = listens.moved.keys().next() {
        return Some(*port);
    }
    let targets: Option<BTreeSet<u16>> = chosen(mesh, scope)
        .flat_map(|service| service.ports.iter().map(move |port| target(mesh, service, port)))
        .collect();
    let targets = targets?;
    match targets.first() {
        _ if targets.contains(&listens.address.port) => Some(listens.address.port),
        Some(one) if targets.len() == 1 => Some(*one),
        _ => None,
    }
}

/// The services of the proxy's workload.
fn chosen<'m>(mesh: &'m Mesh, scope: &'m Scope) -> impl Iterator<Item = &'m Service> {
    let services = mesh.services.by_host.values();
    services.filter(|service| scope.is_led_to(&service.namespace, &service.selector))
}

/// A service's port at its workload; `None` where nothing says it.
fn target(mesh: &Mesh, service: &Service, port: &Port) -> Option<u16> {
    match &port.target {
        Some(TargetPort::Number(number)) => Some(*number),
        None => Some(port.number),
        Some(TargetPort::Name(name)) => mesh
            .services
            .workloads
            .values()
            .filter(|of| of.namespace == service.namespace && selects(&service.selector, &of.labels))
            .find_map(|of| of.ports.get(name).copied()),
    }
}

impl Ports {
    fn of(mesh: &Mesh, scope: &Scope, listens: Listens<'_>) -> Self {
        match &scope.gateway {
            Some(gateway) => Self::of_gateway(mesh, gateway, listens),
            None => Self::of_workload(mesh, scope, listens),
        }
    }

    fn of_workload(mesh: &Mesh, scope: &Scope, listens: Listens<'_>) -> Self {
        let at = listens.address.port;
        let Some(own) = own(mesh, scope, listens) else {
            return Ports { rules: BTreeMap::from([(at, at)]), ..Ports::default() };
        };
        // Routes name the service's port.
        let services = chosen(mesh, scope).flat_map(|service| {
            let ports = service.ports.iter().filter(move |port| target(mesh, service, port) == Some(own));
            ports.map(|port| (port.number, at))
        });
        let mut routes: BTreeMap<u16, u16> = services.collect();
        if routes.is_empty() {
            routes.insert(own, at);
        }
        Ports { rules: BTreeMap::from([(own, at)]), routes, complete: true }
    }

    fn of_gateway(mesh: &Mesh, gateway: &(String, String), listens: Listens<'_>) -> Self {
        let selector: Option<Labels> = mesh.found.get(GATEWAY_SELECTOR).map(labels_of);
        let pods = selector.as_ref().filter(|selector| !selector.is_empty());
        let services: Vec<&Service> = mesh
            .services
            .by_host
            .values()
            .filter(|service| pods.is_some_and(|pods| selects(pods, &service.selector)))
            .collect();
        // Pods of which no Service is known may call their ports anything.
        let mut ports = Ports { complete: pods.is_none() || !services.is_empty(), ..Ports::default() };
        for server in mesh.servers.iter().filter(|server| server.gateway == *gateway) {
            let at = listens.moved.get(&server.port).map_or(server.port, |address| address.port);
            ports.routes.insert(server.port, at);
            let mut targets = Vec::new();
            for service in &services {
                for port in service.ports.iter().filter(|port| port.number == server.port) {
                    match target(mesh, service, port) {
                        Some(target) => targets.push(target),
                        None => ports.complete = false,
                    }
                }
            }
            if targets.is_empty() {
                targets.push(server.port);
            }
            ports.rules.extend(targets.into_iter().map(|target| (target, at)));
        }
        ports
    }

    fn place(&self, port: u16) -> Place {
        match self.rules.get(&port) {
            Some(at) => Place::Here(*at),
            None if self.complete => Place::Elsewhere,
            None => Place::Unknown,
        }
    }

    /// The ports that are known, for people.
    fn known(&self) -> String {
        let known: Vec<String> = self.rules.keys().map(u16::to_string).collect();
        match known.as_slice() {
            [] => "it has none".to_owned(),
            [one] => format!("it has {one}"),
            several => format!("it has {}", several.join(", ")),
        }
    }
}

fn items<'v>(value: &'v mut Value, name: &str) -> impl Iterator<Item = (usize, &'v mut Value)> + use<'v> {
    value.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten().enumerate()
}

/// Every port that a rule of authorization names.
fn rules(policy: &mut Value, found: &mut dyn FnMut(String, &mut Value)) {
    for (entry, value) in items(policy, "authorization") {
        for (rule, value) in items(value, "rules") {
            let path = format!("authorization[{entry}].rules[{rule}]");
            for (to, value) in items(value, "to") {
                let Some(operation) = value.get_mut("operation") else { continue };
                for name in ["ports", "notPorts"] {
                    for (place, port) in items(operation, name) {
                        found(format!("{path}.to[{to}].operation.{name}[{place}]"), port);
                    }
                }
            }
            for (when, value) in items(value, "when") {
                if value.get("key").and_then(Value::as_str) != Some("destination.port") {
                    continue;
                }
                for name in ["values", "notValues"] {
                    for (place, port) in items(value, name) {
                        found(format!("{path}.when[{when}].{name}[{place}]"), port);
                    }
                }
            }
        }
    }
}

/// Every port that a match names: of a route, of a limit, of what needs a token.
fn matches(policy: &mut Value, found: &mut dyn FnMut(String, &mut Value)) {
    let mut of = |path: String, value: &mut Value| {
        for (place, matched) in items(value, "match") {
            if let Some(port) = matched.get_mut("port") {
                found(format!("{path}.match[{place}].port"), port);
            }
        }
    };
    for name in ["http", "rateLimits"] {
        for (entry, value) in items(policy, name) {
            of(format!("{name}[{entry}]"), value);
        }
    }
    let Some(authentication) = policy.get_mut("authentication") else { return };
    for (entry, value) in items(authentication, "requirements") {
        of(format!("authentication.requirements[{entry}]"), value);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::{Listens, place};
    use crate::envoy::Address;
    use crate::import::import;
    use crate::import::read::Inputs;
    use crate::import::repair::Repairs;
    use crate::import::scope::Wanted;
    use crate::import::testing::{errors, warnings};

    const POLICY: &str = "\
kind: AuthorizationPolicy
apiVersion: security.istio.io/v1
metadata: {name: d, namespace: shop}
spec:
  action: DENY
  rules:
  - to: [{operation: {ports: ['8080'], notPorts: ['9090']}}]
    when: [{key: destination.port, values: ['8080', '9090'], notValues: ['18081']}]
";

    const SERVICE: &str = "\
---
kind: Service
apiVersion: v1
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
kind: Pod
apiVersion: v1
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}
---
kind: VirtualService
apiVersion: networking.istio.io/v1
metadata: {name: web, namespace: shop}
spec: {hosts: [web], http: [{match: [{port: 80}], route: [{destination: {host: web}}]}]}
";

    const GATEWAY: &str = "\
---
kind: Gateway
apiVersion: networking.istio.io/v1
metadata: {name: edge, namespace: shop}
spec: {selector: {istio: edge}, servers: [{port: {number: 8080, protocol: HTTP}, hosts: ['*']}]}
";

    const PODS: &str = "\
---
kind: Service
apiVersion: v1
metadata: {name: edge, namespace: infra}
spec: {selector: {app: edge, istio: edge}, ports: [{name: http, port: 8080, targetPort: 9090}]}
";

    /// The rule, the errors and the warnings.
    fn placed(yaml: &str, gateway: bool, listen: &str, moved: &[u16]) -> (Value, Vec<String>, Vec<String>) {
        let mut inputs = Inputs::default();
        inputs.add("mesh.yaml", yaml.as_bytes(), Repairs::Told);
        let gateway = gateway.then(|| ("shop".to_owned(), "edge".to_owned()));
        let wanted = Wanted { namespace: Some("shop".to_owned()), gateway, ..Wanted::default() };
        let mut imported = import(&mut inputs, &wanted, Repairs::Told);
        assert_eq!(errors(&imported.report), Vec::<String>::new());
        imported.report.warnings.clear();
        let address: Address = listen.parse().unwrap();
        let moved: BTreeMap<u16, Address> = moved.iter().map(|port| (*port, address.clone())).collect();
        place(&mut imported, &inputs, Listens { address: &address, moved: &moved });
        let found = imported.policy.value;
        let rule = &found["authorization"][0]["rules"][0];
        let rule = json!([
            rule["to"][0]["operation"]["ports"],
            rule["to"][0]["operation"]["notPorts"],
            rule["when"][0]["values"],
            rule["when"][0]["notValues"],
            found["http"][0]["match"][0]["port"],
        ]);
        (rule, errors(&imported.report), warnings(&imported.report))
    }

    #[test]
    fn ports_of_policies_are_those_where_clients_come() {
        let all = |text: &[&str]| text.concat();
        let moved = json!([["18081"], ["9090"], ["18081", "9090"], ["0"], Value::Null]);
        let with_route = json!([["18081"], ["9090"], ["18081", "9090"], ["0"], 18081]);
        for (name, yaml, gateway, ports, expected) in [
            ("an option says it", POLICY.to_owned(), false, vec![8080], moved.clone()),
            ("a service says it", all(&[POLICY, SERVICE]), false, vec![], with_route),
            (
                "another of its ports",
                all(&[POLICY, SERVICE]),
                false,
                vec![9090],
                json!([["8080"], ["18081"], ["8080", "18081"], ["0"], 80]),
            ),
            (
                "a Gateway's pods are known",
                all(&[POLICY, GATEWAY, PODS]),
                true,
                vec![8080],
                json!([["8080"], ["18081"], ["8080", "18081"], ["0"], Value::Null]),
            ),
        ] {
            let (rule, errors, _) = placed(&yaml, gateway, "127.0.0.1:18081", &ports);
            assert_eq!((rule, errors), (expected, Vec::new()), "{name}");
        }
        let (_, _, warnings) = placed(POLICY, false, "127.0.0.1:18081", &[8080]);
        assert_eq!(
            warnings,
            [
                "7: spec.rules[0].to[0].operation.notPorts[0]: port 9090 is not one of this proxy's: it has 8080",
                "8: spec.rules[0].when[0].values[1]: port 9090 is not one of this proxy's: it has 8080",
                "8: spec.rules[0].when[0].notValues[0]: port 18081 is not one of this proxy's: it has 8080",
            ]
        );
    }

    #[test]
    fn a_service_s_selector_is_compared_with_all_labels_of_the_workload() {
        let service = SERVICE.replace("{app: web}", "{app: web, tier: front}");
        let service = service.replace("match: [{port: 80}], ", "").replacen("---\n", "", 1);
        let address: Address = "127.0.0.1:80".parse().unwrap();
        let listens = Listens { address: &address, moved: &BTreeMap::new() };
        for (label, expected) in [("web", Some(8080)), ("other", None)] {
            let mut inputs = Inputs::default();
            inputs.add("mesh.yaml", service.as_bytes(), Repairs::Told);
            let labels = Some([("app".to_owned(), label.to_owned())].into());
            let wanted = Wanted { namespace: Some("shop".to_owned()), labels, ..Wanted::default() };
            let found = import(&mut inputs, &wanted, Repairs::Told);
            assert_eq!(super::own(&found.mesh, &found.scope, listens), expected);
        }
    }

    #[test]
    fn a_port_of_which_nobody_knows_whether_it_is_the_proxy_s_is_an_error() {
        let (_, found, _) = placed(POLICY, false, "127.0.0.1:18081", &[]);
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(
            found[0],
            "7: spec.rules[0].to[0].operation.ports[0]: port 8080 is the workload's, and clients come to 127.0.0.1:18081: \
             whether that is meant is not known; say before which of its ports this proxy stands: --listen \
             8080=127.0.0.1:18081 if it is this one"
        );
        let (rule, found, _) = placed(&[POLICY, GATEWAY].concat(), true, "127.0.0.1:18081", &[8080]);
        assert_eq!(rule[0], json!(["18081"]));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found[0].contains("port 9090 is of no server of the Gateway shop/edge: it has 8080"),
            "{found:?}"
        );
        let (_, found, _) = placed(POLICY, false, "127.0.0.1:0", &[8080]);
        assert!(found[0].contains("clients of port 8080 come to any free port"), "{found:?}");
        // Its own port is meant by it.
        let (_, found, _) = placed(POLICY, false, "127.0.0.1:8080", &[]);
        assert!(found.iter().all(|error| !error.contains("port 8080 is the workload's")), "{found:?}");
    }
}
