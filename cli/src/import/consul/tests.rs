use serde_json::{Value, json};

use crate::import::repair::Repairs;
use crate::import::scope::Wanted;
use crate::import::testing::{errors, imported, imported_for, policy, warnings};

const ROUTER: &str = "\
apiVersion: consul.hashicorp.com/v1alpha1
kind: ServiceRouter
metadata: {name: web}
spec:
  routes:
  - match:
      http:
        pathPrefix: /admin
        methods: [GET, POST]
        header: [{name: x-debug, exact: '1'}, {name: x-bot, present: true, invert: true}]
        queryParam: [{name: a, regex: b.*}]
    destination:
      service: admin
      prefixRewrite: /
      requestTimeout: 5s
      numRetries: 2
      retryOnConnectFailure: true
      retryOnStatusCodes: [503]
      requestHeaders: {set: {x-from: web}}
  - match: {http: {pathExact: /v2}}
    destination: {serviceSubset: v2}
---
apiVersion: consul.hashicorp.com/v1alpha1
kind: ServiceSplitter
metadata: {name: web}
spec:
  splits:
  - {weight: 90, serviceSubset: v1}
  - {weight: 9.5, serviceSubset: v2, requestHeaders: {set: {x-arm: canary}}}
  - {weight: 0.5, service: other}
---
apiVersion: consul.hashicorp.com/v1alpha1
kind: ServiceResolver
metadata: {name: web}
spec:
  defaultSubset: v1
  connectTimeout: 3s
  subsets:
    v1: {filter: 'Service.Meta.version == v1'}
    v2: {filter: 'Service.Meta.version == v2 and Service.Meta.tier == \"a\"', onlyPassing: true}
  loadBalancer: {policy: maglev, hashPolicies: [{field: header, fieldValue: x-user}]}
---
apiVersion: consul.hashicorp.com/v1alpha1
kind: ServiceResolver
metadata: {name: other}
spec: {redirect: {service: another, serviceSubset: v3}}
";

#[test]
fn a_router_s_routes_lead_where_splitters_and_resolvers_say() {
    let policy = policy(ROUTER);
    let entries = policy["http"].as_array().unwrap();
    let host = |name: &str| format!("{name}.default.svc.cluster.local");
    assert_eq!(
        entries[0],
        json!({
            "name": "web/0",
            "hosts": [
                "web", "web.default", "web.default.svc", "web.default.svc.cluster.local", "web.virtual.consul",
                "web.service.consul",
            ],
            "match": [{
                "uri": {"prefix": "/admin"},
                "method": {"regex": "GET|POST"},
                "headers": {"x-debug": {"exact": "1"}},
                "withoutHeaders": {"x-bot": {"present": true}},
                "queryParams": {"a": {"regex": "b.*"}},
            }],
            "rewrite": {"uri": "/"},
            "timeout": "5s",
            "retries": {"attempts": 2, "retryOn": "connect-failure,503"},
            "headers": {"request": {"set": {"x-from": "web"}}},
            "route": [{"destination": {"host": host("admin")}}],
        })
    );
    assert_eq!(entries[1]["route"], json!([{"destination": {"host": host("web"), "subset": "v2"}}]));
    assert_eq!(entries[2]["name"], "web/others");
    let weights: Vec<&Value> =
        entries[2]["route"].as_array().unwrap().iter().map(|way| &way["weight"]).collect();
    assert_eq!(weights, [&json!(9000), &json!(950), &json!(50)]);
    assert_eq!(entries[2]["route"][1]["headers"], json!({"request": {"set": {"x-arm": "canary"}}}));
    assert_eq!(entries[2]["route"][2]["destination"], json!({"host": host("another"), "subset": "v3"}));
    // A service that has a resolver alone leads where that says.
    assert_eq!(entries[3]["name"], "other");
    assert_eq!(entries[3]["route"], json!([{"destination": {"host": host("another"), "subset": "v3"}}]));
    assert_eq!(entries.len(), 4);
    let imported = imported(ROUTER);
    let rule = &imported.mesh.rules[0];
    assert_eq!(rule.subsets[1].labels["tier"], "a");
    assert_eq!(
        rule.policy.balancer.as_ref().unwrap().hash,
        Some(json!([{"header": {"header_name": "x-user"}}]))
    );
}

