//! The least that a proxy-wasm filter can be: one callback, which lets every request pass. The bench compiles it by itself.
#![no_std]

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_abi_version_0_2_1() {}

/// The host hands nothing over that this filter would ask for.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_memory_allocate(_: usize) -> usize {
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_headers(_: u32, _: u32, _: u32) -> u32 {
    0
}
