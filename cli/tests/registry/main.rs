//! `make image`, `meshfilter push` and `meshfilter inspect` with a real registry, Debian's docker-registry, and with
//! skopeo as the witness; and Envoy, which loads the module from there by itself.
//!
//! It has a `main` of its own, so that what needs a Docker Engine is ignored, and says why, where there is none.

#[path = "../../../tests/support/mod.rs"]
mod support;

mod docker;
mod envoy;
mod native;
mod server;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};
use server::{Folder, LOGIN, Ran, Registry, meshfilter, skopeo};

fn main() -> ExitCode {
    let mut trials: Vec<Trial> = [
        ("what_is_pushed_is_the_module", what_is_pushed_is_the_module as fn()),
        ("a_module_is_pushed_as_its_layout_is", a_module_is_pushed_as_its_layout_is),
        ("the_same_module_makes_the_same_layout", the_same_module_makes_the_same_layout),
        ("a_wrong_policy_stops_everything", a_wrong_policy_stops_everything),
        ("a_password_is_taken_from_docker", a_password_is_taken_from_docker),
        ("what_a_registry_does_not_take_is_explained", what_a_registry_does_not_take_is_explained),
        ("what_the_fetchers_refuse_is_refused", what_the_fetchers_refuse_is_refused),
        ("native_modules_are_one_image_for_every_architecture", native::are_one_image_for_every_architecture),
        ("native_modules_that_do_not_belong_together_are_none", native::that_do_not_belong_together_are_none),
        ("envoy_loads_the_module_from_the_registry", envoy::loads_the_module_from_the_registry),
        ("envoy_loads_nothing_else", envoy::loads_nothing_else),
    ]
    .into_iter()
    .map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    })
    .collect();
    trials.push(docker::trial());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// The module, as `make build` leaves it.
fn module() -> String {
    support::envoy::module().unwrap().to_str().unwrap().to_owned()
}

