//! `meshfilter push`: uploads what `meshfilter image` makes.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use oci_client::Reference;
use serde_json::{Value, json};

use super::{Format, Outcome, RegistryOptions, image::read_modules};
use crate::package::fetchers::{Form, Step};
use crate::package::image::Packed;
use crate::package::module::Module;
use crate::package::registry::Registry;
use crate::package::{Problem, digest, fetchers, image, layout};

/// Upload the module to a registry, in both forms
///
/// REFERENCE becomes the container image, which Istio, Envoy Gateway and Kubernetes take; REFERENCE-artifact becomes the
/// artifact, whose layer is the module itself, for Envoy's remote.http_uri. Both are checked against what the fetchers take
/// before anything is uploaded. Of a native module there is the container image alone. Credentials come from Docker's
/// configuration ($DOCKER_CONFIG/config.json, or that of ~/.docker), where `docker login` puts them. The exit code is 0 if all is
/// there, 1 if the module or an image is wrong, 2 if the command was used wrongly or the registry does not take it.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Where to: HOST/NAME:TAG
    #[arg(value_name = "REFERENCE")]
    reference: String,

    /// What: the layout that `meshfilter image` makes, or a module; native ones may be several, one for each architecture
    #[arg(value_name = "FROM", default_value = "dist/oci", num_args = 1..)]
    from: Vec<PathBuf>,

    #[command(flatten)]
    options: RegistryOptions,
}

