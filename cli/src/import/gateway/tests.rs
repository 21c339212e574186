use serde_json::{Value, json};

use crate::import::Imported;
use crate::import::mesh::Authorities;
use crate::import::repair::Repairs;
use crate::import::scope::Wanted;
use crate::import::testing::{errors, imported, imported_for, policy, warnings};

const GATEWAY: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: any
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: shop, port: 8080, protocol: HTTP, hostname: '*.shop.example'}
";

/// A route of the Gateway with these hosts and rules, in YAML's flow style.
fn route(name: &str, more: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec: {{parentRefs: \
         [{{name: edge}}], {more} rules: {rules}}}\n"
    )
}

fn to(name: &str) -> String {
    format!("backendRefs: [{{name: {name}, port: 80}}]")
}

fn edge(text: &str) -> Imported {
    let wanted = Wanted { gateway: Some(("default".into(), "edge".into())), ..Wanted::default() };
    imported_for(text, &wanted, Repairs::Told)
}

fn entries(policy: &Value) -> Vec<&Value> {
    policy["http"].as_array().unwrap().iter().collect()
}

fn names(policy: &Value) -> Vec<&str> {
    entries(policy).iter().map(|entry| entry["name"].as_str().unwrap()).collect()
}

#[test]
fn entries_stand_in_the_specification_s_order() {
    let match_of = |condition: &str| format!("matches: [{{{condition}}}]");
    let rules = [
        ("all", String::new()),
        ("api", match_of("path: {value: /api}")),
        ("apis", match_of("path: {value: /api/v1/}")),
        ("exact", match_of("path: {type: Exact, value: /a}")),
        ("regex", match_of("path: {type: RegularExpression, value: '/a.*'}")),
        ("method", match_of("path: {value: /api}, method: GET")),
        ("header", match_of("path: {value: /api}, headers: [{name: A, value: b}]")),
        (
            "headers",
            match_of(
                "path: {value: /api}, headers: [{name: A, value: b}, {name: C, type: RegularExpression, value: d}]",
            ),
        ),
        ("query", match_of("path: {value: /api}, queryParams: [{name: Q, value: x}]")),
    ];
    let text: Vec<String> = rules
        .iter()
        .map(|(name, condition)| {
            let comma = if condition.is_empty() { "" } else { ", " };
            format!("{{name: {name}, {condition}{comma}{}}}", to("a"))
        })
        .collect();
    let text = format!("{GATEWAY}{}", route("r", "", &format!("[{}]", text.join(", "))));
    let policy = policy(&text);
    assert_eq!(
        names(&policy),
        ["r/exact", "r/regex", "r/apis", "r/method", "r/headers", "r/header", "r/query", "r/api", "r/all"]
    );
    let by_name =
        |name: &str| entries(&policy).into_iter().find(|entry| entry["name"] == name).unwrap().clone();
    assert_eq!(
        by_name("r/headers")["match"],
        json!([{"uri": {"pathPrefix": "/api"}, "headers": {"a": {"exact": "b"}, "c": {"regex": "d"}}}])
    );
    assert_eq!(by_name("r/exact")["match"], json!([{"uri": {"exact": "/a"}}]));
    assert_eq!(by_name("r/query")["match"][0]["queryParams"], json!({"Q": {"exact": "x"}}));
    assert_eq!(by_name("r/all").get("match"), None);
    assert_eq!(
        by_name("r/all")["route"],
        json!([{"destination": {"host": "a.default.svc.cluster.local", "port": {"number": 80}}}])
    );
}

#[test]
fn of_equal_matches_the_older_route_comes_first_and_then_the_alphabet() {
    let route = |name: &str, time: &str| {
        route(
            name,
            "",
            &format!("[{{matches: [{{path: {{value: /x}}}}, {{path: {{value: /y}}}}], {}}}]", to(name)),
        )
        .replace(&format!("{{name: {name}}}"), &format!("{{name: {name}, creationTimestamp: '{time}'}}"))
    };
    let text = [
        GATEWAY.to_owned(),
        route("b", "2024-01-02T00:00:00Z"),
        route("a", "2024-01-02T00:00:00Z"),
        route("z", "2023-12-31T23:59:59Z"),
    ]
    .concat();
    assert_eq!(names(&policy(&text)), ["z/0", "z/0-2", "a/0", "a/0-2", "b/0", "b/0-2"]);
}

