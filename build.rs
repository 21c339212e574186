//! Tells the module which commit it is made of, `MESHFILTER_COMMIT` and `MESHFILTER_COMMIT_TIME` for `src/version.rs`, and
//! the linker to make it small.
//!
//! Only for the module, so that a commit rebuilds nothing else. The answer comes from the repository, from what
//! `cargo package` wrote into a published crate, or from variables of these names; it is `unknown` without any of them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the module is made of.
const SOURCES: [&str; 10] = [
    "src",
    "config",
    "core",
    "derive",
    "json",
    "build.rs",
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    ".cargo_vcs_info.json",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let unknown = || ("unknown".to_owned(), String::new());
    let (commit, time) = match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("wasi") => {
            let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
            for source in SOURCES.into_iter().filter(|source| folder.join(source).exists()) {
                println!("cargo::rerun-if-changed={source}");
            }
            // Without it every call takes five bytes, to be filled in, where two or three do. Debug information forbids it.
            if env::var("DEBUG").as_deref() == Ok("false") {
                println!("cargo::rustc-link-arg-cdylib=--compress-relocations");
            }
            repository(&folder).or_else(|| published(&folder)).unwrap_or_else(unknown)
        }
        _ => unknown(),
    };
    set("MESHFILTER_COMMIT", commit);
    set("MESHFILTER_COMMIT_TIME", time);
}

/// Hands a value to the compiler; a variable of that name in the environment overrides it.
fn set(name: &str, value: String) {
    println!("cargo::rerun-if-env-changed={name}");
    println!("cargo::rustc-env={name}={}", env::var(name).unwrap_or(value));
}

/// The commit that is checked out, `-dirty` if the sources differ from it, and its time in seconds since 1970.
fn repository(folder: &Path) -> Option<(String, String)> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(folder)
            // Asking must not write, not even the index.
            .env("GIT_OPTIONAL_LOCKS", "0")
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim_end().to_owned())
    };
    // A crate that was unpacked somewhere inside another repository is not of that repository.
    let top = fs::canonicalize(git(&["rev-parse", "--show-toplevel"])?).ok()?;
    if top != fs::canonicalize(folder).ok()? {
        return None;
    }
    for file in ["HEAD", "logs/HEAD"] {
        let path = folder.join(git(&["rev-parse", "--git-path", file])?);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    let mut commit = git(&["rev-parse", "HEAD"])?;
    let time = git(&["show", "--no-patch", "--format=%ct", "HEAD"])?;
    if !git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?.is_empty() {
        commit.push_str("-dirty");
    }
    Some((commit, time))
}

/// What `cargo package` leaves in a published crate: `{"git": {"sha1": "…"}, …}`.
fn published(folder: &Path) -> Option<(String, String)> {
    let text = fs::read_to_string(folder.join(".cargo_vcs_info.json")).ok()?;
    let (_, after) = text.split_once("\"sha1\"")?;
    let commit = after.split('"').nth(1)?;
    let dirty = if text.contains("\"dirty\": true") { "-dirty" } else { "" };
    Some((format!("{commit}{dirty}"), String::new()))
}
