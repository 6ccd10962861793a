//! What the driver does in object stores: lists inputs, takes prefixes, commits outputs, aborts.
//!
//! A store takes its time, so each of these runs as a task of its own and ends as a [`StoreEvent`];
//! the loop goes on meanwhile. Whatever is under way when the application ends is waited for.

use super::{Core, Job, JobOutput, JobState, Waiting};
use crate::DriverError;
use crate::executors::ExecutorEvent;
use offshoot_proto::abi::{InputFile, JobSpec, code};
use offshoot_proto::executor::FromExecutor;
use offshoot_proto::id::{JobId, SnapshotId};
use offshoot_proto::link::Reply;
use offshoot_proto::outcome::{StagedPart, TaskOutcome, TaskReport};
use offshoot_store::{Output, RemoteFiles, StoreError};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long the end of an application waits for stores. What is not aborted by then stays until
/// the bucket's own rule removes it.
const STORES_WITHIN: Duration = Duration::from_secs(10);

/// How long executors may take to say, at the end, what they have uploaded for an abandoned job.
const LAST_REPORTS_WITHIN: Duration = Duration::from_secs(2);

/// Stores, as the loop sees them.
pub(super) struct Storing {
    files: RemoteFiles,
    /// Random, of this application alone: no other's prefix is taken for its own.
    owner: u128,
    events: mpsc::UnboundedReceiver<StoreEvent>,
    sender: mpsc::UnboundedSender<StoreEvent>,
    work: JoinSet<()>,
    /// Uploads that a commit under way completes: a repeated report must not have them aborted.
    committing: BTreeSet<String>,
    /// An output was given up: executors may have uploaded for it what nobody has heard of.
    abandoned: bool,
}

/// Something in a store has ended.
pub(super) enum StoreEvent {
    Listed(Result<Vec<InputFile>, StoreError>),
    Begun(Box<Begun>),
    Committed { job: JobId, uploads: Vec<String>, result: Result<(), StoreError> },
}

/// A job whose prefix is taken, or is not.
pub(super) struct Begun {
    job: JobId,
    spec: JobSpec,
    snapshot: SnapshotId,
    output: Result<Output, StoreError>,
}

// === impl Storing ===

impl Storing {
    pub(super) fn new(files: RemoteFiles, owner: u128) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let (work, committing) = (JoinSet::new(), BTreeSet::new());
        Self { files, owner, events, sender, work, committing, abandoned: false }
    }

    pub(super) async fn next(&mut self) -> StoreEvent {
        match self.events.recv().await {
            Some(event) => event,
            // Not while a sender is kept here.
            None => std::future::pending().await,
        }
    }

    fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        while self.work.try_join_next().is_some() {}
        self.work.spawn(work);
    }

    fn spawn_for_event(&mut self, work: impl Future<Output = StoreEvent> + Send + 'static) {
        let sender = self.sender.clone();
        self.spawn(async move {
            // Nobody hears of it if the application has ended.
            let _ = sender.send(work.await);
        });
    }

    fn abort(&mut self, part: StagedPart) {
        let files = self.files.clone();
        self.spawn(async move { Output::abort(&files, &part).await });
    }
}

// === impl Core ===

impl Core {
    /// Answers the guest when the store has.
    pub(super) fn list_remote(&mut self, pattern: String) {
        let files = self.storing.files.clone();
        self.waiting = Some(Waiting::Listing);
        self.storing
            .spawn_for_event(async move { StoreEvent::Listed(files.list_inputs(&pattern).await) });
    }

    /// Takes the prefix of a job's output; the job is submitted, or fails, when that has ended.
    pub(super) fn begin_remote(
        &mut self,
        job: JobId,
        spec: JobSpec,
        snapshot: SnapshotId,
        key: String,
    ) {
        let files = self.storing.files.clone();
        let key = format!("{key}-{:032x}", self.storing.owner);
        self.waiting = Some(Waiting::Output);
        self.storing.spawn_for_event(async move {
            let output = match &spec.output {
                Some(wanted) => Output::begin(&files, &wanted.path, key, &wanted.prefix).await,
                None => Err(StoreError::NothingFound { url: String::new() }),
            };
            StoreEvent::Begun(Box::new(Begun { job, spec, snapshot, output }))
        });
    }

