//! Linkerd and SMI: retries stop at the budget, splits by quantities, who gets in, limits by identity.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::Import;
use crate::ports::free;
use crate::support::envoy::wait_until;
use crate::support::http::Upstream;
use crate::tls::{Identity, get, issuer, own_folder, plain};
use crate::traffic::{Gate, tempfile};

/// A policy of Linkerd: its kind, its name, its spec.
type Policy = (&'static str, &'static str, &'static str);

fn yaml(policies: &[Policy]) -> String {
    let policy = |(kind, name, spec): &Policy| {
        format!(
            "---\napiVersion: policy.linkerd.io/v1beta3\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
        )
    };
    policies.iter().map(policy).collect()
}

const ROUTES: &str = "\
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: web.default.svc.cluster.local}
spec:
  routes:
  - {name: often, condition: {method: GET, pathRegex: '/often/.*'}, isRetryable: true}
  - {name: once, condition: {not: {pathRegex: '/often/.*'}}}
  retryBudget: {retryRatio: 0, minRetriesPerSecond: 2, ttl: 10s}
---
apiVersion: split.smi-spec.io/v1alpha1
kind: TrafficSplit
metadata: {name: split}
spec: {service: books, backends: [{service: books, weight: 900m}, {service: canary, weight: 100m}]}
";

#[test]
fn retries_stop_at_the_budget_and_requests_are_split_by_quantities() {
    // Every first try fails; all others wait, and fail where the path says so.
    let gate = Arc::new(Gate::default());
    let tries: Arc<Mutex<BTreeMap<Vec<u8>, usize>>> = Arc::default();
    let (waiting, counted) = (gate.clone(), tries.clone());
    let web = Upstream::start("web", move |seen| {
        let count = {
            let mut tries = counted.lock().unwrap();
            let count = tries.entry(seen.path.clone()).or_default();
            *count += 1;
            *count
        };
        if count > 1 {
            waiting.wait();
        }
        let fails = count == 1 || seen.path.ends_with(b"always");
        let status: &[u8] = if fails { b"503" } else { b"200" };
        (vec![(":status".to_owned(), status.to_vec())], Vec::new())
    })
    .unwrap();
    let (books, canary) = (Upstream::echo("books").unwrap(), Upstream::echo("canary").unwrap());
    let envoy = Import::new(ROUTES)
        .endpoint("web", &[web.address()])
        .endpoint("books", &[books.address()])
        .endpoint("canary", &[canary.address()])
        .start(&tempfile());
    let address = envoy.address().unwrap();

    let requests: Vec<_> = (0..6)
        .map(|number| {
            let path = format!("/often/{number}");
            thread::spawn(move || plain(address, "web", &path, &[]).unwrap().status)
        })
        .collect();
    // Two may be tried again at once; the others have their answer before those have theirs.
    wait_until("four that are not tried again", || {
        (requests.iter().filter(|request| request.is_finished()).count() == 4).then_some(())
    })
    .unwrap();
    gate.open();
    let mut statuses: Vec<u16> = requests.into_iter().map(|request| request.join().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503, 503, 503]);
    let count = |path: &str| tries.lock().unwrap().get(path.as_bytes()).copied();
    assert_eq!(plain(address, "web", "/often/always", &[]).unwrap().status, 503);
    assert_eq!(count("/often/always"), Some(4), "three more after the first");
    assert_eq!(plain(address, "web.default", "/once/always", &[]).unwrap().status, 503);
    assert_eq!(count("/once/always"), Some(1));

    let mut arms: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..400 {
        let answer = plain(address, "books", "/", &[]).unwrap();
        *arms.entry(answer.header("x-upstream").unwrap()).or_default() += 1;
    }
    let canary = arms["canary"];
    assert!((5..=85).contains(&canary), "{arms:?}");
}

const SERVER: Policy = ("Server", "app", "podSelector: {matchLabels: {app: app}}, port: http");

const OPERATORS: [Policy; 3] = [
    SERVER,
    (
        "AuthorizationPolicy",
        "operators",
        "targetRef: {kind: Server, name: app}, requiredAuthenticationRefs: [{kind: MeshTLSAuthentication, name: operators}]",
    ),
    (
        "MeshTLSAuthentication",
        "operators",
        "identities: [prometheus.monitoring.serviceaccount.identity.linkerd.cluster.local]",
    ),
];

