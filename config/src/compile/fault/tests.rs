use serde_json::{Value, json};

use super::*;
use meshfilter_core::policy::Mode;
use meshfilter_json::{self as json, Errors};

/// What a fault compiles to, its errors and its warnings.
fn compiled(source: &Value) -> (Fault, Vec<String>, Vec<String>) {
    let errors = Errors::default();
    let (fault, warnings) = {
        let cx = Context::new(&|_| None, &errors);
        let root = Path::ROOT.field("fault");
        let source: document::Fault = json::read(source, &root, &errors).unwrap_or_default();
        (compile(&source, &root, &"entry".into(), &cx), cx.warnings)
    };
    let text = |errors: Errors| errors.into_vec().iter().map(ToString::to_string).collect();
    (fault, text(errors), text(warnings))
}

fn good(source: Value) -> Fault {
    let (fault, errors, warnings) = compiled(&source);
    assert_eq!((errors, warnings), (Vec::<String>::new(), Vec::<String>::new()), "{source}");
    fault
}

#[test]
fn istios_fault_is_read() {
    let fault = good(json!({
        "delay": {"percentage": {"value": 50}, "fixedDelay": "5s"},
        "abort": {"percentage": {"value": 0.1}, "httpStatus": 500},
    }));
    let delay = fault.delay.unwrap();
    assert_eq!((delay.parts_per_million, delay.delay), (500_000, Delay::Fixed(Duration::from_secs(5))));
    let abort = fault.abort.unwrap();
    assert_eq!((abort.parts_per_million, abort.ending), (1000, Ending::Http(500)));
    assert_eq!(abort.body, b"fault filter abort");
    assert_eq!((&*fault.name, fault.mode, fault.until), ("entry", Mode::Enforce, None));
}

#[test]
fn istios_older_percent_is_read() {
    let fault = good(json!({"delay": {"percent": 7, "fixedDelay": "1ms"}}));
    assert_eq!(fault.delay.unwrap().parts_per_million, 70_000);
}

#[test]
fn a_grpc_status_is_a_name_or_a_number() {
    for (status, number) in [
        (json!("UNAVAILABLE"), 14),
        (json!("OK"), 0),
        (json!("UNAUTHENTICATED"), 16),
        (json!(5), 5),
        (json!(5.0), 5),
    ] {
        let fault = good(json!({"abort": {"percentage": {"value": 1}, "grpcStatus": status}}));
        assert_eq!(fault.abort.unwrap().ending, Ending::Grpc(number), "{status}");
    }
}

#[test]
fn what_is_beyond_istio_is_read() {
    let fault = good(json!({
        "delay": {"percentage": {"value": 1}, "distribution": {"uniform": {"max": "2s"}}},
        "abort": {"percentage": {"value": 1}, "httpStatus": 503, "body": "{}", "headers": {"Content-Type": "application/json"}},
        "maxActive": 3,
        "until": "2026-01-31T18:00:00Z",
        "mode": "shadow",
    }));
    let uniform = Delay::Uniform { min: Duration::ZERO, max: Duration::from_secs(2) };
    assert_eq!(fault.delay.unwrap().delay, uniform);
    let abort = fault.abort.unwrap();
    assert_eq!(abort.headers, [("content-type".to_owned(), b"application/json".to_vec())]);
    assert_eq!((abort.body.as_slice(), fault.mode), (b"{}".as_slice(), Mode::Shadow));
    assert_eq!(fault.until, Some(Duration::from_secs(1_769_882_400)));
    assert!(fault.max_active.is_some());
    let second = Duration::from_secs(1);
    for (distribution, expected) in [
        (json!({"normal": {"mean": "1s", "stddev": "1s"}}), Delay::Normal { mean: second, stddev: second }),
        (json!({"exponential": {"mean": "1s"}}), Delay::Exponential { mean: second }),
    ] {
        let fault = good(json!({"delay": {"percentage": {"value": 1}, "distribution": distribution}}));
        assert_eq!(fault.delay.unwrap().delay, expected);
    }
    let reset = good(json!({"abort": {"percentage": {"value": 1}, "reset": true}}));
    assert_eq!(reset.abort.unwrap().ending, Ending::Reset);
}

#[test]
fn with_header_controlled_the_request_says_what() {
    let percentage = json!({"percentage": {"value": 100}});
    let fault = good(json!({"headerControlled": true, "delay": percentage, "abort": percentage}));
    assert_eq!(fault.delay.unwrap().delay, Delay::Headers);
    assert_eq!(fault.abort.unwrap().ending, Ending::Headers);
}

#[test]
fn without_a_percentage_it_never_happens_and_that_is_said() {
    let (fault, errors, warnings) = compiled(&json!({"delay": {"fixedDelay": "1s"}}));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(fault.delay.unwrap().parts_per_million, 0);
    assert_eq!(
        warnings,
        ["fault.delay: no percentage, so it never happens; add percentage: {value: 100} for every request"]
    );
}

