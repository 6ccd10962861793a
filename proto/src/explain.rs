//! `offshoot explain`: why an application has no more executors, and why its tasks wait.
//!
//! Everything here is bounded, so that an answer fits a frame: [`STAGES_MAX`] stages, and
//! [`LISTED_MAX`] of whatever a reason lists.

use crate::cluster::AppState;
use crate::id::{AppId, ExecutorId, JobId, NodeId, StageRunId};
use crate::scheduling::PoolName;
use crate::waiting::WaitReason;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Stages that are told of: 64 with names of [`NODE_NAME_BYTES_MAX`] take a tenth of a frame.
///
/// [`NODE_NAME_BYTES_MAX`]: crate::limits::NODE_NAME_BYTES_MAX
pub const STAGES_MAX: usize = 64;

/// Executors or stages that one reason lists: a person looks at the first.
pub const LISTED_MAX: usize = 8;

/// What an application waits for, by the words of the master and of its driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Which.
    pub app: AppId,
    /// What its user calls it.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// Its state.
    pub state: AppState,
    /// Executors that listen.
    pub running: u32,
    /// Executors that start.
    pub launching: u32,
    /// Executors that it wants; as many as fit if unset.
    pub wanted: Option<u32>,
    /// Executors that it wants and does not have.
    pub missing: Option<MissingExecutors>,
    /// Its stages that are not complete; none if its driver did not answer.
    pub stages: Option<StageWaits>,
}

/// Executors that an application wants and does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingExecutors {
    /// How many; unknown if it takes as many as fit.
    pub executors: Option<u32>,
    /// Why the next one is not there.
    pub reason: WaitReason,
}

/// The stages of an application that are not complete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageWaits {
    /// Those that started first, then those that have not, at most [`STAGES_MAX`].
    pub stages: Vec<StageWait>,
    /// How many there are besides.
    pub more: u32,
}

/// A stage that is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageWait {
    /// Its job.
    pub job: JobId,
    /// Its newest run; none if it has not started.
    pub stage: Option<StageRunId>,
    /// The node that it computes.
    pub node: NodeId,
    /// What that is called.
    pub name: String,
    /// Where that is in the job's source.
    pub source: String,
    /// The pool of its job.
    pub pool: PoolName,
    /// Tasks that have been sent to executors.
    pub running: u32,
    /// Tasks that wait, by reason.
    pub pending: Vec<PendingTasks>,
}

/// Tasks that wait for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingTasks {
    /// How many.
    pub tasks: u32,
    /// Why.
    pub reason: TaskWait,
}

/// Why a task has not been sent to an executor. What is listed is at most [`LISTED_MAX`] long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskWait {
    /// Its stage reads what other stages have not written yet.
    Parents {
        /// Nodes that those compute, the first of them.
        nodes: Vec<NodeId>,
        /// How many there are.
        count: u32,
    },
    /// The application has no executor.
    NoExecutors,
    /// Every executor is being given back.
    Retiring,
    /// Every slot has work.
    SlotsBusy {
        /// All slots of the application.
        slots: u32,
    },
    /// It waits for a slot near what it reads.
    Locality {
        /// Executors that would be near, the first of them.
        near: Vec<ExecutorId>,
        /// After so many milliseconds more it may go further away.
        left_millis: u64,
    },
    /// It failed on every executor that has a slot free.
    Excluded {
        /// Those executors, the first of them.
        executors: Vec<ExecutorId>,
    },
}

// === impl StageWaits ===

impl StageWaits {
    /// The first of these; the others are counted.
    pub fn of(mut stages: Vec<StageWait>) -> Self {
        let more = stages.len().saturating_sub(STAGES_MAX) as u32;
        stages.truncate(STAGES_MAX);
        Self { stages, more }
    }
}

// === impl StageWait ===

impl fmt::Display for StageWait {
    /// Which stage, of what, and how many of its tasks run; then a line for each reason to wait.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stage {
            Some(stage) => write!(f, "stage {stage}")?,
            None => f.write_str("a stage that has not started")?,
        }
        let Self { job, node, pool, .. } = self;
        let (name, source) = (self.name.escape_debug(), self.source.escape_debug());
        let tasks = counted(self.running, "task");
        write!(f, ", node {node} {name} ({source}), job {job}, pool {pool}: {tasks} sent")?;
        for PendingTasks { tasks, reason } in &self.pending {
            write!(f, "\n  {} waiting: {reason}", counted(*tasks, "task"))?;
        }
        Ok(())
    }
}

