use std::io::Write;

use serde_json::json;

use super::super::image::{Packed, artifact, container_image};
use super::super::module::tests::module;
use super::*;

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A layer of one file.
fn tar_gz(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, content).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive.into_inner().unwrap()).unwrap();
    gzip.finish().unwrap()
}

fn manifest(media_type: &str, layers: &[(&str, &[u8])]) -> Vec<u8> {
    let descriptor = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()});
    let layers: Vec<_> = layers.iter().map(|(media_type, bytes)| descriptor(media_type, bytes)).collect();
    let config = descriptor("application/vnd.oci.image.config.v1+json", b"{}");
    json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers})
        .to_string()
        .into_bytes()
}

/// What a fetcher gets out of an image whose last layer is the module's.
fn fetch(media_type: &str, layers: &[(&str, &[u8])]) -> Result<(Form, Vec<u8>), String> {
    let Step::Layer(found) = find(&manifest(media_type, layers))? else { panic!("a list") };
    let layer = layers.iter().find(|(_, bytes)| digest(bytes) == found.layer.digest().to_string()).unwrap();
    Ok((found.form, open(&found, layer.1.to_vec())?))
}

fn refused(media_type: &str, layers: &[(&str, &[u8])]) -> String {
    fetch(media_type, layers).expect_err("refused")
}

#[test]
fn every_accepted_form_leads_to_the_module() {
    let layer = tar_gz("plugin.wasm", b"module");
    for (media_type, layer_type) in [(OCI, OCI_LAYER), (DOCKER_MANIFEST, DOCKER_LAYER)] {
        let fetched = fetch(media_type, &[(layer_type, &layer)]);
        assert_eq!(fetched, Ok((Form::ContainerImage, b"module".to_vec())), "{media_type}");
    }
    let layers: [(&str, &[u8]); 2] = [(MODULE_CONFIG, b"{}"), (MODULE_LAYER, b"module")];
    let turned = [layers[1], layers[0]];
    for layers in [layers, turned] {
        assert_eq!(fetch(OCI, &layers), Ok((Form::Artifact, b"module".to_vec())));
    }
}

#[test]
fn both_forms_that_are_made_here_are_accepted() {
    let module = module();
    for (packed, form) in [
        (container_image(&module).unwrap(), Form::ContainerImage),
        (artifact(&module).unwrap(), Form::Artifact),
    ] {
        let Packed { manifest, blobs, .. } = packed;
        let Step::Layer(found) = find(&manifest).unwrap() else { panic!("a list") };
        assert_eq!(found.form, form);
        assert_eq!(open(&found, blobs[1].clone()), Ok(module.bytes.clone()));
    }
}

#[test]
fn the_file_may_lie_in_a_folder_and_beside_others() {
    for name in ["plugin.wasm", "./plugin.wasm", "opt/wasm/plugin.wasm"] {
        let layer = tar_gz(name, b"module");
        assert!(fetch(OCI, &[(OCI_LAYER, &layer)]).is_ok(), "{name}");
    }
}

#[test]
fn another_file_name_is_refused() {
    let layer = tar_gz("meshfilter.wasm", b"module");
    let said = refused(OCI, &[(OCI_LAYER, &layer)]);
    assert!(said.contains("no plugin.wasm in the layer, only meshfilter.wasm"), "{said}");
}

#[test]
fn a_second_copy_is_refused() {
    let layer = tar_gz("plugin.wasm", b"module");
    let said = refused(OCI, &[(OCI_LAYER, &layer), (OCI_LAYER, &tar_gz("b", b""))]);
    assert!(said.contains("exactly one layer, and this one has 2") && said.contains("one COPY"), "{said}");
    assert!(refused(OCI, &[]).contains("and this one has 0"));
}

#[test]
fn other_media_types_are_refused() {
    let layer = tar_gz("plugin.wasm", b"module");
    for (media_type, layer_type) in [
        (OCI, DOCKER_LAYER),
        (DOCKER_MANIFEST, OCI_LAYER),
        (OCI, "application/vnd.oci.image.layer.v1.tar"),
        (OCI, "application/vnd.oci.image.layer.v1.tar+zstd"),
        (OCI, "application/wasm"),
    ] {
        let said = refused(media_type, &[(layer_type, &layer)]);
        assert!(said.contains(layer_type) && said.contains("the fetchers take"), "{said}");
    }
}

#[test]
fn an_artifact_of_another_shape_is_refused() {
    let module: (&str, &[u8]) = (MODULE_LAYER, b"module");
    assert!(refused(OCI, &[module]).contains("must have two layers"), "{}", refused(OCI, &[module]));
    assert!(refused(OCI, &[module, module, module]).contains("and this one has 3"));
    assert!(refused(DOCKER_MANIFEST, &[(MODULE_CONFIG, b"{}"), module]).contains("one of Docker"));
}

#[test]
fn a_layer_that_is_not_what_it_says_is_refused() {
    assert!(refused(OCI, &[(OCI_LAYER, b"\0asm")]).contains("no tar archive packed by gzip"));
    let Step::Layer(found) =
        find(&manifest(OCI, &[(MODULE_CONFIG, b"{}"), (MODULE_LAYER, b"module")])).unwrap()
    else {
        panic!("a list")
    };
    assert!(open(&found, b"another".to_vec()).unwrap_err().contains("it was changed on its way"));
}

#[test]
fn of_a_list_the_image_for_linux_on_amd64_is_taken() {
    let entry = |architecture: &str| {
        let platform = json!({"os": "linux", "architecture": architecture});
        json!({"mediaType": OCI, "digest": digest(architecture.as_bytes()), "size": 1, "platform": platform})
    };
    let list = |manifests: &[Value]| {
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).to_string().into_bytes()
    };
    let Ok(Step::Manifest(chosen)) = find(&list(&[entry("arm64"), entry("amd64")])) else { panic!("none") };
    assert_eq!(chosen.digest().to_string(), digest(b"amd64"));
    let said = find(&list(&[entry("arm64")])).unwrap_err();
    assert!(said.contains("without one for linux/amd64"), "{said}");
}

#[test]
fn a_layer_without_bound_is_not_even_fetched() {
    let small = String::from_utf8(manifest(OCI, &[(OCI_LAYER, b"module")])).unwrap();
    let large = small.replace("\"size\":6", "\"size\":268435457");
    assert!(find(small.as_bytes()).is_ok() && large != small);
    let said = find(large.as_bytes()).unwrap_err();
    assert!(said.contains("has 268435457 bytes"), "{said}");
}

#[test]
fn what_is_no_manifest_is_told() {
    assert!(find(b"<html>").unwrap_err().contains("not JSON"));
    assert!(find(b"{}").unwrap_err().contains("cannot be read"));
}
