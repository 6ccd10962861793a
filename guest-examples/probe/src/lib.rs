//! Looks at a guest's memory as the machine sees it: for jobs that check how tasks are forked.
//!
//! The only unsafe code of the example jobs; an ordinary job has no use for any of it.

use std::cell::Cell;
use std::ptr;

/// How many words [`with_stack_values`] keeps on the stack.
const WORDS: usize = 1024;

/// What they are.
const VALUE: u64 = 0x5EED_0FF5_4007_5EED;

thread_local! {
    static STACK_VALUES: Cell<*const [u64; WORDS]> = const { Cell::new(ptr::null()) };
}

/// Grows the memory by a page and returns the page's first byte, which must be 0.
///
/// # Panics
/// If the memory cannot grow.
pub fn grow_by_a_page() -> u8 {
    #[cfg(target_family = "wasm")]
    {
        let page = core::arch::wasm32::memory_grow::<0>(1);
        assert!(page != usize::MAX, "the memory cannot grow");
        let address: *const u8 = ptr::without_provenance(page << 16);
        // SAFETY: the page has just been added to the memory: it is readable, and the allocator
        // does not know of it.
        unsafe { address.read_volatile() }
    }
    #[cfg(not(target_family = "wasm"))]
    0
}

/// Runs `body` while a static points to values in this function's frame, below whose end the
/// stack of every action in `body` begins.
pub fn with_stack_values<R>(body: impl FnOnce() -> R) -> R {
    let values = [VALUE; WORDS];
    STACK_VALUES.set(std::hint::black_box(&raw const values));
    let result = body();
    STACK_VALUES.set(ptr::null());
    result
}

/// How many of the values that `with_stack_values` put on the stack are there; 0 outside of it.
pub fn stack_values_intact() -> u64 {
    let values = STACK_VALUES.get();
    if values.is_null() {
        return 0;
    }
    // SAFETY: the pointer is set only while the frame that it points to is alive, and nothing
    // writes to those values.
    let values = unsafe { values.read_volatile() };
    values.iter().filter(|value| **value == VALUE).count() as u64
}

/// How many values there should be.
pub fn stack_values() -> u64 {
    WORDS as u64
}

#[cfg(test)]
mod tests {
    use super::{stack_values, stack_values_intact, with_stack_values};

    #[test]
    fn values_are_there_inside_and_gone_after() {
        assert_eq!(with_stack_values(stack_values_intact), stack_values());
        assert_eq!(stack_values_intact(), 0);
    }
}
