use serde_json::{Value, json};

use super::split::quantity;
use crate::import::repair::Repairs;
use crate::import::scope::Wanted;
use crate::import::testing::{errors, imported, imported_for, policy, warnings};

fn split(version: &str, first: &str, second: &str) -> String {
    format!(
        "apiVersion: split.smi-spec.io/{version}\nkind: TrafficSplit\nmetadata: {{name: s}}\nspec:\n  service: web\n  \
         backends:\n  - {{service: web-a, weight: {first}}}\n  - {{service: web-b, weight: {second}}}\n"
    )
}

#[test]
fn a_split_is_a_weighted_entry_in_every_version() {
    for version in ["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"] {
        for (first, second, expected) in [
            ("90", "10", [90, 10]),
            ("900m", "100m", [900, 100]),
            ("1", "500m", [1000, 500]),
            ("\"1\"", "0m", [1, 0]),
            ("0.5", "1.5", [500, 1500]),
            ("5e2", "1k", [500, 1000]),
        ] {
            let policy = policy(&split(version, first, second));
            let weights: Vec<&Value> =
                policy["http"][0]["route"].as_array().unwrap().iter().map(|way| &way["weight"]).collect();
            assert_eq!(weights, [&json!(expected[0]), &json!(expected[1])], "{first} {second}");
        }
    }
    let policy = policy(&split("v1alpha1", "1", "1"));
    assert_eq!(policy["http"][0]["name"], "s");
    assert_eq!(
        policy["http"][0]["hosts"],
        json!(["web", "web.default", "web.default.svc", "web.default.svc.cluster.local"])
    );
    assert_eq!(
        policy["http"][0]["route"][0]["destination"],
        json!({"host": "web-a.default.svc.cluster.local"})
    );
}

#[test]
fn quantities_are_those_of_kubernetes() {
    for (text, expected) in [
        ("1", Some(1000)),
        ("900m", Some(900)),
        ("1u", Some(1)),
        ("1500u", Some(2)),
        (".5", Some(500)),
        ("1.", Some(1000)),
        ("1Ki", Some(1_024_000)),
        ("1E3", Some(1_000_000)),
        ("1e-3", Some(1)),
        ("1e99", None),
        ("", None),
        ("m", None),
        ("1x", None),
        ("-1", None),
        ("1.2.3", None),
        ("99999999999999999999999999999999999999999999G", None),
    ] {
        assert_eq!(quantity(text), expected, "{text}");
    }
}

#[test]
fn weights_that_are_none_are_errors() {
    assert_eq!(
        errors(&imported(&split("v1alpha1", "many", "1")).report),
        ["7: spec.backends[0].weight: \"many\" is no weight; use a number or a quantity such as 900m"]
    );
    assert_eq!(
        errors(&imported(&split("v1alpha1", "0", "0m")).report),
        ["6: spec.backends: all weights are 0: nothing is left to go to; give one of them a weight"]
    );
    let twice = format!(
        "{}---\n{}",
        split("v1alpha1", "1", "1"),
        split("v1alpha1", "1", "1").replace("name: s", "name: t")
    );
    assert_eq!(
        errors(&imported(&twice).report),
        [
            "14: spec.service: the TrafficSplit s divides web.default.svc.cluster.local already; keep one, or give them \
             matches"
        ]
    );
    // Weights have 32 bits.
    let large = policy(&split("v1alpha2", "9000000000000", "1000000000000"));
    let weights = &large["http"][0]["route"];
    let (first, second) = (weights[0]["weight"].as_u64().unwrap(), weights[1]["weight"].as_u64().unwrap());
    assert!(first + second <= u64::from(u32::MAX) && first / second == 8, "{first} {second}");
}

