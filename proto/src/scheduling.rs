//! How the jobs of one application share its slots, and how long a task waits for a near one:
//! the keys `scheduler.*` and `locality-wait` of the settings.
//!
//! Spark's spellings, which begin with `spark.`, are the same keys. Spark reads pools from a file;
//! here each is a few keys, `scheduler.pool.NAME.weight`, `.min-share` and `.mode`.

use crate::settings::SettingError;
use core::fmt;
use core::time::Duration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bytes of the name of a pool: as many as Spark's examples have, many times over.
pub const POOL_NAME_BYTES_MAX: usize = 64;

/// Pools that settings may describe. Each may have one job alive, and more are not.
pub const POOLS_MAX: usize = 64;

/// The longest `locality-wait`: nobody waits for longer for a near slot and means it.
pub const LOCALITY_WAIT_MAX: Duration = Duration::from_secs(3600);

/// The largest weight of a pool; with it a pool starved the others already.
const WEIGHT_MAX: u32 = 1_000_000;

/// The largest least share, in slots: those of a thousand of the largest executors.
const MIN_SHARE_MAX: u32 = 4_096_000;

/// How jobs share slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// `scheduler.mode`: how pools share the slots. First in, first out: there are no pools.
    pub mode: SharingMode,
    /// `scheduler.pool.NAME.*`. A pool that is not here has the defaults.
    pub pools: BTreeMap<PoolName, PoolSettings>,
    /// `locality-wait`: how long a slot stays idle rather than run a task that another executor
    /// is nearer to; as long again for one that another machine is nearer to.
    pub locality_wait: Duration,
}

/// Who is first when not all can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SharingMode {
    /// Who came first.
    #[default]
    Fifo,
    /// Who has least.
    Fair,
}

/// What a pool is entitled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSettings {
    /// How the jobs of the pool share what it has.
    pub mode: SharingMode,
    /// Its share of the slots, in proportion to the weights of the others.
    pub weight: u32,
    /// Slots that it gets before others get more than theirs.
    pub min_share: u32,
}

/// The name of a pool: letters, digits, `_`, `-` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PoolName(String);

/// A text that is not the name of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolNameError {
    /// Its length in bytes.
    pub length: usize,
}

// === impl Scheduling ===

impl Default for Scheduling {
    fn default() -> Self {
        Self {
            mode: SharingMode::Fifo,
            pools: BTreeMap::new(),
            locality_wait: Duration::from_millis(100),
        }
    }
}

impl Scheduling {
    /// The keys, `NAME` standing for that of a pool.
    pub const KEYS: [&str; 5] = [
        "locality-wait",
        "scheduler.mode",
        "scheduler.pool.NAME.mode",
        "scheduler.pool.NAME.weight",
        "scheduler.pool.NAME.min-share",
    ];

    /// Applies a key if it is one of these; `None` if it is not.
    pub fn set(&mut self, key: &str, value: &str) -> Option<Result<(), SettingError>> {
        match key {
            "locality-wait" | "spark.locality.wait" => {
                Some(wait(value).map(|wait| self.locality_wait = wait))
            }
            "scheduler.mode" | "spark.scheduler.mode" => {
                Some(mode(Self::KEYS[1], value).map(|mode| self.mode = mode))
            }
            _ => {
                let (pool, option) = key.strip_prefix("scheduler.pool.")?.rsplit_once('.')?;
                ["mode", "weight", "min-share"]
                    .contains(&option)
                    .then(|| self.set_pool(pool, option, value))
            }
        }
    }

    /// What a pool is entitled to.
    pub fn pool(&self, name: &PoolName) -> PoolSettings {
        self.pools.get(name).copied().unwrap_or_default()
    }

    fn set_pool(&mut self, pool: &str, option: &str, value: &str) -> Result<(), SettingError> {
        let bad = |value: &str, expected: String| {
            let (key, value) = ("scheduler.pool.NAME", value.to_owned());
            SettingError::BadValue { key, value, expected }
        };
        let name = PoolName::new(pool).map_err(|error| bad(pool, error.expected()))?;
        if self.pools.len() >= POOLS_MAX && !self.pools.contains_key(&name) {
            return Err(bad(pool, format!("at most {POOLS_MAX} pools")));
        }
        let settings = self.pools.entry(name).or_default();
        match option {
            "mode" => settings.mode = mode(Self::KEYS[2], value)?,
            "weight" => settings.weight = number(Self::KEYS[3], value, 1, WEIGHT_MAX)?,
            _ => settings.min_share = number(Self::KEYS[4], value, 0, MIN_SHARE_MAX)?,
        }
        Ok(())
    }
}

fn mode(key: &'static str, value: &str) -> Result<SharingMode, SettingError> {
    match value.to_ascii_lowercase().as_str() {
        "fifo" => Ok(SharingMode::Fifo),
        "fair" => Ok(SharingMode::Fair),
        _ => {
            let expected = "fifo or fair".to_owned();
            Err(SettingError::BadValue { key, value: value.to_owned(), expected })
        }
    }
}

fn number(key: &'static str, value: &str, min: u32, max: u32) -> Result<u32, SettingError> {
    value.parse().ok().filter(|number| (min..=max).contains(number)).ok_or_else(|| {
        let expected = format!("a whole number from {min} to {max}");
        SettingError::BadValue { key, value: value.to_owned(), expected }
    })
}

