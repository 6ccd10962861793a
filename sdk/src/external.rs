//! What does not fit: sorted runs that a task spills through the host, and merges.
//!
//! ```text
//!   pairs ──► Groups, Aggregator, SortBuffer      in memory, up to `bytes_max`
//!                 │ full                │ end
//!                 ▼                     ▼
//!             Runs (spilled) ───────► Merge ──► groups, reduced pairs, sorted pairs
//! ```
//!
//! Whether a task spills depends on its own data and on a number that `main` sets, on nothing of
//! the machine: every attempt writes the same bytes. What fits never touches a run.

pub(crate) mod aggregate;
pub(crate) mod groups;
mod levels;
pub(crate) mod runs;
pub(crate) mod sorted;
mod tournament;

use core::cell::Cell;

/// Bytes of records at which a task spills, or writes out partial results: an eighth of what it
/// may have by default, because tables double as they grow.
const BYTES_MAX: usize = 64 << 20;

thread_local! {
    /// Set in `main`; tasks have the value of their snapshot.
    static LIMIT: Cell<usize> = const { Cell::new(BYTES_MAX) };
}

/// Bytes of records that a table or buffer of a task may hold.
pub(crate) fn bytes_max() -> usize {
    LIMIT.get()
}

/// Bytes of lines that a sort may hold: four times as many, because lines are moved nowhere when
/// they are sorted and need no table; a partition of the default size stays in memory.
pub(crate) fn line_bytes_max() -> usize {
    LIMIT.get().saturating_mul(4)
}

/// From now on, for the jobs that start from here.
pub(crate) fn set_bytes_max(bytes: usize) {
    LIMIT.set(bytes);
}
