//! Envoy Gateway's policies on routes of one Gateway, in one Envoy: tokens, authorization, limits, retries, faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Import;
use crate::service::{Answer, Reaction, Service};
use crate::support::envoy::wait_until;
use crate::support::http::{Client, Upstream, request_bytes};
use crate::support::token::{TokenSpec, jwks};
use crate::traffic::tempfile;

const EDGE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: eg, listeners: [{name: http, port: 80, protocol: HTTP}]}
";

/// A route to the Service of its name.
fn route(name: &str, host: &str, path: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: [{host}]
  rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: {name}, port: 80}}]}}]
"
    )
}

/// A policy for a route.
fn attached(kind: &str, metadata: &str, route: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: {kind}
metadata: {{{metadata}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: {route}}}]
  {spec}
"
    )
}

/// Routes by their hosts; `open.example/public` is a route of its own within a host that needs tokens.
fn mesh() -> String {
    let mut text = EDGE.to_owned();
    for (name, host, path) in [
        ("token", "token.example", "/"),
        ("public", "token.example", "/public"),
        ("team", "team.example", "/"),
        ("limit", "limit.example", "/"),
        ("retry", "retry.example", "/"),
        ("fault", "fault.example", "/"),
    ] {
        text.push_str(&route(name, host, path));
    }
    for (kind, name, spec) in [
        (
            "SecurityPolicy",
            "token",
            format!(
                "jwt: {{providers: [{{name: a, issuer: https://a.example, localJWKS: {{type: Inline, inline: '{}'}}, \
                 claimToHeaders: [{{claim: sub, header: x-user}}]}}]}}
  authorization:
    defaultAction: Deny
    rules:
    - {{action: Allow, operation: {{methods: [GET]}}, principal: {{jwt: {{provider: a, claims: [{{name: role, values: [reader]}}]}}}}}}
    - {{action: Allow, principal: {{jwt: {{provider: a, claims: [{{name: role, values: [writer]}}]}}}}}}
",
                jwks()
            ),
        ),
        (
            "SecurityPolicy",
            "team",
            "authorization:
    defaultAction: Allow
    rules:
    - {action: Allow, operation: {path: {value: /admin/open}}}
    - {action: Deny, operation: {path: {value: /admin}}}
    - {action: Deny, principal: {clientCIDRs: [192.0.2.0/24]}}
    - {action: Deny, principal: {headers: [{name: x-team, values: [red]}]}}
"
            .to_owned(),
        ),
        (
            "BackendTrafficPolicy",
            "limit",
            "rateLimit:
    local:
      rules:
      - {limit: {requests: 2, unit: Hour}}
      - {clientSelectors: [{headers: [{name: x-plan, value: gold}, {name: x-client, type: Distinct}]}], limit: {requests: 3, unit: Hour}}
"
            .to_owned(),
        ),
        (
            "BackendTrafficPolicy",
            "retry",
            "retry: {numRetries: 3, retryOn: {httpStatusCodes: [503]}}\n  timeout: {http: {requestTimeout: 20s}}\n".to_owned(),
        ),
        ("BackendTrafficPolicy", "fault", "faultInjection: {abort: {httpStatus: 503}}\n".to_owned()),
    ] {
        text.push_str(&attached(kind, &format!("name: {name}"), name, &spec));
    }
    // Of two for one target the older holds.
    let older = "name: older, creationTimestamp: '2024-01-01T00:00:00Z'";
    text.push_str(&attached(
        "BackendTrafficPolicy",
        older,
        "fault",
        "faultInjection: {abort: {httpStatus: 418}}",
    ));
    text
}