#[test]
fn a_split_with_matches_is_for_those_requests_alone() {
    let text = format!(
        "{}  matches: [{{kind: HTTPRouteGroup, name: ab}}]\n---\nkind: HTTPRouteGroup\nmetadata: {{name: ab}}\nspec: {{matches: \
         [{{name: firefox, headers: {{User-Agent: '.*Firefox.*'}}}}, {{name: api, pathRegex: /api, methods: [GET, HEAD]}}]}}\n",
        split("v1alpha4", "0", "100")
    );
    let policy = policy(&text);
    let entries = policy["http"].as_array().unwrap();
    assert_eq!(
        entries[0]["match"],
        json!([
            {"headers": {"user-agent": {"regex": ".*Firefox.*"}}},
            {"method": {"regex": "GET|HEAD"}, "uri": {"regex": "/api"}},
        ])
    );
    assert_eq!(entries[1]["name"], "s/others");
    assert_eq!(entries[1]["route"], json!([{"destination": {"host": "web.default.svc.cluster.local"}}]));
    assert_eq!(entries.len(), 2);
    let missing = text.replace("name: ab}]", "name: ba}]");
    assert_eq!(
        errors(&imported(&missing).report),
        ["9: spec.matches[0].name: there is no HTTPRouteGroup default/ba; put it into the input"]
    );
}

const TARGETS: &str = "\
kind: HTTPRouteGroup
metadata: {name: routes}
spec:
  matches:
  - {name: metrics, pathRegex: /metrics, methods: [GET]}
  - {name: api, pathRegex: '/api/.*', methods: ['*'], headers: {x-a: b.*}}
---
kind: TCPRoute
metadata: {name: port}
spec: {matches: {ports: [8080]}}
---
kind: TrafficTarget
metadata: {name: metrics}
spec:
  destination: {kind: ServiceAccount, name: service-a, namespace: default}
  rules: [{kind: TCPRoute, name: port}, {kind: HTTPRouteGroup, name: routes, matches: [metrics]}]
  sources: [{kind: ServiceAccount, name: prometheus, namespace: monitoring}]
---
kind: TrafficTarget
metadata: {name: api}
spec:
  destination: {kind: ServiceAccount, name: service-a, namespace: default, port: 8080}
  rules: [{kind: HTTPRouteGroup, name: routes, matches: [api]}]
  sources: [{kind: ServiceAccount, name: website}, {kind: ServiceAccount, name: payments}]
";

#[test]
fn a_traffic_target_lets_accounts_in_and_nobody_else() {
    assert_eq!(
        policy(TARGETS)["authorization"],
        json!([
            {
                "name": "metrics",
                "action": "ALLOW",
                "rules": [{
                    "from": [{"source": {"serviceAccounts": ["monitoring/prometheus"]}}],
                    "to": [{"operation": {"methods": ["GET"], "paths": [{"regex": "/metrics"}]}}],
                }],
            },
            {
                "name": "api",
                "action": "ALLOW",
                "rules": [{
                    "from": [{"source": {"serviceAccounts": ["default/website", "default/payments"]}}],
                    "to": [{"operation": {"paths": [{"regex": "/api/.*"}]}}],
                    "when": [{"key": "request.headers[x-a]", "values": [{"regex": "b.*"}]}],
                }],
            },
        ])
    );
    // Ports are those of --listen, where that is given.
    let told = errors(&at(TARGETS, 9090).report);
    assert!(
        told[0].contains("is 9090, and there are policies for 8080; say which") && told.len() == 2,
        "{told:?}"
    );
    let here = at(TARGETS, 8080);
    assert_eq!(here.policy.value["authorization"], policy(TARGETS)["authorization"]);
}

fn at(text: &str, port: u16) -> crate::import::Imported {
    imported_for(text, &Wanted { port: Some(port), ..Wanted::default() }, Repairs::Told)
}

