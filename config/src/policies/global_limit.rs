use std::time::Duration;

use prost::Message;
use serde_json::{Value, json};

use crate as config;
use meshfilter_core::host::fake::Fake;
use meshfilter_core::host::{HeaderMap, Host, HttpCall, LocalReply};
use meshfilter_core::policy::rate_limit::global::message::{
    Code, CurrentLimit, DescriptorStatus, Entry, HeaderValue, RateLimitDescriptor, RateLimitOverride,
    RateLimitRequest, RateLimitResponse, frame, unframe,
};
use meshfilter_core::policy::{Decision, Facts, Policy, Step, Wait};
use meshfilter_core::request::{HeaderEdit, Request};

/// Limits, a request under way, and the proxy.
struct Asking {
    host: Fake,
    policy: Policy,
    request: Request<'static>,
    facts: Facts,
}

fn entry(more: Value) -> Value {
    let mut entry = json!({"name": "fleet", "global": {
        "cluster": "rls", "domain": "web",
        "descriptors": [{"entries": [{"key": "user", "value": {"header": "x-user"}}]}],
    }});
    for (name, value) in more.as_object().cloned().unwrap_or_default() {
        if ["failureMode", "limit"].contains(&name.as_str()) {
            entry["global"][&name] = value;
        } else {
            entry[name] = value;
        }
    }
    entry
}

impl Asking {
    fn new(limits: &Value, headers: &[(&str, &str)]) -> Self {
        let host = Fake::new();
        let document = json!({"rateLimits": limits}).to_string();
        let compiled = config::load(document.as_bytes(), &|_| None);
        let mut policy = compiled.map_err(|errors| format!("{errors:?}")).unwrap().policy;
        policy.start(&host);
        let mut asking = Asking { host, policy, request: Request::default(), facts: Facts::default() };
        asking.next(headers);
        asking
    }

    /// Another request under the same limits.
    fn next(&mut self, headers: &[(&str, &str)]) {
        self.request = Request::new(headers.iter().copied().collect::<HeaderMap>(), Vec::new(), 0);
        self.facts = Facts::default();
    }

    /// Both stages, as the pipeline runs them.
    fn begin(&mut self) -> Step {
        match self.policy.rate_limits.take(&self.request, &mut self.facts, &self.host) {
            Step::Continue => self.go_on(),
            step => step,
        }
    }

    fn go_on(&mut self) -> Step {
        self.policy.rate_limits.ask(&mut self.request, &mut self.facts, &self.host)
    }

    fn answer(
        &mut self,
        token: u32,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        trailers: &[(&str, &str)],
    ) -> bool {
        self.host.set_call_response(headers.iter().copied().collect(), body);
        self.host.set_call_trailers(trailers.iter().copied().collect());
        self.policy.rate_limits.on_http_call_response(token, &mut self.facts, &self.host)
    }

    fn say(&mut self, token: u32, answer: &RateLimitResponse) -> bool {
        self.answer(token, &[(":status", "200")], frame(answer), &[("grpc-status", "0")])
    }

    fn asked(&self) -> (u32, HttpCall) {
        let mut calls = self.host.take_calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.remove(0)
    }

    fn verdicts(&self) -> Vec<&'static str> {
        self.facts.verdicts.iter().map(|verdict| verdict.decision).collect()
    }
}

fn code(code: Code) -> RateLimitResponse {
    RateLimitResponse { overall_code: code.into(), ..RateLimitResponse::default() }
}

fn status(code: Code, limit: u32, remaining: u32, seconds: i64, nanos: i32) -> DescriptorStatus {
    DescriptorStatus {
        code: code.into(),
        current_limit: Some(CurrentLimit { requests_per_unit: limit }),
        limit_remaining: remaining,
        duration_until_reset: Some(prost_types::Duration { seconds, nanos }),
    }
}

fn refused(step: Step) -> LocalReply {
    match step {
        Step::Reply(reply) => *reply,
        other => panic!("not refused: {other:?}"),
    }
}

