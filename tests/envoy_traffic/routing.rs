//! Envoy's route table, and the same as entries of `http`: the same request gets the same answer.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use serde_json::{Value, json};

use crate::explained;
use crate::pair::{Listener, Request, SideBySide, details_of, lua, marker, native, ours, plugin, theirs};
use crate::random::{Random, seed};
use crate::support::case::yaml;
use crate::support::envoy::wait_until;
use crate::support::explained::Explainer;

const THREADS: u64 = 4;
const EACH: usize = 400;

/// What a route of Envoy's is in a policy. The first that matches counts, in both.
const ROUTES: &str = r#"
- native: {match: {path: /exact}, route: {cluster: v1}}
  ours: {match: [{uri: {exact: /exact}}], route: [{destination: {host: v1}}]}
- native: {match: {path: /Case, case_sensitive: false}, route: {cluster: v2}}
  ours: {match: [{uri: {exact: /Case}, ignoreUriCase: true}], route: [{destination: {host: v2}}]}
- native: {match: {prefix: /header, headers: [{name: x-h, string_match: {exact: a}}]}, route: {cluster: v1}}
  ours: {match: [{uri: {prefix: /header}, headers: {x-h: {exact: a}}}], route: [{destination: {host: v1}}]}
- native: {match: {prefix: /header, headers: [{name: x-h, string_match: {prefix: b}}]}, route: {cluster: v2}}
  ours: {match: [{uri: {prefix: /header}, headers: {X-H: {prefix: b}}}], route: [{destination: {host: v2}}]}
- native: {match: {prefix: /header, headers: [{name: x-h, string_match: {safe_regex: {regex: "[0-9]+"}}}]}, route: {cluster: mirror}}
  ours: {match: [{uri: {prefix: /header}, headers: {x-h: {regex: "[0-9]+"}}}], route: [{destination: {host: mirror}}]}
- native: {match: {prefix: /header, headers: [{name: x-p, present_match: true}]}, route: {cluster: v1, prefix_rewrite: /present}}
  ours: {match: [{uri: {prefix: /header}, headers: {x-p: {}}}], rewrite: {uri: /present}, route: [{destination: {host: v1}}]}
- native:
    match: {prefix: /without, headers: [{name: x-h, string_match: {exact: a}, invert_match: true, treat_missing_header_as_empty: true}]}
    route: {cluster: v1}
  ours: {match: [{uri: {prefix: /without}, withoutHeaders: {x-h: {exact: a}}}], route: [{destination: {host: v1}}]}
- native: {match: {prefix: /without, headers: [{name: x-p, present_match: true, invert_match: true}]}, route: {cluster: v2}}
  ours: {match: [{uri: {prefix: /without}, withoutHeaders: {x-p: {}}}], route: [{destination: {host: v2}}]}
- native: {match: {prefix: /method, headers: [{name: ":method", string_match: {exact: POST}}]}, route: {cluster: v1}}
  ours: {match: [{uri: {prefix: /method}, method: {exact: POST}}], route: [{destination: {host: v1}}]}
- native: {match: {prefix: /method, headers: [{name: ":method", string_match: {safe_regex: {regex: "P.*|DELETE"}}}]}, route: {cluster: v2}}
  ours: {match: [{uri: {prefix: /method}, method: {regex: "P.*|DELETE"}}], route: [{destination: {host: v2}}]}
- native: {match: {prefix: /host, headers: [{name: ":authority", string_match: {exact: other.example.com}}]}, route: {cluster: v1}}
  ours: {match: [{uri: {prefix: /host}, authority: {exact: other.example.com}}], route: [{destination: {host: v1}}]}
- native: {match: {prefix: /host, headers: [{name: ":authority", string_match: {safe_regex: {regex: ".*:[0-9]+"}}}]}, route: {cluster: v2}}
  ours: {match: [{uri: {prefix: /host}, authority: {regex: ".*:[0-9]+"}}], route: [{destination: {host: v2}}]}
