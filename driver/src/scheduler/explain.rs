//! What stages wait for, in the words of `offshoot explain`.

use super::Scheduler;
use crate::dag::ActiveStage;
use offshoot_proto::explain::{LISTED_MAX, PendingTasks, StageWait, StageWaits, TaskWait};
use std::time::Duration;

// === impl Scheduler ===

impl Scheduler {
    /// The stages that are not complete, with what their tasks do and wait for.
    pub fn explain(&self, now: Duration) -> StageWaits {
        let stages = self.dag.active_stages();
        StageWaits::of(stages.into_iter().map(|stage| self.explain_stage(now, stage)).collect())
    }

    fn explain_stage(&self, now: Duration, stage: ActiveStage) -> StageWait {
        let standings = stage.set.map(|(set, _)| self.tasks.explain(now, set)).unwrap_or_default();
        let mut pending = standings.pending;
        if !stage.waits_on.is_empty() {
            let tasks = match stage.set {
                Some(_) => standings.waiting,
                None => stage.missing,
            };
            let count = stage.waits_on.len() as u32;
            let nodes = stage.waits_on.into_iter().take(LISTED_MAX).collect();
            let reason = TaskWait::Parents { nodes, count };
            // All tasks of a stage that was started may be with executors.
            pending.extend((tasks > 0).then_some(PendingTasks { tasks, reason }));
        }
        StageWait {
            job: stage.job,
            stage: stage.set.map(|(_, run)| run),
            node: stage.node,
            name: stage.name,
            source: stage.source,
            pool: stage.pool,
            running: standings.running,
            pending,
        }
    }
}