/// A layout of it, in this folder.
fn layout(folder: &Folder) -> String {
    let output = folder.path("dist");
    let output = output.to_str().unwrap();
    meshfilter(&folder.path("none"), &["image", &module(), "--output", output]).good();
    format!("{output}/oci")
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn what_is_pushed_is_the_module() {
    let (folder, registry) = (Folder::new(), Registry::open());
    let (layout, none) = (layout(&folder), folder.path("none"));
    let bytes = fs::read(module()).unwrap();
    let local = parsed(&meshfilter(&none, &["inspect", "--format", "json", &layout]).good());
    let reference = registry.reference("mesh/meshfilter:1.0");
    let artifact = format!("{reference}-artifact");

    let first = meshfilter(&none, &["push", "--format", "json", &reference, &layout]);
    assert_eq!(first.stderr.matches(" uploaded\n").count(), 4, "{}", first.stderr);
    let pushed = parsed(&first.good());
    for (image, number, reference) in [("image", 0, &reference), ("artifact", 1, &artifact)] {
        let digest = &local["images"][number]["digest"];
        assert_eq!(pushed[image], json!({"reference": reference, "digest": digest}));
        // By its tag and by its digest: the same image, with the same module in it.
        let name = reference.rsplit_once(':').unwrap().0;
        for reference in [reference, &format!("{name}@{}", digest.as_str().unwrap())] {
            let remote = parsed(&meshfilter(&none, &["inspect", "--format", "json", reference]).good());
            for fact in ["version", "commit", "created", "abi", "policies", "digest", "bytes"] {
                assert_eq!(remote[fact], local[fact], "{reference}: {fact}");
            }
            assert_eq!(remote["images"][0]["digest"], *digest);
            assert_eq!(remote["images"][0]["form"], local["images"][number]["form"]);
        }
    }
    assert_eq!(local["bytes"], bytes.len());

    // The blob's URL is a URL of the module.
    let url = pushed["module"]["url"].as_str().unwrap();
    assert!(
        url.ends_with(&format!("/blobs/sha256:{}", pushed["module"]["sha256"].as_str().unwrap())),
        "{url}"
    );
    let path = url.strip_prefix(&format!("http://localhost:{}", registry.port())).unwrap();
    let answer = support::http::request(registry.address(), path, &[]).unwrap();
    assert_eq!((answer.status, answer.body == bytes), (200, true));

    // A witness: what skopeo sees and copies.
    let source = format!("docker://{reference}");
    let seen = parsed(&skopeo(&["inspect", "--tls-verify=false", &source]).good());
    assert_eq!(seen["Digest"], local["images"][0]["digest"]);
    assert_eq!((&seen["Created"], seen["Layers"].as_array().unwrap().len()), (&local["created"], 1));
    let raw =
        parsed(&skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{artifact}")]).good());
    assert_eq!(raw["annotations"]["org.opencontainers.image.version"], local["version"]);
    let copy = folder.path("copy");
    let target = format!("dir:{}", copy.display());
    skopeo(&["copy", "--src-tls-verify=false", &format!("docker://{artifact}"), &target]).good();
    let blob = pushed["module"]["sha256"].as_str().unwrap();
    assert!(fs::read(copy.join(blob)).unwrap() == bytes, "the copied blob is the module");
    let copied = format!("{}/copied", folder.path("").display());
    skopeo(&["copy", "--src-tls-verify=false", &source, &format!("oci:{copied}:1.0")]).good();
    let copied = parsed(&meshfilter(&none, &["inspect", "--format", "json", &copied]).good());
    assert_eq!(copied["images"][0]["digest"], local["images"][0]["digest"]);
    assert_eq!(copied["digest"], local["digest"]);

    // Once more: nothing is uploaded twice.
    let again = meshfilter(&none, &["push", &reference, &layout]);
    assert_eq!(again.stderr.matches(" is there already\n").count(), 4, "{}", again.stderr);
    let said = again.good();
    for part in [&reference, &artifact, url, blob, local["images"][0]["digest"].as_str().unwrap()] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

fn a_module_is_pushed_as_its_layout_is() {
    let (folder, registry) = (Folder::new(), Registry::open());
    let (layout, none) = (layout(&folder), folder.path("none"));
    let push = |from: &str| {
        meshfilter(&none, &["push", "--format", "json", &registry.reference("meshfilter:1.0"), from]).good()
    };
    assert_eq!(push(&layout), push(&module()));
}

fn the_same_module_makes_the_same_layout() {
    let (one, two) = (Folder::new(), Folder::new());
    let sums = |folder: &Folder| {
        layout(folder);
        fs::read_to_string(folder.path("dist/sha256sums")).unwrap()
    };
    let first = sums(&one);
    assert_eq!(first, sums(&two));
    for name in ["meshfilter.wasm", "oci/index.json", "policy.schema.json"] {
        assert!(first.contains(&format!("  {name}\n")), "{name}: {first}");
    }
    let checked = std::process::Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "sha256sums"])
        .current_dir(one.path("dist"))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

fn a_wrong_policy_stops_everything() {
    let folder = Folder::new();
    let good = folder.write("good.yaml", "namespace: default # here\n");
    let wrong = folder.write("wrong.yaml", "htpp: []\n");
    let output = folder.path("dist");
    let image = |policies: &[&std::path::Path]| {
        let module = module();
        let mut arguments = vec!["image", &module, "--output", output.to_str().unwrap(), "--policy"];
        arguments.extend(policies.iter().map(|path| path.to_str().unwrap()));
        meshfilter(&folder.path("none"), &arguments)
    };
    let said = image(&[&good, &wrong]).complaint(1);
    assert!(said.contains("wrong.yaml:1:1: htpp: there is no field \"htpp\""), "{said}");
    assert!(!output.exists());
    image(&[&good]).good();
    assert_eq!(
        parsed(&fs::read_to_string(output.join("policies/good.json")).unwrap()),
        json!({"namespace": "default"})
    );
}

fn a_password_is_taken_from_docker() {
    let (folder, registry) = (Folder::new(), Registry::with_password());
    let reference = registry.reference("meshfilter:1.0");
    let host = format!("localhost:{}", registry.port());
    let push = |docker: &str| meshfilter(&folder.path(docker), &["push", &reference, &module()]);

    let said = push("none").complaint(2);
    assert!(said.contains(&format!("{host} wants a login")) && said.contains("docker login"), "{said}");

    let auths = |user: &str, password: &str| {
        let auth = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("{user}:{password}"));
        json!({"auths": {&host: {"auth": auth}}}).to_string()
    };
    folder.write("wrong/config.json", &auths(LOGIN.0, "wrong horse"));
    let said = push("wrong").complaint(2);
    assert!(said.contains(&format!("{host} refuses the login")), "{said}");

    folder.write("right/config.json", &auths(LOGIN.0, LOGIN.1));
    push("right").good();

    // From a helper, as desktops have it.
    folder.write("helper/config.json", &json!({"credHelpers": {&host: "test"}}).to_string());
    let answer = json!({"ServerURL": host, "Username": LOGIN.0, "Secret": LOGIN.1});
    let helper = folder
        .write("helper/docker-credential-test", &format!("#!/bin/sh\ncat >/dev/null\necho '{answer}'\n"));
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let inspect = |docker: &str| meshfilter(&folder.path(docker), &["inspect", &reference]);
    assert!(inspect("helper").good().contains("container image"));
    assert!(inspect("none").complaint(2).contains("wants a login"));

    folder.write("broken/config.json", "{");
    assert!(inspect("broken").complaint(2).contains("broken/config.json: the login for"));
    folder.write("token/config.json", &json!({"auths": {&host: {"identitytoken": "x"}}}).to_string());
    assert!(inspect("token").complaint(2).contains("identity token"));
}

fn what_a_registry_does_not_take_is_explained() {
    let (folder, registry) = (Folder::new(), Registry::open());
    let none = folder.path("none");
    let complain = |arguments: &[&str], parts: &[&str]| {
        let said = meshfilter(&none, arguments).complaint(2);
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
    };
    let module = module();
    let there = registry.reference("meshfilter:1.0");
    // A port that was free a moment ago.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    complain(
        &["push", &format!("localhost:{nobody}/meshfilter:1.0"), &module],
        &["cannot be reached", "Connection refused"],
    );
    complain(&["inspect", &there], &["has no localhost", "meshfilter:1.0", "push it first"]);
    complain(&["push", "--plain-http=false", &there, &module], &["does not speak TLS", "--plain-http"]);
    complain(
        &["push", &registry.reference("meshfilter"), &module],
        &["say under which tag, as in localhost"],
    );
    complain(
        &["push", &registry.reference("Meshfilter:1.0"), &module],
        &["this is no reference", "lower case"],
    );
    complain(&["push", &there, "no/such/module.wasm"], &["no/such/module.wasm", "`make build`"]);
    complain(&["push", &there, none.parent().unwrap().to_str().unwrap()], &["index.json", "`make image`"]);
    let script = folder.write("script.wasm", "#!/bin/sh\n");
    let said = meshfilter(&none, &["push", &there, script.to_str().unwrap()]).complaint(1);
    assert!(said.contains("script.wasm: this is no WebAssembly module"), "{said}");
    assert!(
        meshfilter(&none, &["inspect", &there]).complaint(2).contains("push it first"),
        "nothing was uploaded"
    );
}