#[test]
fn policies_decide_about_the_routes_they_are_attached_to() {
    let upstream = Upstream::echo("all").unwrap();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let failing = Upstream::start("failing", move |_| {
        let status: &[u8] = if counted.fetch_add(1, Ordering::SeqCst) < 3 { b"503" } else { b"200" };
        (vec![(":status".to_owned(), status.to_vec())], Vec::new())
    })
    .unwrap();
    let (folder, text) = (tempfile(), mesh());
    let mut import = Import::new(&text);
    for name in ["token", "public", "team", "limit", "fault"] {
        import = import.endpoint(name, &[upstream.address()]);
    }
    let envoy = import.endpoint("retry", &[failing.address()]).start(&folder);
    let address = envoy.address().unwrap();
    let status = |method: &str, host: &str, path: &str, headers: &[(&str, &str)]| {
        let mut client = Client::connect(address).unwrap();
        client.send(&request_bytes(method, path.as_bytes(), host, headers)).unwrap();
        client.receive(method).unwrap().status
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let token = |role: &str| {
        let spec = serde_json::json!({"claims": {"iss": "https://a.example", "sub": role, "role": role, "exp": "+1h"}});
        format!("Bearer {}", serde_json::from_value::<TokenSpec>(spec).unwrap().make(now).unwrap())
    };
    let (reader, writer, guest) = (token("reader"), token("writer"), token("guest"));

    // A route needs a token, the one within its host does not.
    assert_eq!(status("GET", "token.example", "/", &[]), 401);
    assert_eq!(status("GET", "token.example", "/public/a", &[]), 200);
    assert_eq!(status("GET", "team.example", "/", &[]), 200);
    for (method, bearer, expected) in
        [("GET", &reader, 200), ("POST", &reader, 403), ("POST", &writer, 200), ("GET", &guest, 403)]
    {
        assert_eq!(status(method, "token.example", "/a", &[("authorization", bearer)]), expected, "{method}");
    }
    status("GET", "token.example", "/a", &[("authorization", &reader)]);
    let seen = upstream.last().unwrap();
    assert!(seen.headers.iter().any(|(name, value)| name == "x-user" && value == b"reader"));

    // The first rule that holds decides.
    for (path, headers, expected) in [
        ("/admin/open/x", vec![("x-team", "red")], 200),
        ("/admin/x", vec![], 403),
        ("/administrator", vec![], 200),
        ("/", vec![("x-team", "red")], 403),
        ("/", vec![("x-team", "blue")], 200),
    ] {
        assert_eq!(status("GET", "team.example", path, &headers), expected, "{path}");
    }

    // What has a selector has its own bucket for each user, and takes nothing of the others'.
    let limited = |headers: &[(&str, &str)], times: usize| -> usize {
        (0..times).filter(|_| status("GET", "limit.example", "/", headers) == 200).count()
    };
    assert_eq!(limited(&[("x-plan", "gold"), ("x-client", "a")], 5), 3);
    assert_eq!(limited(&[("x-plan", "gold"), ("x-client", "b")], 5), 3);
    assert_eq!(limited(&[("x-plan", "silver"), ("x-client", "a")], 5), 2);

    assert_eq!(status("GET", "retry.example", "/", &[]), 200);
    assert_eq!(tries.load(Ordering::SeqCst), 4);
    assert_eq!(status("GET", "fault.example", "/", &[]), 418);
}

/// Routes `limit`, `health` and `cors`, each with its host.
fn served(policies: [(&str, &str, &str); 3]) -> String {
    let mut text = EDGE.to_owned();
    for (name, kind, spec) in policies {
        text.push_str(&route(name, &format!("{name}.example"), "/"));
        text.push_str(&attached(kind, &format!("name: {name}"), name, spec));
    }
    text
}

#[test]
fn a_service_limits_checks_leave_the_ill_alone_and_sites_are_known() {
    let text = served([
        (
            "limit",
            "BackendTrafficPolicy",
            "rateLimit: {type: Global, global: {rules: [{clientSelectors: [{headers: [{name: x-user, type: Distinct}]}], limit: \
             {requests: 3, unit: Hour}}]}}",
        ),
        (
            "health",
            "BackendTrafficPolicy",
            "healthCheck: {active: {type: HTTP, interval: 100ms, timeout: 30s, unhealthyThreshold: 1, healthyThreshold: 1, http: \
             {path: /healthz, expectedStatuses: [200]}}}",
        ),
        (
            "cors",
            "SecurityPolicy",
            "cors: {allowOrigins: ['https://*.site.example'], allowMethods: [GET], maxAge: 60s}",
        ),
    ]);
    let limits = Service::start(|question| {
        let bob = question.descriptors.iter().flat_map(|descriptor| &descriptor.entries);
        let code = if bob.into_iter().any(|entry| entry.value == "bob") { 2 } else { 1 };
        Reaction::Say(Answer { code, ..Answer::default() })
    });
    let app = Upstream::echo("app").unwrap();
    let well = Arc::new(AtomicBool::new(false));
    let is_well = well.clone();
    let ill = Upstream::start("ill", move |seen| {
        let fails = seen.path == b"/healthz" && !is_well.load(Ordering::SeqCst);
        let status: &[u8] = if fails { b"503" } else { b"200" };
        (vec![(":status".to_owned(), status.to_vec())], Vec::new())
    })
    .unwrap();
    let envoy = Import::new(&text)
        .endpoint("limit", &[app.address()])
        .endpoint("cors", &[app.address()])
        .endpoint("health", &[app.address(), ill.address()])
        .endpoint("ratelimit", &[limits.address])
        .start(&tempfile());
    let address = envoy.address().unwrap();
    let send = |method: &str, host: &str, path: &str, headers: &[(&str, &str)]| {
        let mut client = Client::connect(address).unwrap();
        client.send(&request_bytes(method, path.as_bytes(), host, headers)).unwrap();
        client.receive(method).unwrap()
    };
    assert_eq!(send("GET", "limit.example", "/", &[("x-user", "alice")]).status, 200);
    assert_eq!(send("GET", "limit.example", "/", &[("x-user", "bob")]).status, 429);
    let asked = limits.asked().len();
    assert_eq!(asked, 2);
    // Whoever has no such header is asked for by nobody.
    assert_eq!(send("GET", "limit.example", "/", &[]).status, 200);
    assert_eq!(send("GET", "cors.example", "/", &[("x-user", "bob")]).status, 200);
    assert_eq!(limits.asked().len(), asked);

    let requests = |upstream: &Upstream| upstream.seen().iter().filter(|seen| seen.path == b"/x").count();
    for _ in 0..20 {
        assert_eq!(send("GET", "health.example", "/x", &[]).status, 200);
    }
    assert_eq!((requests(&app), requests(&ill)), (20, 0));
    well.store(true, Ordering::SeqCst);
    wait_until("a request to the one that is well again", || {
        send("GET", "health.example", "/x", &[]);
        (requests(&ill) > 0).then_some(())
    })
    .unwrap();

    let preflight = |origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "GET")];
        let answer = send("OPTIONS", "cors.example", "/", &headers);
        (answer.header("access-control-allow-origin"), answer.header("access-control-max-age"))
    };
    let allowed = "https://a.site.example".to_owned();
    assert_eq!(preflight(&allowed), (Some(allowed), Some("60".to_owned())));
    assert_eq!(preflight("https://evil.example").0, None);
}

