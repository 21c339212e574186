//! The screen for statistics that a real Envoy told: what stands in it, in 80 columns and 24 rows, with and without colours.

use std::path::PathBuf;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use super::fleet::Fleet;
use super::picture::{By, Picture};
use super::screen::{self, Styles};
use super::table::{Sort, Table};
use super::view::View;

mod svg;

/// `/stats` of an Envoy under traffic, thirty seconds apart.
const BEFORE: &str = include_str!("../../tests/live/before.json");
const AFTER: &str = include_str!("../../tests/live/after.json");
/// When the second one was told, a little after its last fetch of keys.
const DATE: Duration = Duration::from_secs(1_795_919_679);

fn info(uptime: u32) -> String {
    format!(
        "{{\"version\":\"9e55/1.40.0/Clean/RELEASE/BoringSSL\",\"state\":\"LIVE\",\"uptime_all_epochs\":\"{uptime}s\"}}"
    )
}

/// Two Envoys that said the same, thirty seconds apart.
fn recorded() -> Fleet {
    let addresses = ["http://10.0.0.1:9901", "http://10.0.0.2:9901"].map(str::to_owned);
    let mut fleet = Fleet::new(addresses, 30.0);
    for (at, stats) in [(0.0, BEFORE), (30.0, AFTER)] {
        for index in 0..2 {
            fleet.take(index, at, Ok([info(3000 + at as u32).as_bytes(), stats.as_bytes(), b""]));
        }
    }
    fleet
}

/// The same statistics as the native module has Envoy say them: counters with labels are not in the JSON.
fn native(stats: &str) -> (String, String) {
    let mut value: serde_json::Value = serde_json::from_str(stats).unwrap();
    let mut labelled = String::from("# TYPE meshfilter_requests_total counter\n");
    value["stats"].as_array_mut().unwrap().retain(|series| {
        let name = series["name"].as_str().unwrap_or_default();
        let Some(flat) = name.strip_prefix("wasmcustom.").filter(|name| name.contains("_total<")) else {
            return true;
        };
        let (name, labels) = meshfilter::policy::metric::split_metric_name(flat);
        let labels: Vec<String> =
            labels.into_iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        labelled += &format!("{name}{{{}}} {}\n", labels.join(","), series["value"]);
        false
    });
    (value.to_string(), labelled)
}

/// Whichever module counts, and a fleet may have both.
#[test]
fn the_native_module_says_the_same() {
    let mut fleet = Fleet::new(["http://10.0.0.1:9901", "http://10.0.0.2:9901"].map(str::to_owned), 30.0);
    for (at, stats) in [(0.0, BEFORE), (30.0, AFTER)] {
        let info = info(3000 + at as u32);
        fleet.take(0, at, Ok([info.as_bytes(), stats.as_bytes(), b""]));
        let (stats, labelled) = native(stats);
        fleet.take(1, at, Ok([info.as_bytes(), stats.as_bytes(), labelled.as_bytes()]));
    }
    for by in [By::Both, By::Policy, By::Tag("tenant".to_owned())] {
        let said = |fleet| serde_json::to_value(Picture::of(fleet, &by, 30.0, DATE)).unwrap();
        assert_eq!(said(&fleet), said(&recorded()));
    }
}

fn drawn(fleet: &Fleet, view: &mut View, now: f64, size: (u16, u16), colours: bool) -> Buffer {
    let picture = Picture::of(fleet, &view.by, now, DATE);
    let mut table = Table::of(&picture, &view.by);
    view.apply(&mut table);
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| screen::draw(frame, &picture, &table, view, Styles::new(colours))).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let row = |y| {
        let cells = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    (0..buffer.area.height).map(row).collect()
}

/// A file of this repository; `MESHFILTER_WRITE_DOCS=1` writes it anew.
fn held(path: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("MESHFILTER_WRITE_DOCS").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept, found, "{}: MESHFILTER_WRITE_DOCS=1 writes it anew", path.display());
}

#[test]
fn the_screen_answers_an_operators_questions_in_80_by_24() {
    for (name, by) in [
        ("both", By::Both),
        ("route", By::Route),
        ("destination", By::Destination),
        ("decision", By::Decision),
        ("policy", By::Policy),
        ("tenant", By::Tag("tenant".to_owned())),
    ] {
        let buffer = drawn(&recorded(), &mut View::new(by), 30.0, (80, 24), false);
        held(&format!("tests/live/screen-{name}.txt"), &text(&buffer));
    }
}

#[test]
fn the_screenshot_is_the_screens_buffer() {
    let buffer = drawn(&recorded(), &mut View::new(By::Both), 30.0, (80, 24), true);
    held("../docs/live.svg", &svg::of(&buffer));
}

#[test]
fn the_plain_table_has_the_same() {
    const COMMAND: &str =
        "```text\n$ meshfilter top http://10.0.0.1:9901 http://10.0.0.2:9901 --once --window 30s\n";
    let picture = Picture::of(&recorded(), &By::Both, 30.0, DATE);
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/live.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (before, after) = page.split_once(COMMAND).unwrap();
    let (_, after) = after.split_once("```\n").unwrap();
    let shown = super::plain::text(&picture, &Table::of(&picture, &By::Both));
    held("../docs/live.md", &format!("{before}{COMMAND}{shown}```\n{after}"));
    held("tests/live/once.json", &(serde_json::to_string_pretty(&picture).unwrap() + "\n"));
}

