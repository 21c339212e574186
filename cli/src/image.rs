//! `meshfilter image`: what a release consists of.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{Outcome, check, input, report};
use crate::package::module::Module;
use crate::package::{MOST_BYTES, Problem, digest, image, layout, read_bounded};
use meshfilter::config;
use meshfilter::config::Errors;
use meshfilter::config::source::{Language, Source};

/// Make a container image and an OCI artifact of the module
///
/// Both images lie in one OCI layout, FOLDER/oci, under the names VERSION and VERSION-artifact. They depend on the module
/// and on nothing else: the same module has the same digests everywhere. Beside them lie the module, the policy
/// document's JSON Schema, the policies as JSON, and sha256sums. No container engine and no network is needed. Of a native
/// module (.so) there is the container image alone: an image volume of Kubernetes brings it to a proxy. Those of several
/// architectures become one image for all of them.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The module that `make build` leaves, or the native ones that `make native-all` does
    #[arg(value_name = "MODULE", default_value = "target/wasm32-wasip1/release/meshfilter.wasm", num_args = 1..)]
    modules: Vec<PathBuf>,

    /// Where to put it all
    #[arg(long, short, value_name = "FOLDER", default_value = "dist")]
    output: PathBuf,

    /// Policy documents that go with it, as the JSON that Istio, Envoy Gateway and Envoy take; a wrong one stops everything
    #[arg(long, value_name = "FILE", num_args = 1..)]
    policy: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  meshfilter image
  meshfilter image meshfilter.wasm --output release --policy policies/*.yaml
  meshfilter image target/native/*/libmeshfilter.so --output dist/native
  skopeo copy oci:dist/oci:0.1.0 docker://registry.example.com/meshfilter:0.1.0";

/// Writes the release, and says to `output` what it is.
pub fn run(arguments: &Arguments, output: &mut Vec<u8>) -> Outcome {
    Outcome::of(make(arguments), output)
}

fn make(arguments: &Arguments) -> Result<String, Problem> {
    let policies = arguments.policy.iter().map(|file| compile(file)).collect::<Result<Vec<_>, _>>()?;
    let modules = read_modules(&arguments.modules)?;
    let container = image::container_image_of(&modules)?;
    let artifact = image::artifact_of(&modules)?;
    let version = modules.first().map_or("", |module| module.facts.version.as_str());
    let artifact_name = format!("{version}-artifact");

    let mut images = vec![(version, &container)];
    images.extend(artifact.iter().map(|artifact| (artifact_name.as_str(), artifact)));
    let layout = layout::files(&images)?;
    let mut files: Files = layout.into_iter().map(|(name, bytes)| (format!("oci/{name}"), bytes)).collect();
    // Several differ in the architecture, and have a folder each.
    let name = |module: &Module| match &module.platform {
        Some(platform) if modules.len() > 1 => format!("{}/{}", platform.architecture, module.file_name()),
        _ => module.file_name().to_owned(),
    };
    files.extend(modules.iter().map(|module| (name(module), module.bytes.clone())));
    files.insert("policy.schema.json".to_owned(), format!("{:#}\n", config::schema()).into_bytes());
    for (name, policy) in policies {
        files.insert(format!("policies/{name}.json"), policy.into_bytes());
    }
    replace(&arguments.output, files)?;

    let folder = arguments.output.display();
    let mut said = format!(
        "{folder}/oci:{version}  {}  container image, {} bytes\n",
        container.digest(),
        container.size()
    );
    if let Some(artifact) = &artifact {
        let _ = writeln!(
            said,
            "{folder}/oci:{artifact_name}  {}  artifact, {} bytes",
            artifact.digest(),
            artifact.size()
        );
    }
    for module in &modules {
        let _ = writeln!(
            said,
            "{folder}/{}  {}  {} bytes, commit {}",
            name(module),
            module.digest(),
            module.bytes.len(),
            module.facts.commit
        );
    }
    Ok(said)
}

