//! Third-party test material as data. It is no part of this repository: the tests over it run where the folder is,
//! and say how many cases they ran.

use std::path::PathBuf;

use serde_json::Value;

/// The folder of the cases, if it is there: `MESHFILTER_SHARED_CASES`, or `../shared/cases` beside the repository.
pub fn folder() -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/cases"));
    let folder = std::env::var_os("MESHFILTER_SHARED_CASES").map_or_else(beside, PathBuf::from);
    if !folder.is_dir() {
        eprintln!("0 cases: there is no folder {}", folder.display());
        return None;
    }
    Some(folder)
}

/// Reads a JSON file of the folder.
pub fn json(folder: &std::path::Path, file: &str) -> Value {
    let text = std::fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}
