//! Which module this is: in its log, and in a section of its own, as the wasm module has it.

/// What the module logs first. `make native` says which commit it was built from.
pub const LINE: &str = concat!(
    "meshfilter ",
    env!("CARGO_PKG_VERSION"),
    ", commit ",
    env!("MESHFILTER_COMMIT"),
    ", dynamic module"
);

/// What stands in the section `meshfilter.version`: a JSON object like the wasm module's.
const TEXT: &str = concat!(
    r#"{"version":""#,
    env!("CARGO_PKG_VERSION"),
    r#"","commit":""#,
    env!("MESHFILTER_COMMIT"),
    r#"","commitTime":""#,
    env!("MESHFILTER_COMMIT_TIME"),
    r#"","abi":"dynamic-module","policies":["authentication","authorization","http","rateLimits","telemetry"]}"#,
);

#[cfg(target_os = "linux")]
#[unsafe(link_section = "meshfilter.version")]
#[used]
static EMBEDDED: [u8; TEXT.len()] = match TEXT.as_bytes().first_chunk() {
    Some(bytes) => *bytes,
    None => [0; TEXT.len()],
};
