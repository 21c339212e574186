//! The module itself: its size has a bound, it says which one it is, and its interface, what it asks of a proxy and what
//! it offers, is pinned in `tests/module-interface.txt`.
//!
//! A proxy refuses a module with an import that it does not know, and calls every callback that is exported; neither
//! should change by accident.

mod support;

use meshfilter::version;
use serde_json::{Value, json};
use support::envoy::{self, Bootstrap, Configuration, Envoy, Upstreams};

/// How large the module may be, in bytes. Every worker of every proxy compiles all of it before the first request;
/// docs/performance.md says what was done to keep it small.
const MOST_BYTES: usize = 1_200_000;

#[test]
fn it_has_not_grown() {
    let size = std::fs::read(envoy::module().unwrap()).unwrap().len();
    assert!(
        size <= MOST_BYTES,
        "the module has {size} bytes, and {MOST_BYTES} is the bound; \
         `scripts/build-module.sh named` makes one whose functions have names"
    );
}

#[test]
fn it_says_which_one_it_is_in_a_section_and_in_its_first_line() {
    let module = std::fs::read(envoy::module().unwrap()).unwrap();
    let section = custom_section(&module, version::SECTION).expect("the section");
    let facts: Value = serde_json::from_slice(section).unwrap();
    let own: Value = serde_json::from_str(version::TEXT).unwrap();
    for fact in ["version", "abi", "policies"] {
        assert_eq!(facts[fact], own[fact], "{fact}");
    }
    let commit = facts["commit"].as_str().unwrap();
    assert!(commit == "unknown" || commit.trim_end_matches("-dirty").len() == 40, "{commit}");

    let bootstrap = Bootstrap::new(Configuration::Struct(json!({})), &Upstreams::start().unwrap());
    let log = Envoy::start(&bootstrap).unwrap().log();
    let first =
        log.lines().find_map(|line| line.split_once(" wasm log").and_then(|(_, line)| line.split_once(": ")));
    let (version, abi) = (env!("CARGO_PKG_VERSION"), own["abi"].as_str().unwrap());
    let expected = format!("meshfilter {version}, commit {commit}, proxy-wasm ABI {abi}");
    assert_eq!(first.map(|(_, said)| said), Some(expected.as_str()), "{log}");
    assert!(
        interface(&module).unwrap().contains(&format!("export proxy_abi_version_{}", abi.replace('.', "_")))
    );
}

#[test]
fn imports_and_exports_are_those_that_are_pinned() {
    let path = envoy::module().unwrap();
    let mut found = interface(&std::fs::read(path).unwrap()).expect("a WebAssembly module");
    found.sort();
    let pinned: Vec<&str> = include_str!("module-interface.txt").lines().collect();
    let new: Vec<_> = found.iter().filter(|line| !pinned.contains(&line.as_str())).collect();
    let gone: Vec<_> = pinned.iter().filter(|line| !found.iter().any(|found| found == *line)).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "the module's interface has changed; new: {new:#?}, gone: {gone:#?}.\n\
         If that is meant, bring tests/module-interface.txt up to date."
    );
}

#[test]
fn what_is_no_module_is_told_from_one() {
    assert_eq!(interface(b"\0asm\x01\0\0\0"), Some(vec![]));
    assert_eq!(
        interface(b"\0asm\x01\0\0\0\x02\x07\x01\x01e\x01f\x00\x03"),
        Some(vec!["import e.f".to_owned()])
    );
    for bytes in
        [b"".as_slice(), b"\0asm\x02\0\0\0", b"\0asm\x01\0\0\0\x02\xff", b"\0asm\x01\0\0\0\x02\x01\x05"]
    {
        assert_eq!(interface(bytes), None);
    }
}

/// `import MODULE.NAME` and `export NAME`, in the module's order.
fn interface(bytes: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader(bytes.strip_prefix(b"\0asm\x01\0\0\0")?);
    let mut found = Vec::new();
    while !reader.0.is_empty() {
        let (section, size) = (reader.byte()?, reader.number()?);
        let mut content = Reader(reader.take(size)?);
        match section {
            2 => {
                for _ in 0..content.number()? {
                    found.push(format!("import {}.{}", content.name()?, content.name()?));
                    // The modules of this crate import functions alone: a kind, and the number of a type.
                    (content.byte()? == 0).then_some(())?;
                    content.number()?;
                }
            }
            7 => {
                for _ in 0..content.number()? {
                    found.push(format!("export {}", content.name()?));
                    content.byte()?;
                    content.number()?;
                }
            }
            _ => {}
        }
    }
    Some(found)
}

/// What stands in the custom section of this name.
fn custom_section<'a>(bytes: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let mut reader = Reader(bytes.strip_prefix(b"\0asm\x01\0\0\0")?);
    while !reader.0.is_empty() {
        let (section, size) = (reader.byte()?, reader.number()?);
        let mut content = Reader(reader.take(size)?);
        if section == 0 && content.name()? == wanted {
            return Some(content.0);
        }
    }
    None
}

/// Reads WebAssembly's binary format.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// LEB128.
    fn number(&mut self) -> Option<usize> {
        let (mut number, mut shift) = (0usize, 0);
        loop {
            let byte = self.byte()?;
            number |= usize::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
            shift += 7;
        }
    }

    fn name(&mut self) -> Option<String> {
        let size = self.number()?;
        String::from_utf8(self.take(size)?.to_vec()).ok()
    }
}
