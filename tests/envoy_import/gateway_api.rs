//! HTTPRoute and GRPCRoute, in one Envoy: what the Gateway API's conformance tests ask for.

use crate::Import;
use crate::support::envoy::wait_until;
use crate::support::http::{Client, Upstream, request_bytes};
use crate::traffic::tempfile;

const MESH: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: infra}
spec:
  gatewayClassName: any
  listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Same}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: matching, namespace: infra}
spec:
  parentRefs: [{name: edge}]
  hostnames: [match.example.com]
  rules:
  - {matches: [{path: {value: /}}, {headers: [{name: version, value: one}]}], backendRefs: [{name: v1, port: 80}]}
  - matches: [{path: {value: /v2}}, {headers: [{name: version, value: two}]}]
    backendRefs: [{name: v2, port: 80}]
  - {matches: [{path: {type: Exact, value: /v2/exact}}], backendRefs: [{name: v3, port: 80}]}
  - {matches: [{path: {value: /v2}, method: PATCH}], backendRefs: [{name: v1, port: 80}]}
  - {matches: [{path: {value: /v2}, queryParams: [{name: animal, value: whale}]}], backendRefs: [{name: v3, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: wild, namespace: infra}
spec:
  parentRefs: [{name: edge, sectionName: http}]
  hostnames: ['*.example.com']
  rules: [{backendRefs: [{name: v3, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: filters, namespace: infra}
spec:
  parentRefs: [{name: edge}]
  hostnames: [filter.example.com]
  rules:
  - matches: [{path: {value: /prefix/one}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /one}}}]
    backendRefs: [{name: v1, port: 80}]
  - matches: [{path: {value: /strip}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
    backendRefs: [{name: v1, port: 80}]
  - matches: [{path: {value: /full}}]
    filters: [{type: URLRewrite, urlRewrite: {hostname: new.example, path: {type: ReplaceFullPath, replaceFullPath: /all}}}]
    backendRefs: [{name: v1, port: 80}]
  - matches: [{path: {value: /headers}}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: 1%}], add: [{name: x-add, value: b}], remove: [x-gone]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-answer, value: set}]}}
    backendRefs:
    - {name: v1, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-way, value: v1}]}}]}
  - matches: [{path: {value: /mirror}}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}}}]
    backendRefs: [{name: v1, port: 80}]
  - matches: [{path: {value: /redirect/host}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: other.example}}]
  - matches: [{path: {value: /redirect/scheme}}]
    filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 301}}]
  - matches: [{path: {value: /redirect/prefix}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]
  - matches: [{path: {value: /redirect/full}}]
    filters: [{type: RequestRedirect, requestRedirect: {port: 8080, path: {type: ReplaceFullPath, replaceFullPath: /new}}}]
  - matches: [{path: {value: /cors}}]
    filters: [{type: CORS, cors: {allowOrigins: ['https://*.site.example'], allowMethods: [GET], maxAge: 60}}]
    backendRefs: [{name: v1, port: 80}]
  - {matches: [{path: {value: /nowhere}}], backendRefs: [{name: absent, port: 80}]}
  - {matches: [{path: {value: /half}}], backendRefs: [{name: absent, port: 80}, {name: v1, port: 80}]}
  - {matches: [{path: {value: /refused}}], backendRefs: [{name: v1, namespace: other, port: 80}]}
  - matches: [{path: {value: /weights}}]
    backendRefs: [{name: v1, port: 80, weight: 70}, {name: v2, port: 80, weight: 30}, {name: v3, port: 80, weight: 0}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: grpc, namespace: infra}
spec:
  parentRefs: [{name: edge}]
  hostnames: [grpc.example.com]
  rules:
  - {matches: [{method: {service: a.S}}], backendRefs: [{name: v1, port: 80}]}
  - {matches: [{method: {service: a.S, method: M}}], backendRefs: [{name: v2, port: 80}]}
";

#[test]
fn routes_do_what_the_specification_says() {
    let [v1, v2, v3, copy] = ["v1", "v2", "v3", "copy"].map(|name| Upstream::echo(name).unwrap());
    let mut import = Import::new(MESH);
    for (name, upstream) in [("v1.infra", &v1), ("v2.infra", &v2), ("v3.infra", &v3), ("copy.infra", &copy)] {
        import = import.endpoint(name, &[upstream.address()]);
    }
    import.gateway = Some(("infra", "edge"));
    import.ports = vec![80];
    let folder = tempfile();
    let envoy = import.start(&folder);
    let address = envoy.address().unwrap();
    let send = |method: &str, host: &str, path: &str, headers: &[(&str, &str)]| {
        let mut client = Client::connect(address).unwrap();
        client.send(&request_bytes(method, path.as_bytes(), host, headers)).unwrap();
        client.receive(method).unwrap()
    };

    // Paths, headers, methods, parameters, hosts: who answers.
    type Ask<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)]);
    let asked: [(Ask<'_>, &str); 15] = [
        (("GET", "match.example.com", "/", &[]), "v1"),
        (("GET", "match.example.com:80", "/any", &[]), "v1"),
        (("GET", "match.example.com", "/v2", &[]), "v2"),
        (("GET", "match.example.com", "/v2/", &[]), "v2"),
        (("GET", "match.example.com", "/v2/x", &[]), "v2"),
        (("GET", "match.example.com", "/v2example", &[]), "v1"),
        (("GET", "match.example.com", "/V2", &[]), "v1"),
        (("GET", "match.example.com", "/v2/exact", &[]), "v3"),
        (("GET", "match.example.com", "/", &[("version", "two")]), "v2"),
        (("GET", "match.example.com", "/v2", &[("version", "one")]), "v2"),
        (("PATCH", "match.example.com", "/v2", &[]), "v1"),
        (("GET", "match.example.com", "/v2?animal=whale", &[]), "v3"),
        (("GET", "other.example.com", "/v2", &[]), "v3"),
        (("POST", "grpc.example.com", "/a.S/M", &[]), "v2"),
        (("POST", "grpc.example.com", "/a.S/N", &[]), "v1"),
    ];
    for ((method, host, path, headers), expected) in asked {
        let answer = send(method, host, path, headers);
        assert_eq!(
            (answer.status, answer.header("x-upstream").as_deref()),
            (200, Some(expected)),
            "{method} {host}{path} {headers:?}"
        );
    }
    assert_eq!(send("GET", "elsewhere.org", "/", &[]).status, 404);

    let get = |path: &str, headers: &[(&str, &str)]| send("GET", "filter.example.com", path, headers);
    // What arrives, by the path that was asked for.
    for (path, expected) in [
        ("/prefix/one/two?q=1", "/one/two?q=1"),
        ("/prefix/one", "/one"),
        ("/strip/a", "/a"),
        ("/strip", "/"),
        ("/full/a/b?q=1", "/all?q=1"),
    ] {
        assert_eq!(get(path, &[]).status, 200, "{path}");
        assert_eq!(String::from_utf8_lossy(&v1.last().unwrap().path), expected, "{path}");
    }
    let of = |name: &str| {
        let seen = v1.last().unwrap();
        let values = seen.headers.iter().filter(|(known, _)| known == name);
        values.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of(":authority"), ["new.example"]);
    let answer = get("/headers", &[("x-set", "old"), ("x-add", "a"), ("x-gone", "1")]);
    assert_eq!(answer.header("x-answer").as_deref(), Some("set"));
    assert_eq!(
        (of("x-set"), of("x-way"), of("x-gone")),
        (vec!["1%".to_owned()], vec!["v1".to_owned()], vec![])
    );
    assert_eq!(of("x-add").join(","), "a,b");

    assert_eq!(get("/mirror/x", &[]).header("x-upstream").as_deref(), Some("v1"));
    wait_until("the copy", || copy.last().filter(|seen| seen.path == b"/mirror/x")).unwrap();

    for (path, status, location) in [
        ("/redirect/host/a?q=1", 302, "http://other.example/redirect/host/a?q=1"),
        ("/redirect/scheme/a", 301, "https://filter.example.com/redirect/scheme/a"),
        ("/redirect/prefix/a", 302, "http://filter.example.com/new/a"),
        ("/redirect/full/a", 302, "http://filter.example.com:8080/new"),
    ] {
        let answer = get(path, &[]);
        assert_eq!((answer.status, answer.header("location").as_deref()), (status, Some(location)), "{path}");
    }

    let preflight = |origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "GET")];
        let answer = send("OPTIONS", "filter.example.com", "/cors", &headers);
        (answer.status, answer.header("access-control-allow-origin"), answer.header("access-control-max-age"))
    };
    let allowed = "https://a.site.example".to_owned();
    assert_eq!(preflight(&allowed), (200, Some(allowed), Some("60".to_owned())));
    assert_eq!(preflight("https://evil.example").1, None);

    assert_eq!(get("/nowhere", &[]).status, 500);
    assert_eq!(get("/refused", &[]).status, 500);
    let halves: Vec<u16> = (0..200).map(|_| get("/half", &[]).status).collect();
    let failed = halves.iter().filter(|status| **status == 500).count();
    assert!(
        halves.iter().all(|status| matches!(status, 200 | 500)) && (50..150).contains(&failed),
        "{failed}"
    );

    let weighted: Vec<_> = (0..400).map(|_| get("/weights", &[]).header("x-upstream").unwrap()).collect();
    let count = |name: &str| weighted.iter().filter(|upstream| *upstream == name).count();
    assert_eq!(count("v3"), 0);
    assert!((200..360).contains(&count("v1")), "{}", count("v1"));
    assert_eq!(count("v1") + count("v2"), 400);
}