    pub(super) fn on_store(&mut self, event: StoreEvent) -> Result<(), DriverError> {
        match event {
            StoreEvent::Listed(listed) => {
                self.waiting = None;
                self.reply(match listed {
                    Ok(files) => Reply::Inputs(files),
                    Err(error) => Reply::Error { code: error.code(), message: error.to_string() },
                })
            }
            StoreEvent::Begun(begun) => {
                let Begun { job, spec, snapshot, output } = *begun;
                self.waiting = None;
                let submitted = match output {
                    Ok(output) => self.submit(job, spec, snapshot, Some(JobOutput::Remote(output))),
                    Err(error) => Err((error.code(), error.to_string())),
                };
                self.refuse_unless(submitted, job, snapshot);
                Ok(())
            }
            StoreEvent::Committed { job, uploads, result } => {
                for upload in uploads {
                    self.storing.committing.remove(&upload);
                }
                if let Some(job) = self.jobs.get_mut(&job) {
                    job.state = match result {
                        Ok(()) => JobState::Finished,
                        Err(error) => JobState::Failed(code::JOB_FAILED, error.to_string()),
                    };
                }
                self.answer_waiting()
            }
        }
    }

    /// Makes an output visible. The job has ended when that has.
    pub(super) fn commit_remote(&mut self, job: JobId, output: Output) {
        let uploads: Vec<String> = output.accepted().map(str::to_owned).collect();
        self.storing.committing.extend(uploads.iter().cloned());
        self.storing.spawn_for_event(async move {
            StoreEvent::Committed { job, uploads, result: output.commit().await }
        });
    }

    /// Gives up what was staged for an output.
    pub(super) fn abandon(&mut self, output: JobOutput) {
        match output {
            JobOutput::Local(output) => output.abandon(),
            JobOutput::Remote(output) => {
                self.storing.abandoned = true;
                self.storing.spawn(output.abandon());
            }
        }
    }

    /// Remembers what was uploaded, whether the scheduler accepts the report or not, and has
    /// aborted what nobody waits for.
    pub(super) fn note_uploads(&mut self, reports: &[TaskReport]) {
        for report in reports {
            let TaskOutcome::Done(done) = &report.outcome else { continue };
            let Some(part @ StagedPart { upload: Some(upload), .. }) = &done.staged else {
                continue;
            };
            let outputs = self.jobs.values_mut().filter_map(|job| match &mut job.output {
                Some(JobOutput::Remote(output)) if output.is_of(part) => Some(output),
                _ => None,
            });
            match outputs.last() {
                Some(output) => output.note(part),
                None if self.storing.committing.contains(&upload.id) => {}
                None => self.storing.abort(part.clone()),
            }
        }
    }

    /// Ends what is under way in stores, and gives up the outputs that were not committed. The
    /// executors have been told to stop.
    pub(super) async fn finish_storing(&mut self) {
        for (_, Job { output, .. }) in std::mem::take(&mut self.jobs) {
            if let Some(output @ JobOutput::Remote(_)) = output {
                self.abandon(output);
            }
        }
        if self.storing.abandoned {
            let last = self.hear_last_reports();
            let _ = tokio::time::timeout(LAST_REPORTS_WITHIN, last).await;
        }
        let ending = async { while self.storing.work.join_next().await.is_some() {} };
        if tokio::time::timeout(STORES_WITHIN, ending).await.is_err() {
            self.observer.notice(
                "a store did not answer at the end: uploads that were not completed may be left in \
                 it",
            );
        }
    }

    async fn hear_last_reports(&mut self) {
        while !self.executors.is_empty() {
            match self.executor_events.recv().await {
                Some((_, ExecutorEvent::Frame(FromExecutor::Reports(reports)))) => {
                    self.note_uploads(&reports);
                }
                Some((executor, ExecutorEvent::Lost(_))) => drop(self.executors.remove(&executor)),
                Some(_) => {}
                None => return,
            }
        }
    }
}
