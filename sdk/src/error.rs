//! What an action or an input can answer instead of a result.

use crate::record::Malformed;
use core::fmt;
use offshoot_proto::abi::code;

/// Why an action or an input failed. The text is the host's and names path, stage, partition and
/// what to do; the variant is what a program may want to tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The call is for `main` only, or there is no host: the program was not started by Offshoot.
    NotHere(String),
    /// An argument does not fit: no partitions, an output that exists, a malformed pattern.
    Invalid(String),
    /// Not granted at submission; the text says which flag would.
    Denied(String),
    /// An input or output operation failed.
    Io(String),
    /// The job failed: which stage, node, source line and partition, and why.
    JobFailed(String),
    /// A limit of the host was reached.
    Limit(String),
    /// The host answered what the ABI does not allow, or a result did not decode.
    Malformed(String),
}

// === impl Error ===

impl Error {
    /// From the negative value of an import and the host's text for it.
    pub(crate) fn from_code(value: i32, text: String) -> Self {
        match value {
            code::NOT_HERE => Self::NotHere(text),
            code::INVALID => Self::Invalid(text),
            code::DENIED => Self::Denied(text),
            code::IO => Self::Io(text),
            code::JOB_FAILED => Self::JobFailed(text),
            code::LIMIT => Self::Limit(text),
            _ => Self::Malformed(text),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHere(text)
            | Self::Invalid(text)
            | Self::Denied(text)
            | Self::Io(text)
            | Self::JobFailed(text)
            | Self::Limit(text)
            | Self::Malformed(text) => f.write_str(text),
        }
    }
}

impl core::error::Error for Error {}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(format!("a result of this job: {malformed}"))
    }
}

/// The errors of reading a stream: the host's text is kept whole.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}
