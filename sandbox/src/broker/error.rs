//! Why the broker refused or failed, for the guest's error number and for the person.

use crate::wasi::Errno;
use offshoot_proto::abi::code;
use offshoot_proto::grants::Access;
use thiserror::Error;

/// A path operation, listing or check that failed. Paths are as the guest wrote them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BrokerError {
    /// No grant covers the path.
    #[error("{} {path} is not granted: add {} {path}", verb(*.access), .access.flag())]
    NotGranted {
        /// What was asked for.
        access: Access,
        /// The path.
        path: String,
    },
    /// No grant is near the path, of which wasi-libc has cut the leading slash.
    #[error(
        "{} {path} is not granted: add {flag} {path}, or {flag} /{path} if the path is absolute",
        verb(*.access), flag = .access.flag()
    )]
    NothingGranted {
        /// What was asked for.
        access: Access,
        /// The path.
        path: String,
    },
    /// A task wanted to write what `main` may.
    #[error(
        "a task cannot write {path}: its attempts may run twice; write the dataset as an output, \
         or write the file in main"
    )]
    WrittenByTask {
        /// The path.
        path: String,
    },
    /// The path leads out of its grant, by `..`, a link or because it is absolute.
    #[error(
        "{path} leads out of the directory that is granted: name the file or directory that it \
         leads to, and grant that with --allow-read or --allow-write"
    )]
    LeadsOut {
        /// The path.
        path: String,
    },
    /// Neither a regular file nor a directory.
    #[error(
        "{path} is a device, a pipe or a socket; only regular files and directories are opened"
    )]
    Special {
        /// The path.
        path: String,
    },
    /// A rename of a symbolic link, or of the directory that is granted itself.
    #[error("{path} is {what}, which a guest cannot move or remove")]
    Unmovable {
        /// The path.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// The path has a form that no file has.
    #[error("a path of {length} bytes is {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
        /// Its length; the path itself may be long or not printable.
        length: usize,
        /// The number that the guest sees.
        errno: Errno,
    },
    /// The system said no.
    #[error("{path}: {errno}")]
    System {
        /// The path.
        path: String,
        /// The system's reason.
        errno: Errno,
    },
    /// No such preopen.
    #[error("there is no preopen {preopen}; the application has {count}")]
    NoPreopen {
        /// The number.
        preopen: u32,
        /// How many there are.
        count: usize,
    },
    /// A directory with too many entries to be read in one piece.
    #[error("{path} has more than {limit} entries; use several directories")]
    TooManyEntries {
        /// The directory.
        path: String,
        /// The limit.
        limit: usize,
    },
    /// No input matches.
    #[error("no file matches {pattern}")]
    NothingFound {
        /// The pattern.
        pattern: String,
    },
    /// A pattern that is none.
    #[error("{pattern} is not a pattern: {reason}")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Too many inputs match.
    #[error("{pattern} matches more than {limit}; use several patterns or larger files")]
    TooManyInputs {
        /// The pattern.
        pattern: String,
        /// The limit, with its unit.
        limit: &'static str,
    },
    /// The file is not the one that was listed.
    #[error(
        "input {path} changed: it was listed with {listed_length} bytes, modified at \
         {listed_modified_nanos} ns since 1970, and now has {length} bytes, modified at \
         {modified_nanos} ns; do not write to inputs while a job reads them"
    )]
    InputChanged {
        /// The file.
        path: String,
        /// Length when it was listed.
        listed_length: u64,
        /// Modification when it was listed.
        listed_modified_nanos: i64,
        /// Length now.
        length: u64,
        /// Modification now.
        modified_nanos: i64,
    },
    /// An output directory that is there already.
    #[error("the output {path} exists: remove it or choose another path")]
    OutputExists {
        /// The directory.
        path: String,
    },
    /// An output directory whose parent is not there.
    #[error("the output {path} cannot be made, because the directory above it does not exist")]
    NoOutputParent {
        /// The directory.
        path: String,
    },
}

// === impl BrokerError ===

impl BrokerError {
    /// The number that a guest sees in preview-1.
    pub fn errno(&self) -> Errno {
        match self {
            Self::NotGranted { .. }
            | Self::NothingGranted { .. }
            | Self::WrittenByTask { .. }
            | Self::Special { .. } => Errno::ACCES,
            Self::LeadsOut { .. } | Self::Unmovable { .. } => Errno::PERM,
            Self::Malformed { errno, .. } | Self::System { errno, .. } => *errno,
            Self::NoPreopen { .. } => Errno::BADF,
            Self::TooManyEntries { .. } | Self::TooManyInputs { .. } => Errno::OVERFLOW,
            Self::NothingFound { .. } | Self::NoOutputParent { .. } => Errno::NOENT,
            Self::BadPattern { .. } => Errno::INVAL,
            Self::InputChanged { .. } => Errno::STALE,
            Self::OutputExists { .. } => Errno::EXIST,
        }
    }

    /// The value of [`code`] that a guest sees in the ABI.
    pub fn code(&self) -> i32 {
        match self {
            Self::NotGranted { .. }
            | Self::NothingGranted { .. }
            | Self::WrittenByTask { .. }
            | Self::LeadsOut { .. }
            | Self::Special { .. }
            | Self::Unmovable { .. } => code::DENIED,
            Self::Malformed { .. } | Self::NoPreopen { .. } | Self::BadPattern { .. } => {
                code::INVALID
            }
            Self::TooManyEntries { .. } | Self::TooManyInputs { .. } => code::LIMIT,
            Self::System { .. }
            | Self::NothingFound { .. }
            | Self::InputChanged { .. }
            | Self::OutputExists { .. }
            | Self::NoOutputParent { .. } => code::IO,
        }
    }
}

fn verb(access: Access) -> &'static str {
    match access {
        Access::Read => "reading",
        Access::Write => "writing",
    }
}
