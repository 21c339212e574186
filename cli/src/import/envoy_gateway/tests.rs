use serde_json::{Value, json};

use crate::import::Imported;
use crate::import::repair::Repairs;
use crate::import::scope::Wanted;
use crate::import::testing::{errors, imported, imported_for, policy, warnings};

/// A Gateway with two routes of their own hosts, and one for all that is below `/open` of the first.
const ROUTES: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: eg, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: edge}]
  hostnames: [shop.example]
  rules: [{backendRefs: [{name: shop, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: open}
spec:
  parentRefs: [{name: edge}]
  hostnames: [shop.example]
  rules: [{matches: [{path: {value: /open}}], backendRefs: [{name: open, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: other}
spec:
  parentRefs: [{name: edge}]
  hostnames: [other.example]
  rules: [{backendRefs: [{name: other, port: 80}]}]
";

fn attached(kind: &str, name: &str, target: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  targetRefs: \
         [{{group: gateway.networking.k8s.io, {target}}}]\n{spec}"
    )
}

const EDGE: &str = "kind: Gateway, name: edge";
const SHOP: &str = "kind: HTTPRoute, name: shop";

fn of(kind: &str, target: &str, spec: &str) -> Value {
    policy(&format!("{ROUTES}{}", attached(kind, "p", target, spec)))
}

const JWT: &str = "  jwt: {providers: [{name: a, issuer: https://a.example, remoteJWKS: {uri: 'https://a.example/keys'}, \
     claimToHeaders: [{claim: sub, header: x-user}]}]}\n";

#[test]
fn a_token_is_needed_for_all_routes_of_a_gateway() {
    let found = of("SecurityPolicy", EDGE, JWT);
    assert_eq!(
        found["authentication"],
        json!({
            "jwtRules": [{
                "name": "a",
                "issuer": "https://a.example",
                "jwksUri": "https://a.example/keys",
                "jwksCluster": found["authentication"]["jwtRules"][0]["jwksCluster"],
                "outputClaimToHeaders": [{"claim": "sub", "header": "x-user"}],
                "forwardOriginalToken": true,
            }],
            "requirements": [{"require": "any", "rules": ["a"]}],
        })
    );
}

#[test]
fn a_token_is_needed_for_one_route_and_not_for_the_one_within_it() {
    let found = of("SecurityPolicy", SHOP, &JWT.replace("jwt: {", "jwt: {optional: true, "));
    let requirements = found["authentication"]["requirements"].as_array().unwrap();
    let short: Vec<(&str, Option<&str>)> = requirements
        .iter()
        .map(|one| (one["require"].as_str().unwrap(), one["match"][0]["uri"]["pathPrefix"].as_str()))
        .collect();
    assert_eq!(short, [("none", Some("/open")), ("none", None), ("optional", None), ("none", None)]);
    assert_eq!(requirements[2]["match"], json!([{"authority": {"exact": "shop.example"}}]));
}

#[test]
fn the_first_rule_that_holds_decides() {
    let spec = "  authorization:
    defaultAction: Deny
    rules:
    - {action: Allow, principal: {clientCIDRs: [10.0.0.0/8]}, operation: {methods: [GET]}}
    - {action: Deny, operation: {path: {value: /admin}}}
    - {action: Allow, principal: {headers: [{name: X-Team, values: [blue]}]}}
";
    let found = of("SecurityPolicy", EDGE, spec);
    let other = json!({"key": "remote.ip", "notValues": ["10.0.0.0/8"]});
    let team = json!({"key": "request.headers[x-team]", "notValues": ["blue"]});
    let to = |operation: Value| json!([{ "operation": operation }]);
    let admin = json!(["/admin", "/admin/*"]);
    let expected = json!([
        {"to": to(json!({"notMethods": ["GET"], "paths": admin}))},
        {"to": to(json!({ "paths": admin })), "when": [other]},
        {"to": to(json!({"notMethods": ["GET"]})), "when": [team]},
        {"when": [other, team]},
    ]);
    assert_eq!(found["authorization"], json!([{"name": "default/p", "action": "DENY", "rules": expected}]));
}

#[test]
fn rules_of_one_route_are_for_its_requests_alone() {
    let spec =
        "  authorization:\n    rules: [{action: Allow, principal: {jwt: {provider: a, scopes: [read]}}}]\n";
    let found = of("SecurityPolicy", SHOP, &format!("{JWT}{spec}"));
    let operation = json!([{"operation": {"hosts": host("shop"), "notPaths": ["/open", "/open/*"]}}]);
    assert_eq!(
        found["authorization"][0]["rules"],
        json!([
            {"to": operation, "when": [{"key": "request.auth.principal", "notValues": ["https://a.example/*"]}]},
            {"to": operation, "when": [{"key": "request.auth.claims[scope]", "notValues": ["read"]}]},
        ])
    );
    // What allows all and refuses nothing is no policy.
    let open = of("SecurityPolicy", SHOP, "  authorization: {defaultAction: Allow}\n");
    assert_eq!(open.get("authorization"), None);
}

fn host(name: &str) -> Value {
    json!([format!("{name}.example"), {"regex": format!("(?i){name}\\.example:[0-9]+")}])
}

#[test]
fn cors_and_what_is_said_of_requests_is_laid_into_entries() {
    let found = of("SecurityPolicy", SHOP, "  cors: {allowOrigins: ['https://*.example'], maxAge: 10m}\n");
    let entry = |found: &Value, host: &str| {
        let entries = found["http"].as_array().unwrap().clone();
        entries
            .into_iter()
            .find(|entry| entry["route"][0]["destination"]["host"].as_str().unwrap().starts_with(host))
            .unwrap()
    };
    assert_eq!(entry(&found, "shop")["corsPolicy"]["maxAge"], "600s");
    assert_eq!(entry(&found, "other").get("corsPolicy"), None);
    let spec = "  retry: {numRetries: 4, retryOn: {triggers: [reset, retriable-status-codes], httpStatusCodes: [503]}, perRetry: \
                {timeout: 250ms}}
  timeout: {http: {requestTimeout: 2s}, tcp: {connectTimeout: 3s}}
  faultInjection: {abort: {httpStatus: 503, percentage: 10}, delay: {fixedDelay: 2s}}
  circuitBreaker: {maxConnections: 7}
  healthCheck: {passive: {consecutive5XxErrors: 3}, active: {type: HTTP, http: {path: /healthz}}}
  loadBalancer: {type: ConsistentHash, consistentHash: {type: Header, header: {name: x-user}}}
";
    let text = format!("{ROUTES}{}", attached("BackendTrafficPolicy", "p", SHOP, spec));
    let imported = imported(&text);
    assert_eq!(errors(&imported.report), Vec::<String>::new());
    let found = entry(&imported.policy.value, "shop");
    assert_eq!(
        (&found["retries"], &found["timeout"], &found["fault"]),
        (
            &json!({"attempts": 4, "retryOn": "reset,503", "perTryTimeout": "0.25s"}),
            &json!("2s"),
            &json!({
                "abort": {"percentage": {"value": 10.0}, "httpStatus": 503},
                "delay": {"percentage": {"value": 100}, "fixedDelay": "2s"},
            })
        )
    );
    let rule = &imported.mesh.rules[0];
    assert_eq!(rule.host, "shop.default.svc.cluster.local");
    assert_eq!(rule.policy.pool.as_ref().unwrap().limits.max_connections, Some(7));
    assert_eq!(rule.policy.outliers.as_ref().unwrap().consecutive_5xx, Some(3));
    assert_eq!(rule.policy.fields["health_checks"][0]["http_health_check"]["path"], "/healthz");
    assert_eq!(imported.mesh.rules.len(), 1);
}

#[test]
fn the_nearer_policy_counts() {
    let text = format!(
        "{ROUTES}{}{}",
        attached("BackendTrafficPolicy", "far", EDGE, "  timeout: {http: {requestTimeout: 9s}}\n"),
        attached("BackendTrafficPolicy", "near", SHOP, "  timeout: {http: {requestTimeout: 1s}}\n"),
    );
    let found = policy(&text);
    let times: Vec<&str> =
        found["http"].as_array().unwrap().iter().map(|entry| entry["timeout"].as_str().unwrap()).collect();
    assert_eq!(times, ["9s", "9s", "1s"], "{found:#}");
}

#[test]
fn limits_are_for_each_route_and_for_what_selectors_say() {
    let spec = "  rateLimit:
    local:
      rules:
      - {limit: {requests: 10, unit: Minute}}
      - {clientSelectors: [{headers: [{name: X-Plan, value: gold}]}], limit: {requests: 100, unit: Minute}}
      - {clientSelectors: [{headers: [{name: x-user, type: Distinct}], sourceCIDR: {type: Distinct, value: 0.0.0.0/0}}], limit: {requests: 5, unit: Second}, shadowMode: true}
";
    let found = of("BackendTrafficPolicy", SHOP, spec);
    let path = json!({"regex": "/open(?:/.*)?(?:\\?.*)?"});
    let bucket =
        |count: u32, time: &str| json!({"maxTokens": count, "tokensPerFill": count, "fillInterval": time});
    assert_eq!(
        found["rateLimits"],
        json!([
            {
                "name": "default/p/local/0",
                "match": [{"authority": {"exact": "shop.example"}, "withoutHeaders": {":path": path, "x-plan": {"regex": "gold"}, "x-user": {"regex": "(?:.*)"}}}],
                "tokenBucket": bucket(10, "60s"),
            },
            {
                "name": "default/p/local/1",
                "match": [{
                    "authority": {"exact": "shop.example"},
                    "headers": {"x-plan": {"exact": "gold"}},
                    "withoutHeaders": {":path": path},
                }],
                "tokenBucket": bucket(100, "60s"),
            },
            {
                "mode": "shadow",
                "name": "default/p/local/2",
                "match": [{"authority": {"exact": "shop.example"}, "withoutHeaders": {":path": path}}],
                "tokenBucket": bucket(5, "1s"),
                "key": [{"header": "x-user"}, {"remoteAddress": {}}],
            },
        ])
    );
    // Where each client has a bucket, nobody takes from the one for the rest.
    let spec = "  rateLimit: {local: {rules: [{limit: {requests: 10, unit: Minute}}, \
                {clientSelectors: [{sourceCIDR: {type: Distinct, value: 0.0.0.0/0}}], limit: {requests: 5, unit: Second}}]}}\n";
    let found = of("BackendTrafficPolicy", SHOP, spec);
    assert_eq!(found["rateLimits"].as_array().map(Vec::len), Some(1));
    assert_eq!(found["rateLimits"][0]["name"], "default/p/local/1");
    let spec = "  rateLimit: {type: Global, global: {rules: [{clientSelectors: [{headers: [{name: x-user, type: Distinct}]}], \
                limit: {requests: 3, unit: Hour}, shared: true}]}}\n";
    let found = of("BackendTrafficPolicy", EDGE, spec);
    assert_eq!(
        found["rateLimits"],
        json!([{
            "headers": "draft03",
            "name": "default/p/global/0",
            "global": {
                "cluster": "ratelimit",
                "domain": "default/p",
                "failureMode": "allow",
                "descriptors": [{"entries": [
                    {"key": "rule", "value": {"literal": "default/p/global/0"}},
                    {"key": "x-user", "value": {"header": "x-user"}},
                ]}],
                "limit": {"requestsPerUnit": 3, "unit": "HOUR"},
            },
        }])
    );
}

#[test]
fn where_the_rate_limit_service_is_has_to_be_said() {
    let spec = "  rateLimit: {global: {rules: [{limit: {requests: 1, unit: Hour}}]}}\n";
    let text = format!("{ROUTES}{}", attached("BackendTrafficPolicy", "p", EDGE, spec));
    for (endpoints, count) in [(Vec::new(), 1), (vec!["ratelimit".to_owned()], 0)] {
        let found = imported_for(&text, &Wanted { endpoints, ..Wanted::default() }, Repairs::Told);
        let told = warnings(&found.report);
        let told = told.iter().filter(|told| told.contains("; --endpoint ratelimit=HOST:PORT"));
        assert_eq!(told.count(), count);
    }
}

#[test]
fn what_is_not_done_is_refused() {
    for (kind, target, spec, expected) in [
        (
            "SecurityPolicy",
            EDGE,
            "  basicAuth: {users: {name: a}}\n",
            "spec.basicAuth: passwords are not checked here",
        ),
        (
            "SecurityPolicy",
            EDGE,
            "  extAuth: {http: {path: /}}\n",
            "spec.extAuth: it asks a server of its own",
        ),
        ("SecurityPolicy", EDGE, "  oidc: {clientID: a}\n", "spec.oidc: nobody is sent to log in from here"),
        ("SecurityPolicy", EDGE, "  cros: {}\n", "spec.cros: cros is not a field here; did you mean cors?"),
        (
            "SecurityPolicy",
            "kind: HTTPRoute, name: gone",
            "",
            "there is no HTTPRoute default/gone in the input",
        ),
        (
            "SecurityPolicy",
            EDGE,
            "  mergeType: StrategicMerge\n",
            "spec.mergeType: a policy is not put together",
        ),
        (
            "SecurityPolicy",
            EDGE,
            "  authorization: {rules: [{action: Allow, principal: {jwt: {provider: b}}}]}\n",
            "there is no provider b in jwt.providers",
        ),
        (
            "BackendTrafficPolicy",
            EDGE,
            "  requestBuffer: {limit: 1}\n",
            "spec.requestBuffer: bodies are not kept",
        ),
        (
            "BackendTrafficPolicy",
            EDGE,
            "  rateLimit: {global: {rules: [{limit: {requests: 1, unit: Week}}]}}\n",
            "a rate limit service knows no weeks",
        ),
    ] {
        let told = errors(&imported(&format!("{ROUTES}{}", attached(kind, "p", target, spec))).report);
        assert!(told.iter().any(|error| error.contains(expected)), "{expected}: {told:#?}");
    }
    let text =
        format!("{ROUTES}{}", attached("BackendTrafficPolicy", "p", EDGE, "  compression: [{type: Gzip}]\n"));
    let imported = imported(&text);
    assert_eq!(errors(&imported.report), Vec::<String>::new());
    assert!(warnings(&imported.report)[0].contains("answers are not compressed"));
}

#[test]
fn of_two_for_one_target_the_older_counts_and_one_for_a_listener_needs_to_know_its_routes() {
    let aged = |name: &str, created: &str, status: u16| {
        attached(
            "BackendTrafficPolicy",
            name,
            SHOP,
            &format!("  faultInjection: {{abort: {{httpStatus: {status}}}}}\n"),
        )
        .replace(
            &format!("name: {name}}}\nspec"),
            &format!("name: {name}, creationTimestamp: '{created}'}}\nspec"),
        )
    };
    let both = [
        ROUTES.to_owned(),
        aged("new", "2025-01-01T00:00:00Z", 418),
        aged("old", "2024-01-01T00:00:00Z", 503),
    ];
    let found = imported(&both.concat());
    assert_eq!(errors(&found.report), Vec::<String>::new());
    let entries = found.policy.value["http"].as_array().unwrap().clone();
    let shop = entries.iter().find(|entry| entry["name"] == "shop/0").unwrap();
    assert_eq!(shop["fault"]["abort"]["httpStatus"], 503);
    assert!(warnings(&found.report)[0].contains("another one is for the same target, and older"));

    let listener = attached("SecurityPolicy", "p", &format!("{EDGE}, sectionName: inner"), JWT);
    let two = ROUTES.replace("protocol: HTTP}]", "protocol: HTTP}, {name: inner, port: 81, protocol: HTTP}]");
    let told = errors(&imported(&format!("{two}{listener}")).report);
    assert!(told[0].contains("routes are on all of them"), "{told:?}");
    // By the port of its parent, a route is on one.
    let with_ports = two.replace("parentRefs: [{name: edge}]", "parentRefs: [{name: edge, port: 81}]");
    let found = imported(&format!("{with_ports}{listener}"));
    assert_eq!(errors(&found.report), Vec::<String>::new());
    assert!(found.policy.value.get("authentication").is_some());
}

/// A Gateway with a listener for everybody, and one for the house.
const TWO: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: eg
  listeners: [{name: pub, port: 80, protocol: HTTP}, {name: int, port: 81, protocol: HTTP}]
";

const INSIDE: &str = "  authorization: {defaultAction: Deny, rules: [{action: Allow, principal: {clientCIDRs: [10.0.0.0/8]}}]}\n";

fn route(name: &str, parent: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  parentRefs: \
         [{{name: edge{parent}}}]\n  rules: [{{{spec}backendRefs: [{{name: {name}, port: 80}}]}}]\n"
    )
}

fn opened(text: &[String]) -> Imported {
    let gateway = Some(("default".to_owned(), "edge".to_owned()));
    imported_for(&text.concat(), &Wanted { gateway, ..Wanted::default() }, Repairs::Told)
}

/// Of every rule `ports`, `notPorts` and `notPaths`.
fn rules(found: &Imported) -> Vec<(Value, Value, Value)> {
    assert_eq!(errors(&found.report), Vec::<String>::new());
    let policies = found.policy.value["authorization"].as_array().cloned().unwrap_or_default();
    let rules = policies.iter().flat_map(|policy| policy["rules"].as_array().unwrap());
    let rule = |rule: &Value| {
        let operation = &rule["to"][0]["operation"];
        (operation["ports"].clone(), operation["notPorts"].clone(), operation["notPaths"].clone())
    };
    rules.map(rule).collect()
}

#[test]
fn a_route_of_another_listener_exempts_nothing() {
    let admin = route("admin", ", sectionName: int", "matches: [{path: {value: /admin}}], ");
    let to_all = attached("SecurityPolicy", "p", "kind: HTTPRoute, name: all", INSIDE);
    let paths = json!(["/admin", "/admin/*"]);
    // On one listener only, where the other route is not.
    let found = opened(&[TWO.into(), admin.clone(), route("all", ", sectionName: pub", ""), to_all.clone()]);
    assert_eq!(rules(&found), [(json!(["80"]), Value::Null, Value::Null)]);
    // On both: what comes to the other one's port is its own.
    let found = opened(&[TWO.into(), admin.clone(), route("all", "", ""), to_all]);
    assert_eq!(rules(&found), [(Value::Null, json!(["81"]), Value::Null), (Value::Null, Value::Null, paths)]);
    // Tokens are asked for by port, too.
    let tokens = attached("SecurityPolicy", "p", "kind: HTTPRoute, name: all", JWT);
    let found = opened(&[TWO.into(), admin.clone(), route("all", ", sectionName: pub", ""), tokens]);
    assert_eq!(
        found.policy.value["authentication"]["requirements"],
        json!([
            {"require": "none", "match": [{"port": 81, "uri": {"pathPrefix": "/admin"}}]},
            {"require": "any", "rules": ["a"], "match": [{"port": 80}]},
            {"require": "none"},
        ])
    );
    let limit = "  rateLimit: {local: {rules: [{limit: {requests: 1, unit: Hour}}]}}\n";
    let limits = attached("BackendTrafficPolicy", "p", "kind: HTTPRoute, name: all", limit);
    let found = opened(&[TWO.into(), admin, route("all", ", sectionName: pub", ""), limits]);
    assert_eq!(found.policy.value["rateLimits"][0]["match"], json!([{"port": 80}]));
}

#[test]
fn a_policy_of_a_listener_is_for_all_that_comes_by_it() {
    let of = |name: &str, target: &str| attached("SecurityPolicy", name, target, INSIDE);
    let listener = of("p", "kind: Gateway, name: edge, sectionName: pub");
    let found = opened(&[TWO.into(), route("all", "", ""), listener.clone()]);
    assert_eq!(rules(&found), [(json!(["80"]), Value::Null, Value::Null)]);
    // Nearer than the Gateway's, on its listener alone.
    let gateway = of("whole", EDGE).replace("10.0.0.0/8", "192.0.2.0/24");
    let found = opened(&[TWO.into(), route("all", "", ""), listener, gateway]);
    assert_eq!(
        rules(&found),
        [(json!(["80"]), Value::Null, Value::Null), (json!(["81"]), Value::Null, Value::Null)]
    );
    // One of another Gateway is none of this proxy's.
    let other = TWO.replace("name: edge", "name: other");
    let both = route("all", "", "").replace("[{name: edge}]", "[{name: other}, {name: edge}]");
    let texts = [TWO.into(), "---\n".into(), other, both, of("a", "kind: Gateway, name: other")];
    assert_eq!(rules(&opened(&texts)), []);
    let told = errors(&imported(&texts.concat()).report);
    assert!(told[0].contains("routes are on all of them"), "{told:?}");
}

#[test]
fn of_two_without_a_time_the_name_decides() {
    let of =
        |name: &str, net: &str| attached("SecurityPolicy", name, EDGE, &INSIDE.replace("10.0.0.0/8", net));
    let found = opened(&[TWO.into(), route("all", "", ""), of("b", "192.0.2.0/24"), of("a", "10.0.0.0/8")]);
    assert_eq!(found.policy.value["authorization"][0]["name"], "default/a");
    assert_eq!(rules(&found).len(), 1);
}

#[test]
fn a_route_by_query_exempts_nothing_that_a_repeated_parameter_could_have() {
    let preview = route("preview", "", "matches: [{queryParams: [{name: preview, value: '1'}]}], ");
    let all = attached("SecurityPolicy", "p", "kind: HTTPRoute, name: all", INSIDE);
    let found = opened(&[TWO.into(), preview, route("all", "", ""), all]);
    let told = errors(&found.report);
    assert!(
        told[0].contains("the query parameter preview") && told[0].contains("for that route, too"),
        "{told:?}"
    );
}

#[test]
fn each_host_of_a_route_has_its_own_exemptions() {
    // `*.b.example` is others', `a.b.example` is not: there is nothing to exempt in it.
    let wide = route("wide", "", "").replace("  rules", "  hostnames: ['*.example', a.b.example]\n  rules");
    let other = route("other", "", "").replace("  rules", "  hostnames: ['*.b.example']\n  rules");
    let policy = |kind: &str, spec: &str| attached(kind, "p", "kind: HTTPRoute, name: wide", spec);
    let found = opened(&[TWO.into(), wide.clone(), other.clone(), policy("SecurityPolicy", INSIDE)]);
    let rules = found.policy.value["authorization"][0]["rules"].as_array().unwrap().clone();
    let hosts: Vec<(&Value, bool)> = rules
        .iter()
        .map(|rule| &rule["to"][0]["operation"])
        .map(|operation| (&operation["hosts"][0], operation.get("notHosts").is_some()))
        .collect();
    assert_eq!(hosts, [(&json!("a.b.example"), false), (&json!("*.example"), true)]);
    let not = &rules[1]["to"][0]["operation"]["notHosts"];
    assert_eq!(*not, json!(["*.b.example", {"regex": "(?i).+\\.b\\.example:[0-9]+"}]));
    // And tokens are asked for host by host.
    let found = opened(&[TWO.into(), wide, other, policy("SecurityPolicy", JWT)]);
    let requirements = found.policy.value["authentication"]["requirements"].as_array().unwrap().clone();
    let require: Vec<&str> = requirements.iter().map(|one| one["require"].as_str().unwrap()).collect();
    assert_eq!(require, ["any", "none", "any", "none"]);
}
