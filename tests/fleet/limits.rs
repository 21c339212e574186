//! `meshfilter limits`: what it writes, run by the service that it is for.

use std::fs;

use serde_json::{Value, json};

use crate::support::fleet::{self, CLUSTER, Redis, Service};
use crate::support::http::Client;
use meshfilter_cli::limits::{Service as For, written};

fn entry(name: &str, path: &str, descriptors: &Value, requests_per_unit: u32) -> Value {
    json!({"name": name, "match": [{"uri": {"exact": path}}], "global": {
        "cluster": CLUSTER, "domain": "web", "timeout": "10s", "failureMode": "deny",
        "descriptors": descriptors, "limit": {"requestsPerUnit": requests_per_unit, "unit": "HOUR"},
    }})
}

#[test]
fn limitador_counts_by_what_is_written_for_it() {
    let user = json!({"key": "user", "value": {"header": "x-user"}});
    let policy = json!({"rateLimits": [
        entry("fixed", "/fixed", &json!([{"entries": [{"key": "kind", "value": {"literal": "it's \"fixed\""}}]}]), 2),
        entry("users", "/users", &json!([{"entries": [user]}]), 3),
        // A question with more keys than that of `users`, and names that CEL does not take.
        entry("plans", "/plans", &json!([{"entries": [user, {"key": "the-plan", "value": {"header": "x-plan", "default": "free"}}]}]), 4),
        // What follows a value that is missing moves up.
        entry("both", "/both", &json!([
            {"entries": [{"key": "tenant", "value": {"header": "x-tenant"}}]},
            {"entries": [{"key": "client", "value": {"header": "x-client"}}, {"key": "in", "value": {"literal": "both"}}]},
        ]), 2),
    ]});
    let text = written(&policy, For::Limitador).unwrap();
    let redis = Redis::start(false).unwrap();
    let file = std::env::temp_dir().join(format!("meshfilter-limits-{}.yaml", std::process::id()));
    fs::write(&file, &text).unwrap();
    let service = Service::with_limits(&redis, &file);
    fs::remove_file(&file).unwrap();
    let service = service.unwrap_or_else(|error| panic!("{error}\n{text}"));
    let (envoy, address) = fleet::envoy(&policy, service.address, 1).unwrap();
    let mut client = Client::connect(address).unwrap();
    let mut passed = |path: &str, headers: &[(&str, &str)]| {
        let statuses: Vec<u16> =
            (0..6).map(|_| client.request("GET", path, headers).unwrap().status).collect();
        assert!(
            statuses.iter().all(|status| [200, 429].contains(status)),
            "{path} {statuses:?}\n{text}\n{}",
            envoy.log()
        );
        statuses.iter().filter(|status| **status == 200).count()
    };
    assert_eq!(passed("/fixed", &[]), 2, "{text}");
    assert_eq!(passed("/plans", &[("x-user", "a")]), 4, "{text}");
    assert_eq!(passed("/users", &[("x-user", "a")]), 3, "they are not those of the plans: {text}");
    assert_eq!(passed("/users", &[("x-user", "b")]), 3);
    assert_eq!(passed("/plans", &[("x-user", "a"), ("x-plan", "gold")]), 4);
    assert_eq!(passed("/both", &[("x-client", "c")]), 2, "{text}");
    assert_eq!(passed("/both", &[("x-tenant", "t"), ("x-client", "c")]), 0, "one client, wherever it stands");
    assert_eq!(passed("/both", &[("x-tenant", "t"), ("x-client", "d")]), 2);
    assert_eq!(passed("/both", &[("x-tenant", "t")]), 0);
    assert_eq!(passed("/both", &[]), 6, "nothing to ask about");
}
