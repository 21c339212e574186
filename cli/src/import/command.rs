//! The command itself: what is printed where, and the files.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Imported;
use super::options::ImportOptions;
use super::read::{self, Inputs};
use super::report::{self, Length, Report};
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

pub(super) fn misused(problem: &str) -> Outcome {
    eprintln!("meshfilter: {problem}");
    Outcome::Misused
}

fn print(report: &Report, inputs: &Inputs, arguments: &Arguments, output: &mut Vec<u8>) {
    match arguments.format {
        Format::Text => {
            let text = report::text(report, inputs, arguments.report, check::colours_on_errors());
            let _ = io::stderr().lock().write_all(text.as_bytes());
        }
        Format::Json => {
            let json = report::json(report);
            match arguments.output {
                Some(_) => output.extend_from_slice(json.as_bytes()),
                None => drop(io::stderr().lock().write_all(json.as_bytes())),
            }
        }
    }
}

/// Writes files into a folder, all or none: each beside its place first, then all are moved there. Files that hold keys are for
/// their owner alone.
pub(super) fn write_files(folder: &Path, files: &[(PathBuf, Vec<u8>, bool)]) -> Result<(), String> {
    let mut done = Vec::new();
    let written = files
        .iter()
        .try_for_each(|(name, content, secret)| write_beside(&folder.join(name), content, *secret, &mut done))
        .and_then(|()| done.iter_mut().try_for_each(Step::replace));
    for step in done.iter().rev() {
        match written {
            Ok(()) => drop(fs::remove_file(&step.old)),
            Err(_) => step.undo(),
        }
    }
    written
}

/// A file that is about to be replaced.
struct Step {
    path: PathBuf,
    /// What it will be.
    new: PathBuf,
    /// What it was.
    old: PathBuf,
    kept: bool,
    replaced: bool,
}

fn write_beside(path: &Path, content: &[u8], secret: bool, done: &mut Vec<Step>) -> Result<(), String> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(|error| wrong(parent, &error))?;
    let named = |more: &str| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(more);
        parent.join(name)
    };
    let step =
        Step { path: path.to_owned(), new: named(".new"), old: named(".old"), kept: false, replaced: false };
    let _ = fs::remove_file(&step.new);
    let mode = if secret { 0o600 } else { 0o644 };
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&step.new);
    let written = opened.and_then(|mut file| file.write_all(content));
    let written = written.map_err(|error| wrong(&step.new, &error));
    done.push(step);
    written
}

impl Step {
    fn replace(&mut self) -> Result<(), String> {
        if self.path.is_dir() {
            return Err(format!("{}: this is a folder", self.path.display()));
        }
        if self.path.exists() {
            fs::rename(&self.path, &self.old).map_err(|error| wrong(&self.path, &error))?;
            self.kept = true;
        }
        fs::rename(&self.new, &self.path).map_err(|error| wrong(&self.path, &error))?;
        self.replaced = true;
        Ok(())
    }

    fn undo(&self) {
        let _ = fs::remove_file(if self.replaced { &self.path } else { &self.new });
        if self.kept {
            let _ = fs::rename(&self.old, &self.path);
        }
    }
}

fn wrong(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use super::write_files;

    fn files(folder: &Path) -> BTreeMap<String, String> {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        let file = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            Some((name, fs::read_to_string(entry.path()).ok()?))
        };
        entries.filter_map(file).collect()
    }

    #[test]
    fn all_files_are_written_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let named = |name: &str, text: &str, secret| (PathBuf::from(name), text.as_bytes().to_vec(), secret);
        write_files(folder, &[named("a", "1", false), named("b", "1", true)]).unwrap();
        write_files(folder, &[named("a", "2", false), named("b", "2", true)]).unwrap();
        let there = files(folder);
        assert_eq!(there, BTreeMap::from([("a".into(), "2".into()), ("b".into(), "2".into())]));
        let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o077;
        assert_eq!(mode("b"), 0);
        // What cannot be moved to its place, and what cannot be written.
        fs::create_dir(folder.join("c")).unwrap();
        for (bad, said) in [("c", "this is a folder"), ("a/d", "")] {
            let wrong = [named("a", "3", false), named("e", "3", false), named(bad, "3", false)];
            assert!(write_files(folder, &wrong).unwrap_err().contains(said), "{bad}");
            assert_eq!(files(folder), there, "{bad}");
        }
    }
}