#[test]
fn at_a_port_that_no_target_is_for_nobody_gets_in() {
    // The port of a Service is that of the workload that it leads to.
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selector: {app: a}, ports: [{port: 80, \
                   targetPort: 8080}]}\n";
    let text = format!("{TARGETS}{service}");
    let found = at(&text, 80);
    assert_eq!(errors(&found.report), Vec::<String>::new());
    assert_eq!(found.policy.value["authorization"], policy(TARGETS)["authorization"]);
    // A target for all ports beside one for another: that one lets nobody in here.
    let text = TARGETS.replace("{kind: TCPRoute, name: port}, ", "");
    let found = at(&text, 9090);
    assert_eq!(errors(&found.report), Vec::<String>::new());
    let policies = &found.policy.value["authorization"];
    assert_eq!(policies[0]["rules"].as_array().map(Vec::len), Some(1));
    assert_eq!(policies[1], json!({"name": "api", "action": "ALLOW"}));
    // Two ports, and nobody says which.
    let text = TARGETS.replace("namespace: default, port: 8080", "namespace: default, port: 9090");
    let told = errors(&imported(&text).report);
    assert!(told[0].contains("for several ports: 8080, 9090; say which"), "{told:?}");
    let missing = TARGETS.replace("kind: TCPRoute, name: port}", "kind: TCPRoute, name: none}");
    let told = errors(&imported(&missing).report);
    assert!(told[0].contains("there is no TCPRoute default/none"), "{told:?}");
    // Datagrams are no requests.
    let text = TARGETS.replace(
        "kind: TCPRoute, name: port}, {kind: HTTPRouteGroup, name: routes, matches: [metrics]}",
        "kind: UDPRoute, name: port}",
    );
    assert_eq!(
        at(&text, 8080).policy.value["authorization"][0],
        json!({"name": "metrics", "action": "ALLOW"})
    );
}

#[test]
fn a_target_of_another_account_is_not_the_proxy_s() {
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: web}}\nspec: {serviceAccountName: web, \
               containers: []}\n";
    let text = format!("{TARGETS}{pod}");
    let labels = Some([("app".to_owned(), "web".to_owned())].into());
    let found = imported_for(&text, &Wanted { labels, ..Wanted::default() }, Repairs::Told);
    assert_eq!(errors(&found.report), Vec::<String>::new());
    assert_eq!(found.policy.value["authorization"], json!([{"name": "smi/default", "action": "ALLOW"}]));
    let told = warnings(&found.report);
    assert!(told.iter().any(|told| told.contains("no TrafficTarget is for the account")), "{told:?}");
}

#[test]
fn the_first_version_has_no_spec() {
    let text = "\
kind: HTTPRouteGroup
metadata: {name: routes}
matches: [{name: everything, pathRegex: '.*', methods: ['*']}]
---
kind: TrafficTarget
metadata: {name: t, namespace: default}
destination: {kind: ServiceAccount, name: a, namespace: default}
specs: [{kind: HTTPRouteGroup, name: routes}]
sources: [{kind: ServiceAccount, name: b, namespace: default}]
";
    assert_eq!(
        policy(text)["authorization"],
        json!([{
            "name": "t",
            "action": "ALLOW",
            "rules": [{"from": [{"source": {"serviceAccounts": ["default/b"]}}]}],
        }])
    );
    let missing = text.replace("name: routes}]", "name: routes, matches: [all]}]");
    assert_eq!(
        errors(&imported(&missing).report),
        ["8: specs[0].matches: the HTTPRouteGroup routes has no match all; it has everything"]
    );
}

#[test]
fn targets_of_several_accounts_need_to_know_whose_the_proxy_is() {
    let text = TARGETS
        .replace("name: service-a, namespace: default, port", "name: service-b, namespace: default, port");
    let told = errors(&imported(&text).report);
    assert!(
        told[0].contains("several accounts") && told[0].contains("default/service-a, default/service-b"),
        "{told:?}"
    );
    let more = format!(
        "{text}---\nkind: Deployment\napiVersion: apps/v1\nmetadata: {{name: b}}\nspec: {{template: {{metadata: {{labels: {{app: \
         b}}}}, spec: {{serviceAccountName: service-b}}}}}}\n"
    );
    let labels = Some([("app".to_owned(), "b".to_owned())].into());
    let wanted = Wanted { labels, ..Wanted::default() };
    let imported = imported_for(&more, &wanted, Repairs::Told);
    assert_eq!(errors(&imported.report), Vec::<String>::new());
    let policies = imported.policy.value["authorization"].as_array().unwrap();
    assert_eq!(policies.iter().map(|policy| policy["name"].as_str().unwrap()).collect::<Vec<_>>(), ["api"]);
}

#[test]
fn what_is_not_named_is_told() {
    let text =
        "kind: HTTPRouteGroup\nmetadata: {name: routes}\nspec: {matches: [{name: a, pathRegex: /a}]}\n";
    assert_eq!(
        warnings(&imported(text).report),
        ["2: metadata.name: no TrafficTarget and no TrafficSplit names it"]
    );
}
