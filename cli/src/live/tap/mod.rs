//! `meshfilter tap`: every request as it ends, from the JSON access log.

mod follow;
mod line;
mod show;
mod why;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use self::follow::{Input, LONGEST, Lines, More};
use self::line::{Line, Status, Wanted};
use self::show::Style;
use self::why::Explainer;
use crate::package::Problem;
use crate::recorded::tags::Names;
use crate::{Outcome, check, explain};

/// How long a file that has nothing new is left alone.
const PAUSE: Duration = Duration::from_millis(100);

/// See every request as it ends
///
/// One line for each request of the JSON access log that `meshfilter bootstrap` has Envoy write. A file is followed, over
/// rotation, from its beginning or with --new from its end; standard input ends by itself. With --why and the policy, the code
/// of the request path says which rule decided, by which field, with which value.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The JSON access log; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: String,

    /// Requests of this entry of http; none is none
    #[arg(long, value_name = "NAME")]
    route: Vec<String>,

    /// Requests with this decision
    #[arg(long, value_name = "DECISION", value_parser = DECISIONS)]
    decision: Vec<String>,

    /// Requests with this status: 503, or a class such as 5xx
    #[arg(long, value_name = "STATUS")]
    status: Vec<Status>,

    /// Requests with this method
    #[arg(long, value_name = "METHOD")]
    method: Vec<String>,

    /// Requests whose path begins so
    #[arg(long, value_name = "PREFIX")]
    path: Vec<String>,

    /// Requests with this value of a tag
    #[arg(long, value_name = "NAME=VALUE", value_parser = tag)]
    tag: Vec<(String, String)>,

    /// No more lines a second; how many were left out is told
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,

    /// Begin with what is written from now on
    #[arg(long)]
    new: bool,

    /// How to print a request: wide has everything that the log has, json is one object a line
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Style>,

    /// Say why it was decided so
    #[arg(long, requires = "policy")]
    why: bool,

    /// The policy that decided
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,

    /// The key set of the rules that would fetch one
    #[arg(long, value_name = "FILE", requires = "policy")]
    jwks: Option<PathBuf>,
}

const DECISIONS: [&str; 7] = [
    "allowed",
    "authn_denied",
    "authz_denied",
    "rate_limited",
    "fault_aborted",
    "direct_response",
    "redirected",
];

const EXAMPLES: &str = "\
Examples:
  meshfilter tap /var/log/envoy/access.log --status 5xx
  kubectl logs -f deploy/gateway | meshfilter tap --decision authz_denied --why --policy policy.yaml
  docker compose logs -f --no-log-prefix envoy | meshfilter tap - --route weighted --tag tenant=acme
  meshfilter tap access.log --new --rate 5 -o wide
  meshfilter tap - -o json < access.log | jq -r 'select(.duration_ms > 1000) | .path'

Envoy writes the JSON log while the runtime key access_log.json says so:
  curl -X POST 'localhost:9901/runtime_modify?access_log.json=100&access_log.text=0'
--why knows of headers, cookies, parameters and claims what the policy's tags have written into the log.";

fn tag(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or("use NAME=VALUE, such as tenant=acme")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Prints requests until the input ends.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    match tap(arguments) {
        Ok(()) => Outcome::Good,
        Err(problem) => Outcome::of(Err(problem), &mut Vec::new()),
    }
}

