//! Which module this is. The same facts stand in a custom section of the module, where `meshfilter inspect` and any
//! other reader of WebAssembly finds them, and in the first line that it logs.

/// The version of the proxy-wasm ABI.
macro_rules! abi {
    () => {
        "0.2.1"
    };
}

/// What the module logs first: its version, the commit it was built from, and the version of the proxy-wasm ABI that it
/// speaks. The commit ends in `-dirty` if the sources differed from it, and is `unknown` where there was none.
pub const LINE: &str = concat!(
    "meshfilter ",
    env!("CARGO_PKG_VERSION"),
    ", commit ",
    env!("MESHFILTER_COMMIT"),
    ", proxy-wasm ABI ",
    abi!(),
);

/// The custom section's name.
pub const SECTION: &str = "meshfilter.version";

/// What stands in the section: a JSON object. `commitTime` is in seconds since 1970, empty if unknown; `policies` are
/// the sections of the policy document that the module decides by.
pub const TEXT: &str = concat!(
    r#"{"version":""#,
    env!("CARGO_PKG_VERSION"),
    r#"","commit":""#,
    env!("MESHFILTER_COMMIT"),
    r#"","commitTime":""#,
    env!("MESHFILTER_COMMIT_TIME"),
    r#"","abi":""#,
    abi!(),
    r#"","policies":["authentication","authorization","http","rateLimits","telemetry"]}"#,
);

// The only way to name a section is an attribute that counts as unsafe, since it could as well name one with code.
#[cfg(target_os = "wasi")]
#[allow(unsafe_code)]
#[unsafe(link_section = "meshfilter.version")]
#[used]
static EMBEDDED: [u8; TEXT.len()] = match TEXT.as_bytes().first_chunk() {
    Some(bytes) => *bytes,
    None => [0; TEXT.len()],
};

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::{Errors, compile};

    #[test]
    fn what_is_embedded_can_be_read() {
        let facts: Value = serde_json::from_str(TEXT).unwrap();
        assert_eq!(facts["version"], env!("CARGO_PKG_VERSION"));
        assert!(LINE.contains(facts["commit"].as_str().unwrap()));
        assert!(LINE.ends_with(facts["abi"].as_str().unwrap()));
    }

    #[test]
    fn every_policy_is_a_section_of_the_document() {
        let facts: Value = serde_json::from_str(TEXT).unwrap();
        for policy in facts["policies"].as_array().unwrap() {
            let section = if ["authentication", "telemetry"].contains(&policy.as_str().unwrap()) {
                json!({})
            } else {
                json!([])
            };
            let document = json!({policy.as_str().unwrap(): section});
            assert!(compile(&document, &|_| None, Errors::default()).is_ok(), "{document}");
        }
    }
}
