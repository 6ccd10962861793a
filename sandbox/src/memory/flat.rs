//! Kept blocks in a task's memory: pages of a sealed file behind what the task has grown.
//!
//! They are private and read-only. The first writes to them make copies, page by page, as many as a
//! task may grow by without asking ([`WRITTEN_PAGES_MAX`]): whoever only reads takes no memory, and
//! whoever writes more traps. What is between a block's end and that of the task's memory is
//! counted with the copies: nobody has asked for it, and many small blocks have much of it. A reset
//! drops the mappings with whatever else the task grew.

use super::{GuestMemory, MemoryError};
use offshoot_proto::limits::PAGE_BYTES;
use rustix::fs::fstat;
use std::io;
use std::os::fd::OwnedFd;

/// Pages of mapped blocks that a task may write: 4 MiB.
pub(crate) const WRITTEN_PAGES_MAX: usize = (4 << 20) / PAGE_BYTES;

/// Bytes in one piece that the host writes to a guest that has mapped blocks, at most, before it
/// looks whether the guest has [`overdrawn`](GuestMemory::overdrawn).
pub(crate) const HOST_WRITES_MAX: usize = 1 << 20;

/// Pages that the host may write beyond that, once: those of one piece, wherever it begins, and of
/// the numbers that are written beside it. It is the last one: the call ends the task.
const RESERVE_PAGES: usize = HOST_WRITES_MAX / PAGE_BYTES + 8;

impl GuestMemory {
    /// The host begins or ends to write for a guest that has mapped blocks.
    pub(crate) fn set_host_writes(&self, writes: bool) {
        self.lock().tracker.set_host_writes(writes);
    }

    /// Whether the host has written more of the task's blocks than the task may.
    pub(crate) fn overdrawn(&self) -> bool {
        self.lock().tracker.overdrawn()
    }

    /// Maps the first `bytes` of a file at `offset`, over what the task has grown and not touched.
    /// That is the end of its memory.
    pub fn map_flat(&self, offset: usize, file: &OwnedFd, bytes: usize) -> Result<(), MemoryError> {
        let mut inner = self.lock();
        let length = bytes.next_multiple_of(PAGE_BYTES);
        let end = offset.checked_add(length).ok_or(MemoryError::BadImage("a block too long"))?;
        if !offset.is_multiple_of(PAGE_BYTES) || offset < inner.length || end > inner.size {
            return Err(MemoryError::BadImage("a block outside of what was grown"));
        }
        let file_bytes = fstat(file).map_err(io::Error::from)?.st_size as u64;
        if file_bytes < bytes as u64 {
            return Err(MemoryError::BadImage("a block beyond its file"));
        }
        inner.live.map_private(offset, length, file, 0)?;
        inner.live.populate(offset, length)?;
        let size = inner.size;
        inner.live.make_read_only(end, size - end)?;
        inner.tracker.open_to_copies(offset, size, (WRITTEN_PAGES_MAX, RESERVE_PAGES));
        Ok(())
    }
}
