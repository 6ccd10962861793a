//! What `main` asks for.

use super::cluster_side::ask_cores;
use super::{Core, Job, JobOutput, JobState, Waiting};
use crate::DriverError;
use crate::output::Output;
use crate::results::Results;
use crate::scheduler::{Event, JobSubmission};
use offshoot_proto::abi::{JobSpec, OutputSpec, code};
use offshoot_proto::grants::is_remote;
use offshoot_proto::id::{JobId, SnapshotId};
use offshoot_proto::limits::SNAPSHOTS_LIVE_MAX;
use offshoot_proto::link::{PathReply, Reply, Request};
use offshoot_proto::part::PartNames;
use offshoot_proto::scheduling::PoolName;
use offshoot_proto::settings::format_size;
use offshoot_proto::snapshot::SnapshotHeader;
use offshoot_proto::stage::StageKind;
use offshoot_sandbox::snapshots::{SnapshotError, SnapshotStore};
use std::os::fd::OwnedFd;

/// Preview-1's numbers for what is refused and not missing: `acces`, `perm`, `notcapable`.
const NOT_GRANTED: [u16; 3] = [2, 63, 76];

/// A job that waits for a place among the live snapshots.
pub(crate) struct Submission {
    job: JobSpec,
    snapshot: SnapshotHeader,
    pages: Vec<u8>,
    descriptor: Option<OwnedFd>,
}

impl Core {
    pub(super) fn on_request(
        &mut self,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), DriverError> {
        if self.waiting.is_some() {
            return Err(DriverError::Slot("main's slot asked while it waits".to_owned()));
        }
        match request {
            Request::RegisterNode(spec) => {
                if let Err(error) = self.scheduler.register(spec) {
                    self.graph_error.get_or_insert(error.to_string());
                }
                Ok(())
            }
            Request::DropNode(node) => {
                self.handle(Event::NodeDropped(node));
                Ok(())
            }
            Request::SubmitJob { job, snapshot, pages } => {
                let descriptor = descriptors.into_iter().next();
                self.submit_or_wait(Box::new(Submission { job, snapshot, pages, descriptor }))
            }
            Request::JobResults { job, capacity } => self.answer_results(job, capacity as usize),
            Request::DropJob(job) => {
                if let Some(dropped) = self.jobs.remove(&job) {
                    if let Some(output) = dropped.output {
                        self.abandon(output);
                    }
                    self.handle(Event::JobDropped(job));
                }
                Ok(())
            }
            Request::ListInputs { pattern } if is_remote(&pattern) => {
                self.list_remote(pattern);
                Ok(())
            }
            Request::ListInputs { pattern } => {
                let listed = self.broker.list_inputs(&pattern);
                self.reply(match listed {
                    Ok(files) => Reply::Inputs(files),
                    Err(error) => refused(error.code(), &error),
                })
            }
            Request::OpenInput { file, .. } => match self.broker.open_input(&file) {
                Ok(descriptor) => self.reply_with(Reply::Descriptor, Some(descriptor)),
                Err(error) => self.reply(refused(error.code(), &error)),
            },
            Request::Parallelism => self.on_parallelism(),
            Request::JobPool { name } => {
                self.pool = match name.as_str() {
                    "" => Ok(PoolName::default()),
                    name => PoolName::new(name),
                };
                Ok(())
            }
            Request::Updates { capacity } => {
                let read = self.updates.read(capacity as usize);
                self.reply(match read {
                    Ok(bytes) => Reply::Results { bytes, last: false },
                    Err(error) => refused(code::LIMIT, &error),
                })
            }
            Request::Path(request) => {
                let (reply, descriptor) = self.broker.handle(&request);
                if let PathReply::Errno { errno, message } = &reply
                    && NOT_GRANTED.contains(errno)
                {
                    // The guest sees a number only; which flag would help is for the person.
                    self.observer.notice(message);
                }
                self.reply_with(Reply::Path(reply), descriptor)
            }
            Request::OpenShuffle { .. }
            | Request::PullShuffle { .. }
            | Request::PullInput { .. }
            | Request::OpenShuffleSink(_)
            | Request::OpenOutputSink(..)
            | Request::OpenSpill(_)
            | Request::Disk { .. }
            | Request::Memory { .. }
            | Request::MapBlock { .. }
            | Request::GiveBackMemory => {
                let message = "only a task may do this; this is main".to_owned();
                self.reply(Reply::Error { code: code::NOT_HERE, message })
            }
            Request::CloseShuffle { .. } | Request::CloseInput { .. } => Ok(()),
        }
    }

