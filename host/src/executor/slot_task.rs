//! The task beside one slot: starts its process, passes orders, answers requests, commits files.
//!
//! What the slot says is checked here before anybody acts on it: attempts that it was given,
//! indexes that fit their files, results within the limit.

mod counters;
mod guest_log;
mod requests;

pub(super) use counters::Counters;
use guest_log::GuestLog;

use super::core::HeldResults;
use super::fetch::{Fetcher, ShuffleStream};
use super::files::{AppFiles, part_path};
use super::kept::Kept;
use crate::launch::ExecutorStart;
use crate::memory::BlockId;
use offshoot_proto::block::ShuffleIndex;
use offshoot_proto::executor::KeptBlock;
use offshoot_proto::grants::is_remote;
use offshoot_proto::id::{AttemptId, Partition, StageRunId};
use offshoot_proto::link::{FromSlot, SlotReport, SlotRole, SlotStart, ToSlot};
use offshoot_proto::outcome::{
    ResultPlace, StagedPart, TaskDone, TaskFailure, TaskOutcome, TaskReport,
};
use offshoot_proto::part::PartNames;
use offshoot_proto::stage::{StageKind, StageRun};
use offshoot_sandbox::broker::Broker;
use offshoot_sandbox::link::LinkError;
use offshoot_sandbox::slots::{SlotConnection, Slots};
use offshoot_store::{Input, RemoteFiles};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::mpsc;

/// What all slots of an executor share.
pub(super) struct SlotContext {
    pub(super) start: Arc<ExecutorStart>,
    pub(super) code: OwnedFd,
    pub(super) description: OwnedFd,
    pub(super) slots: Arc<dyn Slots>,
    pub(super) broker: Broker,
    pub(super) files: AppFiles,
    pub(super) remote: RemoteFiles,
    pub(super) fetcher: Fetcher,
    pub(super) held: HeldResults,
    pub(super) kept: Arc<Kept>,
    pub(super) counters: Counters,
    pub(super) events: mpsc::UnboundedSender<(usize, SlotEvent)>,
}

/// What the core orders.
#[derive(Debug)]
pub(super) enum SlotCommand {
    Start,
    Kill,
    Stage(Arc<StageRun>, ToSlot),
    DropStage(StageRunId),
    Frame(ToSlot, Vec<OwnedFd>),
    Run(StageRunId, Vec<(AttemptId, Partition)>),
}

/// What the core is told.
#[derive(Debug)]
pub(super) enum SlotEvent {
    Ready,
    Reports(Vec<TaskReport>),
    /// What has become of kept blocks; of no slot in particular.
    Kept(Vec<KeptBlock>),
    Lost(String),
}

/// What an attempt has written: the index of its shuffle file, length and checksum of its output,
/// the file of that if it is to be uploaded, and its result.
type Written = (Option<ShuffleIndex>, Option<(u64, u32)>, Option<File>, Vec<u8>);

/// The task's state.
struct SlotTask {
    slot: usize,
    context: Arc<SlotContext>,
    stages: BTreeMap<StageRunId, Arc<StageRun>>,
    attempts: BTreeMap<AttemptId, (Arc<StageRun>, Partition)>,
    /// Bytes of the disk that they may write.
    granted: BTreeMap<AttemptId, u64>,
    /// Those of them that have a file for spilled runs.
    spilling: BTreeSet<AttemptId>,
    /// What attempts write that will be uploaded: files without a name.
    staged: BTreeMap<AttemptId, File>,
    streams: BTreeMap<u32, ShuffleStream>,
    inputs: BTreeMap<u32, Input>,
    /// Numbers of both.
    next_stream: u32,
    /// What the slot need not know before its next order.
    later: Vec<ToSlot>,
    /// Whether the running task was refused memory because others have it.
    short_of_memory: bool,
    /// Forks that this slot process has reported.
    forks: u64,
    /// Pieces of the running attempt's result.
    pieces: Vec<u8>,
    log: GuestLog,
}

