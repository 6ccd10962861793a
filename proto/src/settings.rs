//! Settings of an application: `--conf KEY=VALUE`, with defaults that need no tuning.

mod allocation;
mod keys;
mod kind;
mod units;

use crate::scheduling::Scheduling;
use core::fmt;
use serde::{Deserialize, Serialize};

pub use allocation::AllocationSettings;
pub use keys::{Key, TABLE as KEYS, find, names};
pub use kind::Kind;
pub use units::{
    ParseDurationError, ParseSizeError, Share, format_duration, format_size, parse_duration,
    parse_size,
};

/// The settings of one application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `task-memory`: bytes that a task may have beyond the driver's memory it starts with.
    /// The same for every attempt everywhere, because it decides what a task computes.
    pub task_memory_bytes: u64,
    /// `task-cores`: cores of its executor that one task has. An executor runs as many tasks at
    /// once as its cores divided by this, rounded down.
    pub task_cores: u32,
    /// `task-max-failures`: attempts of one task that may fail for reasons that could differ.
    pub task_max_failures: u32,
    /// `max-result-size`: bytes of all results of one job.
    pub max_result_bytes: u64,
    /// `shuffle-partitions`: reduce partitions where the job names no number; 0 for as many as
    /// the application has cores.
    pub shuffle_partitions: u32,
    /// `task-disk-max`: bytes that one attempt may write to disk: spilled runs, shuffle data
    /// and output together. So large that no honest task meets it on a disk of
    /// today; it is there for those that never stop.
    pub task_disk_bytes_max: u64,
    /// `app-disk-max`: bytes of shuffle data, spilled runs and staged output that the application
    /// may have on one worker's disk at once.
    pub app_disk_bytes_max: u64,
    /// `dynamic-allocation.*`: when executors come and go.
    pub allocation: AllocationSettings,
    /// `scheduler.*` and `locality-wait`: how jobs share slots.
    pub scheduling: Scheduling,
}

/// A `KEY=VALUE` that is not a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingError {
    /// No `=` in it.
    NotAPair {
        /// The text.
        text: String,
    },
    /// No such key.
    UnknownKey {
        /// The key.
        key: String,
        /// The nearest known key, if one is near.
        nearest: Option<&'static str>,
    },
    /// The value does not fit the key.
    BadValue {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What would fit.
        expected: String,
    },
    /// Two settings that exclude each other.
    Contradiction {
        /// The one that is too large.
        name: &'static str,
        /// Its value.
        value: u32,
        /// What it must not exceed.
        limited_by: &'static str,
        /// The value of that.
        limit: u32,
    },
}

/// The range of `task-disk-max` and `app-disk-max`. Less would not hold what one call of a guest
/// may hand over.
pub const TASK_DISK_BYTES: core::ops::RangeInclusive<u64> = 1 << 20..=1 << 50;

/// The most that `task-cores` may be: the largest worker's cores.
pub const CORES_MAX: u32 = 4096;

/// The most executors that a setting may name: more than any cluster has cores.
pub const EXECUTORS_MAX: u32 = 1_000_000;

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            task_memory_bytes: 512 << 20,
            task_cores: 1,
            task_max_failures: 4,
            max_result_bytes: 1 << 30,
            shuffle_partitions: 0,
            task_disk_bytes_max: 64 << 30,
            app_disk_bytes_max: 1 << 40,
            allocation: AllocationSettings::default(),
            scheduling: Scheduling::default(),
        }
    }
}

impl Settings {
    /// Applies one `KEY=VALUE`; the key as documented or, where there is an equal one, as Spark's.
    pub fn set(&mut self, pair: &str) -> Result<(), SettingError> {
        let (name, text) =
            pair.split_once('=').ok_or_else(|| SettingError::NotAPair { text: pair.to_owned() })?;
        let key = keys::find(name).ok_or_else(|| {
            let nearest = nearest(name, &keys::names());
            SettingError::UnknownKey { key: name.to_owned(), nearest }
        })?;
        key.apply(self, name, text)
    }