    /// Submits a job, unless too many snapshots are alive: then the guest is not heard until one
    /// has ended.
    pub(super) fn submit_or_wait(
        &mut self,
        submission: Box<Submission>,
    ) -> Result<(), DriverError> {
        if self.snapshot_live as usize >= SNAPSHOTS_LIVE_MAX && !self.reclaim_oldest() {
            self.waiting = Some(Waiting::Snapshot(submission));
            return Ok(());
        }
        let Submission { job, snapshot, pages, descriptor } = *submission;
        let id = snapshot.id;
        if let Err(error) = self.keep_snapshot(snapshot, pages, descriptor) {
            return Err(DriverError::Slot(error.to_string()));
        }
        self.snapshot_live += 1;
        let number = JobId(self.next_job);
        self.next_job += 1;
        let begun = self.begin(number, job, id);
        self.refuse_unless(begun, number, id);
        Ok(())
    }

    /// A job that cannot be submitted fails when the guest asks for its results.
    pub(super) fn refuse_unless(
        &mut self,
        submitted: Result<(), (i32, String)>,
        job: JobId,
        snapshot: SnapshotId,
    ) {
        if let Err((code, message)) = submitted {
            self.free_snapshot(snapshot);
            self.jobs.insert(job, Job::failed(code, message));
        }
    }

    /// Gives up what was computed in the oldest snapshot that no job uses.
    fn reclaim_oldest(&mut self) -> bool {
        let live: Vec<_> = self.snapshots.iter().flat_map(SnapshotStore::live).collect();
        let now = self.now();
        for id in live {
            if self.scheduler.reclaim(now, id, &mut self.actions) {
                return true;
            }
        }
        false
    }

    fn keep_snapshot(
        &mut self,
        header: SnapshotHeader,
        pages: Vec<u8>,
        descriptor: Option<OwnedFd>,
    ) -> Result<(), SnapshotError> {
        let id = header.id;
        match (&mut self.snapshots, descriptor) {
            (Some(store), Some(file)) => store.push_file(header, file)?,
            (Some(store), None) => store.push(header, pages)?,
            (None, _) => {
                let reason = "it has no memory file";
                let memory = self.memory.take();
                let memory = memory.ok_or(SnapshotError::Malformed { id, reason })?;
                self.snapshots = Some(SnapshotStore::new(header, memory)?);
            }
        }
        Ok(())
    }

    /// Submits a job once there is a place for its output.
    fn begin(
        &mut self,
        job: JobId,
        spec: JobSpec,
        snapshot: SnapshotId,
    ) -> Result<(), (i32, String)> {
        if let Some(error) = self.graph_error.take() {
            return Err((code::INVALID, error));
        }
        if let Err(error) = &self.pool {
            return Err((code::INVALID, error.to_string()));
        }
        self.check_memory()?;
        let Some(wanted) = &spec.output else {
            return self.submit(job, spec, snapshot, None);
        };
        PartNames::new(&wanted.prefix).map_err(|error| (code::INVALID, error.to_string()))?;
        let app = self.cluster.as_ref().map(|cluster| cluster.master.app);
        let key = format!("{}-{}", app.unwrap_or_default(), self.outputs);
        if is_remote(&wanted.path) {
            self.outputs += 1;
            self.begin_remote(job, spec, snapshot, key);
            return Ok(());
        }
        let path = self.broker.check_output_dir(&wanted.path);
        let path = path.map_err(|error| (error.code(), error.to_string()))?;
        self.outputs += 1;
        let begun = Output::begin(path.into(), key, &wanted.prefix)
            .map_err(|error| (code::IO, error.to_string()))?;
        self.submit(job, spec, snapshot, Some(JobOutput::Local(begun)))
    }

