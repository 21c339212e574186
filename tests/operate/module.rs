//! Other modules than the one that `make build` leaves: one that crashes when it is told to, one of another version.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use wasm_encoder::Section;
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, CustomSection, ExportKind, ExportSection, Function, FunctionSection, Module,
};
use wasmparser::{CodeSectionReader, ExportSectionReader, FunctionSectionReader, Parser, Payload, TypeRef};

use crate::support::envoy;

/// A request with more headers than this crashes [`crashing`].
const MOST_HEADERS: i32 = 60;

/// Headers that make a request crash [`crashing`].
pub fn deadly_headers() -> Vec<(&'static str, &'static str)> {
    vec![("x-deadly", "1"); MOST_HEADERS as usize + 1]
}

/// The module, with one function before its own: it traps as a panic would if a request has too many headers.
pub fn crashing() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| write("crashing", &with_trap(&original()))).clone()
}

/// The module with other bytes and the same behaviour: Envoy takes it for another version.
pub fn other_version() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let section = CustomSection { name: "test.version".into(), data: b"other".into() };
    let with_section = || {
        let mut module = original();
        Section::append_to(&section, &mut module);
        write("other-version", &module)
    };
    PATH.get_or_init(with_section).clone()
}

fn original() -> Vec<u8> {
    fs::read(envoy::module().unwrap()).unwrap()
}

fn write(name: &str, module: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("meshfilter-{name}.wasm"));
    let new = path.with_extension(std::process::id().to_string());
    fs::write(&new, module).and_then(|()| fs::rename(new, &path)).unwrap();
    path
}

/// What the new function needs to know of the old ones.
#[derive(Default)]
struct Trap {
    /// The callback that is called if there is no crash.
    callback: u32,
    /// Its type.
    kind: u32,
    /// How many functions there are: the new one's number.
    functions: u32,
}

const CALLBACK: &str = "proxy_on_request_headers";

fn with_trap(module: &[u8]) -> Vec<u8> {
    let mut trap = Trap::default();
    let mut kinds = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload.unwrap() {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    if let TypeRef::Func(kind) = import.unwrap().ty {
                        kinds.push(kind);
                    }
                }
            }
            Payload::FunctionSection(functions) => kinds.extend(functions.into_iter().map(Result::unwrap)),
            Payload::ExportSection(exports) => {
                let callback = exports.into_iter().map(Result::unwrap).find(|export| export.name == CALLBACK);
                trap.callback = callback.expect("the callback").index;
            }
            _ => {}
        }
    }
    trap.kind = kinds[trap.callback as usize];
    trap.functions = kinds.len() as u32;
    let mut changed = Module::new();
    trap.parse_core_module(&mut changed, Parser::new(0), module).unwrap();
    changed.finish()
}

impl Reencode for Trap {
    type Error = std::convert::Infallible;

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_function_section(self, functions, section)?;
        functions.function(self.kind);
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: ExportSectionReader<'_>,
    ) -> Result<(), Error> {
        for export in section {
            let export = export?;
            match export.name {
                CALLBACK => {
                    exports.export(CALLBACK, ExportKind::Func, self.functions);
                }
                _ => self.parse_export(exports, export)?,
            }
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_code_section(self, code, section)?;
        let mut function = Function::new([]);
        let mut body = function.instructions();
        // (context, number of headers, end of stream)
        body.local_get(1).i32_const(MOST_HEADERS).i32_gt_s().if_(BlockType::Empty).unreachable().end();
        body.local_get(0).local_get(1).local_get(2).call(self.callback).end();
        code.function(&function);
        Ok(())
    }
}
