//! What does not fit: sorted runs that a task spills through the host, and merges.
//!
//! ```text
//!   pairs ──► Groups, Aggregator, SortBuffer      in memory, up to `bytes_max`
//!                 │ full                │ end
//!                 ▼                     ▼
//!             Runs (spilled) ───────► Merge ──► groups, reduced pairs, sorted pairs
//! ```
//!
//! Partial results of more keys than the caches of a core hold are kept by parts of the keys: see
//! [`parts`].
//!
//! Whether a task spills depends on its own data, on the setting `task-memory` and on a number that
//! `main` may set, on nothing of the machine: every attempt writes the same bytes. What fits never
//! touches a run.
//!
//! ```text
//!   of a task's memory   1/8   the records of a table, which holds up to three times as much
//!                              while it grows; twice that for a sort, whose records are moved
//!                              nowhere; four times that for lines, which need no table
//!                        1/16  the buffers of the runs that are merged at once; as much again for
//!                              runs of other levels
//!                        1/8   batches for reducers, at most 8 MiB
//! ```
//!
//! The second table at the same time has two thirds of that, the third a half, and so on: a chain
//! of joins holds one for each.

pub(crate) mod aggregate;
pub(crate) mod groups;
pub(crate) mod joined;
mod levels;
pub(crate) mod parts;
pub(crate) mod runs;
pub(crate) mod sorted;
mod spilled;
mod tournament;

use crate::host;
use core::cell::Cell;

/// The part of a task's memory that is for the records of a table.
const TABLE_SHARE: usize = 8;

thread_local! {
    /// Bytes for the records of a table: set in `main` by the job, whose tasks have the value of
    /// their snapshot; or by a task from what it may have, when it first needs it.
    static TABLE_BYTES: Cell<Option<usize>> = const { Cell::new(None) };
    /// Whether the job has set it.
    static FIXED: Cell<bool> = const { Cell::new(false) };
    /// How many tables this task has at once.
    static TABLES: Cell<usize> = const { Cell::new(0) };
}

/// How much a table or buffer of a task may hold, as long as it is there.
pub(crate) struct Room {
    bytes: usize,
}

/// From now on, for the jobs that start from here.
pub(crate) fn set_table_bytes(bytes: usize) {
    TABLE_BYTES.set(Some(bytes));
    FIXED.set(true);
}

/// Bytes of records for a table that is alone.
fn table_bytes() -> usize {
    if let Some(bytes) = TABLE_BYTES.get() {
        return bytes;
    }
    let bytes = host::task_memory() / TABLE_SHARE;
    TABLE_BYTES.set(Some(bytes));
    bytes
}

/// Bytes for the buffers of the runs that are merged at once.
pub(crate) fn merge_bytes() -> usize {
    table_bytes() / 2
}

/// Bytes for the batches that a map task has not written yet.
pub(crate) fn batches_bytes(most: usize) -> usize {
    most.min(table_bytes())
}

// === impl Room ===

impl Room {
    /// For a table of records.
    pub(crate) fn of_table() -> Self {
        Self::take(1)
    }

    /// For records to be sorted.
    pub(crate) fn of_sort() -> Self {
        Self::take(2)
    }

    /// For lines to be sorted: a partition of the default size stays in memory.
    pub(crate) fn of_lines() -> Self {
        Self::take(4)
    }

    fn take(times: usize) -> Self {
        let tables = TABLES.replace(TABLES.get() + 1);
        let bytes = table_bytes().saturating_mul(times);
        let shared = if FIXED.get() { bytes } else { bytes / (tables + 2) * 2 };
        Self { bytes: shared }
    }

    /// Bytes of records.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        TABLES.set(TABLES.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::{Room, table_bytes};

    #[test]
    fn tables_share_the_memory_of_a_task() {
        // Of the 512 MiB that a task of the tests' host has.
        assert_eq!(table_bytes(), 64 << 20);
        let (first, second) = (Room::of_table(), Room::of_table());
        assert_eq!((first.bytes(), second.bytes()), (64 << 20, (64 << 20) / 3 * 2));
        drop(first);
        assert_eq!(Room::of_sort().bytes(), (128 << 20) / 3 * 2);
        drop(second);
        assert_eq!(Room::of_lines().bytes(), 256 << 20);
    }
}
