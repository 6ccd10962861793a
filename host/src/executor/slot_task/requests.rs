//! What a guest asks of its executor.

use super::SlotTask;
use crate::executor::fetch::{Here, ShuffleStream};
use crate::executor::kept::{InMemory, Kept};
use crate::memory::{BlockId, Lease};
use offshoot_proto::abi::{InputFile, MapRange, code};
use offshoot_proto::grants::is_remote;
use offshoot_proto::id::{AttemptId, NodeId, Partition};
use offshoot_proto::link::{Reply, Request};
use offshoot_proto::outcome::TaskFailure;
use offshoot_proto::stage::{StageKind, StageRun};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Streams of shuffles that one task may have open, and inputs that it reads from stores.
const STREAMS_MAX: usize = 1024;

type Answer = (Reply, Vec<OwnedFd>);

/// Answers a request; none where none is expected.
pub(super) async fn answer(task: &mut SlotTask, request: Request) -> Option<Answer> {
    let context = task.context.clone();
    Some(match request {
        Request::OpenInput { file, offset } if is_remote(&file.path) => {
            (task.open_remote(&file, offset).await, vec![])
        }
        Request::PullInput { stream } => (task.pull_remote(stream).await, vec![]),
        Request::CloseInput { stream } => {
            task.inputs.remove(&stream);
            return None;
        }
        Request::OpenInput { file, .. } => match context.broker.open_input(&file) {
            Ok(descriptor) => (Reply::Descriptor, vec![descriptor]),
            Err(error) => {
                let message = error.to_string();
                (Reply::Failed(TaskFailure::Input { message }), vec![])
            }
        },
        Request::OpenShuffle { attempt, writer, reducer, maps } => {
            let opened = task.open_shuffle(attempt, writer, reducer, maps);
            (opened.unwrap_or_else(|message| invalid(&message)), vec![])
        }
        Request::PullShuffle { stream } => match task.streams.get_mut(&stream) {
            Some(stream) => stream.pull(&context.fetcher, &context.files).await,
            None => (invalid("no such stream"), vec![]),
        },
        Request::CloseShuffle { stream } => {
            task.streams.remove(&stream);
            return None;
        }
        Request::OpenShuffleSink(attempt) => opened(task.shuffle_sink(attempt)),
        Request::OpenOutputSink(attempt, partition) => opened(task.output_sink(attempt, partition)),
        Request::Memory { bytes } => (task.lease(bytes).await, vec![]),
        Request::MapBlock { attempt, writer, map } => match task.find_flat(attempt, writer, map) {
            Ok((id, found)) => flat(&context.kept, task.slot, id, found).await,
            Err(message) => (invalid(&message), vec![]),
        },
        Request::GiveBackMemory => {
            context.kept.give_back(task.slot);
            return None;
        }
        Request::OpenSpill(attempt) => opened(task.spill(attempt)),
        Request::Disk { attempt, bytes } => (task.grant_disk(attempt, bytes), vec![]),
        Request::Path(request) => {
            let (reply, descriptor) = context.broker.handle(&request);
            (Reply::Path(reply), descriptor.into_iter().collect())
        }
        Request::RegisterNode(_)
        | Request::DropNode(_)
        | Request::SubmitJob { .. }
        | Request::JobResults { .. }
        | Request::DropJob(_)
        | Request::ListInputs { .. }
        | Request::Parallelism
        | Request::JobPool { .. }
        | Request::Updates { .. } => {
            let message = "actions run in main; this is a task".to_owned();
            (Reply::Error { code: code::NOT_HERE, message }, vec![])
        }
    })
}

fn invalid(message: &str) -> Reply {
    Reply::Error { code: code::INVALID, message: message.to_owned() }
}

fn opened(result: io::Result<OwnedFd>) -> Answer {
    match result {
        Ok(descriptor) => (Reply::Descriptor, vec![descriptor]),
        Err(error) => {
            let message = format!("opening a file for the task: {error}");
            (Reply::Failed(TaskFailure::Host { message }), vec![])
        }
    }
}

/// A block that the slot's task may map; `Ok` if it must be read.
async fn flat(kept: &Kept, slot: usize, id: BlockId, block: Option<Arc<InMemory>>) -> Answer {
    let Some(block) = block else { return (Reply::Ok, vec![]) };
    match (block.flat_bytes().await, block.file.try_clone()) {
        (Some(bytes), Ok(file)) if kept.map(slot, id, &block) => {
            (Reply::Flat { bytes }, vec![file.into()])
        }
        _ => (Reply::Ok, vec![]),
    }
}

// === impl SlotTask ===

impl SlotTask {
    fn attempt(&self, attempt: AttemptId) -> io::Result<(Arc<StageRun>, Partition)> {
        let found = self.attempts.get(&attempt).cloned();
        found.ok_or_else(|| io::Error::other("the slot asked for an attempt that it has not"))
    }

    fn open_shuffle(
        &mut self,
        attempt: AttemptId,
        writer: NodeId,
        reducer: u32,
        maps: Option<MapRange>,
    ) -> Result<Reply, String> {
        let (stage, input) = self.input(attempt, writer)?;
        if self.streams.len() >= STREAMS_MAX {
            return Err(format!("{STREAMS_MAX} shuffle streams are open, the limit"));
        }
        let total = stage.inputs[input].maps.len();
        let maps = maps.map_or(0..total, |maps| {
            let first = maps.first as usize;
            first..first + maps.count as usize
        });
        if maps.end > total {
            let end = maps.end;
            return Err(format!("shuffle {writer} has {total} map partitions, not {end}"));
        }
        let start = &self.context.start;
        let here = Here { worker: start.worker.clone(), executor: start.launch.executor };
        let kept = &self.context.kept;
        let stream = ShuffleStream::new(here, kept, stage, input, reducer, maps);
        let number = self.next_stream;
        self.next_stream += 1;
        self.streams.insert(number, stream);
        Ok(Reply::Number(number))
    }