#[test]
fn what_hangs_on_a_listener_stays_at_its_port() {
    let mut text = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: eg
  listeners: [{name: pub, port: 80, protocol: HTTP}, {name: int, port: 81, protocol: HTTP}]
"
    .to_owned();
    for (name, listener, hosts, path) in [
        ("all", "pub", "", "/"),
        ("admin", "int", "", "/admin"),
        ("limit", "pub", "", "/limit"),
        ("free", "pub", "free.example", "/"),
    ] {
        text.push_str(&format!(
            "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: edge, sectionName: {listener}}}]
  hostnames: [{hosts}]
  rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: app, port: 80}}]}}]
"
        ));
    }
    for (kind, name, spec) in [
        (
            "SecurityPolicy",
            "all",
            "authorization: {defaultAction: Deny, rules: [{action: Allow, principal: {clientCIDRs: [10.0.0.0/8]}}]}",
        ),
        (
            "BackendTrafficPolicy",
            "limit",
            "rateLimit: {local: {rules: [{limit: {requests: 1, unit: Hour}}]}}",
        ),
    ] {
        text.push_str(&format!(
            "---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: {kind}
metadata: {{name: {name}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: {name}}}]
  {spec}
"
        ));
    }
    let app = Upstream::echo("app").unwrap();
    let folder = tempfile();
    let mut import = Import::new(&text).endpoint("app", &[app.address()]);
    import.gateway = Some(("default", "edge"));
    import.ports = vec![80, 81];
    let envoy = import.start(&folder);
    let addresses = envoy.addresses().unwrap();
    let none: [(&str, &str); 0] = [];
    let status = |listener: &str, host: &str, path: &str| {
        let mut client = Client::connect(addresses[listener]).unwrap();
        client.send(&request_bytes("GET", path.as_bytes(), host, &none)).unwrap();
        client.receive("GET").unwrap().status
    };
    for (listener, host, path, expected) in [
        ("http-81", "a.example", "/admin/x", 200),
        // The other listener's route exempts nothing here.
        ("http-80", "a.example", "/admin/x", 403),
        ("http-80", "a.example:8080", "/admin/x", 403),
        ("http-80", "a.example", "/", 403),
        // A port beside the host takes nothing from what another route has.
        ("http-80", "free.example", "/admin/x", 200),
        ("http-80", "free.example:8080", "/", 200),
        ("http-80", "a.example", "/limit", 200),
        ("http-80", "a.example", "/limit", 429),
    ] {
        assert_eq!(status(listener, host, path), expected, "{listener} {host} {path}");
    }
}
