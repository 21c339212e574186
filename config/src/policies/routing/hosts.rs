use serde_json::{Value, json};

use crate as config;
use meshfilter_core::policy::Facts;
use meshfilter_core::policy::routing::Routing;
use meshfilter_core::request::Request;

fn routing(entries: Value) -> Routing {
    let loaded = config::load(json!({"http": entries}).to_string().as_bytes(), &|_| None);
    loaded.map_err(|errors| format!("{errors:?}")).unwrap().policy.routing
}

fn request(host: &str, path: &str) -> Request<'static> {
    Request::new([(":authority", host), (":path", path)].into_iter().collect(), Vec::new(), 0)
}

fn chosen(routing: &Routing, host: &str, path: &str) -> Option<usize> {
    routing.hosts().first(routing.entries(), &request(host, path), &Facts::default()).map(|(entry, _)| entry)
}

#[test]
fn the_most_specific_host_is_chosen_before_the_order_of_the_entries() {
    let routing = routing(json!([
        {"match": [{"uri": {"prefix": "/all"}}]},
        {"hosts": ["*"]},
        {"hosts": ["*.com", "*.Example.com"], "match": [{"uri": {"prefix": "/x"}}]},
        {"hosts": ["*.example.com"]},
        {"hosts": ["b.example.com", "A.example.com"], "match": [{"uri": {"prefix": "/x"}}]},
        {"hosts": ["[::1]", "localhost"]},
    ]));
    for (host, path, expected) in [
        ("a.example.com", "/x", Some(4)),
        ("A.EXAMPLE.com:8443", "/x", Some(4)),
        ("a.example.com.", "/x", Some(4)),
        // The host is chosen: no other has a say, but what is for every host.
        ("a.example.com", "/y", None),
        ("a.example.com", "/all", Some(0)),
        ("c.example.com", "/x", Some(2)),
        ("c.d.example.com", "/y", Some(3)),
        ("example.com", "/x", Some(2)),
        ("example.com", "/y", None),
        // The end alone is no host of that domain.
        (".example.com", "/y", None),
        ("com", "/x", Some(1)),
        ("a.example.org", "/x", Some(1)),
        ("[::1]:80", "/x", Some(5)),
        ("[::1]", "/x", Some(5)),
        ("localhost:1", "/x", Some(5)),
        ("", "/x", Some(1)),
    ] {
        assert_eq!(chosen(&routing, host, path), expected, "{host}{path}");
    }
}

#[test]
fn entries_of_one_host_stand_in_the_order_of_the_document() {
    let routing = routing(json!([
        {"hosts": ["a"], "match": [{"uri": {"prefix": "/x"}}]},
        {"hosts": ["b", "a"]},
        {"hosts": ["a", "*"]},
    ]));
    assert_eq!(chosen(&routing, "a", "/x"), Some(0));
    assert_eq!(chosen(&routing, "a", "/"), Some(1));
    assert_eq!(chosen(&routing, "b", "/x"), Some(1));
    assert_eq!(chosen(&routing, "c", "/x"), Some(2));
}

/// How much a request is compared with: matches, and tables of hosts.
fn work(count: usize) -> (usize, usize) {
    let mut entries: Vec<Value> = (0..count)
        .flat_map(|host| {
            ["/a", "/b"].map(|prefix| {
                json!({"hosts": [format!("h{host}.example.com"), format!("*.h{host}.example.net")], "match": [{"uri": {"prefix": prefix}}]})
            })
        })
        .collect();
    entries.push(json!({}));
    let routing = routing(Value::Array(entries));
    let (mut most, mut tables) = (0, 0);
    for host in ["h1.example.com", "x.y.h2.example.net:80", "H3.example.com", "nobody.example.org"] {
        let request = request(host, "/b/c");
        let compared: usize = routing
            .hosts()
            .indexes(&request)
            .into_iter()
            .flatten()
            .map(|index| index.candidates(&request).iter().map(|list| list.len()).sum::<usize>())
            .sum();
        most = most.max(compared);
        tables = routing.hosts().lengths.len();
    }
    (most, tables)
}

#[test]
fn a_thousand_hosts_cost_what_ten_do() {
    // Two entries of the host, and the one for all; names of one to three digits have three lengths.
    assert_eq!(work(10), (3, 1));
    assert_eq!(work(1_000), (3, 3));
}
