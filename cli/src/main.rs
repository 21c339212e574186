//! The command.

fn main() -> std::process::ExitCode {
    meshfilter_cli::run()
}
