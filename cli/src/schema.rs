//! `meshfilter schema`: the policy document's JSON Schema.

use meshfilter::config;

/// Print the JSON Schema of the policy document, for editors
///
/// It says which members there are, what they mean and what they default to; an editor completes them and marks what
/// has the wrong shape. What values mean together is for `meshfilter check`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {}

const EXAMPLES: &str = "\
Examples:
  meshfilter schema > policy.schema.json

The first line of a policy then says where it is:
  # yaml-language-server: $schema=policy.schema.json";

/// Writes the schema to `output`.
pub fn run(output: &mut Vec<u8>) {
    output.extend_from_slice(format!("{:#}\n", config::schema()).as_bytes());
}
