use oci_spec::image::ImageManifest;
use serde_json::Value;

use super::super::module::tests::{module, native};
use super::*;

fn read(packed: &Packed) -> ImageManifest {
    ImageManifest::from_reader(packed.manifest.as_slice()).unwrap()
}

#[test]
fn a_module_has_one_digest_in_each_form() {
    // Annotations come out of maps that are ordered anew each time.
    for _ in 0..20 {
        assert_eq!(container_image(&module()).unwrap(), container_image(&module()).unwrap());
        assert_eq!(artifact(&module()).unwrap(), artifact(&module()).unwrap());
    }
}

#[test]
fn the_module_alone_decides_the_digest() {
    let mut other = module();
    other.bytes.push(0);
    assert_ne!(container_image(&module()).unwrap().digest(), container_image(&other).unwrap().digest());
}

#[test]
fn annotations_say_where_it_comes_from() {
    for packed in [container_image(&module()).unwrap(), artifact(&module()).unwrap()] {
        let manifest = read(&packed);
        let annotations = manifest.annotations().as_ref().unwrap();
        for (name, value) in [
            ("source", env!("CARGO_PKG_REPOSITORY")),
            ("version", "1.2.3"),
            ("revision", "abc"),
            ("licenses", "Apache-2.0"),
            ("created", "2023-11-14T22:13:20Z"),
            ("title", "meshfilter"),
        ] {
            assert_eq!(annotations[&format!("org.opencontainers.image.{name}")], value, "{name}");
            assert!(!value.is_empty(), "{name}");
        }
    }
}

#[test]
fn an_unknown_time_is_left_out() {
    let mut module = module();
    module.facts.commit_time.clear();
    let packed = container_image(&module).unwrap();
    assert!(!read(&packed).annotations().as_ref().unwrap().contains_key(ANNOTATION_CREATED));
    let configuration: Value = serde_json::from_slice(&packed.blobs[0]).unwrap();
    assert_eq!(configuration.get("created"), None);
}

#[test]
fn the_container_image_is_one_file_of_nobody_and_of_no_time() {
    let packed = container_image(&module()).unwrap();
    let manifest = read(&packed);
    assert_eq!(manifest.layers().len(), 1);
    assert_eq!(manifest.layers()[0].media_type(), &MediaType::ImageLayerGzip);
    assert_eq!(manifest.layers()[0].digest().to_string(), digest(&packed.blobs[1]));
    // The time of gzip's own header.
    assert_eq!(packed.blobs[1][4..8], [0; 4]);

    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed.blobs[1].as_slice()));
    let entries: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            let owner = (header.uid().unwrap(), header.gid().unwrap());
            (entry.path_bytes().into_owned(), header.mode().unwrap(), owner, header.mtime().unwrap())
        })
        .collect();
    assert_eq!(entries, [(b"plugin.wasm".to_vec(), 0o644, (0, 0), 0)]);

    let configuration: Value = serde_json::from_slice(&packed.blobs[0]).unwrap();
    let tar = archive_bytes(&packed.blobs[1]);
    assert_eq!(configuration["rootfs"]["diff_ids"], json!([digest(&tar)]));
    assert_eq!((&configuration["os"], &configuration["architecture"]), (&json!("linux"), &json!("amd64")));
}

fn archive_bytes(layer: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(layer), &mut tar).unwrap();
    tar
}

#[test]
fn the_layer_of_the_artifact_is_the_module() {
    let module = module();
    let packed = artifact(&module).unwrap();
    let manifest = read(&packed);
    let layers: Vec<_> = manifest
        .layers()
        .iter()
        .map(|layer| (layer.media_type().to_string(), layer.digest().to_string()))
        .collect();
    assert_eq!(manifest.config().media_type().to_string(), MODULE_CONFIG);
    assert_eq!(layers[0].0, MODULE_CONFIG);
    assert_eq!(layers[1], (MODULE_LAYER.to_owned(), module.digest()));
    assert_eq!(packed.blobs[1], module.bytes);
    let configuration: Value = serde_json::from_slice(&packed.blobs[0]).unwrap();
    assert_eq!(
        (&configuration["type"], &configuration["abiVersions"]),
        (&json!("envoy_proxy"), &json!(["0.2.1"]))
    );
}

#[test]
fn the_image_of_a_native_module_is_of_its_architecture_and_has_its_name() {
    let packed = container_image(&native()).unwrap();
    let configuration: Value = serde_json::from_slice(&packed.blobs[0]).unwrap();
    assert_eq!((&configuration["os"], &configuration["architecture"]), (&json!("linux"), &json!("arm64")));
    let manifest = read(&packed);
    assert!(!manifest.annotations().as_ref().unwrap().contains_key("module.wasm.image/variant"));
    let tar = archive_bytes(&packed.blobs[1]);
    let mut archive = tar::Archive::new(tar.as_slice());
    let names: Vec<_> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path_bytes().into_owned()).collect();
    assert_eq!(names, [b"libmeshfilter.so"]);
    assert_eq!(crate::push::opened(&packed).unwrap().1, native().bytes);
}