// === impl TaskWait ===

impl TaskWait {
    /// What it is called where a program reads it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Parents { .. } => "parents",
            Self::NoExecutors => "no-executors",
            Self::Retiring => "retiring",
            Self::SlotsBusy { .. } => "slots-busy",
            Self::Locality { .. } => "locality",
            Self::Excluded { .. } => "excluded",
        }
    }

    /// What comes of it, or makes the wait shorter.
    fn advice(&self) -> &'static str {
        match self {
            Self::Parents { .. } => "they start when the last of those is",
            Self::NoExecutors => "they start when it has one",
            Self::Retiring => "they start when it has others",
            Self::SlotsBusy { .. } => {
                "they start as others end; more executors or cores would start them sooner"
            }
            Self::Locality { .. } => {
                "then they go further away; --conf locality-wait=0 would not let them wait"
            }
            Self::Excluded { .. } => {
                "they start when another has one; the workers' logs say how they failed"
            }
        }
    }
}

impl fmt::Display for TaskWait {
    /// What is the matter, and what to do about it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parents { nodes, count } => {
                let some = listed(nodes, *count as usize);
                write!(f, "not all that they read is complete (nodes {some})")?;
            }
            Self::NoExecutors => f.write_str("the application has no executor")?,
            Self::Retiring => f.write_str("every executor is being given back")?,
            Self::SlotsBusy { slots: 1 } => f.write_str("the only slot has work")?,
            Self::SlotsBusy { slots } => write!(f, "all {slots} slots have work")?,
            Self::Locality { near, left_millis } => {
                let near = listed(near, near.len());
                write!(f, "for {left_millis} ms more, for a slot near what they read ({near})")?;
            }
            Self::Excluded { executors } => {
                let some = listed(executors, executors.len());
                write!(f, "they failed on every executor that has a slot free ({some})")?;
            }
        }
        write!(f, "; {}", self.advice())
    }
}

// === impl Explanation ===

impl Explanation {
    /// Whether nothing of it goes on.
    fn has_ended(&self) -> bool {
        matches!(self.state, AppState::Finished | AppState::Failed | AppState::Lost)
    }
}

impl fmt::Display for Explanation {
    /// A line for the application, one for the executors that it lacks, and those of its stages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, tenant) = (self.name.escape_debug(), self.tenant.escape_debug());
        write!(f, "{} {name} of {tenant} ", self.app)?;
        if self.has_ended() {
            let state = match self.state {
                AppState::Lost => "was lost with its driver",
                AppState::Failed => "has failed",
                _ => "has finished",
            };
            return write!(f, "{state}; it waits for nothing");
        }
        write!(f, "has {}", counted(self.running, "executor"))?;
        if self.launching > 0 {
            write!(f, ", {} more starting", self.launching)?;
        }
        match self.wanted {
            Some(wanted) => write!(f, "; it wants {wanted}")?,
            None => f.write_str("; it wants as many as fit")?,
        }
        if let Some(MissingExecutors { executors, reason }) = &self.missing {
            let missing = match executors {
                Some(executors) => counted(*executors, "executor"),
                None => "more executors".to_owned(),
            };
            write!(f, "\n{missing} waiting: {reason}")?;
        }
        let Some(StageWaits { stages, more }) = &self.stages else {
            return f
                .write_str("\nits driver did not answer: what its tasks wait for is not known");
        };
        if stages.is_empty() {
            f.write_str("\nno stage is active: main has no job that is not complete")?;
        }
        for stage in stages {
            write!(f, "\n{stage}")?;
        }
        match more {
            0 => Ok(()),
            more => write!(f, "\n{} more", counted(*more, "stage")),
        }
    }
}

fn counted(number: u32, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

fn listed<T: fmt::Display>(items: &[T], count: usize) -> String {
    let mut names: Vec<String> = items.iter().take(LISTED_MAX).map(T::to_string).collect();
    if count > names.len() {
        names.push(format!("{} more", count - names.len()));
    }
    names.join(", ")
}