#[test]
fn every_mistake_is_named_with_what_would_be_right() {
    let half = json!({"value": 50});
    for (source, expected) in [
        (json!({}), "fault: a fault that does nothing; add delay or abort"),
        (
            json!({"delay": {"percentage": half, "fixedDelay": "999us"}}),
            "fault.delay.fixedDelay: 999µs is too short for a delay; use 1ms or more",
        ),
        (json!({"delay": {"percentage": half}}), "fault.delay: no length; add fixedDelay, such as 5s"),
        (
            json!({"delay": {"percentage": half, "fixedDelay": "1s", "distribution": {"exponential": {"mean": "1s"}}}}),
            "fault.delay: both fixedDelay and distribution; keep one",
        ),
        (
            json!({"delay": {"percentage": half, "fixedDelay": "1s", "exponentialDelay": "1s"}}),
            "fault.delay.exponentialDelay: Istio has this field and refuses it; use distribution: {exponential: {mean: …}}",
        ),
        (
            json!({"delay": {"percentage": half, "percent": 5, "fixedDelay": "1s"}}),
            "fault.delay: both percentage and percent; keep percentage",
        ),
        (
            json!({"delay": {"percent": -5, "fixedDelay": "1s"}}),
            "fault.delay.percent: -5 is not a percentage; use a whole number from 0 to 100",
        ),
        (
            json!({"delay": {"percentage": {"value": 100.5}, "fixedDelay": "1s"}}),
            "fault.delay.percentage.value: 100.5 is not a percentage; use a number from 0 to 100",
        ),
        (
            json!({"delay": {"percentage": half, "distribution": {}}}),
            "fault.delay.distribution: no distribution; use one of uniform, normal, exponential",
        ),
        (
            json!({"delay": {"percentage": half, "distribution": {"uniform": {"max": "1s"}, "exponential": {"mean": "1s"}}}}),
            "fault.delay.distribution: more than one distribution; keep one of uniform, normal, exponential",
        ),
        (
            json!({"delay": {"percentage": half, "distribution": {"uniform": {"min": "2s", "max": "1s"}}}}),
            "fault.delay.distribution.uniform: min is longer than max; use a min that is at most max",
        ),
        (
            json!({"delay": {"percentage": half, "distribution": {"uniform": {}}}}),
            "fault.delay.distribution.uniform: \"max\" is missing; add it",
        ),
        (
            json!({"delay": {"percentage": half, "distribution": {"normal": {"mean": "1s"}}}}),
            "fault.delay.distribution.normal: \"stddev\" is missing; add it",
        ),
        (
            json!({"delay": {"percentage": half, "distribution": {"exponential": {"mean": "0s"}}}}),
            "fault.delay.distribution.exponential.mean: 0ns is too short for a delay; use 1ms or more",
        ),
        (
            json!({"abort": {"percentage": half}}),
            "fault.abort: no status; add one of httpStatus, grpcStatus, reset",
        ),
        (
            json!({"abort": {"percentage": half, "httpStatus": 500, "grpcStatus": 14}}),
            "fault.abort: more than one way to end; keep one of httpStatus, grpcStatus, reset",
        ),
        (
            json!({"abort": {"percentage": half, "httpStatus": 205, "body": "gone"}}),
            "fault.abort.body: an answer of 205 has no body; leave it out or use 200",
        ),
        (
            json!({"abort": {"percentage": half, "httpStatus": 600}}),
            "fault.abort.httpStatus: 600 is not a status to answer with; use one from 200 to 599",
        ),
        (
            json!({"abort": {"percentage": half, "httpStatus": -1}}),
            "fault.abort.httpStatus: -1 is out of range; use a whole number from 0 to 4294967295",
        ),
        (
            json!({"abort": {"percentage": half, "grpcStatus": "GONE"}}),
            "fault.abort.grpcStatus: \"GONE\" is not a gRPC status; use one such as UNAVAILABLE",
        ),
        (
            json!({"abort": {"percentage": half, "grpcStatus": -1}}),
            "fault.abort.grpcStatus: -1 is out of range; use a gRPC status such as UNAVAILABLE or 14",
        ),
        (
            json!({"abort": {"percentage": half, "httpStatus": 500, "http2Error": "x"}}),
            "fault.abort.http2Error: Istio has this field and refuses it; use reset: true to close the stream",
        ),
        (
            json!({"abort": {"percentage": half, "reset": true, "body": "x"}}),
            "fault.abort: a reset sends no body and no headers; leave them out",
        ),
        (
            json!({"abort": {"percentage": half, "httpStatus": 500, "headers": {":status": "200"}}}),
            "fault.abort.headers[:status]: a header that begins with a colon belongs to the proxy; leave it out",
        ),
        (
            json!({"abort": {"percentage": half, "httpStatus": 500, "headers": {"x": "a\r\nb"}}}),
            "fault.abort.headers[x]: a header's value has no line ends and no NUL; take them out",
        ),
        (
            json!({"abort": {"percentage": half, "httpStatus": 500}, "maxActive": 0}),
            "fault.maxActive: 0 lets no fault happen; use a whole number from 1, or no fault",
        ),
        (
            json!({"abort": {"percentage": half, "httpStatus": 500}, "until": "tomorrow"}),
            "fault.until: \"tomorrow\" is not a date; use one such as 2026-01-31T18:00:00Z",
        ),
        (
            json!({"headerControlled": true, "delay": {"percentage": half, "fixedDelay": "1s"}}),
            "fault.delay: with headerControlled the request says how long; keep only percentage",
        ),
        (
            json!({"headerControlled": true, "abort": {"percentage": half, "httpStatus": 500}}),
            "fault.abort: with headerControlled the request says the status; leave it out here",
        ),
    ] {
        assert_eq!(compiled(&source).1, [expected], "{source}");
    }
}
