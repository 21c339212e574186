//! The native module, for both architectures: what `make native-all` leaves.

use std::fs;

use serde_json::json;

use crate::server::{Folder, Registry, meshfilter, skopeo};
use crate::support::repository;
use crate::{module, parsed};

const ARCHITECTURES: [(&str, &str); 2] = [("x86_64", "amd64"), ("aarch64", "arm64")];

fn modules() -> [String; 2] {
    ARCHITECTURES.map(|(folder, _)| {
        let path = repository("target/native").join(folder).join("libmeshfilter.so");
        assert!(path.exists(), "{} is missing: run `make native-all`", path.display());
        path.to_str().unwrap().to_owned()
    })
}

pub fn are_one_image_for_every_architecture() {
    let (folder, registry) = (Folder::new(), Registry::open());
    let none = folder.path("none");
    let [x86, arm] = modules();
    let output = folder.path("dist");
    let output = output.to_str().unwrap();
    meshfilter(&none, &["image", &x86, &arm, "--output", output]).good();
    let layout = format!("{output}/oci");
    let inspect = |what: &str| parsed(&meshfilter(&none, &["inspect", "--format", "json", what]).good());
    let digest = |path: &str| meshfilter_cli::package::digest(&fs::read(path).unwrap());

    let local = inspect(&layout);
    assert_eq!(local["images"][0]["form"], "container-image");
    for (number, (path, (_, architecture))) in [&x86, &arm].into_iter().zip(ARCHITECTURES).enumerate() {
        let module = &local["modules"][number];
        assert_eq!(
            (&module["architecture"], &module["digest"]),
            (&json!(architecture), &json!(digest(path)))
        );
        assert_eq!(
            fs::read(format!("{output}/{architecture}/libmeshfilter.so")).unwrap(),
            fs::read(path).unwrap()
        );
    }

    // By its layout and by the files: the same image.
    let (reference, files) =
        (registry.reference("mesh/meshfilter-native:1.0"), registry.reference("files:1.0"));
    let pushed = parsed(&meshfilter(&none, &["push", "--format", "json", &reference, &layout]).good());
    meshfilter(&none, &["push", &files, &x86, &arm]).good();
    assert_eq!(pushed["image"]["digest"], local["images"][0]["digest"]);
    for reference in [&reference, &files] {
        let mut remote = inspect(reference);
        assert_eq!(remote["images"][0]["digest"], local["images"][0]["digest"]);
        remote["images"] = local["images"].clone();
        assert_eq!(remote, local, "{reference}");
    }

    // A witness: who pulls it has its own architecture's, and nothing but the library in it.
    let source = format!("docker://{reference}");
    for (path, (folder_name, architecture)) in [&x86, &arm].into_iter().zip(ARCHITECTURES) {
        let seen =
            skopeo(&["inspect", "--tls-verify=false", "--override-arch", architecture, &source]).good();
        let seen = parsed(&seen);
        assert_eq!(
            (&seen["Architecture"], &seen["Os"], seen["Layers"].as_array().unwrap().len()),
            (&json!(architecture), &json!("linux"), 1)
        );
        let copy = folder.path(folder_name);
        let target = format!("oci:{}:1.0", copy.display());
        skopeo(&["copy", "--src-tls-verify=false", "--override-arch", architecture, &source, &target]).good();
        let copied = inspect(copy.to_str().unwrap());
        assert_eq!(
            (&copied["architecture"], &copied["digest"]),
            (&json!(architecture), &json!(digest(path)))
        );
    }

    // One alone is an image, too.
    let alone = registry.reference("alone:1.0");
    meshfilter(&none, &["push", &alone, &arm]).good();
    assert_eq!(inspect(&alone)["architecture"], "arm64");
    let said = meshfilter(&none, &["inspect", &reference]).good();
    for part in [
        "dynamic module of Envoy 1.38 and later",
        "for       linux, amd64, glibc 2.",
        "for       linux, arm64",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

pub fn that_do_not_belong_together_are_none() {
    let folder = Folder::new();
    let [x86, _] = modules();
    let output = folder.path("dist");
    for (other, reason) in [(x86.clone(), "two of these modules are for amd64"), (module(), "is in no list")]
    {
        let arguments = ["image", &x86, &other, "--output", output.to_str().unwrap()];
        let said = meshfilter(&folder.path("none"), &arguments).complaint(2);
        assert!(said.contains(reason), "{said}");
    }
    assert!(!output.exists());
}
