//! What a proxy calls, for each ABI that it may speak: above everything else, so that nothing below knows who calls.

#[cfg(all(target_os = "wasi", feature = "module"))]
#[allow(unsafe_code)]
mod proxy_wasm;