/// Starts the task of a slot; it waits for [`SlotCommand::Start`].
pub(super) fn start(slot: usize, context: Arc<SlotContext>) -> mpsc::UnboundedSender<SlotCommand> {
    let (sender, mut commands) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            // Orders for a process that is gone are for nobody: the core was told.
            if !matches!(command, SlotCommand::Start) {
                continue;
            }
            let mut task = SlotTask::new(slot, context.clone());
            let how = task.live(&mut commands).await;
            let Some(how) = how else { return };
            task.discard();
            // What was being uploaded is nobody's any more.
            let remote = context.remote.clone();
            tokio::spawn(async move { remote.abort_left().await });
            let _ = context.events.send((slot, SlotEvent::Lost(how)));
        }
    });
    sender
}

/// Does what may take long. Orders must not wait for it; above all, Kill must not.
async fn hearing<T>(
    work: impl Future<Output = T>,
    commands: &mut mpsc::UnboundedReceiver<SlotCommand>,
    waiting: &mut Vec<SlotCommand>,
) -> Result<T, LinkError> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                None | Some(SlotCommand::Kill) => return Err(LinkError::Closed),
                Some(command) => waiting.push(command),
            },
            done = &mut work => return Ok(done),
        }
    }
}

// === impl SlotTask ===

impl SlotTask {
    fn new(slot: usize, context: Arc<SlotContext>) -> Self {
        Self {
            slot,
            context,
            stages: BTreeMap::new(),
            attempts: BTreeMap::new(),
            granted: BTreeMap::new(),
            spilling: BTreeSet::new(),
            staged: BTreeMap::new(),
            streams: BTreeMap::new(),
            inputs: BTreeMap::new(),
            next_stream: 0,
            later: Vec::new(),
            short_of_memory: false,
            forks: 0,
            pieces: Vec::new(),
            log: GuestLog::new(),
        }
    }

    /// Runs one process to its end. None if the executor ends.
    async fn live(
        &mut self,
        commands: &mut mpsc::UnboundedReceiver<SlotCommand>,
    ) -> Option<String> {
        let started = self.start_process().await;
        let mut process = match started {
            Ok(process) => process,
            Err(error) => return Some(error.to_string()),
        };
        let error = loop {
            tokio::select! {
                biased;
                command = commands.recv() => {
                    if let Err(error) = self.commands(&mut *process, command?, commands) {
                        break error;
                    }
                }
                frame = process.receive() => {
                    let handled = match frame {
                        Ok((frame, _)) => self.on_frame(&mut *process, frame, commands).await,
                        Err(error) => Err(error),
                    };
                    if let Err(error) = handled {
                        break error;
                    }
                }
            }
        };
        process.kill();
        let how = process.ended().await;
        Some(if matches!(error, LinkError::Closed) { how } else { format!("{error}; {how}") })
    }

    async fn start_process(&mut self) -> io::Result<Box<dyn SlotConnection>> {
        let context = self.context.clone();
        let start = &context.start;
        let name = format!("{}/{}", start.launch.executor, self.slot);
        let mut process = context.slots.start(name).await?;
        let app = &start.launch.app;
        let frame = ToSlot::Start(SlotStart {
            role: SlotRole::Tasks,
            arguments: app.arguments.clone(),
            environment: app.grants.environment.clone(),
            preopens: context.broker.preopens(),
            memory_bytes_max: app.settings.task_memory_bytes,
            result_bytes_max: app.settings.max_result_bytes,
            disk_bytes_max: app.settings.task_disk_bytes_max,
        });
        let descriptors = vec![context.code.try_clone()?, context.description.try_clone()?];
        process.send(&frame, descriptors).map_err(io::Error::other)?;
        Ok(process)
    }

    /// Passes on a command and those behind it: the slot is woken once for all of them.
    fn commands(
        &mut self,
        process: &mut dyn SlotConnection,
        first: SlotCommand,
        more: &mut mpsc::UnboundedReceiver<SlotCommand>,
    ) -> Result<(), LinkError> {
        self.command(process, first)?;
        while let Ok(command) = more.try_recv() {
            self.command(process, command)?;
        }
        process.flush()
    }

