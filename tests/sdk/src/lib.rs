//! What the `proxy-wasm` SDK declares, does and costs: `tests/sdk.rs` holds meshfilter's own binding to it, and
//! `make bench-sdk` measures the same core behind it.
#![cfg(target_os = "wasi")]

#[cfg(not(feature = "core"))]
mod calls;
#[cfg(feature = "core")]
mod core;

#[cfg(not(feature = "core"))]
use calls::main;
#[cfg(feature = "core")]
use core::main;

proxy_wasm::main! {{
    main();
}}
