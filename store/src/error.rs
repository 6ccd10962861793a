//! Why something in a store could not be found, read or written.

use offshoot_proto::abi::code;
use offshoot_proto::grants::Access;
use thiserror::Error;

/// Characters of a store's own words that are told.
const REASON_CHARS_MAX: usize = 300;

/// An operation on something in a store that failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// No grant covers it.
    #[error("{} {url} is not granted: add {} {url}", verb(*.access), .access.flag())]
    NotGranted {
        /// What was asked for.
        access: Access,
        /// Where.
        url: String,
    },
    /// It is no URL of something that can be read or written.
    #[error("{url} is not a URL that can be used: {reason}")]
    BadUrl {
        /// The text, without what may be secret.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// HTTP servers are only read.
    #[error("{url} cannot be written: outputs go to a directory or to s3://BUCKET/PREFIX")]
    ReadOnly {
        /// Where.
        url: String,
    },
    /// No object matches.
    #[error("nothing is at {url}")]
    NothingFound {
        /// Where.
        url: String,
    },
    /// Too many objects match.
    #[error("{url} matches more than {limit}; use several patterns or larger objects")]
    TooMany {
        /// The pattern.
        url: String,
        /// The limit, with its unit.
        limit: &'static str,
    },
    /// It is not what was listed.
    #[error(
        "input {url} changed: it was listed as {listed}, and now is {found}; do not write to \
         inputs while a job reads them"
    )]
    Changed {
        /// Which.
        url: String,
        /// What the driver saw.
        listed: String,
        /// What is there.
        found: String,
    },
    /// Something is where an output is to be.
    #[error("the output {url} exists: remove what is there or choose another prefix")]
    OutputExists {
        /// Where.
        url: String,
    },
    /// Another commit with this key is there, of other parts.
    #[error("output {url}: committed before, with other parts")]
    Conflict {
        /// The manifest.
        url: String,
    },
    /// What an attempt wrote is not what it reported.
    #[error(
        "the part for {url} has {found_length} bytes and checksum {found:08x}, its task reported \
         {length} and {expected:08x}"
    )]
    Damaged {
        /// Which.
        url: String,
        /// Reported length.
        length: u64,
        /// Reported checksum.
        expected: u32,
        /// Length that is there.
        found_length: u64,
        /// Checksum of what is there.
        found: u32,
    },
    /// An input broke off.
    #[error("input {url}: reading at byte {offset}: {reason}")]
    BrokeOff {
        /// Which.
        url: String,
        /// How far it was read.
        offset: u64,
        /// The store's word.
        reason: String,
    },
    /// The store said no, or nothing.
    #[error("{url}: {step}: {reason}")]
    Failed {
        /// Where.
        url: String,
        /// What was done.
        step: &'static str,
        /// The store's word.
        reason: String,
    },
}

// === impl StoreError ===

impl StoreError {
    pub(crate) fn failed(url: String, step: &'static str, error: &object_store::Error) -> Self {
        Self::Failed { url, step, reason: reason(error) }
    }

    /// The value of [`code`] that a guest sees.
    pub fn code(&self) -> i32 {
        match self {
            Self::NotGranted { .. } => code::DENIED,
            Self::BadUrl { .. } | Self::ReadOnly { .. } => code::INVALID,
            Self::TooMany { .. } => code::LIMIT,
            _ => code::IO,
        }
    }
}

/// One line of what a store, or the way to it, said. An S3 error's code and message are taken out
/// of the rest, which has the request's signature in it.
pub(crate) fn reason(error: &object_store::Error) -> String {
    let text = error.to_string();
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0)
    };
    let text = match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => deepest(error),
    };
    let line: Vec<&str> = text.split_whitespace().collect();
    line.join(" ").chars().take(REASON_CHARS_MAX).collect()
}

/// What lies beneath, and above it what the store was asked.
fn deepest(error: &object_store::Error) -> String {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut last = String::new();
    while let Some(error) = source {
        last = error.to_string();
        source = error.source();
    }
    let top = error.to_string();
    if top.contains(&last) { top } else { format!("{top}: {last}") }
}

fn verb(access: Access) -> &'static str {
    match access {
        Access::Read => "reading",
        Access::Write => "writing",
    }
}
