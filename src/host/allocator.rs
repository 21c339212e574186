//! The modules' allocator: small blocks that are given back are kept for the next one who asks for such a size.
//!
//! A request takes and gives back a few dozen small blocks, the same sizes every time. The allocator of the C library
//! looks for room and merges neighbours at each of them; here it is one step off a list and one step onto it. Blocks
//! that a list has no room for, and large ones, go to the C library, so little is kept for nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::with_exposed_provenance_mut;

/// Sizes are rounded up to so many bytes.
const STEP: usize = 16;

/// There is a list for each size up to `LISTS * STEP` bytes.
const LISTS: usize = 256;

/// A list keeps so many bytes at most: all of them together 2 MiB.
const LIST_BYTES: usize = 8 << 10;

/// What every block is aligned to: nothing asks for more but what is of no use here.
const ALIGNMENT: usize = 16;

/// The free blocks of one size, by their addresses: a pointer that comes back may be good for a part of its block alone, as
/// the language has it.
#[derive(Clone, Copy)]
struct List {
    /// 0 if there is none.
    first: usize,
    length: usize,
}

/// What a free block begins with.
struct Block {
    /// As [`List::first`].
    next: usize,
}

/// Lists of free blocks in front of the C library, for one thread.
pub struct Allocator(UnsafeCell<[List; LISTS]>);

// SAFETY: a module is built without threads, so nobody else can look into the lists.
#[cfg(target_family = "wasm")]
unsafe impl Sync for Allocator {}

impl Default for Allocator {
    fn default() -> Self {
        Self::new()
    }
}

impl Allocator {
    /// One that keeps nothing yet.
    pub const fn new() -> Self {
        Allocator(UnsafeCell::new([List { first: 0, length: 0 }; LISTS]))
    }

    /// The list for a block, and the layout that all blocks on it have; none for large and oddly aligned ones.
    fn list(&self, layout: Layout) -> Option<(*mut List, Layout)> {
        if layout.align() > ALIGNMENT {
            return None;
        }
        // A block of no bytes never gets here.
        let number = layout.size().wrapping_sub(1) / STEP;
        if number >= LISTS {
            return None;
        }
        let size = number.wrapping_add(1).wrapping_mul(STEP);
        // SAFETY: the number is within the array.
        let list = unsafe { self.0.get().cast::<List>().add(number) };
        // SAFETY: the size is not zero and far from overflowing, the alignment is a power of two.
        Some((list, unsafe { Layout::from_size_align_unchecked(size, ALIGNMENT) }))
    }
}

// SAFETY: a block comes from `System` with the layout of its list, which depends only on the layout that the caller
// hands over both times, or with that layout itself. On a list it belongs to nobody else.
unsafe impl GlobalAlloc for Allocator {
    // Inlined at every place that asks for a block, these would be a twentieth of the module.
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((list, rounded)) = self.list(layout) else {
            // SAFETY: the caller's layout.
            return unsafe { System.alloc(layout) };
        };
        // SAFETY: the list is this allocator's own, its blocks are free and at least as large as a `Block`.
        unsafe {
            if (*list).first == 0 {
                let new = System.alloc(rounded);
                new.expose_provenance();
                return new;
            }
            let first: *mut Block = with_exposed_provenance_mut((*list).first);
            (*list).first = (*first).next;
            (*list).length = (*list).length.wrapping_sub(1);
            first.cast()
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some((list, rounded)) = self.list(layout) else {
            // SAFETY: it came from there with this layout.
            return unsafe { System.dealloc(block, layout) };
        };
        // SAFETY: the block is the caller's no more, and at least as large as a `Block` and aligned like one.
        unsafe {
            if (*list).length.saturating_add(1).saturating_mul(rounded.size()) > LIST_BYTES {
                return System.dealloc(with_exposed_provenance_mut(block.expose_provenance()), rounded);
            }
            // All of it.
            let block: *mut Block = with_exposed_provenance_mut(block.expose_provenance());
            (*block).next = (*list).first;
            (*list).first = block.addr();
            (*list).length = (*list).length.wrapping_add(1);
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller says that the size fits the alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (self.list(layout), self.list(wanted)) {
            // SAFETY: it came from there with this layout.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            (Some((old, _)), Some((new, _))) if std::ptr::eq(old, new) => block,
            // SAFETY: both blocks are as long as their layouts say, and are two.
            _ => unsafe {
                let moved = self.alloc(wanted);
                if !moved.is_null() {
                    std::ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, alignment: usize) -> Layout {
        Layout::from_size_align(size, alignment).unwrap()
    }

    fn kept(allocator: &Allocator) -> usize {
        let lists = unsafe { &*allocator.0.get() };
        lists.iter().enumerate().map(|(number, list)| list.length * (number + 1) * STEP).sum()
    }

    #[test]
    fn a_block_comes_back_for_any_size_of_its_list_and_for_no_other() {
        let allocator = Allocator::new();
        unsafe {
            let block = allocator.alloc(layout(17, 1));
            allocator.dealloc(block, layout(17, 1));
            assert_eq!(kept(&allocator), 32);
            let other = allocator.alloc(layout(16, 1));
            assert_ne!(other, block);
            assert_eq!(allocator.alloc(layout(32, 8)), block);
            assert_eq!(kept(&allocator), 0);
            for (block, size) in [(other, 16), (block, 32)] {
                allocator.dealloc(block, layout(size, 1));
            }
        }
    }

    #[test]
    fn large_and_oddly_aligned_blocks_are_the_c_librarys() {
        let allocator = Allocator::new();
        for layout in [layout(4097, 1), layout(1 << 20, 8), layout(64, 64)] {
            let block = unsafe { allocator.alloc(layout) };
            assert_eq!(block.align_offset(layout.align()), 0);
            unsafe { allocator.dealloc(block, layout) };
            assert_eq!(kept(&allocator), 0);
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let allocator = Allocator::new();
        for size in 1..=4096 {
            let blocks: Vec<_> = (0..600).map(|_| unsafe { allocator.alloc(layout(size, 1)) }).collect();
            blocks.into_iter().for_each(|block| unsafe { allocator.dealloc(block, layout(size, 1)) });
        }
        assert!(kept(&allocator) <= LISTS * LIST_BYTES, "{}", kept(&allocator));
        assert!(kept(&allocator) > LISTS * LIST_BYTES / 2);
    }

    #[test]
    fn bytes_survive_growing_and_shrinking() {
        let allocator = Allocator::new();
        let mut block = unsafe { allocator.alloc(layout(1, 1)) };
        unsafe { block.write(0xa5) };
        let mut size = 1;
        for next in [2, 16, 17, 1024, 1025, 4096, 4097, 9000, 5000, 4000, 1024, 40, 33, 1] {
            block = unsafe { allocator.realloc(block, layout(size, 1), next) };
            let bytes = unsafe { std::slice::from_raw_parts_mut(block, next) };
            assert!(bytes.iter().take(size).all(|byte| *byte == 0xa5), "{size} to {next}");
            bytes.fill(0xa5);
            size = next;
        }
        unsafe { allocator.dealloc(block, layout(size, 1)) };
    }
}
