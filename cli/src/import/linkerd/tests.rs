use serde_json::json;

use crate::import::repair::Repairs;
use crate::import::scope::Wanted;
use crate::import::testing::{errors, imported, imported_for, policy, warnings};

const PROFILE: &str = "\
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: webapp.default.svc.cluster.local, namespace: default}
spec:
  routes:
  - name: GET /api/users/{id}
    condition: {method: GET, pathRegex: '/api/users/[^/]+'}
    isRetryable: true
  - name: POST /api/users
    condition: {method: POST, pathRegex: /api/users}
    timeout: 5s
  retryBudget: {retryRatio: 0.1, minRetriesPerSecond: 5, ttl: 10s}
";

#[test]
fn a_service_profile_becomes_entries_in_its_order_that_lead_to_its_own_service() {
    let host = "webapp.default.svc.cluster.local";
    let names = ["webapp", "webapp.default", "webapp.default.svc", host];
    let own = json!([{"destination": {"host": host}}]);
    assert_eq!(
        policy(PROFILE),
        json!({
            "http": [
                {
                    "name": format!("{host}/GET /api/users/{{id}}"),
                    "hosts": names,
                    "match": [{"method": {"exact": "GET"}, "uri": {"regex": "/api/users/[^/]+"}}],
                    "retries": {"attempts": 3, "retryOn": "5xx,deadline-exceeded,internal,unavailable"},
                    "route": own,
                },
                {
                    "name": format!("{host}/POST /api/users"),
                    "hosts": names,
                    "match": [{"method": {"exact": "POST"}, "uri": {"regex": "/api/users"}}],
                    "timeout": "5s",
                    "route": own,
                },
                {"name": format!("{host}/others"), "hosts": names, "route": own},
            ],
        })
    );
    let imported = imported(PROFILE);
    let budget = imported.mesh.rules[0].policy.retry_budget.unwrap();
    assert_eq!((imported.mesh.rules[0].host.as_str(), budget.percent, budget.least), (host, 10.0, 5));
    assert_eq!(warnings(&imported.report), Vec::<String>::new());
}

