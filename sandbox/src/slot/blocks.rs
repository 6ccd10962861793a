//! Kept blocks in a task's memory, as they lie in the executor's.
//!
//! ```text
//!   block_map ──► owner: is it here, flat, and granted? ──► grow ──► map over what was grown
//!        └── 0: it is not, or there is no room: the guest reads it as a stream
//! ```
//!
//! What is mapped counts for itself, up to as much as the task may grow: whether a block is here
//! differs from attempt to attempt, what a task may allocate must not.

use super::SlotState;
use super::tasks::unexpected_reply;
use crate::imports::{CallError, refused};
use crate::memory::{HOST_WRITES_MAX, WRITTEN_PAGES_MAX};
use crate::wasi::PIECE_BYTES;
use offshoot_proto::abi::{WASM_PAGE_BYTES, code};
use offshoot_proto::id::{NodeId, Partition};
use offshoot_proto::link::{Reply, Request};
use offshoot_proto::outcome::TaskFailure;
use std::os::fd::OwnedFd;

const _: () = assert!(PIECE_BYTES <= HOST_WRITES_MAX, "the reserve is for one piece");

/// A block that may be mapped.
pub(crate) struct FlatBlock {
    file: OwnedFd,
    bytes: u64,
}

// === impl FlatBlock ===

impl FlatBlock {
    /// Pages of WebAssembly's memory that it takes.
    pub(crate) fn pages(&self) -> u64 {
        self.bytes.div_ceil(WASM_PAGE_BYTES)
    }
}

// === impl SlotState ===

impl SlotState {
    /// Asks for a block. None if it must be read: then it has cost a question and nothing else.
    /// A block that comes back counts as mapped, until [`map_block`](Self::map_block).
    pub(crate) fn find_block(
        &mut self,
        writer: i32,
        map: i32,
    ) -> Result<Option<FlatBlock>, CallError> {
        let attempt = self.only_in_task("block_map")?.attempt;
        let (writer, map) = (NodeId(writer as u32), Partition(map as u32));
        let request = Request::MapBlock { attempt, writer, map };
        let (file, bytes) = match self.request(request, vec![])? {
            (Reply::Ok, None) => return Ok(None),
            (Reply::Flat { bytes }, Some(file)) => (file, bytes),
            _ => return Err(CallError::Ends(unexpected_reply())),
        };
        self.has_blocks = true;
        let block = FlatBlock { file, bytes };
        // As much again may be grown: not a byte of that is taken.
        let limit = self.memory_bytes_max;
        let whole = (1u64 << 32).saturating_sub(self.memory_base()).saturating_sub(limit);
        let asked = (block.pages().saturating_mul(WASM_PAGE_BYTES)).saturating_add(self.mapped);
        if bytes == 0 || asked > limit.min(whole) {
            return Ok(None);
        }
        self.mapped = asked;
        Ok(Some(block))
    }

    /// The host begins to write for the guest.
    pub(crate) fn begin_writing(&mut self) {
        if self.has_blocks {
            self.memory.set_host_writes(true);
        }
    }

    /// Whether it has written more of the task's blocks than the task may: this call is the last.
    pub(crate) fn has_overdrawn(&self) -> bool {
        self.has_blocks && self.memory.overdrawn()
    }

    /// It has written. An error if that was more of the task's blocks than the task may write: then
    /// the guest must not go on, because the next call has no reserve.
    pub(crate) fn end_writing(&mut self) -> Result<(), TaskFailure> {
        if !self.has_blocks {
            return Ok(());
        }
        self.memory.set_host_writes(false);
        if !self.memory.overdrawn() {
            return Ok(());
        }
        let message = format!(
            "a call wrote to mapped blocks, of which the task had written {WRITTEN_PAGES_MAX} \
             pages already, the limit"
        );
        Err(TaskFailure::GuestAbi { message })
    }

    /// As much of a buffer as a call fills at once.
    pub(crate) fn fillable<'a>(&self, out: &'a mut [u8]) -> &'a mut [u8] {
        let length = if self.has_blocks { out.len().min(HOST_WRITES_MAX) } else { out.len() };
        &mut out[..length]
    }

    /// Maps it at the offset at which the memory ended before it was `grown`; its length.
    pub(crate) fn map_block(
        &mut self,
        block: FlatBlock,
        grown: bool,
        start: usize,
    ) -> Result<Option<u32>, CallError> {
        if !grown {
            self.mapped -= block.pages() * WASM_PAGE_BYTES;
            self.refused_growth = None;
            return Ok(None);
        }
        let mapped = self.memory.map_flat(start, &block.file, block.bytes as usize);
        mapped.map_err(|error| {
            let message = format!("mapping a kept block: {error}");
            CallError::Ends(TaskFailure::Host { message })
        })?;
        let bytes = u32::try_from(block.bytes);
        bytes.map(Some).map_err(|_| refused(code::LIMIT, "block_map: a block of 4 GiB"))
    }
}
