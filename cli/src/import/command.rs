//! The command itself: what is printed where.

use std::io::{self, Write};
use std::path::PathBuf;

use super::Imported;
use super::files::write_files;
use super::options::{ImportOptions, misused};
use super::print::{self, Length};
use super::read::{self, Inputs};
use super::report::Report;
use crate::bootstrap::find_module;
use crate::{Format, Outcome, check};

/// Turn the YAML of a mesh into a policy and an Envoy
///
/// Istio, Gateway API, Linkerd, SMI, Consul, Kubernetes: files as people have them, of which what is of another kind is left
/// alone. The report says of every field what became of it; a field that is not honoured and that would change who gets in,
/// where to, or how often, is an error, and nothing is written.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// YAML or JSON; a folder means every *.yaml, *.yml and *.json in it; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,

    /// The folder that policy.yaml and envoy.yaml are written to; without it the policy goes to standard output
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    #[command(flatten)]
    options: ImportOptions,

    /// How to print the report: text to standard error; JSON to standard output with --output, else to standard error
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// How much of the text there is
    #[arg(long, value_enum, value_name = "LENGTH", default_value_t = Length::Full)]
    report: Length,
}

const EXAMPLES: &str = "\
Examples:
  kubectl get virtualservices,destinationrules,services,endpointslices -o yaml | meshfilter import - --output mesh
  meshfilter import mesh.yaml
  meshfilter import istio/ --labels app=webapp --endpoint webapp=10.0.0.1:8080 --output mesh && envoy -c mesh/envoy.yaml
  meshfilter import gateway.yaml routes.yaml --gateway istio-system/edge --listen 80=0.0.0.0:8080 --output mesh
  meshfilter import mesh.yaml --repair --echo --output mesh --format json | jq '.warnings[]'

The exit code is 1 if a field is refused that would change who gets in, where to, or how often, or if something is missing; then
nothing is written.";

/// Imports, and writes or prints what comes of it.
pub(crate) fn run(arguments: &Arguments, output: &mut Vec<u8>) -> Outcome {
    match done(arguments, output) {
        Ok(outcome) | Err(outcome) => outcome,
    }
}

fn done(arguments: &Arguments, output: &mut Vec<u8>) -> Result<Outcome, Outcome> {
    let options = &arguments.options;
    let wanted = match &arguments.output {
        Some(folder) => Some(options.envoy(folder, find_module(options.module())?)?),
        None => None,
    };
    let texts = read::texts(&arguments.files).map_err(|error| misused(&error))?;
    let mut inputs = Inputs::of(&texts, options.repairs());
    let (Imported { policy, report, .. }, written) = options.import(&mut inputs, &options.scope(), wanted);
    print(&report, &inputs, arguments, output);
    if !report.errors.is_empty() {
        return Ok(Outcome::Wrong);
    }
    let yaml = policy.yaml();
    match &arguments.output {
        None => output.extend_from_slice(yaml.as_bytes()),
        Some(folder) => {
            let secret = policy.is_secret();
            let mut files = vec![(PathBuf::from("policy.yaml"), yaml.into_bytes(), secret)];
            if let Some(written) = written {
                files.push((PathBuf::from("envoy.yaml"), written.bootstrap.yaml().into_bytes(), secret));
                files.extend(written.files);
            }
            write_files(folder, &files).map_err(|error| misused(&error))?;
        }
    }
    Ok(Outcome::Good)
}

fn print(report: &Report, inputs: &Inputs, arguments: &Arguments, output: &mut Vec<u8>) {
    match arguments.format {
        Format::Text => {
            let text = print::text(report, inputs, arguments.report, check::colours_on_errors());
            let _ = io::stderr().lock().write_all(text.as_bytes());
        }
        Format::Json => {
            let json = print::json(report);
            match arguments.output {
                Some(_) => output.extend_from_slice(json.as_bytes()),
                None => drop(io::stderr().lock().write_all(json.as_bytes())),
            }
        }
    }
}
