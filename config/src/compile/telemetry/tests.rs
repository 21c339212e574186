use serde_json::{Value, json};

use crate::{Compiled, Errors, compile};

fn load(tags: Value) -> Result<Compiled, Vec<String>> {
    let environment = |name: &str| (name == "REGION").then(|| "eu".to_owned());
    compile(&json!({"telemetry": {"tags": tags}}), &environment, Errors::default())
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn errors(tag: Value) -> Vec<String> {
    match load(json!([tag])) {
        Ok(_) => panic!("no error"),
        Err(errors) => {
            errors.iter().map(|error| error.strip_prefix("telemetry.tags[0]").unwrap().to_owned()).collect()
        }
    }
}

#[test]
fn an_absent_section_tells_nothing_and_an_empty_one_counts() {
    let compiled = compile(&json!({}), &|_| None, Errors::default()).ok().unwrap();
    assert!(compiled.policy.telemetry.is_empty());
    let compiled = compile(&json!({"telemetry": {}}), &|_| None, Errors::default()).ok().unwrap();
    assert!(!compiled.policy.telemetry.is_empty());
}

#[test]
fn every_source_is_taken() {
    for source in [
        json!({"literal": "a"}),
        json!({"header": "X-Tenant"}),
        json!({"responseHeader": "x-served-by"}),
        json!({"claim": "realm.tenant"}),
        json!({"cookie": "c"}),
        json!({"queryParam": "q"}),
        json!({"environment": "REGION"}),
        json!({"property": "xds.route_name"}),
        json!({"pathTemplate": ["/users/{*}", "/static/{**}"]}),
        json!({"route": true}),
        json!({"destination": true}),
        json!({"decision": true}),
    ] {
        let tag = json!({"name": "tag", "value": source});
        let compiled = load(json!([tag])).map_err(|errors| format!("{tag}: {errors:?}"));
        let compiled = compiled.unwrap();
        assert_eq!(compiled.policy.telemetry.len(), 1);
        assert_eq!(compiled.warnings.len(), 0);
    }
}

#[test]
fn each_error_says_where_and_what_would_be_right() {
    let value = || json!({"header": "x-tenant"});
    for (tag, error) in [
        (json!({"value": value()}), ": \"name\" is missing; a tag needs one, such as tenant"),
        (
            json!({"name": "a"}),
            ": \"value\" is missing; say where the value comes from, such as {header: x-tenant}",
        ),
        (
            json!({"name": "a", "value": {}}),
            ".value: no source; use one, such as {header: x-tenant} or {claim: tenant}",
        ),
        (
            json!({"name": "a", "value": {"header": "a", "cookie": "b"}}),
            ".value: more than one source; keep one",
        ),
        (
            json!({"name": "a", "value": {"route": true, "responseHeader": "b"}}),
            ".value: more than one source; keep one",
        ),
        (
            json!({"name": "a", "value": {"decision": false}}),
            ".value.decision: false asks for nothing; use true or leave it out",
        ),
        (
            json!({"name": "a", "value": {"method": true}}),
            ".value.method: this belongs in a rate limit's key; a tag has pathTemplate, header or claim",
        ),
        (
            json!({"name": "a", "value": {"header": "a", "default": "b"}}),
            ".value.default: a tag's default stands beside its value; move it there",
        ),
        (
            json!({"name": "a", "value": {"header": "a b"}}),
            ".value.header: \"a b\" is not a header's name; use letters, digits and dashes",
        ),
        (
            json!({"name": "a", "value": {"responseHeader": ""}}),
            ".value.responseHeader: \"\" is not a header's name; use letters, digits and dashes",
        ),
        (
            json!({"name": "a", "value": {"claim": "a..b"}}),
            ".value.claim: \"a..b\" is not a claim's path; use a.b, or [a][b] for names with dots",
        ),
        (
            json!({"name": "a", "value": {"property": "xds..a"}}),
            ".value.property: \"xds..a\" is not an attribute; use one such as xds.route_name",
        ),
        (
            json!({"name": "a", "value": {"pathTemplate": []}}),
            ".value.pathTemplate: an empty list fits no path; use templates such as /users/{*}",
        ),
        (
            json!({"name": "a", "value": {"pathTemplate": ["/ok", "/users/{id}"]}}),
            ".value.pathTemplate[1]: \"/users/{id}\" is not a path template: only {*} and {**} are operators, each a whole segment",
        ),
        (
            json!({"name": "a-b", "value": value()}),
            ".name: \"a-b\" is not a tag's name; use letters, digits and underscores, a letter or one underscore first",
        ),
        (
            json!({"name": "1a", "value": value()}),
            ".name: \"1a\" is not a tag's name; use letters, digits and underscores, a letter or one underscore first",
        ),
        (
            json!({"name": "__a", "value": value()}),
            ".name: \"__a\" is not a tag's name; use letters, digits and underscores, a letter or one underscore first",
        ),
        (
            json!({"name": "", "value": value()}),
            ".name: \"\" is not a tag's name; use letters, digits and underscores, a letter or one underscore first",
        ),
        (
            json!({"name": "decision", "value": value()}),
            ".name: every metric has a label \"decision\" already; use another name, or in: [logs]",
        ),
        (
            json!({"name": "a", "value": value(), "values": []}),
            ".values: an empty list tells no value; list those to tell, or leave it out",
        ),
        (
            json!({"name": "a", "value": value(), "maxValues": 0}),
            ".maxValues: 0 is not a number of values; use 1 to 10000",
        ),
        (
            json!({"name": "a", "value": value(), "maxValues": 10001}),
            ".maxValues: 10001 is not a number of values; use 1 to 10000",
        ),
        (
            json!({"name": "a", "value": value(), "in": []}),
            ".in: an empty list sends the tag nowhere; use metrics, logs, upstream or downstream",
        ),
        (
            json!({"name": "a", "value": value(), "in": ["traces"]}),
            ".in[0]: \"traces\" is not known here; use \"metrics\", \"logs\", \"upstream\" or \"downstream\"",
        ),
        (
            json!({"name": "a", "value": value(), "in": ["upstream"]}),
            ": \"header\" is missing; upstream and downstream need one, such as x-tenant",
        ),
        (
            json!({"name": "a", "value": value(), "header": "x-a"}),
            ".header: a header goes nowhere; add upstream or downstream to \"in\", or leave it out",
        ),
        (
            json!({"name": "a", "value": {"cookie": "a"}, "in": ["downstream"], "header": "content-length"}),
            ".header: \"content-length\" is not a tag's header; use x-… that neither Envoy nor this filter uses",
        ),
        (
            json!({"name": "a", "value": {"cookie": "a"}, "in": ["upstream"], "header": "x-meshfilter-cluster"}),
            ".header: \"x-meshfilter-cluster\" is not a tag's header; use x-… that neither Envoy nor this filter uses",
        ),
        (
            json!({"name": "a", "value": {"header": "X-A"}, "in": ["upstream"], "header": "x-a"}),
            ".header: only the filter may set this header, so the tag cannot be read from it; use another name",
        ),
        (
            json!({"name": "a", "value": {"responseHeader": "b"}, "in": ["upstream"], "header": "x-a"}),
            ".value.responseHeader: the request is gone when this is known; take upstream out of \"in\", or use another source",
        ),
        (
            json!({"name": "a", "value": {"property": "response.code"}, "in": ["upstream"], "header": "x-a"}),
            ".value.property: the request is gone when this is known; take upstream out of \"in\", or use another source",
        ),
        (
            json!({"name": "a", "value": {"property": "request.total_size"}, "in": ["upstream"], "header": "x-a"}),
            ".value.property: the request is gone when this is known; take upstream out of \"in\", or use another source",
        ),
        (
            json!({"name": "a", "value": {"property": "response.grpc_status"}, "in": ["downstream"], "header": "x-a"}),
            ".value.property: the response is gone when this is known; take downstream out of \"in\", or use another source",
        ),
    ] {
        assert_eq!(errors(tag.clone()), [error], "{tag}");
    }
}

#[test]
fn names_and_headers_are_used_once() {
    let tag =
        |name: &str| json!({"name": name, "value": {"cookie": "c"}, "in": ["downstream"], "header": "x-t"});
    let errors = load(json!([tag("a"), tag("a")])).err().unwrap();
    assert_eq!(
        errors,
        [
            "telemetry.tags[1].name: \"a\" is used twice; give each its own",
            "telemetry.tags[1].header: \"x-t\" carries another tag; use another",
        ]
    );
}

#[test]
fn only_a_header_to_the_upstream_is_taken_from_the_client() {
    let tag = |place: &str| json!([{"name": "a", "value": {"cookie": "c"}, "in": [place], "header": "X-T"}]);
    let reserved =
        |place: &str| load(tag(place)).ok().unwrap().policy.reserved_headers.iter().any(|name| name == "x-t");
    assert!(reserved("upstream"));
    assert!(!reserved("downstream"));
}

#[test]
fn a_missing_variable_is_a_warning() {
    let compiled = load(json!([{"name": "zone", "value": {"environment": "ZONE"}, "default": "z"}]));
    let warnings = compiled.ok().unwrap().warnings;
    assert_eq!(
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["telemetry.tags[0].value.environment: the plugin's environment has no ZONE; the tag has no value"]
    );
}

#[test]
fn attributes_of_the_response_are_not_read_with_the_request() {
    for (property, read) in [("xds.route_name", 0), ("response.code", 0), ("destination.port", 1)] {
        let compiled = load(json!([{"name": "a", "value": {"property": property}}])).ok().unwrap();
        assert_eq!(compiled.policy.attributes.paths().len(), read, "{property}");
    }
    let upstream =
        json!([{"name": "a", "value": {"property": "xds.route_name"}, "in": ["upstream"], "header": "x-a"}]);
    assert_eq!(load(upstream).ok().unwrap().policy.attributes.paths().len(), 1);
}

#[test]
fn attributes_are_read_when_they_are_settled() {
    use meshfilter_core::policy::telemetry::{Phase, phase_of};
    for (name, upstream, downstream, phase) in [
        ("response.grpc_status", false, false, Phase::End),
        ("response.trailers.x", false, false, Phase::End),
        ("response.total_size", false, false, Phase::End),
        ("request.duration", false, false, Phase::End),
        ("request.size", false, false, Phase::End),
        ("request.size", true, false, Phase::Decided),
        ("response.flags", false, false, Phase::End),
        ("response.flags", false, true, Phase::Response),
        ("response.code", false, false, Phase::Response),
        ("upstream.address", false, false, Phase::Response),
        ("xds.route_name", false, false, Phase::Response),
        ("xds.route_name", true, false, Phase::Decided),
        ("request.time", false, false, Phase::Decided),
        ("source.address", false, false, Phase::Decided),
    ] {
        assert_eq!(phase_of(name, upstream, downstream), phase, "{name}");
    }
}

#[test]
fn istios_labels_are_taken_where_its_names_are_wanted() {
    let document = |name: &str, istio: bool| {
        json!({"telemetry": {
            "metrics": {"istio": istio}, "tags": [{"name": name, "value": {"cookie": "c"}}],
        }})
    };
    let errors = |document: serde_json::Value| {
        let compiled = crate::compile(&document, &|_| None, meshfilter_json::Errors::default());
        compiled.err().unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        errors(document("reporter", true)),
        [
            "telemetry.tags[0].name: every metric has a label \"reporter\" already; use another name, or in: [logs]"
        ]
    );
    assert_eq!(errors(document("reporter", false)), [""; 0]);
    assert_eq!(errors(document("route", true)), [""; 0]);
}
