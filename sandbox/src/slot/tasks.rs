//! A slot of an executor: forks, calls, reports.

use super::runner::{Guest, GuestEnd};
use super::streams::Spill;
use super::{Loaded, SlotError, SlotState};
use crate::imports::{CallError, Outcome, refused};
use crate::shuffle::ShuffleWriter;
use crate::wasi::Wasi;
use offshoot_proto::abi::{WASM_PAGE_BYTES, code};
use offshoot_proto::id::{AttemptId, NodeId, Partition, SnapshotId, StageRunId};
use offshoot_proto::limits::{INLINE_RESULT_BYTES_MAX, LINK_CHUNK_BYTES, UPDATES_BYTES_MAX};
use offshoot_proto::link::{ForkImage, FromSlot, Reply, Request, SlotReport, SlotStage, ToSlot};
use offshoot_proto::outcome::{ResultPlace, TaskDone, TaskFailure, TaskOutcome, TaskReport};
use offshoot_proto::snapshot::SnapshotHeader;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use wasmtime::InstancePre;

/// Reports wait this long for others; so short that nobody notices, so long that a thousand empty
/// tasks share a few frames.
const REPORT_DELAY: Duration = Duration::from_micros(250);

/// What belongs to one attempt.
pub(super) struct TaskState {
    pub(super) attempt: AttemptId,
    pub(super) node: NodeId,
    pub(super) partition: Partition,
    pub(super) result: Vec<u8>,
    result_length: u64,
    updates: Vec<u8>,
    pub(super) spill: Option<Spill>,
    shuffle: Option<(ShuffleWriter, Option<File>)>,
    output: Option<Output>,
    /// Bytes written to disk, or about to be, and how many may be.
    pub(super) disk_bytes: u64,
    pub(super) disk_granted: u64,
    digest: crc32fast::Hasher,
}

/// The part that an attempt stages.
struct Output {
    file: Option<File>,
    buffer: Vec<u8>,
    length: u64,
    checksum: crc32fast::Hasher,
}

/// What a slot that runs tasks keeps between two frames.
pub(super) struct TaskSlot {
    state: Option<Box<SlotState>>,
    pre: InstancePre<SlotState>,
    stages: BTreeMap<StageRunId, SlotStage>,
    reports: Vec<SlotReport>,
    forks: u64,
    last_flush: Instant,
}

pub(super) fn run(loaded: Loaded) -> Result<(), SlotError> {
    let mut slot = TaskSlot::new(loaded);
    slot.state().send(&FromSlot::Ready, vec![])?;
    loop {
        let (order, descriptors) = slot.state().next_order()?;
        slot.obey(order, descriptors)?;
    }
}

// === impl TaskSlot ===

impl TaskSlot {
    pub(super) fn new(loaded: Loaded) -> Self {
        Self {
            state: Some(loaded.state),
            pre: loaded.pre,
            stages: BTreeMap::new(),
            reports: Vec::new(),
            forks: 0,
            last_flush: Instant::now(),
        }
    }

    /// The snapshot that tasks are forks of now.
    pub(super) fn mapped(&mut self) -> Option<SnapshotId> {
        self.state().snapshot.as_ref().map(|snapshot| snapshot.id)
    }

    fn state(&mut self) -> &mut SlotState {
        self.state.as_mut().expect("taken only while a guest runs")
    }

    pub(super) fn obey(
        &mut self,
        order: ToSlot,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), SlotError> {
        match order {
            ToSlot::Fork(image) => self.fork(image, descriptors),
            ToSlot::Stage(stage) => {
                self.stages.insert(stage.id, stage);
                Ok(())
            }
            ToSlot::DropStage(id) => {
                self.stages.remove(&id);
                Ok(())
            }
            ToSlot::Run { stage, tasks } => self.run_batch(stage, &tasks),
            ToSlot::Start(_) => Err(SlotError::Unexpected("a second Start")),
            ToSlot::Reply(_) => Err(SlotError::Unexpected("a reply that nobody waits for")),
        }
    }

    fn fork(&mut self, image: ForkImage, descriptors: Vec<OwnedFd>) -> Result<(), SlotError> {
        let state = self.state();
        state.memory.apply(&image, descriptors)?;
        state.snapshot = Some(SnapshotHeader { runs: Vec::new(), ..image.header });
        Ok(())
    }

