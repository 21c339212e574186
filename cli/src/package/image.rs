//! The two forms in which the module is published.

use std::collections::HashMap;
use std::io::Write;

use flate2::{Compression, GzBuilder};
use oci_spec::OciSpecError;
use oci_spec::image::{
    ANNOTATION_CREATED, ANNOTATION_DESCRIPTION, ANNOTATION_LICENSES, ANNOTATION_REVISION, ANNOTATION_SOURCE,
    ANNOTATION_TITLE, ANNOTATION_VERSION, Arch, Descriptor, Digest, HistoryBuilder,
    ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType, Os, PlatformBuilder,
    RootFsBuilder,
};
use serde::Serialize;
use serde_json::json;

use super::fetchers::{FILE_NAME, MODULE_CONFIG, MODULE_LAYER};
use super::module::Module;
use super::{Problem, digest};

/// A manifest and everything that it points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// As it is uploaded.
    pub manifest: Vec<u8>,
    /// Each digest once.
    pub blobs: Vec<Vec<u8>>,
    /// Where the manifest is a list: the images in it, one for each architecture.
    pub images: Vec<Packed>,
}

impl Packed {
    /// What names it, whatever tag it has.
    pub fn digest(&self) -> String {
        digest(&self.manifest)
    }

    /// How many bytes it has, all together.
    pub fn size(&self) -> usize {
        let blobs = self.blobs.iter().map(Vec::len);
        blobs.chain(self.images.iter().map(Packed::size)).fold(self.manifest.len(), usize::saturating_add)
    }

    /// What its manifest is.
    pub fn media_type(&self) -> MediaType {
        if self.images.is_empty() { MediaType::ImageManifest } else { MediaType::ImageIndex }
    }

    /// The images that have a layer: the list's, or this one.
    pub fn single(&self) -> &[Packed] {
        if self.images.is_empty() { std::slice::from_ref(self) } else { &self.images }
    }

    /// How others point to it.
    pub fn descriptor(&self) -> Result<Descriptor, OciSpecError> {
        descriptor(self.media_type(), &self.manifest)
    }
}

/// The container image of modules that differ in nothing but the architecture: of several a list, from which who pulls it takes
/// its own.
pub fn container_image_of(modules: &[Module]) -> Result<Packed, Problem> {
    if let [module] = modules {
        return container_image(module);
    }
    let mut architectures = Vec::new();
    for module in modules {
        let Some(platform) = &module.platform else {
            let message =
                "a module of WebAssembly is for every architecture, so it is in no list; name it alone";
            return Err(Problem::Misused(message.to_owned()));
        };
        if architectures.contains(&&platform.architecture) {
            let message = format!("two of these modules are for {}; name one of each", platform.architecture);
            return Err(Problem::Misused(message));
        }
        architectures.push(&platform.architecture);
    }
    if modules.windows(2).any(|pair| matches!(pair, [one, other] if one.facts != other.facts)) {
        let message =
            "these modules are of different commits or versions; `make native-all` builds those of one";
        return Err(Problem::Wrong(message.to_owned()));
    }
    let images = modules.iter().map(container_image).collect::<Result<Vec<_>, _>>()?;
    build(|| {
        let mut manifests = Vec::new();
        for (image, architecture) in images.iter().zip(architectures) {
            let mut descriptor = image.descriptor()?;
            let platform =
                PlatformBuilder::default().architecture(architecture.clone()).os(Os::Linux).build()?;
            descriptor.set_platform(Some(platform));
            manifests.push(descriptor);
        }
        let mut index = ImageIndexBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageIndex)
            .manifests(manifests);
        if let Some(module) = modules.first() {
            index = index.annotations(annotations(module));
        }
        Ok(Packed { manifest: json_bytes(&index.build()?)?, blobs: Vec::new(), images })
    })
}

