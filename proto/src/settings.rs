//! Settings of an application: `--conf KEY=VALUE`, with defaults that need no tuning.

use crate::scheduling::Scheduling;
use core::fmt;
use serde::{Deserialize, Serialize};

/// The settings of one application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `task-memory`: bytes that a task may have beyond the driver's memory it starts with.
    /// The same for every attempt everywhere, because it decides what a task computes.
    pub task_memory_bytes: u64,
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
}

/// Text that is not a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseSizeError {
    /// The text.
    pub text: String,
}

/// Every key of [`Settings`], as documented.
pub const KEYS: [&str; 11] = [
    "task-memory",
    "task-max-failures",
    "max-result-size",
    "shuffle-partitions",
    "task-disk-max",
    "app-disk-max",
    Scheduling::KEYS[0],
    Scheduling::KEYS[1],
    Scheduling::KEYS[2],
    Scheduling::KEYS[3],
    Scheduling::KEYS[4],
];

/// The range of `task-disk-max` and `app-disk-max`. Less would not hold what one call of a guest
/// may hand over.
pub const TASK_DISK_BYTES: core::ops::RangeInclusive<u64> = 1 << 20..=1 << 50;

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            task_memory_bytes: 512 << 20,
            task_max_failures: 4,
            max_result_bytes: 1 << 30,
            shuffle_partitions: 0,
            task_disk_bytes_max: 64 << 30,
            app_disk_bytes_max: 1 << 40,
            scheduling: Scheduling::default(),
        }
    }
}

impl Settings {
    /// Applies one `KEY=VALUE`.
    pub fn set(&mut self, pair: &str) -> Result<(), SettingError> {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| SettingError::NotAPair { text: pair.to_owned() })?;
        match key {
            "task-memory" => self.task_memory_bytes = size_in(KEYS[0], value, 1 << 20, 4 << 30)?,
            "task-max-failures" => self.task_max_failures = number_in(KEYS[1], value, 1, 1000)?,
            "max-result-size" => self.max_result_bytes = size_in(KEYS[2], value, 1, 1 << 40)?,
            "shuffle-partitions" => {
                self.shuffle_partitions =
                    number_in(KEYS[3], value, 1, crate::limits::PARTITIONS_MAX)?;
            }
            "task-disk-max" => {
                let (min, max) = (*TASK_DISK_BYTES.start(), *TASK_DISK_BYTES.end());
                self.task_disk_bytes_max = size_in(KEYS[4], value, min, max)?;
            }
            "app-disk-max" => {
                let (min, max) = (*TASK_DISK_BYTES.start(), *TASK_DISK_BYTES.end());
                self.app_disk_bytes_max = size_in(KEYS[5], value, min, max)?;
            }
            _ => {
                let unknown = || SettingError::UnknownKey {
                    key: key.to_owned(),
                    nearest: nearest(key, &KEYS),
                };
                self.scheduling.set(key, value).ok_or_else(unknown)??;
            }
        }
        Ok(())
    }
}

fn size_in(key: &'static str, value: &str, min: u64, max: u64) -> Result<u64, SettingError> {
    parse_size(value).ok().filter(|bytes| (min..=max).contains(bytes)).ok_or_else(|| {
        let expected = format!("a size from {} to {}", format_size(min), format_size(max));
        SettingError::BadValue { key, value: value.to_owned(), expected }
    })
}

fn number_in(key: &'static str, value: &str, min: u32, max: u32) -> Result<u32, SettingError> {
    value.parse().ok().filter(|number| (min..=max).contains(number)).ok_or_else(|| {
        let expected = format!("a whole number from {min} to {max}");
        SettingError::BadValue { key, value: value.to_owned(), expected }
    })
}

/// Reads `512MiB`, `4g`, `100k`, `64MB`, `1048576`. Every unit is a power of 1,024, as Spark's are.
pub fn parse_size(text: &str) -> Result<u64, ParseSizeError> {
    let error = || ParseSizeError { text: text.to_owned() };
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(error()),
    };
    let number: u64 = number.parse().map_err(|_| error())?;
    number.checked_mul(1 << shift).ok_or_else(error)
}

/// Writes a number of bytes with the largest unit that divides it.
pub fn format_size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (shift, unit) in units {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
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
                write!(f, "--conf {key}: no such setting; there are {}", KEYS.join(", "))
            }
            Self::BadValue { key, value, expected } => {
                write!(f, "--conf {key}={value}: expected {expected}")
            }
        }
    }
}

impl core::error::Error for SettingError {}

impl fmt::Display for ParseSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a size; write it as 512MiB, 4g or a number of bytes", self.text)
    }
}

impl core::error::Error for ParseSizeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("512MiB", 512 << 20),
            ("4g", 4 << 30),
            ("64MB", 64 << 20),
            ("3k", 3072),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "10gb5", "g", "-1", "1.5g", "99999999999t", "1 g"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

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
}
