//! `meshfilter check`: what the module would say to a document, with the places.

use std::io;

use serde_json::Value;

use super::input::{self, Document};
use super::report::{self, Checked, Problem};
use super::{Format, Outcome};
use crate::envoy::policy::name_key_clusters;
use meshfilter::config::source::{Language, Place, Source};
use meshfilter::config::{self, ConfigError, Errors, Path};

/// Check policy documents with the code that the module runs
///
/// Every error is printed with its place, its path in the document, and what would be right. The exit code is 0 if
/// all documents are good, 1 if one is wrong, 2 if the command was used wrongly or a file cannot be read.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Policy documents in YAML or JSON, one or several in a file; - is standard input, a folder is every .yaml, .yml and
    /// .json file in it
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,

    /// How to print what was found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

const EXAMPLES: &str = "\
Examples:
  meshfilter check policy.yaml
  meshfilter check policies/ staging.json
  kubectl get wasmplugin meshfilter -o json | jq .spec.pluginConfig | meshfilter check -
  meshfilter check --format json policy.yaml | jq '.files[].errors[]'

A variable that jwksFromEnvironment names is read from the environment of this command.
Colours are for terminals only; NO_COLOR=1 turns them off there, too, and CLICOLOR_FORCE=1 on everywhere.";

const EMPTY: &str = "there is no document here; a policy that decides nothing and lets everything pass is {}";

/// Checks every file, and writes what was found to `output`.
pub fn run(arguments: &Arguments, output: &mut Vec<u8>) -> Outcome {
    let mut outcome = Outcome::Good;
    let mut checked = Vec::new();
    for given in &arguments.files {
        match input::documents(given) {
            Ok(documents) => {
                for Document { file, text, before } in documents {
                    let mut found = check_as_others(&file, &text);
                    found.stands_behind(before);
                    if !found.errors.is_empty() && outcome == Outcome::Good {
                        outcome = Outcome::Wrong;
                    }
                    checked.push(found);
                }
            }
            Err(error) => {
                eprintln!("meshfilter: {error}");
                outcome = Outcome::Misused;
            }
        }
    }
    let printed = match arguments.format {
        Format::Text => report::text(&checked, colours()),
        Format::Json => report::json(&checked),
    };
    output.extend_from_slice(printed.as_bytes());
    outcome
}

/// Terminals get colours, unless the environment says otherwise.
pub(super) fn colours() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

/// The same for standard error.
pub(super) fn colours_on_errors() -> bool {
    anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
}

pub(super) fn check(file: &str, bytes: &[u8]) -> Checked {
    check_with(file, bytes, |_, _| {}, |_, _| {})
}

/// [`check`], after what the document leaves to its reader was filled in.
pub(super) fn check_filled(file: &str, bytes: &[u8]) -> Checked {
    let fill = |value: &mut Value, _: &Errors| {
        name_key_clusters(value);
    };
    check_with(file, bytes, fill, |_, _| {})
}

/// [`check_filled`], with a warning for everything that the other commands fill in and a plugin does not.
fn check_as_others(file: &str, bytes: &[u8]) -> Checked {
    let fill = |value: &mut Value, warnings: &Errors| {
        for (rule, cluster) in name_key_clusters(value) {
            let message = format!(
                "jwksCluster is absent; bootstrap and run name it {cluster:?}, and a plugin that is given this document as it \
                 stands refuses it: name the cluster that serves the key set"
            );
            warnings.add(&Path::ROOT.field("authentication").field("jwtRules").index(rule), message);
        }
    };
    check_with(file, bytes, fill, |_, _| {})
}

/// [`check`], where a good document has to be good for something more, too.
pub(super) fn check_further(file: &str, bytes: &[u8], further: impl FnOnce(&Value, &Errors)) -> Checked {
    let fill = |value: &mut Value, _: &Errors| {
        name_key_clusters(value);
    };
    check_with(file, bytes, fill, further)
}

fn check_with(
    file: &str,
    bytes: &[u8],
    fill: impl FnOnce(&mut Value, &Errors),
    further: impl FnOnce(&Value, &Errors),
) -> Checked {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut checked = Checked {
        file: if file == "-" { "<stdin>" } else { file }.to_owned(),
        text: String::from_utf8_lossy(bytes).into_owned(),
        ..Checked::default()
    };
    match compile(file, bytes, fill, further) {
        Ok((policy, summary, warnings)) => {
            checked.policy = policy;
            checked.summary = Some(summary);
            checked.warnings = warnings;
        }
        Err(errors) => checked.errors = errors,
    }
    checked
}

