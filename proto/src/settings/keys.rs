//! Every setting once: its key, Spark's name of it where there is an equal one, what it may be,
//! what it is by itself, and where its value goes.

use super::kind::{self, Kind, NONE};
use super::units::Share;
use super::{CORES_MAX, EXECUTORS_MAX, SettingError, Settings, TASK_DISK_BYTES};
use crate::limits::PARTITIONS_MAX;
use crate::scheduling::LOCALITY_WAIT_MAX;
use core::time::Duration;

/// One setting of an application.
#[derive(Debug)]
pub struct Key {
    /// As documented; `NAME` stands for a pool's.
    pub name: &'static str,
    /// Spark's, which is understood as well.
    pub spark: Option<&'static str>,
    /// What it may be.
    pub kind: Kind,
    /// What it is if nobody says anything: a value in its usual spelling, or words in parentheses.
    pub default: &'static str,
    /// Reads the value into its place.
    set: Set,
}

type Set = fn(&mut Settings, Value<'_>) -> Result<(), SettingError>;

/// The value of a setting, as written.
#[derive(Clone, Copy)]
struct Value<'a> {
    /// The key, as written.
    name: &'a str,
    /// Of which.
    key: &'static Key,
    /// The text.
    text: &'a str,
}

/// Timeouts are at least this: a shorter one says nothing but "at once".
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// And at most this: a timeout of more than a year is none.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 86_400);

const TIMEOUT: Kind = Kind::Time(TIMEOUT_MIN, TIMEOUT_MAX);

const DISK: Kind = Kind::Size(*TASK_DISK_BYTES.start(), *TASK_DISK_BYTES.end());

const MODE: Kind = Kind::Word(&["fifo", "fair"]);

/// How the keys of pools begin.
const POOL: &str = "scheduler.pool.";

