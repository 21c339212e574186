//! What a module says about itself.

use serde::Deserialize;
use wasmparser::{Parser, Payload};

use super::native::{self, Platform};
use super::{Problem, digest};
use meshfilter::version;

/// A module of this project, and what stands in its section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Who it is.
    pub facts: Facts,
    /// What a native module is for; none for one of WebAssembly, which is for all.
    pub platform: Option<Platform>,
}

/// What stands in the module's custom section, [`version::SECTION`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Of the package.
    pub version: String,
    /// Of git; ends in `-dirty` if the sources differed from it; `unknown` where there was none.
    pub commit: String,
    /// Seconds since 1970, as text; empty if unknown.
    pub commit_time: String,
    /// The version of the proxy-wasm ABI; `dynamic-module` of a native module.
    pub abi: String,
    /// The sections of the policy document that it decides by.
    pub policies: Vec<String>,
}

impl Module {
    /// Reads a module; the error says why it is none of this project.
    pub fn read(bytes: Vec<u8>) -> Result<Self, Problem> {
        let (facts, platform) = match bytes.starts_with(b"\x7fELF") {
            true => {
                native::read(&bytes).and_then(|(section, platform)| Ok((parse(section)?, Some(platform))))
            }
            false => facts(&bytes).map(|facts| (facts, None)),
        }
        .map_err(Problem::Wrong)?;
        Ok(Module { bytes, facts, platform })
    }

    /// The name of its file.
    pub fn file_name(&self) -> &'static str {
        if self.platform.is_some() { "libmeshfilter.so" } else { "meshfilter.wasm" }
    }

    /// Of the bytes: what Envoy and Istio call `sha256`, with `sha256:` before it.
    pub fn digest(&self) -> String {
        digest(&self.bytes)
    }

    /// When the commit was made, as RFC 3339 has it.
    pub fn created(&self) -> Option<String> {
        let seconds = self.facts.commit_time.parse().ok()?;
        let time = chrono::DateTime::from_timestamp(seconds, 0)?;
        Some(time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
    }
}

/// Whether a text does nothing but stand there.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn facts(bytes: &[u8]) -> Result<Facts, String> {
    if bytes.get(..4) != Some(b"\0asm") {
        return Err(
            "this is no WebAssembly module, and no shared library; `make build` makes the one, `make native` the other"
                .to_owned(),
        );
    }
    let broken = |error: wasmparser::BinaryReaderError| {
        format!("this WebAssembly module is broken or cut off: {error}; build or copy it again")
    };
    let (mut section, mut exports) = (None, Vec::new());
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(broken)? {
            Payload::CustomSection(custom) if custom.name() == version::SECTION => {
                section = Some(custom.data())
            }
            Payload::ExportSection(reader) => {
                for export in reader {
                    exports.push(export.map_err(broken)?.name);
                }
            }
            _ => {}
        }
    }
    let section = section.ok_or_else(|| {
        format!(
            "this module has no section {}, so it is none of meshfilter's; `make build` makes one",
            version::SECTION
        )
    })?;
    let facts = parse(section)?;
    let abi = format!("proxy_abi_version_{}", facts.abi.replace('.', "_"));
    match exports.contains(&abi.as_str()) {
        true => Ok(facts),
        false => Err(format!(
            "this module says that it speaks ABI {}, but does not export {abi}; build it again",
            facts.abi
        )),
    }
}

/// Reads the section.
fn parse(section: &[u8]) -> Result<Facts, String> {
    let facts: Facts = serde_json::from_slice(section).map_err(|error| {
        format!("the module's section {} cannot be read: {error}; build it again", version::SECTION)
    })?;
    // It is shown on a terminal, and may be anybody's.
    let texts = [&facts.version, &facts.commit, &facts.commit_time, &facts.abi];
    if texts.into_iter().chain(&facts.policies).any(|text| !is_plain(text)) {
        return Err(format!(
            "the module's section {} has control characters, so it is none of meshfilter's; build it again",
            version::SECTION
        ));
    }
    Ok(facts)
}

#[cfg(test)]
pub(super) mod tests;