#[test]
fn a_route_has_the_hosts_and_ports_that_it_shares_with_its_listeners() {
    let rules = format!("[{{{}}}]", to("a"));
    let both = route("both", "hostnames: [a.shop.example, other.example],", &rules);
    let one = route("one", "", &rules).replace("[{name: edge}]", "[{name: edge, sectionName: shop}]");
    let text = format!("{GATEWAY}{both}{one}");
    let without = policy(&text);
    assert_eq!(entries(&without)[0]["hosts"], json!(["a.shop.example", "other.example"]));
    assert_eq!(entries(&without)[0].get("match"), None);
    assert_eq!(entries(&without)[1]["hosts"], json!(["*.shop.example"]));
    let imported = edge(&text);
    assert_eq!(errors(&imported.report), Vec::<String>::new());
    let with: Vec<(&Value, &Value)> =
        entries(&imported.policy.value).into_iter().map(|entry| (&entry["hosts"], &entry["match"])).collect();
    assert_eq!(
        with,
        [
            (&json!(["a.shop.example"]), &json!([{"port": 8080}])),
            (&json!(["a.shop.example", "other.example"]), &json!([{"port": 80}])),
            (&json!(["*.shop.example"]), &json!([{"port": 8080}])),
        ]
    );
    let servers: Vec<(u16, &str)> =
        imported.mesh.servers.iter().map(|server| (server.port, server.hosts[0].as_str())).collect();
    assert_eq!(servers, [(80, "*"), (8080, "*.shop.example")]);
}

#[test]
fn a_route_that_no_gateway_takes_is_an_error_that_names_parent_refs() {
    let rules = format!("[{{{}}}]", to("a"));
    let good = route("a", "", &rules);
    let with =
        |from: &str, to: &str| errors(&imported(&format!("{GATEWAY}{}", good.replace(from, to))).report);
    for (from, to, expected) in [
        ("name: edge", "name: other", "there is no Gateway default/other; put it into the input"),
        (
            "name: edge",
            "name: edge, sectionName: tls",
            "default/edge has no listener tls that takes HTTP, but http, shop",
        ),
        ("name: edge", "name: edge, port: 443", "default/edge has no such listener on port 443"),
        ("metadata: {name: a}", "metadata: {name: a, namespace: b}", "there is no Gateway b/edge"),
        (
            "metadata: {name: a}\nspec: {parentRefs: [{name: edge}]",
            "metadata: {name: a, namespace: b}\nspec: {parentRefs: [{name: edge, namespace: default}]",
            "default/edge takes no routes of the namespace b",
        ),
        (
            "[{name: edge}],",
            "[{name: edge, sectionName: shop}], hostnames: [x.example],",
            "no listener of default/edge has its hostnames",
        ),
        (
            "name: edge",
            "name: edge, kind: Mesh",
            "nothing is known of Mesh of gateway.networking.k8s.io as a parent",
        ),
    ] {
        let told = with(from, to);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("spec.parentRefs[0]: no Gateway takes this route"), "{told:?}");
        assert!(told[0].contains(expected), "{told:?}");
    }
    assert_eq!(
        with("parentRefs: [{name: edge}],", ""),
        [
            "13: spec: it has no parentRefs: no Gateway takes this route; name a Gateway of the input in parentRefs"
        ]
    );
}