- native: {match: {prefix: /query, query_parameters: [{name: a, string_match: {exact: "1"}}]}, route: {cluster: v1}}
  ours: {match: [{uri: {prefix: /query}, queryParams: {a: {exact: "1"}}}], route: [{destination: {host: v1}}]}
- native: {match: {prefix: /query, query_parameters: [{name: a, string_match: {safe_regex: {regex: "[a-z]+"}}}]}, route: {cluster: v2}}
  ours: {match: [{uri: {prefix: /query}, queryParams: {a: {regex: "[a-z]+"}}}], route: [{destination: {host: v2}}]}
- native: {match: {prefix: /query, query_parameters: [{name: b, present_match: true}]}, route: {cluster: mirror}}
  ours: {match: [{uri: {prefix: /query}, queryParams: {b: {}}}], route: [{destination: {host: mirror}}]}
- native: {match: {path_separated_prefix: /segments}, route: {cluster: v1, prefix_rewrite: /other}}
  ours: {match: [{uri: {pathPrefix: /segments}}], rewrite: {uri: /other}, route: [{destination: {host: v1}}]}
- native: {match: {safe_regex: {regex: "/regex/[0-9]+"}}, route: {cluster: v1}}
  ours: {match: [{uri: {regex: "/regex/[0-9]+"}}], route: [{destination: {host: v1}}]}
