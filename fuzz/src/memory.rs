//! An allocator that stops the target at a request larger than the input justifies.
#![allow(unsafe_code, reason = "an allocator that looks at the size")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

struct Bounded;

thread_local!(static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) });

fn look(bytes: usize) {
    if LIMIT.try_with(Cell::get).is_ok_and(|limit| bytes > limit) {
        LIMIT.set(usize::MAX);
        eprintln!("{bytes} bytes at once");
        // An allocator must not unwind.
        std::process::abort();
    }
}

// SAFETY: every call goes to the system's allocator as it came, or does not return.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        look(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        look(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        look(bytes);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

/// Runs `work`, in which this thread asks for no more than `bytes` at once.
pub fn within<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    LIMIT.set(bytes);
    let result = work();
    LIMIT.set(usize::MAX);
    result
}
