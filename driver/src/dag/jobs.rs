//! Jobs and snapshots: how they begin and how long they are needed.

use super::failure::label;
use super::outputs::Outputs;
use super::stage::{Stage, StageKey};
use super::{Action, Dag, JobSubmission};
use offshoot_proto::abi::{NodeKind, NodeSpec};
use offshoot_proto::id::{JobId, NodeId, Partition, SnapshotId, StageRunId};
use offshoot_proto::scheduling::PoolName;
use std::collections::{BTreeMap, BTreeSet};

/// A job that has not ended.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) source: String,
    node: NodeId,
    pub(super) snapshot: SnapshotId,
    pub(super) pool: PoolName,
    /// The active stages that it needs.
    pub(super) stages: BTreeSet<StageKey>,
    /// Whether a result of it is with an executor.
    pub(super) holds_results: bool,
}

/// How many jobs and shuffles need each snapshot.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    holds: BTreeMap<SnapshotId, u32>,
}

/// Why a job cannot be submitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Job ids are new.
    #[error("job {job} has been submitted already")]
    DuplicateJob {
        /// The id.
        job: JobId,
    },
    /// No such node.
    #[error("job {job} computes node {node}, which is not registered or was dropped")]
    UnknownNode {
        /// The job.
        job: JobId,
        /// The node.
        node: NodeId,
    },
    /// A shuffle's map side has no results.
    #[error("job {job} computes node {node}, which is a shuffle; name the node that reads it")]
    NotRecords {
        /// The job.
        job: JobId,
        /// The node.
        node: NodeId,
    },
    /// A partition does not exist.
    #[error("job {job} asks for partition {partition} of node {node}, which has {partitions}")]
    NoSuchPartition {
        /// The job.
        job: JobId,
        /// The node.
        node: NodeId,
        /// What it asks for.
        partition: Partition,
        /// How many there are.
        partitions: u32,
    },
    /// A partition is named twice.
    #[error("job {job} asks for partition {partition} more than once")]
    RepeatedPartition {
        /// The job.
        job: JobId,
        /// Which.
        partition: Partition,
    },
}

// === impl Snapshots ===

impl Snapshots {
    pub(super) fn hold(&mut self, snapshot: SnapshotId) {
        *self.holds.entry(snapshot).or_default() += 1;
    }

    pub(super) fn release(&mut self, snapshot: SnapshotId, actions: &mut Vec<Action>) {
        let Some(holds) = self.holds.get_mut(&snapshot) else {
            return;
        };
        *holds -= 1;
        if *holds == 0 {
            self.holds.remove(&snapshot);
            actions.push(Action::FreeSnapshot(snapshot));
        }
    }
}

// === impl Dag ===

impl Dag {
    /// Adds a node to the lineage graph.
    pub fn register(&mut self, spec: NodeSpec) -> Result<(), super::RegisterError> {
        self.graph.register(spec)
    }

    /// Starts a job. On an error nothing has changed, and the snapshot is the caller's to free.
    pub fn submit(
        &mut self,
        submission: JobSubmission,
        actions: &mut Vec<Action>,
    ) -> Result<(), SubmitError> {
        self.validate(&submission)?;
        let JobSubmission { job, spec, snapshot, kind, pool } = submission;
        let key = StageKey::Result(job);
        let partitions = self.graph.spec(spec.node).map_or(0, |node| node.partitions);
        let outputs = Outputs::new(partitions, &spec.partitions);
        let inputs = self.graph.shuffles_of(spec.node);
        let stage = Stage::new(spec.node, kind, Some(snapshot), inputs, outputs);
        self.stages.insert(key, stage);
        self.graph.pin(spec.node);
        self.snapshots.hold(snapshot);
        let entry = Job {
            name: spec.name,
            source: spec.source,
            node: spec.node,
            snapshot,
            pool,
            stages: BTreeSet::new(),
            holds_results: false,
        };
        self.jobs.insert(job, entry);
        self.activate(key, job, actions);
        Ok(())
    }

