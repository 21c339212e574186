//! `meshfilter test`: unit tests for policies.

mod junit;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Outcome as Exit;
use crate::bootstrap::existing_module;
use crate::cases::envoy::{self, Program};
use crate::cases::{self, Case, Only, Outcome, native};
use crate::input;
use crate::run::find_envoy;

/// Run case files: policies with requests, and what has to come of them
///
/// Each file has a policy, or names the file of one, requests in their order, and what has to come back. They run on a proxy in
/// memory with a clock of its own, in milliseconds; no Envoy and no network is needed. With --envoy they run through that
/// Envoy with the module in it. The exit code is 0 if all is as
/// expected, 1 if something is not, 2 if a file cannot be read or is no case.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Case files, or folders with them; - is standard input
    #[arg(value_name = "CASES", required_unless_present = "schema")]
    files: Vec<String>,

    /// Run only cases with this in their name
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// Run them through this envoy binary; those with `only: native` are left out
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,

    /// What Envoy loads: meshfilter.wasm, or the native module (.so); default is the nearest, as for bootstrap
    #[arg(long, value_name = "FILE", requires = "envoy")]
    module: Option<PathBuf>,

    /// How to print what came of them
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Print the JSON Schema of case files, and run nothing
    #[arg(long, conflicts_with = "files")]
    schema: bool,
}

/// How to print what came of cases.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For machines: one JSON document
    Json,
    /// For CI: the XML that JUnit writes
    Junit,
}

const EXAMPLES: &str = "\
Examples:
  meshfilter test cases/
  meshfilter test cases/canary.yaml --filter header
  meshfilter test cases/ --format junit > report.xml
  meshfilter test cases/ --envoy /usr/local/bin/envoy --module meshfilter.wasm
  meshfilter test --schema > case.schema.json