/// Reads modules from files.
pub(super) fn read_modules(paths: &[PathBuf]) -> Result<Vec<Module>, Problem> {
    paths.iter().map(|path| read_module(path)).collect()
}

/// Reads a module from a file.
pub(super) fn read_module(path: &Path) -> Result<Module, Problem> {
    let file = path.display();
    let bytes = read_bounded(path, MOST_BYTES)
        .map_err(|error| Problem::Misused(format!("{file}: {error}; `make build` makes it")))?;
    Module::read(bytes).map_err(|problem| match problem {
        Problem::Wrong(message) => Problem::Wrong(format!("{file}: {message}")),
        Problem::Misused(message) => Problem::Misused(format!("{file}: {message}")),
    })
}

/// A policy's name, and the document as JSON; what is wrong with it is the error.
fn compile(file: &str) -> Result<(String, String), Problem> {
    let bytes = input::read(file).map_err(|error| Problem::Misused(format!("{file}: {error}")))?;
    let checked = check::check(file, &bytes);
    if !checked.errors.is_empty() {
        let said = report::text(&[checked], false);
        return Err(Problem::Wrong(format!("{file} is wrong, so nothing was made\n{}", said.trim_end())));
    }
    let name = Path::new(file).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let source = Source::read(Language::of(file, &checked.text), &checked.text, &Errors::default());
    let value = source.map_err(|error| Problem::Wrong(format!("{file}: {}", error.message)))?.value;
    Ok((name, format!("{value:#}\n")))
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Problem> {
    let path = folder.join(name);
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(&path, bytes))
        .map_err(|error| not_written(&path, &error))
}

fn not_written(path: &Path, error: &std::io::Error) -> Problem {
    Problem::Misused(format!("{}: cannot be written: {error}", path.display()))
}

/// What `sha256sum --check` reads, and by which a later run knows what is this command's own.
const SUMS: &str = "sha256sums";

/// Files by their names below the folder.
type Files = BTreeMap<String, Vec<u8>>;

/// Writes the files in place of those of an earlier run. What else lies in the folder is somebody's: it stays, and where it is in
/// the way nothing is written.
fn replace(folder: &Path, files: Files) -> Result<(), Problem> {
    let written = written(folder);
    let is_own = |name: &str, now: &[u8]| written.get(name) == Some(&digest(now));
    let there = |name: &str| fs::read(folder.join(name)).ok();
    let in_the_way = |(name, bytes): &(&String, &Vec<u8>)| {
        folder.join(name).exists() && there(name).is_none_or(|now| now != **bytes && !is_own(name, &now))
    };
    let foreign: Vec<String> =
        files.iter().filter(in_the_way).map(|(name, _)| folder.join(name).display().to_string()).collect();
    let sums = folder.join(SUMS);
    if !foreign.is_empty() || (sums.exists() && written.is_empty()) {
        let names = if foreign.is_empty() { sums.display().to_string() } else { foreign.join(", ") };
        return Err(Problem::Misused(format!(
            "{names}: `meshfilter image` did not write this, or it was changed since; choose another folder with --output, or \
             remove it"
        )));
    }
    for (name, _) in written.iter().filter(|(name, _)| !files.contains_key(*name)) {
        if there(name).is_some_and(|now| is_own(name, &now)) {
            let path = folder.join(name);
            fs::remove_file(&path).map_err(|error| not_written(&path, &error))?;
        }
    }
    let mut sums = String::new();
    for (name, bytes) in &files {
        write(folder, name, bytes)?;
        let _ = writeln!(sums, "{}  {name}", digest(bytes).trim_start_matches("sha256:"));
    }
    write(folder, SUMS, sums.as_bytes())
}

/// What an earlier run wrote: names below the folder, and digests.
fn written(folder: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(folder.join(SUMS)).unwrap_or_default();
    let below = |name: &str| Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let lines = text.lines().filter_map(|line| line.split_once("  ")).filter(|(_, name)| below(name));
    lines.map(|(sum, name)| (name.to_owned(), format!("sha256:{sum}"))).collect()
}

#[cfg(test)]
mod tests;
