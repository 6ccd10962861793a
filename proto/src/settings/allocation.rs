//! What dynamic allocation is told: how many executors, and how fast they come and go.

use super::units::Share;
use super::{SettingError, Settings};
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// Settings `dynamic-allocation.*`: Spark's, with timeouts for executors that start in
/// milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationSettings {
    /// `enabled`: executors come with the work and go when they are idle.
    pub enabled: bool,
    /// `min-executors`: never fewer are wanted, and idle ones are not released below it.
    pub executors_min: u32,
    /// `initial-executors`: wanted before there is any work; less than the minimum says nothing.
    pub executors_initial: u32,
    /// `max-executors`: never more are wanted.
    pub executors_max: Option<u32>,
    /// `executor-allocation-ratio`: for which share of the tasks there are to be slots.
    pub ratio: Share,
    /// `backlog-timeout`: how long tasks wait before more executors are wanted than the first.
    pub backlog_timeout: Duration,
    /// `sustained-backlog-timeout`: and again after each such time; the former if unset.
    pub sustained_backlog_timeout: Option<Duration>,
    /// `executor-idle-timeout`: how long an executor may have nothing to do.
    pub idle_timeout: Duration,
    /// `cached-executor-idle-timeout`: the same where it holds the only copy of a kept block; for
    /// as long as it holds it if unset.
    pub cached_idle_timeout: Option<Duration>,
}

// === impl AllocationSettings ===

impl Default for AllocationSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            executors_min: 0,
            executors_initial: 0,
            executors_max: None,
            ratio: Share::ONE,
            backlog_timeout: Duration::from_millis(50),
            sustained_backlog_timeout: None,
            idle_timeout: Duration::from_secs(10),
            cached_idle_timeout: None,
        }
    }
}

impl AllocationSettings {
    /// Executors that are wanted before there is any work.
    pub fn initial(&self) -> u32 {
        self.executors_initial.max(self.executors_min)
    }

    /// Most executors that are wanted.
    pub fn max(&self) -> u32 {
        self.executors_max.unwrap_or(u32::MAX)
    }

    /// How long after one request the next one follows.
    pub fn sustained(&self) -> Duration {
        self.sustained_backlog_timeout.unwrap_or(self.backlog_timeout)
    }
}

// === impl Settings ===

impl Settings {
    /// What only shows when all settings are known; `executor_cores` if the application names them,
    /// and `num_executors`, which is how many it starts with.
    pub fn check(
        &self,
        executor_cores: Option<u32>,
        num_executors: Option<u32>,
    ) -> Result<(), SettingError> {
        let allocation = &self.allocation;
        let at_most = |name: (&'static str, u32), limit: (&'static str, Option<u32>)| match limit {
            (limited_by, Some(limit)) if name.1 > limit => {
                Err(SettingError::Contradiction { name: name.0, value: name.1, limited_by, limit })
            }
            _ => Ok(()),
        };
        at_most(("task-cores", self.task_cores), ("executor-cores", executor_cores))?;
        if !allocation.enabled {
            return Ok(());
        }
        let max = ("dynamic-allocation.max-executors", allocation.executors_max);
        at_most(("dynamic-allocation.min-executors", allocation.executors_min), max)?;
        at_most(("dynamic-allocation.initial-executors", allocation.executors_initial), max)?;
        at_most(("num-executors", num_executors.unwrap_or(0)), max)
    }
}