#[test]
fn a_listener_says_of_which_namespaces_and_kinds_routes_are() {
    let gateway = GATEWAY.replace(
        "protocol: HTTP}",
        "protocol: HTTP, allowedRoutes: {kinds: [{kind: HTTPRoute}], namespaces: {from: Selector, selector: {matchLabels: {team: \
         a}, matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [one, two]}]}}}}",
    );
    let route = route("a", "", &format!("[{{{}}}]", to("a"))).replace(
        "{name: a}\nspec: {parentRefs: [{name: edge}",
        "{name: a, namespace: one}\nspec: {parentRefs: [{name: edge, namespace: default}",
    );
    let namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: one, labels: {team: a}}\n";
    assert_eq!(errors(&imported(&format!("{gateway}{route}{namespace}")).report), Vec::<String>::new());
    let told = errors(&imported(&format!("{gateway}{route}")).report);
    assert!(told[0].contains("takes no routes of the namespace one"), "{told:?}");
    let grpc = format!("{gateway}{namespace}{}", route.replace("HTTPRoute", "GRPCRoute"));
    let told = errors(&imported(&grpc).report);
    assert!(told[0].contains("takes no routes of the namespace one"), "{told:?}");
}

#[test]
fn every_filter_becomes_what_the_policy_has_for_it() {
    let filters = "[\
        {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: 50%}], add: [{name: x-b, value: c}], remove: [X-C]}},\
        {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-d, value: e}]}},\
        {type: URLRewrite, urlRewrite: {hostname: new.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}},\
        {type: RequestMirror, requestMirror: {backendRef: {name: m, port: 80}, percent: 25}},\
        {type: RequestMirror, requestMirror: {backendRef: {name: n, port: 80}, fraction: {numerator: 1, denominator: 1000}}},\
        {type: CORS, cors: {allowOrigins: ['https://*.example.com', 'https://a.com'], allowMethods: [GET], maxAge: 60, allowCredentials: true}}]";
    let rule = format!(
        "[{{matches: [{{path: {{value: /old}}}}], filters: {filters}, timeouts: {{request: 10s, backendRequest: 2s}}, retry: \
         {{attempts: 3, codes: [500, 503]}}, backendRefs: [{{name: a, port: 80, weight: 9}}, {{name: b, port: 81, filters: \
         [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-way, value: b}}]}}}}]}}]}}]"
    );
    let policy = policy(&format!("{GATEWAY}{}", route("r", "", &rule)));
    let host = |name: &str| format!("{name}.default.svc.cluster.local");
    let at = |name: &str, port: u16| json!({"host": host(name), "port": {"number": port}});
    assert_eq!(
        policy["http"],
        json!([{
            "name": "r/0",
            "match": [{"uri": {"pathPrefix": "/old"}}],
            "headers": {
                "request": {"set": {"x-a": "50%%"}, "add": {"x-b": "c"}, "remove": ["x-c"]},
                "response": {"set": {"x-d": "e"}},
            },
            "rewrite": {"authority": "new.example", "uri": "/"},
            "mirrors": [
                {"percentage": {"value": 25}, "destination": at("m", 80)},
                {"percentage": {"value": 0.1}, "destination": at("n", 80)},
            ],
            "corsPolicy": {
                "allowOrigins": [{"regex": "https://.*\\.example\\.com"}, {"exact": "https://a.com"}],
                "allowMethods": ["GET"],
                "maxAge": "60s",
                "allowCredentials": true,
                "unmatchedPreflights": "IGNORE",
            },
            "timeout": "10s",
            "retries": {
                "attempts": 3,
                "retryOn": "connect-failure,refused-stream,reset-before-request,unavailable,cancelled,500,503",
                "perTryTimeout": "2s",
            },
            "route": [
                {"destination": at("a", 80), "weight": 9},
                {"destination": at("b", 81), "weight": 1, "headers": {"request": {"set": {"x-way": "b"}}}},
            ],
        }])
    );
}

