//! Every case of `tests/cases` through a real Envoy, each a test with the file's name; several Envoys side by side.

mod support;

use std::process::ExitCode;
use std::time::Instant;

use libtest_mimic::{Arguments, Failed, Trial};
use support::case::{self, Case, Only};
use support::envoy;

/// How many Envoys run at the same time unless `--test-threads` says otherwise.
const SIDE_BY_SIDE: usize = 3;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(SIDE_BY_SIDE);
    let cases = match case::read_all(&support::repository("tests/cases")) {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials = vec![Trial::test("self_test::wrong_expectations_fail", wrong_expectations_fail)];
    let cases = cases.into_iter().filter(|case| case.only != Some(Only::Native));
    trials.extend(cases.map(|case| Trial::test(case.id.clone(), move || run(&case))));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(case: &Case) -> Result<(), Failed> {
    let began = Instant::now();
    let ran = envoy::run(case);
    println!("{}: {:.1?}", case.id, began.elapsed());
    ran.map_err(|error| format!("{}\n{error}", case.name).into())
}

/// The runner on itself: a check that cannot fail is worth nothing.
fn wrong_expectations_fail() -> Result<(), Failed> {
    let wrong = [
        ("{status: 403}", "right: status is 200, should be [403]"),
        ("{upstream: v1}", "upstream is Some(\"fallback\"), should be Some(\"v1\")"),
        ("{upstreamPath: /b}", "path at the upstream is \"/a\""),
        ("{upstreamHeaders: {y: \"a\\xfeb\"}}", "header y at the upstream is \"a\\xffb\""),
        ("{details: x}", "details is \"via_upstream\", should be \"x\""),
        ("{headers: {x-upstream: null}}", "response header x-upstream is \"fallback\", should be absent"),
        ("{filterState: {t: x}}", "filter state t is absent"),
        ("{reset: true}", "should be closed without an answer"),
        ("{delay: 5s}", "should be 5s"),
    ];
    let request = |expect: &str| {
        format!("- {{name: right, path: /a, headers: {{y: \"a\\xffb\"}}, expect: {expect}}}\n")
    };
    let requests: String = wrong.iter().map(|(expect, _)| request(expect)).collect();
    let text = format!("name: n\npolicy: {{}}\nrequests:\n{requests}counters: {{none: 1}}\n");
    let error = envoy::run(&case::parse("self", &text)?).err().ok_or("everything wrong passed")?;
    let lines: Vec<&str> = error.lines().collect();
    for ((expect, problem), line) in wrong.iter().zip(&lines) {
        if !line.contains(problem) {
            return Err(format!("{expect}: {line:?} does not say {problem:?}").into());
        }
    }
    match lines.get(wrong.len()) {
        Some(line) if line.contains("counter none is 0, should be 1") => Ok(()),
        other => Err(format!("a wrong counter: {other:?}").into()),
    }
}
