//! `meshfilter replay`: what another policy would have decided about the requests that there were.

mod decide;
mod input;
mod report;

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::Outcome;
use super::explain::{self, Document};
use crate::package::Problem;
use decide::{Side, Worker};
use input::Chunk;
use report::Report;

/// Say what another policy would have decided about recorded requests
///
/// Every request is decided by both policies, by the code of the request path, and what differs is counted: decisions,
/// destinations, and the policies that made the difference. Random numbers are the same on both sides, token buckets start full
/// and follow the recorded times. The input is streamed. What the log says was
/// decided is held against the old policy first: where that decides otherwise, the log lacks what it looked at. The exit code is
/// 0 if nothing differs, 1 if something does or the old policy contradicts the log, 2 if something cannot be read.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The policy that is
    #[arg(value_name = "OLD")]
    old: String,

    /// The policy that would be
    #[arg(value_name = "NEW")]
    new: String,

    /// Recorded requests: the JSON access log, JSON lines with its names, or HTTP Archives; - is standard input
    #[arg(value_name = "REQUESTS", required = true)]
    requests: Vec<String>,

    /// The key set of the rules that would fetch one, for requests that were recorded with their tokens
    #[arg(long, value_name = "FILE")]
    jwks: Option<std::path::PathBuf>,

    /// What random numbers begin with
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// How many requests of each kind are shown
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    first: usize,

    /// How to print what differs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How to print what differs.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For a pull request
    Markdown,
    /// For machines: one JSON document
    Json,
}

const EXAMPLES: &str = "\
Examples:
  meshfilter replay policy.yaml new.yaml access.log
  git show main:policy.yaml > old.yaml; meshfilter replay old.yaml policy.yaml access.log --format markdown
  zcat access.log.*.gz | meshfilter replay old.yaml new.yaml -
  meshfilter replay old.yaml new.yaml session.har --format json | jq '.kinds[].count'

A line has method and path, and may have time, authority, scheme, client, direct, port, peer, headers and claims; a log of Envoy's
has of headers, cookies, parameters and claims what tags of the old policy wrote into it. Requests that were recorded without
their tokens are decided by their claims.";

/// Replays the requests, and writes what differs to `output`.
pub(crate) fn run(arguments: &Arguments, output: &mut Vec<u8>) -> Outcome {
    let files = match requests(arguments) {
        Ok(files) => files,
        Err(problem) => return Outcome::of(Err(problem), output),
    };
    let (report, wrong) = match replay(arguments, &files) {
        Ok(done) => done,
        Err(problem) => return Outcome::of(Err(problem), output),
    };
    let printed = match arguments.format {
        Format::Text => report.text(),
        Format::Markdown => report.markdown(),
        Format::Json => format!("{:#}\n", report.json()),
    };
    output.extend_from_slice(printed.as_bytes());
    if wrong > 0 {
        for (file, line, error) in &report.unreadable {
            let file = files.get(*file).map(String::as_str).unwrap_or_default();
            eprintln!("meshfilter: {file}:{line}: {error}");
        }
        eprintln!("meshfilter: {wrong} of the requests cannot be read, and were left out");
        return Outcome::Misused;
    }
    if report.differ() > 0 || report.untrue() > 0 { Outcome::Wrong } else { Outcome::Good }
}

/// The files with requests; a folder is every log and archive in it.
fn requests(arguments: &Arguments) -> Result<Vec<String>, Problem> {
    let mut files = Vec::new();
    for given in &arguments.requests {
        let wrong = |error: std::io::Error| Problem::Misused(format!("{given}: {error}"));
        if given == "-" || !std::path::Path::new(given).is_dir() {
            files.push(given.clone());
            continue;
        }
        let before = files.len();
        for entry in std::fs::read_dir(given).map_err(wrong)? {
            let path = entry.map_err(wrong)?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            if path.is_file() && matches!(ending, Some("json" | "jsonl" | "log" | "har")) {
                files.push(path.display().to_string());
            }
        }
        if files.len() == before {
            return Err(Problem::Misused(format!(
                "{given}: there is no .json, .jsonl, .log or .har file in this folder"
            )));
        }
        files.get_mut(before..).into_iter().for_each(<[String]>::sort);
    }
    Ok(files)
}

fn replay(arguments: &Arguments, files: &[String]) -> Result<(Report, u64), Problem> {
    let keys = arguments.jwks.as_deref().map(explain::key_set).transpose()?;
    let sides = [side(&arguments.old, keys.as_ref())?, side(&arguments.new, keys.as_ref())?];
    // What a request leaves behind for others keeps all of them in their order.
    let in_order = sides.iter().any(Side::remembers);
    let threads = if in_order { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    let progress = progress(files);
    let (send, receive) = sync_channel::<Chunk>(threads.saturating_mul(4));
    let receive = Mutex::new(receive);
    let total = Mutex::new(Report::new(arguments.first));
    let mut failed = None;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let part = Worker::start(&sides, arguments.seed, arguments.first).map(|mut worker| {
                    while let Some(chunk) = next(&receive) {
                        worker.decide(chunk);
                    }
                    worker.report
                });
                if let (Ok(part), Ok(mut total)) = (part, total.lock()) {
                    total.add(part);
                }
            });
        }
        failed = input::read(files, &progress, &send).err();
        drop(send);
    });
    progress.finish_and_clear();
    if let Some(message) = failed {
        return Err(Problem::Misused(message));
    }
    let mut report = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let [old, new] = &sides;
    report.not_recorded = [old.looks_beyond(old), new.looks_beyond(old)];
    let wrong = report.wrong;
    Ok((report, wrong))
}

fn next(receive: &Mutex<Receiver<Chunk>>) -> Option<Chunk> {
    receive.lock().ok()?.recv().ok()
}

/// A policy, ready to decide about requests without tokens.
fn side(file: &str, keys: Option<&Value>) -> Result<Side, Problem> {
    let Document { file, source } = explain::read(file)?;
    Side::new(Document { file, source }, keys)
}

/// A bar where it is known how much there is, and a terminal to draw it on.
fn progress(files: &[String]) -> ProgressBar {
    let sizes: Option<u64> = files
        .iter()
        .map(|file| if file == "-" { None } else { std::fs::metadata(file).ok().map(|it| it.len()) })
        .sum();
    let (bar, template) = match sizes {
        Some(size) => (ProgressBar::new(size), "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {bytes_per_sec}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Whether a file can be opened, before anything is decided.
fn open(file: &str) -> Result<Box<dyn std::io::Read>, String> {
    if file == "-" {
        return Ok(Box::new(std::io::stdin()));
    }
    let opened = std::fs::File::open(file).map_err(|error| format!("{file}: {error}"))?;
    Ok(Box::new(opened))
}
