//! The alerts, by Prometheus's own judge: that they can be read, and when they fire.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::support::envoy::sample::read;
use crate::support::prometheus::tool;

fn promtool(arguments: &[&str]) -> String {
    let mut promtool = Command::new(tool("promtool").unwrap());
    let output = promtool.args(arguments).current_dir(crate::support::ROOT).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

#[test]
fn prometheus_reads_the_configuration_and_the_rules() {
    let said = promtool(&["check", "config", "envoy/observability/prometheus.yaml"]);
    assert!(said.contains("1 rule files found") && said.contains("rules found"), "{said}");
}

#[test]
fn every_alert_fires_when_it_should_and_not_before() {
    promtool(&["test", "rules", "tests/envoy_observability/alerts.yaml"]);

    let mut tested: BTreeMap<String, [bool; 2]> = BTreeMap::new();
    let tests = read("tests/envoy_observability/alerts.yaml").unwrap();
    for expectation in
        tests["tests"].as_array().unwrap().iter().flat_map(|test| list(&test["alert_rule_test"]))
    {
        let name = expectation["alertname"].as_str().unwrap().to_owned();
        let fires = list(&expectation["exp_alerts"]).count() > 0;
        tested.entry(name).or_default()[usize::from(fires)] = true;
    }
    let rules = read("envoy/observability/rules.yaml").unwrap();
    let rules = list(&rules["groups"]).flat_map(|group| list(&group["rules"]));
    let names: Vec<&str> = rules.map(|rule| rule["alert"].as_str().unwrap()).collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        assert_eq!(tested.get(name), Some(&[true, true]), "{name} has to be tested quiet and firing");
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