/// Without colours nothing has one, and what has to be seen is seen by its form.
#[test]
fn without_colours_there_are_none() {
    use ratatui::style::{Color, Modifier};
    let plain = drawn(&recorded(), &mut View::new(By::Both), 30.0, (80, 24), false);
    assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    let marked = plain.content.iter().find(|cell| cell.symbol() == "▼").unwrap();
    assert!(marked.modifier.contains(Modifier::BOLD));
    let coloured = drawn(&recorded(), &mut View::new(By::Both), 30.0, (80, 24), true);
    assert_eq!(text(&coloured), text(&plain));
    assert!(coloured.content.iter().any(|cell| cell.fg == Color::Red));
}

#[test]
fn any_size_will_do() {
    let mut fleet = recorded();
    let mut view = View::new(By::Both);
    for size in [(1, 1), (2, 3), (20, 5), (40, 10), (80, 24), (200, 60), (500, 3)] {
        let buffer = drawn(&fleet, &mut view, 30.0, size, true);
        assert_eq!((buffer.area.width, buffer.area.height), size);
    }
    // The keys are at the bottom even where there is no room for what is above.
    let small = text(&drawn(&fleet, &mut view, 30.0, (80, 8), false));
    assert!(small.lines().last().unwrap().starts_with("q quit"), "{small}");
    // Names say which row it is; quantiles make room for them.
    let narrow = text(&drawn(&fleet, &mut view, 30.0, (40, 10), false));
    assert!(narrow.contains("ROUTE") && narrow.contains("RPS") && !narrow.contains("P50"), "{narrow}");
    assert!(narrow.contains("weighted") && narrow.contains("webapp|v1"), "{narrow}");
    // Wide enough for whole names.
    let wide = text(&drawn(&fleet, &mut view, 30.0, (120, 40), false));
    assert!(wide.contains("canary-by-header webapp|v2"), "{wide}");
    // Before anything was heard.
    fleet = Fleet::new(["a".to_owned()], 10.0);
    let empty = text(&drawn(&fleet, &mut view, 0.0, (80, 24), false));
    assert!(empty.contains("0 of 1 Envoy live") && empty.contains("no requests yet"), "{empty}");
}

#[test]
fn an_envoy_that_goes_is_on_the_screen_and_out_of_the_sums() {
    let mut fleet = recorded();
    let rate = |fleet: &Fleet, now| Picture::of(fleet, &By::Both, now, DATE).all.rps;
    let both = rate(&fleet, 30.0);
    for at in [32.0, 34.0] {
        fleet.take(1, at, Err("Connection refused".to_owned()));
    }
    let screen = text(&drawn(&fleet, &mut View::new(By::Both), 44.0, (80, 24), false));
    assert!(screen.contains("1 of 2 Envoys live"), "{screen}");
    assert!(
        screen.contains("! http://10.0.0.2:9901 has not answered for 12 s: Connection refused"),
        "{screen}"
    );
    assert!((rate(&fleet, 44.0) - both / 2.0).abs() < 1e-9);
    // It comes back as another process, whose counters begin at zero.
    fleet.take(1, 45.0, Ok([info(1).as_bytes(), BEFORE.as_bytes(), b""]));
    let screen = text(&drawn(&fleet, &mut View::new(By::Both), 45.0, (80, 24), false));
    assert!(screen.contains("2 of 2 Envoys live"), "{screen}");
    assert!(rate(&fleet, 45.0) >= both / 2.0);
}

#[test]
fn rows_are_filtered_sorted_and_told_in_detail() {
    let mut view = View::new(By::Both);
    "V2".clone_into(&mut view.filter);
    view.sort = Sort { column: Some(0), reversed: false };
    view.selected = 9;
    let screen = text(&drawn(&recorded(), &mut view, 30.0, (80, 24), false));
    let rows: Vec<&str> = screen
        .lines()
        .filter(|line| line.contains("webapp|v2 ") && line.contains('%') && !line.contains("with"))
        .collect();
    assert_eq!(rows.len(), 2, "{screen}");
    assert!(rows[0].starts_with("canary-by-header") && rows[1].starts_with("weighted"), "{screen}");
    assert!(screen.contains("ROUTE*") && screen.contains("weighted → webapp|v2: "), "{screen}");
    view.filter.push('?');
    let screen = text(&drawn(&recorded(), &mut view, 30.0, (80, 24), false));
    assert!(screen.contains("no row has this text; Esc shows all"), "{screen}");
    view.help = true;
    let screen = text(&drawn(&recorded(), &mut view, 30.0, (80, 24), false));
    assert!(screen.contains("pause: the picture stands still"), "{screen}");
}

