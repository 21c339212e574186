//! The command `meshfilter`: its subcommands run the code that the module runs.
//!
//! | module | what it holds |
//! |---|---|
//! | [`envoy`] | Envoy's configuration, from a policy or by hand |
//! | [`package`] | the module as a container image, as an artifact, in a registry |
//!
//! The others are subcommands, each with its arguments.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
// What is wrong is told, never a panic. Tests may.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects
    )
)]

mod bootstrap;
pub mod cases;
mod check;
mod completions;
pub mod envoy;
pub mod explain;
mod image;
pub mod import;
pub mod input;
mod inspect;
pub mod limits;
pub mod live;
mod member;
pub mod package;
pub mod proxy;
mod push;
pub mod recorded;
mod replay;
mod report;
mod run;
mod schema;
mod test;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::package::Problem;

/// Decides in stock Envoy what a service mesh decides, from one policy document.
#[derive(Parser)]
#[command(name = "meshfilter", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  meshfilter check policy.yaml
  meshfilter explain policy.yaml -H 'user-role: guest' http://webapp/api
  meshfilter run policy.yaml --echo
  meshfilter bootstrap policy.yaml --echo --output envoy.yaml
  meshfilter import mesh.yaml --output mesh
  meshfilter test cases/
  meshfilter replay old.yaml new.yaml access.log
  meshfilter top http://127.0.0.1:9901
  meshfilter tap access.log --status 5xx
  meshfilter limits policy.yaml --for limitador > limits.yaml
  meshfilter schema > policy.schema.json
  meshfilter push registry.example.com/mesh/meshfilter:0.1.0
  meshfilter inspect registry.example.com/mesh/meshfilter:0.1.0
  meshfilter completions bash > ~/.local/share/bash-completion/completions/meshfilter

The exit code is 0 if all is well, 1 if a document or a module is wrong, 2 if the command was used wrongly.
meshfilter COMMAND --help says more about a command.";

#[derive(Subcommand)]
enum Command {
    Check(check::Arguments),
    Explain(Box<explain::Arguments>),
    Bootstrap(bootstrap::Arguments),
    Import(Box<import::Arguments>),
    Run(run::Arguments),
    Test(test::Arguments),
    Replay(replay::Arguments),
    Top(live::top::Arguments),
    Tap(Box<live::tap::Arguments>),
    Limits(limits::Arguments),
    Schema(schema::Arguments),
    Image(image::Arguments),
    Push(push::Arguments),
    Inspect(inspect::Arguments),
    Completions(completions::Arguments),
}

/// How to print what was found.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For machines: one JSON document
    Json,
}

// What commands that ask a registry have in common. Clap would print a doc comment.
#[derive(clap::Args)]
struct RegistryOptions {
    /// Use HTTP without TLS; registries on this machine get that by themselves
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    plain_http: Option<bool>,

    /// How to print what was done or found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Good,
    /// A document or a module is wrong.
    Wrong,
    /// The command was used wrongly.
    Misused,
}

impl Outcome {
    /// Of a command that has something to print, or a problem that belongs on standard error.
    fn of(done: Result<String, Problem>, output: &mut Vec<u8>) -> Self {
        match done {
            Ok(text) => {
                output.extend_from_slice(text.as_bytes());
                Outcome::Good
            }
            Err(problem) => {
                let (message, outcome) = match problem {
                    Problem::Wrong(message) => (message, Outcome::Wrong),
                    Problem::Misused(message) => (message, Outcome::Misused),
                };
                eprintln!("meshfilter: {message}");
                outcome
            }
        }
    }
}

/// Runs the command with the arguments of the process: 0 is good, 1 a wrong document, 2 wrong use.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let mut output = Vec::new();
    let outcome = match &arguments.command {
        Command::Check(arguments) => check::run(arguments, &mut output),
        Command::Explain(arguments) => explain::run(arguments, &mut output),
        Command::Bootstrap(arguments) => bootstrap::run(arguments, &mut output),
        Command::Import(arguments) => import::run(arguments, &mut output),
        Command::Run(arguments) => run::run(arguments),
        Command::Test(arguments) => test::run(arguments, &mut output),
        Command::Replay(arguments) => replay::run(arguments, &mut output),
        Command::Top(arguments) => live::top::run(arguments, &mut output),
        Command::Tap(arguments) => live::tap::run(arguments),
        Command::Limits(arguments) => limits::run(arguments, &mut output),
        Command::Schema(schema::Arguments {}) => {
            schema::run(&mut output);
            Outcome::Good
        }
        Command::Image(arguments) => image::run(arguments, &mut output),
        Command::Push(arguments) => push::run(arguments, &mut output),
        Command::Inspect(arguments) => inspect::run(arguments, &mut output),
        Command::Completions(arguments) => {
            completions::run(arguments, &mut output);
            Outcome::Good
        }
    };
    match print(&output) {
        // Whoever reads the output may have heard enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("meshfilter: the output cannot be written: {error}");
            return ExitCode::from(2);
        }
        _ => {}
    }
    match outcome {
        Outcome::Good => ExitCode::SUCCESS,
        Outcome::Wrong => ExitCode::from(1),
        Outcome::Misused => ExitCode::from(2),
    }
}

fn print(output: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(output)?;
    stdout.flush()
}
