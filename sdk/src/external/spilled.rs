//! How much tasks spill, for a `main` that asks. A module whose `main` does not has no accumulator
//! for it.

use crate::accumulator::Accumulator;
use crate::context::Context;
use crate::host;
use core::cell::{Cell, RefCell};

thread_local! {
    /// Set in `main`; a task, which starts from its memory, calls it for each batch of a run.
    static NOTE: Cell<Option<fn(u64)>> = const { Cell::new(None) };
    static SPILLED: RefCell<Option<Accumulator<u64>>> = const { RefCell::new(None) };
}

/// Writes a batch of a run.
pub(super) fn write(run: u32, bytes: &[u8]) {
    host::write_spill(run, bytes);
    if let Some(note) = NOTE.get() {
        note(bytes.len() as u64);
    }
}

fn note(bytes: u64) {
    SPILLED.with_borrow(|spilled| {
        if let Some(spilled) = spilled {
            spilled.add(bytes);
        }
    });
}

impl Context {
    /// How many bytes the tasks of jobs that start from now on spill in sorted runs: 0 if
    /// every sort, group and join fits. What is merged in several passes counts in each. It is an
    /// [`Accumulator`] like others: of each partition, one accepted attempt counts. Spark:
    /// `diskBytesSpilled` of the task metrics.
    ///
    /// ```no_run
    /// # use offshoot::prelude::*;
    /// # let context = Context::new();
    /// let spilled = context.spilled_bytes();
    /// let sorted = context.range(0..1 << 30, 8).map(|n| (n ^ 0x5555, n)).sort_by_key();
    /// println!("{} records, {} bytes spilled", sorted.count()?, spilled.value()?);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn spilled_bytes(&self) -> Accumulator<u64> {
        NOTE.set(Some(note));
        let make = || self.accumulator("spilled bytes", 0u64);
        SPILLED.with_borrow_mut(|spilled| spilled.get_or_insert_with(make).clone())
    }
}
