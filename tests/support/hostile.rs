//! Another plugin of the same proxy: it overwrites a key set in the data that all plugins share, again and again.

use std::path::PathBuf;

use serde_json::Value;
use sha2::{Digest, Sha256};
use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function, FunctionSection,
    ImportSection, MemorySection, MemoryType, Module, TypeSection, ValType,
};

/// What it logs each time that it has written.
pub const WRITTEN: &str = "hostile has written";

const KEY: i32 = 0;
const TEXT_KEY: i32 = 256;
const STATE: i32 = 512;
const LOG: i32 = 768;
const TEXT: i32 = 1024;

/// Functions by their numbers: what is imported comes first.
const SET_SHARED_DATA: u32 = 0;
const SET_TICK_PERIOD: u32 = 1;
const LOG_LINE: u32 = 2;
const CLOCK: u32 = 3;
const IMPORTED: u32 = 4;

/// A module that puts these keys at the place of a key set, with a state as the filter would write it, but for the seal.
pub fn write(place: &str, keys: &Value) -> PathBuf {
    let text = keys.to_string();
    let mut state = Vec::new();
    // Version, time of the fetch (the module fills it in), lifetime, attempts, failures, next attempt, lease, holder, and
    // when an unknown key was looked for.
    for number in [99, 0, u64::MAX, 99, 0, 0, 0, 7, 0_u64] {
        state.extend(number.to_le_bytes());
    }
    state.extend(Sha256::digest(text.as_bytes()));
    state.extend([0; 32]);
    let text_place = format!("{place}.text");
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "hostile-{}-{}.wasm",
        std::process::id(),
        Sha256::digest(&text)[0]
    ));
    std::fs::write(&path, module(place.as_bytes(), text_place.as_bytes(), &state, text.as_bytes())).unwrap();
    path
}

fn module(key: &[u8], text_key: &[u8], state: &[u8], text: &[u8]) -> Vec<u8> {
    use ValType::{I32, I64};
    let mut types = TypeSection::new();
    let kinds: [(&[ValType], &[ValType]); 7] = [
        (&[I32; 5], &[I32]),
        (&[I32], &[I32]),
        (&[I32; 3], &[I32]),
        (&[I32, I64, I32], &[I32]),
        (&[], &[]),
        (&[I32; 2], &[I32]),
        (&[I32; 2], &[]),
    ];
    for (parameters, results) in kinds {
        types.ty().function(parameters.iter().copied(), results.iter().copied());
    }
    types.ty().function([I32], []);
    let mut imports = ImportSection::new();
    for (from, name, kind) in [
        ("env", "proxy_set_shared_data", 0),
        ("env", "proxy_set_tick_period_milliseconds", 1),
        ("env", "proxy_log", 2),
        ("wasi_snapshot_preview1", "clock_time_get", 3),
    ] {
        imports.import(from, name, EntityType::Function(kind));
    }
    let length = |bytes: &[u8]| i32::try_from(bytes.len()).unwrap();
    let mut functions = FunctionSection::new();
    let mut exports = ExportSection::new();
    let mut code = CodeSection::new();
    let mut add = |name: &str, kind: u32, body: &dyn Fn(&mut wasm_encoder::InstructionSink<'_>)| {
        exports.export(name, ExportKind::Func, IMPORTED + functions.len());
        functions.function(kind);
        let mut function = Function::new([]);
        body(&mut function.instructions());
        function.instructions().end();
        code.function(&function);
    };
    add("proxy_abi_version_0_2_1", 4, &|_| {});
    add("proxy_on_memory_allocate", 1, &|it| {
        it.i32_const(32 * 1024);
    });
    add("proxy_on_context_create", 6, &|_| {});
    add("proxy_on_vm_start", 5, &|it| {
        it.i32_const(5).call(SET_TICK_PERIOD).drop().i32_const(1);
    });
    add("proxy_on_configure", 5, &|it| {
        it.i32_const(1);
    });
    add("proxy_on_tick", 7, &|it| {
        it.i32_const(1).i64_const(0).i32_const(STATE + 8).call(CLOCK).drop();
        for (key, key_length, value, value_length) in
            [(TEXT_KEY, length(text_key), TEXT, length(text)), (KEY, length(key), STATE, length(state))]
        {
            it.i32_const(key).i32_const(key_length).i32_const(value).i32_const(value_length);
            // Whatever stands there.
            it.i32_const(0).call(SET_SHARED_DATA).drop();
        }
        // As an error.
        it.i32_const(4).i32_const(LOG).i32_const(length(WRITTEN.as_bytes())).call(LOG_LINE).drop();
    });
    exports.export("memory", ExportKind::Memory, 0);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 2,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut data = DataSection::new();
    for (at, bytes) in
        [(KEY, key), (TEXT_KEY, text_key), (STATE, state), (LOG, WRITTEN.as_bytes()), (TEXT, text)]
    {
        data.active(0, &ConstExpr::i32_const(at), bytes.iter().copied());
    }
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&memories);
    module.section(&exports).section(&code).section(&data);
    module.finish()
}
