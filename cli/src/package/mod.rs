//! The module as others fetch it: a container image, an OCI artifact, both in a layout on disk or in a registry.
//!
//! Native only. What is made here depends on the module's bytes and on nothing else, so that a commit has one digest.

pub mod fetchers;
pub mod image;
pub mod layout;
pub mod module;
pub mod native;
pub mod registry;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// The largest module or layer that is read, and the largest archive that is unpacked, in bytes: Envoy Gateway's bound.
pub const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// The largest manifest that is read, in bytes: OCI's distribution specification asks registries for no more.
pub const MOST_BYTES_OF_A_MANIFEST: u64 = 4 * 1024 * 1024;

/// Why something cannot be done: what is the matter, and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub enum Problem {
    /// The module, or the image, is not right.
    Wrong(String),
    /// The command was used wrongly, or what it needs is not there.
    Misused(String),
}

/// Reads a file that comes from anywhere, and no more of it than so many bytes.
pub fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    bounded(File::open(path)?, most)
}

/// The same of whatever can be read.
pub fn bounded(reader: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()).is_ok_and(|length| length <= most) {
        true => Ok(bytes),
        false => Err(io::Error::other(format!("it has more than {most} bytes, which is the bound"))),
    }
}

/// `sha256:` and the hash in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}
