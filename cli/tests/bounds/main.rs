//! How import grows with its input: allocations and memory, counted. `cargo bench --profile native -p meshfilter-cli --bench import` says how long
//! it takes.

mod many;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what this thread allocates, what of it stays, and how much that was at most.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static KEPT: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(0) };
}

fn keep(bytes: i64) {
    let _ = KEPT.try_with(|kept| {
        kept.set(kept.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(kept.get())));
    });
}

// SAFETY: every call is handed on as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        keep(layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        keep(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations, and the most bytes at a time.
fn cost(name: &str, resources: usize) -> (u64, i64) {
    let text = many::mesh(name, resources);
    COUNT.set(0);
    MOST.set(KEPT.get());
    let before = KEPT.get();
    assert!(many::imported(&text) > resources);
    (COUNT.get(), MOST.get() - before)
}

/// So many bytes a resource may take, at most: 400 MB for 10 000, to which the allocator adds some.
const BYTES: i64 = 40_000;

#[test]
fn twice_as_many_resources_cost_twice_as_much() {
    for name in many::MESHES {
        let (half, whole) = (cost(name, 1_000), cost(name, 2_000));
        println!("{name}: {} allocations, {} kB", whole.0, whole.1 / 1_000);
        assert!(whole.0 < half.0 * 22 / 10, "{name}: {} and {} allocations", half.0, whole.0);
        assert!(whole.1 < half.1 * 22 / 10, "{name}: {} and {} bytes", half.1, whole.1);
        assert!(whole.1 < 2_000 * BYTES, "{name}: {} bytes", whole.1);
    }
}

#[test]
fn twice_as_many_documents_cost_twice_as_much() {
    let cost = |documents: usize| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "---\nhttp: []\n".repeat(documents)).unwrap();
        MOST.set(KEPT.get());
        let before = KEPT.get();
        let found = meshfilter_cli::input::documents(&file.path().display().to_string()).unwrap();
        assert_eq!((found.len(), found.last().unwrap().before), (documents, 2 * (documents - 1)));
        MOST.get() - before
    };
    let (half, whole) = (cost(1_000), cost(2_000));
    assert!(whole < half * 22 / 10, "{half} and {whole} bytes");
}