    pub(super) fn submit(
        &mut self,
        job: JobId,
        spec: JobSpec,
        snapshot: SnapshotId,
        output: Option<JobOutput>,
    ) -> Result<(), (i32, String)> {
        let staging = output.as_ref().map(|output| match output {
            JobOutput::Local(output) => output.staging().to_string_lossy().into_owned(),
            JobOutput::Remote(output) => output.staging(),
        });
        let kind = match (staging, &spec.output) {
            (Some(staging), Some(OutputSpec { prefix, .. })) => {
                StageKind::Output { staging, prefix: prefix.clone() }
            }
            _ => StageKind::Result,
        };
        // A job with an output has no results: what there is of them is complete at once.
        let wanted = if output.is_some() { vec![] } else { self.partitions_of(&spec) };
        let results = Results::new(spec.order, wanted, self.settings.max_result_bytes);
        self.jobs.insert(job, Job { results, output, state: JobState::Running });
        let now = self.now();
        let pool = self.pool.clone().unwrap_or_default();
        let submission = JobSubmission { job, spec, snapshot, kind, pool };
        if let Err(error) = self.scheduler.submit(now, submission, &mut self.actions) {
            if let Some(Job { output: Some(output), .. }) = self.jobs.remove(&job) {
                self.abandon(output);
            }
            return Err((code::INVALID, error.to_string()));
        }
        Ok(())
    }

    fn partitions_of(&self, spec: &JobSpec) -> Vec<offshoot_proto::id::Partition> {
        if spec.partitions.is_empty() {
            let count = self.scheduler.partitions(spec.node).unwrap_or(0);
            return (0..count).map(offshoot_proto::id::Partition).collect();
        }
        spec.partitions.clone()
    }

    /// What an executor keeps of main's memory must fit the memory of an executor.
    fn check_memory(&self) -> Result<(), (i32, String)> {
        let bytes = self.snapshots.as_ref().map_or(0, SnapshotStore::bytes);
        let limit = self.request.executor_memory_bytes;
        if bytes <= limit {
            return Ok(());
        }
        let message = format!(
            "main holds {bytes} bytes, an executor has {}: every executor keeps a copy of main's \
             memory, so raise --executor-memory (--driver-memory bounds what main may hold)",
            format_size(limit)
        );
        Err((code::LIMIT, message))
    }

    fn on_parallelism(&mut self) -> Result<(), DriverError> {
        if self.settings.shuffle_partitions > 0 {
            return self.reply(Reply::Number(self.settings.shuffle_partitions));
        }
        match &self.cluster {
            None => self.reply(Reply::Number(1)),
            Some(cluster) => {
                ask_cores(cluster, &self.settings);
                self.waiting = Some(Waiting::Parallelism);
                Ok(())
            }
        }
    }

    /// The master's answer: what it has granted by now. Nothing yet is asked again when an
    /// executor is there.
    pub(super) fn on_cores(&mut self, cores: u32) {
        if cores > 0 && matches!(self.waiting, Some(Waiting::Parallelism)) {
            self.waiting = None;
            // A slot that is gone ends the loop by itself.
            let _ = self.reply(Reply::Number(cores));
        }
    }

    pub(super) fn answer_parallelism(&mut self) {
        if let (Some(Waiting::Parallelism), Some(cluster)) = (&self.waiting, &self.cluster) {
            ask_cores(cluster, &self.settings);
        }
    }
}

fn refused(code: i32, error: &dyn std::fmt::Display) -> Reply {
    Reply::Error { code, message: error.to_string() }
}
