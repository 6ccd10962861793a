//! `offshoot explain`: why an application has no more executors, and why its tasks wait.

use crate::cluster::AppState;
use crate::id::{AppId, ExecutorId, JobId, StageRunId};
use crate::waiting::WaitReason;
use serde::{Deserialize, Serialize};

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
    pub stages: Option<Vec<StageWait>>,
}

/// Executors that an application wants and does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingExecutors {
    /// How many; unknown if it takes as many as fit.
    pub executors: Option<u32>,
    /// Why the next one is not there.
    pub reason: WaitReason,
}

/// A stage that is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageWait {
    /// Its job.
    pub job: JobId,
    /// Its newest run.
    pub stage: StageRunId,
    /// The pool of its job.
    pub pool: String,
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

/// Why a task has not been sent to an executor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskWait {
    /// Its stage reads what these stages have not written yet.
    Parents {
        /// Those that are not complete.
        stages: Vec<StageRunId>,
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
        /// Executors that would be near.
        near: Vec<ExecutorId>,
        /// After so many milliseconds more it goes anywhere.
        left_millis: u64,
    },
    /// It failed on every executor that has a slot free.
    Excluded {
        /// Those executors.
        executors: Vec<ExecutorId>,
    },
    /// It asks for more cores than any executor has.
    TooLarge {
        /// `task-cores`.
        task_cores: u32,
        /// Cores of the largest executor.
        executor_cores: u32,
    },
}
