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

/// Envoy's own log has no headers: what both policies deny for that reason says nothing about the new one.
#[test]
fn a_log_that_contradicts_the_old_policy_is_told() {
    let policy = |role: &str, tags: &str| {
        format!(
            "authorization: [{{name: a, action: ALLOW, rules: [{{when: [{{key: 'request.headers[user-role]', values: [{role}]}}]}}]}}]\n\
             telemetry: {{tags: [{tags}]}}\n"
        )
    };
    let line = |role: &str, details: &str, status: u16| {
        format!(
            "{{\"method\": \"GET\", \"path\": \"/\", \"status\": {status}, \"details\": \"{details}\", \"role\": \"{role}\"}}\n"
        )
    };
    let log =
        line("user", "via_upstream", 200) + &line("guest", "rbac_access_denied_matched_policy[none]", 403);
    let log = file("logged.jsonl", &log);
    let new = file("logged-new.yaml", &policy("admin", ""));
    for (tags, code, says, differ) in [
        (
            "",
            1,
            "the old policy decides 1 of 2 otherwise than the log (1 allowed in the log are authz_denied)",
            0,
        ),
        ("{name: role, value: {header: user-role}, in: [logs]}", 1, "2 requests, 1 are decided otherwise", 1),
    ] {
        let old = file("logged-old.yaml", &policy("user", tags));
        let run = |format: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_meshfilter"));
            command.args(["replay", &old, &new, &log, "--format", format]).output().unwrap()
        };
        let output = run("text");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.code() == Some(code) && said.contains(says), "{said}");
        assert_eq!(said.contains("decided as if absent: header user-role"), tags.is_empty(), "{said}");
        let report: Value = serde_json::from_slice(&run("json").stdout).unwrap();
        assert_eq!(report["differ"], differ, "{report:#}");
    }
    // The same for one line of it.
    let old =
        file("logged-old.yaml", &policy("user", "{name: role, value: {header: user-role}, in: [logs]}"));
    let output = Command::new(env!("CARGO_BIN_EXE_meshfilter"))
        .args(["explain", &old, "--request", &log])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"user\""), "{output:?}");
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
