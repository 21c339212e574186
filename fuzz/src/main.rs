//! One binary for all targets: `FUZZ_TARGET` names the one that libFuzzer drives. `make fuzz` builds and runs it.
#![no_main]

mod targets;

use std::sync::LazyLock;

static TARGET: LazyLock<targets::Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = targets::TARGETS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("FUZZ_TARGET={name:?} is no target")).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (*TARGET)(data));