    /// How many tasks an executor of so many cores runs at once.
    pub fn slots(&self, cores: u32) -> u32 {
        cores / self.task_cores.max(1)
    }
}

/// The candidate within three edits of `word` that is nearest to it.
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let best = candidates.iter().map(|c| (edit_distance(word, c), *c)).min()?;
    (best.0 <= 3 || best.1.starts_with(word) && !word.is_empty()).then_some(best.1)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substitution = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

// === impl SettingError ===

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPair { text } => write!(f, "--conf {text}: expected KEY=VALUE"),
            Self::UnknownKey { key, nearest: Some(near) } => {
                write!(f, "--conf {key}: no such setting; did you mean {near}?")
            }
            Self::UnknownKey { key, nearest: None } => {
                let all: Vec<_> = keys::TABLE.iter().map(|key| key.name).collect();
                write!(f, "--conf {key}: no such setting; there are {}", all.join(", "))
            }
            Self::BadValue { key, value, expected } => {
                write!(f, "--conf {key}={value}: expected {expected}")
            }
            Self::Contradiction { name, value, limited_by, limit } => write!(
                f,
                "{name} {value} is more than {limited_by} {limit}; lower the first or raise the \
                 second"
            ),
        }
    }
}

impl core::error::Error for SettingError {}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn a_misspelt_key_names_the_nearest() {
        let mut settings = Settings::default();
        let error = settings.set("task-memroy=1g").expect_err("misspelt");
        assert_eq!(
            error.to_string(),
            "--conf task-memroy: no such setting; did you mean task-memory?"
        );
        assert_eq!(settings.set("task-memory=1g"), Ok(()));
        assert_eq!(settings.task_memory_bytes, 1 << 30);
        assert!(settings.set("task-memory=10gb5").is_err());
        assert!(settings.set("task-max-failures=0").is_err());
        assert_eq!(settings.set("task-disk-max=2t"), Ok(()));
        assert_eq!(settings.task_disk_bytes_max, 2 << 40);
        let error = settings.set("task-disk-max=1k").expect_err("too small");
        assert_eq!(
            error.to_string(),
            "--conf task-disk-max=1k: expected a size from 1 MiB to 1024 TiB"
        );
    }

    #[test]
    fn the_table_has_the_defaults() {
        let mut settings = Settings::default();
        for Key { name, default, .. } in KEYS {
            let name = name.replace("NAME", "default");
            if !default.starts_with('(') {
                let pair = format!("{name}={default}");
                assert_eq!(settings.set(&pair), Ok(()), "{pair}");
            }
        }
        let pools = core::mem::take(&mut settings.scheduling.pools);
        assert_eq!(settings, Settings::default());
        assert!(pools.values().all(|pool| *pool == Default::default()), "{pools:?}");
    }

    #[test]
    fn the_table_has_every_key_of_the_scheduler_with_its_range() {
        for key in Scheduling::KEYS {
            let row = KEYS.iter().find(|row| row.name == key).expect("in the table");
            let pair = format!("{}=x", key.replace("NAME", "a"));
            let error = Settings::default().set(&pair).expect_err("no value");
            let expected = row.kind.to_string();
            assert_eq!(error.to_string(), format!("--conf {key}=x: expected {expected}"));
        }
    }

    #[test]
    fn a_key_stands_once_and_in_both_spellings() {
        let names = keys::names();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), names.len());
        let mut settings = Settings::default();
        for pair in [
            "spark.task.maxFailures=7",
            "spark.task.cpus=2",
            "spark.dynamicAllocation.enabled=false",
            "dynamic-allocation.min-executors=1",
            "spark.dynamicAllocation.initialExecutors=2",
            "spark.dynamicAllocation.maxExecutors=3",
            "dynamic-allocation.executor-allocation-ratio=0.5",
            "spark.dynamicAllocation.schedulerBacklogTimeout=2",
            "dynamic-allocation.sustained-backlog-timeout=3ms",
            "spark.dynamicAllocation.executorIdleTimeout=5min",
            "spark.dynamicAllocation.cachedExecutorIdleTimeout=1h",
        ] {
            assert_eq!(settings.set(pair), Ok(()), "{pair}");
        }
        let expected = AllocationSettings {
            enabled: false,
            executors_min: 1,
            executors_initial: 2,
            executors_max: Some(3),
            ratio: Share::of_millionths(500_000).expect("a half"),
            backlog_timeout: Duration::from_secs(2),
            sustained_backlog_timeout: Some(Duration::from_millis(3)),
            idle_timeout: Duration::from_secs(300),
            cached_idle_timeout: Some(Duration::from_secs(3600)),
        };
        assert_eq!(settings.allocation, expected);
        assert_eq!((settings.task_max_failures, settings.task_cores), (7, 2));
        assert_eq!([1, 2, 5].map(|cores| settings.slots(cores)), [0, 1, 2]);
        settings.set("dynamic-allocation.cached-executor-idle-timeout=never").expect("a word");
        settings.set("dynamic-allocation.max-executors=infinity").expect("a word");
        assert_eq!(settings.allocation.cached_idle_timeout, None);
        assert_eq!(settings.allocation.executors_max, None);
    }

    #[test]
    fn bad_values_say_what_would_fit() {
        let told = |pair: &str| Settings::default().set(pair).expect_err("bad").to_string();
        let idle = "dynamic-allocation.executor-idle-timeout";
        assert_eq!(
            told("spark.dynamicAllocation.executorIdleTimeout=soon"),
            format!("--conf {idle}=soon: expected a duration from 1ms to 365d")
        );
        assert_eq!(
            told("dynamic-allocation.max-executors=0"),
            "--conf dynamic-allocation.max-executors=0: expected a whole number from 1 to 1000000, \
             or infinity"
        );
        assert_eq!(
            told("dynamic-allocation.executor-allocation-ratio=2"),
            "--conf dynamic-allocation.executor-allocation-ratio=2: expected a share, more than 0 \
             and at most 1"
        );
        assert_eq!(
            told("dynamic-allocation.max-executor=2"),
            "--conf dynamic-allocation.max-executor: no such setting; did you mean \
             dynamic-allocation.max-executors?"
        );
        assert_eq!(
            told("dynamic-allocation.enabled=yes"),
            "--conf dynamic-allocation.enabled=yes: expected true or false"
        );
    }

    #[test]
    fn settings_that_exclude_each_other_are_both_named() {
        let told = |pairs: &[&str], cores, executors| {
            let mut settings = Settings::default();
            pairs.iter().for_each(|pair| settings.set(pair).expect("known"));
            settings.check(cores, executors).map_err(|error| error.to_string())
        };
        let max = "dynamic-allocation.max-executors=3";
        let text = |name, value| {
            Err(format!(
                "{name} {value} is more than dynamic-allocation.max-executors 3; lower the first \
                 or raise the second"
            ))
        };
        let min = "dynamic-allocation.min-executors";
        assert_eq!(told(&[max, &format!("{min}=4")], None, None), text(min, 4));
        let initial = "dynamic-allocation.initial-executors";
        assert_eq!(told(&[max, &format!("{initial}=5")], None, None), text(initial, 5));
        assert_eq!(told(&[max], None, Some(6)), text("num-executors", 6));
        assert_eq!(told(&[max, "dynamic-allocation.enabled=false"], None, Some(6)), Ok(()));
        let text =
            "task-cores 4 is more than executor-cores 2; lower the first or raise the second";
        assert_eq!(told(&["task-cores=4"], Some(2), None), Err(text.to_owned()));
        assert_eq!(told(&["task-cores=4"], None, Some(2)), Ok(()));
    }
}