#[test]
fn redirects_have_the_listener_s_port_and_the_scheme_s() {
    let redirect = |redirect: &str| {
        let rule = format!("[{{filters: [{{type: RequestRedirect, requestRedirect: {redirect}}}]}}]");
        let text = route("r", "", &rule).replace("{name: edge}]", "{name: edge, sectionName: shop}]");
        let imported = edge(&format!("{GATEWAY}{text}"));
        assert_eq!(errors(&imported.report), Vec::<String>::new());
        imported.policy.value["http"][0]["redirect"].clone()
    };
    assert_eq!(
        redirect("{hostname: a.example}"),
        json!({"authority": "a.example", "redirectCode": 302, "port": 8080})
    );
    assert_eq!(
        redirect("{scheme: https, statusCode: 301}"),
        json!({"scheme": "https", "derivePort": "FROM_PROTOCOL_DEFAULT", "redirectCode": 301})
    );
    assert_eq!(
        redirect("{port: 81, path: {type: ReplaceFullPath, replaceFullPath: /x}}"),
        json!({"port": 81, "redirectCode": 302, "uri": "/x"})
    );
    assert_eq!(
        redirect("{path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}"),
        json!({"redirectCode": 302, "prefixRewrite": "/x", "port": 8080})
    );
}

#[test]
fn what_a_filter_cannot_do_is_an_error() {
    let with = |rule: &str| {
        errors(&imported(&format!("{GATEWAY}{}", route("r", "", &format!("[{{{rule}}}]")))).report)
    };
    for (rule, expected) in [
        (
            "filters: [{type: ExtensionRef, extensionRef: {group: x, kind: Y, name: z}}]",
            "filters[0].type: which filter",
        ),
        ("filters: [{type: Lua}]", "nothing is known of the filter \"Lua\""),
        (
            "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}], matches: \
             [{path: {type: Exact, value: /a}}], backendRefs: [{name: a, port: 80}]",
            "matches no prefix that could be replaced",
        ),
        (
            "backendRefs: [{name: a, port: 80, filters: [{type: CORS, cors: {}}]}]",
            "CORS for one of several backends would hold for all of them",
        ),
        ("sessionPersistence: {sessionName: s}", "a client would not stay with its server"),
        ("backendRefs: [{name: a}]", "a Service needs a port"),
        ("timeout: 5s", "timeout is not a field here; did you mean timeouts?"),
    ] {
        let told = with(rule);
        assert!(told.iter().any(|told| told.contains(expected)), "{rule}: {told:?}");
    }
}

const SERVICES: &str = "\
---
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: other}
spec: {ports: [{port: 80}]}
";

#[test]
fn what_nobody_describes_or_nobody_may_is_500() {
    let fails = |rule: &str, more: &str| {
        let imported =
            imported(&format!("{GATEWAY}{SERVICES}{more}{}", route("r", "", &format!("[{{{rule}}}]"))));
        assert_eq!(errors(&imported.report), Vec::<String>::new());
        let told = warnings(&imported.report);
        let told = told.into_iter().filter(|told| told.contains("spec.rules")).collect::<Vec<_>>().join("\n");
        (imported.policy.value["http"][0].clone(), told)
    };
    let (entry, told) = fails("backendRefs: [{name: no, port: 80}], timeouts: {request: 1s}", "");
    assert_eq!(entry, json!({"name": "r/0", "directResponse": {"status": 500}}));
    assert!(
        told.contains("rules[0].backendRefs[0].name: nobody describes the Service default/no: what"),
        "{told}"
    );
    assert!(told.contains("--endpoint no=HOST:PORT"), "{told}");
    let (entry, _) = fails("backendRefs: [{name: no, port: 80}, {name: a, port: 80, weight: 3}]", "");
    assert_eq!(entry["fault"], json!({"abort": {"percentage": {"value": 25.0}, "httpStatus": 500}}));
    assert_eq!(entry["route"].as_array().unwrap().len(), 1);
    let (entry, told) = fails("backendRefs: [{name: a, port: 81}]", "");
    assert_eq!(entry["directResponse"]["status"], 500);
    assert!(told.contains("the Service default/a has no port 81, but 80"), "{told}");
    let (entry, told) = fails("backendRefs: [{name: a, kind: Bucket, group: x.io}]", "");
    assert_eq!(entry["directResponse"]["status"], 500);
    assert!(told.contains("nothing is known of Bucket of x.io as a backend"), "{told}");
    let (entry, told) = fails("matches: [{path: {value: /x}}]", "");
    assert_eq!(entry["directResponse"]["status"], 500);
    assert!(told.contains("it has no backendRefs"), "{told}");
    let other = "backendRefs: [{name: b, namespace: other, port: 80}]";
    let (entry, told) = fails(other, "");
    assert_eq!(entry["directResponse"]["status"], 500);
    assert!(
        told.contains("no ReferenceGrant of other lets HTTPRoute of default name the Service b"),
        "{told}"
    );
    let grant = "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: \
                 other}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}], to: [{group: \
                 '', kind: Service}]}\n";
    let (entry, told) = fails(other, grant);
    assert_eq!(entry["route"][0]["destination"]["host"], "b.other.svc.cluster.local");
    assert_eq!(told, "");
}

