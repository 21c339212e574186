//! `meshfilter explain`: what becomes of one request, and why.
//!
//! The code of the request path decides, natively, and tells what it looks at ([`meshfilter::trace`]); nothing decides twice.

mod document;
mod request;
mod shown;
mod story;
mod text;
mod token;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use meshfilter::trace;
use serde_json::Value;

use super::{Format, Outcome};
use crate::envoy::policy::name_key_clusters;
use crate::package::Problem;
use crate::proxy::{Normalized, Proxy, Settings, StandIn, normalize, put_keys};
use crate::recorded;
use crate::recorded::tags::{Tags, not_recorded};

pub use document::Document;
pub use shown::{path as shown_path, plain};
pub use story::{Story, percent, tell};

/// Say what becomes of a request, and why
///
/// The code of the request path decides, natively, and tells what it looked at: every policy with its place in the file,
/// whether it held, and the first condition that decided, with the value that it saw and the value that it wanted. No Envoy
/// and no network is needed. The exit code is 0 whatever is decided; with --expect it is 1 if something else comes out.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The policy document; - is standard input
    #[arg(value_name = "POLICY")]
    policy: String,

    /// What is asked for: http://HOST/PATH, or /PATH alone
    #[arg(value_name = "URL", required_unless_present = "request")]
    url: Option<String>,

    /// The method
    #[arg(short = 'X', long = "method", value_name = "METHOD")]
    method: Option<String>,

    /// A header; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    /// A recorded request instead: raw HTTP/1.1, an entry of an HTTP Archive, or a line of the JSON access log; - is
    /// standard input
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    request: Option<String>,

    /// A token for Authorization: Bearer; - reads it from standard input
    #[arg(long, value_name = "JWT", conflicts_with = "claims")]
    token: Option<String>,

    /// Claims that stand for a signed token: a file, or JSON
    #[arg(long, value_name = "FILE|JSON")]
    claims: Option<String>,

    /// The JWT rule whose token the claims are; else the first that takes their issuer
    #[arg(long, value_name = "NAME", requires = "claims")]
    rule: Option<String>,

    /// The key set of the rules that would fetch one
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,

    /// The URI in the certificate of who connects: spiffe://…
    #[arg(long, value_name = "URI-SAN")]
    peer: Option<String>,

    /// The address of who connects
    #[arg(long, value_name = "ADDRESS")]
    source_ip: Option<IpAddr>,

    /// The client's address behind trusted proxies
    #[arg(long, value_name = "ADDRESS")]
    remote_ip: Option<IpAddr>,

    /// The port that is connected to
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// The connection has TLS
    #[arg(long)]
    tls: bool,

    /// What time it is
    #[arg(long, value_name = "RFC3339")]
    now: Option<String>,

    /// What random numbers begin with: the same seed draws the same
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// What the upstream answers
    #[arg(long, value_name = "CODE", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    response: u16,

    /// What has to come out: a status, a decision such as allowed or authz_denied, or NAME=VALUE with status, decision,
    /// destination, route, details or a tag's name
    #[arg(long, value_name = "WHAT")]
    expect: Vec<String>,

    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

const EXAMPLES: &str = "\
Examples:
  meshfilter explain policy.yaml /api/orders
  meshfilter explain policy.yaml -X POST -H 'user-role: guest' http://webapp/api/orders
  meshfilter explain policy.yaml --claims '{\"sub\": \"alice\", \"groups\": [\"admin\"]}' /admin
  meshfilter explain policy.yaml --token \"$TOKEN\" --jwks keys.json /api
  tail -n 1 access.log | meshfilter explain policy.yaml --request -
  meshfilter explain policy.yaml /admin --expect 403 --format json | jq -r '.decision'

Secrets and tokens are never printed whole. A variable that jwksFromEnvironment names is read from the environment of this
command. Paths are normalized first, as Envoy does it with the options that bootstrap writes.";

/// Explains one request, and writes what was found to `output`.
pub(crate) fn run(arguments: &Arguments, output: &mut Vec<u8>) -> Outcome {
    let story = match explain(arguments) {
        Ok(story) => story,
        Err(problem) => return Outcome::of(Err(problem), output),
    };
    let printed = match arguments.format {
        Format::Text => text::text(&story, super::check::colours()),
        Format::Json => serde_json::to_string_pretty(&story).map(|text| text + "\n").unwrap_or_default(),
    };
    output.extend_from_slice(printed.as_bytes());
    match arguments.expect.iter().map(|wanted| unmet(wanted, &story)).collect::<Result<Vec<_>, _>>() {
        Err(message) => {
            eprintln!("meshfilter: {message}");
            Outcome::Misused
        }
        Ok(unmet) => {
            let mut outcome = Outcome::Good;
            for message in unmet.into_iter().flatten() {
                eprintln!("meshfilter: {message}");
                outcome = Outcome::Wrong;
            }
            outcome
        }
    }
}

