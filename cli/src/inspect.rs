//! `meshfilter inspect`: which module something is.

use std::fmt::Write;
use std::path::Path;

use oci_client::Reference;
use serde_json::{Value, json};

use super::push::{opened, parse};
use super::{Format, Outcome, RegistryOptions, image::read_module};
use crate::package::fetchers::{Form, Step};
use crate::package::image::Packed;
use crate::package::module::Module;
use crate::package::registry::Registry;
use crate::package::{Problem, digest, fetchers, layout};

/// Say which module a file or an image is
///
/// Version, commit, ABI and policies are read out of the module itself. An image is read as the fetchers of Istio and Envoy
/// Gateway read it; what they would refuse is an error that says why. The exit code is 0 if it is a module that they take,
/// 1 if it is not, 2 if the command was used wrongly or it cannot be had.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// A module, a folder with an OCI layout, or HOST/NAME:TAG, HOST/NAME@DIGEST in a registry
    #[arg(value_name = "REFERENCE|FILE")]
    what: String,

    #[command(flatten)]
    options: RegistryOptions,
}

const EXAMPLES: &str = "\
Examples:
  meshfilter inspect target/wasm32-wasip1/release/meshfilter.wasm
  meshfilter inspect target/native/libmeshfilter.so
  meshfilter inspect dist/oci
  meshfilter inspect registry.example.com/mesh/meshfilter:0.1.0
  meshfilter inspect --format json dist/oci | jq -r '.images[].digest'";

/// One image that holds the module.
struct Image {
    name: String,
    form: Form,
    digest: String,
    bytes: usize,
}

/// Says to `output` what it is.
pub fn run(arguments: &Arguments, output: &mut Vec<u8>) -> Outcome {
    Outcome::of(inspect(arguments), output)
}

fn inspect(arguments: &Arguments) -> Result<String, Problem> {
    let path = Path::new(&arguments.what);
    let (module, images) = if path.is_dir() {
        of_layout(path)?
    } else if path.exists() || arguments.what.ends_with(".wasm") || arguments.what.ends_with(".so") {
        (read_module(path)?, Vec::new())
    } else {
        of_registry(&parse(&arguments.what)?, arguments.options.plain_http)?
    };
    Ok(match arguments.options.format {
        Format::Text => text(&module, &images),
        Format::Json => format!("{:#}\n", machine(&module, &images)),
    })
}

fn of_layout(folder: &Path) -> Result<(Module, Vec<Image>), Problem> {
    let (mut modules, mut images) = (Vec::new(), Vec::new());
    for (name, packed) in layout::read(folder)? {
        let (form, module) =
            opened(&packed).map_err(|why| Problem::Wrong(format!("{}: {name}: {why}", folder.display())))?;
        images.push(Image { name, form, digest: packed.digest(), bytes: packed.size() });
        modules.push(module);
    }
    modules.dedup();
    match <[_; 1]>::try_from(modules) {
        Ok([module]) => Ok((Module::read(module)?, images)),
        Err(modules) => Err(Problem::Wrong(format!(
            "{}: this layout holds {} modules, and should hold one; `make image` makes it again",
            folder.display(),
            modules.len()
        ))),
    }
}

fn of_registry(reference: &Reference, plain_http: Option<bool>) -> Result<(Module, Vec<Image>), Problem> {
    let wrong = |why: String| Problem::Wrong(format!("{reference}: {why}"));
    let registry = Registry::of(reference, plain_http)?;
    let mut manifest = registry.manifest(reference)?;
    let mut step = fetchers::find(&manifest).map_err(wrong)?;
    if let Step::Manifest(chosen) = &step {
        manifest = registry.manifest(&reference.clone_with_digest(chosen.digest().to_string()))?;
        step = fetchers::find(&manifest).map_err(wrong)?;
    }
    let Step::Layer(found) = step else {
        return Err(wrong("this is a list of lists; push a single image".to_owned()));
    };
    let layer = registry.blob(reference, &found.layer)?;
    let packed = Packed { manifest, blobs: vec![layer.clone()] };
    let image = Image {
        name: reference.whole(),
        form: found.form,
        digest: digest(&packed.manifest),
        bytes: packed.size(),
    };
    let module = fetchers::open(&found, layer).map_err(wrong)?;
    Ok((Module::read(module)?, vec![image]))
}

fn text(module: &Module, images: &[Image]) -> String {
    let facts = &module.facts;
    let created = module.created().map(|time| format!(" of {time}")).unwrap_or_default();
    let mut out = String::new();
    let _ = writeln!(out, "meshfilter {}", facts.version);
    let _ = writeln!(out, "  commit    {}{created}", facts.commit);
    match &module.platform {
        None => {
            let _ = writeln!(out, "  ABI       proxy-wasm {}", facts.abi);
        }
        Some(platform) => {
            let _ = writeln!(out, "  ABI       {} of Envoy 1.38 and later", facts.abi.replace('-', " "));
            let glibc = platform.glibc.as_ref().map(|glibc| format!(", glibc {glibc} or later"));
            let _ =
                writeln!(out, "  for       linux, {}{}", platform.architecture, glibc.unwrap_or_default());
        }
    }
    let _ = writeln!(out, "  policies  {}", facts.policies.join(", "));
    let _ = writeln!(out, "  module    {}, {} bytes", module.digest(), module.bytes.len());
    for image in images {
        // Of a layout, and so anybody's.
        let name = image.name.escape_default();
        let form = match image.form {
            Form::ContainerImage => "container image",
            Form::Artifact => "artifact",
        };
        let _ = writeln!(out, "{name}\n  {form}, {} bytes\n  {}", image.bytes, image.digest);
    }
    out
}

fn machine(module: &Module, images: &[Image]) -> Value {
    let image = |image: &Image| json!({"name": image.name, "form": image.form, "digest": image.digest, "bytes": image.bytes});
    json!({
        "version": module.facts.version,
        "commit": module.facts.commit,
        "created": module.created(),
        "abi": module.facts.abi,
        "architecture": module.platform.as_ref().map(|platform| platform.architecture.to_string()),
        "glibc": module.platform.as_ref().and_then(|platform| platform.glibc.clone()),
        "policies": module.facts.policies,
        "digest": module.digest(),
        "bytes": module.bytes.len(),
        "images": images.iter().map(image).collect::<Value>(),
    })
}
