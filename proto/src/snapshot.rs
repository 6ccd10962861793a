//! Snapshots: which pages of the driver's memory a fork starts from.
//!
//! Snapshot 1 holds every page that is not zero. Each later one names the pages that changed since
//! the one before it, so an executor that has snapshot `n - 1` needs only those.

use crate::id::SnapshotId;
use serde::{Deserialize, Serialize};

/// A run of pages of [`crate::limits::PAGE_BYTES`] each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PageRun {
    /// The first page, counted from the start of linear memory.
    pub page: u32,
    /// How many.
    pub count: u32,
}

/// The value of a mutable global, `__stack_pointer` among them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum GlobalValue {
    /// `i32`.
    I32(i32),
    /// `i64`.
    I64(i64),
    /// `f32`, as bits.
    F32(u32),
    /// `f64`, as bits.
    F64(u64),
    /// `v128`.
    V128(u128),
}

/// Everything of a snapshot but the bytes of its pages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotHeader {
    /// Its id; the snapshot before it has the id before.
    pub id: SnapshotId,
    /// Length of linear memory in bytes: a whole number of WebAssembly pages.
    pub memory_bytes: u64,
    /// Mutable globals in the order of the module.
    pub globals: Vec<GlobalValue>,
    /// What the clocks of its tasks stand at: nanoseconds since 1970.
    pub realtime_nanos: u64,
    /// What the monotonic clock of its tasks stands at, in nanoseconds.
    pub monotonic_nanos: u64,
    /// The seed of its tasks' random generators, mixed with node and partition.
    pub seed: u64,
    /// The lowest descriptor number that `main` had not used.
    pub first_free_descriptor: u32,
    /// Changed pages, ascending, not adjacent to each other.
    pub runs: Vec<PageRun>,
}

impl SnapshotHeader {
    /// How many pages its runs name.
    pub fn pages(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.count)).sum()
    }

    /// Whether the runs ascend without touching and lie within the memory, and the memory is a
    /// whole number of WebAssembly pages that fits 32 bits.
    pub fn is_well_formed(&self) -> bool {
        let page_bytes = crate::limits::PAGE_BYTES as u64;
        let mut next_free = 0;
        let ordered = self.runs.iter().enumerate().all(|(index, run)| {
            let (start, end) = (u64::from(run.page), u64::from(run.page) + u64::from(run.count));
            let apart = run.count > 0 && (index == 0 || start > next_free);
            next_free = end;
            apart && end * page_bytes <= self.memory_bytes
        });
        ordered
            && self.memory_bytes <= 1 << 32
            && self.memory_bytes.is_multiple_of(crate::limits::WASM_PAGE_BYTES)
    }
}
