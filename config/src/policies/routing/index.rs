use serde_json::{Value, json};

use crate as config;
use meshfilter_core::policy::Facts;
use meshfilter_core::policy::routing::index::{Index, Place};
use meshfilter_core::policy::routing::{Entry, Routing};
use meshfilter_core::request::Request;

fn routing(matches: &[Vec<Value>]) -> Routing {
    let entry = |matches: &Vec<Value>| match matches.as_slice() {
        [] => json!({}),
        some => json!({"match": some}),
    };
    let document = json!({"http": matches.iter().map(entry).collect::<Vec<_>>()});
    let loaded = config::load(document.to_string().as_bytes(), &|_| None);
    loaded.map_err(|errors| format!("{errors:?}")).unwrap().policy.routing
}

/// The index, however few there are.
fn filed(routing: &Routing) -> Index {
    let all: Vec<usize> = (0..routing.entries().len()).collect();
    Index::filed(routing.entries(), Index::new(routing.entries(), &all).places().collect())
}

/// What the index has to agree with.
fn linear(routing: &Routing, request: &Request) -> Option<Place> {
    let facts = Facts::default();
    routing.entries().iter().enumerate().find_map(|(entry, Entry { matches, .. })| {
        if matches.is_empty() {
            return Some((entry, None));
        }
        let matched = matches.iter().position(|matched| matched.is_match(request, &facts))?;
        Some((entry, Some(matched)))
    })
}

fn request(headers: &[(&str, &str)]) -> Request<'static> {
    Request::new(headers.iter().copied().collect(), Vec::new(), 0)
}

/// The index of entries without hosts.
fn index_of(routing: &Routing) -> &Index {
    routing.hosts().indexes(&Request::default())[1].unwrap()
}

/// How many matches a request is compared with at most.
fn candidates(index: &Index, request: &Request) -> usize {
    index.candidates(request).iter().map(|list| list.len()).sum()
}

#[test]
fn a_request_is_compared_only_with_what_may_match() {
    let mut matches = Vec::new();
    for number in 0..2_000 {
        matches.push(vec![
            json!({"headers": {"x-env": {"exact": "prod"}, "x-tenant": {"exact": number.to_string()}}}),
        ]);
        matches.push(vec![
            json!({"headers": {"x-env": {"exact": "prod"}}, "uri": {"exact": format!("/exact/{number}")}}),
        ]);
        matches.push(vec![json!({"uri": {"prefix": format!("/prefix/{number}/")}})]);
        matches
            .push(vec![json!({"authority": {"exact": format!("{number}.example")}, "uri": {"prefix": "/"}})]);
    }
    matches.push(vec![json!({"uri": {"regex": "/last.*"}})]);
    matches.push(vec![]);
    let routing = routing(&matches);
    let last = routing.len() - 1;
    for (headers, expected) in [
        (vec![("x-env", "prod"), ("x-tenant", "1999"), (":path", "/")], (1_999 * 4, Some(0))),
        (vec![("x-env", "prod"), (":path", "/exact/7")], (7 * 4 + 1, Some(0))),
        (vec![(":path", "/prefix/12/x")], (12 * 4 + 2, Some(0))),
        (vec![(":authority", "3.example"), (":path", "/prefix/1")], (3 * 4 + 3, Some(0))),
        (vec![(":path", "/lastly")], (last - 1, Some(0))),
        (vec![("x-env", "prod"), (":path", "/exact/2000")], (last, None)),
        (vec![], (last, None)),
    ] {
        let request = request(&headers);
        assert_eq!(
            routing.hosts().first(routing.entries(), &request, &Facts::default()),
            Some(expected),
            "{headers:?}"
        );
        assert!(candidates(index_of(&routing), &request) <= 4, "{headers:?}");
    }
}

#[test]
fn a_header_sent_a_hundred_times_costs_no_more_than_once() {
    let matches: Vec<_> = (0..100)
        .map(|number| vec![json!({"headers": {"x": {"exact": "same"}}, "port": number + 1})])
        .collect();
    let routing = routing(&matches);
    let once = candidates(index_of(&routing), &request(&[("x", "same")]));
    assert_eq!((once, candidates(index_of(&routing), &request(&[("x", "same"); 100]))), (100, 100));
}

#[cfg(not(target_family = "wasm"))]
mod properties {
    use proptest::prelude::*;

    use super::*;

    const PATHS: [&str; 7] = ["/", "/a", "/a/", "/a/b", "/ab", "/A", ""];
    const VALUES: [&str; 4] = ["", "1", "2", "12"];

    fn string_match(values: &'static [&'static str]) -> impl Strategy<Value = Value> {
        let kind = prop::sample::select(vec!["exact", "exact", "exact", "prefix", "prefix", "suffix"]);
        (kind, prop::sample::select(values)).prop_map(|(kind, value)| json!({kind: value}))
    }

    fn http_match() -> impl Strategy<Value = Value> {
        let header = || {
            prop::option::of(prop_oneof![
                string_match(&VALUES),
                Just(json!({})),
                Just(json!({"present": false}))
            ])
        };
        (
            prop::option::of((string_match(&PATHS), any::<bool>())),
            header(),
            header(),
            header(),
            prop::option::of(string_match(&VALUES)),
        )
            .prop_map(|(uri, x, y, without, authority)| {
                let mut source = json!({"headers": {}});
                if let Some((uri, ignore_case)) = uri {
                    source["uri"] = uri;
                    source["ignoreUriCase"] = json!(ignore_case);
                }
                for (name, value) in [("x", x), ("y", y)] {
                    if let Some(value) = value {
                        source["headers"][name] = value;
                    }
                }
                if let Some(without) = without.filter(|without| without["present"].is_null()) {
                    source["withoutHeaders"] = json!({"x": without});
                }
                if let Some(authority) = authority {
                    source["authority"] = authority;
                }
                source
            })
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_linear_scan_finds(
            matches in prop::collection::vec(prop::collection::vec(http_match(), 0..4), 1..24),
            requests in prop::collection::vec(
                (prop::sample::select(&PATHS[..]), prop::collection::vec((0usize..3, prop::sample::select(&VALUES[..])), 0..4)),
                1..12,
            ),
        ) {
            let routing = routing(&matches);
            let index = filed(&routing);
            for (path, headers) in requests {
                let mut sent: Vec<(&str, &str)> = vec![(":path", path)];
                sent.extend(headers.iter().map(|(name, value)| (["x", "y", ":authority"][*name], *value)));
                let request = request(&sent);
                let found = index.first(routing.entries(), &request, &Facts::default());
                prop_assert_eq!(found, linear(&routing, &request), "{:?}", sent);
                prop_assert_eq!(routing.hosts().first(routing.entries(), &request, &Facts::default()), found);
            }
        }
    }
}
