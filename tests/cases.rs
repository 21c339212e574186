//! Every case of `tests/cases` on the fake host, each a test with the file's name.

#[path = "support/self_test.rs"]
mod self_test;
mod support;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use support::case::{self, Case, Only};
use support::native;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let cases = match case::read_all(&support::repository("tests/cases")) {
        Ok(cases) if !cases.is_empty() => cases,
        Ok(_) => {
            eprintln!("tests/cases has no case");
            return ExitCode::FAILURE;
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials: Vec<Trial> = self_test::trials();
    trials.extend(cases.into_iter().map(|case| Trial::test(case.id.clone(), move || run(&case))));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A case that is for Envoy alone still has to have a policy that is accepted.
fn run(case: &Case) -> Result<(), Failed> {
    let ran = match case.only {
        Some(Only::Envoy) => native::start(case).map(|_| ()),
        _ => native::run(case),
    };
    ran.map_err(|error| format!("{}\n{error}", case.name).into())
}
