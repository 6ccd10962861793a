//! Newtype identifiers. A bare integer never names a thing of the cluster.

use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize,
        )]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

numeric_id!(
    /// A node of the driver's lineage graph; chosen by the guest, unique within its application.
    NodeId, u32
);
numeric_id!(
    /// A partition of a node, counted from 0.
    Partition, u32
);
numeric_id!(
    /// One action of a driver, counted from 0 within its application.
    JobId, u32
);
numeric_id!(
    /// One attempt to run a stage, counted from 0 within its application. Task attempts name it.
    StageRunId, u32
);
numeric_id!(
    /// One attempt of one task. Unique within its application, never reused.
    AttemptId, u64
);
numeric_id!(
    /// A copy of the driver's memory, counted from 1 within its application.
    SnapshotId, u32
);
numeric_id!(
    /// The number of an executor within its application, counted from 0, never reused.
    ExecutorNumber, u32
);
numeric_id!(
    /// One life of a master: orders that carry a lower one than a worker has seen are refused.
    Epoch, u64
);

/// An application: `app-1`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct AppId(pub u64);

/// An executor of an application: `app-1/0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExecutorId {
    /// The application it serves.
    pub app: AppId,
    /// Its number within the application.
    pub number: ExecutorNumber,
}

/// A worker: 1 to 64 characters of `a-z 0-9 -`, given by the master when the worker joins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerId(pub String);

/// The BLAKE3 hash of a module's bytes as the user submitted them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModuleHash(pub [u8; 32]);

/// Text that is not an id of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseIdError {
    /// What was expected, as an example.
    pub expected: &'static str,
    /// What was found.
    pub found: String,
}

// === impl AppId ===

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "app-{}", self.0)
    }
}

impl FromStr for AppId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        text.strip_prefix("app-")
            .filter(|digits| !digits.starts_with('+'))
            .and_then(|digits| digits.parse().ok())
            .map(AppId)
            .ok_or_else(|| ParseIdError { expected: "app-1", found: text.to_owned() })
    }
}

// === impl ExecutorId ===

impl fmt::Display for ExecutorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.number)
    }
}

impl FromStr for ExecutorId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError { expected: "app-1/0", found: text.to_owned() };
        let (app, number) = text.split_once('/').ok_or_else(error)?;
        let number = number.parse().map_err(|_| error())?;
        Ok(Self { app: app.parse().map_err(|_| error())?, number: ExecutorNumber(number) })
    }
}

// === impl WorkerId ===

impl WorkerId {
    /// Whether the text has the form that a worker id must have.
    pub fn is_valid(&self) -> bool {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=64).contains(&self.0.len()) && self.0.bytes().all(allowed)
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl ModuleHash ===

impl fmt::Display for ModuleHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ModuleHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModuleHash({self})")
    }
}

// === impl ParseIdError ===

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an id of the form {}", self.found, self.expected)
    }
}

impl core::error::Error for ParseIdError {}