#[test]
fn a_profile_s_routes_lead_where_a_traffic_split_says() {
    let text = format!(
        "{PROFILE}---\nkind: TrafficSplit\nmetadata: {{name: split}}\nspec: {{service: webapp, backends: [{{service: \
         webapp-stable, weight: 900m}}, {{service: webapp-canary, weight: 100m}}]}}\n"
    );
    let policy = policy(&text);
    let entries = policy["http"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    for entry in entries {
        assert_eq!(
            entry["route"],
            json!([
                {"destination": {"host": "webapp-stable.default.svc.cluster.local"}, "weight": 900},
                {"destination": {"host": "webapp-canary.default.svc.cluster.local"}, "weight": 100},
            ])
        );
    }
    // The budget is that of every cluster that the requests may go to.
    let imported = imported(&text);
    let hosts: Vec<&str> = imported.mesh.rules.iter().map(|rule| rule.host.as_str()).collect();
    assert_eq!(
        hosts,
        [
            "webapp.default.svc.cluster.local",
            "webapp-canary.default.svc.cluster.local",
            "webapp-stable.default.svc.cluster.local",
        ]
    );
}

#[test]
fn destinations_that_a_profile_names_itself_are_weighted() {
    let text = "\
kind: ServiceProfile
metadata: {name: a.b.svc.cluster.local}
spec:
  dstOverrides:
  - {authority: 'a1.b.svc.cluster.local:8080', weight: 1}
  - {authority: a2.b.svc.cluster.local, weight: 500m}
";
    assert_eq!(
        policy(text)["http"][0]["route"],
        json!([
            {"destination": {"host": "a1.b.svc.cluster.local", "port": {"number": 8080}}, "weight": 1000},
            {"destination": {"host": "a2.b.svc.cluster.local"}, "weight": 500},
        ])
    );
}

#[test]
fn conditions_nest_and_what_fails_is_what_the_classes_say() {
    let text = |condition: &str, classes: &str| {
        format!(
            "kind: ServiceProfile\nmetadata: {{name: a.b.svc.cluster.local}}\nspec:\n  routes:\n  - name: r\n    \
             isRetryable: true\n    condition: {condition}\n    responseClasses: {classes}\n"
        )
    };
    for (condition, expected) in [
        (
            "{any: [{method: GET}, {pathRegex: /a}]}",
            json!([{"method": {"exact": "GET"}}, {"uri": {"regex": "/a"}}]),
        ),
        (
            "{method: GET, all: [{pathRegex: '/a.*'}, {not: {pathRegex: /ab}}]}",
            json!([{
                "method": {"exact": "GET"},
                "uri": {"regex": "/a.*"},
                "withoutHeaders": {":path": {"regex": r"(?:/ab)(?:\?.*)?"}},
            }]),
        ),
        ("{not: {method: DELETE}}", json!([{"withoutHeaders": {":method": {"exact": "DELETE"}}}])),
    ] {
        assert_eq!(policy(&text(condition, "[]"))["http"][0]["match"], expected, "{condition}");
    }
    let grpc = "deadline-exceeded,internal,unavailable";
    let from_500_without_503: String =
        (500..600).filter(|code| *code != 503).map(|code| format!("{code},")).collect();
    for (classes, expected) in [
        ("[{condition: {status: {min: 500, max: 599}}, isFailure: true}]", format!("5xx,{grpc}")),
        ("[{condition: {status: {min: 429, max: 429}}, isFailure: true}]", format!("5xx,429,{grpc}")),
        ("[{condition: {status: {min: 503, max: 503}}}]", format!("{from_500_without_503}{grpc}")),
        (
            "[{condition: {all: [{status: {min: 404}}, {not: {status: {min: 405}}}]}, isFailure: true}]",
            format!("5xx,404,{grpc}"),
        ),
        ("[{condition: {any: [{status: {max: 599}}]}, isFailure: false}]", String::new()),
    ] {
        let policy = policy(&text("{method: GET}", classes));
        let retry_on = policy["http"][0]["retries"]["retryOn"].as_str().unwrap_or_default();
        assert_eq!(retry_on, expected, "{classes}");
    }
}

#[test]
fn what_a_profile_must_not_be_is_an_error_at_its_place() {
    let route = "  routes: [{name: r, condition: {method: GET}}]\n";
    for (spec, expected) in [
        ("  foo: bar\n", "4: spec.foo: foo is not a field here"),
        ("  routes: [{condition: {method: GET}}]\n", "4: spec.routes[0]: it has no name"),
        ("  routes: [{name: a}]\n", "4: spec.routes[0]: it has no condition"),
        (
            "  routes: [{name: a, condition: {method: }}]\n",
            "4: spec.routes[0].condition: it asks for nothing",
        ),
        ("  routes: [null]\n", "4: spec.routes[0]: nothing is not an object"),
        (
            "  routes: [{name: a, condition: {all: [null]}}]\n",
            "4: spec.routes[0].condition.all[0]: nothing is not an object",
        ),
        (
            "  routes: [{name: a, condition: {method: GET}, responseClasses: [{condition: {status: {max: 600}}}]}]\n",
            "4: spec.routes[0].responseClasses[0].condition.status.max: 600 is not a whole number from 100 to 599",
        ),
        (
            "  routes: [{name: a, condition: {method: GET}, responseClasses: [{condition: {status: {min: 300, max: 200}}}]}]\n",
            "4: spec.routes[0].responseClasses[0].condition.status: 200 is less than 300",
        ),
        (
            "  routes: [{name: a, condition: {method: GET}, timeout: one-second}]\n",
            "4: spec.routes[0].timeout: \"one-second\" is not a span",
        ),
        ("  retryBudget: {minRetriesPerSecond: 5, retryRatio: 0.2}\n", "4: spec.retryBudget: it has no ttl"),
        (
            "  retryBudget: {minRetriesPerSecond: 5, retryRatio: -0.2, ttl: 10s}\n",
            "4: spec.retryBudget.retryRatio: -0.2 is not a number from 0",
        ),
    ] {
        let spec = if spec.contains("routes") { spec.to_owned() } else { format!("{spec}{route}") };
        let text = format!("kind: ServiceProfile\nmetadata: {{name: a.b.svc.cluster.local}}\nspec:\n{spec}");
        let told = errors(&imported(&text).report);
        assert!(told.iter().any(|error| error.starts_with(expected)), "{spec}: {told:?}");
    }
    let text = format!("kind: ServiceProfile\nmetadata: {{name: ^.^}}\nspec:\n{route}");
    assert!(
        errors(&imported(&text).report)[0].starts_with("2: metadata.name: the name is that of the service")
    );
}

#[test]
fn what_slipped_into_a_condition_is_put_where_it_belongs() {
    let text = "\
kind: ServiceProfile
metadata: {name: a.b.svc.cluster.local}
spec:
  routes:
  - condition:
      method: HEAD
      pathRegex: /authors/[^/]*.json
      name: HEAD /authors/{id}.json
      isRetryable: true
      timeout: 25ms
    responseClasses:
    - condition:
        status: {min: 500, max: 599}
        isFailure: true
    retryBudget: {retryRatio: 0.2, minRetriesPerSecond: 10, ttl: 10s}
";
    let told = errors(&imported(text).report);
    assert_eq!(
        told,
        [
            "8: spec.routes[0].condition.name: it says what becomes of requests, and no condition; it belongs in \
             spec.routes[0].name; --repair puts it there",
            "9: spec.routes[0].condition.isRetryable: it says what becomes of requests, and no condition; it belongs in \
             spec.routes[0].isRetryable; --repair puts it there",
            "10: spec.routes[0].condition.timeout: it says what becomes of requests, and no condition; it belongs in \
             spec.routes[0].timeout; --repair puts it there",
            "14: spec.routes[0].responseClasses[0].condition.isFailure: it says what responses mean, and no condition; it \
             belongs in spec.routes[0].responseClasses[0].isFailure; --repair puts it there",
            "15: spec.routes[0].retryBudget: the budget is that of all routes together; it belongs in spec.retryBudget; \
             --repair puts it there",
        ]
    );
    let repaired = imported_for(text, &Wanted::default(), Repairs::Made);
    assert_eq!(errors(&repaired.report), Vec::<String>::new());
    assert_eq!(warnings(&repaired.report).len(), 5);
    let entry = &repaired.policy.value["http"][0];
    assert_eq!(entry["name"], "a.b.svc.cluster.local/HEAD /authors/{id}.json");
    assert_eq!((&entry["timeout"], &entry["retries"]["attempts"]), (&json!("0.025s"), &json!(3)));
    assert!(repaired.mesh.rules[0].policy.retry_budget.is_some());
}
