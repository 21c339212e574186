//! What the fetchers of Istio (`pkg/wasm/imagefetcher.go`) and Envoy Gateway (`internal/wasm/imagefetcher.go`) take.
//!
//! Both follow the Wasm image specification. Its *compat* variant is a container image with one layer, a tar archive
//! packed by gzip with `plugin.wasm` in it; its *oci* variant is an artifact with two layers, one of them the module.

use std::io::Read;

use flate2::read::GzDecoder;
use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageManifest, MediaType, Os};
use serde::Serialize;
use serde_json::Value;

use super::{MOST_BYTES, digest};

/// The module's name in the layer of a container image, in whatever folder.
pub const FILE_NAME: &str = "plugin.wasm";

/// The native module's name there: volumes are made of images that have it.
pub const NATIVE_FILE_NAME: &str = "libmeshfilter.so";

/// The media type of an artifact's configuration.
pub const MODULE_CONFIG: &str = "application/vnd.module.wasm.config.v1+json";

/// The media type of the artifact's layer that is the module.
pub const MODULE_LAYER: &str = "application/vnd.module.wasm.content.layer.v1+wasm";

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The media types of what a reference may lead to.
pub const MANIFESTS: [&str; 4] =
    ["application/vnd.oci.image.manifest.v1+json", DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST];

/// The form of what was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The *compat* variant.
    ContainerImage,
    /// The *oci* variant.
    Artifact,
}

/// Where the module is.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// In which form.
    pub form: Form,
    /// The layer that has it.
    pub layer: Descriptor,
}

/// What a fetcher makes of a manifest.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The module is in this layer.
    Layer(Found),
    /// There are several manifests, and this is the one it goes on with.
    Manifest(Descriptor),
}

/// Finds the layer that the fetchers take, or says why they take none.
pub fn find(manifest: &[u8]) -> Result<Step, String> {
    match by_shape(manifest)? {
        Step::Layer(Found { layer, .. }) if layer.size() > MOST_BYTES => Err(format!(
            "the layer has {} bytes, and the fetchers take {MOST_BYTES} at most; is it the module alone?",
            layer.size()
        )),
        step => Ok(step),
    }
}

fn by_shape(manifest: &[u8]) -> Result<Step, String> {
    let value: Value = serde_json::from_slice(manifest)
        .map_err(|error| format!("the manifest is not JSON: {error}; push the image again"))?;
    let media_type = value.get("mediaType").and_then(Value::as_str).unwrap_or_default();
    let unreadable =
        |error: serde_json::Error| format!("the manifest cannot be read: {error}; push the image again");
    if [OCI_INDEX, DOCKER_LIST].contains(&media_type) || value.get("manifests").is_some() {
        return choose(&serde_json::from_value(value.clone()).map_err(unreadable)?);
    }
    let docker = media_type == DOCKER_MANIFEST;
    let manifest: ImageManifest = serde_json::from_value(value).map_err(unreadable)?;
    let layers = manifest.layers();
    let module = layers.iter().find(|layer| layer.media_type() == &MediaType::from(MODULE_LAYER));
    match (module, layers.as_slice()) {
        (Some(_), _) if docker => {
            Err("an artifact's manifest must be one of OCI, and this is one of Docker; push it with `meshfilter push`"
                .to_owned())
        }
        (Some(layer), [_, _]) => Ok(Step::Layer(Found { form: Form::Artifact, layer: layer.clone() })),
        (Some(_), layers) => Err(format!(
            "an artifact must have two layers, {MODULE_CONFIG} and {MODULE_LAYER}, and this one has {}; push it with \
             `meshfilter push`",
            layers.len()
        )),
        (None, [layer]) => {
            let wanted = if docker { MediaType::from(DOCKER_LAYER) } else { MediaType::ImageLayerGzip };
            match layer.media_type() == &wanted {
                true => Ok(Step::Layer(Found { form: Form::ContainerImage, layer: layer.clone() })),
                false => Err(format!(
                    "the layer is {}, and the fetchers take {wanted} (or an artifact's {MODULE_LAYER}); build the image \
                     from envoy/Dockerfile with gzip as the compression, or use `meshfilter push`",
                    layer.media_type()
                )),
            }
        }
        (None, layers) => Err(format!(
            "a container image must have exactly one layer, and this one has {}; begin with FROM scratch and copy \
             {FILE_NAME} with one COPY, as envoy/Dockerfile does",
            layers.len()
        )),
    }
}

/// What is in a list.
pub fn list(manifest: &[u8]) -> Result<Vec<Descriptor>, String> {
    let index: ImageIndex = serde_json::from_slice(manifest)
        .map_err(|error| format!("the manifest cannot be read: {error}; push the image again"))?;
    Ok(index.manifests().clone())
}

/// Of several manifests the fetchers take the one for linux/amd64, wherever they run.
fn choose(index: &ImageIndex) -> Result<Step, String> {
    let fits = |manifest: &&Descriptor| {
        let platform = manifest.platform().as_ref();
        platform
            .is_some_and(|platform| *platform.os() == Os::Linux && *platform.architecture() == Arch::Amd64)
    };
    index.manifests().iter().find(fits).map(|manifest| Step::Manifest(manifest.clone())).ok_or_else(|| {
        "this is a list of images without one for linux/amd64, which is what the fetchers ask for; push a single image"
            .to_owned()
    })
}

/// Takes the module out of the layer's bytes, or says why the fetchers find none there.
pub fn open(found: &Found, layer: Vec<u8>) -> Result<Vec<u8>, String> {
    let (wanted, actual) = (found.layer.digest().to_string(), digest(&layer));
    if wanted != actual {
        return Err(format!(
            "the layer should be {wanted} and is {actual}: it was changed on its way; push it again"
        ));
    }
    match found.form {
        Form::Artifact => Ok(layer),
        Form::ContainerImage => unpack(&layer),
    }
}

fn unpack(layer: &[u8]) -> Result<Vec<u8>, String> {
    let broken = |error: std::io::Error| {
        format!(
            "the layer is no tar archive packed by gzip, as its media type says: {error}; build the image again"
        )
    };
    let is_module = |name: &str| [FILE_NAME, NATIVE_FILE_NAME].contains(&name);
    let mut archive = tar::Archive::new(GzDecoder::new(layer).take(MOST_BYTES));
    let mut others = Vec::new();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(is_module) {
            let mut module = Vec::new();
            entry.read_to_end(&mut module).map_err(broken)?;
            return Ok(module);
        }
        others.push(path.display().to_string());
    }
    Err(format!(
        "there is no {FILE_NAME} in the layer, only {}; the fetchers look for that name, so copy the module to it",
        if others.is_empty() { "nothing".to_owned() } else { others.join(", ") }
    ))
}

#[cfg(test)]
mod tests;