/// What the policy has and what the operator should know, or everything that is wrong.
fn compile(
    file: &str,
    bytes: &[u8],
    fill: impl FnOnce(&mut Value, &Errors),
    further: impl FnOnce(&Value, &Errors),
) -> Result<(Value, String, Vec<Problem>), Vec<Problem>> {
    let text = std::str::from_utf8(bytes).map_err(|error| vec![not_text(bytes, error.valid_up_to())])?;
    let errors = Errors::default();
    if !input::says_anything(bytes) {
        // A file that is being written, or was cut, must not become a policy that lets everything pass.
        return Err(vec![Problem { path: String::new(), message: EMPTY.to_owned(), place: Place::START }]);
    }
    let mut source = Source::read(Language::of(file, text), text, &errors)
        .map_err(|error| vec![Problem { path: String::new(), message: error.message, place: error.place }])?;
    if let Some((path, message)) = no_policy(&source.value) {
        let place = source.place(path, true);
        return Err(vec![Problem { path: path.to_owned(), message, place }]);
    }
    let mut value = source.value.take();
    let filled = Errors::default();
    fill(&mut value, &filled);
    finish(value, errors, filled, |error| source.place(&error.path, error.at_name), further)
}

fn finish(
    value: Value,
    errors: Errors,
    filled: Errors,
    place: impl Fn(&ConfigError) -> Place,
    further: impl FnOnce(&Value, &Errors),
) -> Result<(Value, String, Vec<Problem>), Vec<Problem>> {
    let locate = |errors: Vec<ConfigError>| -> Vec<Problem> {
        let problem = |error: ConfigError| {
            let place = place(&error);
            Problem { path: error.path, message: error.message, place }
        };
        let mut problems: Vec<Problem> = errors.into_iter().map(problem).collect();
        problems.sort_by_key(|problem| (problem.place.line, problem.place.column));
        problems
    };
    let compiled = match config::compile(&value, &|name| std::env::var(name).ok(), errors) {
        Ok(compiled) => compiled,
        Err(errors) => return Err(locate(errors)),
    };
    let errors = Errors::default();
    further(&value, &errors);
    match errors.into_vec() {
        none if none.is_empty() => {
            let warnings = filled.into_vec().into_iter().chain(compiled.warnings).collect();
            Ok((value, compiled.policy.to_string(), locate(warnings)))
        }
        errors => Err(locate(errors)),
    }
}

fn not_text(bytes: &[u8], valid: usize) -> Problem {
    let before = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default()).into_owned();
    let line = before.matches('\n').count().saturating_add(1);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
    Problem {
        path: String::new(),
        message: "this byte is not part of UTF-8 text; save the file as UTF-8".to_owned(),
        place: Place { line, column, length: 1 },
    }
}

/// What a document is that holds a policy or parts of one, and where those belong.
fn no_policy(value: &Value) -> Option<(&'static str, String)> {
    if value.get("static_resources").is_some() {
        let message = "this is a bootstrap of Envoy, not a policy; the policy is the configuration.value of its wasm \
                       filter; check that";
        return Some(("static_resources", message.to_owned()));
    }
    value.get("apiVersion")?;
    let kind = value.get("kind")?.as_str()?;
    let remedy = match kind {
        "RequestAuthentication" => "put the jwtRules of its spec under authentication",
        "AuthorizationPolicy" => {
            "make its spec, with metadata.name as name and without the selector, an entry of authorization"
        }
        "VirtualService" => "put the http of its spec under http",
        "WasmPlugin" => "the policy is its spec.pluginConfig; check that",
        "EnvoyExtensionPolicy" => "the policy is the config in its spec.wasm; check that",
        "EnvoyFilter" => {
            "the policy is the configuration of the wasm filter in its configPatches; check that"
        }
        "ConfigMap" => "the policy is a member of its data; check that",
        _ => {
            "a policy has only authentication, authorization, http, rateLimits, telemetry and what stands beside them"
        }
    };
    Some(("kind", format!("this is a whole {kind} resource, not a policy; {remedy}")))
}

#[cfg(test)]
mod tests;
