//! Grafana's dashboard: its form, and that each of its queries finds something.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::envoy::native::is_native;
use crate::support::envoy::sample::read;
use crate::support::prometheus::Api;

fn dashboard() -> Value {
    let text = include_str!("../../envoy/observability/grafana/meshfilter.json");
    serde_json::from_str(text).unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// What Grafana would put in place of a query's variables; `$__rate_interval` is four scrapes at least.
fn filled(query: &str, variables: &Value) -> String {
    let mut query = query.replace("$__rate_interval", "60s");
    for variable in list(variables) {
        let name = format!("${}", text(&variable["name"]));
        let value = match &variable["allValue"] {
            Value::String(all) => all,
            _ => text(&variable["current"]["value"]),
        };
        query = query.replace(&name, value);
    }
    assert!(!query.contains('$'), "{query} has a variable that the dashboard does not");
    query
}

/// Runs all queries of all panels and variables.
pub fn every_query_finds_something(api: Api) {
    let dashboard = dashboard();
    let variables = &dashboard["templating"]["list"];
    for variable in list(variables).filter(|variable| variable["type"] == "query") {
        let query = text(&variable["query"]["query"]);
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (series, label) = inner.rsplit_once(", ").unwrap();
        let values = api.get(&format!("label/{label}/values"), &[("match[]", series)]).unwrap();
        let current = &variable["current"]["value"];
        assert!(
            list(&values).any(|value| value == current) || variable["includeAll"] == true,
            "{query}: {values}"
        );
        assert!(list(&values).count() > 1, "{query}: {values}");
    }
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            let query = filled(text(&target["expr"]), variables);
            let found = api.query(&query).unwrap();
            if is_native() && query.contains("_vm_reload_") {
                continue;
            }
            assert!(
                found.iter().any(|sample| sample.value.is_finite()),
                "panel {}: {query} finds nothing: {found:?}",
                panel["title"]
            );
        }
    }
}

/// Runs the queries of the pages. A share has a row wherever there are requests, be it 0 or all of them.
pub fn what_the_pages_ask_is_answered(api: Api) {
    let pages = [include_str!("../../docs/live.md"), include_str!("../../docs/telemetry.md")];
    let mut shares = 0;
    for block in pages.iter().flat_map(|page| page.split("```promql\n").skip(1)) {
        let block = block.split_once("```").unwrap().0;
        let queries = block.split('#').map(|part| {
            if block.starts_with('#') { part.split_once('\n').map_or("", |it| it.1) } else { part }
        });
        for query in queries.filter(|query| !query.trim().is_empty()) {
            let query = query.replace("[10s]", "[60s]").replace("[5m]", "[60s]");
            let found = api.query(&query).unwrap();
            let of_requests =
                query.split_once("\n) / ").filter(|(_, all)| all.contains("meshfilter_requests_total"));
            if let Some((_, all)) = of_requests {
                shares += 1;
                assert_eq!(found.len(), api.query(all).unwrap().len(), "{query}: {found:?}");
                assert!(
                    found.iter().any(|sample| sample.value == 0.0 || sample.value == 1.0),
                    "{query}: {found:?}"
                );
            }
        }
    }
    assert_eq!(shares, 3);
}

#[test]
fn the_dashboard_is_one_that_grafana_reads() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36));
    assert_eq!(dashboard["id"], Value::Null, "an id belongs to one Grafana");
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    let mut taken = BTreeSet::new();
    for panel in list(&dashboard["panels"]) {
        let title = text(&panel["title"]);
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: an id is used twice");
        titles.insert(title);
        let kind = text(&panel["type"]);
        assert!(["row", "stat", "timeseries"].contains(&kind), "{title}: {kind}");
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24, "{title}");
        for cell in (side("y")..side("y") + side("h"))
            .flat_map(|y| (side("x")..side("x") + side("w")).map(move |x| (x, y)))
        {
            assert!(taken.insert(cell), "{title} lies on another panel");
        }
        if kind == "row" {
            continue;
        }
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}");
        let mut letters = BTreeSet::new();
        for target in list(&panel["targets"]) {
            assert!(letters.insert(text(&target["refId"])), "{title}");
            assert_eq!(target["datasource"], panel["datasource"], "{title}");
            assert!(!text(&target["expr"]).is_empty());
        }
        assert!(!letters.is_empty(), "{title} asks nothing");
        assert_eq!(
            (text(&panel["datasource"]["type"]), text(&panel["datasource"]["uid"])),
            ("prometheus", "${datasource}")
        );
    }
    for wanted in [
        "Golden signals",
        "By route and destination",
        "Canary against stable",
        "Refused by reason",
        "Near exhaustion",
    ] {
        assert!(titles.contains(wanted), "{wanted}");
    }
}

#[test]
fn the_dashboard_asks_the_data_source_that_is_provisioned() {
    let source = read("envoy/observability/grafana/datasources.yaml").unwrap()["datasources"][0].take();
    assert_eq!((text(&source["type"]), &source["isDefault"]), ("prometheus", &true.into()));
    let dashboard = dashboard();
    let variable =
        list(&dashboard["templating"]["list"]).find(|variable| variable["name"] == "datasource").unwrap();
    assert_eq!((&variable["type"], &variable["query"]), (&"datasource".into(), &source["type"]));
    assert_eq!(
        (&variable["current"]["value"], &variable["current"]["text"]),
        (&source["uid"], &source["name"])
    );
}
