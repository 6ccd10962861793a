//! [`Broadcast`]: a table of `main` that every task reads, until it is taken back.

use crate::context::Context;
use crate::task;
use core::cell::RefCell;
use core::fmt;
use core::hint::black_box;
use std::rc::Rc;

/// A value that tasks read. Spark: `Broadcast`.
///
/// Tasks are forks of `main`, so any captured value costs as little: it travels with the snapshot,
/// to each machine once. What this adds is the end: after [`unpersist`](Self::unpersist) the value
/// is gone from `main`, and later snapshots do not carry it, though closures of living datasets
/// still hold the handle.
///
/// ```no_run
/// # use offshoot::prelude::*;
/// # let context = Context::new();
/// let prices = context.broadcast(vec![3.0, 2.5, 8.0]);
/// let in_tasks = prices.clone();
/// let total = context.range(0..3, 3).map(move |n| in_tasks.value()[n as usize]).sum()?;
/// prices.unpersist();
/// # Ok::<(), Error>(())
/// ```
pub struct Broadcast<T> {
    value: Rc<RefCell<Option<Rc<T>>>>,
}

/// Sizes of the blocks by which free memory is cleared: many of the first, few of the others.
const BLOCK_BYTES: [usize; 3] = [1 << 20, 64 << 10, 4 << 10];

impl Context {
    /// A value for tasks to read. Spark: `broadcast`.
    pub fn broadcast<T>(&self, value: T) -> Broadcast<T> {
        Broadcast { value: Rc::new(RefCell::new(Some(Rc::new(value)))) }
    }
}

// === impl Broadcast ===

impl<T> Broadcast<T> {
    /// The value.
    ///
    /// # Panics
    /// After [`unpersist`](Self::unpersist).
    #[track_caller]
    pub fn value(&self) -> Rc<T> {
        let value = self.value.borrow().clone();
        value.expect("the broadcast value was unpersisted before this job was started")
    }

    /// Takes the value back: it is dropped once nobody has it from [`value`](Self::value), and
    /// its memory is cleared, so that later snapshots have zeros there. Jobs that run keep
    /// theirs. In a task, nothing happens beyond that task. Spark: `unpersist`, `destroy`.
    pub fn unpersist(&self) {
        let value = self.value.take();
        drop(value);
        if task::current().is_none() {
            clear_free_memory();
        }
    }
}

impl<T> Clone for Broadcast<T> {
    fn clone(&self) -> Self {
        Self { value: Rc::clone(&self.value) }
    }
}

impl<T> fmt::Debug for Broadcast<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.value.borrow().is_some() { "there" } else { "unpersisted" };
        write!(f, "Broadcast({state})")
    }
}

/// Writes zeros over what the allocator has free, in blocks, until it would have to grow. Pages
/// of zeros cost next to nothing in a snapshot; those of a dropped table would cost what it did.
fn clear_free_memory() {
    let mut held: Vec<Vec<u8>> = Vec::new();
    for bytes in BLOCK_BYTES {
        loop {
            let before = memory_bytes();
            // Held until all are there, or the allocator would give the same one again.
            held.push(black_box(vec![0; bytes]));
            if memory_bytes() != before || before == 0 {
                break;
            }
        }
    }
}

/// Bytes of the guest's memory; 0 where that cannot be known.
fn memory_bytes() -> usize {
    #[cfg(target_family = "wasm")]
    return core::arch::wasm32::memory_size::<0>() << 16;
    #[cfg(not(target_family = "wasm"))]
    return 0;
}
