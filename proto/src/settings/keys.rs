//! Every setting once: its key, Spark's name of it where there is an equal one, and how its value
//! is read.

use super::units::{Share, format_duration, format_size, parse_duration, parse_size};
use super::{CORES_MAX, EXECUTORS_MAX, SettingError, Settings, TASK_DISK_BYTES};
use crate::limits::PARTITIONS_MAX;
use crate::scheduling::Scheduling;
use core::time::Duration;

/// One setting.
pub(super) struct Key {
    /// As documented.
    pub(super) name: &'static str,
    /// Spark's, which is understood as well.
    pub(super) spark: Option<&'static str>,
    /// Reads the value into its place.
    pub(super) set: fn(&mut Settings, Value<'_>) -> Result<(), SettingError>,
}

/// The value of a setting, as written.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    /// Of which.
    pub(super) key: &'static str,
    /// The text.
    pub(super) text: &'a str,
}

/// Timeouts are at least this: a shorter one says nothing but "at once".
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// And at most this: a timeout of more than a year is none.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 86_400);

/// What is written for no limit and for no timeout.
const NONE: [&str; 3] = ["infinity", "unlimited", "never"];

/// All of them, in the order of `docs/settings.md`.
pub(super) const TABLE: &[Key] = &[
    Key {
        name: "task-memory",
        spark: None,
        set: |settings, value| {
            settings.task_memory_bytes = value.size(1 << 20, 4 << 30)?;
            Ok(())
        },
    },
    Key {
        name: "task-cores",
        spark: Some("spark.task.cpus"),
        set: |settings, value| {
            settings.task_cores = value.number(1, CORES_MAX)?;
            Ok(())
        },
    },
    Key {
        name: "task-max-failures",
        spark: Some("spark.task.maxFailures"),
        set: |settings, value| {
            settings.task_max_failures = value.number(1, 1000)?;
            Ok(())
        },
    },
    Key {
        name: "max-result-size",
        spark: Some("spark.driver.maxResultSize"),
        set: |settings, value| {
            settings.max_result_bytes = value.size(1, 1 << 40)?;
            Ok(())
        },
    },
    Key {
        name: "task-disk-max",
        spark: None,
        set: |settings, value| {
            settings.task_disk_bytes_max = value.disk()?;
            Ok(())
        },
    },
    Key {
        name: "app-disk-max",
        spark: None,
        set: |settings, value| {
            settings.app_disk_bytes_max = value.disk()?;
            Ok(())
        },
    },
    Key {
        name: "shuffle-partitions",
        spark: Some("spark.default.parallelism"),
        set: |settings, value| {
            settings.shuffle_partitions = value.number(1, PARTITIONS_MAX)?;
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.enabled",
        spark: Some("spark.dynamicAllocation.enabled"),
        set: |settings, value| {
            settings.allocation.enabled = value.truth()?;
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.min-executors",
        spark: Some("spark.dynamicAllocation.minExecutors"),
        set: |settings, value| {
            settings.allocation.executors_min = value.number(0, EXECUTORS_MAX)?;
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.initial-executors",
        spark: Some("spark.dynamicAllocation.initialExecutors"),
        set: |settings, value| {
            settings.allocation.executors_initial = value.number(0, EXECUTORS_MAX)?;
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.max-executors",
        spark: Some("spark.dynamicAllocation.maxExecutors"),
        set: |settings, value| {
            let max = value.unless_none(|value| value.number(1, EXECUTORS_MAX))?;
            settings.allocation.executors_max = max;
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.executor-allocation-ratio",
        spark: Some("spark.dynamicAllocation.executorAllocationRatio"),
        set: |settings, value| {
            settings.allocation.ratio = value.share()?;
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.backlog-timeout",
        spark: Some("spark.dynamicAllocation.schedulerBacklogTimeout"),
        set: |settings, value| {
            settings.allocation.backlog_timeout = value.timeout()?;
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.sustained-backlog-timeout",
        spark: Some("spark.dynamicAllocation.sustainedSchedulerBacklogTimeout"),
        set: |settings, value| {
            settings.allocation.sustained_backlog_timeout = Some(value.timeout()?);
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.executor-idle-timeout",
        spark: Some("spark.dynamicAllocation.executorIdleTimeout"),
        set: |settings, value| {
            settings.allocation.idle_timeout = value.timeout()?;
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.cached-executor-idle-timeout",
        spark: Some("spark.dynamicAllocation.cachedExecutorIdleTimeout"),
        set: |settings, value| {
            settings.allocation.cached_idle_timeout = value.unless_none(Value::timeout)?;
            Ok(())
        },
    },
];

/// The setting of this name, in either spelling.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    TABLE.iter().find(|key| key.name == name || key.spark == Some(name))
}

/// Every name, Spark's included.
pub(super) fn names() -> Vec<&'static str> {
    let table = TABLE.iter().flat_map(|key| [Some(key.name), key.spark]).flatten();
    table.chain(Scheduling::KEYS).collect()
}

// === impl Value ===

impl Value<'_> {
    fn is_not(self, expected: String) -> SettingError {
        SettingError::BadValue { key: self.key, value: self.text.to_owned(), expected }
    }

    fn size(self, min: u64, max: u64) -> Result<u64, SettingError> {
        let size = parse_size(self.text).ok().filter(|bytes| (min..=max).contains(bytes));
        size.ok_or_else(|| {
            self.is_not(format!("a size from {} to {}", format_size(min), format_size(max)))
        })
    }

    fn disk(self) -> Result<u64, SettingError> {
        self.size(*TASK_DISK_BYTES.start(), *TASK_DISK_BYTES.end())
    }

    fn number(self, min: u32, max: u32) -> Result<u32, SettingError> {
        let number = self.text.parse().ok().filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| self.is_not(format!("a whole number from {min} to {max}")))
    }

    fn share(self) -> Result<Share, SettingError> {
        let share = Share::parse(self.text);
        share.ok_or_else(|| self.is_not("a share, more than 0 and at most 1".to_owned()))
    }

    fn timeout(self) -> Result<Duration, SettingError> {
        let range = TIMEOUT_MIN..=TIMEOUT_MAX;
        let timeout = parse_duration(self.text).ok().filter(|timeout| range.contains(timeout));
        timeout.ok_or_else(|| {
            let [min, max] = [TIMEOUT_MIN, TIMEOUT_MAX].map(format_duration);
            self.is_not(format!("a duration from {min} to {max}"))
        })
    }

    fn truth(self) -> Result<bool, SettingError> {
        self.text.parse().map_err(|_| self.is_not("true or false".to_owned()))
    }

    /// Nothing, if that is what is written.
    fn unless_none<T>(
        self,
        read: impl Fn(Self) -> Result<T, SettingError>,
    ) -> Result<Option<T>, SettingError> {
        if NONE.contains(&self.text) {
            return Ok(None);
        }
        match read(self) {
            Ok(value) => Ok(Some(value)),
            Err(SettingError::BadValue { expected, .. }) => {
                Err(self.is_not(format!("{expected}, or infinity")))
            }
            Err(error) => Err(error),
        }
    }
}
