//! An OCI layout: images as files in a folder, which skopeo, oras, crane and podman read, too.

use std::collections::HashMap;
use std::path::Path;

use oci_spec::OciSpecError;
use oci_spec::image::{
    ANNOTATION_REF_NAME, Descriptor, ImageIndex, ImageIndexBuilder, ImageManifest, MediaType,
    OciLayoutBuilder,
};

use super::image::{Packed, json_bytes};
use super::{MOST_BYTES, MOST_BYTES_OF_A_MANIFEST, Problem, digest, read_bounded};

/// The files of a layout with these images, by their names: where each lies in its folder, and its bytes.
pub fn files(images: &[(&str, &Packed)]) -> Result<Vec<(String, Vec<u8>)>, Problem> {
    let mut files = Vec::new();
    for (_, image) in images {
        let single = image.single().iter().flat_map(|image| image.blobs.iter().chain([&image.manifest]));
        for blob in single.chain([&image.manifest]) {
            files.push((place(&digest(blob)), blob.clone()));
        }
    }
    let (index, layout) =
        index(images).map_err(|error| Problem::Wrong(format!("the layout cannot be made: {error}")))?;
    files.extend([("index.json".to_owned(), index), ("oci-layout".to_owned(), layout)]);
    Ok(files)
}

/// Where a blob lies.
fn place(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

fn index(images: &[(&str, &Packed)]) -> Result<(Vec<u8>, Vec<u8>), OciSpecError> {
    let descriptor = |(name, image): &(&str, &Packed)| -> Result<Descriptor, OciSpecError> {
        let mut descriptor = image.descriptor()?;
        let name = (ANNOTATION_REF_NAME.to_owned(), (*name).to_owned());
        descriptor.set_annotations(Some(HashMap::from([name])));
        Ok(descriptor)
    };
    let manifests = images.iter().map(descriptor).collect::<Result<Vec<_>, _>>()?;
    let index = ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .build()?;
    let layout = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;
    Ok((json_bytes(&index)?, json_bytes(&layout)?))
}

/// Reads every image of a layout, with its name, and checks that each blob is what its digest says.
pub fn read(folder: &Path) -> Result<Vec<(String, Packed)>, Problem> {
    let index = folder.join("index.json");
    let wrong = |error: &dyn std::fmt::Display| {
        Problem::Misused(format!("{}: {error}; `make image` makes a layout at dist/oci", index.display()))
    };
    let bytes = read_bounded(&index, MOST_BYTES_OF_A_MANIFEST).map_err(|error| wrong(&error))?;
    let index: ImageIndex = serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?;
    let blob = |descriptor: &Descriptor| -> Result<Vec<u8>, Problem> {
        let wanted = descriptor.digest().to_string();
        let path = folder.join(place(&wanted));
        let bytes = read_bounded(&path, MOST_BYTES).map_err(|error| {
            Problem::Wrong(format!("{}: {error}; make the layout again, with `make image`", path.display()))
        })?;
        match digest(&bytes) == wanted {
            true => Ok(bytes),
            false => Err(Problem::Wrong(format!(
                "{} is {}, so it was changed; make the layout again, with `make image`",
                path.display(),
                digest(&bytes)
            ))),
        }
    };
    let unreadable = |descriptor: &Descriptor, error: serde_json::Error| {
        let digest = descriptor.digest();
        Problem::Wrong(format!("{digest}: {error}; make the layout again, with `make image`"))
    };
    let manifest = |descriptor: &Descriptor| -> Result<Vec<u8>, Problem> {
        if descriptor.size() > MOST_BYTES_OF_A_MANIFEST {
            return Err(Problem::Wrong(format!(
                "{}: a manifest of {} bytes; registries take {MOST_BYTES_OF_A_MANIFEST} at most",
                descriptor.digest(),
                descriptor.size()
            )));
        }
        blob(descriptor)
    };
    let single = |descriptor: &Descriptor| -> Result<Packed, Problem> {
        let bytes = manifest(descriptor)?;
        let read: ImageManifest =
            serde_json::from_slice(&bytes).map_err(|error| unreadable(descriptor, error))?;
        let mut seen = Vec::new();
        let mut blobs = Vec::new();
        for part in [read.config()].into_iter().chain(read.layers()) {
            if !seen.contains(part.digest()) {
                seen.push(part.digest().clone());
                blobs.push(blob(part)?);
            }
        }
        Ok(Packed { manifest: bytes, blobs, images: Vec::new() })
    };
    let image = |descriptor: &Descriptor| -> Result<(String, Packed), Problem> {
        let name = descriptor.annotations().as_ref().and_then(|notes| notes.get(ANNOTATION_REF_NAME));
        let packed = match descriptor.media_type() {
            MediaType::ImageIndex => {
                let bytes = manifest(descriptor)?;
                let list: ImageIndex =
                    serde_json::from_slice(&bytes).map_err(|error| unreadable(descriptor, error))?;
                let images = list.manifests().iter().map(single).collect::<Result<Vec<_>, _>>()?;
                Packed { manifest: bytes, blobs: Vec::new(), images }
            }
            _ => single(descriptor)?,
        };
        Ok((name.cloned().unwrap_or_default(), packed))
    };
    index.manifests().iter().map(image).collect()
}

#[cfg(test)]
mod tests;
