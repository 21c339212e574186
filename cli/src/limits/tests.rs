use meshfilter::config::source::{Language, Source as Text};
use serde_json::json;

use super::*;

fn policy(text: &str) -> Value {
    let errors = Errors::default();
    let value = Text::read(Language::Yaml, text, &errors).unwrap().value;
    assert!(meshfilter::config::compile(&value, &|_| None, errors).is_ok(), "{text}");
    value
}

/// One entry for each list of descriptors, with its limit.
fn entries(of: &[(&str, &str)]) -> Value {
    let entry = |(descriptors, limit): &(&str, &str)| {
        format!("- global: {{cluster: rls, domain: web, descriptors: {descriptors}{limit}}}\n")
    };
    policy(&format!("rateLimits:\n{}", of.iter().map(entry).collect::<String>()))
}

const MINUTE: &str = ", limit: {requestsPerUnit: 100, unit: MINUTE}";

/// What github.com/envoyproxy/ratelimit documents of its files, at `Descriptor list definition`; it refuses other keys.
fn schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["domain", "descriptors"],
        "properties": {
            "domain": {"type": "string", "minLength": 1},
            "descriptors": {"type": "array", "items": {"$ref": "#/$defs/descriptor"}},
        },
        "$defs": {"descriptor": {
            "type": "object", "additionalProperties": false, "required": ["key"],
            "properties": {
                "key": {"type": "string", "minLength": 1},
                "value": {"type": "string"},
                "rate_limit": {
                    "type": "object", "additionalProperties": false, "required": ["unit", "requests_per_unit"],
                    "properties": {
                        "name": {"type": "string"},
                        "unit": {"enum": ["second", "minute", "hour", "day", "month", "year"]},
                        "requests_per_unit": {"type": "integer", "minimum": 0, "maximum": u32::MAX},
                    },
                },
                "descriptors": {"type": "array", "items": {"$ref": "#/$defs/descriptor"}},
            },
        }},
    })
}

#[test]
fn ratelimit_gets_a_tree_of_keys() {
    let policy = entries(&[
        ("[{entries: [{key: kind, value: {literal: read}}, {key: user, value: {claim: sub}}]}]", MINUTE),
        (
            "[{entries: [{key: kind, value: {literal: write}}, {key: user, value: {claim: sub}}]}, {entries: [{key: kind, \
             value: {literal: write}}]}]",
            ", limit: {requestsPerUnit: 5, unit: SECOND}",
        ),
        ("[{entries: [{key: user, value: {claim: sub}}]}]", ", limit: {requestsPerUnit: 0, unit: YEAR}"),
    ]);
    let text = written(&policy, Service::Ratelimit).unwrap();
    assert_eq!(
        text,
        "\
# The limits of rateLimits[].global.limit, as `meshfilter limits --for ratelimit` writes them.
domain: web
descriptors:
- key: kind
  value: read
  descriptors: [{key: user, rate_limit: {requests_per_unit: 100, unit: minute}}]
- key: kind
  value: write
  rate_limit: {requests_per_unit: 5, unit: second}
  descriptors: [{key: user, rate_limit: {requests_per_unit: 5, unit: second}}]
- {key: user, rate_limit: {requests_per_unit: 0, unit: year}}
"
    );
    let written = Text::read(Language::Yaml, &text, &Errors::default()).unwrap().value;
    let schema = jsonschema::validator_for(&schema()).unwrap();
    let wrong: Vec<String> = schema.iter_errors(&written).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(!schema.is_valid(&json!({"domain": "web", "descriptors": [{"value": "a"}]})));
}

#[test]
fn limitador_gets_a_list_of_conditions_and_variables() {
    let policy = entries(&[
        ("[{entries: [{key: kind, value: {literal: \"it's\"}}]}]", MINUTE),
        (
            "[{entries: [{key: user, value: {claim: sub}}]}, {entries: [{key: user, value: {claim: sub}}, {key: the-plan, value: \
             {header: x-plan}}]}]",
            ", limit: {requestsPerUnit: 5, unit: DAY}",
        ),
    ]);
    assert_eq!(
        written(&policy, Service::Limitador).unwrap(),
        "\
# The limits of rateLimits[].global.limit, as `meshfilter limits --for limitador` writes them.
- name: \"rateLimits[0]\"
  namespace: web
  max_value: 100
  seconds: 60
  conditions: [\"descriptors[0].kind == 'it\\\\'s'\"]
  variables: []
- name: \"rateLimits[1]\"
  namespace: web
  max_value: 5
  seconds: 86400
  conditions: [\"size(descriptors[0]) == 1\"]
  variables: [\"descriptors[0].user\"]
- name: \"rateLimits[1]\"
  namespace: web
  max_value: 5
  seconds: 86400
  conditions: [\"descriptors.exists(descriptors, 'user' in descriptors && 'the-plan' in descriptors)\"]
  variables:
  - \"descriptors.filter(descriptors, 'user' in descriptors && 'the-plan' in descriptors)[0].user\"
  - \"descriptors.filter(descriptors, 'user' in descriptors && 'the-plan' in descriptors)[0]['the-plan']\"
"
    );
}

#[test]
fn what_a_service_cannot_be_told_is_told_with_its_place() {
    let user = "[{entries: [{key: user, value: {claim: sub}}]}]";
    let says = |policy: &Value, service| written(policy, service).unwrap_err();
    for service in [Service::Ratelimit, Service::Limitador] {
        assert_eq!(
            says(&entries(&[(user, MINUTE), (user, "")]), service),
            "rateLimits[1].global: without a limit there is nothing to tell the service; give one, such as limit: \
             {requestsPerUnit: 100, unit: MINUTE}"
        );
        assert_eq!(
            says(&entries(&[(user, MINUTE), (user, ", limit: {requestsPerUnit: 1, unit: MINUTE}")]), service),
            "rateLimits[1].global.descriptors[0]: rateLimits[0] has another limit for the same keys in the domain web, \
             and the service cannot tell them apart; add an entry such as {key: limit, value: {literal: \
             rateLimits[1]}}, or use another domain"
        );
        assert!(
            written(&entries(&[(user, MINUTE), (user, MINUTE)]), service).is_ok(),
            "the same limit twice"
        );
        let none =
            "no entry asks a rate limit service; one with global: {cluster, domain, descriptors, limit} does";
        assert_eq!(says(&json!({}), service), format!("document: {none}"));
        let bucket = policy("rateLimits: [{tokenBucket: {maxTokens: 1, fillInterval: 1s}}]");
        assert_eq!(says(&bucket, service), format!("rateLimits: {none}"));
    }
    let star = entries(&[("[{entries: [{key: kind, value: {literal: 'a*'}}]}]", MINUTE)]);
    assert_eq!(
        says(&star, Service::Ratelimit),
        "rateLimits[0].global.descriptors[0]: ratelimit reads * in a value as a wildcard; choose a literal without it"
    );
    assert!(written(&star, Service::Limitador).is_ok());
    let mut several = entries(&[(user, MINUTE), (user, MINUTE)]);
    several["rateLimits"][1]["global"]["domain"] = "api".into();
    assert_eq!(says(&several, Service::Ratelimit), "ratelimit has a file for each domain");
    assert!(written(&several, Service::Limitador).unwrap().contains("namespace: api"));
}
