//! The library's own allocator: each thread keeps small blocks for its next request.
//!
//! A request takes and gives back some sixty blocks, for which Envoy's allocator takes some two hundred instructions each. A
//! block may be given back on another thread: it is then that thread's. What a thread keeps is bounded, and lost when it
//! ends, as Envoy's threads do with the process.

use std::alloc::{GlobalAlloc, Layout};

use meshfilter::host::Allocator;

thread_local! {
    // Nothing to drop and nothing to make, so it is there as long as the thread is.
    static KEPT: Allocator = const { Allocator::new() };
}

struct Native;

#[global_allocator]
static ALLOCATOR: Native = Native;

// SAFETY: whichever thread's lists a block goes through, it comes from `System` with a layout that depends only on the layout
// that the caller hands over both times. No thread looks into another's lists.
unsafe impl GlobalAlloc for Native {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller vouches for the layout.
        KEPT.with(|kept| unsafe { kept.alloc(layout) })
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller vouches for block and layout.
        KEPT.with(|kept| unsafe { kept.dealloc(block, layout) });
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller vouches for block, layout and size.
        KEPT.with(|kept| unsafe { kept.realloc(block, layout, size) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller vouches for the layout; a block that was kept is not zero.
        KEPT.with(|kept| unsafe { kept.alloc_zeroed(layout) })
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    #[test]
    fn a_block_may_end_on_another_thread_than_it_began_on() {
        let rounds = if cfg!(miri) { 20 } else { 2_000 };
        for round in 1..rounds {
            let blocks: Vec<Vec<u8>> = (1..50).map(|size| vec![size; usize::from(size) * 7]).collect();
            let blocks = thread::spawn(move || {
                let more: Vec<Vec<u8>> =
                    blocks.iter().map(|block| [block.as_slice(), block].concat()).collect();
                drop(blocks);
                more
            })
            .join()
            .unwrap();
            for (block, size) in blocks.iter().zip(1_u8..) {
                assert!(
                    block.len() == usize::from(size) * 14 && block.iter().all(|byte| *byte == size),
                    "{round}"
                );
            }
        }
    }
}
