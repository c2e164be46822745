//! What a head really takes: an allocator that counts.
//!
//! A structure that counts its own bytes can forget some. Here everything that is allocated and not freed is counted, with
//! what the C library's allocator adds to each block, and compared with what the head says it holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

/// The system's allocator, with the live bytes counted from [`start`] on.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Only the process that is measured counts: two threads that free much would wait for each other's count.
static ON: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicI64 = AtomicI64::new(0);

/// Begins to count.
pub(super) fn start() {
    ON.store(true, Relaxed);
}

/// Bytes allocated since [`start`] and not freed.
pub(super) fn live() -> i64 {
    LIVE.load(Relaxed)
}

/// A block as glibc makes it: eight bytes for its size, in steps of sixteen, at least 32.
fn block(size: usize) -> i64 {
    (size + 8).next_multiple_of(16).max(32) as i64
}

fn count(bytes: i64) {
    if ON.load(Relaxed) {
        LIVE.fetch_add(bytes, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting touches nothing that was allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(block(layout.size()));
        // SAFETY: the caller's promises are the ones needed here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(block(layout.size()));
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-block(layout.size()));
        // SAFETY: as in `alloc`; the block came from the same allocator.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(block(new_size) - block(layout.size()));
        // SAFETY: as in `dealloc`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}