/// The container image: `FROM scratch`, and one layer with `plugin.wasm`, or with `libmeshfilter.so`.
pub fn container_image(module: &Module) -> Result<Packed, Problem> {
    build(|| {
        let name = if module.platform.is_some() { module.file_name() } else { FILE_NAME };
        let tar = archive(name, &module.bytes)?;
        let mut gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
        gzip.write_all(&tar)?;
        let layer = gzip.finish()?;
        let mut history =
            HistoryBuilder::default().created_by(format!("COPY {} /{name}", module.file_name()));
        // Of wasm, who fetches a single image does not look at its platform; who picks one of several asks for this one.
        let mut configuration = ImageConfigurationBuilder::default()
            .architecture(
                module.platform.as_ref().map_or(Arch::Amd64, |platform| platform.architecture.clone()),
            )
            .os(Os::Linux)
            .rootfs(RootFsBuilder::default().typ("layers").diff_ids([digest(&tar)]).build()?);
        if let Some(created) = module.created() {
            history = history.created(created.clone());
            configuration = configuration.created(created);
        }
        let configuration = json_bytes(&configuration.history([history.build()?]).build()?)?;
        let mut annotations = annotations(module);
        if module.platform.is_none() {
            annotations.insert("module.wasm.image/variant".to_owned(), "compat".to_owned());
        }
        let manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageManifest)
            .config(descriptor(MediaType::ImageConfig, &configuration)?)
            .layers([descriptor(MediaType::ImageLayerGzip, &layer)?])
            .annotations(annotations)
            .build()?;
        Ok(Packed { manifest: json_bytes(&manifest)?, blobs: vec![configuration, layer], images: Vec::new() })
    })
}

/// The artifact: the module as it is, so that the layer's digest is the module's, and a URL of it is one of the module.
///
/// The fetchers take an artifact only if it has two layers, the other one being what stands in the configuration. No fetcher
/// takes one of a native module.
pub fn artifact(module: &Module) -> Result<Packed, Problem> {
    build(|| {
        let configuration = json_bytes(&json!({
            "type": "envoy_proxy",
            "abiVersions": [module.facts.abi],
            "config": {"rootIds": ["meshfilter"]},
        }))?;
        let titled = |media_type: &str, bytes: &[u8], title: &str| -> Result<Descriptor, Failure> {
            let mut descriptor = descriptor(MediaType::from(media_type), bytes)?;
            descriptor
                .set_annotations(Some(HashMap::from([(ANNOTATION_TITLE.to_owned(), title.to_owned())])));
            Ok(descriptor)
        };
        let manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageManifest)
            .config(descriptor(MediaType::from(MODULE_CONFIG), &configuration)?)
            .layers([
                titled(MODULE_CONFIG, &configuration, "runtime-config.json")?,
                titled(MODULE_LAYER, &module.bytes, FILE_NAME)?,
            ])
            .annotations(annotations(module))
            .build()?;
        let blobs = vec![configuration, module.bytes.clone()];
        Ok(Packed { manifest: json_bytes(&manifest)?, blobs, images: Vec::new() })
    })
}

/// The artifact, where there is one.
pub fn artifact_of(modules: &[Module]) -> Result<Option<Packed>, Problem> {
    match modules {
        [module] if module.platform.is_none() => artifact(module).map(Some),
        _ => Ok(None),
    }
}

/// A tar archive with the module in it, whose only file is nobody's and of no time.
fn archive(name: &str, module: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(u64::try_from(module.len()).unwrap_or(u64::MAX));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, module)?;
    archive.into_inner()
}

fn annotations(module: &Module) -> HashMap<String, String> {
    let known = [
        (ANNOTATION_TITLE, "meshfilter"),
        (ANNOTATION_DESCRIPTION, env!("CARGO_PKG_DESCRIPTION")),
        (ANNOTATION_SOURCE, env!("CARGO_PKG_REPOSITORY")),
        (ANNOTATION_LICENSES, env!("CARGO_PKG_LICENSE")),
        (ANNOTATION_VERSION, &module.facts.version),
        (ANNOTATION_REVISION, &module.facts.commit),
    ];
    let created = module.created().map(|created| (ANNOTATION_CREATED.to_owned(), created));
    known.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).chain(created).collect()
}

type Failure = Box<dyn std::error::Error>;

/// Nothing of this fails for any module; if it ever does, the reason is told.
fn build(make: impl FnOnce() -> Result<Packed, Failure>) -> Result<Packed, Problem> {
    make().map_err(|error| Problem::Wrong(format!("the image cannot be made: {error}")))
}

fn descriptor(media_type: MediaType, bytes: &[u8]) -> Result<Descriptor, OciSpecError> {
    let digest: Digest = digest(bytes).parse()?;
    Ok(Descriptor::new(media_type, u64::try_from(bytes.len()).unwrap_or(u64::MAX), digest))
}

/// The members in the order of their names: annotations come out of a map without one.
pub(super) fn json_bytes(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut value = serde_json::to_value(value)?;
    value.sort_all_objects();
    serde_json::to_vec(&value)
}

#[cfg(test)]
mod tests;