fn what_the_fetchers_refuse_is_refused() {
    let (folder, registry) = (Folder::new(), Registry::open());
    let (layout, none) = (layout(&folder), folder.path("none"));
    let version = env!("CARGO_PKG_VERSION");
    let source = format!("oci:{layout}:{version}");
    let copy = |options: &[&str], source: &str, name: &str| -> String {
        let reference = registry.reference(name);
        let target = format!("docker://{reference}");
        skopeo(&[&["copy", "--dest-tls-verify=false"], options, &[source, target.as_str()]].concat()).good();
        reference
    };
    let inspect = |reference: &str| -> Ran { meshfilter(&none, &["inspect", "--format", "json", reference]) };

    // With Docker's media types it is taken, too.
    let docker = parsed(&inspect(&copy(&["--format", "v2s2"], &source, "meshfilter:docker")).good());
    assert_eq!(docker["images"][0]["form"], "container-image");
    assert_eq!(docker["digest"], parsed(&inspect(&module()).good())["digest"]);

    // A second COPY: the same image with one more layer.
    let index = std::path::Path::new(&layout).join("index.json");
    let mut listed = parsed(&fs::read_to_string(&index).unwrap());
    let blob = |digest: &str| std::path::Path::new(&layout).join("blobs").join(digest.replace(':', "/"));
    let manifest = blob(listed["manifests"][0]["digest"].as_str().unwrap());
    let mut manifest = parsed(&fs::read_to_string(manifest).unwrap());
    let layer = manifest["layers"][0].clone();
    manifest["layers"].as_array_mut().unwrap().push(layer);
    let manifest = manifest.to_string();
    let digest = meshfilter_cli::package::digest(manifest.as_bytes());
    fs::write(blob(&digest), &manifest).unwrap();
    listed["manifests"][0]["digest"] = digest.into();
    listed["manifests"][0]["size"] = manifest.len().into();
    fs::write(&index, listed.to_string()).unwrap();
    let reason = "must have exactly one layer, and this one has 2";
    let said = inspect(&copy(&[], &source, "meshfilter:twice")).complaint(1);
    assert!(said.contains(reason), "{said}");
    // And it is not pushed at all.
    let reference = registry.reference("meshfilter:wrong");
    let said = meshfilter(&none, &["push", &reference, &layout]).complaint(1);
    assert!(said.contains(reason), "{said}");
    assert!(inspect(&reference).complaint(2).contains("push it first"));
}