fn explain(arguments: &Arguments) -> Result<Story, Problem> {
    let misused = Problem::Misused;
    let document = read(&arguments.policy)?;
    let mut policy = document.source.value.clone();
    if let Some(file) = &arguments.jwks {
        put_keys(&mut policy, &key_set(file)?);
    }
    let tags = Tags::of(&policy);
    let (recorded, claims) = request::read(arguments, &tags).map_err(misused)?;
    let logged = tags.logged(&recorded);
    let has = |name: &str| recorded.line.as_ref().is_some_and(|line| line.get(name).is_some());
    let lacks = match recorded.line.is_some() && !has("headers") && !has("claims") {
        true => not_recorded(&policy, &tags),
        false => Vec::new(),
    };
    let now = match &arguments.now {
        Some(text) => Some(recorded::time(text).map_err(|error| misused(format!("--now {error}")))?),
        None => recorded.time,
    };
    let now =
        now.unwrap_or_else(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    let mut request = recorded.request;
    if let Some(claims) = &claims {
        let stand_in = StandIn::of(&policy, arguments.rule.as_deref(), claims).map_err(misused)?;
        StandIn::prepare(&mut policy);
        stand_in.put(&mut request, claims, now);
    }
    match normalize(&request.path) {
        Normalized::Path(path) => request.path = path,
        Normalized::Refused => {
            return Err(misused(
                "Envoy answers this path with 400 before the filter sees it: it has an escaped slash or backslash"
                    .to_owned(),
            ));
        }
    }
    let settings = Settings {
        seed: Some(arguments.seed),
        now: Some(now),
        response: Some(arguments.response),
        environment: std::env::vars().collect(),
        ..Settings::default()
    };
    let mut proxy = Proxy::start(&policy, settings).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Problem::Wrong(format!("{}: the policy is refused\n{}", document.file, lines.join("\n")))
    })?;
    let (answer, events) = trace::listen(|| proxy.send(&request));
    if let Some(logged) = logged
        && logged.differs(&answer.decision)
    {
        eprintln!("meshfilter: the log says {}, and this policy {}", logged.decision, answer.decision);
    }
    if !lacks.is_empty() {
        eprintln!("meshfilter: not recorded, and decided as if absent: {}", lacks.join(", "));
    }
    Ok(tell(&document, &events, &request, &answer, now))
}

/// Reads a policy document; what is wrong with it is told as `check` tells it.
pub fn read(file: &str) -> Result<Document, Problem> {
    let document = super::input::one(file).map_err(Problem::Misused)?;
    parse(&document.file, &document.text)
}

/// Reads the bytes of a policy document.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Document, Problem> {
    use meshfilter::config::Errors;
    use meshfilter::config::source::{Language, Source};
    let checked = super::check::check_filled(file, bytes);
    if !checked.errors.is_empty() {
        let said = super::report::text(std::slice::from_ref(&checked), false);
        return Err(Problem::Wrong(format!("{} is wrong\n{}", checked.file, said.trim_end())));
    }
    let text = checked.text.as_str();
    let mut source = Source::read(Language::of(file, text), text, &Errors::default())
        .map_err(|error| Problem::Wrong(format!("{file}: {}", error.message)))?;
    // As bootstrap fills it in.
    name_key_clusters(&mut source.value);
    Ok(Document { file: checked.file, source })
}

pub(crate) fn key_set(file: &std::path::Path) -> Result<Value, Problem> {
    let wrong = |error: &dyn std::fmt::Display| Problem::Misused(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    serde_json::from_str(&text).map_err(|error| wrong(&format_args!("no key set: {error}")))
}

/// What is not as expected.
fn unmet(wanted: &str, story: &Story) -> Result<Option<String>, String> {
    const DECISIONS: [&str; 7] = [
        "allowed",
        "authn_denied",
        "authz_denied",
        "rate_limited",
        "fault_aborted",
        "direct_response",
        "redirected",
    ];
    let (name, value) = match wanted.split_once('=') {
        Some((name, value)) => (name, value),
        None if wanted.parse::<u16>().is_ok() => ("status", wanted),
        None if DECISIONS.contains(&wanted) => ("decision", wanted),
        None => {
            return Err(format!(
                "--expect {wanted:?} is neither a status nor a decision; use a number, {}, or NAME=VALUE",
                DECISIONS.join(", ")
            ));
        }
    };
    let none = || "none".to_owned();
    let got = match name {
        "status" => story.answer.status.map_or_else(none, |status| status.to_string()),
        "decision" => story.decision.clone().into_owned(),
        "destination" => story.destination.clone().unwrap_or_else(none),
        "route" => story.route.clone().unwrap_or_else(none),
        "details" => story.answer.details.clone(),
        tag => match story.tags.get(tag) {
            Some(value) => value.clone(),
            None => {
                return Err(format!("--expect {wanted:?}: {tag} is neither known nor a tag of the policy"));
            }
        },
    };
    Ok((got != value).then(|| format!("{name} is {got}, should be {value}")))
}
