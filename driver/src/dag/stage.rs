//! A stage, and the phases that it goes through.
//!
//! ```text
//!             needed                inputs complete             all partitions
//!   Idle ───────────────► Waiting ─────────────────► Running ─────────────────► Idle
//!    ▲                       ▲  ▲  ended, output lost  │  ▲                    (complete)
//!    │ nobody needs it       │  └──────────────────────┘  │ inputs complete again
//!    └── from any phase      │     an input lost a block  ▼
//!                            └───────────────────────── Suspended
//! ```

use super::outputs::Outputs;
use super::places::PlaceIndex;
use offshoot_proto::id::{JobId, NodeId, SnapshotId, StageRunId};
use offshoot_proto::stage::StageKind;
use std::collections::BTreeSet;

/// What a stage computes. Shuffles come first, in the order of their nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StageKey {
    /// The output of a shuffle's map side.
    Shuffle(NodeId),
    /// The result of a job.
    Result(JobId),
}

/// A stage.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) node: NodeId,
    pub(super) kind: StageKind,
    /// In which it first ran.
    pub(super) snapshot: Option<SnapshotId>,
    /// The shuffles that its tasks read, in order: found once, by a walk over narrow edges.
    pub(super) inputs: Vec<NodeId>,
    pub(super) outputs: Outputs,
    pub(super) phase: Phase,
    /// The jobs that need it. Empty exactly when it is idle.
    pub(super) jobs: BTreeSet<JobId>,
    /// The job on whose behalf it was started last.
    pub(super) runs_for: JobId,
    /// Active stages that read it.
    pub(super) readers: BTreeSet<StageKey>,
    /// Where its newest run was told to read.
    pub(super) reads_from: BTreeSet<PlaceIndex>,
    /// Runs in a row that ended because a block could not be read.
    pub(super) fetch_failures: u32,
    /// Whether it has been complete in its snapshot, so that others may have read it.
    pub(super) was_complete: bool,
    /// Whether progress has been made that was not reported.
    pub(super) moved: bool,
}

/// Where a stage is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Complete or not needed.
    Idle,
    /// For these inputs.
    Waiting { on: BTreeSet<NodeId> },
    /// Its tasks are with the task scheduler.
    Running {
        /// The run that names the set.
        set: StageRunId,
        /// The run that says where the inputs are.
        run: StageRunId,
    },
    /// Its tasks are with the task scheduler, which starts no more of them.
    Suspended {
        /// The run that names the set.
        set: StageRunId,
        /// The inputs that are computed again.
        on: BTreeSet<NodeId>,
    },
}

// === impl Stage ===

impl Stage {
    pub(super) fn new(
        node: NodeId,
        kind: StageKind,
        snapshot: Option<SnapshotId>,
        inputs: Vec<NodeId>,
        outputs: Outputs,
    ) -> Self {
        Self {
            node,
            kind,
            snapshot,
            inputs,
            outputs,
            phase: Phase::Idle,
            jobs: BTreeSet::new(),
            runs_for: JobId::default(),
            readers: BTreeSet::new(),
            reads_from: BTreeSet::new(),
            fetch_failures: 0,
            was_complete: false,
            moved: false,
        }
    }

    /// The set that its tasks are in.
    pub(super) fn set(&self) -> Option<StageRunId> {
        match &self.phase {
            Phase::Running { set, .. } | Phase::Suspended { set, .. } => Some(*set),
            Phase::Idle | Phase::Waiting { .. } => None,
        }
    }

    /// The inputs that it waits for.
    pub(super) fn waits_on(&mut self) -> Option<&mut BTreeSet<NodeId>> {
        match &mut self.phase {
            Phase::Waiting { on } | Phase::Suspended { on, .. } => Some(on),
            Phase::Idle | Phase::Running { .. } => None,
        }
    }
}
