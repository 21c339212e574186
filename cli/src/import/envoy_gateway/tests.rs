use serde_json::{Value, json};

use crate::import::testing::{errors, imported, policy, warnings};

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
    assert_eq!(short, [("none", None), ("none", Some("/open")), ("optional", None), ("none", None)]);
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
    let operation = json!([{"operation": {"hosts": ["shop.example"], "notPaths": ["/open", "/open/*"]}}]);
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
