//! `meshfilter replay`: draws are the same on both sides, whatever else a policy draws.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

const SPLIT: &str = "route: [{destination: {host: v1}, weight: 50}, {destination: {host: v2}, weight: 50}]";
const REQUESTS: usize = 400;

fn file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("replay-{name}"));
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn replay(name: &str, old: &str, new: &str) -> Value {
    let requests = "{\"method\": \"GET\", \"path\": \"/\"}\n".repeat(REQUESTS);
    let files = [
        file(&format!("{name}-old.yaml"), &format!("http: [{{{old}}}]")),
        file(&format!("{name}-new.yaml"), &format!("http: [{{{new}}}]")),
        file(&format!("{name}-requests.jsonl"), &requests),
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_meshfilter"))
        .arg("replay")
        .args(files)
        .args(["--format", "json"])
        .output()
        .unwrap();
    assert!(output.status.code().is_some_and(|code| code < 2), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_a_policy_draws_besides_moves_nobody() {
    let delayed = format!("fault: {{delay: {{percentage: {{value: 30}}, fixedDelay: 1ms}}}}, {SPLIT}");
    let report = replay("delayed", SPLIT, &delayed);
    assert_eq!(report["kinds"].as_array().map(Vec::len), Some(0), "{report:#}");
}

#[test]
fn who_is_aborted_is_drawn_from_both_arms() {
    let aborted = format!("fault: {{abort: {{percentage: {{value: 50}}, httpStatus: 503}}}}, {SPLIT}");
    let report = replay("aborted", &aborted, SPLIT);
    let kinds = report["kinds"].as_array().unwrap();
    let counts: Vec<u64> = kinds.iter().map(|kind| kind["count"].as_u64().unwrap()).collect();
    // A quarter goes from the fault to each arm: four standard deviations are 35.
    assert!(counts.len() == 2 && counts.iter().all(|count| (65..=135).contains(count)), "{report:#}");
}