/// All of them, in the order of `docs/settings.md`.
pub static TABLE: &[Key] = &[
    Key {
        name: "task-memory",
        spark: None,
        kind: Kind::Size(1 << 20, 4 << 30),
        default: "512MiB",
        set: |settings, value| {
            settings.task_memory_bytes = value.size()?;
            Ok(())
        },
    },
    Key {
        name: "task-cores",
        spark: Some("spark.task.cpus"),
        kind: Kind::Count(1, CORES_MAX),
        default: "1",
        set: |settings, value| {
            settings.task_cores = value.count()?;
            Ok(())
        },
    },
    Key {
        name: "task-max-failures",
        spark: Some("spark.task.maxFailures"),
        kind: Kind::Count(1, 1000),
        default: "4",
        set: |settings, value| {
            settings.task_max_failures = value.count()?;
            Ok(())
        },
    },
    Key {
        name: "max-result-size",
        spark: Some("spark.driver.maxResultSize"),
        kind: Kind::Size(1, 1 << 40),
        default: "1GiB",
        set: |settings, value| {
            settings.max_result_bytes = value.size()?;
            Ok(())
        },
    },
    Key {
        name: "task-disk-max",
        spark: None,
        kind: DISK,
        default: "64GiB",
        set: |settings, value| {
            settings.task_disk_bytes_max = value.size()?;
            Ok(())
        },
    },
    Key {
        name: "app-disk-max",
        spark: None,
        kind: DISK,
        default: "1TiB",
        set: |settings, value| {
            settings.app_disk_bytes_max = value.size()?;
            Ok(())
        },
    },
    Key {
        name: "shuffle-partitions",
        spark: Some("spark.default.parallelism"),
        kind: Kind::Count(1, PARTITIONS_MAX),
        default: "(cores that the application could have)",
        set: |settings, value| {
            settings.shuffle_partitions = value.count()?;
            Ok(())
        },
    },
    Key {
        name: "locality-wait",
        spark: Some("spark.locality.wait"),
        kind: Kind::Wait(LOCALITY_WAIT_MAX),
        default: "100ms",
        set: schedule,
    },
    Key {
        name: "scheduler.mode",
        spark: Some("spark.scheduler.mode"),
        kind: MODE,
        default: "fifo",
        set: schedule,
    },
    Key {
        name: "scheduler.pool.NAME.weight",
        spark: None,
        kind: Kind::Count(1, 1_000_000),
        default: "1",
        set: schedule,
    },
    Key {
        name: "scheduler.pool.NAME.min-share",
        spark: None,
        kind: Kind::Count(0, 4_096_000),
        default: "0",
        set: schedule,
    },
    Key {
        name: "scheduler.pool.NAME.mode",
        spark: None,
        kind: MODE,
        default: "fifo",
        set: schedule,
    },
    Key {
        name: "dynamic-allocation.enabled",
        spark: Some("spark.dynamicAllocation.enabled"),
        kind: Kind::Truth,
        default: "true",
        set: |settings, value| {
            settings.allocation.enabled = value.truth()?;
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.min-executors",
        spark: Some("spark.dynamicAllocation.minExecutors"),
        kind: Kind::Count(0, EXECUTORS_MAX),
        default: "0",
        set: |settings, value| {
            settings.allocation.executors_min = value.count()?;
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.initial-executors",
        spark: Some("spark.dynamicAllocation.initialExecutors"),
        kind: Kind::Count(0, EXECUTORS_MAX),
        default: "(the minimum)",
        set: |settings, value| {
            settings.allocation.executors_initial = value.count()?;
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.max-executors",
        spark: Some("spark.dynamicAllocation.maxExecutors"),
        kind: Kind::OrInfinity(&Kind::Count(1, EXECUTORS_MAX)),
        default: "infinity",
        set: |settings, value| {
            settings.allocation.executors_max = value.unless_none(Value::count)?;
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.executor-allocation-ratio",
        spark: Some("spark.dynamicAllocation.executorAllocationRatio"),
        kind: Kind::Share,
        default: "1",
        set: |settings, value| {
            settings.allocation.ratio = value.share()?;
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.backlog-timeout",
        spark: Some("spark.dynamicAllocation.schedulerBacklogTimeout"),
        kind: TIMEOUT,
        default: "50ms",
        set: |settings, value| {
            settings.allocation.backlog_timeout = value.time()?;
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.sustained-backlog-timeout",
        spark: Some("spark.dynamicAllocation.sustainedSchedulerBacklogTimeout"),
        kind: TIMEOUT,
        default: "(backlog-timeout)",
        set: |settings, value| {
            settings.allocation.sustained_backlog_timeout = Some(value.time()?);
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.executor-idle-timeout",
        spark: Some("spark.dynamicAllocation.executorIdleTimeout"),
        kind: TIMEOUT,
        default: "10s",
        set: |settings, value| {
            settings.allocation.idle_timeout = value.time()?;
            Ok(())
        },
    },
    Key {
        name: "dynamic-allocation.cached-executor-idle-timeout",
        spark: Some("spark.dynamicAllocation.cachedExecutorIdleTimeout"),
        kind: Kind::OrInfinity(&TIMEOUT),
        default: "infinity",
        set: |settings, value| {
            settings.allocation.cached_idle_timeout = value.unless_none(Value::time)?;
            Ok(())
        },
    },
];

/// The setting of this name, in either spelling; a pool's with the pool's name in it.
pub fn find(name: &str) -> Option<&'static Key> {
    let pool = name.strip_prefix(POOL).and_then(|rest| rest.rsplit_once('.'));
    TABLE.iter().find(|key| match pool {
        Some((_, option)) => key.option_of_pool() == Some(option),
        None => key.name == name || key.spark == Some(name),
    })
}

/// Every name, Spark's included.
pub fn names() -> Vec<&'static str> {
    TABLE.iter().flat_map(|key| [Some(key.name), key.spark]).flatten().collect()
}

/// What is a setting of the scheduler is read there.
fn schedule(settings: &mut Settings, value: Value<'_>) -> Result<(), SettingError> {
    settings.scheduling.set(value.name, value.text).unwrap_or_else(|| Err(value.is_not()))
}

// === impl Key ===

impl Key {
    /// How the setting is called that somebody wrote as `name`, Spark's spelling being another.
    pub fn canonical(&self, name: &str) -> String {
        if self.option_of_pool().is_some() { name.to_owned() } else { self.name.to_owned() }
    }

    /// Applies a value to this key, which was written as `name`.
    pub(super) fn apply(
        &'static self,
        settings: &mut Settings,
        name: &str,
        text: &str,
    ) -> Result<(), SettingError> {
        (self.set)(settings, Value { name, key: self, text })
    }

    /// Whether it is about one pool of many: what about it.
    fn option_of_pool(&self) -> Option<&'static str> {
        Some(self.name.strip_prefix(POOL)?.rsplit_once('.')?.1)
    }
}

// === impl Value ===

impl Value<'_> {
    fn is_not(self) -> SettingError {
        let (key, expected) = (self.key.name, self.key.kind.to_string());
        SettingError::BadValue { key, value: self.text.to_owned(), expected }
    }

    /// What the key has a limit of, whether or not it may have none.
    fn kind(self) -> Kind {
        match self.key.kind {
            Kind::OrInfinity(kind) => *kind,
            kind => kind,
        }
    }

    fn size(self) -> Result<u64, SettingError> {
        match self.kind() {
            Kind::Size(min, max) => kind::size(self.text, min, max),
            _ => None,
        }
        .ok_or_else(|| self.is_not())
    }

    fn count(self) -> Result<u32, SettingError> {
        match self.kind() {
            Kind::Count(min, max) => kind::count(self.text, min, max),
            _ => None,
        }
        .ok_or_else(|| self.is_not())
    }

    fn time(self) -> Result<Duration, SettingError> {
        match self.kind() {
            Kind::Time(min, max) => kind::time(self.text, min, max),
            _ => None,
        }
        .ok_or_else(|| self.is_not())
    }

    fn share(self) -> Result<Share, SettingError> {
        Share::parse(self.text).ok_or_else(|| self.is_not())
    }

    fn truth(self) -> Result<bool, SettingError> {
        self.text.parse().map_err(|_| self.is_not())
    }

    /// Nothing, if that is what is written.
    fn unless_none<T>(
        self,
        read: impl Fn(Self) -> Result<T, SettingError>,
    ) -> Result<Option<T>, SettingError> {
        if NONE.contains(&self.text) { Ok(None) } else { read(self).map(Some) }
    }
}