const TARGET: &str = "\
---
kind: HTTPRouteGroup
metadata: {name: routes}
spec: {matches: [{name: api, pathRegex: '/api/.*', methods: [GET]}, {name: other, pathRegex: /other}]}
---
kind: TrafficTarget
metadata: {name: website}
spec:
  destination: {kind: ServiceAccount, name: app, namespace: default}
  rules: [{kind: HTTPRouteGroup, name: routes, matches: [api]}]
  sources: [{kind: ServiceAccount, name: website, namespace: default}]
";

#[test]
fn a_server_is_closed_but_to_those_whom_policies_and_targets_name() {
    let mesh = issuer("mesh");
    let app = Upstream::echo("app").unwrap();
    let own = own_folder(&mesh);
    let text = yaml(&OPERATORS) + TARGET;
    let mut import = Import::new(&text).endpoint("default", &[app.address()]);
    import.certificates = Some(own);
    let envoy = import.start(&tempfile());
    let address = envoy.address().unwrap();
    let client = |account: &str| Identity::new(&mesh, &[&format!("spiffe://cluster.local/ns/{account}")]);
    let (website, prometheus) = (client("default/sa/website"), client("monitoring/sa/prometheus"));
    let other = client("default/sa/prometheus");
    for (identity, path, expected) in [
        (Some(&website), "/api/1", 200),
        (Some(&website), "/other", 403),
        (Some(&prometheus), "/other", 200),
        (Some(&other), "/api/1", 403),
    ] {
        assert_eq!(get(address, "app", &mesh, identity, path).unwrap().status, expected, "{path}");
    }
    assert!(get(address, "app", &mesh, None, "/api/1").is_err(), "a certificate is wanted");
    assert_eq!(plain(address, "app", "/api/1", &[]).unwrap().status, 403);
}

const ACCOUNTS: [Policy; 3] = [
    SERVER,
    (
        "AuthorizationPolicy",
        "accounts",
        "targetRef: {kind: Server, name: app}, requiredAuthenticationRefs: [{kind: MeshTLSAuthentication, name: accounts}]",
    ),
    (
        "MeshTLSAuthentication",
        "accounts",
        "identityRefs: [{kind: ServiceAccount, name: web}, {kind: Namespace, name: tools}]",
    ),
];

const INSTALLED: &str = "\
---
apiVersion: v1
kind: ConfigMap
metadata: {name: linkerd-config, namespace: linkerd}
data: {values: 'identityTrustDomain: other.example'}
";

#[test]
fn accounts_and_namespaces_are_those_of_the_mesh_s_own_trust_domain() {
    let mesh = issuer("mesh");
    let app = Upstream::echo("app").unwrap();
    let own = own_folder(&mesh);
    for (installed, ours, theirs) in
        [("", "cluster.local", "other.example"), (INSTALLED, "other.example", "cluster.local")]
    {
        let text = yaml(&ACCOUNTS) + installed;
        let mut import = Import::new(&text).endpoint("default", &[app.address()]);
        import.certificates = Some(own.clone());
        let envoy = import.start(&tempfile());
        let address = envoy.address().unwrap();
        let dns = format!("web.default.serviceaccount.identity.linkerd.{ours}");
        let spiffe = |domain: &str, account: &str| format!("spiffe://{domain}/ns/{account}");
        for (name, expected) in [
            (spiffe(ours, "default/sa/web"), 200),
            (spiffe(ours, "tools/sa/any"), 200),
            (spiffe(ours, "default/sa/any"), 403),
            (spiffe(theirs, "default/sa/web"), 403),
            (spiffe(theirs, "tools/sa/any"), 403),
            // As Linkerd's own certificates have it: they have no SPIFFE name.
            (dns, 403),
        ] {
            let client = Identity::new(&mesh, &[&name]);
            assert_eq!(get(address, "app", &mesh, Some(&client), "/").unwrap().status, expected, "{name}");
        }
    }
}

const LIMITED: [Policy; 2] = [
    (
        "Server",
        "app",
        "podSelector: {matchLabels: {app: app}}, port: 80, accessPolicy: all-unauthenticated",
    ),
    (
        "HTTPLocalRateLimitPolicy",
        "limit",
        "targetRef: {kind: Server, name: app}, identity: {requestsPerSecond: 1}, overrides: [
          {requestsPerSecond: 2, clientRefs: [{kind: ServiceAccount, name: special}]},
          {requestsPerSecond: 1, clientRefs: [{name: a}, {name: b}, {name: c}, {name: d}, {name: e}, {name: f}]}]",
    ),
];