    fn run_batch(
        &mut self,
        stage: StageRunId,
        tasks: &[(AttemptId, Partition)],
    ) -> Result<(), SlotError> {
        let stage = self.stages.get(&stage).cloned();
        let stage = stage.ok_or(SlotError::Unexpected("tasks of a stage that was not sent"))?;
        if self.mapped() != Some(stage.snapshot) {
            return Err(SlotError::Unexpected("tasks of a snapshot that is not mapped"));
        }
        for &(attempt, partition) in tasks {
            let start = Instant::now();
            let task = TaskState::new(attempt, partition, &stage);
            let end = self.run_task(task)?;
            let noted = self.state().memory.pages_noted() as u32;
            self.state().memory.reset()?;
            let now = Instant::now();
            self.report(attempt, now.duration_since(start), end, noted)?;
            if now.duration_since(self.last_flush) >= REPORT_DELAY {
                self.flush()?;
            }
        }
        self.flush()
    }

    /// Runs one task; the memory is as the task left it.
    fn run_task(&mut self, task: TaskState) -> Result<Result<Finished, TaskFailure>, SlotError> {
        let mut state = self.state.take().expect("no guest runs");
        let snapshot = state.snapshot.take().expect("checked before the batch");
        state.begin_task(task, &snapshot);
        let mut guest = match Guest::new(&self.pre, *state) {
            Ok(guest) => guest,
            Err(ended) => {
                let (mut state, failure) = *ended;
                state.snapshot = Some(snapshot);
                self.state = Some(Box::new(state));
                return Ok(Err(failure));
            }
        };
        self.forks += 1;
        let (node, partition) = guest.store.data().task_place();
        let result = guest
            .set_globals(&snapshot.globals)
            .map_err(GuestEnd::Failed)
            .and_then(|()| guest.call_task(node, partition));
        let mut state = guest.store.into_data();
        state.snapshot = Some(snapshot);
        let finished = match result {
            Ok(0) => state.finish_task(),
            Ok(other) => Err(GuestEnd::Failed(TaskFailure::GuestAbi {
                message: format!("GuestAbi: offshoot_task returned {other}; 0 is success"),
            })),
            Err(end) => Err(end),
        };
        state.end_task();
        self.state = Some(Box::new(state));
        match finished {
            Ok(finished) => Ok(Ok(finished)),
            Err(GuestEnd::Exit(code)) => Ok(Err(TaskFailure::Exit { code })),
            Err(GuestEnd::Failed(failure)) => Ok(Err(failure)),
            Err(GuestEnd::Link(error)) => Err(error.into()),
        }
    }

    fn report(
        &mut self,
        attempt: AttemptId,
        time: Duration,
        end: Result<Finished, TaskFailure>,
        pages_written: u32,
    ) -> Result<(), SlotError> {
        let mut spilled_bytes = 0;
        let (outcome, shuffle, staged) = match end {
            Ok(finished) => {
                let length = finished.result.len() as u64;
                let result = if finished.result.len() <= INLINE_RESULT_BYTES_MAX {
                    ResultPlace::Inline(finished.result)
                } else {
                    self.send_pieces(&finished.result)?;
                    ResultPlace::Held { length }
                };
                let shuffle_bytes = finished.shuffle.as_ref().map_or(0, |index| index.data_bytes);
                let digest = finished.digest;
                spilled_bytes = finished.spilled_bytes;
                let updates = finished.updates;
                let done = TaskDone {
                    digest,
                    result,
                    staged: None,
                    shuffle_bytes,
                    updates,
                    in_memory: false,
                };
                (TaskOutcome::Done(done), finished.shuffle, finished.staged)
            }
            Err(failure) => (TaskOutcome::Failed(failure), None, None),
        };
        let run_nanos = time.as_nanos() as u64;
        let report = TaskReport { attempt, run_nanos, outcome };
        let forks = self.forks;
        let report = SlotReport { report, shuffle, staged, spilled_bytes, pages_written, forks };
        self.reports.push(report);
        Ok(())
    }