    fn command(
        &mut self,
        process: &mut dyn SlotConnection,
        command: SlotCommand,
    ) -> Result<(), LinkError> {
        let (frame, descriptors) = match command {
            SlotCommand::Start => return Ok(()),
            SlotCommand::Kill => return Err(LinkError::Closed),
            SlotCommand::Stage(stage, frame) => {
                self.stages.insert(stage.id, stage);
                (frame, vec![])
            }
            SlotCommand::DropStage(stage) => {
                self.stages.remove(&stage);
                self.later.push(ToSlot::DropStage(stage));
                return Ok(());
            }
            SlotCommand::Frame(frame, descriptors) => (frame, descriptors),
            SlotCommand::Run(stage, tasks) => {
                if let Some(run) = self.stages.get(&stage) {
                    for (attempt, partition) in &tasks {
                        self.attempts.insert(*attempt, (run.clone(), *partition));
                    }
                }
                (ToSlot::Run { stage, tasks }, vec![])
            }
        };
        for frame in self.later.drain(..) {
            process.queue(&frame, vec![])?;
        }
        process.queue(&frame, descriptors)
    }

    async fn on_frame(
        &mut self,
        process: &mut dyn SlotConnection,
        frame: FromSlot,
        commands: &mut mpsc::UnboundedReceiver<SlotCommand>,
    ) -> Result<(), LinkError> {
        match frame {
            FromSlot::Ready => self.tell(SlotEvent::Ready),
            FromSlot::Reports(reports) => {
                let mut waiting = Vec::new();
                let accepting = self.accept_all(reports);
                hearing(accepting, commands, &mut waiting).await?;
                for command in waiting {
                    self.command(process, command)?;
                }
                process.flush()?;
            }
            FromSlot::ResultPiece(bytes) => {
                let limit = self.context.start.launch.app.settings.max_result_bytes;
                if self.pieces.len() as u64 + bytes.len() as u64 > limit {
                    return Err(LinkError::Io(io::Error::other("a result over its limit")));
                }
                self.pieces.extend_from_slice(&bytes);
            }
            FromSlot::Output { stream, bytes } => {
                let executor = self.context.start.launch.executor;
                self.log.push(executor, self.slot, stream, &bytes);
            }
            FromSlot::MainEnded(_) => {
                return Err(LinkError::Io(io::Error::other("a task slot has no main")));
            }
            FromSlot::Request(request) => {
                let mut waiting = Vec::new();
                let answer = requests::answer(self, request);
                let reply = hearing(answer, commands, &mut waiting).await?;
                if let Some((reply, descriptors)) = reply {
                    process.send(&ToSlot::Reply(reply), descriptors)?;
                }
                for command in waiting {
                    self.command(process, command)?;
                }
                process.flush()?;
            }
        }
        Ok(())
    }

    fn tell(&self, event: SlotEvent) {
        // The core outlives its slots.
        let _ = self.context.events.send((self.slot, event));
    }

    /// Passes reports on, until one that the slot made up.
    async fn accept_all(&mut self, reports: Vec<SlotReport>) {
        let mut accepted = Vec::new();
        for report in reports {
            let Some(report) = self.accept(report).await else { break };
            // The driver answers for an upload only once it has heard of it, and must hear of a
            // kept block before it hears that it made room.
            let urgent = matches!(
                &report.outcome,
                TaskOutcome::Done(
                    TaskDone { staged: Some(StagedPart { upload: Some(_), .. }), .. }
                        | TaskDone { in_memory: true, .. }
                )
            );
            accepted.push(report);
            if urgent {
                self.tell(SlotEvent::Reports(std::mem::take(&mut accepted)));
            }
        }
        if !accepted.is_empty() {
            self.tell(SlotEvent::Reports(accepted));
        }
    }

