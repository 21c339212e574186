//! Buckets of limits without a key, where workers have memory in common.

use super::hosts::Celled;
use super::*;
use meshfilter_core::policy::rate_limit::global::message::{Code, RateLimitResponse, frame};

fn of(number: u64, bound: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20) % bound
}

#[test]
fn a_bucket_that_stands_by_itself_decides_as_one_in_a_set() {
    let sizes = |tokens: u32, per_fill: u32, interval: &str| json!({"maxTokens": tokens, "tokensPerFill": per_fill, "fillInterval": interval});
    for limits in [
        json!([{"name": "all", "tokenBucket": sizes(10, 3, "7s"), "headers": "draft03"}]),
        json!([{"name": "all", "tokenBucket": sizes(200, 1, "1s"), "cost": 3}]),
        json!([{"name": "all", "mode": "shadow", "tokenBucket": sizes(5, 1, "1s")}]),
        // All or none, beside another one and beside those of users.
        json!([
            {"name": "wide", "tokenBucket": sizes(40, 10, "3s")},
            {"name": "narrow", "tokenBucket": sizes(10, 5, "5s"), "headers": "draft03"},
            {"name": "user", "key": [{"header": "x-user"}], "tokenBucket": sizes(4, 1, "2s")},
        ]),
    ] {
        let (one, other) = (Fake::new(), Celled::default());
        let policies = (policy(&limits, &one), policy(&limits, &other));
        let mut refused = 0;
        for number in 0..2000 {
            let user = of(number, 7).to_string();
            let request = [("x-user", user.as_str())];
            let expected = take(&policies.0, &one, &request);
            let found = take(&policies.1, &other, &request);
            let known = |(step, facts): &(Step, Facts)| {
                (step.clone(), facts.verdicts.clone(), facts.response_edits.clone())
            };
            assert_eq!(known(&found), known(&expected), "{number} {limits}");
            refused += u32::from(found.1.verdicts.iter().any(|verdict| verdict.decision == "limited"));
            let passed = Duration::from_nanos(of(number + 1, 900_000_000));
            one.advance(passed);
            other.fake.advance(passed);
        }
        assert!((100..2000).contains(&refused), "{refused} {limits}");
    }
}

#[test]
fn policies_of_one_name_share_it_and_a_new_document_finds_what_was_taken() {
    let host = Celled::default();
    let limits = |tokens| json!([{"name": "all", "tokenBucket": bucket(tokens)}]);
    let (one, other) = (policy(&limits(3), &host), policy(&limits(3), &host));
    assert!(passes(&one, &host, &[]));
    assert!(passes(&other, &host, &[]));
    assert!(passes(&one, &host, &[]));
    assert!(!passes(&other, &host, &[]));
    let larger = policy(&limits(4), &host);
    assert!(passes(&larger, &host, &[]));
    assert!(!passes(&larger, &host, &[]));
    let renamed = policy(&json!([{"name": "another", "tokenBucket": bucket(1)}]), &host);
    assert!(passes(&renamed, &host, &[]));
    assert_eq!(host.cells.lock().unwrap().len(), 2);
}

#[test]
fn what_was_taken_is_given_back() {
    let host = Celled::default();
    let service = json!({"cluster": "rls", "domain": "web", "descriptors": [{"entries": [{"key": "user", "value": {"header": "x-user"}}]}]});
    let limits = json!([{"name": "all", "tokenBucket": bucket(1)}, {"name": "fleet", "global": service}]);
    let limits = policy(&limits, &host).rate_limits;
    let (mut request, mut facts) = (request(&[("x-user", "a")]), Facts::default());
    assert_eq!(limits.take(&request, &mut facts, &host), Step::Continue);
    assert!(matches!(limits.ask(&mut request, &mut facts, &host), Step::Wait(_)));
    let over = RateLimitResponse { overall_code: Code::OverLimit.into(), ..RateLimitResponse::default() };
    host.fake.set_call_response([(":status", "200")].into_iter().collect(), frame(&over));
    host.fake.set_call_trailers([("grpc-status", "0")].into_iter().collect());
    let (token, _) = host.fake.take_calls().remove(0);
    assert!(limits.on_http_call_response(token, &mut facts, &host));
    refused(limits.ask(&mut request, &mut facts, &host));
    assert_eq!(limits.take(&request, &mut Facts::default(), &host), Step::Continue);
    refused(limits.take(&request, &mut Facts::default(), &host));
}
