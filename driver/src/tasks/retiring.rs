//! Executors that are to go: they end what they run and are given nothing more.
//!
//! ```text
//!   Retire ──► its queue is recalled ──► the last attempt ends ──► Retired, and it is nobody here
//!                     │
//!   Unretire ─────────┴──► it is given tasks again
//! ```
//!
//! One that is held is retired only when it is let go of: others copy what it has in memory.
//!
//! Nothing of this counts against a task: what is recalled was never run.

use super::attempts::Standing;
use super::{Action, Stirred, Tasks};
use offshoot_proto::id::{AttemptId, ExecutorId};

// === impl Tasks ===

impl Tasks {
    pub(super) fn on_retire(&mut self, id: ExecutorId, actions: &mut Vec<Action>) {
        if !self.executors.set_retiring(id, true) {
            return;
        }
        let sent = self.executors.find(id).map(|executor| &executor.sent);
        let live = sent.into_iter().flatten().filter(|id| {
            let attempt = self.attempts.find(**id);
            attempt.is_some_and(|attempt| attempt.standing == Standing::Sent)
        });
        let queued: Vec<AttemptId> = live.copied().collect();
        self.recall(&queued, actions);
        self.end_retired(id, actions);
        // Failed tasks may go elsewhere now.
        self.stirred = Stirred::Everybody;
    }

    pub(super) fn on_unretire(&mut self, id: ExecutorId) {
        if self.executors.set_retiring(id, false) {
            self.stirred = Stirred::Everybody;
        }
    }

    pub(super) fn set_held(&mut self, id: ExecutorId, held: bool, actions: &mut Vec<Action>) {
        if let Some(executor) = self.executors.find_mut(id) {
            executor.held = held;
        }
        self.end_retired(id, actions);
    }

    /// Executors that would be retired if they were let go of.
    pub fn held_back(&self) -> impl Iterator<Item = ExecutorId> {
        let all = self.executors.iter();
        all.filter(|(_, executor)| executor.is_done() && executor.held).map(|(id, _)| id)
    }

    /// Lets go of an executor that is retiring and has ended all that it was sent.
    pub(super) fn end_retired(&mut self, id: ExecutorId, actions: &mut Vec<Action>) {
        let executor = self.executors.find(id);
        if executor.is_some_and(|executor| executor.is_done() && !executor.held) {
            self.executors.remove(id);
            actions.push(Action::Retired(id));
        }
    }
}
