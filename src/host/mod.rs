//! The proxies that load a module, behind the trait of [`meshfilter_core::host`].
//!
//! `proxy_wasm` holds the only hostcalls; the only `unsafe` of the product is there, in the modules' allocator and in what
//! the proxy calls, `entry`.

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
#[allow(unsafe_code)]
pub mod allocator;
#[cfg(all(target_os = "wasi", feature = "module"))]
#[allow(unsafe_code)]
pub mod proxy_wasm;

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub use allocator::Allocator;
pub use meshfilter_core::host::*;
