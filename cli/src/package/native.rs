//! A native module, as far as a file tells: what it says of itself, for which machine it is, and how new a glibc it needs.

use std::cmp::Ordering;

use object::read::elf::{ElfFile64, FileHeader, SectionHeader};
use object::{Object, ObjectSection, elf};
use oci_spec::image::Arch;

use meshfilter::version;

/// What a shared library is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// As container images call it.
    pub architecture: Arch,
    /// The oldest glibc that has all that it is linked to, such as `2.31`; none if it needs none.
    pub glibc: Option<String>,
}

/// The hook that every dynamic module of Envoy exports.
const HOOK: &[u8] = b"envoy_dynamic_module_on_program_init";

/// What its symbols' versions begin with.
const GLIBC: &[u8] = b"GLIBC_";

/// The section of a module of this project, and what it is for; the error says why it is none.
pub fn read(bytes: &[u8]) -> Result<(&[u8], Platform), String> {
    let broken = |error: object::Error| {
        format!("this shared library is broken or cut off: {error}; build or copy it again")
    };
    let file = ElfFile64::<object::Endianness>::parse(bytes).map_err(broken)?;
    let machine = file.elf_header().e_machine(file.endian());
    let architecture = match machine {
        elf::EM_X86_64 => Arch::Amd64,
        elf::EM_AARCH64 => Arch::ARM64,
        _ => {
            return Err(format!(
                "this shared library is for machine {machine} of ELF, and meshfilter's are for x86-64 or arm64"
            ));
        }
    };
    let section = file.section_by_name(version::SECTION).ok_or_else(|| {
        format!(
            "this shared library has no section {}, so it is none of meshfilter's; `make native` makes one",
            version::SECTION
        )
    })?;
    let exports = file.exports().map_err(broken)?;
    if !exports.iter().any(|export| export.name() == HOOK) {
        return Err(format!(
            "this shared library does not export {}, so Envoy cannot load it; build it again with `make native`",
            String::from_utf8_lossy(HOOK)
        ));
    }
    let glibc = glibc(&file).map_err(broken)?;
    Ok((section.data().map_err(broken)?, Platform { architecture, glibc }))
}

/// The newest version of glibc that a symbol asks for.
fn glibc(file: &ElfFile64<'_>) -> object::Result<Option<String>> {
    let (endian, data) = (file.endian(), file.data());
    let mut newest: Option<Vec<u32>> = None;
    for section in file.elf_section_table().iter() {
        let Some((mut needed, link)) = section.gnu_verneed(endian, data)? else { continue };
        let strings = file.elf_section_table().strings(endian, data, link)?;
        while let Some((_, mut symbols)) = needed.next()? {
            while let Some(symbol) = symbols.next()? {
                let Some(numbers) = symbol.name(endian, strings)?.strip_prefix(GLIBC) else { continue };
                // `GLIBC_PRIVATE` is no version.
                let numbers: Option<Vec<u32>> =
                    String::from_utf8_lossy(numbers).split('.').map(|part| part.parse().ok()).collect();
                if numbers
                    .as_ref()
                    .map_or(Ordering::Less, |numbers| Some(numbers).cmp(&newest.as_ref()))
                    .is_gt()
                {
                    newest = numbers;
                }
            }
        }
    }
    Ok(newest.map(|numbers| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(".")))
}

#[cfg(test)]
mod tests;
