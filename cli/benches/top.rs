//! What a refresh of `meshfilter top` costs: a hundred routes, ten thousand series, eighty columns. Processor time, printed; with
//! `--check` it ends after the first rounds.
//!
//! `cargo bench --profile native -p meshfilter-cli --bench top`

use std::fmt::Write;
use std::time::Duration;

use meshfilter_cli::live::{App, By};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use rustix::time::{ClockId, clock_gettime};

const ROUTES: u32 = 100;
const TENANTS: u32 = 10;
const BOUNDS: [u32; 15] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000];

/// What Envoy says after so many rounds: 10 000 counters, and 200 histograms.
fn stats(round: u32) -> String {
    let mut series = Vec::new();
    let mut histograms = Vec::new();
    for route in 0..ROUTES {
        for subset in ["v1", "v2"] {
            let destination = format!("webapp-{route}.default.svc.cluster.local|{subset}");
            let labels = format!("<route=route-{route}><destination={destination}><decision=allowed>");
            for tenant in 0..TENANTS {
                for code in [200, 201, 204, 404, 503] {
                    let value = round * (route + tenant + code);
                    series.push(format!(
                        "{{\"name\":\"wasmcustom.meshfilter_requests_total{labels}<response_code={code}>\
                         <tenant=tenant-{tenant}>\",\"value\":{value}}}"
                    ));
                }
            }
            let mut buckets = String::new();
            for (place, bound) in (1..).zip(BOUNDS) {
                let comma = if place == 1 { "" } else { "," };
                let count = round * place * 100;
                let _ = write!(
                    buckets,
                    "{comma}{{\"upper_bound\":{bound},\"interval\":0,\"cumulative\":{count}}}"
                );
            }
            histograms.push(format!(
                "{{\"name\":\"wasmcustom.meshfilter_request_duration_milliseconds{labels}\",\"buckets\":[{buckets}]}}"
            ));
        }
    }
    series.push(format!("{{\"histograms\":[{}]}}", histograms.join(",")));
    format!("{{\"stats\":[{}]}}", series.join(","))
}

fn processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn main() {
    let check = std::env::args().any(|argument| argument == "--check");
    let rounds = if check { 3 } else { 30 };
    let mut app = App::new(["envoy".to_owned()], 10.0, By::Both, true);
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a terminal in memory");
    let mut took = Vec::new();
    for round in 1..=rounds {
        let stats = stats(round);
        let at = f64::from(round) * 2.0;
        let info = format!(
            "{{\"version\":\"a/1.40.0/b\",\"state\":\"LIVE\",\"uptime_all_epochs\":\"{}s\"}}",
            100 + round * 2
        );
        let began = processor();
        app.take(0, at, Ok([info.as_bytes(), stats.as_bytes(), b""]));
        app.refresh(at, Duration::from_secs(1_800_000_000));
        terminal.draw(|frame| app.draw(frame)).expect("a terminal in memory");
        took.push(processor() - began);
    }
    let drawn = terminal.backend().to_string();
    assert!(drawn.contains("route-99"), "{drawn}");
    // The first answer defines the series, and is told apart.
    let first = took.remove(0);
    took.sort();
    let median = took[took.len() / 2];
    let last = took[took.len() - 1];
    println!("first answer {first:.1?}, a refresh {median:.1?}, the slowest {last:.1?} of processor");
    println!("10200 series, {} KiB of statistics, 200 rows", stats(rounds).len() / 1024);
}
