//! Blanks around a header's value, which a proxy takes over HTTP/2: an upstream drops them, so they lead past no policy.

use std::cell::RefCell;

use serde_json::json;

use crate::http2;
use crate::pair::{Listener, SideBySide, ours, plugin};
use crate::support::envoy::cluster;
use crate::support::http::Upstream;

#[test]
fn they_lead_past_no_refusal_and_no_limit() {
    let policy = json!({
        "authorization": [{
            "name": "bad",
            "action": "DENY",
            "rules": [{"when": [{"key": "request.headers[x-bad]", "values": ["yes"]}]}],
        }],
        "rateLimits": [{
            "name": "per-key",
            "key": [{"header": "x-api-key"}],
            "tokenBucket": {"maxTokens": 2, "fillInterval": "24h"},
        }],
        "http": [{"route": [{"destination": {"host": "web"}}]}],
    });
    let upstream = Upstream::echo("web").unwrap();
    let running = SideBySide::start_with(
        &[Listener { name: "ours", filters: vec![plugin("meshfilter", &policy)], virtual_host: ours() }],
        vec![cluster("web", upstream.address())],
    );
    let passes = |name: &str, value: &str| {
        let passed = RefCell::new(false);
        http2::ask_all(running.addresses["ours"], "/", &[(name, value)], 1, |_, _, good| {
            *passed.borrow_mut() = good;
            Ok(())
        })
        .unwrap();
        passed.into_inner()
    };
    assert!(passes("x-bad", "no"));
    for value in ["yes", " yes", "yes ", "\tyes", " \t yes \t"] {
        assert!(!passes("x-bad", value), "{value:?}");
    }
    let of_one_key = ["k", " k", "k ", "\tk", "  k  "].map(|value| passes("x-api-key", value));
    assert_eq!(of_one_key, [true, true, false, false, false]);
    assert!(passes("x-api-key", "another"));
}