    /// Checks a report and commits what the attempt wrote. None if the slot made it up.
    async fn accept(&mut self, report: SlotReport) -> Option<TaskReport> {
        let SlotReport { mut report, shuffle, staged, spilled_bytes, forks, .. } = report;
        let (stage, partition) = self.attempts.remove(&report.attempt)?;
        let was_short = std::mem::take(&mut self.short_of_memory);
        self.context.files.disk().release(self.granted.remove(&report.attempt).unwrap_or(0));
        self.spilling.remove(&report.attempt);
        self.streams.clear();
        self.inputs.clear();
        let file = self.staged.remove(&report.attempt);
        let new_forks = forks.saturating_sub(self.forks);
        self.forks = forks;
        self.context.counters.forks.fetch_add(new_forks, Relaxed);
        self.context.counters.attempts.fetch_add(1, Relaxed);
        self.context.counters.spilled.fetch_add(spilled_bytes, Relaxed);
        let pieces = std::mem::take(&mut self.pieces);
        if let TaskOutcome::Done(done) = &mut report.outcome {
            let attempt = report.attempt;
            done.in_memory = false;
            let what = (shuffle, staged, file, pieces);
            let committed = self.commit(&stage, partition, attempt, done, what).await;
            if let Err(message) = committed {
                report.outcome = TaskOutcome::Failed(TaskFailure::Host { message });
            }
        }
        if let TaskOutcome::Failed(failure) = &mut report.outcome {
            // A slot cannot make its guest's failure somebody else's.
            let made_up = match failure {
                TaskFailure::ExecutorLost { .. } | TaskFailure::Killed => true,
                TaskFailure::NoMemory { others, .. } => *others && !was_short,
                _ => false,
            };
            if made_up {
                let message = "the slot reported what only its executor can know".to_owned();
                *failure = TaskFailure::GuestAbi { message };
            }
            let files = &self.context.files;
            files.discard(&stage.kind, stage.node, partition, report.attempt);
        }
        Some(report)
    }

    async fn commit(
        &mut self,
        stage: &StageRun,
        partition: Partition,
        attempt: AttemptId,
        done: &mut TaskDone,
        (shuffle, staged, file, pieces): Written,
    ) -> Result<(), String> {
        if self.context.kept.is_unwanted(stage.id) {
            return Err("what this stage writes was dropped while it ran".to_owned());
        }
        match &stage.kind {
            StageKind::Result => {}
            StageKind::ShuffleWrite { reducers } => {
                let index = shuffle.ok_or("the slot reported no shuffle index")?;
                if index.reducers.len() != *reducers as usize {
                    return Err("the slot's index has another number of reducers".to_owned());
                }
                let context = &self.context;
                let bytes = index.data_bytes;
                context
                    .files
                    .commit_shuffle(stage.node, partition, attempt, &index)
                    .map_err(|error| format!("committing shuffle files: {error}"))?;
                context.counters.shuffled.fetch_add(bytes, Relaxed);
            }
            StageKind::Kept { level } => {
                let index = shuffle.ok_or("the slot reported no index")?;
                if index.reducers.len() != 1 {
                    return Err("the slot's index is not of one reducer".to_owned());
                }
                let id = BlockId { writer: stage.node, map: partition, attempt };
                let kept = self.context.kept.commit(id, *level, &index).await;
                done.in_memory = kept.map_err(|error| format!("keeping a block: {error}"))?;
            }
            StageKind::Output { staging, prefix } => {
                let (length, checksum) = staged.ok_or("the slot reported no output")?;
                let names = PartNames::new(prefix).map_err(|error| error.to_string())?;
                done.staged = Some(if is_remote(staging) {
                    // A task that wrote nothing opened nothing.
                    let empty = || self.context.files.spill().map(File::from);
                    let file = file.map_or_else(empty, Ok).map_err(|error| error.to_string())?;
                    let url = format!("{staging}/{}", names.of(partition));
                    let uploaded = self.context.remote.upload(&url, &file, length, checksum).await;
                    uploaded.map_err(|error| error.to_string())?
                } else {
                    let path = part_path(staging, prefix, partition, attempt)
                        .map_err(|error| error.to_string())?;
                    let path = path.to_str().ok_or("the output's path is not UTF-8")?.to_owned();
                    StagedPart { path, length, checksum, upload: None }
                });
            }
        }
        if let ResultPlace::Held { length } = done.result {
            if pieces.len() as u64 != length {
                return Err("the slot sent less of a result than it reported".to_owned());
            }
            let mut held = self.context.held.lock().expect("no holder of the lock panics");
            held.insert(attempt, Arc::new(pieces));
        }
        Ok(())
    }

    /// The process is gone: what its attempts have staged goes, too.
    fn discard(&mut self) {
        self.context.kept.give_back(self.slot);
        self.inputs.clear();
        self.context.files.disk().release(std::mem::take(&mut self.granted).values().sum());
        for (attempt, (stage, partition)) in std::mem::take(&mut self.attempts) {
            self.context.files.discard(&stage.kind, stage.node, partition, attempt);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
