//! `meshfilter completions`: what a shell has to know to complete the command's arguments.

use clap::CommandFactory;
use clap_complete::Shell;

/// Print a script that makes a shell complete this command's arguments
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  meshfilter completions bash > ~/.local/share/bash-completion/completions/meshfilter
  meshfilter completions zsh > ~/.zfunc/_meshfilter      # with ~/.zfunc in fpath
  meshfilter completions fish > ~/.config/fish/completions/meshfilter.fish";

/// Writes the script to `output`.
pub fn run(arguments: &Arguments, output: &mut Vec<u8>) {
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "meshfilter", output);
}