fn texts(reply: &LocalReply) -> Vec<(&str, &str)> {
    reply.headers.iter().map(|(name, value)| (name.as_str(), std::str::from_utf8(value).unwrap())).collect()
}

#[test]
fn the_service_is_asked_as_envoy_asks_it_and_the_request_waits() {
    let mut asking = Asking::new(&json!([entry(json!({"cost": 3}))]), &[("x-user", "alice")]);
    let step = asking.begin();
    let (token, call) = asking.asked();
    assert_eq!((call.cluster.as_str(), call.timeout), ("rls", Duration::from_millis(20)));
    let header = |name: &str| call.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    assert_eq!(header(":method"), Some("POST"));
    assert_eq!(header(":path"), Some("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"));
    assert_eq!((header("content-type"), header("te")), (Some("application/grpc"), Some("trailers")));
    let entries = vec![Entry { key: "user".into(), value: "alice".into() }];
    let expected = RateLimitRequest {
        domain: "web".into(),
        descriptors: vec![RateLimitDescriptor { entries, limit: None }],
        hits_addend: 3,
    };
    assert_eq!(unframe(&call.body), Some(expected));
    let now = meshfilter_core::host::Host::now(&asking.host);
    assert_eq!(step, Step::Wait(Wait::Answers(now + 20_000_000)));
    assert_eq!(asking.go_on(), step, "it goes on waiting, and asks once");
    assert!(asking.host.take_calls().is_empty());
    assert!(!asking.say(token + 7, &code(Code::Ok)), "somebody else's answer");
    assert!(asking.say(token, &code(Code::Ok)));
    assert_eq!(asking.go_on(), Step::Continue);
    assert_eq!((asking.verdicts(), asking.facts.decision), (vec!["allowed"], Decision::Allowed));
}

#[test]
fn over_the_limit_is_refused_as_envoys_filter_does_and_says_when_to_come_again() {
    let mut asking = Asking::new(&json!([entry(json!({}))]), &[("x-user", "a")]);
    asking.begin();
    let (token, _) = asking.asked();
    let answer = RateLimitResponse {
        statuses: vec![
            status(Code::Ok, 5, 2, 900, 0),
            status(Code::OverLimit, 10, 0, 6, 1),
            status(Code::OverLimit, 100, 0, 2, 0),
        ],
        response_headers_to_add: vec![
            HeaderValue { key: "X-Why".into(), value: "plan".into(), raw_value: Vec::new() },
            HeaderValue { key: ":status".into(), value: "200".into(), raw_value: Vec::new() },
            HeaderValue { key: "x-bad".into(), value: "a\r\nb".into(), raw_value: Vec::new() },
        ],
        raw_body: b"slow down".to_vec(),
        ..code(Code::OverLimit)
    };
    assert!(asking.say(token, &answer));
    let reply = refused(asking.go_on());
    assert_eq!((reply.status, reply.details.as_str()), (429, "request_rate_limited"));
    assert_eq!(reply.body, b"slow down");
    assert_eq!(
        texts(&reply),
        [
            ("x-why", "plan"),
            ("x-envoy-ratelimited", "true"),
            ("retry-after", "7"),
            ("x-ratelimit-limit", "10"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "7"),
        ]
    );
    assert_eq!((asking.verdicts(), asking.facts.decision), (vec!["limited"], Decision::RateLimited));
}

#[test]
fn the_policy_has_the_last_word_on_how_to_refuse() {
    let own = entry(json!({"status": 503, "body": "busy", "headers": "none"}));
    let mut asking = Asking::new(&json!([own]), &[("x-user", "a")]);
    asking.begin();
    let (token, _) = asking.asked();
    let answer =
        RateLimitResponse { statuses: vec![status(Code::OverLimit, 1, 0, 1, 0)], ..code(Code::OverLimit) };
    assert!(asking.say(token, &answer));
    let reply = refused(asking.go_on());
    assert_eq!((reply.status, reply.body.as_slice()), (503, b"busy".as_slice()));
    assert_eq!(texts(&reply), [("x-envoy-ratelimited", "true")]);
}

