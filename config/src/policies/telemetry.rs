use std::rc::Rc;

use serde_json::{Value, json};

use crate::{Errors, compile};
use meshfilter_core::host::fake::{Fake, Stream};
use meshfilter_core::host::{Host, MapType};
use meshfilter_core::policy::metric::{metric_name, split_metric_name};
use meshfilter_core::policy::telemetry::{MAX_LABEL_SETS, Telemetry, record_version};
use meshfilter_core::policy::{Decision, Facts, Mode, Policy, Token};
use meshfilter_core::request::{HeaderEdit, Request};

/// A proxy, a policy that is only telemetry, and requests one after the other.
struct Bench {
    host: Fake,
    policy: Policy,
}

/// What became of a request before telemetry is asked.
struct Case {
    request: Vec<(&'static str, &'static str)>,
    response: Vec<(&'static str, &'static str)>,
    properties: Vec<(&'static str, Vec<u8>)>,
    facts: Facts,
}

impl Default for Case {
    fn default() -> Self {
        Case {
            request: vec![(":method", "GET"), (":path", "/"), (":authority", "example.com")],
            response: vec![(":status", "200")],
            properties: vec![("response.code", 200u64.to_le_bytes().to_vec())],
            facts: Facts::default(),
        }
    }
}

impl Case {
    fn header(name: &'static str, value: &'static str) -> Self {
        let mut case = Case::default();
        case.request.push((name, value));
        case
    }
}

impl Bench {
    fn new(telemetry: Value) -> Self {
        let environment = |name: &str| (name == "REGION").then(|| "eu".to_owned());
        let compiled = compile(&json!({"telemetry": telemetry}), &environment, Errors::default());
        let policy = compiled.map_err(|errors| format!("{errors:?}")).unwrap().policy;
        Bench { host: Fake::new(), policy }
    }

    fn tag(tag: Value) -> Self {
        Self::new(json!({"tags": [tag]}))
    }

    /// Takes a request through all phases; returns the stream and the request as the upstream sees it.
    fn run(&self, case: Case) -> (Stream, Request<'static>) {
        let properties = case.properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        self.host.open_stream(
            1,
            Stream {
                response: case.response.into_iter().collect(),
                properties: properties.collect(),
                ..Stream::default()
            },
        );
        let attribute =
            |path: &Vec<String>| self.host.property(&path.iter().map(String::as_str).collect::<Vec<_>>());
        let attributes = self.policy.attributes.paths().iter().map(attribute).collect();
        let mut request = Request::new(case.request.into_iter().collect(), attributes, self.host.now());
        let mut facts = case.facts;
        let telemetry = &self.policy.telemetry;
        telemetry.on_decided(&mut request, &mut facts, &self.host);
        telemetry.on_response(&mut facts, &self.host);
        for edit in std::mem::take(&mut facts.response_edits) {
            if let HeaderEdit::Set(name, value) = edit {
                self.host.set_header(MapType::HttpResponseHeaders, &name, &value).unwrap();
            }
        }
        telemetry.on_log(request.received_at, &mut facts, &self.host);
        (self.host.close_stream(1).unwrap(), request)
    }

    fn requests(&self, labels: &[(&str, &str)]) -> u64 {
        self.host.metric_value(&metric_name("meshfilter_requests_total", labels))
    }