    /// What an attempt was told of a shuffle or kept dataset, which its stage must read.
    fn input(&self, attempt: AttemptId, writer: NodeId) -> Result<(Arc<StageRun>, usize), String> {
        let (stage, _) = self.attempt(attempt).map_err(|error| error.to_string())?;
        let input = stage.inputs.iter().position(|input| input.writer == writer);
        let input =
            input.ok_or_else(|| format!("node {} does not read shuffle {writer}", stage.node))?;
        Ok((stage, input))
    }

    /// A block of a kept dataset, if this executor has it in memory.
    fn find_flat(
        &self,
        attempt: AttemptId,
        writer: NodeId,
        map: Partition,
    ) -> Result<(BlockId, Option<Arc<InMemory>>), String> {
        let (stage, input) = self.input(attempt, writer)?;
        let outputs = &stage.inputs[input].maps;
        let (_, by) = outputs.get(map.0 as usize).ok_or_else(|| {
            format!("dataset {writer} has {} partitions, not {map}", outputs.len())
        })?;
        let id = BlockId { writer, map, attempt: *by };
        Ok((id, self.context.kept.find(id)))
    }

    async fn open_remote(&mut self, file: &InputFile, offset: u64) -> Reply {
        if self.inputs.len() >= STREAMS_MAX {
            return invalid(&format!("{STREAMS_MAX} inputs are open, the limit"));
        }
        match self.context.remote.open_input(file, offset).await {
            Ok(input) => {
                let number = self.next_stream;
                self.next_stream += 1;
                self.inputs.insert(number, input);
                Reply::Number(number)
            }
            Err(error) => Reply::Failed(TaskFailure::Input { message: error.to_string() }),
        }
    }

    async fn pull_remote(&mut self, stream: u32) -> Reply {
        let Some(input) = self.inputs.get_mut(&stream) else {
            return invalid("no such input");
        };
        match input.pull().await {
            Ok(bytes) => {
                // The slot does not close what has ended: a task may read any number of files.
                if bytes.is_empty() {
                    self.inputs.remove(&stream);
                }
                Reply::Input(bytes)
            }
            Err(error) => Reply::Failed(TaskFailure::Input { message: error.to_string() }),
        }
    }

    fn shuffle_sink(&self, attempt: AttemptId) -> io::Result<OwnedFd> {
        let (stage, partition) = self.attempt(attempt)?;
        match stage.kind {
            StageKind::ShuffleWrite { .. } | StageKind::Kept { .. } => {
                self.context.files.shuffle_sink(stage.node, partition, attempt)
            }
            _ => Err(io::Error::other("this stage writes no shuffle")),
        }
    }

    /// A slot asks for what it is about to write; none writes more than `task-disk-max`.
    fn grant_disk(&mut self, attempt: AttemptId, bytes: u64) -> Reply {
        let granted = self.attempt(attempt).map_err(|error| error.to_string()).and_then(|_| {
            self.context.files.disk().grant(bytes).map_err(|error| error.to_string())
        });
        match granted {
            Ok(kibibytes) => {
                *self.granted.entry(attempt).or_default() += u64::from(kibibytes) << 10;
                Reply::Number(kibibytes)
            }
            Err(message) => Reply::Failed(TaskFailure::Host { message }),
        }
    }

    /// Memory for the running task.
    async fn lease(&mut self, bytes: u64) -> Reply {
        let refusal = match self.context.kept.lease(self.slot, bytes).await {
            Lease::Granted => return Reply::Ok,
            Lease::Refused(refusal) => refusal,
            Lease::Waits => return invalid("the slot is gone"),
        };
        let (message, others) = (refusal.to_string(), !refusal.is_hopeless());
        self.short_of_memory = others;
        Reply::Failed(TaskFailure::NoMemory { message, others })
    }

    /// One file an attempt: `task-disk-max` bounds a file whatever the slot does.
    fn spill(&mut self, attempt: AttemptId) -> io::Result<OwnedFd> {
        self.attempt(attempt)?;
        if !self.spilling.insert(attempt) {
            return Err(io::Error::other("the attempt has its file for spilled runs"));
        }
        self.context.files.spill()
    }

    fn output_sink(&mut self, attempt: AttemptId, claimed: Partition) -> io::Result<OwnedFd> {
        let (stage, partition) = self.attempt(attempt)?;
        match &stage.kind {
            StageKind::Output { staging, .. } if partition == claimed && is_remote(staging) => {
                if self.staged.contains_key(&attempt) {
                    return Err(io::Error::other("the attempt has its file for its output"));
                }
                let file = self.context.files.spill()?;
                self.staged.insert(attempt, file.try_clone()?.into());
                Ok(file)
            }
            StageKind::Output { staging, prefix } if partition == claimed => {
                self.context.files.output_sink(staging, prefix, partition, attempt)
            }
            _ => Err(io::Error::other("this stage writes no output")),
        }
    }
}
