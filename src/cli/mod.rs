//! The native command's subcommands. They run the code that the module runs.

mod check;
mod report;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Decides in stock Envoy what a service mesh decides, from one policy document.
#[derive(Parser)]
#[command(name = "meshfilter", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::Arguments),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Good,
    /// A document is wrong.
    Wrong,
    /// The command was used wrongly.
    Misused,
}

/// Runs the command with the arguments of the process: 0 is good, 1 a wrong document, 2 wrong use.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let mut output = Vec::new();
    let outcome = match &arguments.command {
        Command::Check(arguments) => check::run(arguments, &mut output),
    };
    // Whoever reads the output may have heard enough and closed it.
    let _ = io::stdout().write_all(&output);
    match outcome {
        Outcome::Good => ExitCode::SUCCESS,
        Outcome::Wrong => ExitCode::from(1),
        Outcome::Misused => ExitCode::from(2),
    }
}