#[test]
fn what_one_proxy_cannot_do_is_refused() {
    for (kind, spec, expected) in [
        (
            "ServiceSplitter",
            "splits: [{weight: 90}]",
            "4: spec.splits: the weights are 90 together; let them be 100",
        ),
        ("ServiceResolver", "failover: {'*': {service: b}}", "4: spec.failover: where requests go instead"),
        (
            "ServiceResolver",
            "redirect: {service: b, datacenter: dc2}",
            "4: spec.redirect.datacenter: one proxy knows",
        ),
        (
            "ServiceIntentions",
            "destination: {name: a}, sources: [{name: b}]",
            "4: spec.sources[0]: it has neither action nor permissions",
        ),
        (
            "ServiceIntentions",
            "destination: {name: a}, jwt: {providers: [{name: okta}]}, sources: [{name: b, action: allow}]",
            "4: spec.jwt.providers[0].name: there is no JWTProvider okta",
        ),
    ] {
        let text = format!(
            "apiVersion: consul.hashicorp.com/v1alpha1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{{spec}}}\n"
        );
        let told = errors(&imported(&text).report);
        assert!(told.first().is_some_and(|error| error.starts_with(expected)), "{spec}: {told:?}");
    }
}

fn intentions(name: &str, sources: &str) -> String {
    format!(
        "---\napiVersion: consul.hashicorp.com/v1alpha1\nkind: ServiceIntentions\nmetadata: {{name: {name}}}\nspec: \
         {{destination: {{name: {name}}}, sources: [{sources}]}}\n"
    )
}

#[test]
fn intentions_let_services_in_and_names_come_before_all() {
    let principal = |name: &str| json!({"regex": format!("[^/]+/ns/default/dc/[^/]+/svc/{name}")});
    let text = intentions(
        "api",
        "{name: '*', action: allow}, {name: bad, action: deny}, {name: web, permissions: [{action: deny, http: {pathExact: \
         /admin, methods: [POST]}}, {action: allow, http: {pathPrefix: /, methods: [GET, POST]}}]}",
    );
    let policy = policy(&text);
    assert_eq!(
        policy["authorization"],
        json!([{"name": "api", "action": "ALLOW", "rules": [
            {"from": [{"source": {"principals": [principal("web")]}}], "to": [{"operation": {"methods": ["GET"]}}]},
            {
                "from": [{"source": {"principals": [principal("web")]}}],
                "to": [{"operation": {"methods": ["POST"], "notPaths": ["/admin"]}}],
            },
            {"from": [{"source": {
                "principals": [principal("[^/]+")],
                "notPrincipals": [principal("bad"), principal("web")],
            }}]},
        ]}])
    );
    // Nobody who is not named gets in.
    let nobody = crate::import::testing::policy(&intentions("api", "{name: bad, action: deny}"));
    assert_eq!(nobody["authorization"], json!([{"name": "api", "action": "ALLOW"}]));
}

#[test]
fn of_sources_the_more_precise_comes_first_and_a_wildcard_stays_in_its_namespace() {
    let principal =
        |namespace: &str, name: &str| json!({"regex": format!("[^/]+/ns/{namespace}/dc/[^/]+/svc/{name}")});
    let from = |sources: &str| -> Vec<Value> {
        let policy = policy(&intentions("api", sources));
        let rules = policy["authorization"][0]["rules"].as_array().cloned().unwrap_or_default();
        rules.iter().map(|rule| rule["from"][0]["source"].clone()).collect()
    };
    let any = "[^/]+";
    // Whatever the order.
    for sources in [
        "{name: evil, namespace: foo, action: deny}, {name: '*', namespace: foo, action: allow}",
        "{name: '*', namespace: foo, action: allow}, {name: evil, namespace: foo, action: deny}",
    ] {
        assert_eq!(
            from(sources),
            [json!({"principals": [principal("foo", any)], "notPrincipals": [principal("foo", "evil")]})]
        );
    }
    assert_eq!(
        from("{name: '*', namespace: '*', action: allow}, {name: '*', namespace: foo, action: deny}"),
        [json!({"principals": [principal(any, any)], "notPrincipals": [principal("foo", any)]})]
    );
    for sources in ["{name: '*', action: allow}", "{name: '*', namespace: default, action: allow}"] {
        assert_eq!(from(sources), [json!({"principals": [principal("default", any)]})]);
    }
    for (sources, expected) in [
        ("{name: web, action: allow}, {name: web, action: deny}", "spec.sources: two sources are"),
        ("{name: web, namespace: '*', action: allow}", "spec.sources[0]: a service has one namespace"),
    ] {
        let told = errors(&imported(&intentions("api", sources)).report);
        assert!(told.iter().any(|told| told.contains(expected)), "{sources}: {told:?}");
    }
}