#[test]
fn an_endpoint_of_the_command_describes_a_backend() {
    let text = format!("{GATEWAY}{}", route("r", "", &format!("[{{{}}}, {{{}}}]", to("a"), to("b"))));
    let wanted = Wanted { endpoints: vec!["a".into()], ..Wanted::default() };
    let policy = imported_for(&text, &wanted, Repairs::Told).policy.value;
    assert!(policy["http"][0].get("route").is_some());
    assert_eq!(policy["http"][1]["directResponse"]["status"], 500);
    let wanted = Wanted { echo: true, ..wanted };
    let policy = imported_for(&text, &wanted, Repairs::Told).policy.value;
    assert!(policy["http"][1].get("route").is_some());
}

#[test]
fn a_grpc_route_matches_calls() {
    let call = |method: &str| format!("{{matches: [{{method: {method}}}], {}}}", to("a"));
    let rules = [
        call("{method: Any}"),
        call("{service: a.S}"),
        call("{service: a.S, method: M}"),
        call("{type: RegularExpression, service: 'a\\..*'}"),
        "{}".to_owned(),
    ];
    let text = route("r", "", &format!("[{}]", rules.join(", "))).replace("HTTPRoute", "GRPCRoute");
    let policy = policy(&format!("{GATEWAY}{text}"));
    let uris: Vec<&Value> = entries(&policy).into_iter().map(|entry| &entry["match"][0]["uri"]).collect();
    assert_eq!(
        uris,
        [
            &json!({"exact": "/a.S/M"}),
            &json!({"regex": "/(?:a\\..*)/[^/]+"}),
            &json!({"pathPrefix": "/a.S"}),
            &json!({"suffix": "/Any"}),
            &Value::Null,
        ]
    );
    assert_eq!(
        entries(&policy)[4]["fault"],
        json!({"abort": {"percentage": {"value": 100}, "grpcStatus": "UNAVAILABLE"}})
    );
}

#[test]
fn a_route_of_a_service_is_for_its_names() {
    let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec: {parentRefs: [{name: s, kind: \
                Service, group: core, port: 80}], rules: [{matches: [{path: {value: /}}]}]}\n";
    let policy = policy(text);
    let host = "s.default.svc.cluster.local";
    assert_eq!(policy["http"][0]["hosts"], json!(["s", "s.default", "s.default.svc", host]));
    assert_eq!(policy["http"][0]["route"], json!([{"destination": {"host": host, "port": {"number": 80}}}]));
}

