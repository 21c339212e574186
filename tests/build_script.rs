//! `build.rs` tells the module its commit, wherever the sources come from: a repository, a published crate, an archive.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The build script as a program, and folders to run it in.
struct Script(PathBuf);

impl Script {
    fn compile(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("src")).unwrap();
        fs::write(folder.join("src/lib.rs"), "").unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build.rs");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        run(Command::new(rustc).args(["--edition", "2024", "-o"]).arg(folder.join("script")).arg(source));
        Script(folder)
    }

    fn git(&self, arguments: &[&str]) -> String {
        let who = ["-c", "user.name=test", "-c", "user.email=test@example.com"];
        run(Command::new("git").current_dir(&self.0).args(who).args(arguments)).trim().to_owned()
    }

    /// The commit and its time, as the module for this system gets them.
    fn says(&self, system: &str, variables: &[(&str, &str)]) -> (String, String) {
        let mut command = Command::new(self.0.join("script"));
        command.current_dir(&self.0).env("CARGO_MANIFEST_DIR", &self.0).env("CARGO_CFG_TARGET_OS", system);
        command
            .env_remove("MESHFILTER_COMMIT")
            .env_remove("MESHFILTER_COMMIT_TIME")
            .envs(variables.iter().copied());
        let printed = run(&mut command);
        let value = |name: &str| {
            let prefix = format!("cargo::rustc-env={name}=");
            printed.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap().to_owned()
        };
        (value("MESHFILTER_COMMIT"), value("MESHFILTER_COMMIT_TIME"))
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn pair(commit: &str, time: &str) -> (String, String) {
    (commit.to_owned(), time.to_owned())
}

#[test]
fn a_repository_names_its_commit_and_says_if_the_sources_differ() {
    let script = Script::compile("build-script-repository");
    script.git(&["init", "--quiet"]);
    script.git(&["add", "src"]);
    script.git(&["commit", "--quiet", "--message", "test"]);
    let (commit, time) = (script.git(&["rev-parse", "HEAD"]), script.git(&["show", "-s", "--format=%ct"]));
    assert_eq!(script.says("wasi", &[]), pair(&commit, &time));
    // What the module is not made of makes no difference.
    fs::write(script.0.join("README.md"), "x").unwrap();
    assert_eq!(script.says("wasi", &[]).0, commit);
    fs::write(script.0.join("src/lib.rs"), "\n").unwrap();
    assert_eq!(script.says("wasi", &[]).0, format!("{commit}-dirty"));
}

#[test]
fn without_a_repository_the_crate_says_it_or_the_environment_or_nobody() {
    // The folder lies in the repository of this project, and is not of it.
    let script = Script::compile("build-script-crate");
    assert_eq!(script.says("wasi", &[]), pair("unknown", ""));
    let variables = [("MESHFILTER_COMMIT", "abc"), ("MESHFILTER_COMMIT_TIME", "1700000000")];
    assert_eq!(script.says("wasi", &variables), pair("abc", "1700000000"));
    let published = |dirty: &str| format!("{{\n  \"git\": {{\n    \"sha1\": \"def\"{dirty}\n  }}\n}}");
    fs::write(script.0.join(".cargo_vcs_info.json"), published("")).unwrap();
    assert_eq!(script.says("wasi", &[]), pair("def", ""));
    fs::write(script.0.join(".cargo_vcs_info.json"), published(",\n    \"dirty\": true")).unwrap();
    assert_eq!(script.says("wasi", &[]), pair("def-dirty", ""));
}

#[test]
fn only_the_module_asks() {
    let script = Script::compile("build-script-native");
    fs::write(script.0.join(".cargo_vcs_info.json"), "{\"git\": {\"sha1\": \"def\"}}").unwrap();
    assert_eq!(script.says("linux", &[]), pair("unknown", ""));
}
