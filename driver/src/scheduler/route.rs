//! Which machine, or whom outside, an action concerns.

use super::{Action, Scheduler};
use crate::{dag, tasks};

// === impl Scheduler ===

impl Scheduler {
    pub(super) fn route_dag(&mut self, action: dag::Action, actions: &mut Vec<Action>) {
        match action {
            dag::Action::Submit { run, pool, partitions, near } => {
                let (stage, job) = (run.id, run.job);
                self.describe(stage, run);
                self.tell_tasks(tasks::Event::StageSubmitted {
                    stage,
                    job,
                    pool,
                    partitions,
                    near,
                });
            }
            dag::Action::Suspend(stage) => self.tell_tasks(tasks::Event::StageSuspended(stage)),
            dag::Action::Resume { stage, run } => {
                let id = run.id;
                self.describe(stage, run);
                self.tell_tasks(tasks::Event::StageResumed { stage, run: id });
            }
            dag::Action::Cancel(stage) => {
                self.forget(stage);
                self.tell_tasks(tasks::Event::StageCancelled(stage));
            }
            dag::Action::Result { job, partition, executor, attempt, done } => {
                actions.push(Action::JobResult { job, partition, executor, attempt, done })
            }
            dag::Action::Updates(bytes) => actions.push(Action::Updates(bytes)),
            dag::Action::DropResult { executor, attempt } => {
                actions.push(Action::DropResult { executor, attempt });
            }
            dag::Action::JobFinished(job) => actions.push(Action::JobFinished(job)),
            dag::Action::JobFailed { job, message } => {
                actions.push(Action::JobFailed { job, message });
            }
            dag::Action::FreeSnapshot(snapshot) => {
                self.last_words.push(Action::FreeSnapshot(snapshot));
            }
            dag::Action::Copy { executor, copy } => actions.push(Action::Copy { executor, copy }),
            dag::Action::DropShuffle(node) => self.last_words.push(Action::DropShuffle { node }),
            dag::Action::Progress(progress) => actions.push(Action::StageProgress(progress)),
        }
    }

    pub(super) fn route_tasks(&mut self, action: tasks::Action, actions: &mut Vec<Action>) {
        match action {
            tasks::Action::SendStage { executor, run } => {
                let set = self.sets.get(&run);
                let stage = set.and_then(|set| self.runs.get(set)).cloned();
                debug_assert!(stage.is_some(), "run {run} is sent and not described");
                actions.extend(stage.map(|stage| Action::SendStage { executor, stage }));
            }
            tasks::Action::DropStage { executor, run: stage } => {
                actions.push(Action::DropStage { executor, stage })
            }
            tasks::Action::Run { executor, run: stage, tasks } => {
                actions.push(Action::Run { executor, stage, tasks })
            }
            tasks::Action::Recall { executor, attempts } => {
                actions.push(Action::Recall { executor, attempts });
            }
            tasks::Action::Kill { executor, attempts } => {
                actions.push(Action::Kill { executor, attempts });
            }
            tasks::Action::Retired(executor) => {
                self.on_executor_lost(executor);
                // After what was said to it before.
                self.last_words.push(Action::Retired(executor));
            }
            tasks::Action::DropResult { executor, attempt } => {
                actions.push(Action::DropResult { executor, attempt });
            }
            tasks::Action::MachineSuspected { stage, partition, attempts } => {
                actions.push(Action::MachineSuspected { stage, partition, attempts })
            }
            outcome => self.route_outcome(outcome),
        }
    }

    /// What became of tasks concerns the DAG scheduler.
    fn route_outcome(&mut self, action: tasks::Action) {
        match action {
            tasks::Action::PartitionDone { stage, partition, executor, attempt, done } => self
                .tell_dag(dag::Event::PartitionDone { stage, partition, executor, attempt, done }),
            tasks::Action::StageDone(stage) => {
                self.forget(stage);
                self.tell_dag(dag::Event::StageDone(stage));
            }
            tasks::Action::FetchFailed { stage, run, partition, failure } => {
                self.tell_dag(dag::Event::FetchFailed { stage, run, partition, failure })
            }
            tasks::Action::FailedForGood { stage, partition, attempts, .. } => {
                self.tell_dag(dag::Event::FailedForGood { stage, partition, attempts })
            }
            _ => debug_assert!(false, "not an outcome"),
        }
    }
}