const EXAMPLES: &str = "\
Examples:
  meshfilter push registry.example.com/mesh/meshfilter:0.1.0
  meshfilter push localhost:5000/meshfilter:dev target/wasm32-wasip1/release/meshfilter.wasm
  meshfilter push registry.example.com/mesh/meshfilter-native:0.1.0 target/native/*/libmeshfilter.so
  meshfilter check policies/*.yaml && meshfilter push registry.example.com/mesh/meshfilter:0.1.0";

/// Uploads both forms, and says to `output` under which names and digests.
pub fn run(arguments: &Arguments, output: &mut Vec<u8>) -> Outcome {
    Outcome::of(push(arguments), output)
}

fn push(arguments: &Arguments) -> Result<String, Problem> {
    let reference = parse(&arguments.reference)?;
    let Some(tag) = named_tag(&arguments.reference, &reference) else {
        return Err(Problem::Misused(format!(
            "{}: say under which tag, as in {}/{}:{}; a digest cannot be chosen",
            arguments.reference,
            reference.registry(),
            reference.repository(),
            env!("CARGO_PKG_VERSION"),
        )));
    };
    let Both { container, artifact, modules } = both(&arguments.from)?;
    let registry = Registry::of(&reference, arguments.options.plain_http)?;
    let (host, name) = (reference.registry().to_owned(), reference.repository().to_owned());
    let artifact =
        artifact.map(|packed| (Reference::with_tag(host, name, format!("{tag}-artifact")), packed));
    let total =
        artifact.iter().map(|(_, packed)| packed.size()).fold(container.size(), usize::saturating_add);
    let progress = Progress::new(total, &reference.whole());
    registry.push(&reference, &container, |blob, there| progress.add(blob, there))?;
    if let Some((reference, packed)) = &artifact {
        registry.push(reference, packed, |blob, there| progress.add(blob, there))?;
    }
    progress.bar.finish_and_clear();

    let image = (reference.whole(), container.digest());
    let artifact = artifact.map(|(reference, packed)| (reference.whole(), packed.digest()));
    let module = modules.first().map(Module::digest).unwrap_or_default();
    let url = registry.blob_url(&reference, &module);
    let sha256 = module.trim_start_matches("sha256:");
    Ok(match (arguments.options.format, artifact) {
        (Format::Text, Some(artifact)) => format!(
            "{} {}\n  container image: Istio, Envoy Gateway, image volumes\n\
             {} {}\n  artifact: the module as it is, for Envoy itself\n    http_uri {url}\n    sha256   {sha256}\n",
            image.0, image.1, artifact.0, artifact.1,
        ),
        (Format::Text, None) => format!("{} {}\n  container image: image volumes\n", image.0, image.1),
        (Format::Json, Some(artifact)) => format!(
            "{:#}\n",
            json!({
                "image": {"reference": image.0, "digest": image.1},
                "artifact": {"reference": artifact.0, "digest": artifact.1},
                "module": {"url": url, "sha256": sha256},
            })
        ),
        (Format::Json, None) => format!(
            "{:#}\n",
            json!({
                "image": {"reference": image.0, "digest": image.1},
                "modules": modules.iter().map(|module| json!({
                    "architecture": module.platform.as_ref().map(|platform| platform.architecture.to_string()),
                    "sha256": module.digest().trim_start_matches("sha256:"),
                })).collect::<Value>(),
            })
        ),
    })
}

/// The two forms of one module.
struct Both {
    container: Packed,
    /// None of a native module.
    artifact: Option<Packed>,
    /// One; of native ones one for each architecture.
    modules: Vec<Module>,
}

fn both(from: &[PathBuf]) -> Result<Both, Problem> {
    let folder = match from {
        [folder] if folder.is_dir() => folder,
        files => {
            let modules = read_modules(files)?;
            let container = image::container_image_of(&modules)?;
            return Ok(Both { container, artifact: image::artifact_of(&modules)?, modules });
        }
    };
    let wrong = |message: &str| Problem::Wrong(format!("{}: {message}", folder.display()));
    let (mut container, mut artifact) = (None, None);
    for (name, packed) in layout::read(folder)? {
        let opened: Result<Vec<_>, _> = packed.single().iter().map(opened).collect();
        let opened = opened.map_err(|why| wrong(&format!("{name}: {why}")))?;
        let forms = opened.first().map(|(form, _)| *form);
        let modules: Vec<_> = opened.into_iter().map(|(_, module)| module).collect();
        match forms {
            Some(Form::Artifact) => artifact = Some((packed, modules)),
            _ => container = Some((packed, modules)),
        }
    }
    let missing =
        || wrong("the layout needs a container image and an artifact; `make image` makes one with both");
    let (container, bytes) = container.ok_or_else(missing)?;
    let modules = bytes.iter().map(|bytes| Module::read(bytes.clone())).collect::<Result<Vec<_>, _>>()?;
    if modules.iter().all(|module| module.platform.is_some()) && artifact.is_none() {
        return Ok(Both { container, artifact: None, modules });
    }
    let (artifact, other) = artifact.ok_or_else(missing)?;
    match bytes == other {
        true => Ok(Both { container, artifact: Some(artifact), modules }),
        false => {
            Err(wrong("the two images hold different modules; make the layout again, with `make image`"))
        }
    }
}

/// What a fetcher gets out of an image: its form, and the module.
pub(super) fn opened(packed: &Packed) -> Result<(Form, Vec<u8>), String> {
    let Step::Layer(found) = fetchers::find(&packed.manifest)? else {
        return Err("this is a list of images; a single one is needed".to_owned());
    };
    let wanted = found.layer.digest().to_string();
    let layer = packed.blobs.iter().find(|blob| digest(blob) == wanted);
    let layer = layer.ok_or_else(|| format!("the layer {wanted} is missing; make the layout again"))?;
    Ok((found.form, fetchers::open(&found, layer.clone())?))
}

/// Reads HOST/NAME[:TAG][@DIGEST].
pub(super) fn parse(reference: &str) -> Result<Reference, Problem> {
    Reference::try_from(reference).map_err(|error| {
        Problem::Misused(format!(
            "{reference}: this is no reference: {error}; write HOST/NAME:TAG in lower case"
        ))
    })
}

/// The tag, if one is written; the parser takes `latest` for none.
fn named_tag<'a>(text: &str, reference: &'a Reference) -> Option<&'a str> {
    let last = text.rsplit('/').next().unwrap_or_default();
    reference.tag().filter(|_| reference.digest().is_none() && last.contains(':'))
}

/// A bar on a terminal; elsewhere a line for each blob.
struct Progress {
    bar: ProgressBar,
    lines: bool,
}

impl Progress {
    fn new(bytes: usize, what: &str) -> Self {
        let lines = !io::stderr().is_terminal();
        let bar = if lines {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(u64::try_from(bytes).unwrap_or(u64::MAX))
        };
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        Progress { bar, lines }
    }

    fn add(&self, blob: &[u8], there: bool) {
        self.bar.inc(u64::try_from(blob.len()).unwrap_or(u64::MAX));
        if self.lines {
            let what = if there { "is there already" } else { "uploaded" };
            eprintln!("{} {} bytes {what}", digest(blob), blob.len());
        }
    }
}
