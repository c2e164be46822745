//! What a head really takes: an allocator that counts.
//!
//! A structure that counts its own bytes can forget some. Here everything that is allocated and not freed is counted, with
//! what the C library's allocator adds to each block, and compared with what the head says it holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::Relaxed};

/// The system's allocator, with the live bytes counted from [`start`] on.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Only the process that is measured counts: two threads that free much would wait for each other's count.
static ON: AtomicBool = AtomicBool::new(false);
/// One for some threads each, a cache line apart.
static LIVE: [Shard; 16] = [const { Shard(AtomicI64::new(0)) }; 16];
static THREADS: AtomicUsize = AtomicUsize::new(0);

#[repr(align(128))]
struct Shard(AtomicI64);

thread_local! {
    /// The thread's shard. A number without a destructor: the allocator may ask at any time of a thread's life.
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn shard() -> &'static AtomicI64 {
    let mut shard = SHARD.get();
    if shard == usize::MAX {
        shard = THREADS.fetch_add(1, Relaxed) % LIVE.len();
        SHARD.set(shard);
    }
    &LIVE[shard].0
}

/// Begins to count.
pub(super) fn start() {
    ON.store(true, Relaxed);
}

/// Bytes allocated since [`start`] and not freed.
pub(super) fn live() -> i64 {
    LIVE.iter().map(|shard| shard.0.load(Relaxed)).sum()
}

/// A block as glibc makes it: eight bytes for its size, in steps of sixteen, at least 32.
fn block(size: usize) -> i64 {
    (size + 8).next_multiple_of(16).max(32) as i64
}

fn count(bytes: i64) {
    if ON.load(Relaxed) {
        shard().fetch_add(bytes, Relaxed);
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