    /// The value of the one tag in the one request that was counted.
    fn told(&self, name: &str) -> String {
        let metrics = self.host.metrics();
        let mut values = metrics.keys().filter_map(|flat| {
            let (metric, labels) = split_metric_name(flat);
            let value = labels.iter().find(|(label, _)| *label == name)?.1;
            (metric == "meshfilter_requests_total").then(|| value.to_owned())
        });
        let value = values.next().unwrap();
        assert_eq!(values.next(), None);
        value
    }
}

fn with_claims(claims: Value) -> Case {
    let token = Token { claims: claims.as_object().unwrap().clone(), ..Token::default() };
    Case { facts: Facts { token: Some(Rc::new(token)), ..Facts::default() }, ..Case::default() }
}

#[test]
fn a_request_is_counted_by_route_destination_decision_and_code() {
    let bench = Bench::new(json!({}));
    let facts = || Facts {
        route: Some("canary".into()),
        destination: Some("webapp|v2".into()),
        decision: Decision::RateLimited,
        ..Facts::default()
    };
    for _ in 0..3 {
        let properties = vec![("response.code", 429u64.to_le_bytes().to_vec())];
        bench.run(Case { facts: facts(), properties, ..Case::default() });
    }
    bench.run(Case { properties: Vec::new(), ..Case::default() });
    let limited = [("route", "canary"), ("destination", "webapp|v2"), ("decision", "rate_limited")];
    assert_eq!(bench.requests(&[&limited[..], &[("response_code", "429")]].concat()), 3);
    let nowhere = [("route", "none"), ("destination", "none"), ("decision", "allowed")];
    assert_eq!(bench.requests(&[&nowhere[..], &[("response_code", "0")]].concat()), 1);
    let histogram = metric_name("meshfilter_request_duration_milliseconds", &limited);
    assert_eq!(bench.host.metrics()[&histogram].samples, [0, 0, 0]);
}

#[test]
fn the_duration_runs_from_the_request_to_the_end() {
    let bench = Bench::new(json!({}));
    let mut request = Request::new([(":method", "GET")].into_iter().collect(), Vec::new(), bench.host.now());
    bench.host.open_stream(1, Stream::default());
    bench.host.advance(std::time::Duration::from_micros(52_999));
    let mut facts = Facts::default();
    bench.policy.telemetry.on_decided(&mut request, &mut facts, &bench.host);
    bench.policy.telemetry.on_log(request.received_at, &mut facts, &bench.host);
    let labels = [("route", "none"), ("destination", "none"), ("decision", "allowed")];
    let name = metric_name("meshfilter_request_duration_milliseconds", &labels);
    assert_eq!(bench.host.metrics()[&name].samples, [52]);
}

#[test]
fn every_source_gives_its_value_to_metrics_and_logs() {
    let claims = || with_claims(json!({"realm": {"tenant": "acme"}}));
    let bytes =
        |property, bytes: &[u8]| Case { properties: vec![(property, bytes.to_vec())], ..Case::default() };
    let path = |path| {
        let mut case = Case::default();
        case.request[1].1 = path;
        case
    };
    let facts = |facts| Case { facts, ..Case::default() };
    for (value, case, expected) in [
        (json!({"literal": "fixed"}), Case::default(), "fixed"),
        (json!({"header": "X-Tenant"}), Case::header("x-tenant", "acme"), "acme"),
        (json!({"claim": "realm.tenant"}), claims(), "acme"),
        (json!({"cookie": "t"}), Case::header("cookie", "a=b; t=acme"), "acme"),
        (json!({"queryParam": "t"}), path("/?t=a%20b"), "a b"),
        (json!({"environment": "REGION"}), Case::default(), "eu"),
        (json!({"property": "xds.route_name"}), bytes("xds.route_name", b"r1"), "r1"),
        (json!({"property": "destination.port"}), bytes("destination.port", &443u64.to_le_bytes()), "443"),
        (json!({"property": "response.flags"}), bytes("response.flags", &4u64.to_le_bytes()), "4"),
        (json!({"property": "connection.mtls"}), bytes("connection.mtls", &[1]), "true"),
        (json!({"pathTemplate": ["/users/me", "/users/{*}"]}), path("/users/7?q=1"), "/users/{*}"),
        (json!({"route": true}), facts(Facts { route: Some("r".into()), ..Facts::default() }), "r"),
        (
            json!({"destination": true}),
            facts(Facts { destination: Some("webapp|v1".into()), ..Facts::default() }),
            "webapp|v1",
        ),
        (
            json!({"decision": true}),
            facts(Facts { decision: Decision::AuthnDenied, ..Facts::default() }),
            "authn_denied",
        ),
        (
            json!({"responseHeader": "Server"}),
            Case { response: vec![(":status", "200"), ("server", "envoy")], ..Case::default() },
            "envoy",
        ),
    ] {
        let bench = Bench::tag(json!({"name": "tag", "value": value}));
        let (stream, _) = bench.run(case);
        assert_eq!(stream.filter_state["tag"], expected.as_bytes(), "{value}");
        assert_eq!(bench.told("tag"), expected, "{value}");
    }
}

#[test]
fn without_a_value_the_default_stands_in_and_without_one_nothing_is_logged() {
    for case in [Case::default(), Case::header("x-tenant", "")] {
        let bench = Bench::tag(json!({"name": "t", "value": {"header": "x-tenant"}}));
        let (stream, _) = bench.run(case);
        assert!(stream.filter_state.is_empty());
        assert_eq!(bench.told("t"), "none");
    }
    let bench = Bench::tag(json!({"name": "t", "value": {"header": "x-tenant"}, "default": "public"}));
    let (stream, _) = bench.run(Case::default());
    assert_eq!(stream.filter_state["t"], b"public");
    assert_eq!(bench.told("t"), "public");
}

#[test]
fn the_path_is_the_one_that_the_client_asked_for() {
    let bench = Bench::tag(json!({"name": "t", "value": {"pathTemplate": ["/old/{*}", "/new/{*}"]}}));
    let headers = [(":method", "GET"), (":path", "/old/1")];
    let mut request = Request::new(headers.into_iter().collect(), Vec::new(), 0);
    request.set_header(":path", b"/newer/1");
    request.set_header(":path", b"/new/1");
    let mut facts = Facts::default();
    bench.host.open_stream(1, Stream::default());
    bench.policy.telemetry.on_decided(&mut request, &mut facts, &bench.host);
    assert_eq!(bench.host.close_stream(1).unwrap().filter_state["t"], b"/old/{*}");
}

#[test]
fn what_is_not_allowed_is_other_everywhere_and_no_overflow() {
    let bench = Bench::tag(json!({
        "name": "t", "value": {"header": "x-tenant"}, "values": ["acme"],
        "in": ["metrics", "logs", "upstream", "downstream"], "header": "x-plan"
    }));
    for (value, told) in [("acme", "acme"), ("evil", "other")] {
        let (stream, request) = bench.run(Case::header("x-tenant", value));
        assert_eq!(stream.filter_state["t"], told.as_bytes());
        assert_eq!(request.header("x-plan"), Some(told.as_bytes()));
        assert_eq!(stream.response.get(b"x-plan"), Some(told.as_bytes()));
    }
    assert!(!bench.host.metrics().keys().any(|name| name.contains("overflow")));
}

#[test]
fn too_many_values_are_other_and_counted() {
    let bench = Bench::tag(json!({"name": "t", "value": {"header": "x-tenant"}, "maxValues": 2}));
    for (value, told) in
        [("a", "a"), ("b", "b"), ("c", "other"), ("a", "a"), ("d", "other"), ("other", "other")]
    {
        let (stream, _) = bench.run(Case::header("x-tenant", value));
        assert_eq!(stream.filter_state["t"], told.as_bytes());
    }
    let labels = |value| {
        [
            ("route", "none"),
            ("destination", "none"),
            ("decision", "allowed"),
            ("response_code", "200"),
            ("t", value),
        ]
    };
    assert_eq!(bench.requests(&labels("a")), 2);
    assert_eq!(bench.requests(&labels("b")), 1);
    assert_eq!(bench.requests(&labels("other")), 3);
    assert_eq!(bench.host.metric_value("meshfilter_tag_overflows_total<tag=t>"), 2);
}

#[test]
fn logs_alone_are_not_limited_unless_asked_to_be() {
    let bench = |extra: Value| {
        let mut tag = json!({"name": "id", "value": {"header": "x-request-id"}, "in": ["logs"]});
        tag.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        Bench::tag(tag)
    };
    let unlimited = bench(json!({}));
    for value in ["1", "2", "3"] {
        let (stream, _) = unlimited.run(Case::header("x-request-id", value));
        assert_eq!(stream.filter_state["id"], value.as_bytes());
    }
    assert!(unlimited.host.take_hostcalls().keys().all(|call| !call.contains("shared")));
    let limited = bench(json!({"maxValues": 1}));
    for (value, told) in [("1", "1"), ("2", "other")] {
        let (stream, _) = limited.run(Case::header("x-request-id", value));
        assert_eq!(stream.filter_state["id"], told.as_bytes());
    }
}

#[test]
fn a_default_takes_no_place_among_the_values() {
    let bench = Bench::tag(json!({"name": "t", "value": {"header": "x-t"}, "default": "d", "maxValues": 1}));
    for (case, told) in [(Case::default(), "d"), (Case::header("x-t", "a"), "a"), (Case::default(), "d")] {
        assert_eq!(bench.run(case).0.filter_state["t"], told.as_bytes());
    }
}

#[test]
fn any_bytes_are_a_value() {
    let bench = Bench::tag(json!({
        "name": "t", "value": {"claim": "t"}, "in": ["metrics", "logs", "upstream", "downstream"], "header": "x-t"
    }));
    let (stream, request) = bench.run(with_claims(json!({"t": "M\u{fc}\r\n<x>"})));
    assert_eq!(stream.filter_state["t"], "M\u{fc}%0D%0A<x>".as_bytes());
    assert_eq!(request.header("x-t"), Some("M\u{fc}<x>".as_bytes()));
    assert_eq!(stream.response.get(b"x-t"), Some("M\u{fc}<x>".as_bytes()));
    assert_eq!(bench.told("t"), "M%C3%BC%0D%0A%3Cx%3E");
}

#[test]
fn a_counted_request_costs_these_calls_and_no_more() {
    let bench = Bench::tag(json!({"name": "t", "value": {"header": "x-t"}}));
    bench.run(Case::header("x-t", "a"));
    bench.host.take_hostcalls();
    bench.run(Case::header("x-t", "a"));
    let calls = bench.host.take_hostcalls();
    let expected = [("now", 2), ("property", 1), ("record", 1), ("set_filter_state", 1)];
    assert_eq!(calls.into_iter().collect::<Vec<_>>(), expected);

    let bench = Bench::tag(json!({"name": "t", "value": {"responseHeader": "x-t"}, "in": ["metrics"]}));
    bench.run(Case::default());
    bench.host.take_hostcalls();
    bench.run(Case::default());
    let calls = bench.host.take_hostcalls();
    // The response's status stands in its headers.
    let expected = [("header_map", 1), ("now", 2), ("record", 1)];
    assert_eq!(calls.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_client_that_left_early_is_counted_with_its_tags() {
    let bench = Bench::new(json!({"tags": [
        {"name": "early", "value": {"header": "x-t"}}, {"name": "late", "value": {"responseHeader": "x-l"}}
    ]}));
    bench.host.open_stream(1, Stream::default());
    let headers = [(":method", "GET"), ("x-t", "a")];
    let mut request = Request::new(headers.into_iter().collect(), Vec::new(), bench.host.now());
    let mut facts = Facts::default();
    bench.policy.telemetry.on_decided(&mut request, &mut facts, &bench.host);
    bench.policy.telemetry.on_log(request.received_at, &mut facts, &bench.host);
    assert_eq!(bench.told("early"), "a");
    assert_eq!(bench.told("late"), "none");
    assert_eq!(bench.told("response_code"), "0");
    assert_eq!(bench.host.close_stream(1).unwrap().filter_state["early"], b"a");
}

#[test]
fn verdicts_are_counted_whether_the_section_stands_or_not() {
    let host = Fake::new();
    let mut facts = Facts::default();
    facts.verdict(&"limit a".into(), "limited", Mode::Enforce);
    facts.verdict(&"limit a".into(), "limited", Mode::Shadow);
    facts.verdict(&"http[2]".into(), "delayed", Mode::Enforce);
    let telemetry = Telemetry::default();
    for _ in 0..2 {
        telemetry.on_log(0, &mut facts, &host);
    }
    for (labels, times) in [
        ("<policy=limit a><decision=limited><mode=enforce>", 2),
        ("<policy=limit a><decision=limited><mode=shadow>", 2),
        ("<policy=http[2]><decision=delayed><mode=enforce>", 2),
    ] {
        assert_eq!(host.metric_value(&format!("meshfilter_policy_decisions_total{labels}")), times);
    }
    assert_eq!(host.metrics().len(), 3);
}

#[test]
fn too_many_combinations_are_counted_with_every_tag_other() {
    let bench = Bench::new(json!({"tags": [
        {"name": "a", "value": {"header": "x-a"}},
        {"name": "b", "value": {"header": "x-b"}},
        {"name": "c", "value": {"header": "x-c"}, "in": ["logs"]}
    ]}));
    let run = |a: &'static str, b: Option<&'static str>| {
        let mut case = Case::header("x-a", a);
        case.request.extend(b.map(|b| ("x-b", b)));
        bench.run(case);
    };
    // A tag has a hundred values if nothing else is said.
    assert_eq!(MAX_LABEL_SETS, 100 * 100);
    let values: Vec<&'static str> = (1..=100).map(|value: u8| &*value.to_string().leak()).collect();
    for a in &values {
        values.iter().for_each(|b| run(a, Some(b)));
    }
    run("1", Some("1"));
    run("1", None);
    run("2", None);
    let told = |a, b| {
        bench.requests(&[
            ("route", "none"),
            ("destination", "none"),
            ("decision", "allowed"),
            ("response_code", "200"),
            ("a", a),
            ("b", b),
        ])
    };
    assert_eq!([("1", "1"), ("1", "2"), ("100", "100")].map(|(a, b)| told(a, b)), [2, 1, 1]);
    assert_eq!((told("1", "none"), told("other", "other")), (0, 2));
    assert_eq!(bench.host.metric_value("meshfilter_tag_overflows_total<tag=all>"), 2);
}

#[test]
fn the_version_is_shown_for_each_plugin() {
    let host = Fake::new();
    let properties = [("plugin_name".to_owned(), b"edge".to_vec())].into();
    host.open_stream(0, Stream { properties, ..Stream::default() });
    record_version(7, &host);
    assert_eq!(host.metric_value("meshfilter_configuration_version<plugin=edge>"), 7);
}
