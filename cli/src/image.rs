//! `meshfilter image`: what a release consists of.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Outcome, check, report};
use crate::package::module::Module;
use crate::package::{Problem, digest, image, layout};
use meshfilter::config;
use meshfilter::config::Errors;
use meshfilter::config::source::{Language, Source};

/// Make a container image and an OCI artifact of the module
///
/// Both images lie in one OCI layout, FOLDER/oci, under the names VERSION and VERSION-artifact. They depend on the module
/// and on nothing else: the same module has the same digests everywhere. Beside them lie the module, the policy
/// document's JSON Schema, the policies as JSON, and sha256sums. No container engine and no network is needed.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The module that `make build` leaves
    #[arg(value_name = "MODULE", default_value = "target/wasm32-wasip1/release/meshfilter.wasm")]
    module: PathBuf,

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
  skopeo copy oci:dist/oci:0.1.0 docker://registry.example.com/meshfilter:0.1.0";

/// Writes the release, and says to `output` what it is.
pub fn run(arguments: &Arguments, output: &mut Vec<u8>) -> Outcome {
    Outcome::of(make(arguments), output)
}

fn make(arguments: &Arguments) -> Result<String, Problem> {
    let policies = arguments.policy.iter().map(|file| compile(file)).collect::<Result<Vec<_>, _>>()?;
    let module = read_module(&arguments.module)?;
    let container = image::container_image(&module)?;
    let artifact = image::artifact(&module)?;
    let version = &module.facts.version;
    let artifact_name = format!("{version}-artifact");

    let folder = &arguments.output;
    layout::write(&folder.join("oci"), &[(version, &container), (&artifact_name, &artifact)])?;
    let policy_folder = folder.join("policies");
    if policy_folder.exists() {
        fs::remove_dir_all(&policy_folder).map_err(|error| not_written(&policy_folder, &error))?;
    }
    write(folder, "meshfilter.wasm", &module.bytes)?;
    write(folder, "policy.schema.json", format!("{:#}\n", config::schema()).as_bytes())?;
    for (name, policy) in policies {
        write(folder, &format!("policies/{name}.json"), policy.as_bytes())?;
    }
    let sums = sums(folder).map_err(|error| not_written(folder, &error))?;
    write(folder, "sha256sums", sums.as_bytes())?;

    let folder = folder.display();
    Ok(format!(
        "{folder}/oci:{version}  {}  container image, {} bytes\n\
         {folder}/oci:{artifact_name}  {}  artifact, {} bytes\n\
         {folder}/meshfilter.wasm  {}  {} bytes, commit {}\n",
        container.digest(),
        container.size(),
        artifact.digest(),
        artifact.size(),
        module.digest(),
        module.bytes.len(),
        module.facts.commit,
    ))
}

/// Reads a module from a file.
pub(super) fn read_module(path: &Path) -> Result<Module, Problem> {
    let file = path.display();
    let bytes = fs::read(path)
        .map_err(|error| Problem::Misused(format!("{file}: {error}; `make build` makes it")))?;
    Module::read(bytes).map_err(|problem| match problem {
        Problem::Wrong(message) => Problem::Wrong(format!("{file}: {message}")),
        Problem::Misused(message) => Problem::Misused(format!("{file}: {message}")),
    })
}

/// A policy's name, and the document as JSON; what is wrong with it is the error.
fn compile(file: &str) -> Result<(String, String), Problem> {
    let bytes = check::read(file).map_err(|error| Problem::Misused(format!("{file}: {error}")))?;
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

/// What `sha256sum --check` reads: every file below the folder but this one.
fn sums(folder: &Path) -> std::io::Result<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            match path.strip_prefix(folder) {
                _ if path.is_dir() => folders.push(path),
                Ok(name) if name != Path::new("sha256sums") => names.push(name.to_owned()),
                _ => {}
            }
        }
    }
    names.sort();
    let mut sums = String::new();
    for name in names {
        let sum = digest(&fs::read(folder.join(&name))?);
        let _ = writeln!(sums, "{}  {}", sum.trim_start_matches("sha256:"), name.display());
    }
    Ok(sums)
}
