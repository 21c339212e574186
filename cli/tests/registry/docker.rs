//! `envoy/Dockerfile`, wherever a Docker Engine answers.

use std::process::Command;

use libtest_mimic::{Failed, Trial};

use super::server::{Folder, Registry, meshfilter, skopeo};

pub fn trial() -> Trial {
    let name = "docker_builds_what_the_fetchers_take";
    let engine = Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]).output();
    match engine.is_ok_and(|output| output.status.success()) {
        true => Trial::test(name, builds_what_the_fetchers_take),
        false => {
            println!("{name} is NOT RUN: no Docker Engine answers");
            Trial::test(name, || Ok(())).with_kind("not run").with_ignored_flag(true)
        }
    }
}

fn docker(arguments: &[&str]) {
    let output = Command::new("docker").args(arguments).current_dir(crate::support::ROOT).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn builds_what_the_fetchers_take() -> Result<(), Failed> {
    let (folder, registry) = (Folder::new(), Registry::open());
    let tag = format!("meshfilter-test:{}", std::process::id());
    docker(&["build", "--quiet", "--file", "envoy/Dockerfile", "--tag", &tag, "."]);
    let archive = folder.path("image.tar");
    docker(&["save", "--output", archive.to_str().unwrap(), &tag]);
    docker(&["image", "rm", &tag]);
    // As `docker push` would.
    let reference = registry.reference("meshfilter:docker");
    let (from, to) = (format!("docker-archive:{}", archive.display()), format!("docker://{reference}"));
    skopeo(&["copy", "--dest-tls-verify=false", &from, &to]).good();
    let none = folder.path("none");
    let inspect =
        |what: &str| super::parsed(&meshfilter(&none, &["inspect", "--format", "json", what]).good());
    let image = inspect(&reference);
    assert_eq!(image["images"][0]["form"], "container-image");
    assert_eq!(image["digest"], inspect(&super::module())["digest"]);
    Ok(())
}