#[test]
fn intentions_are_those_of_the_service_that_the_proxy_stands_before() {
    let text = format!(
        "{}{}",
        intentions("api", "{name: web, action: allow}"),
        intentions("db", "{name: api, action: allow}")
    );
    let told = errors(&imported(&text).report);
    assert!(told[0].contains("several services") && told[0].contains("api, db"), "{told:?}");
    let labels = Some([("app".to_owned(), "db".to_owned())].into());
    let found = imported_for(&text, &Wanted { labels, ..Wanted::default() }, Repairs::Told);
    assert_eq!(errors(&found.report), Vec::<String>::new());
    assert_eq!(found.policy.value["authorization"][0]["name"], "db");
    assert_eq!(found.policy.value["authorization"].as_array().unwrap().len(), 1);
    // Of a service that none is for nobody gets in.
    let labels = Some([("app".to_owned(), "web".to_owned())].into());
    let wanted = Wanted { labels, ..Wanted::default() };
    let one = intentions("api", "{name: web, action: allow}");
    let nobody = json!([{"name": "consul/nobody", "action": "ALLOW"}]);
    for text in [&one, &text] {
        let found = imported_for(text, &wanted, Repairs::Told);
        assert_eq!(errors(&found.report), Vec::<String>::new());
        assert_eq!(found.policy.value["authorization"], nobody);
        assert!(warnings(&found.report)[0].contains("the labels of the proxy name no service"));
    }
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: api}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n";
    let found = imported_for(&format!("{one}{service}"), &wanted, Repairs::Told);
    assert_eq!(found.policy.value["authorization"][0]["name"], "api");
}

#[test]
fn intentions_may_want_a_token() {
    let text = format!(
        "apiVersion: consul.hashicorp.com/v1alpha1\nkind: JWTProvider\nmetadata: {{name: okta}}\nspec:\n  issuer: \
         https://okta.example.com\n  jsonWebKeySet: {{remote: {{uri: 'https://okta.example.com/keys', requestTimeoutMs: \
         1500}}}}\n  locations: [{{header: {{name: authorization, valuePrefix: Bearer, forward: true}}}}]\n{}",
        intentions(
            "api",
            "{name: web, permissions: [{action: allow, http: {pathExact: /admin}, jwt: {providers: [{name: okta, \
             verifyClaims: [{path: [perms, role], value: admin}]}]}}]}"
        )
    );
    let policy = policy(&text);
    let rule = &policy["authentication"]["jwtRules"][0];
    assert_eq!((&rule["name"], &rule["timeout"]), (&json!("okta"), &json!("1500ms")));
    assert_eq!(rule["fromHeaders"], json!([{"name": "authorization", "prefix": "Bearer "}]));
    assert_eq!(
        policy["authorization"][0]["rules"][0]["when"],
        json!([
            {"key": "request.auth.claims[iss]", "values": ["https://okta.example.com"]},
            {"key": "request.auth.claims[perms][role]", "values": ["admin"]},
        ])
    );
}

#[test]
fn entries_as_consul_itself_writes_them_are_told_apart() {
    for text in [
        "Kind = \"service-router\"\nName = \"web\"\n",
        "{\"Kind\": \"service-router\", \"Name\": \"web\"}",
        "Kind: service-splitter\nName: web\n",
        "kind: service-intentions\nname: web\n",
    ] {
        let found = imported_for(text, &Wanted::default(), Repairs::Told);
        let told = errors(&found.report);
        assert!(told[1].contains("entry as Consul itself writes it"), "{told:?}");
        assert!(told[1].contains("apiVersion: consul.hashicorp.com/v1alpha1"), "{told:?}");
        assert!(["", "service-intentions"].contains(&found.report.errors[1].resource.as_str()));
    }
}
