//! How attempts end: reports, and answers to recalls.

use super::attempts::{Attempt, Standing};
use super::failures::{FailedAttempt, Verdict};
use super::{Action, Stirred, Tasks, unload};
use offshoot_proto::id::{AttemptId, ExecutorId};
use offshoot_proto::outcome::{
    FailureClass, ResultPlace, TaskDone, TaskFailure, TaskOutcome, TaskReport,
};

// === impl Tasks ===

impl Tasks {
    pub(super) fn on_recalled(&mut self, executor: ExecutorId, attempts: Vec<AttemptId>) {
        for id in attempts.iter().rev() {
            match self.attempts.remove_from(*id, executor) {
                Some(attempt) => {
                    self.executors.release(executor, &attempt);
                    self.requeue(&attempt);
                }
                None => self.stale_reports += 1,
            }
        }
        let asked = self.executors.answered(executor);
        for id in asked {
            if let Some(attempt) = self.attempts.find_mut(id) {
                attempt.standing = Standing::Started;
                self.executors.unask(executor);
            }
        }
        self.stirred = Stirred::Everybody;
    }

    pub(super) fn on_report(
        &mut self,
        executor: ExecutorId,
        report: TaskReport,
        actions: &mut Vec<Action>,
    ) {
        let id = report.attempt;
        let Some(attempt) = self.attempts.remove_from(id, executor) else {
            self.stale_reports += 1;
            if self.executors.find(executor).is_some() {
                drop_held(executor, id, &report.outcome, actions);
            }
            return;
        };
        self.executors.release(executor, &attempt);
        let Some(set) = self.sets.get_mut(&attempt.stage) else {
            drop_held(executor, id, &report.outcome, actions);
            return;
        };
        match report.outcome {
            TaskOutcome::Done(done) => {
                unload(&mut self.pools, set, &attempt);
                set.observe(report.run_nanos);
                let partition = set.finish(attempt.task);
                let complete = set.is_complete();
                actions.push(Action::PartitionDone {
                    stage: attempt.stage,
                    partition,
                    executor,
                    attempt: id,
                    done,
                });
                if complete {
                    self.end_set(attempt.stage, actions);
                    actions.push(Action::StageDone(attempt.stage));
                }
            }
            TaskOutcome::Failed(failure) => {
                self.on_failure(executor, id, &attempt, failure, actions);
            }
        }
    }

    fn on_failure(
        &mut self,
        executor: ExecutorId,
        id: AttemptId,
        attempt: &Attempt,
        failure: TaskFailure,
        actions: &mut Vec<Action>,
    ) {
        let stage = attempt.stage;
        let Some(set) = self.sets.get_mut(&stage) else {
            return;
        };
        let partition = set.partition(attempt.task);
        let class = failure.class();
        match class {
            FailureClass::Innocent => {}
            FailureClass::Fetch => {
                actions.push(Action::FetchFailed { stage, run: attempt.run, partition, failure })
            }
            FailureClass::Guest | FailureClass::Transient | FailureClass::Crash => {
                let failed = FailedAttempt {
                    attempt: id,
                    executor,
                    worker: self.executors.worker(executor).clone(),
                    text: failure.to_string(),
                };
                let history = set.history(attempt.task);
                match history.judge(class, failed, self.failures_max) {
                    Verdict::Retry => {}
                    Verdict::RetryElsewhere => actions.push(Action::MachineSuspected {
                        stage,
                        partition,
                        attempts: history.failed.clone(),
                    }),
                    Verdict::ForGood => {
                        let attempts = history.failed.clone();
                        unload(&mut self.pools, set, attempt);
                        set.give_up(attempt.task);
                        actions.push(Action::FailedForGood { stage, partition, failure, attempts });
                        return;
                    }
                }
            }
        }
        self.requeue(attempt);
        self.stirred = Stirred::Everybody;
    }
}

/// Lets go of a result that nobody will fetch.
fn drop_held(
    executor: ExecutorId,
    attempt: AttemptId,
    outcome: &TaskOutcome,
    actions: &mut Vec<Action>,
) {
    if let TaskOutcome::Done(TaskDone { result: ResultPlace::Held { .. }, .. }) = outcome {
        actions.push(Action::DropResult { executor, attempt });
    }
}