/// Reads `100ms`, `3s`, `1min`; a number alone is one of milliseconds, as in Spark.
fn wait(value: &str) -> Result<Duration, SettingError> {
    let digits = value.len() - value.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = value.split_at(digits);
    let millis = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "ms" => Some(1),
        "s" | "sec" => Some(1000),
        "m" | "min" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number: Option<u64> = number.parse().ok();
    let wait = number.zip(millis).and_then(|(number, millis)| number.checked_mul(millis));
    let wait = wait.map(Duration::from_millis).filter(|wait| *wait <= LOCALITY_WAIT_MAX);
    wait.ok_or_else(|| SettingError::BadValue {
        key: Scheduling::KEYS[0],
        value: value.to_owned(),
        expected: "0 or a time such as 100ms or 3s, at most 1h".to_owned(),
    })
}

// === impl PoolSettings ===

impl Default for PoolSettings {
    fn default() -> Self {
        Self { mode: SharingMode::Fifo, weight: 1, min_share: 0 }
    }
}

// === impl PoolName ===

impl PoolName {
    /// A name from outside.
    pub fn new(name: &str) -> Result<Self, PoolNameError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let length = name.len();
        if (1..=POOL_NAME_BYTES_MAX).contains(&length) && name.bytes().all(fits) {
            Ok(Self(name.to_owned()))
        } else {
            Err(PoolNameError { length })
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for PoolName {
    /// The pool of jobs that name none.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl TryFrom<String> for PoolName {
    type Error = PoolNameError;

    fn try_from(name: String) -> Result<Self, PoolNameError> {
        Self::new(&name)
    }
}

impl From<PoolName> for String {
    fn from(name: PoolName) -> Self {
        name.0
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl PoolNameError ===

impl PoolNameError {
    fn expected(&self) -> String {
        format!("a name of 1 to {POOL_NAME_BYTES_MAX} letters, digits, _, - and .")
    }
}

impl fmt::Display for PoolNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a pool's name of {} bytes: expected {}", self.length, self.expected())
    }
}

impl core::error::Error for PoolNameError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(scheduling: &mut Scheduling, key: &str, value: &str) -> Result<(), String> {
        let set = scheduling.set(key, value);
        set.unwrap_or_else(|| panic!("{key} is not known")).map_err(|error| error.to_string())
    }

    #[test]
    fn pools_and_modes_are_read_in_both_spellings() {
        let mut scheduling = Scheduling::default();
        for (key, value) in [
            ("spark.scheduler.mode", "FAIR"),
            ("scheduler.pool.etl.weight", "2"),
            ("scheduler.pool.etl.min-share", "3"),
            ("scheduler.pool.a.b.mode", "fair"),
            ("spark.locality.wait", "3s"),
        ] {
            assert_eq!(set(&mut scheduling, key, value), Ok(()), "{key}");
        }
        let name = |name| PoolName::new(name).unwrap();
        let etl = PoolSettings { mode: SharingMode::Fifo, weight: 2, min_share: 3 };
        let dotted = PoolSettings { mode: SharingMode::Fair, ..PoolSettings::default() };
        assert_eq!(scheduling.mode, SharingMode::Fair);
        assert_eq!(scheduling.pool(&name("etl")), etl);
        assert_eq!(scheduling.pool(&name("a.b")), dotted);
        assert_eq!(scheduling.pool(&name("other")), PoolSettings::default());
        assert_eq!(scheduling.locality_wait, Duration::from_secs(3));
        assert_eq!(scheduling.set("scheduler.modes", "fair"), None);
        assert_eq!(scheduling.set("scheduler.pool.etl.size", "3"), None);
    }

    #[test]
    fn waits_are_read_as_people_write_them() {
        for (text, millis) in
            [("0", 0), ("250", 250), ("100ms", 100), ("3 s", 3000), ("1min", 60_000)]
        {
            assert_eq!(wait(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1", "1.5s", "2h", "3 fortnights", "99999999999999999999"] {
            assert!(wait(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        let mut scheduling = Scheduling::default();
        let error = set(&mut scheduling, "scheduler.pool.a/b.weight", "2").unwrap_err();
        let expected = "--conf scheduler.pool.NAME=a/b: expected a name of 1 to 64 letters, \
                        digits, _, - and .";
        assert_eq!(error, expected);
        let error = set(&mut scheduling, "scheduler.pool.a.weight", "0").unwrap_err();
        let expected =
            "--conf scheduler.pool.NAME.weight=0: expected a whole number from 1 to 1000000";
        assert_eq!(error, expected);
        for number in 1..POOLS_MAX {
            let key = format!("scheduler.pool.p{number}.weight");
            assert_eq!(set(&mut scheduling, &key, "2"), Ok(()));
        }
        let error = set(&mut scheduling, "scheduler.pool.last.weight", "2").unwrap_err();
        assert_eq!(error, "--conf scheduler.pool.NAME=last: expected at most 64 pools");
        assert_eq!(set(&mut scheduling, "scheduler.pool.a.weight", "2"), Ok(()), "it is there");
    }
}
