//! What the scheduler has decided, done.

use super::{Core, JobOutput, JobState, Waiting};
use crate::DriverError;
use crate::results::{Entry, Next};
use crate::scheduler::{Action, Event};
use crate::tasks::telling;
use offshoot_proto::abi::code;
use offshoot_proto::executor::ToExecutor;
use offshoot_proto::id::{AttemptId, ExecutorId, JobId, Partition, SnapshotId};
use offshoot_proto::link::{Reply, ToSlot};
use offshoot_proto::outcome::{ResultPlace, TaskDone};

impl Core {
    /// Runs what was decided; what follows from it is decided and run, too.
    pub(super) fn run_actions(&mut self) -> Result<(), DriverError> {
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
                self.run_action(action);
            }
            self.answer_waiting()?;
        }
        Ok(())
    }

    fn run_action(&mut self, action: Action) {
        match action {
            Action::SendStage { executor, stage } => {
                self.send_snapshots(executor, stage.snapshot);
                self.tell(executor, ToExecutor::Stage((*stage).clone()));
            }
            Action::DropStage { executor, stage } => {
                self.tell(executor, ToExecutor::DropStage(stage));
            }
            Action::Run { executor, stage, tasks } => {
                self.tell(executor, ToExecutor::Run { stage, tasks });
            }
            Action::Recall { executor, attempts } => {
                self.tell(executor, ToExecutor::Recall(attempts));
            }
            Action::Kill { executor, attempts } => self.tell(executor, ToExecutor::Kill(attempts)),
            Action::DropResult { executor, attempt } => {
                self.tell(executor, ToExecutor::DropResults(vec![attempt]));
            }
            Action::JobResult { job, partition, executor, attempt, done } => {
                self.on_job_result(job, partition, executor, attempt, done);
            }
            Action::Updates(bytes) => self.updates.add(bytes),
            Action::JobFinished(job) => self.on_job_finished(job),
            Action::JobFailed { job, message } => self.on_job_failed(job, message),
            Action::FreeSnapshot(snapshot) => self.free_snapshot(snapshot),
            Action::Retired(executor) => self.on_retired(executor),
            Action::Drained(worker) => self.on_drained(worker),
            Action::Copy { executor, copy } => self.tell(executor, ToExecutor::Copy(copy)),
            Action::DropShuffle { node } => self.drop_shuffle(node),
            Action::StageProgress(progress) => self.observer.progress(&progress),
            Action::MachineSuspected { stage, partition, attempts } => {
                let text = format!(
                    "partition {partition} of stage {stage} failed in different ways, which the \
                     same bytes cannot: {}",
                    telling::describe(&attempts)
                );
                self.observer.notice(&text);
            }
        }
    }

    fn tell(&self, executor: ExecutorId, frame: ToExecutor) {
        if let Some(link) = self.executors.get(&executor) {
            link.send(frame);
        }
    }

    fn on_job_result(
        &mut self,
        id: JobId,
        partition: Partition,
        executor: ExecutorId,
        attempt: AttemptId,
        done: TaskDone,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if let (Some(output), Some(staged)) = (&mut job.output, done.staged) {
            match output {
                JobOutput::Local(output) => output.add(partition, staged),
                JobOutput::Remote(output) => output.add(partition, staged),
            }
            return;
        }
        let entry = match done.result {
            ResultPlace::Inline(bytes) => Entry::Here(bytes),
            ResultPlace::Held { length } => Entry::Held { executor, attempt, length },
        };
        if let Err(error) = job.results.add(partition, entry) {
            let message = format!(
                "the results of this job take {} bytes, over max-result-size of {} (raise it \
                 with --conf max-result-size=SIZE, or save the dataset instead of collecting it)",
                error.bytes, error.limit
            );
            self.on_job_failed(id, message);
            self.handle(Event::JobDropped(id));
        }
    }

    fn on_job_finished(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if matches!(job.state, JobState::Failed(..)) {
            return;
        }
        match job.output.take() {
            Some(JobOutput::Remote(output)) => return self.commit_remote(id, output),
            Some(JobOutput::Local(output)) => {
                if let Err(error) = output.commit() {
                    job.state = JobState::Failed(code::JOB_FAILED, error.to_string());
                    return;
                }
            }
            None => {}
        }
        job.state = JobState::Finished;
    }

    fn on_job_failed(&mut self, id: JobId, message: String) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let output = job.output.take();
        if !matches!(job.state, JobState::Failed(..)) {
            job.state = JobState::Failed(code::JOB_FAILED, message);
        }
        if let Some(output) = output {
            self.abandon(output);
        }
    }

    pub(super) fn free_snapshot(&mut self, id: SnapshotId) {
        self.snapshot_live = self.snapshot_live.saturating_sub(1);
        if let Some(store) = &mut self.snapshots
            && let Err(error) = store.drop_snapshot(id)
        {
            tracing::warn!(snapshot = id.0, %error, "a snapshot could not be freed");
        }
        for link in self.executors.values().filter(|link| link.snapshot >= Some(id)) {
            link.send(ToExecutor::DropSnapshot(id));
        }
    }

    /// Answers what the guest waits for, if it can be answered by now.
    pub(super) fn answer_waiting(&mut self) -> Result<(), DriverError> {
        match self.waiting.take() {
            Some(Waiting::Results { job, capacity }) => self.answer_results(job, capacity),
            Some(Waiting::Snapshot(submission)) => self.submit_or_wait(submission),
            other => {
                self.waiting = other;
                Ok(())
            }
        }
    }

    /// Gives the guest the next results of a job, or lets it wait for them.
    pub(super) fn answer_results(&mut self, id: JobId, capacity: usize) -> Result<(), DriverError> {
        let Some(job) = self.jobs.get_mut(&id) else {
            let message = format!("job_results: no job {id}");
            return self.reply(Reply::Error { code: code::INVALID, message });
        };
        if let JobState::Failed(code, message) = &job.state {
            let (code, message) = (*code, message.clone());
            return self.reply(Reply::Error { code, message });
        }
        let complete = job.state == JobState::Finished;
        match job.results.next(capacity, complete) {
            Next::Pieces(bytes) => {
                let last = complete && job.results.is_exhausted();
                self.reply(Reply::Results { bytes, last })
            }
            Next::End if complete => self.reply(Reply::Results { bytes: Vec::new(), last: true }),
            Next::Fetch(partition, executor, attempt, length) => {
                self.fetch(id, partition, executor, attempt, length);
                self.waiting = Some(Waiting::Results { job: id, capacity });
                Ok(())
            }
            Next::Wait | Next::End => {
                self.waiting = Some(Waiting::Results { job: id, capacity });
                Ok(())
            }
        }
    }

    pub(super) fn fetch(
        &mut self,
        job: JobId,
        partition: Partition,
        executor: ExecutorId,
        attempt: AttemptId,
        length: u64,
    ) {
        let answers = self.fetch_sender.clone();
        let Some(link) = self.executors.get(&executor) else {
            let _ = answers.send((job, partition, attempt, None));
            return;
        };
        let coming = link.fetch(attempt, length);
        tokio::spawn(async move {
            let fetched = coming.await.ok().flatten();
            let _ = answers.send((job, partition, attempt, fetched));
        });
    }

    /// A held result has come, or is lost and will be computed again.
    pub(super) fn on_fetched(
        &mut self,
        id: JobId,
        partition: Partition,
        attempt: AttemptId,
        fetched: Option<Vec<u8>>,
    ) -> Result<(), DriverError> {
        self.end_rescue(attempt);
        let Some(job) = self.jobs.get_mut(&id) else {
            return Ok(());
        };
        match fetched {
            Some(bytes) => {
                job.results.fetched(partition, bytes);
                self.answer_waiting()
            }
            None => {
                job.results.lost(partition);
                if job.state == JobState::Finished {
                    job.state = JobState::Running;
                }
                self.handle(Event::ResultLost { job: id, partition, attempt });
                Ok(())
            }
        }
    }

    pub(super) fn reply(&mut self, reply: Reply) -> Result<(), DriverError> {
        self.reply_with(reply, None)
    }

    pub(super) fn reply_with(
        &mut self,
        reply: Reply,
        descriptor: Option<std::os::fd::OwnedFd>,
    ) -> Result<(), DriverError> {
        let sent = self.slot.send(&ToSlot::Reply(reply), descriptor.into_iter().collect());
        sent.map_err(|error| DriverError::Slot(error.to_string()))
    }
}
