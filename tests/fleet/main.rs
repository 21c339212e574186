//! One limit for a fleet: two Envoys, a rate limit service, Redis, all of them real.

mod limits;
mod outages;
#[path = "../support/mod.rs"]
mod support;

use serde_json::{Value, json};

use support::fleet::{self, CLUSTER, Outcome, Redis, Service};

/// A limit of so many a minute for every value of `x-run`.
fn policy(requests_per_unit: u32) -> Value {
    json!({"rateLimits": [{"name": "fleet", "global": {
        "cluster": CLUSTER, "domain": "web", "timeout": "10s", "failureMode": "deny",
        "descriptors": [{"entries": [{"key": "run", "value": {"header": "x-run"}}]}],
        "limit": {"requestsPerUnit": requests_per_unit, "unit": "MINUTE"},
    }}]})
}

#[test]
fn two_envoys_let_through_what_one_limit_says() {
    let redis = Redis::start(false).unwrap();
    let service = Service::start(&redis).unwrap();
    let policy = policy(300);
    let envoys: Vec<_> = (0..2).map(|_| fleet::envoy(&policy, service.address, 2).unwrap()).collect();
    let addresses: Vec<_> = envoys.iter().map(|(_, address)| *address).collect();
    // A window begins with its first request, and is longer than this takes.
    let outcome = fleet::flood(&addresses, 4, 900, |_| vec![("x-run", "one".to_owned())]);
    assert_eq!(outcome, Outcome { passed: 300, refused: 600, failed: 0 });
    // Most refusals were not asked about, in either of them.
    for (envoy, _) in &envoys {
        let result = |result: &str| {
            let counted = envoy.prometheus();
            let labelled = counted.iter().filter(|(series, _)| {
                series.name == "meshfilter_rate_limit_service_total"
                    && series.labels.get("result").is_some_and(|label| label == result)
            });
            labelled.map(|(_, value)| *value).sum::<u64>()
        };
        support::envoy::wait_until("the counters", || {
            (result("allowed") > 0 && result("remembered") > 0).then_some(())
        })
        .unwrap();
        assert!(result("refused") <= 8, "at most one for each request under way, {}", result("refused"));
    }
    // Every user has a limit of its own, and nothing is left of those that are over.
    let users = fleet::flood(&addresses, 4, 1000, |number| vec![("x-run", format!("user {number}"))]);
    assert_eq!(users, Outcome { passed: 1000, refused: 0, failed: 0 });
    assert_eq!(redis.keys().unwrap(), 1001);
    let lives = redis.ask(&["EVAL", FOREVER, "0"]).unwrap();
    assert_eq!(lives, ":0", "every key has its end");
}

/// How many keys have no end, or one that is later than their window's.
const FOREVER: &str = "local n = 0
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left < 0 or left > 60000 then n = n + 1 end
end
return n";
