//! Why a task gets no memory.

use core::fmt;
use offshoot_proto::settings::format_size;

/// Why there is no room, with the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked for, in all.
    pub asked: u64,
    /// `executor-memory`.
    pub total: u64,
    /// Of it, what snapshots take.
    pub snapshots: u64,
    /// What other tasks have.
    pub tasks: u64,
    /// What blocks have that do not make room.
    pub blocks: u64,
}

// === impl Refusal ===

impl Refusal {
    /// Whether it would not fit if no other task were there.
    pub fn is_hopeless(&self) -> bool {
        self.asked > self.total.saturating_sub(self.snapshots + self.blocks)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no room for {} in the executor's memory of {}: snapshots take {}, other tasks {}, \
             kept blocks {} (raise --executor-memory, or use fewer cores an executor)",
            format_size(self.asked),
            format_size(self.total),
            format_size(self.snapshots),
            format_size(self.tasks),
            format_size(self.blocks),
        )
    }
}