- native:
    match: {prefix: /ops}
    route:
      weighted_clusters:
        clusters:
        - name: v1
          weight: 1
          request_headers_to_add: [{header: {key: x-arm, value: one}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
          response_headers_to_add: [{header: {key: x-from, value: arm}}]
    request_headers_to_remove: [x-h]
    request_headers_to_add:
    - {header: {key: x-p, value: set}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}
    - {header: {key: x-many, value: "1"}}
    - {header: {key: x-many, value: "2"}}
    response_headers_to_remove: [x-secret]
    response_headers_to_add:
    - {header: {key: x-both, value: route}}
    - {header: {key: x-set, value: "100%%"}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}
  ours:
    match: [{uri: {prefix: /ops}}]
    headers:
      request: {remove: [x-h], set: {x-p: set}, add: {x-many: "1"}}
      response: {remove: [x-secret], set: {x-set: "100%%"}, add: {x-both: route}}
    route:
    - destination: {host: v1}
      headers: {request: {set: {x-arm: one}, add: {x-many: "2"}}, response: {add: {x-from: arm}}}
- native: {match: {prefix: /rewrite/}, route: {cluster: v1, prefix_rewrite: /}}
  ours: {match: [{uri: {prefix: /rewrite/}}], rewrite: {uri: /}, route: [{destination: {host: v1}}]}
- native: {match: {prefix: /rewrite, case_sensitive: false}, route: {cluster: v2, prefix_rewrite: /other, host_rewrite_literal: rewritten.example.com}}
  ours: {match: [{uri: {prefix: /rewrite}, ignoreUriCase: true}], rewrite: {uri: /other, authority: rewritten.example.com}, route: [{destination: {host: v2}}]}
- native: {match: {prefix: /item}, route: {cluster: v1, regex_rewrite: {pattern: {regex: "/([a-z]+)/([0-9]+)"}, substitution: '/\2-\1'}}}
  ours: {match: [{uri: {prefix: /item}}], rewrite: {uriRegexRewrite: {match: "/([a-z]+)/([0-9]+)", rewrite: '/\2-\1'}}, route: [{destination: {host: v1}}]}
- native: {match: {prefix: /redirect/path}, redirect: {path_redirect: /new, response_code: FOUND}}
  ours: {match: [{uri: {prefix: /redirect/path}}], redirect: {uri: /new, redirectCode: 302}}
- native: {match: {prefix: /redirect/query}, redirect: {path_redirect: "/new?z=1", response_code: SEE_OTHER}}
  ours: {match: [{uri: {prefix: /redirect/query}}], redirect: {uri: "/new?z=1", redirectCode: 303}}
- native: {match: {prefix: /redirect/host}, redirect: {host_redirect: new.example.com}}
  ours: {match: [{uri: {prefix: /redirect/host}}], redirect: {authority: new.example.com}}
- native: {match: {prefix: /redirect/scheme}, redirect: {scheme_redirect: https, response_code: TEMPORARY_REDIRECT}}
  ours: {match: [{uri: {prefix: /redirect/scheme}}], redirect: {scheme: https, redirectCode: 307}}
- native: {match: {prefix: /redirect/port}, redirect: {port_redirect: 8443, scheme_redirect: https, response_code: PERMANENT_REDIRECT}}
  ours: {match: [{uri: {prefix: /redirect/port}}], redirect: {port: 8443, scheme: https, redirectCode: 308}}
- native: {match: {prefix: /redirect/prefix}, redirect: {prefix_rewrite: /elsewhere, host_redirect: new.example.com}}
  ours: {match: [{uri: {prefix: /redirect/prefix}}], redirect: {prefixRewrite: /elsewhere, authority: new.example.com}}
- native: {match: {path: /direct/teapot}, direct_response: {status: 418, body: {inline_string: teapot}}}
  ours: {match: [{uri: {exact: /direct/teapot}}], directResponse: {status: 418, body: {string: teapot}}}
- native:
    match: {prefix: /direct/json}
    direct_response: {status: 200, body: {inline_string: "{}"}}
    response_headers_to_add: [{header: {key: content-type, value: application/json}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
  ours:
    match: [{uri: {prefix: /direct/json}}]
    directResponse: {status: 200, body: {string: "{}"}}
    headers: {response: {set: {content-type: application/json}}}
- native: {match: {prefix: /direct}, direct_response: {status: 404}}
  ours: {match: [{uri: {prefix: /direct}}], directResponse: {status: 404}}
- native: {match: {prefix: /mirror}, route: {cluster: v1, request_mirror_policies: [{cluster: mirror}]}}
  ours: {match: [{uri: {prefix: /mirror}}], mirror: {host: mirror}, route: [{destination: {host: v1}}]}
- native: {match: {prefix: /timeout}, route: {cluster: v1, timeout: 0.3s}}
  ours: {match: [{uri: {prefix: /timeout}}], timeout: 300ms, route: [{destination: {host: v1}}]}
- native: {match: {prefix: /retry/twice}, route: {cluster: v1, retry_policy: {retry_on: 5xx, num_retries: 2}}}
  ours: {match: [{uri: {prefix: /retry/twice}}], retries: {attempts: 2, retryOn: 5xx}, route: [{destination: {host: v1}}]}
- native: {match: {prefix: /retry/status}, route: {cluster: v1, retry_policy: {retry_on: retriable-status-codes, retriable_status_codes: [418], num_retries: 1}}}
  ours: {match: [{uri: {prefix: /retry/status}}], retries: {attempts: 1, retryOn: "418"}, route: [{destination: {host: v1}}]}
- native:
    match: {prefix: /retry/slow}
    route: {cluster: v1, timeout: 5s, retry_policy: {retry_on: 5xx, num_retries: 1, per_try_timeout: 0.3s}}
  ours:
    match: [{uri: {prefix: /retry/slow}}]
    timeout: 5s
    retries: {attempts: 1, retryOn: 5xx, perTryTimeout: 300ms}
    route: [{destination: {host: v1}}]
- native:
    match: {prefix: /cors/credentials}
    route: {cluster: v1}
    typed_per_filter_config:
      envoy.filters.http.cors:
        "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy
        allow_origin_string_match: [{exact: "https://a.example.com"}, {safe_regex: {regex: "https://[a-z]+\\.b\\.example"}}]
        allow_methods: GET,POST
        allow_headers: x-a,x-b
        expose_headers: x-upstream
        max_age: "600"
        allow_credentials: true
  ours:
    match: [{uri: {prefix: /cors/credentials}}]
    route: [{destination: {host: v1}}]
    corsPolicy:
      allowOrigins: [{exact: "https://a.example.com"}, {regex: "https://[a-z]+\\.b\\.example"}]
      allowMethods: [GET, POST]
      allowHeaders: [x-a, x-b]
      exposeHeaders: [x-upstream]
      maxAge: 10m
      allowCredentials: true
- native:
    match: {prefix: /cors}
    route: {cluster: v2}
    typed_per_filter_config:
      envoy.filters.http.cors:
        "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy
        allow_origin_string_match: [{exact: "*"}]
        allow_headers: "*"
        allow_methods: GET
  ours:
    match: [{uri: {prefix: /cors}}]
    route: [{destination: {host: v2}}]
    corsPolicy: {allowOrigins: [{exact: "*"}], allowHeaders: ["*"], allowMethods: [GET]}
- native: {match: {prefix: /}, route: {cluster: fallback}}
  ours: {}
"#;

const PATHS: &[&str] = &[
    "/",
    "/exact",
    "/exact/",
    "/Exact",
    "/exactly",
    "/case",
    "/CASE",
    "/Case/",
    "/header",
    "/headers",
    "/header/x",
    "/Header",
    "/without",
    "/without/x",
    "/method",
    "/method/x",
    "/host",
    "/hosts",
    "/query",
    "/query/x",
    "/segments",
    "/segments/",
    "/segments/a/b",
    "/segmentss",
    "/regex/12",
    "/regex/x",
    "/regex/12/",
    "/regex/",
    "/ops",
    "/ops/x",
    "/rewrite",
    "/rewrite/",
    "/rewrite/a/b",
    "/REWRITE/a",
    "/rewriter",
    "/item/12",
    "/item/a/1/b/2",
    "/item",
    "/redirect",
    "/redirect/path",
    "/redirect/path/x",
    "/redirect/query",
    "/redirect/host/a",
    "/redirect/scheme",
    "/redirect/port/x",
    "/redirect/prefix/a/b",
    "/redirect/prefix",
    "/direct/teapot",
    "/direct/json",
    "/direct",
    "/mirror",
    "/mirror/x",
    "/timeout",
    "/retry/twice",
    "/retry/status",
    "/retry/slow",
    "/cors",
    "/cors/x",
    "/cors/credentials",
    "/cors/credentials/x",
    "/caf\u{e9}",
    "/a%2Fb",
    "/%65xact",
    "//exact",
    "/./exact",
    "/exact;v=1",
];
const QUERIES: &[&str] = &[
    "",
    "",
    "",
    "?",
    "?a=1",
    "?a=2&b=x",
    "?a=x",
    "?a",
    "?a=",
    "?A=1",
    "?b",
    "?a=1&a=2",
    "?a=x&a=1",
    "?a=%31",
    "?a=1#f",
    "?b=1&&a=1",
    "?x=/exact",
];
const HOSTS: &[&str] = &[
    "example.com",
    "example.com",
    "other.example.com",
    "Other.Example.COM",
    "example.com:8080",
    "example.com:80",
    "[::1]:443",
];
const METHODS: &[&str] = &["GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];

fn request(random: &mut Random) -> Request {
    let path = random.pick(PATHS);
    let mut headers = Vec::new();
    let mut put = |random: &mut Random, share: usize, names: &[&str], values: &[&str]| {
        if random.percent(share) {
            headers.push((random.pick(names).to_owned(), random.pick(values).to_owned()));
        }
    };
    put(random, 60, &["x-h", "X-H", "X-h"], &["a", "b", "b1", "12", "", "A", "a,b"]);
    put(random, 8, &["x-h", "X-H"], &["a", "b", "12"]);
    put(random, 30, &["x-p", "X-P"], &["", "1"]);
    put(random, 10, &["x-many"], &["0"]);
    put(random, 3, &["x-meshfilter-cluster"], &["v2", "nowhere"]);
    let cors = path.starts_with("/cors");
    let origins = [
        "https://a.example.com",
        "https://x.b.example",
        "https://A.example.com",
        "https://evil.example",
        "null",
        "",
    ];
    put(random, if cors { 85 } else { 5 }, &["origin", "Origin"], &origins);
    put(random, if cors { 60 } else { 5 }, &["access-control-request-method"], &["GET", "DELETE", ""]);
    put(random, 30, &["access-control-request-headers"], &["x-a", "x-a, x-c"]);
    let mut method = random.pick(METHODS);
    if cors && random.percent(50) {
        method = "OPTIONS";
    }
    if path.starts_with("/retry") {
        put(random, 80, &["x-fail"], &["1", "2", "3"]);
        put(random, 50, &["x-fail-status"], &["500", "418"]);
    }
    if path == "/retry/slow" || path == "/timeout" {
        put(random, 50, &["x-slow"], &["1", "2"]);
    }
    Request { method, path: format!("{path}{}", random.pick(QUERIES)), host: random.pick(HOSTS), headers }
}

/// Where ours is meant to be different, and why; docs/routing.md has them.
fn difference(request: &Request) -> Option<&'static str> {
    let repeated = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-h")).count() > 1;
    let asks_for_headers = request.headers.iter().any(|(name, _)| name == "access-control-request-headers");
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    match () {
        () if repeated && (path.starts_with("/header") || path.starts_with("/without")) => {
            Some("Envoy joins repeated values with a comma before it looks; here any may match")
        }
        () if path.starts_with("/query") && query.contains('%') => {
            Some("Envoy compares parameters as they were sent")
        }
        () if request.headers.iter().any(|(name, _)| name == "x-meshfilter-cluster") => {
            Some("what a client says in our header is removed")
        }
        () if path.starts_with("/item") && !path.contains(|part: char| part.is_ascii_digit()) => {
            Some("x-envoy-original-path stands only where the path has changed")
        }
        () if request.method == "OPTIONS" && path.starts_with("/cors") && !asks_for_headers => {
            Some("a preflight that asks for no headers is told of none; Envoy tells it an empty list")
        }
        () => None,
    }
}

/// [`ours`] where the host decides as well, and a rewritten one is nobody's; and where the ways of Envoy's own are several.
fn strict(host_header: Value) -> Value {
    let mut host = ours();
    let mut domains: Vec<String> = HOSTS.iter().map(|host| host.to_ascii_lowercase()).collect();
    domains.dedup();
    domains.sort();
    domains.dedup();
    host["domains"] = json!(domains);
    if host_header.is_string() {
        host["routes"][0]["route"]["host_rewrite_header"] = host_header;
    }
    let own = host["routes"][1]["route"].clone();
    let prefixes =
        ["/other", "/present", "/header"].map(|prefix| json!({"match": {"prefix": prefix}, "route": own}));
    let routes = host["routes"].as_array_mut().unwrap();
    routes.splice(1..1, prefixes);
    host
}

#[test]
fn a_route_table_and_the_same_policy_answer_alike() {
    let routes = yaml(ROUTES).unwrap();
    let side = |name: &str| -> Vec<Value> {
        routes.as_array().unwrap().iter().map(|route| route[name].clone()).collect()
    };
    let cors = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"});
    let running = SideBySide::start(&[
        Listener {
            name: "native",
            filters: vec![native("envoy.filters.http.cors", cors)],
            virtual_host: theirs(side("native")),
        },
        Listener {
            name: "ours",
            filters: vec![plugin("ours", &json!({"http": side("ours")}))],
            virtual_host: ours(),
        },
        Listener {
            name: "route",
            filters: vec![marker("route"), plugin("route", &json!({"http": side("ours")}))],
            virtual_host: strict(json!("x-meshfilter-authority")),
        },
        Listener {
            name: "filter",
            filters: vec![marker("filter"), plugin("filter", &json!({"http": side("ours")})), lua()],
            virtual_host: strict(Value::Null),
        },
    ]);
    let seed = seed();
    let some = |thread: u64| {
        let mut random = Random(seed.wrapping_add(thread.wrapping_mul(0x5851_f42d_4c95_7f2d)));
        let mut native = running.client("native");
        let mut each = ["ours", "route", "filter"].map(|name| running.client(name));
        let mut explainer = Explainer::with(&json!({"http": side("ours")}), &BTreeMap::new(), None).unwrap();
        let mut told = Vec::new();
        let mut wrong = Vec::new();
        let mut differences: BTreeMap<&str, usize> = BTreeMap::new();
        for index in 0..EACH {
            let request = request(&mut random);
            let ours = &mut each[index % 3];
            let mut both = || {
                let expected = native.send(&request, &format!("n{thread}-{index}"));
                let mut answer = ours.send(&request, &format!("o{thread}-{index}"));
                // Envoy leaves it to a cache to give one site what another was told.
                if answer.header("access-control-allow-origin").is_some() {
                    assert_eq!(answer.header("vary"), Some("origin"), "{request:?}: {answer:?}");
                    answer = answer.without(&["vary"]);
                }
                (expected, answer)
            };
            let (mut expected, mut answer) = both();
            // Where time decides, a busy machine can be late on one side alone.
            let timed = ["/timeout", "/retry/slow"].iter().any(|path| request.path.starts_with(path));
            for _ in 0..3 {
                if timed && answer != expected {
                    (expected, answer) = both();
                }
            }
            if index % 3 == 0
                && !timed
                && let Some((asked, came)) = explained::of(&request, &answer)
            {
                told.push((format!("o{thread}-{index}"), explainer.explain(&asked), came, request.clone()));
            }
            if answer != expected {
                match difference(&request) {
                    Some(reason) => *differences.entry(reason).or_default() += 1,
                    None => wrong.push(format!("{request:?}\n  native {expected:?}\n  ours   {answer:?}")),
                }
            }
        }
        (wrong, differences, told)
    };
    let mut wrong = Vec::new();
    let mut told = Vec::new();
    let mut differences: BTreeMap<&str, usize> = BTreeMap::new();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || some(thread))).collect();
        for thread in threads {
            let (more, listed, some) = thread.join().unwrap();
            wrong.extend(more);
            told.extend(some);
            for (reason, count) in listed {
                *differences.entry(reason).or_default() += count;
            }
        }
    });
    // What `explain` says of a request is what came of it.
    assert!(told.len() * 8 > THREADS as usize * EACH, "only {} were explained", told.len());
    let details = details_of(&running.envoy, told.iter().map(|(id, ..)| id.as_str()));
    for (id, explained, mut came, request) in told {
        came.answer.details = details[&id].clone();
        // `vary` was looked at above, and taken out.
        let found = explained.differences_but(&came, &["x-both", "x-secret", "vary"]);
        if !found.is_empty() {
            wrong.push(format!("{request:?}\n  {}", found.join("\n  ")));
        }
    }
    println!("{} pairs; different, as listed: {differences:#?}", THREADS as usize * EACH);
    assert!(
        wrong.is_empty(),
        "{} wrong, seed {seed}:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );

    // Copies come after the answers; who got one is the same, too.
    let copied = |side: char| -> BTreeSet<String> {
        let ids = running.seen("mirror").into_iter().filter(|seen| seen.path.starts_with(b"/mirror"));
        let id = |seen: crate::support::check::Seen| {
            seen.headers.into_iter().find(|(name, _)| name == crate::pair::ID)
        };
        let ids = ids.filter_map(id).filter_map(|(_, id)| String::from_utf8(id).ok());
        ids.filter_map(|id| Some(id.strip_prefix(side)?.to_owned())).collect()
    };
    let _ = wait_until("the copies", || (copied('n') == copied('o')).then_some(()));
    assert_eq!(copied('n'), copied('o'));
    assert!(!copied('o').is_empty());
}