#[test]
fn without_an_answer_the_failure_mode_decides() {
    let silent = |_: &mut Asking, _: u32| {};
    let ok = || frame(&code(Code::Ok));
    type Failure<'a> = &'a dyn Fn(&mut Asking, u32);
    let failures: [(&str, Failure<'_>); 9] = [
        ("silence", &silent),
        ("no headers at all", &|asking, token| assert!(asking.answer(token, &[], Vec::new(), &[]))),
        ("a status", &|asking, token| {
            assert!(asking.answer(token, &[(":status", "503")], ok(), &[("grpc-status", "0")]));
        }),
        ("a grpc-status", &|asking, token| {
            assert!(asking.answer(token, &[(":status", "200"), ("grpc-status", "14")], Vec::new(), &[]));
        }),
        ("a grpc-status in the trailers", &|asking, token| {
            assert!(asking.answer(token, &[(":status", "200")], ok(), &[("grpc-status", "13")]));
        }),
        ("no grpc-status", &|asking, token| {
            assert!(asking.answer(token, &[(":status", "200")], ok(), &[]));
        }),
        ("no message", &|asking, token| {
            assert!(asking.answer(token, &[(":status", "200")], Vec::new(), &[("grpc-status", "0")]));
        }),
        ("noise", &|asking, token| {
            let body = b"\0\0\0\0\x02\xff\xff".to_vec();
            assert!(asking.answer(token, &[(":status", "200")], body, &[("grpc-status", "0")]));
        }),
        ("an unknown code", &|asking, token| assert!(asking.say(token, &code(Code::Unknown)))),
    ];
    for (what, fail) in failures {
        for (mode, passes) in [("allow", true), ("deny", false)] {
            let limits = json!([entry(json!({"failureMode": mode}))]);
            let mut asking = Asking::new(&limits, &[("x-user", "a")]);
            asking.begin();
            let (token, _) = asking.asked();
            fail(&mut asking, token);
            asking.host.advance(Duration::from_millis(20));
            let step = asking.go_on();
            assert_eq!(asking.verdicts(), ["unavailable"], "{what}");
            if passes {
                assert_eq!(step, Step::Continue, "{what}");
            } else {
                let reply = refused(step);
                assert_eq!((reply.status, reply.details.as_str()), (500, "rate_limiter_error"), "{what}");
                assert_eq!(asking.facts.decision, Decision::RateLimited);
            }
        }
    }
}

#[test]
fn a_cluster_that_is_not_there_is_no_answer_either() {
    let mut asking = Asking::new(&json!([entry(json!({"failureMode": "deny"}))]), &[("x-user", "a")]);
    asking.host.refuse_http_calls(true);
    assert_eq!(refused(asking.begin()).details, "rate_limiter_error");
}

#[test]
fn it_applies_only_where_its_match_holds_and_a_descriptor_is_whole() {
    let limit = json!({"name": "fleet", "match": [{"method": {"exact": "POST"}}], "global": {
    "cluster": "rls", "domain": "web", "descriptors": [
        {"entries": [{"key": "a", "value": {"header": "x-a"}}, {"key": "b", "value": {"header": "x-b"}}]},
        {"entries": [{"key": "plan", "value": {"header": "x-plan", "default": "free"}}]},
    ]}});
    let mut asking = Asking::new(&json!([limit]), &[(":method", "GET"), ("x-a", "1"), ("x-b", "2")]);
    assert_eq!(asking.begin(), Step::Continue);
    assert!(asking.host.take_calls().is_empty() && asking.verdicts().is_empty());
    asking.next(&[(":method", "POST"), ("x-a", "1")]);
    asking.begin();
    let question: RateLimitRequest = unframe(&asking.asked().1.body).unwrap();
    let entries = vec![Entry { key: "plan".into(), value: "free".into() }];
    assert_eq!(question.descriptors, [RateLimitDescriptor { entries, limit: None }]);
    let mut asking = Asking::new(&json!([entry(json!({}))]), &[]);
    assert_eq!(asking.begin(), Step::Continue, "without a descriptor nothing is asked");
}

#[test]
fn a_host_is_asked_about_by_one_name_however_it_is_spelled() {
    let limit = json!({"name": "fleet", "global": {"cluster": "rls", "domain": "web", "descriptors": [
        {"entries": [{"key": "host", "value": {"header": "host"}}]},
    ]}});
    for spelled in ["a.example", "A.Example:443", "a.example.:80"] {
        let mut asking = Asking::new(&json!([limit]), &[(":authority", spelled)]);
        asking.begin();
        let question: RateLimitRequest = unframe(&asking.asked().1.body).unwrap();
        assert_eq!(question.descriptors[0].entries[0].value, "a.example", "{spelled}");
    }
}

#[test]
fn bytes_that_are_no_text_are_counted_and_not_a_way_around() {
    let mut asking = Asking::new(&json!([entry(json!({}))]), &[]);
    asking.request = Request::new([("x-user", b"\xff\xfe".as_slice())].into_iter().collect(), Vec::new(), 0);
    asking.begin();
    let question: RateLimitRequest = unframe(&asking.asked().1.body).unwrap();
    assert_eq!(question.descriptors[0].entries[0].value, "\u{fffd}\u{fffd}");
}

#[test]
fn a_refusal_by_the_service_gives_the_buckets_their_tokens_back() {
    let bucket = json!({"name": "local", "tokenBucket": {"maxTokens": 1, "fillInterval": "24h"}});
    let mut asking = Asking::new(&json!([bucket, entry(json!({}))]), &[("x-user", "a")]);
    for _ in 0..3 {
        asking.next(&[("x-user", "a")]);
        assert!(matches!(asking.begin(), Step::Wait(_)), "there is a token");
        let (token, _) = asking.asked();
        assert!(asking.say(token, &code(Code::OverLimit)));
        refused(asking.go_on());
    }
    asking.next(&[("x-user", "a")]);
    asking.begin();
    let (token, _) = asking.asked();
    assert!(asking.say(token, &code(Code::Ok)));
    assert_eq!(asking.go_on(), Step::Continue);
    asking.next(&[("x-user", "a")]);
    assert_eq!(refused(asking.begin()).details, "local_rate_limited");
    assert!(asking.host.take_calls().is_empty(), "whom a bucket refuses the service is not asked about");
}

#[test]
fn a_shadow_limit_asks_and_counts_and_changes_nothing() {
    let mut asking = Asking::new(&json!([entry(json!({"mode": "shadow"}))]), &[("x-user", "a")]);
    asking.begin();
    let (token, _) = asking.asked();
    assert!(asking.say(token, &code(Code::OverLimit)));
    assert_eq!(asking.go_on(), Step::Continue);
    assert_eq!((asking.verdicts(), asking.facts.decision), (vec!["limited"], Decision::Allowed));
}

#[test]
fn an_allowed_request_carries_what_the_service_says_and_the_tightest_limit() {
    let bucket = json!({
        "name": "local", "headers": "draft03", "tokenBucket": {"maxTokens": 10, "fillInterval": "24h"},
    });
    let limits = json!([bucket, entry(json!({"headers": "draft03"}))]);
    for (remaining, told) in [(3, "3"), (40, "9")] {
        let mut asking = Asking::new(&limits, &[("x-user", "a")]);
        asking.begin();
        let (token, _) = asking.asked();
        let added =
            |key: &str| HeaderValue { key: key.into(), value: String::new(), raw_value: b"v".to_vec() };
        let answer = RateLimitResponse {
            statuses: vec![status(Code::Ok, 50, remaining, 30, 0)],
            request_headers_to_add: vec![added("x-quota"), added("x-meshfilter-cluster")],
            response_headers_to_add: vec![added("x-seen")],
            ..code(Code::Ok)
        };
        assert!(asking.say(token, &answer));
        assert_eq!(asking.go_on(), Step::Continue);
        assert_eq!(asking.request.header("x-quota"), Some(b"v".as_slice()));
        assert_eq!(asking.request.header("x-meshfilter-cluster"), None);
        let edits = &asking.facts.response_edits;
        assert!(edits.contains(&HeaderEdit::Add("x-seen".into(), b"v".to_vec())));
        let remaining = HeaderEdit::Set("x-ratelimit-remaining".into(), told.into());
        assert!(edits.contains(&remaining), "{edits:?}");
        assert_eq!(edits.len(), 4);
    }
}

#[test]
fn several_services_are_asked_at_once_and_any_refusal_counts() {
    let mut other = entry(json!({"name": "other"}));
    other["global"]["cluster"] = "rls-2".into();
    let mut asking = Asking::new(&json!([entry(json!({})), other]), &[("x-user", "a")]);
    asking.begin();
    let calls = asking.host.take_calls();
    let clusters: Vec<_> = calls.iter().map(|(_, call)| call.cluster.as_str()).collect();
    assert_eq!(clusters, ["rls", "rls-2"]);
    assert!(!asking.say(calls[0].0, &code(Code::Ok)), "the other one has not answered");
    assert!(matches!(asking.go_on(), Step::Wait(_)));
    assert!(asking.say(calls[1].0, &code(Code::OverLimit)));
    assert_eq!(refused(asking.go_on()).details, "request_rate_limited");
    assert_eq!(asking.verdicts(), ["allowed", "limited"]);
}

#[test]
fn a_real_answer_of_unknown_fields_is_read() {
    // overall_code, and field 7 of a later version.
    let bytes = b"\x08\x01\x3a\x02\x08\x05";
    assert_eq!(RateLimitResponse::decode(bytes.as_slice()).unwrap().overall_code(), Code::Ok);
}

#[test]
fn the_policys_own_limit_goes_with_every_descriptor() {
    for (unit, number) in [("SECOND", 1), ("MINUTE", 2), ("HOUR", 3), ("DAY", 4), ("MONTH", 5), ("YEAR", 6)] {
        let limit = json!({"limit": {"requestsPerUnit": 100, "unit": unit}});
        let mut asking = Asking::new(&json!([entry(limit)]), &[("x-user", "a")]);
        asking.begin();
        let question: RateLimitRequest = unframe(&asking.asked().1.body).unwrap();
        let expected = RateLimitOverride { requests_per_unit: 100, unit: number };
        assert_eq!(question.descriptors[0].limit, Some(expected), "{unit}");
    }
}

impl Asking {
    /// A request of `user` that the service, if it is asked, refuses for so many seconds.
    fn over(&mut self, user: &str, seconds: i64) -> (LocalReply, bool) {
        self.next(&[("x-user", user)]);
        let step = self.begin();
        let Some((token, _)) = self.host.take_calls().pop() else { return (refused(step), false) };
        let statuses = vec![status(Code::OverLimit, 100, 0, seconds, 0)];
        assert!(self.say(token, &RateLimitResponse { statuses, ..code(Code::OverLimit) }));
        (refused(self.go_on()), true)
    }
}

#[test]
fn what_the_service_refused_is_refused_here_until_the_time_it_named() {
    let mut asking = Asking::new(&json!([entry(json!({}))]), &[]);
    let (first, was_asked) = asking.over("alice", 30);
    assert!(was_asked);
    asking.host.advance(Duration::from_millis(9500));
    let (second, was_asked) = asking.over("alice", 30);
    assert!(!was_asked, "it named a time");
    assert_eq!((second.status, &second.details), (first.status, &first.details));
    assert_eq!(
        texts(&second),
        [
            ("x-envoy-ratelimited", "true"),
            ("retry-after", "21"),
            ("x-ratelimit-limit", "100"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "21"),
        ]
    );
    assert_eq!((asking.verdicts(), asking.facts.decision), (vec!["limited"], Decision::RateLimited));
    assert!(asking.over("bob", 30).1, "somebody else");
    asking.host.advance(Duration::from_millis(20_500));
    assert!(asking.over("alice", 0).1, "the time is over");
    assert!(asking.over("alice", 0).1, "no time was named");
    asking.host.flush_counters();
    let counted = |result: &str| {
        let name = format!("meshfilter_rate_limit_service_total<policy=fleet><result={result}>");
        asking.host.metric_value(&name)
    };
    assert_eq!((counted("refused"), counted("remembered")), (4, 1));
    assert_eq!((counted("allowed"), counted("failed")), (0, 0));
}

#[test]
fn only_the_descriptors_that_were_refused_are_remembered() {
    let limit = json!({"name": "fleet", "global": {"cluster": "rls", "domain": "web", "descriptors": [
        {"entries": [{"key": "user", "value": {"header": "x-user"}}]},
        {"entries": [{"key": "plan", "value": {"header": "x-plan"}}]},
    ]}});
    let mut asking = Asking::new(&json!([limit]), &[("x-user", "a"), ("x-plan", "free")]);
    asking.begin();
    let (token, _) = asking.asked();
    let statuses = vec![status(Code::OverLimit, 10, 0, 60, 0), status(Code::Ok, 10, 5, 60, 0)];
    assert!(asking.say(token, &RateLimitResponse { statuses, ..code(Code::OverLimit) }));
    refused(asking.go_on());
    asking.next(&[("x-user", "b"), ("x-plan", "free")]);
    assert!(matches!(asking.begin(), Step::Wait(_)), "the plan was not refused");
    asking.host.take_calls();
    asking.next(&[("x-user", "a"), ("x-plan", "gold")]);
    refused(asking.begin());
    assert!(asking.host.take_calls().is_empty(), "the user was");
}

#[test]
fn an_answer_that_does_not_say_which_descriptor_it_refuses_is_not_remembered() {
    let mut asking = Asking::new(&json!([entry(json!({}))]), &[]);
    for _ in 0..2 {
        asking.next(&[("x-user", "a")]);
        asking.begin();
        let (token, _) = asking.asked();
        let over = || status(Code::OverLimit, 1, 0, 60, 0);
        let answer = RateLimitResponse { statuses: vec![over(), over()], ..code(Code::OverLimit) };
        assert!(asking.say(token, &answer));
        refused(asking.go_on());
    }
}

#[test]
fn in_shadow_a_remembered_refusal_counts_and_changes_nothing() {
    let mut asking = Asking::new(&json!([entry(json!({"mode": "shadow"}))]), &[("x-user", "a")]);
    asking.begin();
    let (token, _) = asking.asked();
    let statuses = vec![status(Code::OverLimit, 1, 0, 60, 0)];
    assert!(asking.say(token, &RateLimitResponse { statuses, ..code(Code::OverLimit) }));
    assert_eq!(asking.go_on(), Step::Continue);
    asking.next(&[("x-user", "a")]);
    assert_eq!(asking.begin(), Step::Continue, "nothing to wait for");
    assert_eq!((asking.verdicts(), asking.host.take_calls().len()), (vec!["limited"], 0));
}

#[test]
fn a_bucket_on_the_same_entry_sheds_a_flood_before_the_service_sees_it() {
    let bucket = json!({"maxTokens": 2, "fillInterval": "24h"});
    let both = entry(json!({"tokenBucket": bucket, "key": [{"header": "x-user"}], "cost": 1}));
    let mut asking = Asking::new(&json!([both]), &[]);
    for _ in 0..2 {
        asking.next(&[("x-user", "a")]);
        asking.begin();
        let (token, _) = asking.asked();
        assert!(asking.say(token, &code(Code::OverLimit)));
        assert_eq!(refused(asking.go_on()).details, "request_rate_limited");
        assert_eq!(asking.verdicts(), ["limited"], "one entry, one verdict");
    }
    asking.next(&[("x-user", "a")]);
    assert_eq!(refused(asking.begin()).details, "local_rate_limited", "asking spent the tokens");
    assert_eq!((asking.verdicts(), asking.host.take_calls().len()), (vec!["limited"], 0));
    asking.next(&[("x-user", "b")]);
    asking.begin();
    let (token, _) = asking.asked();
    assert!(asking.say(token, &code(Code::Ok)));
    assert_eq!(asking.go_on(), Step::Continue);
    assert_eq!(asking.verdicts(), ["allowed"]);
    asking.next(&[]);
    assert_eq!(asking.begin(), Step::Continue, "neither has its key");
}