A case:
  name: only admins see /admin
  policy: policy.yaml
  tokens: {alice: {claims: {iss: https://auth.example.com, sub: alice, exp: +1h}}}
  requests:
  - {name: nobody, path: /admin, expect: {status: 401, decision: authn_denied}}
  - {name: alice, path: /admin, headers: {authorization: 'Bearer ${token:alice}'}, expect: {status: 403}}";

/// What came of a file.
struct Ran {
    file: String,
    outcome: Outcome,
    /// Why it was not run.
    skipped: Option<&'static str>,
}

/// Runs the cases, and writes what came of them to `output`.
pub(crate) fn run(arguments: &Arguments, output: &mut Vec<u8>) -> Exit {
    if arguments.schema {
        output.extend_from_slice(format!("{:#}\n", cases::schema()).as_bytes());
        return Exit::Good;
    }
    let program = match program(arguments) {
        Ok(program) => program,
        Err(exit) => return exit,
    };
    let mut exit = Exit::Good;
    let mut misused = |message: String| {
        eprintln!("meshfilter: {message}");
        exit = Exit::Misused;
    };
    let mut found = Vec::new();
    for given in &arguments.files {
        match input::files(given) {
            Ok(files) if files.is_empty() => misused(format!("{given}: there is no case in it")),
            Ok(files) => found.extend(files),
            Err(error) => misused(format!("{given}: {error}")),
        }
    }
    let mut read = Vec::new();
    for file in found {
        match read_case(&file) {
            Ok(case) if is_wanted(&case, arguments.filter.as_deref()) => read.push((file, case)),
            Ok(_) => {}
            Err(error) => misused(error),
        }
    }
    if read.is_empty() {
        if exit == Exit::Good {
            eprintln!(
                "meshfilter: no case has {:?} in its name",
                arguments.filter.as_deref().unwrap_or_default()
            );
        }
        return Exit::Misused;
    }
    let began = Instant::now();
    let ran = run_all(read, program.as_ref());
    let took = began.elapsed();
    let printed = match arguments.format {
        Format::Text => text(&ran, took),
        Format::Json => format!("{:#}\n", json(&ran)),
        Format::Junit => junit::xml(&ran, took),
    };
    output.extend_from_slice(printed.as_bytes());
    match exit {
        Exit::Good if ran.iter().any(|ran| !ran.outcome.is_good()) => Exit::Wrong,
        exit => exit,
    }
}

/// A case from a file, or from standard input.
fn read_case(file: &str) -> Result<Case, String> {
    if file != "-" {
        return cases::case::read(Path::new(file));
    }
    let bytes = input::read(file).map_err(|error| format!("-: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|error| format!("-: {error}; save it as UTF-8"))?;
    cases::case::parse("stdin", &text).map_err(|error| format!("-:{error}"))
}

fn is_wanted(case: &Case, filter: Option<&str>) -> bool {
    filter.is_none_or(|filter| case.id.contains(filter) || case.name.contains(filter))
}

/// Runs the cases on all cores; what came of them is in their order.
fn run_all(cases: Vec<(String, Case)>, program: Option<&Program>) -> Vec<Ran> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(cases.len().max(1));
    let next = Mutex::new(cases.into_iter().enumerate());
    let done = Mutex::new(Vec::new());
    let take = || next.lock().ok().and_then(|mut next| next.next());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((place, (file, case))) = take() {
                    let ran = run_one(file, &case, program);
                    if let Ok(mut done) = done.lock() {
                        done.push((place, ran));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, ran)| ran).collect()
}

fn run_one(file: String, case: &Case, program: Option<&Program>) -> Ran {
    let began = Instant::now();
    let unrun = |why| {
        // The policy has to be good all the same.
        let error = native::start(case).err();
        (Outcome { error, ..Outcome::of(case) }, Some(why))
    };
    let (mut outcome, skipped) = match (case.only, program) {
        (Some(Only::Envoy), None) => unrun("it is for Envoy alone; only its policy was checked"),
        (Some(Only::Native), Some(_)) => unrun("Envoy cannot do this; only its policy was checked"),
        (_, None) => (native::outcomes(case), None),
        (_, Some(program)) => (envoy::outcomes(case, program), None),
    };
    outcome.took = began.elapsed();
    Ran { file, outcome, skipped }
}

/// The Envoy that cases run through, if one is meant. What is wrong was said.
fn program(arguments: &Arguments) -> Result<Option<Program>, Exit> {
    let Some(envoy) = &arguments.envoy else { return Ok(None) };
    let envoy = find_envoy(Some(envoy)).map_err(|error| {
        eprintln!("meshfilter: {error}");
        Exit::Misused
    })?;
    let module = existing_module(arguments.module.as_deref())?;
    Ok(Some(Program { envoy, module }))
}

fn text(ran: &[Ran], took: Duration) -> String {
    let mut out = String::new();
    let (mut requests, mut failed, mut skipped) = (0usize, 0usize, 0usize);
    for Ran { file, outcome, skipped: why } in ran {
        requests = requests.saturating_add(outcome.requests.len());
        let mark = match (outcome.is_good(), why) {
            (true, None) => "ok",
            (true, Some(_)) => "skipped",
            (false, _) => "FAILED",
        };
        out.push_str(&format!("{mark:7} {file}: {}\n", outcome.name));
        if let (true, Some(why)) = (outcome.is_good(), why) {
            skipped = skipped.saturating_add(1);
            out.push_str(&format!("        {why}\n"));
        }
        if !outcome.is_good() {
            failed = failed.saturating_add(1);
            problems(outcome).iter().for_each(|line| out.push_str(&format!("        {line}\n")));
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let passed = ran.len().saturating_sub(failed).saturating_sub(skipped);
    out.push_str(&format!(
        "\n{verdict}: {passed} passed, {failed} failed, {skipped} skipped; {requests} requests in {} ms\n",
        took.as_millis()
    ));
    out
}

/// What is not as expected, a line each, under the request that it is about.
fn problems(outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    for request in outcome.requests.iter().filter(|request| !request.problems.is_empty()) {
        lines.push(format!("{}:", request.name));
        lines.extend(request.problems.iter().map(|problem| format!("  {problem}")));
    }
    lines.extend(outcome.counters.iter().cloned());
    lines.extend(outcome.error.iter().flat_map(|error| error.lines().map(str::to_owned)));
    lines
}

fn json(ran: &[Ran]) -> Value {
    let case = |Ran { file, outcome, skipped }: &Ran| {
        let request = |request: &cases::RequestOutcome| json!({"name": request.name, "ok": request.problems.is_empty(), "problems": request.problems});
        json!({
            "file": file,
            "id": outcome.id,
            "name": outcome.name,
            "ok": outcome.is_good(),
            "skipped": skipped,
            "requests": outcome.requests.iter().map(request).collect::<Value>(),
            "counters": outcome.counters,
            "error": outcome.error,
            "milliseconds": u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX),
        })
    };
    let failed = ran.iter().filter(|ran| !ran.outcome.is_good()).count();
    json!({"ok": failed == 0, "failed": failed, "cases": ran.iter().map(case).collect::<Value>()})
}
