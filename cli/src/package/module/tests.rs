use super::*;

/// A section as the binary format has it; nothing here is longer than a byte can say twice over.
fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let size = u8::try_from(content.len() / 128).unwrap();
    let low = u8::try_from(content.len() % 128).unwrap() | 0x80;
    [&[id, low, size], content].concat()
}

fn named(name: &str, content: &[u8]) -> Vec<u8> {
    [&[u8::try_from(name.len()).unwrap()], name.as_bytes(), content].concat()
}

/// The smallest module that says who it is.
pub fn small(facts: &str, export: &str) -> Vec<u8> {
    let export = [&[1], named(export, &[0, 0]).as_slice()].concat();
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    bytes.extend(section(7, &export));
    bytes.extend(section(0, &named(version::SECTION, facts.as_bytes())));
    bytes
}

/// A module of some commit, built at some time.
pub fn module() -> Module {
    let facts =
        r#"{"version":"1.2.3","commit":"abc","commitTime":"1700000000","abi":"0.2.1","policies":["http"]}"#;
    Module::read(small(facts, "proxy_abi_version_0_2_1")).unwrap()
}

/// A native module of the same commit; nobody reads its bytes.
pub fn native() -> Module {
    let platform = Platform { architecture: oci_spec::image::Arch::ARM64, glibc: Some("2.31".to_owned()) };
    Module { bytes: b"\x7fELF".to_vec(), platform: Some(platform), ..module() }
}

fn refused(bytes: Vec<u8>) -> String {
    match Module::read(bytes) {
        Err(Problem::Wrong(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_module_says_who_it_is() {
    let module = module();
    let Facts { version, commit, abi, policies, .. } = &module.facts;
    assert_eq!((version.as_str(), commit.as_str(), abi.as_str()), ("1.2.3", "abc", "0.2.1"));
    assert_eq!(policies, &["http"]);
    assert_eq!(module.created().as_deref(), Some("2023-11-14T22:13:20Z"));
}

#[test]
fn the_section_is_what_the_module_embeds() {
    let module = Module::read(small(version::TEXT, "proxy_abi_version_0_2_1")).unwrap();
    assert_eq!(module.facts.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(module.created(), None);
}

#[test]
fn what_is_no_module_of_ours_is_told_why() {
    let facts = version::TEXT;
    let good = small(facts, "proxy_abi_version_0_2_1");
    for (bytes, reason) in [
        (b"#!/bin/sh\n".to_vec(), "no WebAssembly module"),
        (Vec::new(), "no WebAssembly module"),
        (good[..good.len() - 1].to_vec(), "broken or cut off"),
        (good[..8].to_vec(), "has no section meshfilter.version"),
        (small("{}", "proxy_abi_version_0_2_1"), "cannot be read: missing field"),
        (
            small(
                r#"{"version":"1\u001b[2J","commit":"a","commitTime":"","abi":"0.2.1","policies":[]}"#,
                "proxy_abi_version_0_2_1",
            ),
            "has control characters",
        ),
        (
            small(
                r#"{"version":"1","commit":"a","commitTime":"","abi":"0.2.1","policies":["a\nmodule sha256:00"]}"#,
                "proxy_abi_version_0_2_1",
            ),
            "has control characters",
        ),
        (small(facts, "proxy_abi_version_0_2_0"), "does not export proxy_abi_version_0_2_1"),
    ] {
        let message = refused(bytes);
        assert!(message.contains(reason), "{reason}: {message}");
    }
}