#[test]
fn a_limit_is_for_each_identity_and_others_for_those_that_are_named() {
    let mesh = issuer("mesh");
    let app = Upstream::echo("app").unwrap();
    let own = own_folder(&mesh);
    let text = yaml(&LIMITED);
    let mut import = Import::new(&text).endpoint("default", &[app.address()]);
    import.certificates = Some(own);
    let envoy = import.start(&tempfile());
    let address = envoy.address().unwrap();
    let client = |account: &str| Identity::account(&mesh, account);
    // The sizes of buckets are what a refusal says; how fast requests come is the machine's.
    let limit = |identity: Option<&Identity>| {
        let forged = [("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/default/sa/special")];
        let refused = (0..500).find_map(|_| {
            let answer = match identity {
                Some(_) => get(address, "app", &mesh, identity, "/").unwrap(),
                None => plain(address, "app", "/", &forged).unwrap(),
            };
            (answer.status == 429).then_some(answer)
        });
        refused.unwrap().header("x-ratelimit-limit").unwrap()
    };
    assert_eq!(limit(Some(&client("special"))), "2");
    assert_eq!(limit(Some(&client("another"))), "1");
    let elsewhere = Identity::new(&mesh, &["spiffe://other.example/ns/default/sa/special"]);
    assert_eq!(limit(Some(&elsewhere)), "1", "of another trust domain");
    // Those whom one override names share a bucket: with buckets of their own nobody would be refused who asks once.
    let once = |name| get(address, "app", &mesh, Some(&client(name)), "/").unwrap().status;
    assert!(["a", "b", "c", "d", "e", "f"].map(once).contains(&429));
    // Nobody gets the bucket of another by saying so.
    assert_eq!(limit(None), "1");
}

const PORTS: [Policy; 5] = [
    ("Server", "web", "podSelector: {matchLabels: {app: web}}, port: 8080"),
    (
        "Server",
        "admin",
        "podSelector: {matchLabels: {app: web}}, port: 9990, accessPolicy: all-unauthenticated",
    ),
    (
        "HTTPRoute",
        "public",
        "parentRefs: [{kind: Server, name: web}], hostnames: ['*.open.example'], rules: [{matches: [{path: {value: /a}, method: \
         GET}]}]",
    ),
    (
        "HTTPRoute",
        "closed",
        "parentRefs: [{kind: Server, name: web}], hostnames: [in.open.example], rules: [{matches: [{path: {value: /}}]}]",
    ),
    (
        "AuthorizationPolicy",
        "anybody",
        "targetRef: {kind: HTTPRoute, name: public}, requiredAuthenticationRefs: []",
    ),
];

#[test]
fn a_server_is_for_its_port_and_a_route_s_policy_for_its_hosts() {
    let app = Upstream::echo("app").unwrap();
    let text = yaml(&PORTS);
    for (port, expected) in [(8080, [200, 403, 403, 403, 403]), (9990, [200; 5])] {
        let mut import = Import::new(&text).endpoint("default", &[app.address()]);
        import.at = Some((port, free()));
        let envoy = import.start(&tempfile());
        let address = envoy.address().unwrap();
        let status = |host: &str, path: &str| plain(address, host, path, &[]).unwrap().status;
        let found = [
            status("x.open.example:80", "/a/b"),
            status("x.open.example", "/b"),
            status("x.open.example", "/ab"),
            status("in.open.example", "/a"),
            status("elsewhere.example", "/a"),
        ];
        assert_eq!(found, expected, "{port}");
    }
}

const TARGETS: &str = "\
kind: TrafficTarget
metadata: {name: web}
spec:
  destination: {kind: ServiceAccount, name: app, namespace: default, port: 8080}
  rules: [{kind: HTTPRouteGroup, name: routes, matches: [api]}]
  sources: [{kind: ServiceAccount, name: website, namespace: default}]
---
kind: TrafficTarget
metadata: {name: admin}
spec:
  destination: {kind: ServiceAccount, name: app, namespace: default, port: 9990}
  sources: [{kind: ServiceAccount, name: operator, namespace: default}]
