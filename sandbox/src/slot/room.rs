//! What a task takes of its machine, disk and memory: bounded by its job, and asked for.

use super::tasks::unexpected_reply;
use super::{Ended, SlotState};
use crate::imports::CallError;
use offshoot_proto::link::{FromSlot, Reply, Request, SlotRole};
use offshoot_proto::outcome::TaskFailure;

/// Bytes that a task writes to disk without asking: a small one has no time for it.
pub(super) const DISK_UNASKED_BYTES: u64 = 1 << 20;

/// Bytes that a task grows by without asking.
const MEMORY_UNASKED_BYTES: u64 = 4 << 20;

/// Memory is asked for in steps of this: an allocator grows by pages.
const MEMORY_STEP_BYTES: u64 = 16 << 20;

// === impl SlotState ===

impl SlotState {
    /// Counts bytes that a task is about to write to disk against `task-disk-max`, and asks the
    /// owner for them, who counts those of the application.
    pub(super) fn charge(&mut self, bytes: u64) -> Result<(), CallError> {
        let limit = self.disk_bytes_max;
        let Some(task) = &mut self.task else { return Ok(()) };
        task.disk_bytes = task.disk_bytes.saturating_add(bytes);
        let asked = task.disk_bytes;
        if asked > limit {
            return Err(CallError::Ends(TaskFailure::DiskLimit { asked, limit }));
        }
        if asked <= task.disk_granted {
            return Ok(());
        }
        let (attempt, bytes) = (task.attempt, asked - task.disk_granted);
        match self.request(Request::Disk { attempt, bytes }, vec![])? {
            (Reply::Number(kibibytes), _) => {
                self.only_in_task("a write")?.disk_granted += u64::from(kibibytes) << 10;
            }
            _ => return Err(CallError::Ends(unexpected_reply())),
        }
        Ok(())
    }

    /// Whether the guest's memory may grow to `asked` bytes: within its limit, and with the owner's
    /// leave. An error ends the attempt.
    pub(super) fn may_grow(&mut self, asked: u64) -> wasmtime::Result<bool> {
        let base = self.memory_base() + self.mapped;
        let limit = base.saturating_add(self.memory_bytes_max).min(1 << 32);
        if asked > limit {
            self.refused_growth = Some((asked, limit));
            return Ok(false);
        }
        let beyond = asked.saturating_sub(base);
        if self.role == SlotRole::Driver || beyond <= self.leased.max(MEMORY_UNASKED_BYTES) {
            return Ok(true);
        }
        let bytes = beyond.next_multiple_of(MEMORY_STEP_BYTES).min(limit - base);
        match self.request(Request::Memory { bytes }, vec![]) {
            Ok((Reply::Ok, _)) => {
                self.leased = bytes;
                Ok(true)
            }
            Ok(_) => self.end_growing(unexpected_reply()),
            Err(CallError::Ends(failure)) => self.end_growing(failure),
            Err(CallError::Refused(refusal)) => {
                self.end_growing(TaskFailure::Host { message: refusal.message })
            }
            Err(CallError::Link(error)) => {
                self.link_error = Some(error);
                Err(Ended.into())
            }
        }
    }

    fn end_growing(&mut self, failure: TaskFailure) -> wasmtime::Result<bool> {
        self.failure = Some(failure);
        Err(Ended.into())
    }

    /// The memory that a task was given, and what it mapped, is for others, when the slot says
    /// something next.
    pub(super) fn give_back_memory(&mut self) {
        let leased = std::mem::take(&mut self.leased);
        if std::mem::take(&mut self.has_blocks) || leased > 0 {
            // If the link is gone, so is the lease.
            let _ = self.say_later(&FromSlot::Request(Request::GiveBackMemory));
        }
    }
}