#[test]
fn what_deserves_a_look_is_said() {
    let mut fleet = Fleet::new(["a", "b"].map(str::to_owned), 10.0);
    let stats = |version: u32, failed: u32| {
        let series = [
            ("wasmcustom.meshfilter_configuration_version<plugin=meshfilter>".to_owned(), version),
            ("wasm.meshfilter.vm_reload_success".to_owned(), failed),
            ("listener_manager.lds.update_rejected".to_owned(), failed),
            ("wasmcustom.meshfilter_waiting_requests<reason=keys>".to_owned(), failed),
            (
                "wasmcustom.meshfilter_jwks_fetches_total<destination=auth><result=no_answer>".to_owned(),
                failed,
            ),
            ("wasmcustom.meshfilter_jwks_last_success_timestamp_seconds<destination=auth>".to_owned(), 0),
            ("cluster.webapp|v1.membership_total".to_owned(), 2),
            ("cluster.webapp|v1.membership_healthy".to_owned(), 1),
            ("wasmcustom.meshfilter_tag_overflows_total<tag=tenant>".to_owned(), failed),
            (
                "wasmcustom.meshfilter_rate_limit_service_total<policy=fleet><result=failed>".to_owned(),
                failed,
            ),
            ("wasmcustom.meshfilter_rate_limit_service_total<policy=fleet><result=allowed>".to_owned(), 9),
            (
                "wasmcustom.meshfilter_requests_total<route=r><decision=allowed><response_code=200>"
                    .to_owned(),
                failed,
            ),
        ];
        let one = |(name, value): (String, u32)| format!("{{\"name\":\"{name}\",\"value\":{value}}}");
        format!("{{\"stats\":[{}]}}", series.map(one).join(","))
    };
    for (at, failed) in [(0.0, 0), (2.0, 3)] {
        for (index, version) in [(0, 7), (1, 8)] {
            fleet.take(
                index,
                at,
                Ok([info(5 + at as u32).as_bytes(), stats(version, failed).as_bytes(), b""]),
            );
        }
    }
    let picture = Picture::of(&fleet, &By::Tag("tenant".to_owned()), 2.0, DATE);
    assert_eq!(super::table::limits(&picture), ["fleet: 0.0/s asked, - refused, unavailable 100%"]);
    assert_eq!(
        picture.warnings,
        [
            "a module crashed and was loaded again, 6 times; its trace is in Envoy's log",
            "Envoy refused 6 pushes; its log says why, and the old policy decides",
            "2 policies are in force in the plugin meshfilter",
            "6 requests wait for a key set",
            "no key set of auth could be had yet",
            "2 of 4 endpoints of webapp|v1 are healthy",
            "the rate limit service of fleet did not answer 6 of 6 questions",
            "6 values of the tag tenant became \"other\": raise its maxValues, or list its values",
            "no request has the label tenant; there are decision, response_code, route, and a tag that is in the logs alone is none",
        ]
    );
    assert_eq!(picture.all.requests, 6);
    assert_eq!(picture.all.rps, 3.0);
}

/// What the page asks Prometheus about is what the filter counts.
#[test]
fn the_pages_queries_are_about_series_that_there_are() {
    use meshfilter::policy::metric::LABELS;
    let page = include_str!("../../../docs/live.md");
    let queries: Vec<&str> =
        page.split("```promql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(queries.len(), 10);
    let names = regex::Regex::new(r"meshfilter_[a-z_]+").unwrap();
    let labels = regex::Regex::new(r#"by \(([a-z_, ]+)\)|([a-z_]+)(?:=|!=|=~|!~)""#).unwrap();
    for query in queries {
        let mut series = names.find_iter(query).peekable();
        assert!(series.peek().is_some(), "{query}");
        for name in series {
            let name = name.as_str().trim_end_matches("_bucket");
            assert!(super::metric::Metric::of(&format!("wasmcustom.{name}")).is_some(), "{query}: {name}");
        }
        for found in labels.captures_iter(query) {
            let list = found.get(1).or(found.get(2)).unwrap().as_str();
            for label in list.split(", ") {
                assert!(label == "le" || LABELS.contains(&label), "{query}: {label}");
            }
        }
    }
}

#[test]
fn a_policy_without_telemetry_is_told() {
    let mut fleet = Fleet::new(["a".to_owned()], 10.0);
    let stats =
        r#"{"stats":[{"name":"wasmcustom.meshfilter_configuration_version<plugin=meshfilter>","value":7}]}"#;
    let overflows = r#",{"name":"wasmcustom.meshfilter_tag_overflows_total<tag=all>","value":0}]}"#;
    fleet.take(0, 0.0, Ok([info(5).as_bytes(), stats.as_bytes(), b""]));
    let picture = Picture::of(&fleet, &By::Both, 1.0, DATE);
    let said = "no policy in force has telemetry: {}: requests are not counted, only what policies decide";
    assert_eq!(picture.warnings, [said]);
    // With it that stands there before the first request.
    fleet.take(0, 1.0, Ok([info(6).as_bytes(), stats.replace("]}", overflows).as_bytes(), b""]));
    assert_eq!(Picture::of(&fleet, &By::Both, 1.0, DATE).warnings.len(), 0);
}