#[test]
fn a_route_of_another_namespace_takes_no_requests_of_a_service() {
    let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: evil}\nspec: {parentRefs: \
                [{name: s, namespace: shop, kind: Service, group: ''}], rules: [{backendRefs: [{name: fake, port: 80}]}]}\n---\napiVersion: \
                v1\nkind: Namespace\nmetadata: {name: shop}\n";
    for namespace in [None, Some("shop")] {
        let wanted = Wanted { namespace: namespace.map(str::to_owned), echo: true, ..Wanted::default() };
        let found = imported_for(text, &wanted, Repairs::Told);
        assert_eq!(errors(&found.report), Vec::<String>::new());
        assert_eq!(found.policy.value.get("http"), None, "{namespace:?}");
        let told = warnings(&found.report);
        assert!(told[0].contains("left out: it is for requests of evil to a service of shop"), "{told:?}");
    }
    // Before clients of its own namespace it holds.
    let wanted = Wanted { namespace: Some("evil".to_owned()), echo: true, ..Wanted::default() };
    let found = imported_for(text, &wanted, Repairs::Told);
    assert_eq!(found.policy.value["http"][0]["hosts"][0], "s");
}

#[test]
fn https_needs_a_certificate_that_may_be_named() {
    let tls = |tls: &str| {
        GATEWAY.replace("port: 80, protocol: HTTP}", &format!("port: 443, protocol: HTTPS, tls: {tls}}}"))
    };
    let good = edge(&tls("{certificateRefs: [{name: cert}]}"));
    assert_eq!(errors(&good.report), Vec::<String>::new());
    let server = &good.mesh.servers[0];
    assert_eq!(server.tls.as_ref().unwrap().certificates.len(), 1);
    let told = errors(&edge(&tls("{mode: Passthrough}")).report);
    assert!(told[0].contains("tls.mode: Passthrough: what is not decrypted has no requests"), "{told:?}");
    let told = errors(&edge(&tls("{certificateRefs: [{name: cert, namespace: other}]}")).report);
    assert!(
        told.iter().any(|told| told.contains("no ReferenceGrant of other lets Gateways of default name")),
        "{told:?}"
    );
    // Nothing is opened without --gateway.
    let closed = imported(&tls("{certificateRefs: [{name: cert}]}"));
    assert_eq!(errors(&closed.report), Vec::<String>::new());
    assert!(closed.mesh.servers.is_empty());
    assert!(
        warnings(&closed.report)[0].contains("its listeners are not opened"),
        "{:?}",
        warnings(&closed.report)
    );
}

#[test]
fn an_option_of_istio_says_whether_clients_show_certificates() {
    let tls = |mode: &str| {
        let tls = format!(
            "{{certificateRefs: [{{name: cert}}], options: {{gateway.istio.io/tls-terminate-mode: {mode}}}}}"
        );
        edge(
            &GATEWAY
                .replace("port: 80, protocol: HTTP}", &format!("port: 443, protocol: HTTPS, tls: {tls}}}")),
        )
    };
    let own = || Authorities::Named("default".to_owned(), "cert".to_owned());
    for (mode, clients, optional) in [
        ("SIMPLE", None, false),
        ("MUTUAL", Some(own()), false),
        ("OPTIONAL_MUTUAL", Some(own()), true),
        ("ISTIO_MUTUAL", Some(Authorities::Mesh), false),
    ] {
        let found = tls(mode);
        assert_eq!(errors(&found.report), Vec::<String>::new());
        let server = found.mesh.servers[0].tls.as_ref().unwrap();
        assert_eq!((&server.clients, server.optional), (&clients, optional), "{mode}");
    }
    let told = errors(&tls("MUTAL").report);
    assert!(told[0].contains("MUTAL is no mode of TLS"), "{told:?}");
}

#[test]
fn what_a_whole_cluster_has_is_in_no_namespace() {
    let class = "kind: GatewayClass\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {name: eg}\nspec: {controllerName: 1}\n";
    let report = imported(class).report;
    assert_eq!((report.resources[0].namespace.as_str(), report.resources[0].name.as_str()), ("", "eg"));
    let gateway = class.replace("GatewayClass", "Gateway");
    assert_eq!(imported(&gateway).report.resources[0].namespace, "default");
    let bad = imported(&class.replace("{name: eg}", "{name: eg, typo: 1}")).report;
    assert_eq!(bad.errors[0].resource, "GatewayClass eg");
}
