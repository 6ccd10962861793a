//! Which stages are not complete, and what they wait for.

use super::Dag;
use super::stage::Phase;
use offshoot_proto::id::{JobId, NodeId, StageRunId};
use offshoot_proto::scheduling::PoolName;

/// A stage that somebody needs and that is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ActiveStage {
    /// The job that it runs for, or will.
    pub(crate) job: JobId,
    pub(crate) pool: PoolName,
    /// What it computes.
    pub(crate) node: NodeId,
    pub(crate) name: String,
    pub(crate) source: String,
    /// The set that its tasks are in and its newest run, once it has started.
    pub(crate) set: Option<(StageRunId, StageRunId)>,
    /// Partitions that are not there.
    pub(crate) missing: u32,
    /// The nodes whose output it waits for.
    pub(crate) waits_on: Vec<NodeId>,
}

// === impl Dag ===

impl Dag {
    /// The stages that are not complete: those that have started, in order, then the others.
    pub(crate) fn active_stages(&self) -> Vec<ActiveStage> {
        let mut active = Vec::new();
        for stage in self.stages.values() {
            let (set, waits_on) = match &stage.phase {
                Phase::Idle => continue,
                Phase::Waiting { on } => (None, on.iter().copied().collect()),
                Phase::Running { set, run } => (Some((*set, *run)), Vec::new()),
                Phase::Suspended { set, on } => (Some((*set, *set)), on.iter().copied().collect()),
            };
            let runs_for = set.map(|_| stage.runs_for).filter(|job| self.jobs.contains_key(job));
            let job = runs_for.or(stage.jobs.first().copied()).unwrap_or_default();
            let spec = self.graph.spec(stage.node);
            active.push(ActiveStage {
                job,
                pool: self.jobs.get(&job).map(|job| job.pool.clone()).unwrap_or_default(),
                node: stage.node,
                name: spec.map(|spec| spec.name.clone()).unwrap_or_default(),
                source: spec.map(|spec| spec.source.clone()).unwrap_or_default(),
                set,
                missing: stage.outputs.total() - stage.outputs.done(),
                waits_on,
            });
        }
        active.sort_by_key(|stage| (stage.set.is_none(), stage.set, stage.job, stage.node));
        active
    }
}