fn tap(arguments: &Arguments) -> Result<(), Problem> {
    let explainer = match &arguments.policy {
        Some(policy) => {
            let keys = arguments.jwks.as_deref().map(explain::key_set).transpose()?;
            Some(Explainer::new(explain::read(policy)?, keys.as_ref())?)
        }
        None => None,
    };
    let wrong = |error: io::Error| Problem::Misused(format!("{}: {error}", arguments.file));
    let mut input = Input::open(&arguments.file, arguments.new).map_err(wrong)?;
    let mut tap = Tap::new(arguments, explainer, BufWriter::new(io::stdout()));
    let mut lines = Lines::default();
    loop {
        let more = input.read(&mut lines, &mut |line| tap.take(line)).map_err(wrong)?;
        // Whoever looks sees at once what there is.
        tap.flush();
        match more {
            More::Yes => {}
            More::Later => std::thread::sleep(PAUSE),
            More::No => break,
        }
        if tap.broken.is_some() {
            break;
        }
    }
    tap.finish();
    match tap.broken {
        // Whoever reads the output may have heard enough.
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Problem::Misused(format!("the output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// What becomes of lines.
struct Tap<'a, W> {
    arguments: &'a Arguments,
    wanted: Wanted,
    names: Names,
    explainer: Option<Explainer>,
    out: W,
    colours: bool,
    began: Instant,
    /// The second that is being printed, and how much of it was.
    second: (Option<u64>, u32),
    left_out: u64,
    number: u64,
    unreadable: u64,
    told_of_routes: bool,
    /// Why no more can be written.
    broken: Option<io::Error>,
}

impl<'a, W: Write> Tap<'a, W> {
    fn new(arguments: &'a Arguments, explainer: Option<Explainer>, out: W) -> Self {
        let names = explainer.as_ref().map_or_else(Names::default, |explainer| explainer.names().clone());
        Tap {
            wanted: Wanted {
                routes: arguments.route.clone(),
                decisions: arguments.decision.clone(),
                statuses: arguments.status.clone(),
                methods: arguments.method.clone(),
                paths: arguments.path.clone(),
                tags: arguments.tag.clone(),
            },
            arguments,
            names,
            explainer,
            out,
            colours: check::colours(),
            began: Instant::now(),
            second: (None, 0),
            left_out: 0,
            number: 0,
            unreadable: 0,
            told_of_routes: false,
            broken: None,
        }
    }

    /// Takes a line; whether it goes on.
    fn take(&mut self, line: follow::Line<'_>) -> bool {
        self.number = self.number.saturating_add(1);
        match line {
            Ok(bytes) if bytes.trim_ascii().is_empty() => {}
            Ok(bytes) => match self.read(bytes) {
                Ok((value, line)) => self.request(&value, line),
                Err(error) => self.cannot_read(&error, bytes),
            },
            Err(follow::TooLong) => self.cannot_read(&format!("it is longer than {LONGEST} bytes"), b""),
        }
        self.broken.is_none()
    }

    fn read(&self, bytes: &[u8]) -> Result<(Value, Line), String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("no JSON: {error}"))?;
        let line = Line::of(&value, &self.names)?;
        Ok((value, line))
    }

    /// The first line that is none is told with what to do, the others are counted.
    fn cannot_read(&mut self, error: &str, bytes: &[u8]) {
        self.unreadable = self.unreadable.saturating_add(1);
        if self.unreadable > 1 {
            return;
        }
        let remedy = match bytes.first() {
            Some(b'[') => {
                "; if this is Envoy's text log, turn the JSON log on: \
                 curl -X POST 'localhost:9901/runtime_modify?access_log.json=100&access_log.text=0'"
            }
            _ => "",
        };
        eprintln!("meshfilter: {}:{}: left out: {error}{remedy}", self.arguments.file, self.number);
    }

    fn request(&mut self, value: &Value, mut line: Line) {
        if line.route.is_none() && !self.arguments.route.is_empty() {
            match &mut self.explainer {
                Some(explainer) => line.route = explainer.route(value, &line),
                None => self.tell_of_routes(value),
            }
        }
        if !self.wanted.holds(&line) || !self.has_room(&line) {
            return;
        }
        let why = match &mut self.explainer {
            Some(explainer) if self.arguments.why => Some(explainer.why(value, &line)),
            _ => None,
        };
        let text = show::text(&line, why.as_ref(), self.arguments.output, self.colours);
        let written = self.out.write_all(text.as_bytes());
        self.note(written);
    }

    fn tell_of_routes(&mut self, value: &Value) {
        if !self.told_of_routes && value.get(&self.names.route).is_none() {
            self.told_of_routes = true;
            eprintln!(
                "meshfilter: --route: the log has no routes; give the policy with --policy, or let it write them there: \
                 telemetry: {{tags: [{{name: route, value: {{route: true}}, in: [logs]}}]}}"
            );
        }
    }

    /// Whether there is room in the second of this request; where the log has no times, in this one.
    fn has_room(&mut self, line: &Line) -> bool {
        let Some(rate) = self.arguments.rate else { return true };
        let second = line.when().map_or_else(|| self.began.elapsed().as_secs(), |time| time.as_secs());
        if self.second.0 != Some(second) {
            self.second = (Some(second), 0);
        }
        let room = self.second.1 < rate;
        match room {
            true => self.second.1 = self.second.1.saturating_add(1),
            false => self.left_out = self.left_out.saturating_add(1),
        }
        room
    }

    fn flush(&mut self) {
        let flushed = self.out.flush();
        self.note(flushed);
    }

    fn note(&mut self, written: io::Result<()>) {
        self.broken = self.broken.take().or(written.err());
    }

    fn finish(&mut self) {
        self.flush();
        if self.left_out > 0 {
            eprintln!("meshfilter: {} more requests, left out by --rate", self.left_out);
        }
        if self.unreadable > 1 {
            eprintln!(
                "meshfilter: {} lines of {} are no requests, and were left out",
                self.unreadable, self.number
            );
        }
    }
}
