//! The module's interface: what it asks of a proxy, and what it offers, is pinned in `tests/module-interface.txt`.
//!
//! A proxy refuses a module with an import that it does not know, and calls every callback that is exported; neither
//! should change by accident.

mod support;

use support::envoy;

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
