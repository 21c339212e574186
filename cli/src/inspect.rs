//! `meshfilter inspect`: which module something is.

use std::fmt::Write;
use std::path::Path;

use oci_client::Reference;
use oci_spec::image::Descriptor;
use serde_json::{Value, json};

use super::push::{opened, parse};
use super::{Format, Outcome, RegistryOptions, image::read_module};
use crate::package::fetchers::{Form, Step};
use crate::package::image::Packed;
use crate::package::module::Module;
use crate::package::registry::Registry;
use crate::package::{Problem, fetchers, layout};

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
    let (modules, images) = if path.is_dir() {
        of_layout(path)?
    } else if path.exists() || arguments.what.ends_with(".wasm") || arguments.what.ends_with(".so") {
        (vec![read_module(path)?], Vec::new())
    } else {
        of_registry(&parse(&arguments.what)?, arguments.options.plain_http)?
    };
    Ok(match arguments.options.format {
        Format::Text => text(&modules, &images),
        Format::Json => format!("{:#}\n", machine(&modules, &images)),
    })
}

/// One module, or native ones for several architectures, of one commit.
fn read_all(modules: Vec<Vec<u8>>, wrong: impl Fn(&str) -> Problem) -> Result<Vec<Module>, Problem> {
    let read = modules.into_iter().map(Module::read).collect::<Result<Vec<_>, _>>()?;
    let alike = |pair: &[Module]| {
        matches!(pair, [one, other]
            if one.facts == other.facts && one.platform.is_some() && one.platform != other.platform)
    };
    match !read.is_empty() && read.windows(2).all(alike) {
        true => Ok(read),
        false => Err(wrong(&format!(
            "holds {} modules, and should hold one; `make image` makes it again",
            read.len()
        ))),
    }
}

fn of_layout(folder: &Path) -> Result<(Vec<Module>, Vec<Image>), Problem> {
    let (mut modules, mut images) = (Vec::new(), Vec::new());
    for (name, packed) in layout::read(folder)? {
        let opened: Result<Vec<_>, _> = packed.single().iter().map(opened).collect();
        let opened = opened.map_err(|why| Problem::Wrong(format!("{}: {name}: {why}", folder.display())))?;
        let form = opened.first().map_or(Form::ContainerImage, |(form, _)| *form);
        images.push(Image { name, form, digest: packed.digest(), bytes: packed.size() });
        modules.extend(opened.into_iter().map(|(_, module)| module));
    }
    modules.dedup();
    let wrong = |why: &str| Problem::Wrong(format!("{}: this layout {why}", folder.display()));
    Ok((read_all(modules, wrong)?, images))
}

fn of_registry(
    reference: &Reference,
    plain_http: Option<bool>,
) -> Result<(Vec<Module>, Vec<Image>), Problem> {
    let wrong = |why: String| Problem::Wrong(format!("{reference}: {why}"));
    let registry = Registry::of(reference, plain_http)?;
    let first = registry.manifest(reference)?;
    // One of the list that the fetchers take a module of WebAssembly from; of a native one every one.
    let pull = |descriptor: &Descriptor| -> Result<(Form, Packed, Module), Problem> {
        let manifest = registry.manifest(&reference.clone_with_digest(descriptor.digest().to_string()))?;
        open(&registry, reference, manifest)
    };
    let opened = match fetchers::find(&first).map_err(wrong)? {
        Step::Layer(_) => vec![open(&registry, reference, first.clone())?],
        Step::Manifest(chosen) => {
            let mut opened = vec![pull(&chosen)?];
            if opened.iter().all(|(_, _, module)| module.platform.is_some()) {
                for other in fetchers::list(&first).map_err(wrong)? {
                    if other.digest() != chosen.digest() {
                        opened.push(pull(&other)?);
                    }
                }
            }
            opened
        }
    };
    let form = opened.first().map_or(Form::ContainerImage, |(form, ..)| *form);
    let (mut images, modules): (Vec<_>, Vec<_>) =
        opened.into_iter().map(|(_, packed, module)| (packed, module.bytes)).unzip();
    let packed = match images.pop_if(|_| modules.len() == 1) {
        Some(single) => single,
        None => Packed { manifest: first, blobs: Vec::new(), images },
    };
    let image = Image { name: reference.whole(), form, digest: packed.digest(), bytes: packed.size() };
    let modules = read_all(modules, |why| wrong(format!("this image {why}")))?;
    Ok((modules, vec![image]))
}

/// Fetches the layer of a manifest.
fn open(
    registry: &Registry,
    reference: &Reference,
    manifest: Vec<u8>,
) -> Result<(Form, Packed, Module), Problem> {
    let wrong = |why: String| Problem::Wrong(format!("{reference}: {why}"));
    let Step::Layer(found) = fetchers::find(&manifest).map_err(wrong)? else {
        return Err(wrong("this is a list of lists; push a single image".to_owned()));
    };
    let layer = registry.blob(reference, &found.layer)?;
    let packed = Packed { manifest, blobs: vec![layer.clone()], images: Vec::new() };
    let module = fetchers::open(&found, layer).map_err(wrong)?;
    Ok((found.form, packed, Module::read(module)?))
}

fn text(modules: &[Module], images: &[Image]) -> String {
    let mut out = String::new();
    let Some(module) = modules.first() else { return out };
    let facts = &module.facts;
    let created = module.created().map(|time| format!(" of {time}")).unwrap_or_default();
    let _ = writeln!(out, "meshfilter {}", facts.version);
    let _ = writeln!(out, "  commit    {}{created}", facts.commit);
    let _ = match &module.platform {
        None => writeln!(out, "  ABI       proxy-wasm {}", facts.abi),
        Some(_) => writeln!(out, "  ABI       {} of Envoy 1.38 and later", facts.abi.replace('-', " ")),
    };
    let _ = writeln!(out, "  policies  {}", facts.policies.join(", "));
    for module in modules {
        if let Some(platform) = &module.platform {
            let glibc = platform.glibc.as_ref().map(|glibc| format!(", glibc {glibc} or later"));
            let _ =
                writeln!(out, "  for       linux, {}{}", platform.architecture, glibc.unwrap_or_default());
        }
        let _ = writeln!(out, "  module    {}, {} bytes", module.digest(), module.bytes.len());
    }
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

fn machine(modules: &[Module], images: &[Image]) -> Value {
    let image = |image: &Image| json!({"name": image.name, "form": image.form, "digest": image.digest, "bytes": image.bytes});
    let Some(module) = modules.first() else { return Value::Null };
    let of_file = |module: &Module| {
        json!({
            "architecture": module.platform.as_ref().map(|platform| platform.architecture.to_string()),
            "glibc": module.platform.as_ref().and_then(|platform| platform.glibc.clone()),
            "digest": module.digest(),
            "bytes": module.bytes.len(),
        })
    };
    let mut value = json!({
        "version": module.facts.version,
        "commit": module.facts.commit,
        "created": module.created(),
        "abi": module.facts.abi,
        "policies": module.facts.policies,
        "images": images.iter().map(image).collect::<Value>(),
    });
    // Of several, the members beside are those of the first.
    let several = (modules.len() > 1).then(|| ("modules".to_owned(), modules.iter().map(of_file).collect()));
    if let (Some(all), Value::Object(first)) = (value.as_object_mut(), of_file(module)) {
        all.extend(first.into_iter().chain(several));
    }
    value
}