    fn send_pieces(&mut self, result: &[u8]) -> Result<(), SlotError> {
        self.flush()?;
        for piece in result.chunks(LINK_CHUNK_BYTES) {
            self.state().send(&FromSlot::ResultPiece(piece.to_vec()), vec![])?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SlotError> {
        self.last_flush = Instant::now();
        if !self.reports.is_empty() {
            let reports = std::mem::take(&mut self.reports);
            self.state().send(&FromSlot::Reports(reports), vec![])?;
        }
        Ok(())
    }
}

/// What a task that succeeded leaves.
struct Finished {
    result: Vec<u8>,
    updates: Vec<u8>,
    shuffle: Option<offshoot_proto::block::ShuffleIndex>,
    staged: Option<(u64, u32)>,
    spilled_bytes: u64,
    digest: u32,
}

// === impl TaskState ===

impl TaskState {
    fn new(attempt: AttemptId, partition: Partition, stage: &SlotStage) -> Self {
        let output = stage.output.then(|| Output {
            file: None,
            buffer: Vec::new(),
            length: 0,
            checksum: crc32fast::Hasher::new(),
        });
        Self {
            attempt,
            node: stage.node,
            partition,
            result: Vec::new(),
            result_length: 0,
            updates: Vec::new(),
            spill: None,
            shuffle: stage
                .reducers
                .map(|reducers| (ShuffleWriter::new(reducers, stage.packed), None)),
            output,
            disk_bytes: 0,
            disk_granted: super::room::DISK_UNASKED_BYTES,
            digest: crc32fast::Hasher::new(),
        }
    }
}

// === impl SlotState ===

impl SlotState {
    fn begin_task(&mut self, task: TaskState, snapshot: &SnapshotHeader) {
        let (node, partition) = (task.node, task.partition);
        self.wasi = Wasi::for_task(&self.settings, snapshot, node, partition);
        self.task = Some(task);
    }

    fn task_place(&self) -> (u32, u32) {
        let task = self.task.as_ref().expect("set before the guest was made");
        (task.node.0, task.partition.0)
    }

    /// Everything that a guest could reach is replaced.
    fn end_task(&mut self) {
        self.give_back_memory();
        self.task = None;
        self.guest = None;
        self.error.clear();
        self.failure = None;
        self.refused_growth = None;
        self.mapped = 0;
        self.streams.clear();
    }

    /// Writes what is buffered and sums up.
    fn finish_task(&mut self) -> Result<Finished, GuestEnd> {
        self.finish_sinks().map_err(|error| match error {
            CallError::Refused(refusal) => {
                GuestEnd::Failed(TaskFailure::Host { message: refusal.message })
            }
            CallError::Ends(failure) => GuestEnd::Failed(failure),
            CallError::Link(error) => GuestEnd::Link(error),
        })?;
        let mut task = self.task.take().expect("a task has just run");
        task.digest.update(&task.result);
        task.digest.update(&task.updates);
        let mut digest = task.digest.finalize();
        let shuffle = task.shuffle.map(|(writer, _)| {
            let (index, written) = writer.finish();
            digest ^= written.rotate_left(1);
            index
        });
        let staged = task.output.map(|output| {
            let checksum = output.checksum.finalize();
            digest ^= checksum.rotate_left(2);
            (output.length, checksum)
        });
        let spilled_bytes = task.spill.as_ref().map_or(0, Spill::bytes);
        let (result, updates) = (task.result, task.updates);
        Ok(Finished { result, updates, shuffle, staged, spilled_bytes, digest })
    }

    fn finish_sinks(&mut self) -> Result<(), CallError> {
        if let Some((writer, _)) = &self.task.as_ref().expect("a task has just run").shuffle
            && !writer.is_empty()
        {
            self.flush_shuffle()?;
            self.end_shuffle()?;
        }
        if self.task.as_ref().is_some_and(|task| task.output.is_some()) {
            self.flush_output()?;
        }
        Ok(())
    }

    /// `result_write`.
    pub(crate) fn result_write(&mut self, bytes: &[u8]) -> Outcome {
        let limit = self.result_bytes_max;
        let task = self.only_in_task("result_write")?;
        task.result_length += bytes.len() as u64;
        if task.result_length > limit {
            let length = task.result_length;
            return Err(CallError::Ends(TaskFailure::ResultTooLarge { length, limit }));
        }
        task.result.extend_from_slice(bytes);
        Ok(0)
    }

    /// `update_write`.
    pub(crate) fn update_write(&mut self, bytes: &[u8]) -> Outcome {
        let task = self.only_in_task("update_write")?;
        let asked = task.updates.len() + bytes.len();
        if asked > UPDATES_BYTES_MAX {
            let text = format!(
                "update_write: {asked} bytes of updates, limit {UPDATES_BYTES_MAX} a task: return \
                 large values as results"
            );
            return Err(refused(code::LIMIT, text));
        }
        task.updates.extend_from_slice(bytes);
        Ok(0)
    }

    /// `task_memory`: of the setting, and of what is left below 4 GiB, which is the same for every
    /// task of a snapshot.
    pub(crate) fn task_memory(&mut self) -> Outcome {
        self.only_in_task("task_memory")?;
        let room = (1u64 << 32).saturating_sub(self.memory_base());
        Ok((room.min(self.memory_bytes_max) / WASM_PAGE_BYTES) as i32)
    }

    /// `task_fail`.
    pub(crate) fn task_fail(&mut self, message: String) -> Outcome {
        self.only_in_task("task_fail")?;
        self.failure = Some(TaskFailure::Panic { message });
        Ok(0)
    }

    /// `shuffle_write`.
    pub(crate) fn shuffle_write(&mut self, reducer: i32, bytes: &[u8]) -> Outcome {
        let task = self.only_in_task("shuffle_write")?;
        let Some((writer, _)) = &mut task.shuffle else {
            let text = "shuffle_write: this task's node writes no shuffle";
            return Err(refused(code::NOT_HERE, text));
        };
        let reducer = reducer as u32 as usize;
        if reducer >= writer.reducers() {
            let count = writer.reducers();
            let text = format!("shuffle_write: reducer {reducer}, the shuffle has {count}");
            return Err(refused(code::INVALID, text));
        }
        if writer.push(reducer, bytes) {
            self.flush_shuffle()?;
        }
        Ok(0)
    }

    fn flush_shuffle(&mut self) -> Result<(), CallError> {
        let task = self.only_in_task("shuffle_write")?;
        let attempt = task.attempt;
        if task.shuffle.as_ref().is_some_and(|(_, file)| file.is_none()) {
            let opened = self.open_sink(Request::OpenShuffleSink(attempt))?;
            let task = self.only_in_task("shuffle_write")?;
            task.shuffle.as_mut().expect("checked above").1 = Some(opened);
        }
        let task = self.only_in_task("shuffle_write")?;
        let bytes = task.shuffle.as_mut().map_or(0, |(writer, _)| writer.seal());
        self.charge(bytes)?;
        let task = self.only_in_task("shuffle_write")?;
        if let Some((writer, Some(file))) = &mut task.shuffle {
            writer.flush(file).map_err(|error| cannot_write("shuffle data", &error))?;
        }
        Ok(())
    }

    /// Writes what comes behind all of a block.
    fn end_shuffle(&mut self) -> Result<(), CallError> {
        let task = self.only_in_task("shuffle_write")?;
        let bytes = task.shuffle.as_ref().map_or(0, |(writer, _)| writer.headers_bytes());
        self.charge(bytes)?;
        if let Some((writer, Some(file))) = &mut self.only_in_task("shuffle_write")?.shuffle {
            writer.end(file).map_err(|error| cannot_write("shuffle data", &error))?;
        }
        Ok(())
    }

    /// `output_write`.
    pub(crate) fn output_write(&mut self, bytes: &[u8]) -> Outcome {
        let task = self.only_in_task("output_write")?;
        let Some(output) = &mut task.output else {
            let text = "output_write: this task's job has no output";
            return Err(refused(code::NOT_HERE, text));
        };
        output.length += bytes.len() as u64;
        output.checksum.update(bytes);
        output.buffer.extend_from_slice(bytes);
        if output.buffer.len() >= LINK_CHUNK_BYTES {
            self.flush_output()?;
        }
        Ok(0)
    }

    /// Writes buffered output; opens the part even if there is nothing in it.
    fn flush_output(&mut self) -> Result<(), CallError> {
        let task = self.only_in_task("output_write")?;
        let (attempt, partition) = (task.attempt, task.partition);
        if task.output.as_ref().is_some_and(|output| output.file.is_none()) {
            let opened = self.open_sink(Request::OpenOutputSink(attempt, partition))?;
            let task = self.only_in_task("output_write")?;
            task.output.as_mut().expect("checked above").file = Some(opened);
        }
        let task = self.only_in_task("output_write")?;
        let bytes = task.output.as_ref().map_or(0, |output| output.buffer.len());
        self.charge(bytes as u64)?;
        let task = self.only_in_task("output_write")?;
        if let Some(Output { file: Some(file), buffer, .. }) = &mut task.output {
            file.write_all(buffer).map_err(|error| cannot_write("the output", &error))?;
            buffer.clear();
        }
        Ok(())
    }

    /// Asks the owner for a file to write to.
    pub(super) fn open_sink(&mut self, request: Request) -> Result<File, CallError> {
        match self.request(request, vec![])? {
            (Reply::Descriptor, Some(descriptor)) => Ok(descriptor.into()),
            _ => Err(CallError::Ends(unexpected_reply())),
        }
    }
}

pub(super) fn unexpected_reply() -> TaskFailure {
    TaskFailure::Host { message: "the executor answered with another kind of reply".to_owned() }
}

pub(super) fn cannot_write(what: &str, error: &std::io::Error) -> CallError {
    CallError::Ends(TaskFailure::Host { message: format!("writing {what}: {error}") })
}
