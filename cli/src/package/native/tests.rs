use super::*;

/// A program of this machine's that is none of Envoy's modules: this one.
fn program() -> Vec<u8> {
    std::fs::read(std::env::current_exe().unwrap()).unwrap()
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#[test]
fn what_is_no_native_module_of_ours_is_told_why() {
    let program = program();
    let mut foreign = program.clone();
    // The machine: AVR.
    foreign[18..20].copy_from_slice(&83_u16.to_le_bytes());
    for (bytes, reason) in [
        (program.as_slice(), "has no section meshfilter.version"),
        (&foreign, "is for machine 83"),
        (&program[..program.len() / 2], "broken or cut off"),
        (&program[..70], "broken or cut off"),
        (b"\x7fELF", "broken or cut off"),
    ] {
        let message = read(bytes).unwrap_err();
        assert!(message.contains(reason), "{reason}: {message}");
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn the_newest_version_of_glibc_that_is_asked_for_is_found() {
    let program = program();
    let file = ElfFile64::parse(program.as_slice()).unwrap();
    let found = glibc(&file).unwrap().unwrap();
    let (major, minor) = found.split_once('.').unwrap();
    assert_eq!(major, "2", "{found}");
    // Rust's own library asks for more than the first of x86-64 (2.2.5) and of arm64 (2.17).
    assert!(minor.split('.').next().unwrap().parse::<u32>().unwrap() >= 14, "{found}");
}