    fn validate(&self, submission: &JobSubmission) -> Result<(), SubmitError> {
        let (job, node) = (submission.job, submission.spec.node);
        if self.jobs.contains_key(&job) {
            return Err(SubmitError::DuplicateJob { job });
        }
        let spec = self.graph.spec(node);
        let spec = spec.ok_or(SubmitError::UnknownNode { job, node })?;
        if spec.kind != NodeKind::Records {
            return Err(SubmitError::NotRecords { job, node });
        }
        let partitions = spec.partitions;
        let mut sorted = submission.spec.partitions.clone();
        sorted.sort_unstable();
        if let Some(&partition) = sorted.last().filter(|last| last.0 >= partitions) {
            return Err(SubmitError::NoSuchPartition { job, node, partition, partitions });
        }
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            let partition = pair[0];
            return Err(SubmitError::RepeatedPartition { job, partition });
        }
        Ok(())
    }

    /// Ends a job: cancels what only it needed and forgets it. Does nothing if it has ended.
    pub(super) fn end_job(&mut self, id: JobId, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        let mut unneeded = Vec::new();
        for key in job.stages {
            if let Some(stage) = self.stages.get_mut(&key) {
                stage.jobs.remove(&id);
                if stage.jobs.is_empty() {
                    unneeded.push(key);
                }
            }
        }
        self.deactivate(unneeded, actions);
        self.stages.remove(&StageKey::Result(id));
        self.snapshots.release(job.snapshot, actions);
        let gone = self.graph.unpin(job.node);
        self.forget_shuffles(&gone, actions);
    }

    /// Fails every job of a list for one reason.
    pub(super) fn fail_jobs(
        &mut self,
        jobs: BTreeSet<JobId>,
        (node, set): (NodeId, StageRunId),
        reason: &str,
        actions: &mut Vec<Action>,
    ) {
        let stage_label = self.node_text(node);
        for id in jobs {
            let Some(job) = self.jobs.get(&id) else {
                continue;
            };
            let job_label = label(&job.name, &job.source);
            // Most stages are those of the action itself: its name and line are told once.
            let stage = match stage_label == job_label {
                true => String::new(),
                false => format!(" {stage_label}"),
            };
            let message = format!("job {id} {job_label}, stage {set}{stage}{reason}");
            actions.push(Action::JobFailed { job: id, message });
            self.end_job(id, actions);
        }
    }

    pub(super) fn on_node_dropped(&mut self, node: NodeId, actions: &mut Vec<Action>) {
        let gone = self.graph.drop_node(node);
        self.forget_shuffles(&gone, actions);
    }

    /// Drops the output of the shuffles among nodes that are gone.
    fn forget_shuffles(&mut self, gone: &[NodeId], actions: &mut Vec<Action>) {
        for node in gone {
            let Some(stage) = self.stages.remove(&StageKey::Shuffle(*node)) else {
                continue;
            };
            debug_assert!(stage.readers.is_empty() && stage.jobs.is_empty());
            self.forget_copies(*node);
            actions.push(Action::DropShuffle(*node));
            if let Some(snapshot) = stage.snapshot {
                self.snapshots.release(snapshot, actions);
            }
        }
    }

    /// Gives up a snapshot for the sake of a new one: drops the output of every shuffle that
    /// belongs to it, and of every shuffle computed from those, so that whoever needs one again
    /// computes it whole. Returns false, and changes nothing, if a job or an active stage needs
    /// any of them.
    pub fn reclaim(&mut self, snapshot: SnapshotId, actions: &mut Vec<Action>) -> bool {
        let mut readers = BTreeMap::<NodeId, Vec<NodeId>>::new();
        let mut stack = Vec::new();
        for (key, stage) in &self.stages {
            let StageKey::Shuffle(node) = key else {
                continue;
            };
            for input in &stage.inputs {
                readers.entry(*input).or_default().push(*node);
            }
            if stage.snapshot == Some(snapshot) {
                stack.push(*node);
            }
        }
        let mut dropped = BTreeSet::new();
        while let Some(node) = stack.pop() {
            if dropped.insert(node) {
                stack.extend(readers.get(&node).into_iter().flatten());
            }
        }
        let is_used = |node: &NodeId| {
            let stage = &self.stages[&StageKey::Shuffle(*node)];
            !stage.jobs.is_empty() || !stage.readers.is_empty()
        };
        // A job that has ended but for its held results may have to compute one of them again.
        let of_job = |(key, stage): (&StageKey, &Stage)| {
            matches!(key, StageKey::Result(_))
                && (stage.snapshot == Some(snapshot)
                    || stage.inputs.iter().any(|input| dropped.contains(input)))
        };
        if self.stages.iter().any(of_job) || dropped.iter().any(is_used) {
            return false;
        }
        for node in dropped {
            self.forget_output(node, actions);
            actions.push(Action::DropShuffle(node));
        }
        true
    }
}