---
kind: HTTPRouteGroup
metadata: {name: routes}
spec: {matches: [{name: api, pathRegex: '/api/.*', methods: [GET]}]}
";

#[test]
fn a_target_lets_in_at_its_port_alone() {
    let mesh = issuer("mesh");
    let app = Upstream::echo("app").unwrap();
    let own = own_folder(&mesh);
    let client = |account: &str| Identity::account(&mesh, account);
    let (website, operator) = (client("website"), client("operator"));
    for (port, expected) in [(8080, [200, 403, 403]), (9990, [403, 403, 200])] {
        let mut import = Import::new(TARGETS).endpoint("default", &[app.address()]);
        import.certificates = Some(own.clone());
        import.at = Some((port, free()));
        let envoy = import.start(&tempfile());
        let address = envoy.address().unwrap();
        let status = |who: &Identity, path: &str| get(address, "app", &mesh, Some(who), path).unwrap().status;
        let found = [status(&website, "/api/1"), status(&website, "/other"), status(&operator, "/other")];
        assert_eq!(found, expected, "{port}");
    }
}

const ANNOTATED: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations: {retry.linkerd.io/http: '503', retry.linkerd.io/limit: '2', timeout.linkerd.io/request: 20s}
spec: {ports: [{port: 80}], selector: {app: web}}
---
apiVersion: v1
kind: Service
metadata: {name: slow, annotations: {timeout.linkerd.io/request: 100ms}}
spec: {ports: [{port: 80}], selector: {app: slow}}
---
apiVersion: v1
kind: Service
metadata:
  name: breaking
  annotations:
    balancer.linkerd.io/failure-accrual: consecutive
    balancer.linkerd.io/failure-accrual-consecutive-max-failures: '3'
    balancer.linkerd.io/failure-accrual-consecutive-min-penalty: 100ms
spec: {ports: [{port: 80}], selector: {app: breaking}}
---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: once, annotations: {retry.linkerd.io/limit: '0'}}
spec:
  parentRefs: [{name: other, kind: Service, group: core, port: 80}]
  rules:
  - matches: [{path: {value: /moved}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: elsewhere.example}}]
  - matches: [{path: {value: /old}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]
";

#[test]
fn a_service_s_annotations_and_a_route_s_filters_act() {
    let failing = Upstream::start("failing", |_| (vec![(":status".to_owned(), b"503".to_vec())], Vec::new()));
    let (web, other) = (failing.unwrap(), Upstream::echo("other").unwrap());
    let gate = Arc::new(Gate::default());
    let waiting = gate.clone();
    let slow = Upstream::start("slow", move |_| {
        waiting.wait();
        (Vec::new(), Vec::new())
    })
    .unwrap();
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = broken.clone();
    let breaking = Upstream::start("breaking", move |_| {
        let status: &[u8] = if is_broken.load(Ordering::SeqCst) { b"500" } else { b"200" };
        (vec![(":status".to_owned(), status.to_vec())], Vec::new())
    })
    .unwrap();
    let envoy = Import::new(ANNOTATED)
        .endpoint("web", &[web.address()])
        .endpoint("breaking", &[breaking.address()])
        .endpoint("slow", &[slow.address()])
        .endpoint("other", &[other.address()])
        .start(&tempfile());
    let address = envoy.address().unwrap();
    assert_eq!(plain(address, "web", "/", &[]).unwrap().status, 503);
    assert_eq!(web.seen().len(), 3, "two more after the first");
    assert_eq!(plain(address, "slow", "/", &[]).unwrap().status, 504);
    gate.open();
    let moved = plain(address, "other", "/moved/x", &[]).unwrap();
    assert_eq!(moved.header("location").as_deref(), Some("http://elsewhere.example/moved/x"));
    assert_eq!(plain(address, "other", "/old/x", &[]).unwrap().status, 200);
    assert_eq!(other.last().unwrap().path, b"/new/x");

    // The only server is left alone, too: until it comes back, nobody answers.
    let status = || plain(address, "breaking", "/", &[]).unwrap().status;
    wait_until("it is left alone", || (status() == 503).then_some(())).unwrap();
    assert!(breaking.seen().len() >= 3, "after three failures");
    broken.store(false, Ordering::SeqCst);
    wait_until("it comes back", || (status() == 200).then_some(())).unwrap();
}
