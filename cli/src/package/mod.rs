//! The module as others fetch it: a container image, an OCI artifact, both in a layout on disk or in a registry.
//!
//! Native only. What is made here depends on the module's bytes and on nothing else, so that a commit has one digest.

pub mod fetchers;
pub mod image;
pub mod layout;
pub mod module;
pub mod registry;

use sha2::{Digest, Sha256};

/// Why something cannot be done: what is the matter, and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub enum Problem {
    /// The module, or the image, is not right.
    Wrong(String),
    /// The command was used wrongly, or what it needs is not there.
    Misused(String),
}

/// `sha256:` and the hash in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}
